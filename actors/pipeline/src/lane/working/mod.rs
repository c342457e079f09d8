//! A lane's working state of one partition, and what falls due in it without a record.
//!
//! Intervals (how long a partition has been at rest, when a checkpoint is due) are measured by the monotonic clock: a wall
//! clock that is set back or forth neither delays nor hastens them. The wall clock only says which windows have ended.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use streamward_core::{
    output::Output,
    partition::{CheckpointScope, PartitionState, PipelinePlan},
};
use tokio::time::Instant;

use super::LaneSettings;
use crate::slot::PartitionSlot;

/// Decisions that replay may have to remember: with more of them since the last checkpoint, the next is due.
const MAX_DECISIONS: usize = 65_536;

/// The working state of one partition.
pub(super) struct Working {
    pub(super) slot: Arc<PartitionSlot>,
    pub(super) state: PartitionState,
    checkpoint_at: Instant,
    /// Records since the last checkpoint that are dead letters or ahead.
    decisions: usize,
    /// Since when everything that the log holds has been processed; unknown after a batch, and only a batch ends it.
    at_rest_since: Option<Instant>,
    /// First moment of the wall clock at which a tick may emit something; unknown after a batch.
    emits_at_ms: Option<i64>,
}

impl Working {
    /// The state of a slot that an incarnation has just taken over.
    pub(super) fn new(slot: Arc<PartitionSlot>, state: PartitionState) -> Self {
        Self { slot, state, checkpoint_at: Instant::now(), decisions: 0, at_rest_since: None, emits_at_ms: None }
    }

    /// Notes that a batch was processed; its output carries the changed state if a checkpoint is due.
    pub(super) fn after_batch(&mut self, settings: &LaneSettings, output: &mut Output) {
        (self.at_rest_since, self.emits_at_ms) = (None, None);
        self.decisions += output.dead.len() + output.ahead.len();
        let emits = output.end > self.slot.emit_from;
        if emits && self.is_checkpoint_due(settings.checkpoint_every) {
            output.checkpoint = self.state.checkpoint(CheckpointScope::Changed);
            (self.checkpoint_at, self.decisions) = (Instant::now(), 0);
        }
    }

    /// The output of a tick, if a partition at rest has windows to emit or a checkpoint is due; `last` makes a checkpoint
    /// of everything that none covers.
    pub(super) fn due(
        &mut self,
        plan: &PipelinePlan,
        settings: &LaneSettings,
        now_ms: i64,
        last: bool,
    ) -> Option<Output> {
        let mut output = None;
        if self.slot.is_caught_up() {
            let since = *self.at_rest_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= settings.idle_after {
                output = self.emit(plan, now_ms);
            }
        }
        let is_due = last || self.is_checkpoint_due(settings.checkpoint_every);
        if output.is_none() && is_due && self.slot.checkpointed() < self.slot.processed() {
            output = self.state.checkpoint_output(plan, self.slot.emit_from);
        }
        if output.is_some() {
            (self.checkpoint_at, self.decisions) = (Instant::now(), 0);
        }
        output
    }

    /// What has ended by the wall clock. Windows are looked at only when one of them may have.
    fn emit(&mut self, plan: &PipelinePlan, now_ms: i64) -> Option<Output> {
        let state = &self.state;
        let emits_at_ms = *self.emits_at_ms.get_or_insert_with(|| state.ticks_at().unwrap_or(i64::MAX));
        if now_ms < emits_at_ms {
            return None;
        }
        self.emits_at_ms = None;
        self.state.tick(plan, now_ms, self.slot.emit_from)
    }

    fn is_checkpoint_due(&self, every: Duration) -> bool {
        self.state.begins_anew() || self.checkpoint_at.elapsed() >= every || self.decisions >= MAX_DECISIONS
    }
}
