//! Totals of streams, from what is kept beside their rows.

use std::collections::BTreeSet;

use super::unsigned;
use crate::{
    ports::{PositionRow, StatsQuery, StreamStats, StreamSummary},
    table::StreamTable,
};

const MINUTE_MS: i64 = 60_000;

/// Minutes of event time, in milliseconds since 1970 (UTC), both ends inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub from_ms: i64,
    pub until_ms: i64,
}

/// Sums over the minutes of a range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Totals {
    pub records: i64,
    /// Records with a measure.
    pub measured: i64,
    /// Of the measures; none where no minute has one.
    pub sum: Option<f64>,
    /// Minutes whose sum is beyond the range of a float.
    pub lost: i64,
    pub anomalies: i64,
}

/// The latest event time that is taken for one.
#[must_use]
pub fn latest_ms(table: &StreamTable, now_ms: i64) -> i64 {
    now_ms.saturating_add(table.max_ahead_ms)
}

/// The minutes that a query is about.
#[must_use]
pub fn range(table: &StreamTable, query: &StatsQuery) -> Range {
    let back = query.now_ms - i64::from(query.minutes) * MINUTE_MS;
    Range { from_ms: back - back.rem_euclid(MINUTE_MS), until_ms: latest_ms(table, query.now_ms) }
}

/// The answer to a query about these minutes.
#[must_use]
pub fn stats(table: &StreamTable, range: Range, totals: Totals, active_keys: i64) -> StreamStats {
    let has_mean = totals.measured > 0 && table.measure.is_some();
    let sum = totals.sum.filter(|sum| sum.is_finite() && totals.lost == 0);
    StreamStats {
        records: unsigned(totals.records),
        anomalies: unsigned(totals.anomalies),
        active_keys: unsigned(active_keys),
        mean: sum.filter(|_| has_mean).map(|sum| sum / totals.measured as f64),
        overflows: has_mean && sum.is_none(),
        from_ms: range.from_ms,
    }
}

/// The positions that count rows of a stream's table: those of its present topic, and of earlier ones of its pipelines.
/// `sinks` are the pipelines that store a stream, now or before, each with its stream.
#[must_use]
pub fn own<'a>(table: &StreamTable, positions: &'a [PositionRow], sinks: &[(String, String)]) -> Vec<&'a PositionRow> {
    let is_own = |position: &&PositionRow| {
        let stores_it = |(sink, stream): &(String, String)| *sink == position.sink && **stream == *table.stream;
        *position.topic == *table.topic || sinks.iter().any(stores_it)
    };
    positions.iter().filter(is_own).collect()
}

/// Topics of positions, each once.
#[must_use]
pub fn topics<'a>(own: &[&'a PositionRow]) -> BTreeSet<&'a str> {
    own.iter().map(|position| position.topic.as_str()).collect()
}

/// About how many rows a stream's table has: all that were stored, less what retention may have removed.
#[must_use]
pub fn retained(own: &[&PositionRow]) -> u64 {
    own.iter().map(|position| unsigned(position.stored.min(position.next_offset - position.retained_from))).sum()
}

/// A stream, summed up from its positions.
#[must_use]
pub fn summary(table: &StreamTable, windows: Vec<String>, own: &[&PositionRow]) -> StreamSummary {
    let sum = |figure: fn(&PositionRow) -> i64| own.iter().map(|position| unsigned(figure(position))).sum();
    StreamSummary {
        table: table.clone(),
        windows,
        stored: sum(|position| position.stored),
        dead: sum(|position| position.dead),
        filtered: sum(|position| position.filtered),
        ahead: sum(|position| position.ahead),
        late: sum(|position| position.late),
        full: sum(|position| position.full),
        in_gaps: 0,
        newest_event_ms: None,
    }
}
