//! What a partition's log needs beside appends: new segments, syncing, retention, removal.
//!
//! Work that may block on the disk is returned as a [`Flush`] to be run without the log's lock, one at a time.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::files::{self, Durability};
use super::recovery::encode_snapshot;
use super::reservation::{Mark, RESERVE_AHEAD, Reservation};
use super::segment::{Segment, segment_path};
use super::{PartitionLog, State};
use crate::Fsync;

/// The files that a segment may have, in the order of their removal.
const EXTENSIONS: [&str; 3] = ["producers", "index", "log"];

/// Files to remove, files to sync, and small files to write after them.
#[derive(Debug, Default)]
pub(crate) struct Flush {
    removals: Vec<PathBuf>,
    files: Vec<Arc<File>>,
    writes: Vec<(PathBuf, Vec<u8>)>,
    /// The folder, when it has names that may not be on the disk.
    dir: Option<PathBuf>,
}

impl Flush {
    #[cfg(test)]
    pub fn files(&self) -> &[Arc<File>] {
        &self.files
    }

    /// Syncs, then writes the index files: their presence says that the segment is on the disk. One that cannot be
    /// written is made again when the log is opened; a file that cannot be removed is found again then.
    ///
    /// # Errors
    /// What the file system says to a sync.
    pub fn run(self) -> io::Result<()> {
        for path in &self.removals {
            warn_of(path, std::fs::remove_file(path));
        }
        for file in &self.files {
            file.sync_data()?;
        }
        if let Some(dir) = &self.dir {
            match files::sync_dir(dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        for (path, content) in &self.writes {
            warn_of(path, files::replace(path, content, Durability::Cached));
        }
        Ok(())
    }

    /// Has the files of a segment removed, and none of them written any more.
    pub(super) fn remove(&mut self, dir: &Path, base: i64) {
        for extension in EXTENSIONS {
            let path = segment_path(dir, base, extension);
            self.writes.retain(|(written, _)| *written != path);
            self.removals.push(path);
        }
    }
}

/// Tells of a failure, unless it is that the file or its folder is gone.
fn warn_of(path: &Path, outcome: io::Result<()>) {
    if let Err(error) = outcome
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a file cannot be written or removed");
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
            Fsync::EveryBatch => {
                let synced = old_file.sync_data().and_then(|()| files::sync_dir(&self.dir));
                synced.inspect_err(|_| self.make_read_only())?;
            }
            Fsync::Interval(_) => {
                self.pending.files.push(old_file);
                self.pending.dir = Some(self.dir.clone());
            }
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
        if self.state == State::Open {
            self.state = State::ReadOnly;
        }
    }

    pub fn is_read_only(&self) -> bool {
        self.state == State::ReadOnly
    }

    pub(super) fn reserve_to(&mut self, mark: i64) -> io::Result<()> {
        self.reservation.lock().set(Mark::Ahead(mark))?;
        self.reserved = self.reserved.max(mark);
        Ok(())
    }

    /// A mark to set without the lock before the present one is reached.
    pub fn reservation_due(&self) -> Option<(Arc<Mutex<DurableMark>>, Mark)> {
        let is_due = self.next_offset + RESERVE_AHEAD / 2 > self.reserved;
        (is_due && self.state == State::Open)
            .then(|| (self.reservation.clone(), Mark::Ahead(self.next_offset + RESERVE_AHEAD)))
    }

    /// Takes note of a mark that was set.
    pub fn note_reserved(&mut self, mark: Mark) {
        self.reserved = self.reserved.max(mark.offset());
    }

    /// Syncs everything and gives back the offsets that were reserved ahead; no flush may be running.
    ///
    /// # Errors
    /// What the file system says.
    pub fn close(&mut self) -> io::Result<()> {
        if self.state != State::Open {
            return Ok(());
        }
        let flushed = std::mem::take(&mut self.pending).run();
        let synced = flushed.and_then(|()| self.active().file.sync_data());
        synced.inspect_err(|_| self.make_read_only())?;
        self.is_dirty = false;
        self.reserved = self.next_offset;
        let mark = Mark::End { end: self.next_offset, start: self.segments[0].base };
        self.reservation.lock().set(mark)
    }

    /// Removes what the topic's retention no longer keeps; segments removed. Their files go with the next flush.
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
        Ok(self.drop_first(count))
    }

    /// Forgets the records below an offset; the new start of the log. Files go with the next flush.
    ///
    /// # Errors
    /// None that is known of.
    pub fn delete_before(&mut self, offset: i64) -> io::Result<i64> {
        self.start_offset = self.start_offset.max(offset.min(self.next_offset));
        let start = self.start_offset;
        let complete = &self.segments[..self.segments.len() - 1];
        let count = complete.iter().take_while(|s| s.next_offset <= start).count();
        self.drop_first(count);
        Ok(self.start_offset)
    }

    /// Drops the first segments, except those of which a compaction is putting another in the place.
    fn drop_first(&mut self, count: usize) -> usize {
        let upto = self.compaction.swapped_from.unwrap_or(i64::MAX);
        let count = self.segments[..count].partition_point(|s| s.base < upto);
        for segment in self.segments.drain(..count) {
            self.pending.remove(&self.dir, segment.base);
        }
        self.start_offset = self.start_offset.max(self.segments[0].base);
        count
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
