//! Threshold rules: a condition per record becomes alerts per key that fire and resolve.
//!
//! The life of a key under a rule, all in event time and decided record by record in log order:
//! - the condition holds: the span opens; once it has held for `for`, the alert fires (transition 0, `Firing`);
//! - while it fires, nothing is repeated;
//! - a record of the key for which the condition does not hold ends the span; it resolves the alert (transition 1,
//!   `Resolved`) if the condition has not held for `resolve_after`, counted from the first such record;
//! - for `cooldown` after firing, no other alert of that key fires; spans go on being measured.
//!
//! Conjuncts that compare a field with a text (`sensor_type = 'temperature' AND value > 80`) say which records the rule is
//! about: a humidity reading of the same key neither holds nor ends a span (see [`crate::expr::scope_of`]).
//!
//! A null condition does not hold. A record older than the one that opened the current span or fired the alert says
//! nothing about it and is passed over. A cooldown has passed when a record of the key or the watermark has passed it.
//!
//! Keys at rest cost nothing: state exists only for keys that are pending, firing or cooling down, at most
//! [`MAX_KEYS`] per rule; a record that would need one more is counted as refused.
//!
//! Start with `state.rs`; `reference.rs` says the same in the plainest way, for tests.

mod plan;
#[cfg(test)]
mod reference;
mod state;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use plan::RulePlan;
pub use state::{MAX_KEYS, RuleState};

pub(crate) use state::{Alerts, RuleInput};

/// Settings of one rule step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSpec {
    /// Name of the rule, unique in its pipeline.
    pub name: String,
    /// Condition over the stream's fields.
    pub when: String,
    /// Severity of its alerts, such as `critical`.
    pub severity: String,
    /// How long the condition must hold, in event time.
    pub hold_for: Duration,
    /// How long after firing no other alert of that key fires, in event time.
    pub cooldown: Duration,
    /// How long the condition must not hold before the alert resolves; none resolves at once.
    pub resolve_after: Option<Duration>,
}
