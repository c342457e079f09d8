//! The log of one partition: append, read by offset and time, recover, expire.
//!
//! It knows batches, not topics, clients or tasks; one lock around it makes it safe to share.
//!
//! Invariants:
//! - a batch is handed to the operating system before its offset is told to anyone;
//! - offsets grow and are never given twice, whatever happens to the machine ([`reservation`]);
//! - a failed write leaves the log as it was, or read-only.
//!
//! Start with [`PartitionLog::append`], then `reader.rs`, `upkeep.rs` and `compact/`.

pub(crate) mod batch;
pub(crate) mod codec;
mod compact;
pub(crate) mod damage;
pub(crate) mod files;
mod health;
mod index;
pub(crate) mod produced;
pub(crate) mod producers;
mod reader;
pub(crate) mod records;
mod recovery;
mod repair;
mod reservation;
mod scan;
mod scrub;
mod segment;
pub(crate) mod slice;
#[cfg(test)]
pub(crate) mod tests;
mod upkeep;
pub(crate) mod varint;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Code, KResult};
use batch::{BatchHeader, HEADER_BYTES, Marker};
use compact::Compaction;
pub(crate) use compact::{Compacted, CompactionRules, compact};
use damage::LostRanges;
pub(crate) use health::Ill;
use health::Refusal;
use produced::Produced;
use producers::{Producers, Verdict};
pub(crate) use reader::TimedOffset;
use recovery::{Recovered, Trust};
pub(crate) use reservation::BootId;
use reservation::{Found, RESERVE_AHEAD, Reservation};
pub(crate) use scrub::scrub;
pub(crate) use segment::{Oversized, ReadBatches, ReadRange};
use segment::{Segment, WriteFailure};
pub(crate) use slice::Records;
use upkeep::Flush;
pub(crate) use upkeep::Retention;

/// How a log is opened.
#[derive(Debug, Clone)]
pub(crate) struct LogOptions {
    pub boot: BootId,
    pub fsync: crate::Fsync,
    /// Offset below which records were deleted by request.
    pub start_offset: i64,
    /// What the topic's batches may open to.
    pub max_opened_bytes: usize,
}

/// Topic settings that decide about one append.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AppendRules {
    pub segment_bytes: u64,
    pub now_ms: i64,
    pub timestamps: Timestamps,
}

/// Whose clock the records of a topic carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timestamps {
    Producer,
    Append,
}

/// Where a batch is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    pub base_offset: i64,
    /// -1 when the producer's time stands.
    pub append_time_ms: i64,
}

/// Whether a log takes records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The file system failed in a way that leaves the end of the file unknown.
    ReadOnly,
    Deleted,
}

/// One partition's records.
#[derive(Debug)]
pub(crate) struct PartitionLog {
    dir: PathBuf,
    fsync: crate::Fsync,
    /// Ascending, never empty; the last is written to.
    segments: Vec<Segment>,
    next_offset: i64,
    start_offset: i64,
    producers: Producers,
    reservation: Arc<Mutex<Reservation>>,
    /// Offsets below are covered by a durable mark.
    reserved: i64,
    state: State,
    pending: Flush,
    is_dirty: bool,
    compaction: Compaction,
    lost: LostRanges,
    max_opened_bytes: usize,
    /// The last append, if the file system refused it.
    refused: Option<Refusal>,
}

impl PartitionLog {
    /// Opens or creates the log in a folder and recovers its end.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(dir: &Path, options: LogOptions) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let (reservation, found) = Reservation::open(dir, options.boot)?;
        let never = options.fsync == crate::Fsync::Never;
        let trust = match found {
            Found::OtherBoot(_) | Found::Damaged if never => Trust::Nothing,
            Found::SameBoot(_) | Found::OtherBoot(_) | Found::Damaged | Found::Nothing => Trust::IndexFiles,
        };
        let max_opened_bytes = options.max_opened_bytes.max(codec::MAX_OPENED_BYTES);
        let recovered = recovery::recover(dir, trust, found, max_opened_bytes)?;
        if recovered.torn_bytes > 0 {
            let torn_bytes = recovered.torn_bytes;
            tracing::warn!(dir = %dir.display(), torn_bytes, "cut a torn batch off the log");
        }
        let mut log = Self::assemble(dir, options.fsync, recovered, reservation);
        log.max_opened_bytes = max_opened_bytes;
        log.start_offset = log.segments[0].base.max(options.start_offset);
        log.resume(found)?;
        Ok(log)
    }

    fn assemble(dir: &Path, fsync: crate::Fsync, recovered: Recovered, reservation: Reservation) -> Self {
        let last = recovered.segments.last().expect("recovery yields one");
        let mut log = Self {
            dir: dir.to_owned(),
            fsync,
            next_offset: last.next_offset,
            start_offset: 0,
            segments: recovered.segments,
            producers: recovered.producers,
            reservation: Arc::new(Mutex::new(reservation)),
            reserved: 0,
            state: State::Open,
            pending: Flush::default(),
            // What an earlier process wrote may not be on the disk yet.
            is_dirty: true,
            compaction: Compaction::read(dir),
            lost: recovered.lost,
            max_opened_bytes: codec::MAX_OPENED_BYTES,
            refused: None,
        };
        for base in recovered.unsealed {
            log.enqueue_unsynced(base);
        }
        log
    }

    /// Goes on at the end of the log, or at the mark where records may have been lost.
    fn resume(&mut self, found: Found) -> io::Result<()> {
        match found {
            Found::Nothing => self.reserve_to(self.next_offset + RESERVE_AHEAD)?,
            Found::SameBoot(mark) => self.reserved = mark.offset(),
            Found::OtherBoot(mark) => self.jump_to(mark.offset())?,
            Found::Damaged => self.jump_to(self.next_offset + RESERVE_AHEAD)?,
        }
        Ok(())
    }

    /// Skips the offsets below a mark. An empty batch stands for them, so that a reader at the last record gets to the
    /// end of the log.
    fn jump_to(&mut self, mark: i64) -> io::Result<()> {
        self.reserved = self.next_offset;
        if mark > self.next_offset {
            self.reserved = mark;
            let filled = batch::empty(self.next_offset, mark - 1)
                .is_some_and(|(header, bytes)| self.write((&header, 0), &bytes, &[]).is_ok());
            if !filled {
                tracing::warn!(dir = %self.dir.display(), "a gap at the log's end: clients may wait for what is in it");
                self.next_offset = mark;
                self.roll()?;
            }
        }
        Ok(())
    }

    /// Appends a batch.
    ///
    /// # Errors
    /// `KafkaStorageError` when the file system refuses (the log is unchanged), and those of
    /// [`Producers::check`].
    pub fn append(&mut self, produced: &Produced<'_>, rules: &AppendRules) -> KResult<Appended> {
        let header = &produced.header;
        if header.producer_id >= 0
            && let Verdict::Duplicate { base_offset, append_time_ms } = self.producers.check(header)?
        {
            return Ok(Appended { base_offset, append_time_ms });
        }
        let mut placed = *header;
        placed.base_offset = self.make_room(header, rules)?;
        let (mut patched, records) = produced.placed_at(placed.base_offset);
        let append_time_ms = match rules.timestamps {
            Timestamps::Producer => -1,
            Timestamps::Append => {
                batch::stamp(&mut patched, records, rules.now_ms);
                placed.max_timestamp_ms = rules.now_ms;
                rules.now_ms
            }
        };
        self.write((&placed, produced.facts.opened_bytes), &patched, records)?;
        self.active().touch(rules.now_ms);
        if placed.producer_id >= 0 {
            self.producers.note_batch(&placed, append_time_ms, rules.now_ms);
        }
        Ok(Appended { base_offset: placed.base_offset, append_time_ms })
    }

    /// Ends a producer's transaction in this partition.
    ///
    /// # Errors
    /// `KafkaStorageError`, as [`Self::append`].
    pub fn append_marker(&mut self, producer: (i64, i16), kind: Marker, rules: &AppendRules) -> KResult<i64> {
        let bytes = batch::marker(producer.0, producer.1, kind, rules.now_ms);
        let mut placed = BatchHeader::parse(&bytes).expect("built with a whole header");
        placed.base_offset = self.make_room(&placed, rules)?;
        let patched = batch::with_base_offset(&bytes, placed.base_offset);
        let records = &bytes[HEADER_BYTES..];
        self.write((&placed, records.len()), &patched, records)?;
        self.active().touch(rules.now_ms);
        let aborted = self.producers.note_marker(&placed, kind, rules.now_ms);
        self.active().aborted.extend(aborted);
        Ok(placed.base_offset)
    }

    /// The offset for the next batch, in a segment and a reservation that have room for it.
    fn make_room(&mut self, header: &BatchHeader, rules: &AppendRules) -> KResult<i64> {
        match self.state {
            State::Open => {}
            State::ReadOnly => return Err(Code::KafkaStorageError),
            State::Deleted => return Err(Code::UnknownTopicOrPartition),
        }
        let base = self.next_offset;
        let after = base + i64::from(header.last_offset_delta) + 1;
        let active = self.active();
        let is_full =
            active.size + header.total_bytes as u64 > rules.segment_bytes || after - active.base > i64::from(i32::MAX);
        if active.size > 0 && is_full {
            self.roll().map_err(|error| self.refuse(&error))?;
        }
        if after > self.reserved {
            self.reserve_to(after + RESERVE_AHEAD).map_err(|error| self.refuse(&error))?;
        }
        Ok(base)
    }

    /// Writes a batch whose records open to that many bytes.
    fn write(&mut self, (header, opened_bytes): (&BatchHeader, usize), patched: &[u8], records: &[u8]) -> KResult<()> {
        match self.active().append(patched, records) {
            Ok(()) => self.refused = None,
            Err(WriteFailure::Undone(error)) => return Err(self.refuse(&error)),
            Err(WriteFailure::Broken(error)) => {
                tracing::error!(%error, "append failed and could not be undone: log is read-only");
                self.state = State::ReadOnly;
                return Err(Code::KafkaStorageError);
            }
        }
        self.active().note(header, opened_bytes);
        self.next_offset = header.last_offset() + 1;
        self.is_dirty = true;
        Ok(())
    }

    fn active(&mut self) -> &mut Segment {
        self.segments.last_mut().expect("a log has a segment")
    }

    /// Offset that the next record gets.
    pub fn high_watermark(&self) -> i64 {
        self.next_offset
    }

    /// Offset of the oldest record that is kept.
    pub fn start_offset(&self) -> i64 {
        self.start_offset
    }

    /// Offset up to which all transactions have ended; not below the log's start.
    pub fn last_stable_offset(&self) -> i64 {
        self.producers.first_open_offset().unwrap_or(self.next_offset).max(self.start_offset)
    }

    /// Offsets that were lost to damage.
    pub fn lost(&self) -> &LostRanges {
        &self.lost
    }

    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    /// Files that are open: one of each segment, and that of the marks.
    pub fn open_files(&self) -> usize {
        self.segments.len() + 1
    }

    /// Bytes in all segments.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.size).sum()
    }
}
