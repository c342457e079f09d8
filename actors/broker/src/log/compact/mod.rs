//! Compaction: of records with the same key only the newest is kept (`cleanup.policy=compact`).
//!
//! A pass reads the part of the log that no pass has seen, notes the newest offset of each key, and
//! writes all older segments again without what is superseded: `keys.rs`, then `rewrite.rs`. The log
//! is locked only to plan and to note that a written segment is in the place of those it was made from
//! (`swap.rs`); a process that ends in between leaves the old segments or the new one, never a mix.
//!
//! What it writes is also how a damaged segment is replaced (`../scrub.rs`).
//!
//! Never touched are the segment that is written to, records of open transactions and records
//! younger than `min.compaction.lag.ms`. Tombstones and transaction markers stay for
//! `delete.retention.ms` after the pass that met them first (KIP-534). Rules: KIP-58, KIP-98 and
//! Kafka's `LogCleaner`.

mod keys;
mod rewrite;
pub(super) mod swap;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::producers::AbortedTxn;
use super::segment::Segment;
use super::{PartitionLog, State};
use keys::KeyMap;
use rewrite::{Pass, write};

/// Name of the file that tells up to where a log is compacted.
const MARK_FILE: &str = "compacted";
/// Pause after a pass that the file system ended, for example for want of space.
const RETRY_PAUSE_MS: i64 = 60_000;

/// When and how a topic's logs are compacted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CompactionRules {
    /// Share of bytes that no pass has seen above which one begins.
    pub min_dirty_ratio: f64,
    pub min_lag_ms: i64,
    /// Age of an unseen record at which a pass begins whatever the ratio.
    pub max_lag_ms: i64,
    pub delete_retention_ms: i64,
    pub segment_bytes: u64,
}

/// What a pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Compacted {
    pub bytes_before: u64,
    pub bytes_after: u64,
}

/// Why a pass ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompactionError {
    #[error("a batch at offset {0} is damaged")]
    Damaged(i64),
    #[error("a written segment is only partly in its place: {0}")]
    Swap(io::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl CompactionError {
    /// Whether another pass would meet it again, or could do harm.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Damaged(_) | Self::Swap(_) => true,
            Self::Io(error) => matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof),
        }
    }
}

/// A complete segment as it was when the pass was planned.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub base: i64,
    pub size: u64,
    pub next_offset: i64,
    pub file: Arc<std::fs::File>,
    pub aborted: Vec<AbortedTxn>,
    pub written_ms: Option<i64>,
}

/// Everything that a pass needs to know of the log.
#[derive(Debug)]
struct Plan {
    dir: PathBuf,
    sources: Vec<Source>,
    /// Offset from which on no pass has seen the log.
    dirty_from: i64,
    start_offset: i64,
    aborted: Vec<AbortedTxn>,
    /// Batches that hold a producer's newest sequence or epoch.
    newest_of_producers: HashSet<i64>,
    /// Offset after the log's last batch, if that is in the sources: it stays, emptied or not, so that readers get to the
    /// end of the log.
    tail: Option<i64>,
}

/// Compacts a log if that is due; blocks for as long as it takes to read and write it. `stop` ends
/// the pass early; the log is whole at any moment.
///
/// # Errors
/// A damaged batch, or what the file system says. After one that [`CompactionError::is_final`] the log is not
/// compacted again until it is opened, after others not for a while.
pub(crate) fn compact(
    log: &Mutex<PartitionLog>,
    rules: &CompactionRules,
    now_ms: i64,
    stop: &AtomicBool,
) -> Result<Option<Compacted>, CompactionError> {
    let Some(plan) = log.lock().plan_compaction(rules, now_ms) else {
        return Ok(None);
    };
    let outcome = carry_out(log, &plan, (rules, now_ms), stop);
    if let Err(error) = &outcome {
        log.lock().compaction.pause(error, now_ms);
    }
    outcome.map(Some)
}

fn carry_out(
    log: &Mutex<PartitionLog>,
    plan: &Plan,
    (rules, now_ms): (&CompactionRules, i64),
    stop: &AtomicBool,
) -> Result<Compacted, CompactionError> {
    if !has_begun(&plan.dir) {
        // From now on offsets may be missing without being lost.
        super::files::replace(&plan.dir.join(MARK_FILE), b"0", super::files::Durability::Synced)?;
    }
    let aborted = AbortedIndex::new(&plan.aborted);
    let keys = KeyMap::of(&plan.sources, plan.dirty_from, &aborted, stop)?;
    let mut pass = Pass::new(plan, &keys, &aborted, (now_ms, rules.delete_retention_ms));
    let mut done = Compacted::default();
    let seen: Vec<Source> = plan.sources.iter().filter(|s| s.base < keys.upto()).cloned().collect();
    for group in groups(&seen, rules.segment_bytes) {
        let Some(fresh) = write(&plan.dir, group, &mut pass, stop)? else {
            return Ok(done);
        };
        done.bytes_before += group.iter().map(|s| s.size).sum::<u64>();
        done.bytes_after += fresh.size;
        if replace(log, &plan.dir, group, fresh)?.is_break() {
            return Ok(done);
        }
    }
    log.lock().note_compacted(keys.upto())?;
    Ok(done)
}

/// Whether a pass has begun to remove records of the log in a folder.
pub(super) fn has_begun(dir: &Path) -> bool {
    dir.join(MARK_FILE).exists()
}

/// Segments that become one: as many as fit, at least one.
fn groups(sources: &[Source], segment_bytes: u64) -> impl Iterator<Item = &[Source]> {
    let mut rest = sources;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let mut bytes = 0;
        let fits = |s: &&Source| {
            bytes += s.size;
            bytes <= segment_bytes && s.next_offset - first.base <= i64::from(i32::MAX)
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (group, after) = rest.split_at(count);
        rest = after;
        Some(group)
    })
}

/// Puts a written segment in the place of its sources, unless they are not all there any more.
pub(super) fn replace(
    log: &Mutex<PartitionLog>,
    dir: &Path,
    sources: &[Source],
    fresh: Segment,
) -> Result<ControlFlow<()>, CompactionError> {
    let begun = log.lock().begin_swap(sources);
    if !begun {
        swap::discard(dir, fresh.base)?;
        return Ok(ControlFlow::Break(()));
    }
    let bases: Vec<i64> = sources.iter().map(|s| s.base).collect();
    let swapped = swap::commit(dir, &bases, &fresh);
    log.lock().end_swap(sources, fresh, swapped)
}

/// How far a log is compacted, and what holds the next pass or the removal of segments up.
#[derive(Debug)]
pub(super) struct Compaction {
    /// A pass has seen everything below.
    upto: i64,
    pause: Pause,
    /// First offset of the segments that are being replaced; none from there on is removed meanwhile.
    pub swapped_from: Option<i64>,
}

/// When the next pass may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pause {
    None,
    Until(i64),
    Forever,
}

impl Compaction {
    /// As the last pass wrote it; from the start where there is no file.
    pub fn read(dir: &Path) -> Self {
        let text = std::fs::read_to_string(dir.join(MARK_FILE)).ok();
        let upto = text.and_then(|t| t.trim().parse().ok()).unwrap_or(0);
        Self { upto, pause: Pause::None, swapped_from: None }
    }

    /// A pass may begin again: what stopped the last one is repaired.
    pub fn resume(&mut self) {
        self.pause = Pause::None;
    }

    fn may_begin(&self, now_ms: i64) -> bool {
        match self.pause {
            Pause::None => true,
            Pause::Until(until_ms) => now_ms >= until_ms,
            Pause::Forever => false,
        }
    }

    fn pause(&mut self, error: &CompactionError, now_ms: i64) {
        self.pause =
            if error.is_final() { Pause::Forever } else { Pause::Until(now_ms.saturating_add(RETRY_PAUSE_MS)) };
    }
}

impl PartitionLog {
    fn plan_compaction(&self, rules: &CompactionRules, now_ms: i64) -> Option<Plan> {
        if self.state != State::Open || !self.compaction.may_begin(now_ms) {
            return None;
        }
        let dirty_from = self.compaction.upto;
        let stable = self.last_stable_offset();
        let is_old = |s: &Segment| rules.min_lag_ms == 0 || s.newest_ms() < Some(now_ms - rules.min_lag_ms);
        let complete = &self.segments[..self.segments.len() - 1];
        let usable: Vec<&Segment> = complete.iter().take_while(|s| s.next_offset <= stable && is_old(s)).collect();
        let is_dirty = |s: &&&Segment| s.next_offset > dirty_from && s.size > 0;
        let dirty_bytes: u64 = usable.iter().filter(is_dirty).map(|s| s.size).sum();
        let all_bytes: u64 = usable.iter().map(|s| s.size).sum();
        let oldest_ms = usable.iter().find(is_dirty)?.begun_ms;
        let is_overdue = oldest_ms.is_some_and(|begun_ms| begun_ms < now_ms.saturating_sub(rules.max_lag_ms));
        let is_due = dirty_bytes as f64 > all_bytes as f64 * rules.min_dirty_ratio || is_overdue;
        is_due.then(|| Plan {
            dir: self.dir.clone(),
            sources: usable.iter().map(|s| Source::of(s)).collect(),
            dirty_from,
            start_offset: self.start_offset,
            aborted: self.aborted_in(i64::MIN, stable),
            newest_of_producers: self.producers.newest_batches(),
            tail: self.segments.last().filter(|active| active.size == 0).map(|_| self.next_offset),
        })
    }

    fn note_compacted(&mut self, upto: i64) -> io::Result<()> {
        if self.state != State::Open {
            return Ok(());
        }
        self.compaction.upto = upto;
        super::files::replace(&self.dir.join(MARK_FILE), upto.to_string().as_bytes(), super::files::Durability::Cached)
    }

    /// Keeps the sources of a swap where they are until it ends; false if they are not all there any more.
    fn begin_swap(&mut self, sources: &[Source]) -> bool {
        let Some(first) = sources.first() else {
            return false;
        };
        let there = &self.segments[self.segments.partition_point(|s| s.base < first.base)..];
        let is_same = |(segment, source): (&Segment, &Source)| Arc::ptr_eq(&segment.file, &source.file);
        let are_there = there.len() >= sources.len() && there.iter().zip(sources).all(is_same);
        let begins = self.state == State::Open && are_there;
        self.compaction.swapped_from = begins.then_some(first.base);
        begins
    }

    /// Reads the written segment instead of its sources from now on.
    fn end_swap(
        &mut self,
        sources: &[Source],
        mut fresh: Segment,
        swapped: Result<(), CompactionError>,
    ) -> Result<ControlFlow<()>, CompactionError> {
        self.compaction.swapped_from = None;
        if self.state == State::Deleted {
            return Ok(ControlFlow::Break(()));
        }
        swapped?;
        let base = fresh.base;
        let at = self.segments.partition_point(|s| s.base < base);
        fresh.begun_ms = self.segments[at].begun_ms;
        self.segments.splice(at..at + sources.len(), [fresh]);
        for source in &sources[1..] {
            self.pending.remove(&self.dir, source.base);
        }
        // Index files have one writer, the flush: two would take the temporary file from each other.
        self.enqueue_seal(base);
        Ok(ControlFlow::Continue(()))
    }
}

impl Source {
    pub fn of(segment: &Segment) -> Self {
        Self {
            base: segment.base,
            size: segment.size,
            next_offset: segment.next_offset,
            file: segment.file.clone(),
            aborted: segment.aborted.clone(),
            written_ms: segment.written_ms,
        }
    }
}

/// Aborted transactions by producer, in the order of the log.
#[derive(Debug, Default)]
struct AbortedIndex {
    by_producer: BTreeMap<i64, Vec<(i64, i64)>>,
}

impl AbortedIndex {
    fn new(aborted: &[AbortedTxn]) -> Self {
        let mut index = Self::default();
        for txn in aborted {
            index.by_producer.entry(txn.producer_id).or_default().push((txn.first_offset, txn.last_offset));
        }
        index
    }

    /// Whether a producer's batch at an offset belongs to one of them.
    fn holds(&self, producer_id: i64, offset: i64) -> bool {
        self.by_producer.get(&producer_id).is_some_and(|txns| {
            let next = txns.partition_point(|(_, last)| *last < offset);
            txns.get(next).is_some_and(|(first, _)| *first <= offset)
        })
    }
}

pub(super) fn is_stopped(stop: &AtomicBool) -> bool {
    stop.load(Ordering::Relaxed)
}
