//! The database as the application needs it besides the way of records: upkeep, retention, questions after its health, and
//! the recount of what it holds.

use std::{
    ops::{Range, RangeInclusive},
    sync::Arc,
    time::Duration,
};

use super::{BoxFuture, SinkStore, StoreError};
use crate::{logs::LogIdentity, relay::Outbox};

/// What to keep of rows, windows and facts.
#[derive(Debug, Clone)]
pub struct RetentionPolicy {
    /// Time since something was stored.
    pub age: Option<Duration>,
    /// Bytes that the database uses.
    pub size_bytes: Option<u64>,
}

impl RetentionPolicy {
    /// Of [`Self::age`].
    pub const AGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(36_525 * 24);
    /// Of [`Self::size_bytes`]: up to the largest file of SQLite, 2^32 pages of 64 KiB.
    pub const SIZE_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 48;
}

/// What one step of retention did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retained {
    /// Rows that went.
    pub rows: u64,
    /// Pages that were handed back to the file system.
    pub pages: u64,
    /// Bytes over the limit of size that nothing could be removed for.
    pub stuck_bytes: u64,
}

impl Retained {
    /// Whether there was nothing to remove and nothing to hand back.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.rows == 0 && self.pages == 0
    }
}

/// Why the database does not do what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It takes no writes now; it may by itself.
    Busy(String),
    /// [`Store::mend`] mends it.
    Mendable(String),
    /// What the server has open is no longer the database: only another start helps.
    Gone(String),
    /// What it holds cannot be read.
    Damaged {
        why: String,
        /// What somebody can do about it.
        way_out: &'static str,
    },
}

/// How much of what was stored is in the database after it was mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mended {
    /// All of it.
    Whole,
    /// Less: the rest must be read from the log again.
    Older,
}

/// What one step of upkeep did, and when the next is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upkeep {
    /// How much was done, in units of the database; 0 where nothing was to do.
    pub done: u64,
    pub next: NextUpkeep,
}

/// When upkeep is due again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextUpkeep {
    /// After a while.
    In(Duration),
    /// A while after the next commit ([`Store::written`]).
    AfterCommit(Duration),
}

/// The whole database. Its parts for records are [`SinkStore`] and [`Outbox`]; reads for clients are
/// `streamward_core::ports::ReadStore`.
pub trait Store: SinkStore + Outbox {
    /// Notes who did what to which actor.
    ///
    /// # Errors
    /// If the database is busy or gone.
    fn note_action<'a>(
        &'a self,
        who: &'a str,
        action: &'a str,
        target: &'a str,
        detail: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Partition and next offset of each partition in the log of a topic that a sink read last, ascending.
    ///
    /// # Errors
    /// If the database is busy or gone.
    fn newest_positions<'a>(
        &'a self,
        sink: &'a Arc<str>,
        topic: &'a Arc<str>,
    ) -> BoxFuture<'a, Result<Vec<(i32, i64)>, StoreError>>;

    /// Removes a little of what the policy no longer keeps. Callers repeat it, with a pause between, until it finds nothing
    /// to do.
    ///
    /// # Errors
    /// If the database is busy or gone.
    fn retain<'a>(&'a self, policy: &'a RetentionPolicy) -> BoxFuture<'a, Result<Retained, StoreError>>;

    /// Returns when something was committed since the last call.
    fn written(&self) -> BoxFuture<'_, ()>;

    /// Does a step of what the database needs beside commits, such as writing a log back or making tables for the days to
    /// come.
    ///
    /// # Errors
    /// If the database is busy or gone.
    fn upkeep(&self) -> BoxFuture<'_, Result<Upkeep, StoreError>>;

    /// Whether it takes writes and is sound, asked without writing. At most one question is under way; it waits about
    /// `within` for others' locks.
    ///
    /// # Errors
    /// [`Trouble`]
    fn probe(&self, within: Duration) -> BoxFuture<'_, Result<(), Trouble>>;

    /// Mends a [`Trouble::Mendable`].
    ///
    /// # Errors
    /// Why it cannot be mended now.
    fn mend(&self) -> BoxFuture<'_, Result<Mended, StoreError>>;

    /// Leaves the database as it shall be found; called once, when nothing is stored any more.
    ///
    /// # Errors
    /// If the database is busy or gone.
    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// One partition's position as stored.
#[derive(Debug, Clone)]
pub struct StoredPosition {
    pub sink: String,
    pub topic: String,
    pub partition: i32,
    pub log: i64,
    pub next_offset: i64,
    pub first_offset: i64,
    /// Rows below may have been removed by retention.
    pub retained_from: i64,
    /// Records stored, dead and filtered so far.
    pub accounted: i64,
}

/// Kinds of ranges of offsets that have no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeKind {
    /// A filter removed them, or the pipeline stores no rows.
    Filtered,
    /// Their dead letters were removed by retention.
    Removed,
    /// The log did not hold them any more.
    Gap,
}

impl RangeKind {
    /// Its name in `sw_ranges`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Filtered => "filtered",
            Self::Removed => "removed",
            Self::Gap => "gap",
        }
    }
}

/// What the database says happened to each offset: read-only, on a connection of its own.
///
/// Every call fails with [`StoreError::Unavailable`] if the database is busy or gone.
pub trait Audit: Send {
    /// Sees the database as it is at its next read, until [`Self::end`]: retention goes on beside a recount.
    fn begin(&mut self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Sees the present again.
    fn end(&mut self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// All positions, by sink, topic, partition and log.
    fn positions(&mut self) -> BoxFuture<'_, Result<Vec<StoredPosition>, StoreError>>;

    /// From where on the rows of a position are complete.
    fn retained_from<'a>(&'a mut self, position: &'a StoredPosition) -> BoxFuture<'a, Result<i64, StoreError>>;

    /// The number that a log has among those of its topic, if it was ever read.
    fn log_number<'a>(
        &'a mut self,
        topic: &'a str,
        log: &'a LogIdentity,
    ) -> BoxFuture<'a, Result<Option<i64>, StoreError>>;

    /// Offsets of a table's rows in a range, ascending; an offset that is stored twice comes twice.
    fn stored<'a>(
        &'a mut self,
        table: &'a str,
        position: &'a StoredPosition,
        range: Range<i64>,
    ) -> BoxFuture<'a, Result<Vec<i64>, StoreError>>;

    /// Offsets of dead letters in a range, ascending.
    fn dead<'a>(
        &'a mut self,
        position: &'a StoredPosition,
        range: Range<i64>,
    ) -> BoxFuture<'a, Result<Vec<i64>, StoreError>>;

    /// Ranges of a kind that overlap a range, ascending.
    fn ranges<'a>(
        &'a mut self,
        position: &'a StoredPosition,
        kind: RangeKind,
        range: Range<i64>,
    ) -> BoxFuture<'a, Result<Vec<Range<i64>>, StoreError>>;

    /// Rows of a table that were stored since a time, and distinct values of one of its columns.
    fn count_distinct<'a>(
        &'a mut self,
        table: &'a str,
        column: &'a str,
        since_ms: i64,
    ) -> BoxFuture<'a, Result<(u64, u64), StoreError>>;

    /// Rows stored since a time whose number, a text like `zone_17`, does not exceed that of the row before of the same
    /// key.
    fn steps_back<'a>(
        &'a mut self,
        table: &'a str,
        key: &'a str,
        number: &'a str,
        since_ms: i64,
    ) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// Values of all dead letters of a topic.
    fn dead_values<'a>(&'a mut self, topic: &'a str) -> BoxFuture<'a, Result<Vec<Option<Vec<u8>>>, StoreError>>;

    /// How many alerts fire, and how many transitions wait to be announced.
    fn alerts(&mut self) -> BoxFuture<'_, Result<(u64, u64), StoreError>>;

    /// An error of one of the other calls, with what is damaged in the database if it is.
    fn with_damage(&mut self, error: String) -> BoxFuture<'_, String>;
}
