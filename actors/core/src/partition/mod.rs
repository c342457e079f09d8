//! What a lane does with one partition, as pure logic: decoded records in, effects out.
//!
//! [`PipelinePlan`] is a pipeline's steps checked against its stream's schema; [`PartitionState`] is what one partition
//! remembers between batches (watermark, windows, rules). `process` turns a batch into an [`Output`] that one
//! transaction stores; the position moves with it.
//!
//! Invariants, each with a property test:
//! - cutting the same log into other batches gives the same effects in the same order;
//! - a state restored from a checkpoint, fed again from there with `emit_from` at the stored position, gives exactly the
//!   effects that were still missing, whatever registries, clocks and limits say by then: `decisions.rs`.
//!
//! The watermark is moved by every decoded record, also by those that a filter step removes: it says how far the
//! partition has come, not what a window got to see.
//!
//! It is not the lane's bookkeeping: tokens, retries, snapshots and when to write a checkpoint are the actor's business.
//!
//! Start with `plan.rs`, then `state.rs`; `checkpoint.rs` is the form in which state is stored.

mod checkpoint;
mod decisions;
mod plan;
mod state;

#[cfg(test)]
mod beginnings;
#[cfg(test)]
pub(crate) mod harness;
#[cfg(test)]
mod tests;

pub use checkpoint::{CheckpointScope, WATERMARK, begin_at};
pub use decisions::Decisions;
pub use plan::{MAX_STEPS, PipelinePlan, PipelineSpec, PlanError};
pub use state::{DecodedInput, PartitionState, ProcessError};

pub use crate::{chunk::StateError, output::Output};
