//! Rows of window tables.

use serde_json::Value;
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use streamward_core::{
    ports::{Page, ReadError, Row, WindowQuery},
    reading::{
        self, time,
        walk::{self, WINDOW_ROW},
    },
    table::WindowTable,
};

use super::{super::moment::Moment, PostgresReads, read_error, rows::value, scan::Scan};

/// Names of the row's values that are beyond the range of their type, in JSON; null where there are none.
const OVERFLOW: &str = "sw_overflow";

impl PostgresReads {
    pub(super) async fn ask_windows(&self, query: WindowQuery) -> Result<Page<Row>, ReadError> {
        self.stream(&query.stream)?;
        let table = reading::window(&self.windows, &query)?;
        let Some(scan) = scan(table, &query)? else {
            return Ok(reading::empty());
        };
        let mut lease = self.lease().await?;
        let answer = self.bounded(page(lease.connection()?, table, scan, query)).await;
        lease.end(answer)
    }
}

async fn page(
    connection: &mut PgConnection,
    table: &WindowTable,
    scan: Scan,
    query: WindowQuery,
) -> Result<Page<Row>, ReadError> {
    let walked = scan.page(connection, &query.page).await?;
    walked.into_page(|row| window_row(table, row)).map_err(read_error)
}

pub(super) fn scan(table: &WindowTable, query: &WindowQuery) -> Result<Option<Scan>, ReadError> {
    let own = [WINDOW_ROW, "window_start", "window_end", "revision", "partition", "created_at", OVERFLOW];
    let named = table.group.iter().chain(&table.values).map(|column| column.name.as_str());
    let select = walk::list(own.into_iter().chain(named));
    Ok(walk::windows(table, query, select)?.map(Scan))
}

fn window_row(table: &WindowTable, row: &PgRow) -> Result<Row, sqlx::Error> {
    let mut object = Row::new();
    for column in ["window_start", "window_end", "created_at"] {
        object.insert(column.to_owned(), time(row.try_get::<Moment, _>(column)?.0));
    }
    object.insert("revision".to_owned(), row.try_get::<i64, _>("revision")?.into());
    object.insert("partition".to_owned(), row.try_get::<i32, _>("partition")?.into());
    for column in table.group.iter().chain(&table.values) {
        object.insert(column.name.clone(), value(row, &column.name, &column.kind)?);
    }
    if let Some(overflow) = row.try_get::<Option<String>, _>(OVERFLOW)? {
        object.insert("overflow".to_owned(), serde_json::from_str(&overflow).unwrap_or(Value::Null));
    }
    Ok(object)
}
