//! Rows of window tables.

use serde_json::Value;
use sqlx::{Row as _, sqlite::SqliteRow};
use streamward_core::{
    ports::{Page, ReadError, Row, WindowQuery},
    reading::{self, time, walk},
    table::WindowTable,
};

use super::{
    super::window_tables::{OVERFLOW, OWN_COLUMNS},
    SqliteReads, read_error,
    rows::value,
    scan::Scan,
};

impl SqliteReads {
    pub(super) async fn read_windows(&self, query: WindowQuery) -> Result<Page<Row>, ReadError> {
        self.stream(&query.stream)?;
        let table = reading::window(&self.windows, &query)?;
        let Some(scan) = scan(table, &query)? else {
            return Ok(reading::empty());
        };
        let mut connection = self.connection().await?;
        let walked = scan.page(&mut connection, &query.page).await?;
        walked.into_page(|row| window_row(table, row)).map_err(read_error)
    }
}

pub(super) fn scan(table: &WindowTable, query: &WindowQuery) -> Result<Option<Scan>, ReadError> {
    let named = table.group.iter().chain(&table.values).map(|column| column.name.as_str());
    let select = walk::list(OWN_COLUMNS.into_iter().chain(named));
    Ok(walk::windows(table, query, select)?.map(Scan))
}

fn window_row(table: &WindowTable, row: &SqliteRow) -> Result<Row, sqlx::Error> {
    let mut object = Row::new();
    for column in ["window_start", "window_end", "created_at"] {
        object.insert(column.to_owned(), time(row.try_get(column)?));
    }
    for column in ["revision", "partition"] {
        object.insert(column.to_owned(), row.try_get::<i64, _>(column)?.into());
    }
    for column in table.group.iter().chain(&table.values) {
        object.insert(column.name.clone(), value(row, &column.name, &column.kind)?);
    }
    if let Some(overflow) = row.try_get::<Option<String>, _>(OVERFLOW)? {
        object.insert("overflow".to_owned(), serde_json::from_str(&overflow).unwrap_or(Value::Null));
    }
    Ok(object)
}
