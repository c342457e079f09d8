//! A partition's state as chunks of bytes ([`crate::chunk`]), and back.
//!
//! The chunk `watermark` is part of every checkpoint: its `covered` counts for all. A chunk that has not changed since
//! is as good as one written with it, so that only changed ones are written. A rule whose chunk covers more judges no
//! record below that.

use std::sync::Arc;

use super::{plan::PipelinePlan, state::PartitionState};
use crate::{
    chunk::{Opened, StateError, chunk, open},
    output::{Output, StateChunk},
    steps::{Before, Covered, Start, rule::is_of_a_rule},
    watermark::NO_WATERMARK,
};

/// Name of the chunk that every checkpoint has.
pub const WATERMARK: &str = "watermark";

/// Which chunks a checkpoint has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointScope {
    /// Those that changed since the last checkpoint.
    Changed,
    /// All of them.
    Full,
}

impl PartitionState {
    /// The state as chunks, to be stored with the position [`PartitionState::covered`].
    ///
    /// What is returned counts as stored: drop this state for an earlier clone if storing fails.
    pub fn checkpoint(&mut self, scope: CheckpointScope) -> Vec<StateChunk> {
        let at = Covered { offset: self.covered.unwrap_or(0), watermark_ms: self.watermark.value_ms() };
        self.is_behind_gap = false;
        let mut chunks = vec![chunk(WATERMARK.into(), at.offset, "", &at.watermark_ms)];
        for step in &mut self.steps {
            step.checkpoint(at, scope == CheckpointScope::Full, &mut chunks);
        }
        chunks
    }

    /// The state that a checkpoint holds. Steps without a chunk are new: a rule starts empty, a window step with the first
    /// window that begins after `newest_event_ms` and after all event times up to the watermark. Chunks of rules alone are
    /// of a partition that has stored records and no checkpoint yet: it begins as one that has seen nothing.
    ///
    /// # Errors
    /// If a chunk is damaged or not of this plan, or the watermark is missing.
    pub fn restore(
        plan: &PipelinePlan,
        topic: Arc<str>,
        partition: i32,
        chunks: &[StateChunk],
        newest_event_ms: i64,
    ) -> Result<Self, StateError> {
        let watermark = watermark_of(chunks)?;
        let before = if watermark.is_some() { Before::Checkpoint } else { Before::Nothing };
        if before == Before::Nothing && !chunks.iter().all(is_of_a_rule) {
            return Err(StateError::NoWatermark);
        }
        let start = start(plan, (chunks, watermark.as_ref()), before, newest_event_ms);
        let state = Self::start(plan, (topic, partition), (start, watermark.map(|opened| opened.covered)))?;
        let known: Vec<Arc<str>> = plan.steps.iter().flat_map(|step| step.chunks()).chain([WATERMARK.into()]).collect();
        match chunks.iter().find(|chunk| !known.contains(&chunk.name)) {
            Some(chunk) => Err(StateError::UnknownChunk { chunk: chunk.name.to_string() }),
            None => Ok(state),
        }
    }

    /// The state behind a gap of the log, after records whose event times reached up to `newest_event_ms`: rules go on
    /// with what `chunks` hold, window steps begin anew, since nobody knows what their windows miss.
    ///
    /// # Errors
    /// As [`PartitionState::restore`].
    pub fn behind_gap(
        plan: &PipelinePlan,
        topic: Arc<str>,
        partition: i32,
        chunks: &[StateChunk],
        newest_event_ms: i64,
    ) -> Result<Self, StateError> {
        let start = start(plan, (chunks, watermark_of(chunks)?.as_ref()), Before::Gap, newest_event_ms);
        let state = Self::start(plan, (topic, partition), (start, None))?;
        Ok(Self { is_behind_gap: true, ..state })
    }

    /// Emits windows that have ended by the wall clock although no record has come to close them.
    ///
    /// For a lane that has been at the end of its log for a while. The clock is not in the log, so the output carries a
    /// full checkpoint: replay never crosses it. It is of the stored position `emit_from` where the log holds no more
    /// records up to there. None if there is nothing to emit.
    pub fn tick(&mut self, plan: &PipelinePlan, now_ms: i64, emit_from: i64) -> Option<Output> {
        let position = self.covered?.max(emit_from);
        let rows: Vec<_> = self.steps.iter_mut().flat_map(|step| step.tick(now_ms)).collect();
        if rows.is_empty() {
            return None;
        }
        let mut output = self.empty_output(plan, position);
        output.windows = rows;
        output.checkpoint = self.checkpoint(CheckpointScope::Full);
        Some(output)
    }

    /// The first moment of the wall clock at which [`PartitionState::tick`] has something to emit, unless records come.
    #[must_use]
    pub fn ticks_at(&self) -> Option<i64> {
        self.steps.iter().filter_map(|step| step.ticks_at()).min()
    }

    /// An output without effects that stores the whole state, or none before the first batch.
    pub fn checkpoint_output(&mut self, plan: &PipelinePlan, emit_from: i64) -> Option<Output> {
        let mut output = self.empty_output(plan, self.covered?.max(emit_from));
        output.checkpoint = self.checkpoint(CheckpointScope::Full);
        Some(output)
    }
}

/// The checkpoint of a partition whose windows and rules begin at `position`; `watermark` is that of the checkpoint that
/// it takes the place of, if there is one.
///
/// # Errors
/// If `watermark` cannot be read.
pub fn begin_at(position: i64, watermark: Option<&StateChunk>) -> Result<StateChunk, StateError> {
    let value_ms =
        watermark.map(|chunk| open::<i64>(chunk, "")).transpose()?.map_or(NO_WATERMARK, |opened| opened.body);
    Ok(chunk(WATERMARK.into(), position, "", &value_ms))
}

fn watermark_of(chunks: &[StateChunk]) -> Result<Option<Opened<i64>>, StateError> {
    chunks.iter().find(|chunk| &*chunk.name == WATERMARK).map(|chunk| open(chunk, "")).transpose()
}

/// Where steps start that have these chunks, and that watermark among them.
fn start<'a>(
    plan: &PipelinePlan,
    (chunks, watermark): (&'a [StateChunk], Option<&Opened<i64>>),
    before: Before,
    newest_event_ms: i64,
) -> Start<'a> {
    let watermark_ms = watermark.map_or(NO_WATERMARK, |opened| opened.body);
    let newest_event_ms = newest_event_ms.max(plan.watermark().newest_event_ms(watermark_ms));
    Start { chunks, before, watermark_ms, newest_event_ms }
}
