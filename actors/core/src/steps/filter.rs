//! Keeps the records for which a condition is true; the others are noted by their offsets.

use std::sync::Arc;

use super::{Effects, Scope, Settings, Start, Step, StepState, Texts};
use crate::{
    chunk::StateError,
    expr::{PlanFault, ScalarExpr},
    rows::{BatchInfo, Rows},
    schema::StreamSchema,
};

/// Settings of a filter: its condition. Null counts as false.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterSpec(pub String);

impl From<&str> for FilterSpec {
    fn from(condition: &str) -> Self {
        Self(condition.to_owned())
    }
}

impl Settings for FilterSpec {
    fn compile(&self, scope: &mut Scope) -> Result<Arc<dyn Step>, Vec<PlanFault>> {
        let condition = ScalarExpr::parse_condition(&self.0, &scope.columns);
        let condition = condition.map_err(|error| vec![PlanFault::in_expression("", error)])?;
        Ok(Arc::new(Filter { condition, columns: scope.columns.clone() }))
    }
}

/// A filter, ready to run. It remembers nothing.
#[derive(Debug)]
struct Filter {
    condition: ScalarExpr,
    columns: Arc<StreamSchema>,
}

impl Step for Filter {
    fn start(self: Arc<Self>, _: &Start<'_>) -> Result<Box<dyn StepState>, StateError> {
        Ok(Box::new(FilterState(self)))
    }

    fn removes(&self) -> Option<Texts> {
        let texts = [self.condition.definition(&self.columns), self.condition.in_a_line()];
        Some(texts.map(|condition| format!("filter {condition}")))
    }
}

#[derive(Debug)]
struct FilterState(Arc<Filter>);

impl StepState for FilterState {
    fn process(&mut self, rows: &mut Rows, info: &BatchInfo<'_>, effects: &mut Effects) {
        let keep = self.0.condition.eval_filter(&rows.batch);
        rows.keep(&keep, info.offsets, &mut effects.removed);
    }

    fn boxed(&self) -> Box<dyn StepState> {
        Box::new(Self(self.0.clone()))
    }
}
