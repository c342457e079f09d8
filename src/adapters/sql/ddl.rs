//! Tables generated from schemas: one per stream, one per window.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, Executor, Row, SqliteConnection};
use streamward_core::{
    schema::Kind,
    table::{Column, StreamTable},
};
use streamward_pipeline::store::StoreError;

use super::store_error;

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
pub async fn create_stream_table(connection: &mut SqliteConnection, table: &StreamTable) -> Result<(), StoreError> {
    let name = quoted(&table.table);
    let columns: Vec<String> = table.columns.iter().map(definition).collect();
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS {name} (id INTEGER PRIMARY KEY, {}, stored_at INTEGER NOT NULL, \
         log INTEGER GENERATED ALWAYS AS (id >> 54) VIRTUAL, \
         \"partition\" INTEGER GENERATED ALWAYS AS ((id >> 42) & 4095) VIRTUAL, \
         \"offset\" INTEGER GENERATED ALWAYS AS (id & 4398046511103) VIRTUAL) STRICT",
        columns.join(", ")
    );
    execute(connection, sql).await?;
    add_missing_columns(connection, &table.table, &table.columns).await?;
    let event_time = quoted(&table.columns[table.event_time].name);
    let index = |suffix: &str, columns: &str, filter: &str| {
        let index = quoted(&format!("{}_{suffix}", table.table));
        format!("CREATE INDEX IF NOT EXISTS {index} ON {name} ({columns}){filter}")
    };
    execute(connection, index(&table.columns[table.event_time].name, &event_time, "")).await?;
    for &column in &table.indexes {
        let column = &table.columns[column].name;
        execute(connection, index(column, &format!("{}, {event_time}", quoted(column)), "")).await?;
    }
    if let Some(anomaly) = table.anomaly {
        let anomaly = &table.columns[anomaly].name;
        let filter = format!(" WHERE {}", quoted(anomaly));
        execute(connection, index(anomaly, &event_time, &filter)).await?;
    }
    Ok(())
}

/// Creates a window's table, or adds the columns that its configuration gained.
pub async fn create_window_table(connection: &mut SqliteConnection, table: &WindowTable) -> Result<(), StoreError> {
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
    execute(connection, sql).await?;
    let index = quoted(&format!("{}_created_at", table.window));
    execute(connection, format!("CREATE INDEX IF NOT EXISTS {index} ON {name} (created_at)")).await?;
    let mut columns = table.group.clone();
    columns.extend(table.values.iter().map(|column| Column { nullable: true, ..column.clone() }));
    add_missing_columns(connection, &table.window, &columns).await
}

/// Adds columns that the table lacks and refuses those whose type changed.
async fn add_missing_columns(
    connection: &mut SqliteConnection,
    table: &str,
    columns: &[Column],
) -> Result<(), StoreError> {
    let rows = sqlx::query("SELECT name, type FROM pragma_table_info(?)").bind(table).fetch_all(&mut *connection).await;
    let existing: Vec<(String, String)> =
        rows.map_err(store_error)?.iter().map(|row| (row.get(0), row.get(1))).collect();
    for column in columns {
        match existing.iter().find(|(name, _)| *name == column.name) {
            Some((_, kind)) if kind == sql_type(&column.kind) => {}
            Some((_, kind)) => {
                return Err(StoreError::Protocol(format!(
                    "table {table} has column {} as {kind}, the schema wants {}: rename the table or the field",
                    column.name,
                    sql_type(&column.kind)
                )));
            }
            None => {
                let mut added = column.clone();
                added.nullable = true;
                let sql = format!("ALTER TABLE {} ADD COLUMN {}", quoted(table), definition(&added));
                execute(connection, sql).await?;
            }
        }
    }
    Ok(())
}

async fn execute(connection: &mut SqliteConnection, sql: String) -> Result<(), StoreError> {
    connection.execute(AssertSqlSafe(sql)).await.map(|_| ()).map_err(store_error)
}
