//! The source role: one poll thread per pipeline turns a log into batches and hands them to the lanes.
//!
//! It owns no state that matters: where to go on is in the slots ([`crate::slot`]) and in storage. A full lane inbox
//! first blocks the thread for [`BLOCK_AT_MOST`], then pauses that partition at the client and keeps polling, so that
//! the group membership stays alive and other partitions go on.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use streamward_core::batch::RawBatch;
use streamward_kit::{Failure, Outlet, Progress, Scope};

use crate::{
    logs::Logs,
    messages::Work,
    slot::{PartitionSlot, Reader, Slots},
};

/// Longest wait in one poll; also how soon a stop request is seen.
const POLL_TIMEOUT: Duration = Duration::from_millis(50);
/// How long a full inbox may block the poll thread before its partition is paused.
const BLOCK_AT_MOST: Duration = Duration::from_secs(1);
/// Records taken between two looks at the clock, as long as there are some: a look costs as much as taking a record.
const POLLS_PER_LOOK: usize = 32;
/// Room in the first batch.
const FIRST_ROOM_BYTES: usize = 64 << 10;
/// Age at which the first batch of an incarnation is due: what it holds has waited long enough.
const FIRST_DELAY: Duration = Duration::from_millis(2);
/// How often the committed positions are told to the group, for lag tools only.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// Bounds of one batch.
#[derive(Debug, Clone)]
pub struct BatchLimits {
    pub max_records: usize,
    pub max_bytes: usize,
    /// Age at which a batch goes to its lane even when it is small.
    pub max_delay: Duration,
}

/// Why a source failed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The client or the cluster failed; a new client may do better.
    #[error("{0}")]
    Client(String),
    /// The log no longer holds what was to be read next, and `on_gap` is `fail`.
    #[error(
        "topic {topic} partition {partition}: position {position} is outside the log [{low}, {high}): records are gone; \
         set on_gap: earliest to go on without them"
    )]
    Gap { topic: String, partition: i32, position: i64, low: i64, high: i64 },
    /// Storage could not be asked where to start.
    #[error("read the position: {0}")]
    Store(#[from] crate::store::StoreError),
}

/// One thing that a poll brought.
pub enum Polled<'a> {
    Record {
        partition: i32,
        record: RecordView<'a>,
    },
    /// Everything that the partition holds has been read.
    EndOfPartition(i32),
    /// Nothing within the timeout.
    Nothing,
}

/// A record borrowed from the client's buffer.
pub struct RecordView<'a> {
    pub offset: i64,
    pub log_timestamp_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// Calls back once per header, in order.
    pub headers: &'a dyn Fn(&mut HeaderVisitor<'_>),
}

/// Called with the name and the value of a header.
pub type HeaderVisitor<'a> = dyn FnMut(&[u8], Option<&[u8]>) + 'a;

/// A consumer client: the only thing that knows the protocol.
pub trait LogClient {
    /// Waits at most `timeout` for one record or notice and hands it to `visit`.
    ///
    /// # Errors
    /// If the client cannot go on.
    fn poll(&mut self, timeout: Duration, visit: &mut dyn FnMut(Polled<'_>)) -> Result<(), SourceError>;

    /// Stops fetching these partitions until [`LogClient::resume`].
    fn pause(&mut self, partitions: &[i32]);

    /// Goes on with paused partitions from `offset` each.
    fn resume(&mut self, partitions: &[i32]);

    /// Tells the group the committed positions; failures are of no consequence.
    fn commit(&mut self, positions: &[(i32, i64)]);
}

/// Everything a source needs besides its client.
pub struct SourceShared {
    pub topic: Arc<str>,
    pub slots: Arc<Slots>,
    pub logs: Arc<dyn Logs>,
    pub limits: BatchLimits,
    /// One outlet per lane; a partition always goes to the same lane.
    pub lanes: Vec<Outlet<Work>>,
    /// Partitions that wait for room in a full lane at the moment.
    pub held_back: AtomicUsize,
}

impl SourceShared {
    /// How far reading is behind the ends of the logs, for the watchdog; none while it stands still for a good reason.
    pub fn progress(&self, end_of: impl Fn(i32) -> Option<i64>) -> Option<Progress> {
        if self.held_back.load(Ordering::Relaxed) > 0 || self.slots.stopped().is_some() {
            return None;
        }
        let mut progress = Progress { done: 0, pending: 0 };
        for slot in self.slots.all() {
            let next = slot.next_fetch();
            let behind = end_of(slot.key.partition).map_or(0, |end| end - next);
            progress.done = progress.done.wrapping_add(next.unsigned_abs());
            progress.pending += u64::try_from(behind).unwrap_or(0);
        }
        Some(progress)
    }
}

/// Why a source stopped polling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The scope asked to stop.
    Stopped,
    /// The topic was made anew: it is another log now, for a new client.
    OtherLog,
}

/// Runs the poll loop until the scope asks to stop or the topic is another log.
///
/// # Errors
/// If the client fails; the supervisor then starts a new incarnation with a new client.
pub fn run(scope: &Scope, gather: &mut Gather, client: &mut dyn LogClient) -> Result<Ended, Failure> {
    let shared = gather.shared.clone();
    let mut committed_at = Instant::now();
    while !scope.is_stopping() {
        scope.pause_point_blocking();
        scope.fault_point_blocking("poll")?;
        if shared.logs.last_told(&shared.topic).is_some_and(|now| shared.slots.reads_another_log(&now)) {
            tracing::warn!(topic = %shared.topic, "the topic was made anew: it is read as another log, from its beginning");
            return Ok(Ended::OtherLog);
        }
        let waiting = scope.waiting_on("log");
        gather.poll(client)?;
        drop(waiting);
        gather.hand_over(scope, client);
        if committed_at.elapsed() >= COMMIT_EVERY {
            committed_at = Instant::now();
            gather.rest(client);
            match shared.slots.stopped() {
                Some(why) => scope.set_state_note(&why),
                None => scope.clear_state_note(),
            }
            if let Some(partition) = shared.slots.lost() {
                return Err(Failure::new(format_args!(
                    "another owner has taken partition {partition} over: assign again"
                )));
            }
            client.commit(&shared.slots.committed_positions());
        }
    }
    client.commit(&shared.slots.committed_positions());
    Ok(Ended::Stopped)
}

/// Batches in the making, one per partition. It may outlive the incarnation that panics, with the client that it belongs
/// to: what the client gave and no lane has yet is here.
pub struct Gather {
    shared: Arc<SourceShared>,
    /// Whose records these are: a client that has a successor gathers nothing more.
    reader: Reader,
    open: BTreeMap<i32, Open>,
    /// Partitions whose lane was full: paused at the client, their batch waits here.
    blocked: BTreeSet<i32>,
    /// Partitions of which storage takes nothing: paused at the client.
    resting: BTreeSet<i32>,
    /// Bytes of the largest batch so far: a batch that grows is copied each time.
    room_bytes: usize,
    /// Age at which a batch is due.
    delay: Duration,
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

    /// Polls until a batch is due: full, or older than the longest delay.
    fn poll(&mut self, client: &mut dyn LogClient) -> Result<(), Failure> {
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
        let oldest = waiting.map(|(_, open)| open.since.elapsed()).max();
        oldest.map_or(POLL_TIMEOUT, |age| self.delay.saturating_sub(age))
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
        open.batch.push(record.offset, record.log_timestamp_ms, record.key, record.value);
        (record.headers)(&mut |name, value| open.batch.push_header(name, value));
        open.batch.len() >= limits.max_records || open.batch.bytes() >= limits.max_bytes
    }

    /// Reads no more of partitions of which storage takes nothing, until they are assigned again.
    fn rest(&mut self, client: &mut dyn LogClient) {
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
        if let Some(open) = self.open.get_mut(&partition) {
            open.at_end = true;
        }
        if let Some(slot) = self.shared.slots.of_reader(self.reader, partition) {
            slot.reached_end();
        }
    }

    /// Gives due batches to their lanes; a lane that stays full gets its partition paused.
    fn hand_over(&mut self, scope: &Scope, client: &mut dyn LogClient) {
        let shared = self.shared.clone();
        let limits = &shared.limits;
        let due: Vec<i32> = self
            .open
            .iter()
            .filter(|(partition, open)| {
                let full = open.batch.len() >= limits.max_records || open.batch.bytes() >= limits.max_bytes;
                full || open.since.elapsed() >= self.delay || open.at_end || self.blocked.contains(partition)
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
        let waiting = scope.waiting_on_inbox("lane", &self.shared.lanes[lane]);
        let sent = self.shared.lanes[lane].blocking_send_timeout(work, wait);
        drop(waiting);
        match sent {
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

#[cfg(test)]
mod tests {
    use streamward_kit::Inbox;

    use super::*;
    use crate::logs::tests::OneTopic;

    /// A client that notes what it is told to pause and to resume.
    #[derive(Default)]
    struct Valves(Vec<String>);

    impl LogClient for Valves {
        fn poll(&mut self, _: Duration, _: &mut dyn FnMut(Polled<'_>)) -> Result<(), SourceError> {
            Ok(())
        }

        fn pause(&mut self, partitions: &[i32]) {
            self.0.push(format!("pause {partitions:?}"));
        }

        fn resume(&mut self, partitions: &[i32]) {
            self.0.push(format!("resume {partitions:?}"));
        }

        fn commit(&mut self, _: &[(i32, i64)]) {}
    }

    /// A client that has a record of partition 3, always.
    struct OneRecord;

    impl LogClient for OneRecord {
        fn poll(&mut self, _: Duration, visit: &mut dyn FnMut(Polled<'_>)) -> Result<(), SourceError> {
            let record = RecordView { offset: 0, log_timestamp_ms: 0, key: None, value: None, headers: &|_| {} };
            visit(Polled::Record { partition: 3, record });
            Ok(())
        }

        fn pause(&mut self, _: &[i32]) {}

        fn resume(&mut self, _: &[i32]) {}

        fn commit(&mut self, _: &[(i32, i64)]) {}
    }

    fn shared() -> Arc<SourceShared> {
        let lanes: Inbox<Work> = Inbox::new("lane", 1);
        Arc::new(SourceShared {
            topic: "orders".into(),
            slots: Arc::default(),
            logs: Arc::new(OneTopic::named("first")),
            limits: BatchLimits { max_records: 10, max_bytes: 1000, max_delay: Duration::from_millis(1) },
            lanes: vec![lanes.outlet()],
            held_back: AtomicUsize::new(0),
        })
    }

    #[test]
    fn records_of_a_partition_without_a_slot_end_the_incarnation() {
        let shared = shared();
        let reader = shared.slots.begin_reading();
        let failure = Gather::new(shared, reader).poll(&mut OneRecord).unwrap_err();
        assert_eq!(failure.message, "partition 3 is read and not assigned: assign again");
    }

    #[test]
    fn a_partition_that_storage_refuses_is_not_read_until_it_is_assigned_again() {
        let shared = shared();
        let reader = shared.slots.begin_reading();
        let slot = shared.slots.assign(reader, crate::slot::tests::start(3)).unwrap();
        let (mut gather, mut valves) = (Gather::new(shared.clone(), reader), Valves::default());
        slot.refuse("its row exists already".into());
        for _ in 0..2 {
            gather.rest(&mut valves);
        }
        gather.poll(&mut OneRecord).unwrap();
        assert!(gather.open.is_empty(), "what the client had at hand is left out");
        assert_eq!(shared.slots.lost(), None, "that is no reason to assign it again");
        shared.slots.assign(reader, crate::slot::tests::start(3)).unwrap();
        assert_eq!(shared.slots.stopped(), None);
        gather.rest(&mut valves);
        assert_eq!(valves.0, ["pause [3]", "resume [3]"]);
    }

    #[test]
    fn records_of_a_client_that_has_a_successor_end_its_incarnation() {
        let shared = shared();
        let late = shared.slots.begin_reading();
        let mut gather = Gather::new(shared.clone(), late);
        let newest = shared.slots.begin_reading();
        let slot = shared.slots.assign(newest, crate::slot::tests::start(3)).unwrap();
        let failure = gather.poll(&mut OneRecord).unwrap_err();
        assert_eq!(failure.message, "partition 3 is read and not assigned: assign again");
        gather.mark_end(3);
        assert!(gather.open.is_empty() && !slot.is_caught_up());
    }
}
