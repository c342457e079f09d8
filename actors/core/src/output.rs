//! What a processed batch asks the sink to store, in one transaction, together with the new position.

use std::{ops::Range, sync::Arc};

use arrow_array::{BooleanArray, RecordBatch};
use arrow_schema::SchemaRef;
use arrow_select::filter::filter_record_batch;

use crate::{
    schema::Scalar,
    stats::{MinuteDelta, StatColumns, last_seen, minute_deltas},
    watermark::NO_WATERMARK,
};

/// The rows without those whose offsets are among `ahead`; both ascend.
pub(crate) fn on_time(rows: &RecordBatch, offsets: &[i64], ahead: &[i64]) -> RecordBatch {
    if ahead.is_empty() {
        return rows.clone();
    }
    let keep: BooleanArray = offsets.iter().map(|offset| Some(ahead.binary_search(offset).is_err())).collect();
    filter_record_batch(rows, &keep).expect("the mask is as long as the batch")
}

/// Ascending offsets as ranges that do not touch.
#[must_use]
pub fn ranges(offsets: impl IntoIterator<Item = i64>) -> Vec<Range<i64>> {
    let mut ranges: Vec<Range<i64>> = Vec::new();
    for offset in offsets {
        match ranges.last_mut() {
            Some(last) if last.end == offset => last.end += 1,
            Some(_) | None => ranges.push(offset..offset + 1),
        }
    }
    ranges
}

/// The effects of one batch (or of one clock tick, then without rows and with `start == end`).
#[derive(Debug, Clone)]
pub struct Output {
    pub topic: Arc<str>,
    pub partition: i32,
    /// Position before the batch: the sink commits only if its stored position equals it.
    pub start: i64,
    /// Position after the batch.
    pub end: i64,
    /// Rows to store: the stream's columns (`StreamSchema::arrow`).
    pub rows: RecordBatch,
    /// Offset of each row; as long as `rows`.
    pub offsets: Vec<i64>,
    /// Rows of a pipeline that stores none, with their offsets: for whoever watches.
    pub unstored: Option<(RecordBatch, Vec<i64>)>,
    /// Records that are not to be stored, since a filter step removed them or the pipeline stores no rows: as offset ranges
    /// that ascend and do not touch.
    pub filtered: Vec<Range<i64>>,
    /// Records that could not be decoded or processed.
    pub dead: Vec<DeadLetter>,
    /// Window rows to insert or replace.
    pub windows: Vec<WindowRow>,
    /// Alert transitions.
    pub alerts: Vec<AlertTransition>,
    /// Records that a window did not take.
    pub missed: Vec<MissedRecord>,
    /// Offsets of the records too far ahead of their log timestamp: stored, and counted by no rule, window or figure.
    pub ahead: Vec<i64>,
    /// What the stored rows add to the aggregates per minute of event time, ascending.
    pub minutes: Vec<MinuteDelta>,
    /// The newest event time of each key among the stored rows, each key once.
    pub seen: Vec<(String, i64)>,
    /// No record up to here that counts has a later event time, in milliseconds since 1970; `NO_WATERMARK` if nobody knows.
    pub newest_event_ms: i64,
    /// Records whose condition held for a key that a full rule could not take on; each is an alert that may be missing.
    pub refused_keys: u64,
    /// State to store with the position, when due: chunks that changed since the last checkpoint.
    pub checkpoint: Vec<StateChunk>,
}

impl Output {
    /// An output at `position` without effects; `schema` is that of its rows.
    #[must_use]
    pub fn empty(topic: Arc<str>, partition: i32, position: i64, schema: SchemaRef) -> Self {
        Self {
            topic,
            partition,
            start: position,
            end: position,
            rows: RecordBatch::new_empty(schema),
            offsets: Vec::new(),
            unstored: None,
            filtered: Vec::new(),
            dead: Vec::new(),
            windows: Vec::new(),
            alerts: Vec::new(),
            missed: Vec::new(),
            ahead: Vec::new(),
            minutes: Vec::new(),
            seen: Vec::new(),
            newest_event_ms: NO_WATERMARK,
            refused_keys: 0,
            checkpoint: Vec::new(),
        }
    }

    /// The rows that came through all steps, and their offsets.
    #[must_use]
    pub fn shown(&self) -> (&RecordBatch, &[i64]) {
        self.unstored.as_ref().map_or((&self.rows, &self.offsets), |(rows, offsets)| (rows, offsets))
    }

    /// Records whose effects these are.
    #[must_use]
    pub fn records(&self) -> usize {
        self.offsets.len() + self.dead.len() + usize::try_from(self.filtered_records()).unwrap_or(0)
    }

    /// Records that are not to be stored.
    #[must_use]
    pub fn filtered_records(&self) -> i64 {
        self.filtered.iter().map(|range| range.end - range.start).sum()
    }

    /// Times that a window missed a record for that reason.
    #[must_use]
    pub fn missed_records(&self, why: Missed) -> u64 {
        self.missed.iter().filter(|missed| missed.why == why).count() as u64
    }

    /// The same effects without some rows (indexes, ascending), which are dead letters instead. The figures per minute
    /// and per key are those of the rows that stay; windows and alerts are left as they are, since the records went
    /// through them.
    ///
    /// # Panics
    /// If `key` or `columns` are not columns of the rows.
    #[must_use]
    pub fn without_rows(&self, refused: &[usize], letters: Vec<DeadLetter>, key: usize, columns: StatColumns) -> Self {
        let stays: BooleanArray =
            (0..self.offsets.len()).map(|row| Some(refused.binary_search(&row).is_err())).collect();
        let rows = filter_record_batch(&self.rows, &stays).expect("the mask is as long as the batch");
        let offsets: Vec<i64> =
            (0..self.offsets.len()).filter(|row| stays.value(*row)).map(|row| self.offsets[row]).collect();
        let mut dead = self.dead.clone();
        dead.extend(letters);
        dead.sort_by_key(|letter| letter.offset);
        let counted = on_time(&rows, &offsets, &self.ahead);
        Self {
            minutes: minute_deltas(&counted, columns),
            seen: last_seen(&counted, key, columns.event_time),
            rows,
            offsets,
            dead,
            ..self.clone()
        }
    }
}

/// A record that left the stream, with its bytes exactly as they were.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    pub offset: i64,
    pub log_timestamp_ms: i64,
    pub class: ErrorClass,
    /// What was wrong, at most 1 KiB, without the payload.
    pub reason: String,
    /// Where it failed: `decode`, or a step's name.
    pub stage: String,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl DeadLetter {
    /// Bytes of the record.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + length(value)).sum();
        length(&self.key) + length(&self.value) + headers
    }
}

/// Why a record is a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// Bytes that the schema cannot read.
    Decode,
    /// Readable, but against the schema's rules (missing field, wrong type, unknown symbol, range).
    Contract,
    /// Refused for good by a target.
    Permanent,
    /// Failed twice when processed alone.
    Poison,
}

/// One row of a window's table; replaces the row with the same key.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowRow {
    /// The window's name: its table.
    pub window: Arc<str>,
    pub start_ms: i64,
    pub end_ms: i64,
    /// Values of the `group_by` columns, in their order.
    pub group: Vec<Scalar>,
    /// Values of the `select` columns and of the mergeable columns behind them, in the order of `WindowPlan::columns`.
    pub values: Vec<Scalar>,
    /// Columns whose value is beyond the range of its type: they are null in `values`.
    pub overflow: Vec<String>,
    /// 0 when first emitted, + 1 for each update by a late record.
    pub revision: i64,
}

/// A step in the life of an alert.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertTransition {
    /// Stable id: hash of rule, partition, key and the offset that opened it.
    pub alert_id: String,
    /// 0 for firing, then ascending.
    pub n: i64,
    pub rule: Arc<str>,
    pub severity: Arc<str>,
    pub state: AlertState,
    /// The stream's key of the record, as text; none where it is null.
    pub key: Option<String>,
    /// The record that caused the transition, as JSON of its columns.
    pub record: serde_json::Value,
    pub message: String,
    /// Event time of the record that caused it.
    pub event_time_ms: i64,
    /// Offset of the record that caused it.
    pub offset: i64,
}

/// State of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    Firing,
    Resolved,
}

/// Why a window did not take a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// It came after the window's allowed lateness.
    Late,
    /// Its event time is too far ahead of its log timestamp.
    Ahead,
    /// The window step's state had no room for another group.
    Full,
    /// The window had begun before the step: it would have been a part of a window.
    Begun,
}

/// A record that missed a window.
#[derive(Debug, Clone, PartialEq)]
pub struct MissedRecord {
    pub window: Arc<str>,
    pub why: Missed,
    pub offset: i64,
    pub event_time_ms: i64,
    pub window_start_ms: i64,
    pub watermark_ms: i64,
}

/// A piece of a partition's state, opaque to the store.
#[derive(Debug, Clone, PartialEq)]
pub struct StateChunk {
    /// Unique within the partition, such as `window/aggregated_metrics`.
    pub name: Arc<str>,
    /// Versioned, length-checked encoding.
    pub bytes: Vec<u8>,
}
