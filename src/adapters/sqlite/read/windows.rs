//! Rows of window tables.

use serde_json::Value;
use sqlx::{Row as _, sqlite::SqliteRow};
use streamward_core::{
    ports::{Page, ReadError, Row, WindowQuery},
    schema::Kind,
    table::{Column, WindowTable},
};

use super::{
    super::window_tables::{OVERFLOW, OWN_COLUMNS, ROW},
    SqliteReads,
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

    fn window(&self, query: &WindowQuery) -> Result<&WindowTable, ReadError> {
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

/// The walk over the windows by start, then by the row's own number; `None` where a group cannot occur.
pub(super) fn scan(table: &WindowTable, query: &WindowQuery) -> Result<Option<Scan>, ReadError> {
    let mut keep = Vec::new();
    let known = |name: &String| {
        let reason = "the window is not grouped by it".to_owned();
        Column::named(&table.group, name).map_err(|_| ReadError::BadFilter { field: name.clone(), reason })
    };
    for (name, text) in &query.group {
        let column = known(name)?;
        match parse(&column.kind, text) {
            Some(value) => keep.push(Condition::equals(&column.name, value)),
            None => return Ok(None),
        }
    }
    for column in &query.nulls {
        keep.push(Condition::Null(known(column)?.name.clone()));
    }
    let bound =
        |operator, ms| Condition::Compare { column: "window_start".to_owned(), operator, value: Bind::Integer(ms) };
    let from = query.from_ms.map(|ms| bound(" >= ", ms));
    let to = query.to_ms.map(|ms| bound(" < ", ms));
    Ok(Some(Scan {
        table: table.window.to_string(),
        index: None,
        from: None,
        select: select(table),
        seek: from.into_iter().chain(to).collect(),
        keep,
        order: order(),
    }))
}

fn order() -> Vec<Order> {
    let own = |column: &str, kind| Order { column: column.to_owned(), kind };
    vec![own("window_start", Kind::Timestamp), own(ROW, Kind::Long)]
}

fn select(table: &WindowTable) -> String {
    let named = table.group.iter().chain(&table.values).map(|column| column.name.as_str());
    OWN_COLUMNS.into_iter().chain(named).map(quoted).collect::<Vec<_>>().join(", ")
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
