//! What becomes of each batch in a pass, and the segment that is written from what is left.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use super::keys::KeyMap;
use super::{AbortedIndex, CompactionError, Plan, Source, is_stopped, swap};
use crate::error::Code;
use crate::log::batch::{BatchHeader, HEADER_BYTES};
use crate::log::codec::MAX_OPENED_BYTES;
use crate::log::records::{RawRecord, Records, check, open, rebuild};
use crate::log::segment::{Batches, Segment, WriteFailure};

/// One pass over a log from its start.
pub(super) struct Pass<'a> {
    plan: &'a Plan,
    keys: &'a KeyMap,
    aborted: &'a AbortedIndex,
    now_ms: i64,
    delete_retention_ms: i64,
    /// Producers with a batch that was kept and whose marker has not come yet.
    with_batches: HashSet<i64>,
}

impl<'a> Pass<'a> {
    pub fn new(
        plan: &'a Plan,
        keys: &'a KeyMap,
        aborted: &'a AbortedIndex,
        (now_ms, delete_retention_ms): (i64, i64),
    ) -> Self {
        Self { plan, keys, aborted, now_ms, delete_retention_ms, with_batches: HashSet::new() }
    }

    /// The bytes that take the batch's place; `None` when nothing does.
    fn judge<'b>(&mut self, header: &BatchHeader, batch: &'b [u8]) -> Result<Option<Cow<'b, [u8]>>, Code> {
        if header.base_offset >= self.keys.upto() {
            return Ok(Some(Cow::Borrowed(batch)));
        }
        if header.is_control() {
            return self.judge_marker(header, batch);
        }
        let kept = self.judge_data(header, batch)?;
        if kept.is_some() && header.is_transactional() {
            self.with_batches.insert(header.producer_id);
        }
        Ok(kept)
    }

    /// A marker is needed while a batch of its transaction is there, and for its producer's epoch.
    fn judge_marker<'b>(&mut self, header: &BatchHeader, batch: &'b [u8]) -> Result<Option<Cow<'b, [u8]>>, Code> {
        let is_needed = self.with_batches.remove(&header.producer_id) || self.is_lasting(header);
        match header.horizon_ms() {
            _ if is_needed => Ok(Some(Cow::Borrowed(batch))),
            Some(horizon_ms) if horizon_ms <= self.now_ms => Ok(None),
            Some(_) => Ok(Some(Cow::Borrowed(batch))),
            None => {
                let opened = open(header, batch)?;
                let records = Records::of(header, &opened).collect::<Result<Vec<_>, _>>()?;
                rebuild(batch, &records, Some(self.horizon_ms())).map(|b| Some(Cow::Owned(b)))
            }
        }
    }

    fn judge_data<'b>(&self, header: &BatchHeader, batch: &'b [u8]) -> Result<Option<Cow<'b, [u8]>>, Code> {
        let opened = open(header, batch)?;
        let is_aborted = header.is_transactional() && self.aborted.holds(header.producer_id, header.base_offset);
        let is_past = header.horizon_ms().is_some_and(|horizon_ms| horizon_ms <= self.now_ms);
        let is_kept = |record: &RawRecord<'_>| {
            let offset = header.base_offset + record.offset_delta;
            let is_newest = record.key.is_some_and(|key| !self.keys.is_superseded(key, offset));
            is_newest && !is_aborted && offset >= self.plan.start_offset && !(record.is_tombstone && is_past)
        };
        let mut kept = Vec::new();
        for record in Records::of(header, &opened) {
            let record = record?;
            if is_kept(&record) {
                kept.push(record);
            }
        }
        if kept.is_empty() && !self.is_lasting(header) {
            return Ok(None);
        }
        let needs_horizon = header.horizon_ms().is_none() && kept.iter().any(|r| r.is_tombstone);
        let horizon_ms = if needs_horizon { Some(self.horizon_ms()) } else { header.horizon_ms() };
        let is_whole = i64::try_from(kept.len()) == Ok(i64::from(header.record_count));
        if is_whole && !needs_horizon {
            return Ok(Some(Cow::Borrowed(batch)));
        }
        rebuild(batch, &kept, horizon_ms).map(|b| Some(Cow::Owned(b)))
    }

    /// Whether a batch stays though nothing in it does: for its producer's sequence, or at the end of the log.
    fn is_lasting(&self, header: &BatchHeader) -> bool {
        self.plan.newest_of_producers.contains(&header.base_offset) || self.plan.tail == Some(header.last_offset() + 1)
    }

    fn horizon_ms(&self) -> i64 {
        self.now_ms.saturating_add(self.delete_retention_ms)
    }
}

/// Writes what is left of some segments as one, forced to the disk; `None` when the pass is to stop.
///
/// # Errors
/// A damaged batch, or what the file system says; nothing is left behind then.
pub(super) fn write(
    dir: &Path,
    sources: &[Source],
    pass: &mut Pass<'_>,
    stop: &AtomicBool,
) -> Result<Option<Segment>, CompactionError> {
    let (Some(first), Some(last)) = (sources.first(), sources.last()) else {
        return Ok(None);
    };
    let mut fresh = swap::begin(dir, first.base)?;
    let outcome = match fill(&mut fresh, sources, pass, stop) {
        Ok(Filled::Whole) => complete(&mut fresh, last).map(|()| Filled::Whole).map_err(CompactionError::Io),
        other => other,
    };
    if !matches!(outcome, Ok(Filled::Whole)) {
        swap::discard(dir, first.base)?;
        return outcome.map(|_| None);
    }
    Ok(Some(fresh))
}

/// Gives a written segment the bounds and times of its last source, and forces it to the disk.
fn complete(fresh: &mut Segment, last: &Source) -> io::Result<()> {
    fresh.next_offset = last.next_offset;
    fresh.index.shrink();
    fresh.written_ms = last.written_ms;
    if let Some(written_ms) = last.written_ms.and_then(|ms| u64::try_from(ms).ok()) {
        fresh.file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_millis(written_ms))?;
    }
    fresh.file.sync_all()
}

/// Whether all that is left was written.
enum Filled {
    Whole,
    Stopped,
}

fn fill(
    fresh: &mut Segment,
    sources: &[Source],
    pass: &mut Pass<'_>,
    stop: &AtomicBool,
) -> Result<Filled, CompactionError> {
    for source in sources {
        let mut batches = Batches::new(&source.file, source.size);
        let mut markers = HashSet::new();
        while let Some((header, batch)) = batches.next()? {
            if is_stopped(stop) {
                return Ok(Filled::Stopped);
            }
            let judged = pass.judge(&header, batch).map_err(|_| CompactionError::Damaged(header.base_offset))?;
            if let Some(kept) = judged {
                append(fresh, &kept)?;
                if header.is_control() {
                    markers.insert(header.base_offset);
                }
            }
        }
        // A reader that is told of an aborted transaction waits for its marker.
        fresh.aborted.extend(source.aborted.iter().filter(|t| markers.contains(&t.last_offset)));
    }
    Ok(Filled::Whole)
}

fn append(fresh: &mut Segment, batch: &[u8]) -> io::Result<()> {
    let header = BatchHeader::parse(batch).ok_or(io::ErrorKind::InvalidData)?;
    let (head, records) = batch.split_at(HEADER_BYTES);
    fresh.append(head, records).map_err(|failure| match failure {
        WriteFailure::Undone(error) | WriteFailure::Broken(error) => error,
    })?;
    // What is left of a batch opens to fewer bytes than its producer's.
    let facts = check(&header, batch, MAX_OPENED_BYTES).map_err(|_| io::ErrorKind::InvalidData)?;
    fresh.note(&header, facts.opened_bytes);
    Ok(())
}
