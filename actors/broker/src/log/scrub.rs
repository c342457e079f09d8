//! Reading complete segments once after the log was opened, beside everything else.
//!
//! At open an index file that tells of the same file is enough, as reading a large log takes long. Damage that neither
//! size nor time of the file shows is found here, or when a reader or compaction meets it ([`PartitionLog::doubt`]).
//! Until then a reader may be sent a damaged batch; clients compare checksums where they are told to.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;

use super::compact::{self, CompactionError, Source};
use super::repair::Damaged;
use super::scan::{Bounds, End, Flaw, Holes, Lost, scan};
use super::segment::Segment;
use super::{PartitionLog, State};

/// Reads what has not been read since the log was opened, and repairs what is damaged; blocks. No compaction may run
/// meanwhile.
///
/// # Errors
/// What the file system says.
pub(crate) fn scrub(log: &Mutex<PartitionLog>, now_ms: i64, stop: &AtomicBool) -> Result<(), CompactionError> {
    while !compact::is_stopped(stop) {
        let Some((dir, source)) = log.lock().next_unchecked() else { return Ok(()) };
        let outcome = scrub_one(log, &dir, &source, now_ms);
        log.lock().note_checked(&source);
        outcome?;
    }
    Ok(())
}

fn scrub_one(log: &Mutex<PartitionLog>, dir: &Path, source: &Source, now_ms: i64) -> Result<(), CompactionError> {
    let holes = if compact::has_begun(dir) { Holes::Possible } else { Holes::None };
    let max_opened_bytes = log.lock().max_opened_bytes;
    let bounds = Bounds { first: source.base, limit: source.next_offset, end: End::Known, holes, max_opened_bytes };
    let bytes_there = source.file.metadata()?.len().min(source.size);
    let scanned = scan(&source.file, bytes_there, bounds, |_, _, _| {})?;
    let mut lost = scanned.lost;
    let is_short = bytes_there < source.size || holes == Holes::None;
    let flaw = scanned.tail.or(is_short.then_some(Flaw::Missing));
    if let Some(flaw) = flaw.filter(|_| scanned.next_offset < source.next_offset) {
        let (at, bytes) = (scanned.size, bytes_there - scanned.size);
        lost.push(Lost { at, bytes, first: scanned.next_offset, upto: source.next_offset, flaw });
    }
    if lost.is_empty() {
        return Ok(());
    }
    let damaged = Damaged {
        dir,
        base: source.base,
        file: &source.file,
        lost: &lost,
        size: scanned.size,
        next_offset: source.next_offset,
    };
    let mut ranges = log.lock().lost.clone();
    let mut fresh = damaged.prepare(&mut ranges, now_ms)?;
    log.lock().lost = ranges;
    index(&mut fresh, source, bounds)?;
    let _swapped = compact::replace(log, dir, std::slice::from_ref(source), fresh)?;
    log.lock().compaction.resume();
    Ok(())
}

/// Makes the index of a repaired segment.
fn index(fresh: &mut Segment, source: &Source, bounds: Bounds) -> Result<(), CompactionError> {
    let file = fresh.file.clone();
    scan(&file, file.metadata()?.len(), bounds, |header, _, facts| fresh.note(header, facts.opened_bytes))?;
    fresh.next_offset = source.next_offset;
    fresh.aborted.clone_from(&source.aborted);
    fresh.written_ms = source.written_ms;
    Ok(())
}

impl PartitionLog {
    /// Has all complete segments read again: one of them may be damaged.
    pub fn doubt(&mut self) {
        let complete = self.segments.len() - 1;
        self.segments[..complete].iter_mut().for_each(|segment| segment.is_checked = false);
    }

    fn next_unchecked(&self) -> Option<(std::path::PathBuf, Source)> {
        let complete = &self.segments[..self.segments.len() - 1];
        let unchecked = complete.iter().find(|segment| !segment.is_checked && self.state == State::Open)?;
        Some((self.dir.clone(), Source::of(unchecked)))
    }

    fn note_checked(&mut self, source: &Source) {
        if let Some(segment) = self.segments.iter_mut().find(|segment| Arc::ptr_eq(&segment.file, &source.file)) {
            segment.is_checked = true;
        }
    }
}
