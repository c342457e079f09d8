//! Rows of streams and the ranges that filters passed over.
//!
//! Row ids ascend within a log of a partition in the order of storing, so its oldest rows are one range of ids and no
//! index on `stored_at` is needed. An earlier log of a topic is a shelf like the present one.

use rusqlite::{Connection, OptionalExtension, params};
use streamward_core::table::{OFFSET_BITS, offset_of, row_id};

use super::{CHUNK_ROWS, Layout};
use crate::adapters::sqlite::ddl::quoted;

/// Milliseconds in a minute.
const MINUTE_MS: i64 = 60_000;

/// The rows of one log of a partition.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    /// Place of the stream in the layout.
    pub stream: usize,
    sink: String,
    topic: String,
    partition: i32,
    log: i64,
    retained_from: i64,
    next_offset: i64,
}

/// All of them. A pipeline that is no longer configured has left its rows to the stream of its topic.
pub(super) fn shelves(connection: &Connection, layout: &Layout) -> Result<Vec<Shelf>, rusqlite::Error> {
    let mut select = connection
        .prepare_cached("SELECT sink, topic, \"partition\", log, retained_from, next_offset FROM sw_positions")?;
    let mut rows = select.query([])?;
    let mut shelves = Vec::new();
    while let Some(row) = rows.next()? {
        let (sink, topic): (String, String) = (row.get(0)?, row.get(1)?);
        let Some(stream) = stream_of(layout, &sink, &topic) else { continue };
        let (partition, log) = (row.get(2)?, row.get(3)?);
        let (retained_from, next_offset) = (row.get(4)?, row.get(5)?);
        shelves.push(Shelf { stream, sink, topic, partition, log, retained_from, next_offset });
    }
    Ok(shelves)
}

fn stream_of(layout: &Layout, sink: &str, topic: &str) -> Option<usize> {
    match layout.sinks.iter().find(|(name, _)| **name == *sink) {
        Some((_, stream)) => layout.streams.iter().position(|table| table.stream == *stream),
        None => layout.streams.iter().position(|table| *table.topic == *topic),
    }
}

/// The shelf of a stream whose first row was stored first. Of those stored within the same minute the longest, so that
/// partitions take turns: a backlog is read partition by partition.
pub(super) fn oldest_shelf(
    connection: &Connection,
    layout: &Layout,
    stream: usize,
) -> Result<Option<Shelf>, rusqlite::Error> {
    let table = quoted(&layout.streams[stream].table);
    let mut first = connection
        .prepare_cached(&format!("SELECT stored_at FROM {table} WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 1"))?;
    let mut oldest: Option<((i64, i64), Shelf)> = None;
    for shelf in shelves(connection, layout)?.into_iter().filter(|shelf| shelf.stream == stream) {
        let (from, to) = shelf.ids();
        let stored_at: Option<i64> = first.query_row([from, to], |row| row.get(0)).optional()?;
        let Some(stored_at) = stored_at else { continue };
        let place = (stored_at.div_euclid(MINUTE_MS), shelf.retained_from - shelf.next_offset);
        if oldest.as_ref().is_none_or(|(oldest, _)| place < *oldest) {
            oldest = Some((place, shelf));
        }
    }
    Ok(oldest.map(|(_, shelf)| shelf))
}

/// Removes a chunk of the oldest rows of a shelf that were stored before `rows_before_ms`, and what was noted about
/// records before them; and ranges passed over before `ranges_before_ms` that no row is left in front of.
pub(super) fn remove_oldest(
    connection: &Connection,
    layout: &Layout,
    shelf: &Shelf,
    (rows_before_ms, ranges_before_ms): (i64, i64),
) -> Result<u64, rusqlite::Error> {
    let table = quoted(&layout.streams[shelf.stream].table);
    let (from, to) = shelf.ids();
    let last: Option<i64> = connection
        .prepare_cached(&format!(
            "SELECT max(id) FROM (SELECT id, stored_at FROM {table} WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?) \
             WHERE stored_at < ?"
        ))?
        .query_row(params![from, to, CHUNK_ROWS, rows_before_ms], |row| row.get(0))?;
    let mut removed = 0;
    let mut floor = shelf.retained_from;
    if let Some(last) = last {
        removed += connection
            .prepare_cached(&format!("DELETE FROM {table} WHERE id BETWEEN ? AND ?"))?
            .execute(params![from, last])?;
        floor = offset_of(last) + 1;
    }
    let next: Option<i64> = connection
        .prepare_cached(&format!("SELECT id FROM {table} WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 1"))?
        .query_row([from, to], |row| row.get(0))
        .optional()?;
    floor = floor.max(passed_over(connection, shelf, next.map_or(i64::MAX, offset_of), ranges_before_ms)?);
    if floor > shelf.retained_from {
        removed += raise_floor(connection, shelf, floor)?;
    }
    Ok(removed as u64)
}

/// End of the ranges before an offset that were passed over before a time.
fn passed_over(connection: &Connection, shelf: &Shelf, before: i64, before_ms: i64) -> Result<i64, rusqlite::Error> {
    let mut select = connection.prepare_cached(
        "SELECT next_offset, stored_at FROM sw_ranges WHERE sink = ? AND topic = ? AND \"partition\" = ? AND log = ? \
         AND kind = 'filtered' AND first_offset < ? ORDER BY first_offset LIMIT ?",
    )?;
    let place = params![shelf.sink, shelf.topic, shelf.partition, shelf.log, before, CHUNK_ROWS];
    let mut ranges = select.query(place)?;
    let mut end = i64::MIN;
    while let Some(range) = ranges.next()? {
        if range.get::<_, i64>(1)? >= before_ms {
            break;
        }
        end = range.get(0)?;
    }
    Ok(end)
}

/// Notes from where on rows are complete, and removes the ranges below; returns how many. A gap stays: it is reported.
fn raise_floor(connection: &Connection, shelf: &Shelf, floor: i64) -> Result<usize, rusqlite::Error> {
    let place = params![floor, shelf.sink, shelf.topic, shelf.partition, shelf.log];
    connection
        .prepare_cached(
            "UPDATE sw_positions SET retained_from = ? \
             WHERE sink = ? AND topic = ? AND \"partition\" = ? AND log = ?",
        )?
        .execute(place)?;
    connection
        .prepare_cached(
            "DELETE FROM sw_ranges WHERE next_offset <= ?1 AND sink = ?2 AND topic = ?3 AND \"partition\" = ?4 \
             AND log = ?5 AND kind IN ('filtered', 'removed') AND first_offset < ?1",
        )?
        .execute(place)
}

impl Shelf {
    /// First and last id that a row may have.
    fn ids(&self) -> (i64, i64) {
        let id = |offset| row_id(self.log, self.partition, offset);
        (id(self.retained_from), id((1 << OFFSET_BITS) - 1))
    }
}
