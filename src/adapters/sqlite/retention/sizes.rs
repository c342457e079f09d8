//! Which table holds how much, about: the pages of a table cannot be counted without reading them all.
//!
//! Rows come from positions and row numbers, bytes of a row from the newest few, bytes of facts from their ledger. The
//! estimates are then brought to the pages in use, up to [`MAX_SCALE`]: beyond it something else holds the pages.

use rusqlite::{Connection, params};
use streamward_core::{
    schema::Kind as Type,
    table::{Column, StreamTable, WindowTable},
};

use crate::adapters::sqlite::{
    Layout,
    ddl::quoted,
    ledger::{self, Kind},
    window_tables::ROW,
};

/// Rows that tell how long the rows of a table are.
const SAMPLE_ROWS: i64 = 64;
/// Bytes of an entry in a table or index beside its values.
const ENTRY_BYTES: usize = 16;

/// How many times as many bytes as estimated a table may hold: pages of an index are up to two thirds empty where
/// entries left here and there.
const MAX_SCALE: f64 = 3.0;

/// A table that retention takes from, by its place in the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    Stream(usize),
    Window(usize),
    Facts(Kind),
}

/// The tables that hold more than an equal share of the limit, largest first.
pub(super) fn above_their_share(
    connection: &Connection,
    layout: &Layout,
    (used, limit): (u64, u64),
) -> Result<Vec<Holder>, rusqlite::Error> {
    let mut holders = Vec::new();
    for (place, table) in layout.streams.iter().enumerate() {
        holders.push((Holder::Stream(place), stream_bytes(connection, layout, table)?));
    }
    for (place, table) in layout.windows.iter().enumerate() {
        holders.push((Holder::Window(place), window_bytes(connection, table)?));
    }
    for kind in Kind::ALL {
        holders.push((Holder::Facts(kind), ledger::bytes(connection, kind)?.max(0) as f64));
    }
    let state: i64 = connection
        .prepare_cached("SELECT coalesce(sum(octet_length(bytes)), 0) FROM sw_checkpoints")?
        .query_row([], |row| row.get(0))?;
    let estimated = state as f64 + holders.iter().map(|(_, bytes)| bytes).sum::<f64>();
    let scale = (used as f64 / estimated.max(1.0)).clamp(MAX_SCALE.recip(), MAX_SCALE);
    let share = limit as f64 / holders.len() as f64;
    holders.retain(|(_, bytes)| bytes * scale > share);
    holders.sort_by(|one, other| other.1.total_cmp(&one.1));
    Ok(holders.into_iter().map(|(holder, _)| holder).collect())
}

/// Rows by the positions, a share of the offsets that are kept: as many as were stored of all records so far.
fn stream_bytes(connection: &Connection, layout: &Layout, table: &StreamTable) -> Result<f64, rusqlite::Error> {
    let mut rows = 0.0;
    let mut select = connection.prepare_cached(
        "SELECT sink, topic, (next_offset - retained_from) * 1.0 * stored / max(stored + dead + filtered, 1) \
         FROM sw_positions",
    )?;
    let mut positions = select.query([])?;
    while let Some(position) = positions.next()? {
        let (sink, topic): (String, String) = (position.get(0)?, position.get(1)?);
        let stream = layout.sinks.iter().find(|(name, _)| **name == *sink).map(|(_, stream)| stream);
        let is_own = stream.map_or(*topic == *table.topic, |stream| *stream == table.stream);
        rows += if is_own { position.get::<_, f64>(2)? } else { 0.0 };
    }
    let indexes = table.indexes.iter().map(|index| &table.columns[*index]);
    let row = texts(table.columns.iter().chain(indexes));
    let fixed =
        numbers(table.columns.len() + 2) + ENTRY_BYTES * (2 + table.indexes.len()) + numbers(table.indexes.len());
    Ok(rows * (mean(connection, (&table.table, "id"), &row)? + fixed as f64))
}

/// Rows by the first and the last number.
fn window_bytes(connection: &Connection, table: &WindowTable) -> Result<f64, rusqlite::Error> {
    let name = quoted(&table.window);
    let rows: i64 = connection
        .prepare_cached(&format!(
            "SELECT coalesce((SELECT max({ROW}) FROM {name}) - (SELECT min({ROW}) FROM {name}) + 1, 0)"
        ))?
        .query_row([], |row| row.get(0))?;
    let row = texts(table.group.iter().chain(&table.values).chain(&table.group));
    let columns = table.group.len() * 3 + table.values.len() + 14;
    Ok(rows as f64 * (mean(connection, (&table.window, ROW), &row)? + (numbers(columns) + 4 * ENTRY_BYTES) as f64))
}

fn numbers(columns: usize) -> usize {
    columns * 5
}

/// Bytes of the texts of some columns, as SQL.
fn texts<'a>(columns: impl Iterator<Item = &'a Column>) -> String {
    let texts = columns.filter(|column| matches!(column.kind, Type::String | Type::Enum(_)));
    let length = |column: &Column| format!("coalesce(octet_length({}), 0)", quoted(&column.name));
    texts.map(length).chain(["0".to_owned()]).collect::<Vec<_>>().join(" + ")
}

/// Mean of an expression over the newest rows of a table.
fn mean(connection: &Connection, (table, id): (&str, &str), expression: &str) -> Result<f64, rusqlite::Error> {
    connection
        .prepare_cached(&format!(
            "SELECT coalesce(avg(bytes), 0.0) FROM (SELECT {expression} AS bytes FROM {} ORDER BY {id} DESC LIMIT ?)",
            quoted(table)
        ))?
        .query_row(params![SAMPLE_ROWS], |row| row.get(0))
}
