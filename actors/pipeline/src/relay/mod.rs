//! The relay role: follows the outbox to a Kafka topic, at least once.
//!
//! One relay per kind of fact. An entry leaves the outbox after its target has acknowledged it; a restart repeats at
//! most one page. A slow or dead target holds up nothing but its own relay. Facts that are in one order, such as the
//! transitions of a rule's key, reach the target in it: what follows one that failed waits with it ([`crate::chains`]).

mod facts;

use std::{sync::Arc, time::Duration};

use streamward_kit::{Failure, Scope};

pub use self::facts::{AlertFact, DeadLetterFact};
use crate::{
    chains,
    store::{BoxFuture, StoreError},
};

/// First and longest wait after a failed attempt.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// Longest wait for a notice of new entries; entries of an earlier process come without one.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What follows SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactKind {
    Alert,
    DeadLetter,
}

/// Place of an entry in the outbox of a kind of fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryId {
    /// Pipeline that the fact is of.
    pub sink: String,
    /// Number of the fact among those of its kind; ascends in commit order.
    pub fact: i64,
}

/// A fact as a Kafka record.
#[derive(Debug, Clone)]
pub struct Fact {
    pub entry: EntryId,
    /// Facts with the same text here reach the target one after the other; none for a fact that stands alone.
    pub in_order: Option<String>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// The outbox of a store.
pub trait Outbox: Send + Sync {
    /// Returns when entries were committed since the last call.
    fn changed(&self, kind: FactKind) -> BoxFuture<'_, ()>;

    /// The oldest entries of every pipeline, in commit order within each; a page that is bounded in entries and bytes.
    fn facts(&self, kind: FactKind) -> BoxFuture<'_, Result<Vec<Fact>, StoreError>>;

    /// Removes entries that the target has.
    fn sent<'a>(&'a self, kind: FactKind, entries: &'a [EntryId]) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Notes on a fact that the target refuses it for good.
    fn undeliverable<'a>(&'a self, kind: FactKind, id: i64, why: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// Why a target did not take a fact.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("refused: {0}")]
    Refused(String),
    #[error("unavailable: {0}")]
    Unavailable(String),
}

/// Where facts go.
pub trait Target: Send + Sync {
    /// Sends facts; answers come in their order.
    fn send<'a>(&'a self, facts: &'a [Fact]) -> BoxFuture<'a, Vec<Result<(), TargetError>>>;
}

/// Everything a relay needs; shared by its incarnations.
pub struct RelayShared {
    pub kind: FactKind,
    pub outbox: Arc<dyn Outbox>,
    pub target: Arc<dyn Target>,
}

/// Runs one incarnation of a relay.
///
/// # Errors
/// On an injected error or a broken promise of storage.
pub async fn run(scope: Scope, shared: Arc<RelayShared>) -> Result<(), Failure> {
    let mut wait = RETRY_FIRST;
    while !scope.is_stopping() {
        scope.pause_point().await;
        scope.fault_point("relay").await?;
        match page(&scope, &shared).await {
            Ok(0) => {
                wait = RETRY_FIRST;
                scope.clear_state_note();
                let _waiting = scope.waiting_on("outbox");
                tokio::select! {
                    _ = tokio::time::timeout(LOOK_EVERY, shared.outbox.changed(shared.kind)) => {}
                    () = scope.stopping() => return Ok(()),
                }
            }
            Ok(sent) => scope.progress(sent),
            Err(why) => {
                scope.set_state_note(&why);
                let _waiting = scope.waiting_on("target");
                tokio::select! {
                    () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY_MAX),
                    () = scope.stopping() => return Ok(()),
                }
            }
        }
    }
    Ok(())
}

/// Sends one page; returns how many entries left the outbox.
async fn page(scope: &Scope, shared: &RelayShared) -> Result<u64, String> {
    let facts = shared.outbox.facts(shared.kind).await.map_err(|error| error.to_string())?;
    if facts.is_empty() {
        return Ok(0);
    }
    let _in_hand = scope.in_hand(format!("{} facts", facts.len()));
    let answers = {
        let _waiting = scope.waiting_on("target");
        chains::send(&*shared.target, facts).await
    };
    let mut done = Vec::with_capacity(answers.len());
    let mut failed = None;
    for (entry, answer) in answers {
        match answer {
            Ok(()) => done.push(entry),
            Err(TargetError::Refused(why)) => {
                let noted = shared.outbox.undeliverable(shared.kind, entry.fact, &why).await;
                noted.map_err(|error| error.to_string())?;
                done.push(entry);
            }
            Err(TargetError::Unavailable(why)) => failed = Some(why),
        }
    }
    shared.outbox.sent(shared.kind, &done).await.map_err(|error| error.to_string())?;
    match failed {
        Some(why) => Err(why),
        None => Ok(done.len() as u64),
    }
}

#[cfg(test)]
mod tests;
