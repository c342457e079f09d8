//! The sparse index of one segment: by offset, by time, and by what readers have to open.
//!
//! An entry describes the stretch of batches from its position up to the next entry's: the largest time in it, and the
//! bytes that its records take when opened. It ends after [`INDEX_INTERVAL_BYTES`] of log or [`OPENED_INTERVAL_BYTES`]
//! opened, so that an answer can end before a reader has too much to open. Kept in memory (18 bytes per 4 KiB of log)
//! and written beside the segment once that is complete; a missing or damaged file is rebuilt from the segment.

use std::ops::Range;

use super::batch::BatchHeader;
use super::producers::AbortedTxn;

/// Bytes of log that one entry stands for, at least.
pub(crate) const INDEX_INTERVAL_BYTES: u64 = 4_096;
/// Opened bytes that one entry stands for, at most and one batch.
pub(crate) const OPENED_INTERVAL_BYTES: u64 = 1 << 20;
/// Unit in which the opened bytes of a stretch are kept.
const OPENED_UNIT_BYTES: u64 = 1 << 10;
/// Time of a stretch without records of data.
const NO_TIMESTAMP: i64 = i64::MIN;
const MAGIC: &[u8; 8] = b"swidx\0\0\x02";
const FIXED_BYTES: usize = 8 + 4 + 8 + 8 + 8 + 4 + 4;
const ENTRY_BYTES: usize = 18;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    /// Base offset of the stretch, relative to that of the segment.
    pub relative_offset: u32,
    pub position: u32,
    pub max_timestamp_ms: i64,
}

/// Entries in the order of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SparseIndex {
    entries: Vec<IndexEntry>,
    /// Opened bytes of each entry's stretch in units, rounded up; beside the entries, where they would take 8 bytes each.
    opened: Vec<u16>,
    /// Opened bytes of the last stretch.
    last_opened_bytes: u64,
}

impl SparseIndex {
    /// Adds the batch at `position`, whose records open to that many bytes; `header.base_offset` is the one it has in the
    /// log.
    pub fn note(&mut self, segment_base: i64, position: u64, (header, opened_bytes): (&BatchHeader, usize)) {
        let opened_bytes = opened_bytes as u64;
        let position = u32::try_from(position).unwrap_or(u32::MAX);
        // A search by time finds records of data alone.
        let has_data = header.record_count > 0 && !header.is_control();
        let max_timestamp_ms = if has_data { header.max_timestamp_ms } else { NO_TIMESTAMP };
        if let Some(last) = self.entries.last_mut()
            && u64::from(position - last.position) < INDEX_INTERVAL_BYTES
            && self.last_opened_bytes + opened_bytes <= OPENED_INTERVAL_BYTES
        {
            last.max_timestamp_ms = last.max_timestamp_ms.max(max_timestamp_ms);
            self.last_opened_bytes += opened_bytes;
            if let Some(units) = self.opened.last_mut() {
                *units = in_units(self.last_opened_bytes);
            }
            return;
        }
        self.last_opened_bytes = opened_bytes;
        self.opened.push(in_units(opened_bytes));
        let relative = header.base_offset - segment_base;
        self.entries.push(IndexEntry {
            relative_offset: u32::try_from(relative).unwrap_or(u32::MAX),
            position,
            max_timestamp_ms,
        });
    }

    /// Where to start reading for an offset relative to the segment.
    pub fn position_of(&self, relative_offset: i64) -> u64 {
        self.boundary_of(relative_offset).0
    }

    /// The stretch at which a reader between two positions has to stop that may open so many bytes: its position and
    /// relative offset; `None` where all of them are few enough.
    pub fn boundary_opened(&self, (start, end): (u64, u64), max_opened_bytes: u64) -> Option<(u64, i64)> {
        let mut opened_bytes = 0;
        for at in self.stretches(start, end) {
            opened_bytes += self.opened_bytes_of(at);
            if opened_bytes > max_opened_bytes {
                let entry = &self.entries[at];
                return Some((u64::from(entry.position), i64::from(entry.relative_offset)));
            }
        }
        None
    }

    /// What the stretches between two positions open to, the first one whole.
    pub fn opened_between(&self, start: u64, end: u64) -> u64 {
        self.stretches(start, end).map(|at| self.opened_bytes_of(at)).sum()
    }

    /// The stretches between two positions, the one that holds the first of them included.
    fn stretches(&self, start: u64, end: u64) -> Range<usize> {
        let first = self.entries.partition_point(|e| u64::from(e.position) <= start).saturating_sub(1);
        first..self.entries.partition_point(|e| u64::from(e.position) < end)
    }

    fn opened_bytes_of(&self, at: usize) -> u64 {
        self.opened.get(at).map_or(0, |units| u64::from(*units) * OPENED_UNIT_BYTES)
    }

    /// The last batch up to an offset of which it is known where it begins: its position and relative offset.
    pub fn boundary_of(&self, relative_offset: i64) -> (u64, i64) {
        self.boundary(self.entries.partition_point(|e| i64::from(e.relative_offset) <= relative_offset))
    }

    /// The last batch that is known to begin up to a position: its position and relative offset.
    pub fn boundary_up_to(&self, limit: u64) -> (u64, i64) {
        self.boundary(self.entries.partition_point(|e| u64::from(e.position) <= limit))
    }

    fn boundary(&self, after: usize) -> (u64, i64) {
        let entry = self.entries.get(after.saturating_sub(1));
        entry.map_or((0, 0), |e| (u64::from(e.position), i64::from(e.relative_offset)))
    }

    /// Where to start reading for the first batch at or after a time.
    pub fn position_of_time(&self, timestamp_ms: i64) -> Option<u64> {
        let entry = self.entries.iter().find(|e| e.max_timestamp_ms >= timestamp_ms)?;
        Some(u64::from(entry.position))
    }

    /// The largest time of a record; none without records.
    pub fn max_timestamp_ms(&self) -> Option<i64> {
        self.entries.iter().map(|e| e.max_timestamp_ms).max().filter(|newest| *newest != NO_TIMESTAMP)
    }

    /// Bytes of memory that the entries take.
    pub fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<IndexEntry>() + self.opened.capacity() * size_of::<u16>()
    }

    /// Gives back memory reserved for growth.
    pub fn shrink(&mut self) {
        self.entries.shrink_to_fit();
        self.opened.shrink_to_fit();
    }
}

fn in_units(bytes: u64) -> u16 {
    u16::try_from(bytes.div_ceil(OPENED_UNIT_BYTES)).unwrap_or(u16::MAX)
}

/// Everything that is written beside a complete segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SealedSegment {
    pub size: u64,
    /// When the file was last written, as the file system says: another time tells of another content.
    pub modified_ns: u64,
    /// Offset after the last record.
    pub next_offset: i64,
    pub index: SparseIndex,
    /// Aborted transactions whose marker is in this segment.
    pub aborted: Vec<AbortedTxn>,
}

impl SealedSegment {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_BYTES + self.index.entries.len() * ENTRY_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.size.to_be_bytes());
        out.extend_from_slice(&self.modified_ns.to_be_bytes());
        out.extend_from_slice(&self.next_offset.to_be_bytes());
        for len in [self.index.entries.len(), self.aborted.len()] {
            let len = u32::try_from(len).expect("a segment has fewer than 2^32 batches");
            out.extend_from_slice(&len.to_be_bytes());
        }
        for (entry, opened) in self.index.entries.iter().zip(&self.index.opened) {
            out.extend_from_slice(&entry.relative_offset.to_be_bytes());
            out.extend_from_slice(&entry.position.to_be_bytes());
            out.extend_from_slice(&entry.max_timestamp_ms.to_be_bytes());
            out.extend_from_slice(&opened.to_be_bytes());
        }
        for txn in &self.aborted {
            for field in [txn.producer_id, txn.first_offset, txn.last_offset] {
                out.extend_from_slice(&field.to_be_bytes());
            }
        }
        let crc = crc32c::crc32c(&out[12..]);
        out[8..12].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// Reads what [`Self::encode`] wrote; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (crc, rest) = rest.split_first_chunk::<4>()?;
        if crc32c::crc32c(rest) != u32::from_be_bytes(*crc) {
            return None;
        }
        let (size, rest) = rest.split_first_chunk::<8>()?;
        let (modified_ns, rest) = rest.split_first_chunk::<8>()?;
        let (next_offset, rest) = rest.split_first_chunk::<8>()?;
        let (entry_count, rest) = rest.split_first_chunk::<4>()?;
        let (aborted_count, rest) = rest.split_first_chunk::<4>()?;
        let entry_bytes = usize::try_from(u32::from_be_bytes(*entry_count)).ok()? * ENTRY_BYTES;
        let aborted_bytes = usize::try_from(u32::from_be_bytes(*aborted_count)).ok()? * 24;
        if rest.len() != entry_bytes + aborted_bytes {
            return None;
        }
        let (entries, aborted) = rest.split_at(entry_bytes);
        let (entries, _) = entries.as_chunks::<ENTRY_BYTES>();
        let entry = |c: &[u8; ENTRY_BYTES]| IndexEntry {
            relative_offset: u32::from_be_bytes([c[0], c[1], c[2], c[3]]),
            position: u32::from_be_bytes([c[4], c[5], c[6], c[7]]),
            max_timestamp_ms: long(c, 8),
        };
        let txn =
            |c: &[u8; 24]| AbortedTxn { producer_id: long(c, 0), first_offset: long(c, 8), last_offset: long(c, 16) };
        Some(Self {
            size: u64::from_be_bytes(*size),
            modified_ns: u64::from_be_bytes(*modified_ns),
            next_offset: i64::from_be_bytes(*next_offset),
            index: SparseIndex {
                entries: entries.iter().map(entry).collect(),
                opened: entries.iter().map(|c| u16::from_be_bytes([c[16], c[17]])).collect(),
                // Nothing is added to a complete segment.
                last_opened_bytes: 0,
            },
            aborted: aborted.as_chunks::<24>().0.iter().map(txn).collect(),
        })
    }
}

fn long(bytes: &[u8], at: usize) -> i64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    i64::from_be_bytes(field)
}

#[cfg(test)]
mod tests {
    use super::super::batch::tests::{NO_PRODUCER, batch};
    use super::*;

    fn index_of(batches: &[(i64, u64, i64)]) -> SparseIndex {
        let mut index = SparseIndex::default();
        for &(offset, position, time) in batches {
            let mut header = BatchHeader::parse(&batch(1, time, NO_PRODUCER)).unwrap();
            header.base_offset = offset;
            index.note(1_000, position, (&header, 10));
        }
        index
    }

    #[test]
    fn one_entry_stands_for_four_kilobytes() {
        let index = index_of(&[(1_000, 0, 5), (1_001, 100, 9), (1_002, 5_000, 7)]);
        assert_eq!(index.entries.len(), 2);
        assert_eq!(index.position_of(1), 0);
        assert_eq!(index.position_of(2), 5_000);
        assert_eq!([4_999, 5_000, 9_000].map(|limit| index.boundary_up_to(limit)), [(0, 0), (5_000, 2), (5_000, 2)]);
        assert_eq!(index.position_of_time(8), Some(0));
        assert_eq!(index.position_of_time(10), None);
        assert_eq!(index.max_timestamp_ms(), Some(9));
    }

    #[test]
    fn a_stretch_ends_after_what_readers_have_to_open_too() {
        let mut index = SparseIndex::default();
        let header = BatchHeader::parse(&batch(1, 5, NO_PRODUCER)).unwrap();
        for n in 0_i64..10 {
            let header = BatchHeader { base_offset: n, ..header };
            index.note(0, n.cast_unsigned() * 100, (&header, 600 << 10));
        }
        assert_eq!(index.entries.len(), 10, "two of them would be more than a mebibyte");
        assert_eq!(index.boundary_opened((0, 1_000), 1_900 << 10), Some((300, 3)));
        assert_eq!(index.boundary_opened((0, 300), 1_900 << 10), None);
        assert_eq!(index.boundary_opened((350, 1_000), 1 << 20), Some((400, 4)));
        assert_eq!(index.boundary_opened((350, 1_000), 1), Some((300, 3)), "not even the first");
        assert_eq!(index.boundary_opened((0, 1_000), 10 << 20), None);
        assert_eq!(index.opened_between(150, 300), 2 * (600 << 10));
    }

    #[test]
    fn a_sealed_segment_reads_back_and_damage_is_noticed() {
        let mut index = index_of(&[(1_000, 0, 5), (1_002, 5_000, 7)]);
        index.last_opened_bytes = 0;
        let sealed = SealedSegment {
            size: 9_000,
            modified_ns: 17,
            next_offset: 1_003,
            index,
            aborted: vec![AbortedTxn { producer_id: 1, first_offset: 2, last_offset: 3 }],
        };
        let mut bytes = sealed.encode();
        assert_eq!(SealedSegment::decode(&bytes), Some(sealed));
        for at in 0..bytes.len() {
            bytes[at] ^= 0x10;
            assert_eq!(SealedSegment::decode(&bytes), None, "byte {at}");
            bytes[at] ^= 0x10;
        }
        assert_eq!(SealedSegment::decode(&bytes[..bytes.len() - 1]), None);
    }
}
