//! What a partition's log needs beside appends: new segments, syncing, retention, removal.
//!
//! Work that may block on the disk is returned as a [`Flush`] to be run without the log's lock.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::files::{self, Durability};
use super::recovery::encode_snapshot;
use super::reservation::{RESERVE_AHEAD, Reservation};
use super::segment::{Segment, segment_path};
use super::{PartitionLog, State};
use crate::Fsync;

/// Files to sync and small files to write after them.
#[derive(Debug, Default)]
pub(crate) struct Flush {
    files: Vec<Arc<File>>,
    writes: Vec<(PathBuf, Vec<u8>)>,
}

impl Flush {
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.writes.is_empty()
    }

    /// Syncs, then writes the index files: their presence says that the segment is on the disk.
    ///
    /// # Errors
    /// What the file system says.
    pub fn run(self) -> io::Result<()> {
        for file in &self.files {
            file.sync_data()?;
        }
        for (path, content) in &self.writes {
            match files::replace(path, content, Durability::Cached) {
                // The folder was removed with its topic.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }
}

/// When records of a topic are removed; `None` means never for that reason. A record's age counts
/// from its append or its own time, whichever is later, so that history that is loaded today stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retention {
    pub max_age_ms: Option<i64>,
    pub max_bytes: Option<u64>,
    /// Age at which a segment that is written to is closed.
    pub segment_ms: i64,
}

impl PartitionLog {
    /// Begins a new segment at the next offset.
    pub(super) fn roll(&mut self) -> io::Result<()> {
        let base = self.next_offset;
        if self.active().base == base {
            return Ok(());
        }
        let fresh = Segment::open(&self.dir, base)?;
        let old = self.active();
        let (old_base, old_file) = (old.base, old.file.clone());
        old.index.shrink();
        match self.fsync {
            Fsync::EveryBatch => old_file.sync_data()?,
            Fsync::Interval(_) => self.pending.files.push(old_file),
            Fsync::Never => {}
        }
        self.segments.push(fresh);
        self.enqueue_seal(old_base);
        let snapshot = encode_snapshot(&self.producers);
        let path = segment_path(&self.dir, base, "producers");
        self.pending.writes.push((path, snapshot));
        Ok(())
    }

    pub(super) fn enqueue_seal(&mut self, base: i64) {
        if let Some(segment) = self.segments.iter().find(|s| s.base == base) {
            let path = segment_path(&self.dir, base, "index");
            self.pending.writes.push((path, segment.sealed().encode()));
        }
    }

    /// As [`Self::enqueue_seal`], after forcing the segment itself to the disk.
    pub(super) fn enqueue_unsynced(&mut self, base: i64) {
        if let Some(segment) = self.segments.iter().find(|s| s.base == base)
            && self.fsync != Fsync::Never
        {
            self.pending.files.push(segment.file.clone());
        }
        self.enqueue_seal(base);
    }

    /// Everything that is not on the disk yet, to be run without the lock.
    pub fn take_flush(&mut self) -> Flush {
        let mut flush = std::mem::take(&mut self.pending);
        if std::mem::take(&mut self.is_dirty) && self.fsync != Fsync::Never {
            let file = self.active().file.clone();
            flush.files.push(file);
        }
        flush
    }

    /// The file to sync before an acknowledgement.
    pub fn file_to_sync(&mut self) -> Arc<File> {
        self.active().file.clone()
    }

    /// Takes no more records: what the file holds is not known any more.
    pub fn make_read_only(&mut self) {
        self.state = State::ReadOnly;
    }

    pub(super) fn reserve_to(&mut self, mark: i64) -> io::Result<()> {
        self.reservation.lock().set(mark)?;
        self.reserved = self.reserved.max(mark);
        Ok(())
    }

    /// A mark to set without the lock before the present one is reached.
    pub fn reservation_due(&self) -> Option<(Arc<Mutex<DurableMark>>, i64)> {
        let is_due = self.next_offset + RESERVE_AHEAD / 2 > self.reserved;
        (is_due && self.state == State::Open).then(|| (self.reservation.clone(), self.next_offset + RESERVE_AHEAD))
    }

    /// Takes note of a mark that was set.
    pub fn note_reserved(&mut self, mark: i64) {
        self.reserved = self.reserved.max(mark);
    }

    /// Syncs everything and gives back the offsets that were reserved ahead.
    ///
    /// # Errors
    /// What the file system says.
    pub fn close(&mut self) -> io::Result<()> {
        if self.state != State::Open {
            return Ok(());
        }
        std::mem::take(&mut self.pending).run()?;
        let file = self.active().file.clone();
        file.sync_data()?;
        self.is_dirty = false;
        self.reserved = self.next_offset;
        self.reservation.lock().set(self.next_offset)
    }

    /// Removes what the topic's retention no longer keeps; segments removed.
    ///
    /// # Errors
    /// What the file system says.
    pub fn retain(&mut self, retention: &Retention, now_ms: i64) -> io::Result<usize> {
        if self.state != State::Open {
            return Ok(0);
        }
        self.producers.expire(now_ms);
        let expired = |s: &Segment| match (retention.max_age_ms, s.newest_ms()) {
            (Some(age_ms), Some(newest_ms)) => newest_ms < now_ms - age_ms,
            _ => false,
        };
        let active = self.active();
        let is_old = active.begun_ms.is_some_and(|begun| begun < now_ms - retention.segment_ms);
        if active.size > 0 && (is_old || expired(active)) {
            self.roll()?;
        }
        let mut excess = match retention.max_bytes {
            Some(limit) => self.size_bytes().saturating_sub(limit),
            None => 0,
        };
        let complete = &self.segments[..self.segments.len() - 1];
        let doomed = complete.iter().take_while(|s| {
            let is_too_much = excess >= s.size && excess > 0;
            if is_too_much {
                excess -= s.size;
            }
            is_too_much || expired(s) || s.next_offset <= self.start_offset
        });
        let count = doomed.count();
        self.drop_first(count)
    }

    /// Forgets the records below an offset; the new start of the log.
    ///
    /// # Errors
    /// What the file system says.
    pub fn delete_before(&mut self, offset: i64) -> io::Result<i64> {
        self.start_offset = self.start_offset.max(offset.min(self.next_offset));
        let start = self.start_offset;
        let complete = &self.segments[..self.segments.len() - 1];
        let count = complete.iter().take_while(|s| s.next_offset <= start).count();
        self.drop_first(count)?;
        Ok(self.start_offset)
    }

    fn drop_first(&mut self, count: usize) -> io::Result<usize> {
        for segment in self.segments.drain(..count) {
            for extension in ["producers", "index", "log"] {
                let path = segment_path(&self.dir, segment.base, extension);
                match std::fs::remove_file(path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
        }
        self.start_offset = self.start_offset.max(self.segments[0].base);
        Ok(count)
    }

    /// Removes the folder; readers that hold a file may finish.
    ///
    /// # Errors
    /// What the file system says.
    pub fn delete(&mut self) -> io::Result<()> {
        self.state = State::Deleted;
        self.pending = Flush::default();
        std::fs::remove_dir_all(&self.dir)
    }

    pub fn is_deleted(&self) -> bool {
        self.state == State::Deleted
    }

    /// Bytes of memory that the indexes take.
    pub fn index_bytes(&self) -> usize {
        self.segments.iter().map(|s| s.index.memory_bytes()).sum()
    }
}

/// The file of reserved marks, shared with the work that sets them.
pub(crate) type DurableMark = Reservation;
