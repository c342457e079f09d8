//! A window as a step of a pipeline: where its state starts, and how a checkpoint keeps it.

use std::sync::Arc;

use super::{WindowBody, WindowPlan, WindowSpec, WindowState};
use crate::{
    chunk::{StateError, chunk, damaged, open, open_any},
    expr::PlanFault,
    output::{StateChunk, WindowRow},
    rows::{BatchInfo, Rows},
    steps::{Before, Covered, Effects, Scope, Settings, Size, Start, Step, StepState, Texts},
};

/// Name of the chunk that keeps the state of a window step.
#[must_use]
pub fn window_chunk(name: &str) -> Arc<str> {
    format!("window/{name}").into()
}

/// Name of the chunk that says where a window step begins that was new in the middle of its log.
fn begin_chunk(name: &str) -> Arc<str> {
    format!("begin/{name}").into()
}

/// Starts of the windows in the chunk of a window step, of whatever plan, whose records are not all in a row.
///
/// # Errors
/// If the chunk is damaged.
pub fn unwritten_windows(chunk: &StateChunk) -> Result<Vec<i64>, StateError> {
    Ok(open_any::<WindowBody>(chunk)?.unwritten().collect())
}

impl Settings for WindowSpec {
    fn name(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn compile(&self, scope: &mut Scope) -> Result<Arc<dyn Step>, Vec<PlanFault>> {
        Ok(Arc::new(WindowPlan::compile(self, &scope.columns)?.within(scope.limits)))
    }
}

impl Step for WindowPlan {
    fn start(self: Arc<Self>, start: &Start<'_>) -> Result<Box<dyn StepState>, StateError> {
        let (state, begins_anew) = match start.before {
            Before::Gap => (WindowState::beginning_after(&self, start.newest_event_ms).behind_unseen(), true),
            Before::Nothing | Before::Checkpoint => match start.chunk(&window_chunk(self.name())) {
                Some(chunk) => (restored(&self, chunk, start)?, false),
                None if start.before == Before::Nothing => (WindowState::default(), false),
                None => (WindowState::beginning_after(&self, start.newest_event_ms), true),
            },
        };
        Ok(Box::new(WindowStep { plan: self, state, begins_anew }))
    }

    fn chunks(&self) -> Vec<Arc<str>> {
        vec![window_chunk(self.name()), begin_chunk(self.name())]
    }

    fn replay(&self) -> Option<(String, Texts)> {
        Some((format!("window {}", self.name()), [self.with_lateness(), self.with_lateness()]))
    }

    fn computes(&self) -> Vec<Texts> {
        self.selects()
    }

    fn window(&self) -> Option<&WindowPlan> {
        Some(self)
    }
}

fn restored(plan: &WindowPlan, chunk: &StateChunk, start: &Start<'_>) -> Result<WindowState, StateError> {
    let state = WindowState::restore(plan, open(chunk, plan.shape())?.body, start.watermark_ms);
    let state = state.ok_or_else(|| damaged(chunk, "its groups do not fit"))?;
    match start.chunk(&begin_chunk(plan.name())) {
        Some(begin) => Ok(state.with_begin(open(begin, plan.shape())?.body)),
        None => Ok(state),
    }
}

/// A window in one partition.
#[derive(Debug, Clone)]
struct WindowStep {
    plan: Arc<WindowPlan>,
    state: WindowState,
    begins_anew: bool,
}

impl StepState for WindowStep {
    fn process(&mut self, rows: &mut Rows, info: &BatchInfo<'_>, effects: &mut Effects) {
        self.state.process(&self.plan, &rows.input(info), &mut effects.emitted);
    }

    fn begins_anew(&self) -> bool {
        self.begins_anew
    }

    fn tick(&mut self, now_ms: i64) -> Vec<WindowRow> {
        self.state.close_idle(&self.plan, now_ms)
    }

    fn ticks_at(&self) -> Option<i64> {
        self.state.closes_idle_at(&self.plan)
    }

    fn checkpoint(&mut self, at: Covered, all: bool, chunks: &mut Vec<StateChunk>) {
        self.begins_anew = false;
        if !self.state.take_changed() && !all {
            return;
        }
        let Self { plan, state, .. } = self;
        chunks.push(chunk(window_chunk(plan.name()), at.offset, plan.shape(), &state.body()));
        let begin = state.begins_at(plan, at.watermark_ms);
        chunks.extend(begin.map(|begin| chunk(begin_chunk(plan.name()), at.offset, plan.shape(), &begin)));
    }

    fn size(&self) -> Size {
        Size { groups: self.state.groups(), keys: 0 }
    }

    fn boxed(&self) -> Box<dyn StepState> {
        Box::new(self.clone())
    }
}
