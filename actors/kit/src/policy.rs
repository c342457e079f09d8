//! The vocabulary of supervision, as values that come from the configuration.
//!
//! Names follow OTP ([`supervisor`](https://www.erlang.org/doc/apps/stdlib/supervisor.html), OTP 27); the back-off adds
//! what OTP leaves out, with `reset_after` apart from `min` (tying both together makes `min` hard to choose:
//! akka#19246) and with jitter, so that those that failed together do not come back together (M. Brooker,
//! [*Exponential Backoff And Jitter*](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/),
//! 2015). Nothing here decides: see [`crate::core`].
//!
//! Durations are text (`250ms`, `1m30s`, see [`crate::human`]), unknown keys are refused, absent ones have their
//! default, and `check` says which value is out of its bounds. A policy can be replaced while everything runs
//! ([`crate::Runtime::set_policy`], [`crate::Runtime::set_supervision`]) and counts from the next failure.
//!
//! The defaults fit each other: a child that fails at once has used its 10 restarts after 26 to 51 seconds, within the
//! window of a minute, and is given up. One that runs for some seconds each time is restarted for as long as it takes.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use crate::human;

/// Which exits bring a child back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Every exit.
    #[default]
    Permanent,
    /// Every exit but a normal one.
    Transient,
    /// None; a dynamic temporary child leaves the tree when it ends.
    Temporary,
}

/// Which siblings restart with a failed child. Children are ordered as they were listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The failed child alone.
    #[default]
    #[serde(alias = "one_for_one")]
    OneForOne,
    /// All of them.
    #[serde(alias = "one_for_all")]
    OneForAll,
    /// The failed one and those listed after it.
    #[serde(alias = "rest_for_one")]
    RestForOne,
}

/// How many restarts a supervisor takes before it fails itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Intensity {
    /// Most restarts in any window; 0 escalates at the first failure.
    pub max_restarts: u32,
    /// Length of the sliding window.
    #[serde(with = "human")]
    pub within: Duration,
}

impl Intensity {
    /// More restarts than back-off lets happen: the supervisor never gives up, which is for children that have nothing to
    /// do with each other.
    #[must_use]
    pub fn unlimited() -> Self {
        Self { max_restarts: MAX_RESTARTS, within: Duration::from_secs(1) }
    }
}

impl Default for Intensity {
    fn default() -> Self {
        Self { max_restarts: 10, within: Duration::from_secs(60) }
    }
}

/// The delay before a restart: `first`, then `min`, `min × factor`, … up to `max`, each cut by up to `jitter`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backoff {
    /// Delay of the first restart after a healthy time.
    #[serde(with = "human")]
    pub first: Duration,
    /// Delay of the second restart.
    #[serde(with = "human")]
    pub min: Duration,
    /// Longest delay.
    #[serde(with = "human")]
    pub max: Duration,
    /// Growth per failure, at least 1.
    pub factor: f64,
    /// Share of the delay that is random, 0 to 1.
    pub jitter: f64,
    /// A run this long makes the next failure a first one again.
    #[serde(with = "human")]
    pub reset_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::ZERO,
            min: Duration::from_millis(100),
            max: Duration::from_secs(30),
            factor: 2.0,
            jitter: 0.5,
            reset_after: Duration::from_secs(60),
        }
    }
}

impl Backoff {
    /// No delay at all; for tests and for children whose failure costs nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { min: Duration::ZERO, max: Duration::ZERO, ..Self::default() }
    }
}

/// How one child is looked after.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChildPolicy {
    /// Which exits bring it back.
    pub restart: Restart,
    /// How long it waits before it comes back.
    pub backoff: Backoff,
    /// Time from the wish to stop until it is aborted; zero aborts at once.
    #[serde(with = "human")]
    pub stop_within: Duration,
    /// One message in hand for longer than this is a failure; none switches the check off.
    #[serde(with = "human::option")]
    pub stuck_after: Option<Duration>,
    /// Standing still for longer than this while work is pending is a failure (see [`crate::progress`]); none switches
    /// the check off.
    #[serde(with = "human::option")]
    pub no_progress_after: Option<Duration>,
    /// Most fenced incarnations that may still hold a thread; one more escalates.
    pub max_zombies: u32,
}

impl Default for ChildPolicy {
    fn default() -> Self {
        Self {
            restart: Restart::Permanent,
            backoff: Backoff::default(),
            stop_within: Duration::from_secs(5),
            stuck_after: None,
            no_progress_after: None,
            max_zombies: 3,
        }
    }
}

/// Longest time in a policy.
pub const MAX_TIME: Duration = Duration::from_secs(24 * 3_600);
/// Limits on one message in hand: the watch looks about as often as the shortest.
pub const STUCK_AFTER: RangeInclusive<Duration> = Duration::from_millis(50)..=MAX_TIME;
/// Limits on standing still: progress is looked at once a second.
pub const NO_PROGRESS_AFTER: RangeInclusive<Duration> = Duration::from_secs(2)..=MAX_TIME;
/// Growth from one wait to the next.
pub const FACTOR: RangeInclusive<f64> = 1.0..=100.0;
/// Random part of a wait.
pub const JITTER: RangeInclusive<f64> = 0.0..=1.0;
/// Most restarts that a supervisor may be allowed within a time.
pub const MAX_RESTARTS: u32 = 10_000;
const MAX_ZOMBIES: u32 = 100;
/// Most children of a supervisor.
pub const MAX_CHILDREN: usize = 100_000;

/// A value that a policy may not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {bounds}")]
pub struct PolicyError {
    /// Which value, as it is written (`backoff.factor`).
    pub field: &'static str,
    /// What it may be.
    pub bounds: String,
}

fn bounded(field: &'static str, is_valid: bool, bounds: impl Into<String>) -> Result<(), PolicyError> {
    if is_valid { Ok(()) } else { Err(PolicyError { field, bounds: bounds.into() }) }
}

impl Backoff {
    fn check(&self) -> Result<(), PolicyError> {
        let times = [
            ("backoff.first", self.first),
            ("backoff.min", self.min),
            ("backoff.max", self.max),
            ("backoff.reset_after", self.reset_after),
        ];
        for (field, time) in times {
            bounded(field, time <= MAX_TIME, "at most 24h")?;
        }
        bounded("backoff.max", self.max >= self.min, "at least backoff.min")?;
        bounded("backoff.factor", FACTOR.contains(&self.factor), "1 to 100")?;
        bounded("backoff.jitter", JITTER.contains(&self.jitter), "0 to 1")
    }
}

impl ChildPolicy {
    /// Whether all values are within their bounds.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), PolicyError> {
        self.backoff.check()?;
        bounded("stop_within", self.stop_within <= MAX_TIME, "at most 24h")?;
        let is_noticed = self.stuck_after.is_none_or(|limit| STUCK_AFTER.contains(&limit));
        bounded("stuck_after", is_noticed, "50ms to 24h, or null for never")?;
        let is_noticed = self.no_progress_after.is_none_or(|limit| NO_PROGRESS_AFTER.contains(&limit));
        bounded("no_progress_after", is_noticed, "2s to 24h, or null for never")?;
        bounded("max_zombies", self.max_zombies <= MAX_ZOMBIES, format!("at most {MAX_ZOMBIES}"))
    }

    /// A permanent child with all defaults.
    #[must_use]
    pub fn permanent() -> Self {
        Self::default()
    }

    /// A child that comes back unless it ended normally.
    #[must_use]
    pub fn transient() -> Self {
        Self { restart: Restart::Transient, ..Self::default() }
    }

    /// A child that never comes back.
    #[must_use]
    pub fn temporary() -> Self {
        Self { restart: Restart::Temporary, ..Self::default() }
    }

    /// The same policy with another back-off.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// The same policy with a limit on one message in hand.
    #[must_use]
    pub fn stuck_after(self, limit: Duration) -> Self {
        Self { stuck_after: Some(limit), ..self }
    }

    /// The same policy with a limit on standing still while work is pending.
    #[must_use]
    pub fn no_progress_after(self, limit: Duration) -> Self {
        Self { no_progress_after: Some(limit), ..self }
    }

    /// The same policy with another stop limit.
    #[must_use]
    pub fn stop_within(self, limit: Duration) -> Self {
        Self { stop_within: limit, ..self }
    }
}

/// How one supervisor treats its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SupervisorPolicy {
    /// Who restarts together.
    pub strategy: Strategy,
    /// When it gives up.
    pub intensity: Intensity,
    /// Most children, static and dynamic.
    pub max_children: usize,
}

impl Default for SupervisorPolicy {
    fn default() -> Self {
        Self { strategy: Strategy::OneForOne, intensity: Intensity::default(), max_children: 1_024 }
    }
}

impl SupervisorPolicy {
    /// Whether all values are within their bounds.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), PolicyError> {
        let Intensity { max_restarts, within } = self.intensity;
        bounded("intensity.max_restarts", max_restarts <= MAX_RESTARTS, format!("at most {MAX_RESTARTS}"))?;
        bounded("intensity.within", within > Duration::ZERO && within <= MAX_TIME, "above 0, at most 24h")?;
        bounded("max_children", (1..=MAX_CHILDREN).contains(&self.max_children), format!("1 to {MAX_CHILDREN}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_from_text_with_human_durations() {
        let json = r#"{"restart":"transient","backoff":{"min":"250ms","max":"5s"},"stuck_after":"2m"}"#;
        let policy: ChildPolicy = serde_json::from_str(json).unwrap();
        assert_eq!(policy.restart, Restart::Transient);
        assert_eq!(policy.backoff.min, Duration::from_millis(250));
        assert_eq!(policy.backoff.reset_after, Duration::from_secs(60));
        assert_eq!(policy.stuck_after, Some(Duration::from_secs(120)));
        let again: ChildPolicy = serde_json::from_str(&serde_json::to_string(&policy).unwrap()).unwrap();
        assert_eq!(again, policy);
    }

    #[test]
    fn values_out_of_bounds_are_named() {
        let child = |json: &str| serde_json::from_str::<ChildPolicy>(json).unwrap().check().unwrap_err().field;
        assert_eq!(ChildPolicy::default().check(), Ok(()));
        assert_eq!(ChildPolicy::default().backoff(Backoff::none()).check(), Ok(()));
        assert_eq!(child(r#"{"backoff":{"factor":0.5}}"#), "backoff.factor");
        assert_eq!(child(r#"{"backoff":{"jitter":1.5}}"#), "backoff.jitter");
        assert_eq!(child(r#"{"backoff":{"min":"2s","max":"1s"}}"#), "backoff.max");
        assert_eq!(child(r#"{"backoff":{"reset_after":"25h"}}"#), "backoff.reset_after");
        assert_eq!(child(r#"{"stuck_after":"1ms"}"#), "stuck_after");
        assert_eq!(child(r#"{"no_progress_after":"1s"}"#), "no_progress_after");
        assert_eq!(child(r#"{"stop_within":"48h"}"#), "stop_within");
        assert_eq!(child(r#"{"max_zombies":101}"#), "max_zombies");
        let supervisor =
            |json: &str| serde_json::from_str::<SupervisorPolicy>(json).unwrap().check().unwrap_err().field;
        assert_eq!(SupervisorPolicy::default().check(), Ok(()));
        assert_eq!(supervisor(r#"{"intensity":{"max_restarts":10001}}"#), "intensity.max_restarts");
        assert_eq!(supervisor(r#"{"intensity":{"within":"0s"}}"#), "intensity.within");
        assert_eq!(supervisor(r#"{"max_children":0}"#), "max_children");
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(serde_json::from_str::<SupervisorPolicy>(r#"{"strategie":"one-for-all"}"#).is_err());
        let policy: SupervisorPolicy = serde_json::from_str(r#"{"strategy":"rest-for-one"}"#).unwrap();
        assert_eq!(policy.strategy, Strategy::RestForOne);
    }
}
