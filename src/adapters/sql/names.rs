//! The names that our own tables, columns and indexes have. What a configuration or a schema names must not be among
//! them; `src/plan/names` checks it.

use streamward_core::table::StreamTable;

use super::ddl::WindowTable;

/// Tables and indexes that every database has, besides those with a prefix of ours.
pub const OWN_TABLES: [&str; 11] = [
    "_sqlx_migrations",
    "alerts",
    "alerts_latest",
    "alerts_resolved",
    "alerts_rule",
    "alerts_severity",
    "alerts_state",
    "dead_letters",
    "dead_letters_class",
    "dead_letters_place",
    "dead_letters_topic",
];

/// Names of other own tables, and of SQLite's, begin so.
pub const OWN_PREFIXES: [&str; 2] = ["sw_", "sqlite_"];

/// Columns that every window has itself, in its table or in answers.
pub const WINDOW_COLUMNS: [&str; 9] =
    ["created_at", "log", "overflow", "partition", "revision", "sw_overflow", "sw_row", "window_end", "window_start"];

/// The index of a stream's table by one of its columns.
pub fn index_of(table: &str, column: &str) -> String {
    format!("{table}_{column}")
}

/// Names of the indexes of a stream's table.
pub fn indexes_of_stream(table: &StreamTable) -> Vec<String> {
    let columns = [table.event_time].into_iter().chain(table.indexes.iter().copied()).chain(table.anomaly);
    columns.map(|column| index_of(&table.table, &table.columns[column].name)).collect()
}

/// Names of the indexes of a window's table that have no prefix of ours.
pub fn indexes_of_window(table: &WindowTable) -> Vec<String> {
    vec![index_of(&table.window, "created_at")]
}

/// Tables and indexes of a database without streams and windows.
#[cfg(test)]
pub async fn names_of_an_empty_database() -> Vec<String> {
    use super::{Layout, SqlStore, SqliteSettings};
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("own.db");
    drop(SqlStore::open(&file, &SqliteSettings::default(), Layout::default()).await.unwrap());
    let file = rusqlite::Connection::open(file).unwrap();
    let mut select = file.prepare("SELECT name FROM sqlite_schema").unwrap();
    select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}
