//! Names that the database has already: tables that nobody remembers, and indexes that stayed.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, PgConnection};
use streamward_core::{
    definition::Remembered,
    table::{Layout, OWN_PREFIXES, OWN_TABLES},
};

use super::{count, quoted};

/// Tables and views of the schema, and whether their rows may be read. A partition is none.
const TABLES: &str = "SELECT c.relname::text, has_table_privilege(c.oid, 'SELECT') FROM pg_class c \
     JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = current_schema() \
     AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition ORDER BY 1";
/// Indexes of the schema that are no constraint, each with its table. Those of partitions come and go with their table's.
const INDEXES: &str = "SELECT i.relname::text, t.relname::text FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid \
     JOIN pg_class t ON t.oid = x.indrelid JOIN pg_namespace n ON n.oid = i.relnamespace \
     WHERE n.nspname = current_schema() AND NOT i.relispartition \
     AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.oid) ORDER BY 1";

/// Tables and views of the database, by their names in lower case, with their rows. One whose rows may not be read has some.
pub(super) async fn tables(connection: &mut PgConnection) -> Result<BTreeMap<String, u64>, sqlx::Error> {
    let there: Vec<(String, bool)> = sqlx::query_as(TABLES).fetch_all(&mut *connection).await?;
    let is_own = |name: &str| OWN_TABLES.contains(&name) || OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let mut tables = BTreeMap::new();
    for (name, is_readable) in there {
        let lower = name.to_ascii_lowercase();
        if !is_own(&lower) {
            let rows = if is_readable { count(connection, &name).await? } else { 1 };
            // Two names may differ in case alone.
            *tables.entry(lower).or_default() += rows;
        }
    }
    Ok(tables)
}

/// Drops indexes of tables that the database remembers where the layout needs their names: they stayed when a setting
/// went.
pub(super) async fn free_index_names(
    connection: &mut PgConnection,
    remembered: &Remembered,
    layout: &Layout,
) -> Result<(), sqlx::Error> {
    let there: Vec<(String, String)> = sqlx::query_as(INDEXES).fetch_all(&mut *connection).await?;
    for index in remembered.indexes_in_the_way(layout, there) {
        sqlx::raw_sql(AssertSqlSafe(format!("DROP INDEX {}", quoted(&index)))).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Drops the indexes of a table that are no constraint: their names would be in the way of another table's.
pub(super) async fn drop_indexes_of(connection: &mut PgConnection, table: &str) -> Result<(), sqlx::Error> {
    let there: Vec<(String, String)> = sqlx::query_as(INDEXES).fetch_all(&mut *connection).await?;
    for (index, _) in there.iter().filter(|(_, of)| of == table) {
        sqlx::raw_sql(AssertSqlSafe(format!("DROP INDEX {}", quoted(index)))).execute(&mut *connection).await?;
    }
    Ok(())
}
