//! The source role: one poll thread per pipeline turns a log into batches and hands them to the lanes.
//!
//! It owns no state that matters: where to go on is in the slots ([`crate::slot`]) and in storage. A full lane inbox
//! first blocks the thread for a second, then pauses that partition at the client and keeps polling, so that
//! the group membership stays alive and other partitions go on.

mod gather;

use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use streamward_kit::{Failure, Outlet, Progress, Scope};

pub use self::gather::Gather;
use crate::{logs::Logs, messages::Work, ports::Clock, slot::Slots};

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

impl BatchLimits {
    /// Of [`Self::max_records`].
    pub const RECORDS: RangeInclusive<usize> = 1..=65_536;
    /// Of [`Self::max_bytes`].
    pub const BYTES: RangeInclusive<usize> = 1..=64 << 20;
    /// Of [`Self::max_delay`]; what is longer is felt as lag.
    pub const DELAY: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(10);
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
    /// −1 where the log has none.
    pub log_timestamp_ms: i64,
    /// Whether the broker's clock wrote it, and not whatever the producer says.
    pub is_broker_time: bool,
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
    pub clock: Arc<dyn Clock>,
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
        // One that was held reads nothing more before it ends.
        if scope.is_stopping() {
            break;
        }
        scope.fault_point_blocking("poll")?;
        if shared.logs.last_told(&shared.topic).is_some_and(|now| shared.slots.reads_another_log(&now)) {
            tracing::warn!(topic = %shared.topic, "the topic was made anew: it is read as another log, from its beginning");
            return Ok(Ended::OtherLog);
        }
        {
            let _waiting = scope.waiting_on("log");
            gather.poll(client)?;
        }
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

#[cfg(test)]
mod tests;
