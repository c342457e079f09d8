//! Tables generated from schemas, one per stream. Those of windows are in [`super::window_tables`].

use rusqlite::Connection;
pub use streamward_core::reading::walk::quoted;
use streamward_core::{
    schema::Kind,
    table::{Column, OWN_COLUMNS, StreamTable, index_of},
};

use super::WriteError;

pub(super) fn sql_type(kind: &Kind) -> &'static str {
    match kind {
        Kind::Boolean | Kind::Int | Kind::Long | Kind::Timestamp => "INTEGER",
        Kind::Float | Kind::Double => "REAL",
        Kind::String | Kind::Enum(_) | Kind::Decimal { .. } => "TEXT",
    }
}

pub(super) fn definition(column: &Column) -> String {
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
    relax(connection, table)?;
    let event_time = quoted(&table.columns[table.event_time].name);
    let index = |suffix: &str, columns: &str, filter: &str| {
        let index = quoted(&index_of(&table.table, suffix));
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

/// A column of a table as it is.
pub(super) struct Existing {
    pub name: String,
    pub kind: String,
    /// Whether it takes no NULL.
    pub is_required: bool,
}

/// The columns of a table; none if there is no such table.
pub(super) fn existing_columns(connection: &Connection, table: &str) -> Result<Vec<Existing>, rusqlite::Error> {
    let mut select = connection.prepare("SELECT name, type, \"notnull\" FROM pragma_table_info(?)")?;
    let existing = select
        .query_map([table], |row| Ok(Existing { name: row.get(0)?, kind: row.get(1)?, is_required: row.get(2)? }))?;
    existing.collect()
}

/// Adds columns that the table lacks and refuses those whose type changed.
pub(super) fn add_missing_columns(connection: &Connection, table: &str, columns: &[Column]) -> Result<(), WriteError> {
    let existing = existing_columns(connection, table)?;
    for column in columns {
        match existing.iter().find(|known| known.name.eq_ignore_ascii_case(&column.name)) {
            Some(known) if known.kind == sql_type(&column.kind) => {}
            Some(known) => {
                return Err(WriteError::Protocol(format!(
                    "table {table} has column {} as {}, the schema wants {}: rename the table or the field",
                    column.name,
                    known.kind,
                    sql_type(&column.kind)
                )));
            }
            None => {
                let added = Column { nullable: true, ..column.clone() };
                let (table, definition) = (quoted(table), definition(&added));
                connection.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {definition}"))?;
            }
        }
    }
    Ok(())
}

/// Lets columns be null that the schema no longer requires: fields that became optional, or went.
///
/// It changes nothing on disk but the text of the table's definition, which is the way that SQLite's documentation gives
/// (`ALTER TABLE`, section 7); a copy of a large table would take minutes.
fn relax(connection: &Connection, table: &StreamTable) -> Result<(), WriteError> {
    let is_required = |name: &str| table.columns.iter().any(|column| column.name == name && !column.nullable);
    let existing = existing_columns(connection, &table.table)?;
    let relaxed = existing.iter().filter(|column| column.is_required && !is_required(&column.name));
    let relaxed: Vec<&Existing> = relaxed.filter(|column| !OWN_COLUMNS.contains(&column.name.as_str())).collect();
    if relaxed.is_empty() {
        return Ok(());
    }
    let mut sql: String = connection.query_row(
        "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE",
        [&table.table],
        |row| row.get(0),
    )?;
    for column in &relaxed {
        let nullable = format!("{} {}", quoted(&column.name), column.kind);
        let required = format!("{nullable} NOT NULL");
        if !sql.contains(&required) {
            return Err(WriteError::Protocol(format!(
                "table {} does not let column {} be null, and the schema does: rename the table",
                table.table, column.name
            )));
        }
        sql = sql.replacen(&required, &nullable, 1);
    }
    let version: i64 = connection.query_row("PRAGMA schema_version", [], |row| row.get(0))?;
    connection.execute_batch("PRAGMA writable_schema = ON")?;
    let changed = connection.execute(
        "UPDATE sqlite_schema SET sql = ? WHERE type = 'table' AND name = ? COLLATE NOCASE",
        [&sql, &table.table],
    );
    connection.execute_batch(&format!("PRAGMA schema_version = {}; PRAGMA writable_schema = RESET", version + 1))?;
    changed?;
    let names: Vec<&str> = relaxed.iter().map(|column| column.name.as_str()).collect();
    tracing::info!(
        table = table.table,
        columns = names.join(", "),
        "the schema no longer requires columns: they may be null"
    );
    Ok(())
}
