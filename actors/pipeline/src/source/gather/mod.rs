//! Batches in the making: what the client gave, until a lane takes it.

#[cfg(test)]
mod limits;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use streamward_core::batch::RawBatch;
use streamward_kit::{Failure, Scope};

use super::{LogClient, Polled, RecordView, SourceShared};
use crate::{
    messages::Work,
    pace::due_at,
    slot::{PartitionSlot, Reader},
};

/// Longest wait in one poll; also how soon a stop request is seen.
const POLL_TIMEOUT: Duration = Duration::from_millis(200);
/// How long a full inbox may block the poll thread before its partition is paused.
const BLOCK_AT_MOST: Duration = Duration::from_secs(1);
/// Records taken between two looks at the clock, as long as there are some: a look costs as much as taking a record.
const POLLS_PER_LOOK: usize = 32;
/// Room in the first batch.
const FIRST_ROOM_BYTES: usize = 64 << 10;
/// Age at which a batch is due that follows none closely: what comes with its first record is there by then. Also of the
/// first batch of an incarnation: what it holds has waited long enough.
const FIRST_DELAY: Duration = Duration::from_millis(2);

/// Batches in the making, one per partition. It may outlive the incarnation that panics, with the client that it belongs
/// to: what the client gave and no lane has yet is here.
pub struct Gather {
    pub(super) shared: Arc<SourceShared>,
    /// Whose records these are: a client that has a successor gathers nothing more.
    reader: Reader,
    open: BTreeMap<i32, Open>,
    /// Partitions whose lane was full: paused at the client, their batch waits here.
    blocked: BTreeSet<i32>,
    /// Partitions of which storage takes nothing: paused at the client.
    resting: BTreeSet<i32>,
    /// Bytes of the largest batch so far: a batch that grows is copied each time.
    room_bytes: usize,
    /// Age at which a batch is due at the latest, and time between two batches of a partition.
    delay: Duration,
    /// When a lane was last given a batch of a partition.
    handed_at: BTreeMap<i32, Instant>,
    /// The partition whose batch is being changed: a panic meanwhile has spoilt it.
    touched: Option<i32>,
    /// A partition that the client reads and that is not assigned.
    unassigned: Option<i32>,
}

struct Open {
    slot: Arc<PartitionSlot>,
    batch: RawBatch,
    since: Instant,
    at_end: bool,
}

impl Gather {
    /// For a new client.
    pub fn new(shared: Arc<SourceShared>, reader: Reader) -> Self {
        shared.held_back.store(0, Ordering::Relaxed);
        Self {
            shared,
            reader,
            open: BTreeMap::new(),
            blocked: BTreeSet::new(),
            resting: BTreeSet::new(),
            room_bytes: FIRST_ROOM_BYTES,
            delay: FIRST_DELAY,
            handed_at: BTreeMap::new(),
            touched: None,
            unassigned: None,
        }
    }

    /// Goes on after a panic. A partition that is returned has lost its batch: the client must go back to where its slot
    /// says that reading is to go on, and let it flow.
    pub fn resume(&mut self) -> Option<i32> {
        self.delay = FIRST_DELAY;
        let spoilt = self.touched.take()?;
        self.open.remove(&spoilt);
        self.blocked.remove(&spoilt);
        Some(spoilt)
    }

    /// Polls until a batch is due: full, or as old as it may be.
    pub(super) fn poll(&mut self, client: &mut dyn LogClient) -> Result<(), Failure> {
        let mut full = false;
        loop {
            let mut timeout = self.time_left();
            for poll in 0..POLLS_PER_LOOK {
                let mut idle = false;
                client.poll(timeout, &mut |polled| match polled {
                    Polled::Record { partition, record } => full = self.push(partition, &record) || full,
                    Polled::EndOfPartition(partition) => self.mark_end(partition),
                    Polled::Nothing => idle = true,
                })?;
                if let Some(partition) = self.unassigned.take() {
                    let why = format_args!("partition {partition} is read and not assigned: assign again");
                    return Err(Failure::new(why));
                }
                if full || (idle && poll == 0) {
                    return Ok(());
                }
                if idle {
                    break;
                }
                timeout = Duration::ZERO;
            }
            if self.time_left().is_zero() {
                return Ok(());
            }
        }
    }

    fn time_left(&self) -> Duration {
        let waiting = self.open.iter().filter(|(partition, _)| !self.blocked.contains(partition));
        let next = waiting.map(|(partition, open)| self.due_at(*partition, open)).min();
        next.map_or(POLL_TIMEOUT, |due| due.saturating_duration_since(Instant::now()))
    }

    /// When a batch that is not full goes to its lane.
    fn due_at(&self, partition: i32, open: &Open) -> Instant {
        due_at(open.since, self.handed_at.get(&partition).copied(), FIRST_DELAY, self.delay)
    }

    /// Adds a record; says whether its batch is full.
    fn push(&mut self, partition: i32, record: &RecordView<'_>) -> bool {
        self.touched = Some(partition);
        let is_full = self.add(partition, record);
        self.touched = None;
        is_full
    }

    fn add(&mut self, partition: i32, record: &RecordView<'_>) -> bool {
        let limits = &self.shared.limits;
        let open = match self.open.entry(partition) {
            Entry::Occupied(entry) if !entry.get().slot.is_revoked() => entry.into_mut(),
            // The first of its batch, or of a new assignment.
            entry => {
                let Some(slot) = self.shared.slots.of_reader(self.reader, partition) else {
                    self.unassigned = Some(partition);
                    return true;
                };
                if slot.refusal().is_some() {
                    // Ends the poll: the client is to be paused before it gives more.
                    return true;
                }
                let batch = RawBatch::with_capacity(self.shared.topic.clone(), partition, self.room_bytes);
                entry.insert_entry(Open { slot, batch, since: Instant::now(), at_end: false }).into_mut()
            }
        };
        let expected = open.batch.next_offset().unwrap_or_else(|| open.slot.next_fetch());
        if record.offset < expected {
            return false;
        }
        open.at_end = false;
        if !record.is_broker_time && open.batch.read_at_ms.is_none() {
            open.batch.read_at_ms = Some(self.shared.clock.now_ms());
        }
        open.batch.push(record.offset, record.log_timestamp_ms, record.key, record.value);
        (record.headers)(&mut |name, value| open.batch.push_header(name, value));
        open.batch.len() >= limits.max_records || open.batch.bytes() >= limits.max_bytes
    }

    /// Reads no more of partitions of which storage takes nothing, until they are assigned again.
    pub(super) fn rest(&mut self, client: &mut dyn LogClient) {
        let slots = self.shared.slots.all();
        let refused = slots.iter().filter(|slot| slot.refusal().is_some()).map(|slot| slot.key.partition);
        let refused: BTreeSet<i32> = refused.collect();
        let begin: Vec<i32> = refused.difference(&self.resting).copied().collect();
        if !begin.is_empty() {
            client.pause(&begin);
        }
        let flows = |partition: &i32| {
            !self.blocked.contains(partition) && slots.iter().any(|slot| slot.key.partition == *partition)
        };
        let again: Vec<i32> = self.resting.difference(&refused).copied().filter(flows).collect();
        if !again.is_empty() {
            client.resume(&again);
        }
        self.resting = refused;
    }

    fn mark_end(&mut self, partition: i32) {
        // With a batch in the making, the end is reached when a lane has that batch.
        match self.open.get_mut(&partition) {
            Some(open) => open.at_end = true,
            None => {
                if let Some(slot) = self.shared.slots.of_reader(self.reader, partition) {
                    slot.reached_end();
                }
            }
        }
    }

    /// Gives due batches to their lanes; a lane that stays full gets its partition paused.
    pub(super) fn hand_over(&mut self, scope: &Scope, client: &mut dyn LogClient) {
        let shared = self.shared.clone();
        let limits = &shared.limits;
        let now = Instant::now();
        let due: Vec<i32> = self
            .open
            .iter()
            .filter(|(partition, open)| {
                let full = open.batch.len() >= limits.max_records || open.batch.bytes() >= limits.max_bytes;
                full || open.at_end || self.blocked.contains(partition) || self.due_at(**partition, open) <= now
            })
            .map(|(partition, _)| *partition)
            .collect();
        for partition in due {
            self.touched = Some(partition);
            let Some(open) = self.open.remove(&partition) else { continue };
            let records = open.batch.len();
            self.room_bytes = self.room_bytes.max(open.batch.bytes()).min(limits.max_bytes);
            let wait = if self.blocked.contains(&partition) { Duration::ZERO } else { BLOCK_AT_MOST };
            match self.send(scope, open, wait) {
                Ok(()) => {
                    self.delay = limits.max_delay;
                    self.handed_at.insert(partition, now);
                    scope.progress(records as u64);
                    if self.blocked.remove(&partition) && !self.resting.contains(&partition) {
                        client.resume(&[partition]);
                    }
                }
                Err(open) => {
                    self.open.insert(partition, open);
                    if self.blocked.insert(partition) {
                        client.pause(&[partition]);
                    }
                }
            }
            self.touched = None;
        }
        self.shared.held_back.store(self.blocked.len(), Ordering::Relaxed);
    }

    fn send(&self, scope: &Scope, open: Open, wait: Duration) -> Result<(), Open> {
        let Open { slot, batch, since, at_end } = open;
        if slot.is_revoked() {
            return Ok(());
        }
        let (start, end) = (slot.next_fetch(), batch.next_offset().unwrap_or_else(|| slot.next_fetch()));
        let lane = usize::try_from(batch.partition).unwrap_or(0) % self.shared.lanes.len();
        let work = Work { slot: slot.clone(), batch: Arc::new(batch), start, end, read_by: Instant::now() };
        let _waiting = scope.waiting_on_inbox("lane", &self.shared.lanes[lane]);
        match self.shared.lanes[lane].blocking_send_timeout(work, wait) {
            Ok(()) => {
                slot.fetched(end, at_end);
                Ok(())
            }
            Err(work) => {
                let batch = Arc::try_unwrap(work.batch).unwrap_or_else(|shared| (*shared).clone());
                Err(Open { slot, batch, since, at_end })
            }
        }
    }
}
