//! A rule checked against the stream's schema.

use std::sync::Arc;

use super::RuleSpec;
use crate::{
    definition::words::duration,
    expr::{PlanFault, ScalarExpr, scope_of},
    schema::StreamSchema,
    steps::Texts,
    steps::window::milliseconds,
};

/// Longest name of a rule or severity.
const MAX_NAME_BYTES: usize = 128;

/// A rule, ready to run.
#[derive(Debug, Clone)]
pub struct RulePlan {
    pub(super) name: Arc<str>,
    pub(super) severity: Arc<str>,
    pub(super) condition: ScalarExpr,
    /// Which records the rule is about; none means all of them.
    pub(super) scope: Option<ScalarExpr>,
    pub(super) hold_ms: i64,
    pub(super) cooldown_ms: i64,
    pub(super) resolve_after_ms: i64,
    /// The columns that it sees.
    pub(super) columns: Arc<StreamSchema>,
}

impl RulePlan {
    /// Checks a rule against the stream's schema.
    ///
    /// # Errors
    /// All faults at once, each with its setting (`when`, `for`, …).
    pub fn compile(spec: &RuleSpec, schema: &Arc<StreamSchema>) -> Result<Self, Vec<PlanFault>> {
        let mut faults = Vec::new();
        for (key, name) in [("name", &spec.name), ("severity", &spec.severity)] {
            if name.is_empty() || name.len() > MAX_NAME_BYTES {
                faults.push(PlanFault::new(key, format!("1 to {MAX_NAME_BYTES} bytes are expected")));
            }
        }
        let hold_ms = milliseconds("for", spec.hold_for, &mut faults);
        let cooldown_ms = milliseconds("cooldown", spec.cooldown, &mut faults);
        let resolve_after_ms = milliseconds("resolve_after", spec.resolve_after.unwrap_or_default(), &mut faults);
        let scope = scope_of(&spec.when).and_then(|scope| ScalarExpr::parse_condition(&scope, schema).ok());
        match ScalarExpr::parse_condition(&spec.when, schema) {
            Ok(condition) if faults.is_empty() => Ok(Self {
                name: spec.name.as_str().into(),
                severity: spec.severity.as_str().into(),
                condition,
                scope,
                hold_ms,
                cooldown_ms,
                resolve_after_ms,
                columns: schema.clone(),
            }),
            Ok(_) => Err(faults),
            Err(error) => {
                faults.push(PlanFault::in_expression("when", error));
                Err(faults)
            }
        }
    }

    /// The rule's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What its alerts come from, however it is written, and as it is written.
    pub(crate) fn definition(&self) -> Texts {
        let Self { hold_ms, cooldown_ms, resolve_after_ms, .. } = self;
        let times = [("for", hold_ms), ("cooldown", cooldown_ms), ("resolve_after", resolve_after_ms)];
        let set = times.iter().filter(|(_, ms)| **ms > 0);
        let times: String = set.map(|(setting, ms)| format!(" {setting} {}", duration(**ms))).collect();
        [self.condition.definition(&self.columns), self.condition.in_a_line()]
            .map(|condition| format!("when {condition}{times}"))
    }

    /// The condition, as written.
    #[must_use]
    pub fn when(&self) -> &Arc<str> {
        self.condition.text()
    }
}
