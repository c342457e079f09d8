//! Records that come again after a restart of the process: what was decided of them then holds.

#[cfg(test)]
mod tests;

use std::{iter, sync::Arc};

use streamward_core::{
    batch::RawBatch,
    partition::{DecodedInput, PartitionState},
};

use crate::{poison::Poison, store::PartitionKey};

/// The records of a batch that are not to be processed: those that were `found` to be poison, and those that storage has as
/// dead letters.
pub(super) fn set_aside(state: &PartitionState, batch: &RawBatch, found: Arc<[Poison]>) -> Arc<[Poison]> {
    let Some(decided) = state.decided() else { return found };
    let reason: Arc<str> = Arc::from("");
    let is_dead = |offset: &i64| decided.is_dead(*offset) == Some(true);
    let dead = batch.iter().map(|record| record.offset()).filter(is_dead);
    let mut all: Vec<Poison> = found.iter().cloned().collect();
    all.extend(dead.zip(iter::repeat(reason)).map(|(offset, reason)| Poison { offset, reason }));
    all.sort_by_key(|poison| poison.offset);
    all.dedup_by_key(|poison| poison.offset);
    all.into()
}

/// Says how many stored records can no longer be read: the state has to do without them.
pub(super) fn warn_of_lost(state: &PartitionState, input: &DecodedInput, key: &PartitionKey) {
    let Some(decided) = state.decided() else { return };
    let lost = input.dead.iter().filter(|letter| decided.is_dead(letter.offset) == Some(false));
    let mut lost = lost.peekable();
    if let Some(first) = lost.peek().map(|letter| letter.reason.clone()) {
        let records = lost.count();
        tracing::warn!(topic = %key.topic, partition = key.partition, records, "stored records can no longer be read, so open windows and rules go on without them; the first: {first}");
    }
}
