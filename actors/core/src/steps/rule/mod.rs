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
//! A null condition does not hold. A cooldown has passed when a record of the key or the watermark has passed it.
//!
//! Records count in the order of their event times, as far as the state knows it:
//! - a record older than the beginning of the current span says nothing about it; while an alert fires, neither does one
//!   older than the newest record for which the condition holds, or than the one since which it does not hold;
//! - of a key at rest nothing is known, so a late record may be older than a quiet one that left no trace. With `for`, its
//!   span counts from the watermark at that moment: it fires later than it might have, by as much as the key is late. Without
//!   `for` it fires at once, and the next quiet record of the key resolves it.
//!
//! Keys at rest cost nothing: state exists only for keys that are pending, firing or cooling down, at most
//! [`MAX_KEYS`] per rule; a record that would need one more is counted as refused.
//!
//! Start with `state.rs`; `step.rs` is its place among the steps; `reference.rs` says the same in the plainest way, for tests.

mod plan;
#[cfg(test)]
mod reference;
mod state;
mod step;
mod words;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use plan::RulePlan;
pub use state::{MAX_KEYS, RuleState};
pub use step::{rule_chunk, rule_from};
pub use words::condition_of;

pub(crate) use state::{Alerts, RuleInput};
pub(crate) use step::is_of_a_rule;

/// How bad what a rule finds can be, the least first.
pub const SEVERITIES: [&str; 3] = ["info", "warning", "critical"];

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
