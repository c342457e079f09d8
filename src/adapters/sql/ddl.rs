//! Tables generated from schemas: one per stream, one per window.

use std::sync::Arc;

use rusqlite::Connection;
use streamward_core::{
    schema::Kind,
    table::{Column, StreamTable},
};

use super::WriteError;

/// The table of one window.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowTable {
    /// Window name, which is the table's name.
    pub window: Arc<str>,
    /// Stream whose records it aggregates.
    pub stream: Arc<str>,
    pub group: Vec<Column>,
    /// Selected and mergeable columns.
    pub values: Vec<Column>,
}

/// `"name"`, with quotes doubled.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn sql_type(kind: &Kind) -> &'static str {
    match kind {
        Kind::Boolean | Kind::Int | Kind::Long | Kind::Timestamp => "INTEGER",
        Kind::Float | Kind::Double => "REAL",
        Kind::String | Kind::Enum(_) => "TEXT",
    }
}

fn definition(column: &Column) -> String {
    let null = if column.nullable { "" } else { " NOT NULL" };
    format!("{} {}{null}", quoted(&column.name), sql_type(&column.kind))
}

/// Creates a stream's table and indexes, or adds the columns that the schema gained.
pub(super) fn create_stream_table(connection: &Connection, table: &StreamTable) -> Result<(), WriteError> {
    let name = quoted(&table.table);
    let columns: Vec<String> = table.columns.iter().map(definition).collect();
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS {name} (id INTEGER PRIMARY KEY, {}, stored_at INTEGER NOT NULL, \
         log INTEGER GENERATED ALWAYS AS (id >> 54) VIRTUAL, \
         \"partition\" INTEGER GENERATED ALWAYS AS ((id >> 42) & 4095) VIRTUAL, \
         \"offset\" INTEGER GENERATED ALWAYS AS (id & 4398046511103) VIRTUAL) STRICT",
        columns.join(", ")
    );
    connection.execute_batch(&sql)?;
    add_missing_columns(connection, &table.table, &table.columns)?;
    let event_time = quoted(&table.columns[table.event_time].name);
    let index = |suffix: &str, columns: &str, filter: &str| {
        let index = quoted(&format!("{}_{suffix}", table.table));
        format!("CREATE INDEX IF NOT EXISTS {index} ON {name} ({columns}){filter}")
    };
    connection.execute_batch(&index(&table.columns[table.event_time].name, &event_time, ""))?;
    for &column in &table.indexes {
        let column = &table.columns[column].name;
        connection.execute_batch(&index(column, &format!("{}, {event_time}", quoted(column)), ""))?;
    }
    if let Some(anomaly) = table.anomaly {
        let anomaly = &table.columns[anomaly].name;
        let filter = format!(" WHERE {}", quoted(anomaly));
        connection.execute_batch(&index(anomaly, &event_time, &filter))?;
    }
    Ok(())
}

/// Creates a window's table, or adds the columns that its configuration gained.
pub(super) fn create_window_table(connection: &Connection, table: &WindowTable) -> Result<(), WriteError> {
    let name = quoted(&table.window);
    let group: Vec<String> = table.group.iter().map(definition).collect();
    let values: Vec<String> =
        table.values.iter().map(|column| format!("{} {}", quoted(&column.name), sql_type(&column.kind))).collect();
    let key: Vec<String> = table.group.iter().map(|column| quoted(&column.name)).collect();
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS {name} (window_start INTEGER NOT NULL, window_end INTEGER NOT NULL, {} \
         revision INTEGER NOT NULL, log INTEGER NOT NULL, \"partition\" INTEGER NOT NULL, \
         created_at INTEGER NOT NULL, PRIMARY KEY (window_start, {} log, \"partition\")) STRICT, WITHOUT ROWID",
        group.iter().chain(&values).map(|column| format!("{column}, ")).collect::<String>(),
        key.iter().map(|column| format!("{column}, ")).collect::<String>(),
    );
    connection.execute_batch(&sql)?;
    let index = quoted(&format!("{}_created_at", table.window));
    connection.execute_batch(&format!("CREATE INDEX IF NOT EXISTS {index} ON {name} (created_at)"))?;
    let mut columns = table.group.clone();
    columns.extend(table.values.iter().map(|column| Column { nullable: true, ..column.clone() }));
    add_missing_columns(connection, &table.window, &columns)
}

/// Adds columns that the table lacks and refuses those whose type changed.
fn add_missing_columns(connection: &Connection, table: &str, columns: &[Column]) -> Result<(), WriteError> {
    let mut select = connection.prepare("SELECT name, type FROM pragma_table_info(?)")?;
    let existing: Vec<(String, String)> =
        select.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    for column in columns {
        match existing.iter().find(|(name, _)| *name == column.name) {
            Some((_, kind)) if kind == sql_type(&column.kind) => {}
            Some((_, kind)) => {
                return Err(WriteError::Protocol(format!(
                    "table {table} has column {} as {kind}, the schema wants {}: rename the table or the field",
                    column.name,
                    sql_type(&column.kind)
                )));
            }
            None => {
                let mut added = column.clone();
                added.nullable = true;
                connection.execute_batch(&format!(
                    "ALTER TABLE {} ADD COLUMN {}",
                    quoted(table),
                    definition(&added)
                ))?;
            }
        }
    }
    Ok(())
}
