//! The port through which sources and sinks reach the SQL database, and the words of the position protocol.
//!
//! A partition's position, its rows and its state move in one transaction. A transaction is refused, batch by batch,
//! where the stored epoch or position is not what the batch believes: a zombie or a rewound lane can therefore never
//! write. Where to start reading: [`SinkStore::commit`].

mod database;

use std::{ops::Range, pin::Pin, sync::Arc};

use streamward_core::{
    batch::RawBatch,
    output::{Output, StateChunk},
    partition::Decisions,
};

pub use self::database::{
    Audit, Mended, NextUpkeep, RangeKind, Retained, RetentionPolicy, Store, StoredPosition, Trouble, Upkeep,
};
use crate::logs::LogIdentity;

/// A boxed future that may cross threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One partition as seen by one sink.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PartitionKey {
    /// Pipeline name; the key of `sw_positions`.
    pub sink: Arc<str>,
    pub topic: Arc<str>,
    pub partition: i32,
}

/// What storage knows about a partition that has just been assigned to this process.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// Fencing epoch: larger than any before.
    pub epoch: i64,
    /// Small number of the log, part of the row ids.
    pub log: i64,
    /// Next offset to store; `None` when this log was never read before.
    pub position: Option<i64>,
    /// Position at which the sink began to read this log; of no meaning without a position.
    pub first_offset: i64,
    /// Where the stored state stands, and the state.
    pub checkpoint: Option<Checkpoint>,
    /// No stored record that counts has a later event time, in milliseconds since 1970; `NO_WATERMARK` without records.
    pub newest_event_ms: i64,
    /// What was decided of the records from the checkpoint to the position; empty where there is no position.
    pub decisions: Decisions,
}

/// State of a partition that covers every record below `next_offset`.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub next_offset: i64,
    pub chunks: Vec<StateChunk>,
}

/// A range of offsets of one partition that an output covers besides that of its own records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputRange {
    pub key: PartitionKey,
    pub epoch: i64,
    pub log: i64,
    /// From the stored position to that after the output; empty where the position has to be there and stays.
    pub offsets: Range<i64>,
}

/// An output on its way into storage.
#[derive(Debug)]
pub struct Pending {
    pub key: PartitionKey,
    pub epoch: i64,
    pub log: i64,
    pub output: Output,
    /// Ranges of other partitions that it covers. All of them are compared and moved together with its own, or none is.
    pub beside: Vec<InputRange>,
    /// The records that it came from, for those that the database refuses; none for a tick.
    pub raw: Option<Arc<RawBatch>>,
}

/// What became of one pending output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Committed,
    /// Committed, except so many rows that the database refused: they are dead letters.
    CommittedWithout(u64),
    /// An earlier attempt whose outcome was unknown had committed it.
    AlreadyCommitted,
    /// Another epoch owns the partition, or the position is elsewhere: nothing was written.
    Stale,
    /// The output breaks a promise of the protocol, such as a row that exists already: nothing of it was written, and
    /// the next attempt would end like this one. Later outputs of its partition are refused for the same reason.
    Refused(Arc<str>),
}

/// Why storage could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Busy, full or gone for now: the same call may succeed later.
    #[error("storage is unavailable: {0}")]
    Unavailable(String),
    /// A broken promise of the protocol that no single output is at fault for: retrying cannot help.
    #[error("storage refused: {0}")]
    Protocol(String),
}

/// Storage as sources and sinks need it.
pub trait SinkStore: Send + Sync {
    /// Takes the partition over: raises the epoch and returns position, state and what was decided of the records between
    /// them.
    fn assign<'a>(
        &'a self,
        key: &'a PartitionKey,
        log: &'a LogIdentity,
    ) -> BoxFuture<'a, Result<Assignment, StoreError>>;

    /// Sets the position of a partition that has none, or skips a gap in its log.
    fn start_at<'a>(&'a self, key: &'a PartitionKey, start: Start) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Ends the alerts that fire of a partition's log: its rules begin anew, and nobody would end them.
    fn begin_rules<'a>(&'a self, key: &'a PartitionKey, log: i64) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Commits outputs in one transaction; outcomes come in the order of `pending`.
    ///
    /// Outputs of one partition must follow each other in offset order. A row that the database refuses becomes a dead
    /// letter in the same transaction; an output that cannot be stored for another reason is refused alone.
    fn commit<'a>(&'a self, pending: &'a [Arc<Pending>]) -> BoxFuture<'a, Result<Vec<Outcome>, StoreError>>;
}

/// Where a partition begins, or goes on behind a gap.
#[derive(Debug, Clone)]
pub struct Start {
    pub epoch: i64,
    pub log: i64,
    pub position: i64,
    /// Offsets that the log no longer holds and that were never stored.
    pub gap: Option<Range<i64>>,
}
