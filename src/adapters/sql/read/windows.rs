//! Rows of window tables.

use sqlx::{Row as _, sqlite::SqliteRow};
use streamward_core::{
    ports::{Page, ReadError, Row, WindowQuery},
    schema::Kind,
};

use super::{
    SqliteReads, WindowReads,
    cursor::Bind,
    rows::{empty, time, value},
    scan::{Condition, Order, Scan, parse, quoted},
};

impl SqliteReads {
    pub(super) async fn read_windows(&self, query: WindowQuery) -> Result<Page<Row>, ReadError> {
        self.stream(&query.stream)?;
        let table = self.window(&query)?;
        let Some(scan) = scan(table, &query)? else {
            return Ok(empty());
        };
        let mut connection = self.connection().await?;
        let walked = scan.page(&mut connection, &query.page).await?;
        walked.into_page(|row| window_row(table, row))
    }

    pub(super) fn windows_of(&self, stream: &str) -> Vec<String> {
        let own = self.windows.iter().filter(|table| *table.stream == *stream);
        own.map(|table| table.window.to_string()).collect()
    }

    fn window(&self, query: &WindowQuery) -> Result<&WindowReads, ReadError> {
        let mut own = self.windows.iter().filter(|table| *table.stream == *query.stream);
        match &query.window {
            Some(name) => {
                own.find(|table| *table.window == **name).ok_or_else(|| ReadError::UnknownWindow(name.clone()))
            }
            None => match (own.next(), own.next()) {
                (Some(only), None) => Ok(only),
                _ => Err(ReadError::WindowNotNamed(self.windows_of(&query.stream).join(", "))),
            },
        }
    }
}

/// The walk over the primary key `(window_start, group…, log, partition)`; `None` where a group cannot occur.
pub(super) fn scan(table: &WindowReads, query: &WindowQuery) -> Result<Option<Scan>, ReadError> {
    let mut keep = Vec::new();
    for (column, text) in &query.group {
        let Some(found) = table.group.iter().find(|found| found.name == *column) else {
            let reason = "the window is not grouped by it".to_owned();
            return Err(ReadError::BadFilter { field: column.clone(), reason });
        };
        match parse(&found.kind, text) {
            Some(value) => keep.push(Condition::equals(column, value)),
            None => return Ok(None),
        }
    }
    let bound =
        |operator, ms| Condition::Compare { column: "window_start".to_owned(), operator, value: Bind::Integer(ms) };
    let from = query.from_ms.map(|ms| bound(" >= ", ms));
    let to = query.to_ms.map(|ms| bound(" < ", ms));
    Ok(Some(Scan {
        table: table.window.to_string(),
        index: None,
        select: select(table),
        seek: from.into_iter().chain(to).collect(),
        keep,
        order: order(table),
    }))
}

fn order(table: &WindowReads) -> Vec<Order> {
    let own = |column: &str, kind| Order { column: column.to_owned(), kind };
    let mut order = vec![own("window_start", Kind::Timestamp)];
    order.extend(table.group.iter().map(|column| own(&column.name, column.kind.clone())));
    order.extend([own("log", Kind::Long), own("partition", Kind::Long)]);
    order
}

fn select(table: &WindowReads) -> String {
    let fixed = ["window_start", "window_end", "revision", "log", "partition", "created_at"];
    let named = table.group.iter().chain(&table.columns).map(|column| column.name.as_str());
    fixed.into_iter().chain(named).map(quoted).collect::<Vec<_>>().join(", ")
}

fn window_row(table: &WindowReads, row: &SqliteRow) -> Result<Row, sqlx::Error> {
    let mut object = Row::new();
    for column in ["window_start", "window_end", "created_at"] {
        object.insert(column.to_owned(), time(row.try_get(column)?));
    }
    for column in ["revision", "partition"] {
        object.insert(column.to_owned(), row.try_get::<i64, _>(column)?.into());
    }
    for column in table.group.iter().chain(&table.columns) {
        object.insert(column.name.clone(), value(row, &column.name, &column.kind)?);
    }
    Ok(object)
}
