//! Reading a partition's log: by offset, by time, and which transactions a reader must skip.

use std::io;

use bytes::Bytes;

use super::PartitionLog;
use super::batch::BatchHeader;
use super::producers::AbortedTxn;
use super::records::record_at_or_after;
use super::segment::{Oversized, ReadBatches, ReadRange, Segment};
use super::slice::Records;

/// Batches without records that are put before others, at most and a segment's.
const MAX_PASSED_BYTES: usize = 16 << 10;

fn behind(mut passed: Vec<u8>, batches: Bytes) -> Records {
    if passed.is_empty() {
        return Records::Memory(batches);
    }
    passed.extend_from_slice(&batches);
    Records::Memory(passed.into())
}

/// An offset found by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimedOffset {
    pub offset: i64,
    pub timestamp_ms: i64,
}

/// The batch that holds the first record at or after a time; it is opened without the log.
#[derive(Debug)]
pub(crate) struct TimedBatch {
    timestamp_ms: i64,
    base_offset: i64,
    batch: Bytes,
    /// Offset of the oldest record that is kept.
    start_offset: i64,
}

impl TimedBatch {
    /// The record itself.
    pub fn record(&self) -> TimedOffset {
        let (delta, found_ms) = record_at_or_after(&self.batch, self.timestamp_ms);
        TimedOffset { offset: (self.base_offset + delta).max(self.start_offset), timestamp_ms: found_ms }
    }
}

impl PartitionLog {
    /// Whole batches of one segment, beginning with the one that holds `range.from`; segments before it that hold no
    /// records any more are passed over with it, since librdkafka takes ten answers without records for an error.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read(&self, mut range: ReadRange) -> io::Result<ReadBatches<Records>> {
        let mut passed = Vec::new();
        for segment in &self.segments[self.segment_of(range.from)..] {
            if segment.base.max(range.from) >= range.upto {
                break;
            }
            let inside = ReadRange { from: range.from.max(segment.base), ..range };
            if inside.from >= segment.next_offset {
                continue;
            }
            if passed.is_empty()
                && let Some(found) = segment.slice(inside)?
            {
                return Ok(found.map(Records::File));
            }
            let Some(found) = segment.read(inside)? else { continue };
            let is_empty = found.opened_bytes == 0 && !found.batches.is_empty();
            if !is_empty || passed.len() > MAX_PASSED_BYTES {
                return Ok(found.map(|batches| behind(passed, batches)));
            }
            passed.extend_from_slice(&found.batches);
            range.from = found.end_offset;
        }
        Ok(ReadBatches { batches: behind(passed, Bytes::new()), end_offset: range.from, opened_bytes: 0 })
    }

    /// Bytes that [`Self::read`] could return without a limit: an upper bound, found in memory.
    pub fn available_bytes(&self, from: i64, upto: i64) -> u64 {
        if from >= upto {
            return 0;
        }
        let first = self.segment_of(from);
        let after: u64 = self.segments[first + 1..].iter().map(|s| s.size).sum();
        self.segments[first].bytes_from(from) + after
    }

    /// Where the first record at or after a time is.
    ///
    /// # Errors
    /// What the file system says.
    pub fn batch_at_time(&self, timestamp_ms: i64) -> io::Result<Option<TimedBatch>> {
        for segment in &self.segments {
            let Some(position) = segment.index.position_of_time(timestamp_ms) else {
                continue;
            };
            let start = self.start_offset;
            let hit = segment.find(position, |h| {
                let matches = h.max_timestamp_ms >= timestamp_ms && h.last_offset() >= start;
                (matches && !h.is_control() && h.record_count > 0).then_some(*h)
            })?;
            if let Some(header) = hit {
                return self.timed_batch(segment, &header, timestamp_ms).map(Some);
            }
        }
        Ok(None)
    }

    /// Where the record with the largest time is.
    ///
    /// # Errors
    /// What the file system says.
    pub fn batch_of_max_time(&self) -> io::Result<Option<TimedBatch>> {
        let newest = self.segments.iter().filter_map(|s| s.index.max_timestamp_ms()).max();
        match newest {
            Some(timestamp_ms) => self.batch_at_time(timestamp_ms),
            None => Ok(None),
        }
    }

    fn timed_batch(&self, segment: &Segment, header: &BatchHeader, timestamp_ms: i64) -> io::Result<TimedBatch> {
        let found = segment.read(ReadRange {
            from: header.base_offset,
            upto: header.base_offset + 1,
            max_bytes: header.total_bytes,
            max_opened_bytes: 0,
            oversized_first: Oversized::Return,
        })?;
        let batch = found.map(|found| found.batches).unwrap_or_default();
        Ok(TimedBatch { timestamp_ms, base_offset: header.base_offset, batch, start_offset: self.start_offset })
    }

    /// Aborted transactions with records in a range of offsets.
    pub fn aborted_in(&self, from: i64, upto: i64) -> Vec<AbortedTxn> {
        self.segments
            .iter()
            .flat_map(|s| &s.aborted)
            .filter(|t| t.last_offset >= from && t.first_offset < upto)
            .copied()
            .collect()
    }

    /// Index of the segment that holds an offset, or the first after it.
    fn segment_of(&self, offset: i64) -> usize {
        self.segments.partition_point(|s| s.base <= offset).saturating_sub(1)
    }
}
