//! Places of dead letters that retention has removed, for `verify`: their records are accounted for, and no row says so.
//!
//! They are ranges of kind `removed`. Ranges that touch are one, and those below the floor of the rows leave with it: so
//! there are at most as many as rows and filtered ranges between them.

use std::{collections::BTreeMap, ops::Range};

use rusqlite::{Connection, OptionalExtension, params};

use crate::clock::now_ms;

/// One log of a partition, as a sink reads it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LogPlace {
    pub sink: String,
    pub topic: String,
    pub partition: i32,
    pub log: i64,
}

/// Offsets whose dead letters one transaction removes.
#[derive(Debug, Default)]
pub(super) struct Removed {
    offsets: BTreeMap<LogPlace, Vec<i64>>,
    count: i64,
}

impl Removed {
    pub fn add(&mut self, place: LogPlace, offset: i64) {
        self.offsets.entry(place).or_default().push(offset);
        self.count += 1;
    }

    pub fn count(&self) -> i64 {
        self.count
    }

    /// Notes them, within the transaction that removes them.
    pub fn note(&mut self, connection: &Connection) -> Result<(), rusqlite::Error> {
        for (place, offsets) in &mut self.offsets {
            let floor: Option<i64> = connection
                .prepare_cached(
                    "SELECT retained_from FROM sw_positions \
                     WHERE sink = ? AND topic = ? AND \"partition\" = ? AND log = ?",
                )?
                .query_row(params![place.sink, place.topic, place.partition, place.log], |row| row.get(0))
                .optional()?;
            let Some(floor) = floor else { continue };
            offsets.sort_unstable();
            for range in ranges(offsets.iter().copied().filter(|offset| *offset >= floor)) {
                place.note(connection, range)?;
            }
        }
        Ok(())
    }
}

impl LogPlace {
    /// Notes a range, as one with those that it touches.
    fn note(&self, connection: &Connection, range: Range<i64>) -> Result<(), rusqlite::Error> {
        let Self { sink, topic, partition, log } = self;
        let mut select = connection.prepare_cached(
            "SELECT first_offset, next_offset FROM sw_ranges WHERE sink = ? AND topic = ? AND \"partition\" = ? \
             AND log = ? AND kind = 'removed' AND first_offset <= ? ORDER BY first_offset DESC LIMIT 2",
        )?;
        let near =
            select.query_map(params![sink, topic, partition, log, range.end], |row| Ok(row.get(0)?..row.get(1)?))?;
        let near: Vec<Range<i64>> = near.collect::<Result<_, _>>()?;
        let mut whole = range.clone();
        for touching in near.into_iter().filter(|near| near.end >= range.start) {
            connection
                .prepare_cached(
                    "DELETE FROM sw_ranges WHERE sink = ? AND topic = ? AND \"partition\" = ? AND log = ? \
                     AND kind = 'removed' AND first_offset = ?",
                )?
                .execute(params![sink, topic, partition, log, touching.start])?;
            whole = whole.start.min(touching.start)..whole.end.max(touching.end);
        }
        connection
            .prepare_cached("INSERT INTO sw_ranges VALUES (?, ?, ?, ?, 'removed', ?, ?, ?)")?
            .execute(params![sink, topic, partition, log, whole.start, whole.end, now_ms()])?;
        Ok(())
    }
}

/// Ascending offsets as ranges.
fn ranges(offsets: impl Iterator<Item = i64>) -> Vec<Range<i64>> {
    let mut ranges: Vec<Range<i64>> = Vec::new();
    for offset in offsets {
        match ranges.last_mut() {
            Some(last) if last.end >= offset => last.end = offset + 1,
            _ => ranges.push(offset..offset + 1),
        }
    }
    ranges
}
