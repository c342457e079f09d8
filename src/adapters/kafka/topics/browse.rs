//! A page of records: forward from offsets, or backward from them, filtered, within bounds.
//!
//! Backward, windows below the positions are read that grow until the page is full. Each partition's matches are taken
//! from its newest down, across partitions the newest first, so that a position stands for all that was taken.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::ControlFlow,
    time::{Duration, Instant},
};

use rdkafka::{Message, message::BorrowedMessage};
use streamward_core::ports::topics::{Bytes, LogBounds, LogRecord, RecordPage, RecordQuery, Scan, TopicError};

use super::{
    super::ffi::for_each_header,
    cursor::{self, Direction, Positions},
    errors::unavailable,
    reader::{ReadEnd, Reader, Window},
};

/// Most records that one request looks at.
pub const MAX_SCANNED: u64 = 20_000;
/// Most partitions that one request reads.
pub const MAX_PARTITIONS: usize = 100;
/// Bytes after which a page ends; it has one record at least.
const PAGE_BYTES: usize = 8 << 20;
/// Bytes of a key or value that a page shows.
const SHOWN_BYTES: usize = 128 << 10;
/// Bytes of a key or value that a page of one record shows.
const SHOWN_BYTES_ALONE: usize = 4 << 20;
/// How long one request may read.
const WITHIN: Duration = Duration::from_secs(6);

/// What to read, with the positions resolved.
pub struct Browse<'a> {
    pub reader: &'a Reader,
    pub query: &'a RecordQuery,
    pub bounds: &'a [LogBounds],
    pub positions: Positions,
}

/// Matches of one partition, oldest first.
#[derive(Default)]
struct Found {
    records: VecDeque<LogRecord>,
    bytes: usize,
    /// Whether older matches were let go.
    is_cut: bool,
}

/// By partition.
type Matches = BTreeMap<i32, Found>;

impl Found {
    fn push(&mut self, record: LogRecord, most: usize, most_bytes: usize) {
        self.bytes += size(&record);
        self.records.push_back(record);
        while self.records.len() > most || (self.bytes > most_bytes && self.records.len() > 1) {
            let gone = self.records.pop_front();
            self.bytes -= gone.as_ref().map_or(0, size);
            self.is_cut = true;
        }
    }

    /// Puts older matches before these.
    fn prepend(&mut self, older: Self) {
        if self.is_cut {
            return;
        }
        for record in older.records.into_iter().rev() {
            self.records.push_front(record);
        }
        self.is_cut = older.is_cut;
    }
}

impl Browse<'_> {
    /// The page this way.
    ///
    /// # Errors
    /// If the broker does not deliver in time, or at all.
    pub fn page(self, direction: Direction) -> Result<RecordPage, TopicError> {
        match direction {
            Direction::Newer => self.newer(),
            Direction::Older => self.older(),
        }
    }

    fn limit(&self) -> usize {
        self.query.limit as usize
    }

    fn total(&self) -> u64 {
        self.bounds.iter().map(LogBounds::records).sum()
    }

    fn newer(self) -> Result<RecordPage, TopicError> {
        let windows: Vec<Window> = self.bounds.iter().map(|log| self.window_above(log)).collect();
        let mut reached = self.positions.clone();
        let (mut records, mut bytes, mut scanned) = (Vec::new(), 0, 0);
        let mut visit = |message: &BorrowedMessage<'_>| {
            scanned += 1;
            reached.insert(message.partition(), message.offset() + 1);
            if self.matches(message) {
                let record = self.record(message);
                bytes += size(&record);
                records.push(record);
            }
            let is_full = records.len() >= self.limit() || bytes >= PAGE_BYTES || scanned >= MAX_SCANNED;
            if is_full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let end =
            self.reader.read(&self.query.topic, &windows, Instant::now() + WITHIN, &mut visit).map_err(unavailable)?;
        match end {
            ReadEnd::Complete => reached.extend(windows.iter().map(|window| (window.partition, window.to))),
            ReadEnd::TimedOut if scanned == 0 => return Err(too_slow()),
            ReadEnd::Enough | ReadEnd::TimedOut => {}
        }
        let is_complete = windows.iter().all(|window| reached.get(&window.partition) >= Some(&window.to));
        records.sort_by_key(|record: &LogRecord| (record.timestamp_ms, record.partition, record.offset));
        let range = |(partition, from): (&i32, &i64)| (*partition, *from, reached[partition]);
        let ranges = self.positions.iter().map(range).collect();
        Ok(RecordPage {
            records,
            total: self.total(),
            next: Some(cursor::text(Direction::Newer, &reached)),
            previous: cursor::text(Direction::Older, &self.positions),
            scan: Scan { records: scanned, ranges, is_complete },
        })
    }

    fn window_above(&self, log: &LogBounds) -> Window {
        let from = self.positions.get(&log.partition).copied().unwrap_or(log.start);
        Window { partition: log.partition, from, to: log.end.max(from) }
    }

    fn older(self) -> Result<RecordPage, TopicError> {
        let deadline = Instant::now() + WITHIN;
        let mut lower = self.positions.clone();
        let mut found = Matches::new();
        let (mut scanned, mut width) = (0, u64::from(self.query.limit));
        loop {
            let windows = self.windows_below(&lower, width, MAX_SCANNED - scanned);
            let (seen, matches) = match self.read_windows(&windows, deadline)? {
                Some(read) => read,
                None if lower == self.positions => return Err(too_slow()),
                None => break,
            };
            for (partition, older) in matches {
                found.entry(partition).or_default().prepend(older);
            }
            lower.extend(windows.iter().map(|window| (window.partition, window.from)));
            scanned += seen;
            let held: usize = found.values().map(|found| found.records.len()).sum();
            let is_out = found.values().any(|found| found.is_cut);
            if held >= self.limit() || is_out || scanned >= MAX_SCANNED || self.at_start(&lower) {
                break;
            }
            width = (width * 4).min(MAX_SCANNED);
        }
        Ok(self.taken(found, &lower, scanned))
    }

    fn at_start(&self, lower: &Positions) -> bool {
        self.bounds.iter().all(|log| lower.get(&log.partition).is_none_or(|lower| *lower <= log.start))
    }

    /// Up to `width` offsets below each position, fewer where all together would be more than `most`.
    fn windows_below(&self, lower: &Positions, width: u64, most: u64) -> Vec<Window> {
        let share = width.min(most / self.bounds.len().max(1) as u64).max(1);
        let share = i64::try_from(share).unwrap_or(i64::MAX);
        let window = |log: &LogBounds| {
            let to = lower.get(&log.partition).copied().unwrap_or(log.start);
            Window { partition: log.partition, from: (to - share).max(log.start).min(to), to }
        };
        self.bounds.iter().map(window).collect()
    }

    /// How many records were seen and what matched; `None` if the time was up before the end.
    fn read_windows(&self, windows: &[Window], deadline: Instant) -> Result<Option<(u64, Matches)>, TopicError> {
        let mut matches = Matches::new();
        let mut seen = 0;
        let most_bytes = PAGE_BYTES / windows.len().max(1);
        let mut visit = |message: &BorrowedMessage<'_>| {
            seen += 1;
            if self.matches(message) {
                let found = matches.entry(message.partition()).or_default();
                found.push(self.record(message), self.limit(), most_bytes);
            }
            ControlFlow::Continue(())
        };
        let end = self.reader.read(&self.query.topic, windows, deadline, &mut visit).map_err(unavailable)?;
        Ok((end == ReadEnd::Complete).then_some((seen, matches)))
    }

    /// The newest of what was found, and where that leaves each partition.
    fn taken(&self, mut found: Matches, lower: &Positions, scanned: u64) -> RecordPage {
        let (mut records, mut bytes) = (Vec::new(), 0);
        let mut lowest = self.positions.clone();
        while records.len() < self.limit() && bytes < PAGE_BYTES {
            let heads = found.iter().filter_map(|(partition, found)| Some((found.records.back()?, *partition)));
            let newest = heads.max_by_key(|(head, partition)| (head.timestamp_ms, head.offset, -partition));
            let Some(partition) = newest.map(|(_, partition)| partition) else { break };
            let Some(record) = found.get_mut(&partition).and_then(|found| found.records.pop_back()) else { break };
            lowest.insert(partition, record.offset);
            bytes += size(&record);
            records.push(record);
        }
        let mut reached = Positions::new();
        for (partition, below) in lower {
            let is_left = found.get(partition).is_some_and(|found| found.is_cut || !found.records.is_empty());
            reached.insert(*partition, if is_left { lowest[partition] } else { *below });
        }
        let is_complete = self.at_start(&reached);
        let range = |(partition, from): (&i32, &i64)| (*partition, *from, self.positions[partition]);
        RecordPage {
            records,
            total: self.total(),
            next: (!is_complete).then(|| cursor::text(Direction::Older, &reached)),
            previous: cursor::text(Direction::Newer, &self.positions),
            scan: Scan { records: scanned, ranges: reached.iter().map(range).collect(), is_complete },
        }
    }

    fn matches(&self, message: &BorrowedMessage<'_>) -> bool {
        if self.query.key.as_ref().is_some_and(|key| message.key() != Some(key)) {
            return false;
        }
        let Some(wanted) = &self.query.contains else { return true };
        let has = |bytes: Option<&[u8]>| bytes.is_some_and(|bytes| memchr::memmem::find(bytes, wanted).is_some());
        let in_headers = || headers_of(message).iter().any(|(_, value)| has(value.as_deref()));
        has(message.payload()) || has(message.key()) || in_headers()
    }

    fn record(&self, message: &BorrowedMessage<'_>) -> LogRecord {
        let most = if self.query.limit == 1 { SHOWN_BYTES_ALONE } else { SHOWN_BYTES };
        let cut = |bytes: &[u8]| Bytes { held: bytes[..bytes.len().min(most)].to_vec(), length: bytes.len() as u64 };
        LogRecord {
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key().map(cut),
            value: message.payload().map(cut),
            headers: headers_of(message),
        }
    }
}

fn headers_of(message: &BorrowedMessage<'_>) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut all = Vec::new();
    if let Some(headers) = message.headers() {
        for_each_header(headers, &mut |name, value| all.push((name.to_vec(), value.map(<[u8]>::to_vec))));
    }
    all
}

/// Bytes that a record takes in a page.
fn size(record: &LogRecord) -> usize {
    let part = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, |bytes| bytes.held.len());
    let headers = record.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len));
    part(&record.key) + part(&record.value) + headers.sum::<usize>()
}

fn too_slow() -> TopicError {
    TopicError::Busy(format!(
        "the broker did not deliver within {} s: ask for fewer records, or for one partition",
        WITHIN.as_secs()
    ))
}
