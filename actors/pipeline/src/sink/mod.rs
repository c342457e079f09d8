//! The SQL sink role: groups outputs into one transaction, then moves the slots.
//!
//! Receives [`Store`]. What it has in hand stays in its inbox until the commit has returned, so a new incarnation finds
//! it again; an output that the lost incarnation had committed is recognised by its position. Storage that does not
//! answer is no crash: the sink degrades, retries with back-off, and its full inbox pushes back to the log. An output that
//! storage refuses stops its partition, loudly, until it is assigned again; the others go on.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use streamward_core::output::Output;
use streamward_kit::{Delivery, Failure, Inbox, Scope};
use tokio::time::Instant;

use crate::{
    messages::Store,
    pace::due_at,
    slot::PartitionSlot,
    store::{Outcome, Pending, SinkStore, StoreError},
};

/// First and longest wait between attempts while storage is unavailable.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// How long what comes with the first output of a transaction is waited for, where the last commit is long ago.
const FEW: Duration = Duration::from_millis(5);

/// Told about each commit; the seam through which measurements see the sink.
pub trait CommitObserver: Send + Sync {
    /// Called after COMMIT has returned, before anything else happens.
    fn committed(&self, pending: &[Arc<Pending>]);
}

/// Everything a sink needs; shared by its incarnations.
pub struct SinkShared {
    pub inbox: Inbox<Arc<Store>>,
    pub store: Arc<dyn SinkStore>,
    pub limits: CommitLimits,
    pub observer: Option<Arc<dyn CommitObserver>>,
}

/// Bounds of one transaction.
#[derive(Debug, Clone)]
pub struct CommitLimits {
    /// Rows worth a transaction: with fewer, the sink waits for more. A record that gets no row counts like one.
    pub max_rows: usize,
    /// Rows in one transaction when more are there already.
    pub max_rows_busy: usize,
    /// How long a small transaction waits for more rows at most, and time between two small ones.
    pub max_delay: Duration,
}

impl CommitLimits {
    /// Of [`Self::max_rows`] and [`Self::max_rows_busy`].
    pub const ROWS: RangeInclusive<usize> = 1..=1_000_000;
    /// Of [`Self::max_delay`]; what is longer is felt as lag.
    pub const DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(10);
}

/// Runs one incarnation of a sink.
///
/// # Errors
/// On an injected error, or when it is to stop while storage is unavailable.
pub async fn run(scope: Scope, shared: Arc<SinkShared>) -> Result<(), Failure> {
    let mut committed_at = None;
    while let Some(first) = shared.inbox.recv(&scope).await {
        // Counted from when it was sent, so that a new incarnation does not wait again with what the last one left.
        let until = due_at(first.born(), committed_at, FEW, shared.limits.max_delay);
        let group = gather(&scope, &shared, first, until).await;
        let pending: Vec<Arc<Pending>> = group.iter().map(|delivery| delivery.pending.clone()).collect();
        let _in_hand = scope.in_hand(format!("{} outputs", pending.len()));
        if !group.iter().all(Delivery::claim) {
            continue;
        }
        scope.pause_point().await;
        scope.fault_point("before_commit").await?;
        let outcomes = commit(&scope, &shared, &pending).await?;
        committed_at = Some(Instant::now());
        if let Some(observer) = &shared.observer {
            observer.committed(&pending);
        }
        scope.fault_point("after_commit").await?;
        settle(&scope, group, &outcomes);
    }
    Ok(())
}

/// Takes what is there, and waits a little while it is less than a transaction is worth.
async fn gather(
    scope: &Scope,
    shared: &SinkShared,
    first: Delivery<Arc<Store>>,
    until: Instant,
) -> Vec<Delivery<Arc<Store>>> {
    let mut records = first.pending.output.records();
    let mut group = vec![first];
    while records < shared.limits.max_rows_busy {
        let next = match shared.inbox.try_recv(scope) {
            Some(next) => next,
            None if records >= shared.limits.max_rows => break,
            None => {
                let _waiting = scope.waiting_on("rows");
                match tokio::time::timeout_at(until, shared.inbox.recv(scope)).await {
                    Ok(Some(next)) => next,
                    _ => break,
                }
            }
        };
        records += next.pending.output.records();
        group.push(next);
    }
    group
}

/// Commits, and keeps trying while storage is unavailable.
async fn commit(scope: &Scope, shared: &SinkShared, pending: &[Arc<Pending>]) -> Result<Vec<Outcome>, Failure> {
    let mut wait = RETRY_FIRST;
    loop {
        let result = {
            let _waiting = scope.waiting_on("sql");
            shared.store.commit(pending).await
        };
        match result {
            Ok(outcomes) => {
                scope.clear_state_note();
                return Ok(outcomes);
            }
            // Trying again would end the same way, for ever: the partitions stand still instead.
            Err(StoreError::Protocol(why)) => return Ok(vec![Outcome::Refused(why.into()); pending.len()]),
            Err(StoreError::Unavailable(why)) => {
                scope.set_state_note(&format!("storage is unavailable: {why}"));
                let _waiting = scope.waiting_on("sql");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_MAX);
                if scope.must_stop() {
                    return Err(Failure::new(format_args!("stopped while storage is unavailable: {why}")));
                }
            }
        }
    }
}

fn settle(scope: &Scope, group: Vec<Delivery<Arc<Store>>>, outcomes: &[Outcome]) {
    for (delivery, outcome) in group.into_iter().zip(outcomes) {
        let slot = delivery.slot.clone();
        let output = &delivery.pending.output;
        let records = output.records() as u64;
        match outcome {
            Outcome::Committed | Outcome::AlreadyCommitted => {
                slot.commit(output, 0);
                scope.progress(records);
            }
            Outcome::CommittedWithout(refused) => {
                slot.commit(output, *refused);
                scope.progress(records);
                tracing::warn!(key = ?slot.key, refused, start = output.start, end = output.end, "the database refused records: they are dead letters");
            }
            Outcome::Refused(why) => refuse(&slot, output, why),
            // It was on its way when the partition came to a stand.
            Outcome::Stale if slot.refusal().is_some() => {}
            Outcome::Stale => {
                tracing::warn!(key = ?slot.key, epoch = slot.epoch, end = output.end, "another owner has this partition: output dropped");
                slot.revoke();
            }
        }
        delivery.commit();
    }
}

/// Stops the partition of an output that storage refuses. What it issued is in the log still, and comes again.
fn refuse(slot: &PartitionSlot, output: &Output, why: &str) {
    if slot.refusal().is_some() {
        return;
    }
    let key = &slot.key;
    let told = format!(
        "partition {} of topic {} stands still at offset {}: storage refused its records up to {}: {why}; nothing of it \
         is lost: mend the cause, then restart pipelines/{}/source",
        key.partition,
        key.topic,
        slot.committed(),
        output.end,
        key.sink
    );
    tracing::error!(topic = %key.topic, partition = key.partition, "{told}");
    slot.refuse(told.into());
}

#[cfg(test)]
mod drills;
#[cfg(test)]
mod tests;
