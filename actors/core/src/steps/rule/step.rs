//! A rule as a step of a pipeline: where its state starts, and how a checkpoint keeps it.

use std::sync::Arc;

use super::{RuleInput, RulePlan, RuleSpec, RuleState};
use crate::{
    chunk::{StateError, chunk, damaged, open},
    expr::PlanFault,
    output::StateChunk,
    rows::{BatchInfo, Rows},
    steps::{Covered, Effects, Scope, Settings, Size, Start, Step, StepState, Texts},
};

/// How the names of rules' chunks begin.
const PREFIX: &str = "rule/";

/// Name of the chunk that keeps a rule's state.
#[must_use]
pub fn rule_chunk(name: &str) -> Arc<str> {
    format!("{PREFIX}{name}").into()
}

/// Whether a chunk is a rule's.
pub(crate) fn is_of_a_rule(chunk: &StateChunk) -> bool {
    chunk.name.starts_with(PREFIX)
}

/// The chunk of a rule that judges no record below `position`.
#[must_use]
pub fn rule_from(name: &str, position: i64) -> StateChunk {
    chunk(rule_chunk(name), position, "", &RuleState::default().body())
}

impl Settings for RuleSpec {
    fn name(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn compile(&self, scope: &mut Scope) -> Result<Arc<dyn Step>, Vec<PlanFault>> {
        Ok(Arc::new(RulePlan::compile(self, &scope.columns)?))
    }
}

impl Step for RulePlan {
    fn start(self: Arc<Self>, start: &Start<'_>) -> Result<Box<dyn StepState>, StateError> {
        let state = match start.chunk(&rule_chunk(self.name())) {
            None => RuleState::default(),
            Some(chunk) => {
                let opened = open(chunk, "")?;
                let restored = RuleState::restore(opened.body);
                restored.ok_or_else(|| damaged(chunk, "its keys are not in order"))?.judging_from(opened.covered)
            }
        };
        Ok(Box::new(RuleStep { plan: self, state }))
    }

    fn chunks(&self) -> Vec<Arc<str>> {
        vec![rule_chunk(self.name())]
    }

    fn replay(&self) -> Option<(String, Texts)> {
        Some((format!("rule {}", self.name()), self.definition()))
    }

    fn rule(&self) -> Option<&RulePlan> {
        Some(self)
    }
}

/// A rule in one partition.
#[derive(Debug, Clone)]
struct RuleStep {
    plan: Arc<RulePlan>,
    state: RuleState,
}

impl StepState for RuleStep {
    fn process(&mut self, rows: &mut Rows, info: &BatchInfo<'_>, effects: &mut Effects) {
        let input = RuleInput { keys: &rows.keys(info), step: rows.input(info) };
        self.state.process(&self.plan, &input, &mut effects.alerts);
    }

    fn checkpoint(&mut self, at: Covered, all: bool, chunks: &mut Vec<StateChunk>) {
        if self.state.take_changed() || all {
            let covered = self.state.covered(at.offset);
            chunks.push(chunk(rule_chunk(self.plan.name()), covered, "", &self.state.body()));
        }
    }

    fn size(&self) -> Size {
        Size { groups: 0, keys: self.state.keys() }
    }

    fn boxed(&self) -> Box<dyn StepState> {
        Box::new(self.clone())
    }
}
