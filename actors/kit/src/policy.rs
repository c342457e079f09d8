//! The vocabulary of supervision, as values that come from the configuration.
//!
//! Names follow OTP (`supervisor` behaviour, OTP 27); the back-off adds what OTP leaves out, with `reset_after`
//! apart from `min` (tying both together makes `min` hard to choose: akka#19246). Nothing here decides: see
//! [`crate::core`].

use std::time::Duration;

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
    OneForOne,
    /// All of them.
    OneForAll,
    /// The failed one and those listed after it.
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
            max_zombies: 3,
        }
    }
}

impl ChildPolicy {
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
    fn an_unknown_key_is_refused() {
        assert!(serde_json::from_str::<SupervisorPolicy>(r#"{"strategie":"one-for-all"}"#).is_err());
        let policy: SupervisorPolicy = serde_json::from_str(r#"{"strategy":"rest-for-one"}"#).unwrap();
        assert_eq!(policy.strategy, Strategy::RestForOne);
    }
}
