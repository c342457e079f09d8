//! Names that the database has already: tables that nobody remembers, and indexes that stayed.

use std::collections::BTreeMap;

use rusqlite::Connection;
use streamward_core::{
    definition::{Change, Concerned, Way},
    table::{OWN_PREFIXES, OWN_TABLES},
};

use super::{Layout, Remembered, count};
use crate::adapters::sql::ddl::quoted;

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

/// Tables of the layout that somebody else made, and indexes with the names of tables that are there.
pub(super) fn changes(remembered: &Remembered, layout: &Layout) -> Vec<(Change, u64)> {
    let known = remembered.tables();
    let of_strangers = wanted_tables(layout).into_iter().filter_map(|wanted| {
        let rows = remembered.rows.get(&wanted.table.to_ascii_lowercase()).copied().unwrap_or(0);
        (rows > 0 && !known.contains(&wanted.table.to_ascii_lowercase())).then(|| (wanted.of_a_stranger(), rows))
    });
    let names: Vec<String> =
        wanted_tables(layout).into_iter().map(|wanted| wanted.table.to_ascii_lowercase()).collect();
    let of_indexes = wanted_indexes(layout).into_iter().filter_map(|(index, wanted)| {
        let lower = index.to_ascii_lowercase();
        let rows = remembered.rows.get(&lower).filter(|_| !names.contains(&lower))?;
        // A table that nobody remembers stays, also without a row.
        let rows = if known.contains(&lower) { *rows } else { (*rows).max(1) };
        Some((wanted.with_index(index), rows))
    });
    of_strangers.chain(of_indexes).collect()
}

/// Drops indexes of tables that the database remembers where the layout needs their names: they stayed when a setting
/// went.
pub(super) fn free_index_names(
    connection: &Connection,
    remembered: &Remembered,
    layout: &Layout,
) -> Result<(), rusqlite::Error> {
    // The table that may have an index of this name; none where it is a table's.
    let tables = wanted_tables(layout).into_iter().map(|wanted| (wanted.table, None));
    let indexes = wanted_indexes(layout).into_iter().map(|(index, wanted)| (index, Some(wanted.table)));
    let lower = |name: String| name.to_ascii_lowercase();
    let wanted: BTreeMap<String, Option<String>> =
        tables.chain(indexes).map(|(name, table)| (lower(name), table.map(lower))).collect();
    let known = remembered.tables();
    let mut select =
        connection.prepare("SELECT name, tbl_name FROM sqlite_schema WHERE type = 'index' AND sql NOT NULL")?;
    let there = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    for (index, table) in there.collect::<Result<Vec<_>, _>>()? {
        let table = lower(table);
        let is_in_the_way = wanted.get(&lower(index.clone())).is_some_and(|of| of.as_ref() != Some(&table));
        if is_in_the_way && known.contains(&table) {
            connection.execute_batch(&format!("DROP INDEX {}", quoted(&index)))?;
        }
    }
    Ok(())
}

/// A table that the layout has, and whose it is.
struct Wanted {
    table: String,
    path: String,
    subject: String,
    way: String,
}

impl Wanted {
    fn of_a_stranger(self) -> Change {
        let difference = "the database has a table of that name that no stream and no window stores in".to_owned();
        let Self { table, path, subject, way } = self;
        Change { path, subject, concerned: Concerned::Rows(table), difference, ways: vec![Way::Write(way)] }
    }

    fn with_index(self, index: String) -> Change {
        let difference = format!("its table {} is to have an index {index}, which is the name of a table", self.table);
        let Self { path, subject, way, .. } = self;
        Change { path, subject, concerned: Concerned::Rows(index), difference, ways: vec![Way::Write(way)] }
    }
}

fn wanted_tables(layout: &Layout) -> Vec<Wanted> {
    let definitions = &layout.definitions;
    let streams = definitions.streams.iter().map(|(name, stream)| of_stream(name, &stream.table));
    let windows = definitions
        .pipelines
        .iter()
        .flat_map(|(pipeline, defined)| defined.windows.keys().map(move |window| of_window(pipeline, window)));
    streams.chain(windows).collect()
}

fn wanted_indexes(layout: &Layout) -> Vec<(String, Wanted)> {
    let streams = layout
        .streams
        .iter()
        .flat_map(|table| table.index_names().into_iter().map(|index| (index, of_stream(&table.stream, &table.table))));
    let pipelines = &layout.definitions.pipelines;
    let windows = layout.windows.iter().flat_map(|table| {
        let has_it = pipelines.iter().find(|(_, pipeline)| pipeline.windows.contains_key(&*table.window));
        let pipeline = has_it.map_or("", |(name, _)| name);
        table.index_names().into_iter().map(move |index| (index, of_window(pipeline, &table.window)))
    });
    streams.chain(windows).collect()
}

fn of_stream(name: &str, table: &str) -> Wanted {
    Wanted {
        table: table.to_owned(),
        path: format!("streams.{name}.table"),
        subject: format!("stream {name}"),
        way: format!("set streams.{name}.table to another name"),
    }
}

fn of_window(pipeline: &str, window: &str) -> Wanted {
    Wanted {
        table: window.to_owned(),
        path: format!("pipelines.{pipeline}.windows.{window}"),
        subject: format!("window {window}"),
        way: "give the window another name".to_owned(),
    }
}
