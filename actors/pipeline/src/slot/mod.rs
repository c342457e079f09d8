//! What belongs to a partition and outlives every actor that works on it.
//!
//! A slot is made when a partition is assigned and dies when it is revoked. It holds a snapshot of the partition's
//! state and the raw batches processed since: a new lane incarnation rebuilds the working state from them, without a
//! fetch and without storage.
//!
//! Invariants: `snapshot` covers every record below `snapshot_at`; `since` holds, in order and without a hole, every
//! batch from there to `processed`; an output is issued exactly when `processed` passes its batch, under the lock.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use streamward_core::{
    batch::RawBatch,
    output::{Missed, Output},
    partition::PartitionState,
};

use crate::{end_of_log::EndOfLog, logs::LogIdentity, poison::Poison, store::PartitionKey};

/// Bytes of raw batches kept before a new snapshot of the state replaces them.
const MAX_SINCE_BYTES: usize = 2 << 20;
/// Batches kept before a new snapshot of the state replaces them.
const MAX_SINCE_BATCHES: usize = 64;

/// One assigned partition.
pub struct PartitionSlot {
    pub key: PartitionKey,
    /// Fencing epoch of this assignment.
    pub epoch: i64,
    /// Number of the log in row ids.
    pub log: i64,
    /// The log that it was assigned for.
    pub identity: LogIdentity,
    /// Stored position at assignment: records below feed state only.
    pub emit_from: i64,
    next_fetch: AtomicI64,
    committed: AtomicI64,
    /// Position that the newest issued checkpoint covers; −1 if there is none.
    checkpointed: AtomicI64,
    /// Broker's timestamp of the newest record processed, in milliseconds; 0 before the first.
    newest_log_timestamp_ms: AtomicI64,
    at_end: AtomicBool,
    end: EndOfLog,
    revoked: AtomicBool,
    /// Why storage takes nothing of this assignment any more.
    refusal: OnceLock<Arc<str>>,
    totals: Arc<Totals>,
    work: Mutex<WorkState>,
}

/// What a lane needs to go on.
struct WorkState {
    snapshot: PartitionState,
    since: Vec<Since>,
    since_bytes: usize,
    processed: i64,
    /// Generation of the lane incarnation that may issue outputs.
    owner: u64,
}

/// A batch that the snapshot does not cover.
#[derive(Clone)]
pub struct Since {
    pub batch: Arc<RawBatch>,
    pub start: i64,
    pub end: i64,
    /// Records of it that are dead letters: whoever rebuilds the state decides nothing anew.
    pub dead: Arc<[Poison]>,
}

/// The state as a new incarnation finds it.
pub struct Rebuild {
    pub snapshot: PartitionState,
    pub since: Vec<Since>,
}

/// Where a new slot begins.
pub struct SlotStart {
    pub key: PartitionKey,
    pub epoch: i64,
    pub log: i64,
    pub identity: LogIdentity,
    /// Stored position: outputs begin here.
    pub emit_from: i64,
    /// First offset to fetch: the checkpoint's, at or below the position.
    pub fetch_from: i64,
    pub state: PartitionState,
}

impl PartitionSlot {
    fn new(start: SlotStart, totals: Arc<Totals>) -> Self {
        let checkpointed = start.state.covered().map_or(-1, |_| start.fetch_from);
        let work = WorkState {
            snapshot: start.state,
            since: Vec::new(),
            since_bytes: 0,
            processed: start.fetch_from,
            owner: 0,
        };
        Self {
            key: start.key,
            epoch: start.epoch,
            log: start.log,
            identity: start.identity,
            emit_from: start.emit_from,
            next_fetch: AtomicI64::new(start.fetch_from),
            committed: AtomicI64::new(start.emit_from),
            checkpointed: AtomicI64::new(checkpointed),
            newest_log_timestamp_ms: AtomicI64::new(0),
            at_end: AtomicBool::new(false),
            end: EndOfLog::default(),
            revoked: AtomicBool::new(false),
            refusal: OnceLock::new(),
            totals,
            work: Mutex::new(work),
        }
    }

    /// Offset that the source reads next.
    pub fn next_fetch(&self) -> i64 {
        self.next_fetch.load(Ordering::Acquire)
    }

    /// Notes that everything below `end` is in a lane's inbox.
    pub fn fetched(&self, end: i64, at_end: bool) {
        self.next_fetch.store(end, Ordering::Release);
        self.at_end.store(at_end, Ordering::Release);
    }

    /// Notes that the log holds nothing more for now.
    pub fn reached_end(&self) {
        self.at_end.store(true, Ordering::Release);
    }

    /// The end of the log as the client last saw it.
    pub fn end(&self) -> &EndOfLog {
        &self.end
    }

    /// Below this, every record of the log has been read. Beyond the last record there may be offsets that hold none.
    pub fn read_to(&self) -> i64 {
        let next = self.next_fetch();
        if self.at_end.load(Ordering::Acquire) { next.max(self.end.read_to()) } else { next }
    }

    /// Below this, every record of the log is stored, dead or filtered.
    pub fn stored_to(&self) -> i64 {
        let committed = self.committed();
        if self.is_caught_up() && committed >= self.processed() { committed.max(self.read_to()) } else { committed }
    }

    /// Whether everything that the log holds has been read and processed.
    pub fn is_caught_up(&self) -> bool {
        self.at_end.load(Ordering::Acquire) && self.processed() == self.next_fetch()
    }

    /// Whether this assignment is over.
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    /// Ends this assignment: nothing is issued for it any more.
    pub fn revoke(&self) {
        let _guard = self.work.lock();
        self.revoked.store(true, Ordering::Release);
    }

    /// Ends this assignment because storage refuses what it issues: the partition stands still until it is assigned
    /// again. The first reason is kept.
    pub fn refuse(&self, why: Arc<str>) {
        // Whoever finds it revoked must also find the reason, or would take it for lost.
        self.refusal.get_or_init(|| why);
        self.revoke();
    }

    /// Why storage takes nothing of this assignment any more, if so.
    pub fn refusal(&self) -> Option<&Arc<str>> {
        self.refusal.get()
    }

    /// Position up to which batches were processed and their outputs issued.
    pub fn processed(&self) -> i64 {
        self.work.lock().processed
    }

    /// Stored position.
    pub fn committed(&self) -> i64 {
        self.committed.load(Ordering::Acquire)
    }

    /// Position that the newest issued checkpoint covers; −1 if there is none.
    pub fn checkpointed(&self) -> i64 {
        self.checkpointed.load(Ordering::Acquire)
    }

    /// Notes that a checkpoint up to `position` was issued.
    pub fn note_checkpoint(&self, position: i64) {
        self.checkpointed.fetch_max(position, Ordering::AcqRel);
    }

    /// Notes the commit of an output, of which so many rows became dead letters on the way.
    pub fn commit(&self, output: &Output, refused: u64) {
        self.totals.add(output, refused);
        self.committed.fetch_max(output.end, Ordering::AcqRel);
    }

    /// Broker's timestamp of the newest record processed, in milliseconds.
    pub fn newest_log_timestamp_ms(&self) -> i64 {
        self.newest_log_timestamp_ms.load(Ordering::Relaxed)
    }

    /// Makes `generation` the incarnation that may issue, unless a newer one is, and returns what it needs to rebuild its
    /// state.
    pub fn take_over(&self, generation: u64) -> Rebuild {
        let mut work = self.work.lock();
        work.owner = work.owner.max(generation);
        Rebuild { snapshot: work.snapshot.clone(), since: work.since.clone() }
    }

    /// Runs `issue` and, if it succeeds, moves `processed` behind the batch: both or neither.
    ///
    /// `issue` must not block. `state` is the working state after the batch; it becomes the new snapshot when enough
    /// batches have gathered.
    pub fn issue(&self, generation: u64, done: Since, state: &PartitionState, issue: impl FnOnce() -> bool) -> Issued {
        let mut work = self.work.lock();
        if self.is_revoked() || work.owner != generation || work.processed != done.start {
            return Issued::Fenced;
        }
        if !issue() {
            return Issued::Full;
        }
        if let Some(newest) = done.batch.len().checked_sub(1) {
            let timestamp = done.batch.get(newest).log_timestamp_ms();
            self.newest_log_timestamp_ms.store(timestamp, Ordering::Relaxed);
        }
        work.processed = done.end;
        work.since_bytes += done.batch.footprint();
        work.since.push(done);
        if work.since_bytes >= MAX_SINCE_BYTES || work.since.len() >= MAX_SINCE_BATCHES {
            work.snapshot = state.clone();
            work.since.clear();
            work.since_bytes = 0;
        }
        Issued::Yes
    }

    /// Like [`PartitionSlot::issue`] for an effect without records, such as a tick: the state becomes the snapshot.
    pub fn issue_tick(&self, generation: u64, state: &PartitionState, issue: impl FnOnce() -> bool) -> Issued {
        let mut work = self.work.lock();
        if self.is_revoked() || work.owner != generation {
            return Issued::Fenced;
        }
        if !issue() {
            return Issued::Full;
        }
        work.snapshot = state.clone();
        work.since.clear();
        work.since_bytes = 0;
        Issued::Yes
    }
}

/// Records of a pipeline by what became of them, since the start of the process: read = stored + dead + filtered + in
/// flight.
#[derive(Debug, Default)]
pub struct Totals {
    pub stored: AtomicU64,
    pub dead: AtomicU64,
    pub filtered: AtomicU64,
    pub late: AtomicU64,
    /// Records whose group found no room in the state of a window.
    pub without_room: AtomicU64,
    /// Records too far ahead of their log timestamp to count.
    pub ahead: AtomicU64,
    pub alerts: AtomicU64,
    pub refused_keys: AtomicU64,
}

impl Totals {
    fn add(&self, output: &Output, refused: u64) {
        self.stored.fetch_add(output.offsets.len() as u64 - refused, Ordering::Relaxed);
        self.dead.fetch_add(output.dead.len() as u64 + refused, Ordering::Relaxed);
        self.filtered.fetch_add(output.filtered_records().unsigned_abs(), Ordering::Relaxed);
        self.late
            .fetch_add(output.missed_records(Missed::Late) + output.missed_records(Missed::Begun), Ordering::Relaxed);
        self.without_room.fetch_add(output.missed_records(Missed::Full), Ordering::Relaxed);
        self.ahead.fetch_add(output.ahead.len() as u64, Ordering::Relaxed);
        self.alerts.fetch_add(output.alerts.len() as u64, Ordering::Relaxed);
        self.refused_keys.fetch_add(output.refused_keys, Ordering::Relaxed);
    }
}

/// What became of an attempt to issue an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issued {
    Yes,
    /// The sink's inbox is full; try again when it has room.
    Full,
    /// The partition was revoked or belongs to another incarnation now.
    Fenced,
}

/// A client that reads the partitions of a pipeline. Only the newest one assigns and revokes: one that was given up as
/// stuck may still hear of its partitions when it wakes up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reader(u64);

/// The assigned partitions of one pipeline.
#[derive(Default)]
pub struct Slots {
    was_assigned: AtomicBool,
    /// Partitions that stand still, and why.
    stopped: Mutex<BTreeMap<i32, String>>,
    totals: Arc<Totals>,
    assigned: Mutex<Assigned>,
}

/// The slots of the newest reader.
#[derive(Default)]
struct Assigned {
    reader: Reader,
    /// The log that it reads.
    log: Option<LogIdentity>,
    by_partition: HashMap<i32, Arc<PartitionSlot>>,
}

impl Slots {
    /// Notes that the group has dealt its partitions, if only none to this process.
    pub fn note_assignment(&self) {
        self.was_assigned.store(true, Ordering::Release);
    }

    /// Whether the group has dealt its partitions at least once.
    pub fn was_assigned(&self) -> bool {
        self.was_assigned.load(Ordering::Acquire)
    }

    /// Begins anew with another client: what the one before still had is revoked.
    pub fn begin_reading(&self) -> Reader {
        let mut assigned = self.assigned.lock();
        assigned.reader = Reader(assigned.reader.0 + 1);
        assigned.log = None;
        assigned.by_partition.drain().for_each(|(_, slot)| slot.revoke());
        self.stopped.lock().clear();
        assigned.reader
    }

    /// Notes which log a reader reads; the first note stands.
    pub fn reads(&self, reader: Reader, log: &LogIdentity) {
        let mut assigned = self.assigned.lock();
        if assigned.reader == reader {
            assigned.log.get_or_insert_with(|| log.clone());
        }
    }

    /// Whether what is read is not `now`, the log that the topic is.
    pub fn reads_another_log(&self, now: &LogIdentity) -> bool {
        self.assigned.lock().log.as_ref().is_some_and(|log| !log.is_same(now))
    }

    /// Replaces the slot of a partition, the one before is revoked; none if `reader` is not the newest.
    pub fn assign(&self, reader: Reader, start: SlotStart) -> Option<Arc<PartitionSlot>> {
        let mut assigned = self.assigned.lock();
        if assigned.reader != reader {
            return None;
        }
        let partition = start.key.partition;
        self.stopped.lock().remove(&partition);
        let slot = Arc::new(PartitionSlot::new(start, self.totals.clone()));
        if let Some(before) = assigned.by_partition.insert(partition, slot.clone()) {
            before.revoke();
        }
        Some(slot)
    }

    /// Ends the assignment of a partition, unless `reader` is not the newest.
    pub fn revoke(&self, reader: Reader, partition: i32) {
        let mut assigned = self.assigned.lock();
        if assigned.reader == reader
            && let Some(slot) = assigned.by_partition.remove(&partition)
        {
            slot.revoke();
        }
    }

    /// Whether no newer client reads.
    pub fn is_newest(&self, reader: Reader) -> bool {
        self.assigned.lock().reader == reader
    }

    /// The slot of an assigned partition.
    pub fn get(&self, partition: i32) -> Option<Arc<PartitionSlot>> {
        self.assigned.lock().by_partition.get(&partition).cloned()
    }

    /// Likewise, unless `reader` is not the newest.
    pub fn of_reader(&self, reader: Reader, partition: i32) -> Option<Arc<PartitionSlot>> {
        let assigned = self.assigned.lock();
        assigned.by_partition.get(&partition).filter(|_| assigned.reader == reader).cloned()
    }

    /// Notes that a partition is assigned but not read, unless `reader` is not the newest.
    pub fn stop(&self, reader: Reader, partition: i32, why: String) {
        if self.assigned.lock().reader == reader {
            self.stopped.lock().insert(partition, why);
        }
    }

    /// Partitions that stand still, and why: they are not read, or storage refuses what they issue.
    pub fn standing_still(&self) -> BTreeMap<i32, String> {
        let mut still = self.stopped.lock().clone();
        let refused = self.all().into_iter().filter_map(|slot| Some((slot.key.partition, slot.refusal()?.to_string())));
        still.extend(refused);
        still
    }

    /// Why a partition stands still, if one does.
    pub fn stopped(&self) -> Option<String> {
        self.standing_still().into_values().next()
    }

    /// What became of the records since the start of the process.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// A partition whose assignment ended without the group's doing: another owner has taken it over.
    pub fn lost(&self) -> Option<i32> {
        let lost = |slot: &&Arc<PartitionSlot>| slot.is_revoked() && slot.refusal().is_none();
        self.all().iter().find(lost).map(|slot| slot.key.partition)
    }

    /// All assigned partitions, ascending.
    pub fn all(&self) -> Vec<Arc<PartitionSlot>> {
        let mut slots: Vec<_> = self.assigned.lock().by_partition.values().cloned().collect();
        slots.sort_by_key(|slot| slot.key.partition);
        slots
    }

    /// Partition and stored position of each assigned partition.
    pub fn committed_positions(&self) -> Vec<(i32, i64)> {
        self.all().iter().map(|slot| (slot.key.partition, slot.committed())).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests;
