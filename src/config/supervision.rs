//! Sections `supervision` and `drills`: when and how failed actors are started again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::HumanDuration;

/// Restart policies of the supervision tree.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SupervisionConfig {
    /// Policy of every actor.
    pub defaults: ActorPolicy,
    /// Intensity of the root; beyond it the process ends with exit code 70.
    pub root: Intensity,
    /// Intensity of each pipeline; beyond it that pipeline is restarted as a whole.
    pub pipelines: Intensity,
}

impl Default for SupervisionConfig {
    fn default() -> Self {
        Self {
            defaults: ActorPolicy::default(),
            root: Intensity { max_restarts: 10, ..Intensity::default() },
            pipelines: Intensity::default(),
        }
    }
}

/// How one actor is kept alive.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ActorPolicy {
    /// After which exits it is started again.
    pub restart: Restart,
    /// Waits between restarts.
    pub backoff: Backoff,
    /// Time with one message in hand after which an actor counts as stuck and is replaced.
    pub stuck_after: HumanDuration,
    /// Time an actor has to stop.
    pub shutdown: HumanDuration,
}

impl Default for ActorPolicy {
    fn default() -> Self {
        Self {
            restart: Restart::Permanent,
            backoff: Backoff::default(),
            stuck_after: HumanDuration::from_secs(30),
            shutdown: HumanDuration::from_secs(5),
        }
    }
}

/// Erlang/OTP's restart types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// After every exit.
    Permanent,
    /// After a failure, not after a normal exit.
    Transient,
    /// Never.
    Temporary,
}

/// Waits between restarts: none before the first, then `min`, multiplied by `factor` up to `max`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Backoff {
    /// Wait before the second restart.
    pub min: HumanDuration,
    /// Longest wait.
    pub max: HumanDuration,
    /// Growth from one wait to the next.
    pub factor: f64,
    /// Random part of a wait, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub jitter: f64,
    /// Time without a failure after which the waits begin anew.
    pub reset_after: HumanDuration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            min: HumanDuration::from_millis(100),
            max: HumanDuration::from_secs(30),
            factor: 2.0,
            jitter: 0.5,
            reset_after: HumanDuration::from_secs(60),
        }
    }
}

/// Restarts in a time before a supervisor gives up and hands the failure to its parent.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Intensity {
    /// Restarts.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_restarts: u32,
    /// Time in which they are counted.
    pub within: HumanDuration,
}

impl Default for Intensity {
    fn default() -> Self {
        Self { max_restarts: 5, within: HumanDuration::from_secs(60) }
    }
}

/// Faults injected on purpose.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DrillsConfig {
    /// Whether faults may be injected over HTTP.
    pub enabled: bool,
}
