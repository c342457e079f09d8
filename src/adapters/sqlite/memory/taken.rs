//! Names that the database has already: tables that nobody remembers, and indexes that stayed.

use std::collections::BTreeMap;

use rusqlite::Connection;
use streamward_core::{
    definition::Remembered,
    table::{OWN_PREFIXES, OWN_TABLES},
};

use super::{Layout, count};
use crate::adapters::sqlite::ddl::quoted;

/// Tables and views of the database, by their names in lower case, with their rows.
pub(super) fn tables(connection: &Connection) -> Result<BTreeMap<String, u64>, rusqlite::Error> {
    let mut select = connection.prepare("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")?;
    let names = select.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let is_own = |name: &str| OWN_TABLES.contains(&name) || OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let mut tables = BTreeMap::new();
    for name in names {
        let lower = name.to_ascii_lowercase();
        if !is_own(&lower) {
            let rows = count(connection, &name)?;
            tables.insert(lower, rows);
        }
    }
    Ok(tables)
}

/// Drops indexes of tables that the database remembers where the layout needs their names: they stayed when a setting
/// went.
pub(super) fn free_index_names(
    connection: &Connection,
    remembered: &Remembered,
    layout: &Layout,
) -> Result<(), rusqlite::Error> {
    let mut select =
        connection.prepare("SELECT name, tbl_name FROM sqlite_schema WHERE type = 'index' AND sql NOT NULL")?;
    let there = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<Vec<_>, _>>()?;
    for index in remembered.indexes_in_the_way(layout, there) {
        connection.execute_batch(&format!("DROP INDEX {}", quoted(&index)))?;
    }
    Ok(())
}
