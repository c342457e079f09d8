//! Tables of windows: one row per window, group, log and partition. NULL is a group like any other, as in SQL.
//!
//! A primary key takes no NULL, and a unique index takes it any number of times; so the key is a unique index over
//! `ifnull(column, zero)` and `column IS NULL` of each group column. Rows have a number of their own besides, by which
//! reads walk on within a window.

#[cfg(test)]
mod tests;

use rusqlite::{Connection, OptionalExtension};
use streamward_core::{
    schema::Kind,
    table::{Column, WindowTable, index_of},
};

use super::{
    WriteError,
    ddl::{add_missing_columns, definition, existing_columns, quoted, sql_type},
};

/// A row's own number.
pub(super) const ROW: &str = "sw_row";
/// Names of the row's values that are beyond the range of their type, in JSON; null where there are none.
pub(super) const OVERFLOW: &str = "sw_overflow";
/// Columns of every window's table besides its group and its values.
pub(super) const OWN_COLUMNS: [&str; 8] =
    [ROW, "window_start", "window_end", "revision", "log", "partition", "created_at", OVERFLOW];

/// What a row is found by, as the columns of the unique index.
pub(super) fn key(table: &WindowTable) -> String {
    let mut terms = vec!["window_start".to_owned()];
    for column in &table.group {
        let (name, zero) = (quoted(&column.name), zero(&column.kind));
        terms.extend([format!("ifnull({name}, {zero})"), format!("{name} IS NULL")]);
    }
    terms.extend(["log".to_owned(), "\"partition\"".to_owned()]);
    terms.join(", ")
}

fn zero(kind: &Kind) -> &'static str {
    match kind {
        Kind::Boolean | Kind::Int | Kind::Long | Kind::Timestamp | Kind::Float | Kind::Double => "0",
        Kind::String | Kind::Enum(_) | Kind::Decimal { .. } => "''",
    }
}

/// Creates a window's table, or brings it up to date: one of an older layout is rebuilt with its rows.
pub(super) fn create_window_table(connection: &Connection, table: &WindowTable) -> Result<(), WriteError> {
    let transaction = connection.unchecked_transaction()?;
    let existing = existing_columns(&transaction, &table.window)?;
    if existing.is_empty() {
        create(&transaction, table, &[])?;
    } else if !existing.iter().any(|column| column.name == ROW) {
        rebuild(&transaction, table)?;
    } else {
        add_missing_columns(&transaction, &table.window, &columns(table))?;
    }
    create_key(&transaction, table)?;
    let name = quoted(&table.window);
    for (index, column) in
        [(index_of(&table.window, "created_at"), "created_at"), (format!("sw_start_{}", table.window), "window_start")]
    {
        let index = quoted(&index);
        transaction.execute_batch(&format!("CREATE INDEX IF NOT EXISTS {index} ON {name} ({column})"))?;
    }
    Ok(transaction.commit()?)
}

/// Group and values; each may be null.
fn columns(table: &WindowTable) -> Vec<Column> {
    let nullable = |column: &Column| Column { nullable: true, ..column.clone() };
    table.group.iter().chain(&table.values).map(nullable).collect()
}

fn create(connection: &Connection, table: &WindowTable, more: &[String]) -> Result<(), WriteError> {
    let columns: Vec<String> = columns(table).iter().map(definition).chain(more.iter().cloned()).collect();
    connection.execute_batch(&format!(
        "CREATE TABLE {} ({ROW} INTEGER PRIMARY KEY, window_start INTEGER NOT NULL, window_end INTEGER NOT NULL, {}, \
         revision INTEGER NOT NULL, log INTEGER NOT NULL, \"partition\" INTEGER NOT NULL, \
         created_at INTEGER NOT NULL, {OVERFLOW} TEXT) STRICT",
        quoted(&table.window),
        columns.join(", ")
    ))?;
    Ok(())
}

/// Copies the rows into a table of this layout; columns that the configuration no longer has stay, and may be null.
fn rebuild(connection: &Connection, table: &WindowTable) -> Result<(), WriteError> {
    let before = format!("sw_before_{}", table.window);
    let (name, before) = (quoted(&table.window), quoted(&before));
    let existing = existing_columns(connection, &table.window)?;
    let wanted = columns(table);
    for column in &wanted {
        let kind = existing.iter().find(|known| known.name.eq_ignore_ascii_case(&column.name)).map(|known| &known.kind);
        if kind.is_some_and(|kind| kind != sql_type(&column.kind)) {
            return add_missing_columns(connection, &table.window, &wanted);
        }
    }
    let is_known = |name: &str| {
        let names = wanted.iter().map(|column| column.name.as_str()).chain(OWN_COLUMNS);
        names.into_iter().any(|known| known.eq_ignore_ascii_case(name))
    };
    let more = existing.iter().filter(|column| !is_known(&column.name));
    let more: Vec<String> = more.map(|column| format!("{} {}", quoted(&column.name), column.kind)).collect();
    let list = existing.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(", ");
    connection.execute_batch(&format!("ALTER TABLE {name} RENAME TO {before}"))?;
    create(connection, table, &more)?;
    connection.execute_batch(&format!(
        "INSERT INTO {name} ({list}) SELECT {list} FROM {before} ORDER BY window_start; DROP TABLE {before}"
    ))?;
    tracing::info!(table = %table.window, "the window's table was rebuilt: its group columns may be null now");
    Ok(())
}

/// Makes the unique index, anew if the window is grouped by other columns than before.
fn create_key(connection: &Connection, table: &WindowTable) -> Result<(), WriteError> {
    let index = quoted(&format!("sw_key_{}", table.window));
    let wanted = format!("CREATE UNIQUE INDEX {index} ON {} ({})", quoted(&table.window), key(table));
    let known: Option<String> = connection
        .query_row(
            "SELECT sql FROM sqlite_schema WHERE type = 'index' AND name = ?",
            [format!("sw_key_{}", table.window)],
            |row| row.get(0),
        )
        .optional()?;
    if known.as_ref() == Some(&wanted) {
        return Ok(());
    }
    connection.execute_batch(&format!("DROP INDEX IF EXISTS {index}"))?;
    connection.execute_batch(&wanted).map_err(|error| {
        WriteError::Protocol(format!(
            "window {} was grouped by other columns before, and some of its rows are one group now ({error}): give the \
             window another name",
            table.window
        ))
    })
}
