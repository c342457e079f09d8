//! Names that the database has already: tables that nobody remembers, and indexes that stayed.

use std::collections::BTreeMap;

use super::{Change, Concerned, Remembered, Way};
use crate::table::Layout;

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

/// Names that tables and indexes of the layout are to have, in lower case, each index with the table that may have it.
pub(super) fn wanted_names(layout: &Layout) -> BTreeMap<String, Option<String>> {
    let tables = wanted_tables(layout).into_iter().map(|wanted| (wanted.table, None));
    let indexes = wanted_indexes(layout).into_iter().map(|(index, wanted)| (index, Some(wanted.table)));
    let lower = |name: String| name.to_ascii_lowercase();
    tables.chain(indexes).map(|(name, table)| (lower(name), table.map(lower))).collect()
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
