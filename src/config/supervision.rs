//! Sections `supervision` and `drills`: when and how failed actors are started again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use streamward_kit::policy::{FACTOR, JITTER, MAX_RESTARTS, MAX_TIME, NO_PROGRESS_AFTER, STUCK_AFTER};

use super::{Config, limits::within, units::HumanDuration};

/// Waits, and times to stop or to count in.
const TIME: RangeInclusive<Duration> = Duration::from_millis(1)..=MAX_TIME;

/// Restart policies of the supervision tree.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SupervisionConfig {
    /// Policy of every actor.
    pub defaults: ActorPolicy,
    /// What differs for some, by path: `pipelines/*/sink`. A path stands for its actor and all below it.
    pub actors: BTreeMap<String, ActorOverride>,
    /// Intensity of the root; beyond it the process ends with exit code 70.
    pub root: Intensity,
    /// Intensity of each pipeline; beyond it that pipeline is restarted as a whole.
    pub pipelines: Intensity,
}

impl Default for SupervisionConfig {
    fn default() -> Self {
        Self {
            defaults: ActorPolicy::default(),
            actors: BTreeMap::new(),
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
    #[schemars(transform = within(STUCK_AFTER))]
    pub stuck_after: HumanDuration,
    /// Time without any progress, while work is pending and nothing is in hand, after which an actor is replaced.
    #[schemars(transform = within(NO_PROGRESS_AFTER))]
    pub no_progress_after: HumanDuration,
    /// Time an actor has to stop.
    #[schemars(transform = within(TIME))]
    pub shutdown: HumanDuration,
}

impl Default for ActorPolicy {
    fn default() -> Self {
        Self {
            restart: Restart::Permanent,
            backoff: Backoff::default(),
            stuck_after: HumanDuration::from_secs(30),
            no_progress_after: HumanDuration::from_secs(60),
            shutdown: HumanDuration::from_secs(5),
        }
    }
}

/// What differs from `supervision.defaults`; keys that are not given stay.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ActorOverride {
    /// After which exits it is started again.
    pub restart: Option<Restart>,
    /// Waits between restarts.
    pub backoff: Option<BackoffOverride>,
    /// Time with one message in hand after which it counts as stuck.
    #[schemars(transform = within(STUCK_AFTER))]
    pub stuck_after: Option<HumanDuration>,
    /// Time without any progress after which it is replaced.
    #[schemars(transform = within(NO_PROGRESS_AFTER))]
    pub no_progress_after: Option<HumanDuration>,
    /// Time it has to stop.
    #[schemars(transform = within(TIME))]
    pub shutdown: Option<HumanDuration>,
    /// Who restarts together; of the supervisor at this very path.
    pub strategy: Option<Strategy>,
    /// When it gives up; of the supervisor at this very path.
    pub intensity: Option<Intensity>,
}

/// What differs from `supervision.defaults.backoff`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BackoffOverride {
    /// Wait before the second restart.
    #[schemars(transform = within(TIME))]
    pub min: Option<HumanDuration>,
    /// Longest wait.
    #[schemars(transform = within(TIME))]
    pub max: Option<HumanDuration>,
    /// Growth from one wait to the next.
    #[schemars(transform = within(FACTOR))]
    pub factor: Option<f64>,
    /// Random part of a wait, 0 to 1.
    #[schemars(transform = within(JITTER))]
    pub jitter: Option<f64>,
    /// Time without a failure after which the waits begin anew.
    #[schemars(transform = within(TIME))]
    pub reset_after: Option<HumanDuration>,
}

impl ActorOverride {
    /// The policy with what differs.
    pub fn over(&self, policy: &ActorPolicy) -> ActorPolicy {
        let waits = self.backoff.clone().unwrap_or_default();
        let known = &policy.backoff;
        ActorPolicy {
            restart: self.restart.unwrap_or(policy.restart),
            backoff: Backoff {
                min: waits.min.unwrap_or(known.min),
                max: waits.max.unwrap_or(known.max),
                factor: waits.factor.unwrap_or(known.factor),
                jitter: waits.jitter.unwrap_or(known.jitter),
                reset_after: waits.reset_after.unwrap_or(known.reset_after),
            },
            stuck_after: self.stuck_after.unwrap_or(policy.stuck_after),
            no_progress_after: self.no_progress_after.unwrap_or(policy.no_progress_after),
            shutdown: self.shutdown.unwrap_or(policy.shutdown),
        }
    }
}

/// Supervisors that may be without an actor below them.
pub const CHILDLESS: [&str; 2] = ["edge/sessions", "simulators"];

/// The actors that a configuration leads to, without the sessions; supervisors are the beginnings of their paths, and
/// [`CHILDLESS`].
pub fn actor_paths(config: &Config) -> Vec<String> {
    let mut paths = Vec::new();
    let is_outside = config.kafka.bootstrap.is_some();
    paths.push(if is_outside { "platform/logs" } else { "platform/broker" }.to_owned());
    let registry: &[&str] =
        if config.registry.url.is_some() { &["client", "registration"] } else { &["follower", "http", "registration"] };
    paths.extend(registry.iter().map(|id| format!("platform/registry/{id}")));
    for pipeline in config.pipelines.keys() {
        paths.extend(["sink", "lane", "source"].map(|id| format!("pipelines/{pipeline}/{id}")));
    }
    let others = ["relays/alerts", "relays/dead-letters", "edge/sessions", "edge/announcer", "edge/http"];
    paths.extend(
        others
            .iter()
            .chain(&["ops/upkeep", "ops/retention", "ops/lag", "ops/standstill"])
            .map(|path| (*path).to_owned()),
    );
    paths.extend(is_outside.then(|| "ops/groups".to_owned()));
    paths.push(if config.sensor_simulator().is_some() { "simulators/sensors" } else { "simulators" }.to_owned());
    paths
}

/// Erlang/OTP's strategies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The failed actor alone.
    OneForOne,
    /// All of its supervisor.
    OneForAll,
    /// It and those started after it.
    RestForOne,
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
    #[schemars(transform = within(TIME))]
    pub min: HumanDuration,
    /// Longest wait.
    #[schemars(transform = within(TIME))]
    pub max: HumanDuration,
    /// Growth from one wait to the next.
    #[schemars(transform = within(FACTOR))]
    pub factor: f64,
    /// Random part of a wait, 0 to 1.
    #[schemars(transform = within(JITTER))]
    pub jitter: f64,
    /// Time without a failure after which the waits begin anew.
    #[schemars(transform = within(TIME))]
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
    #[schemars(transform = within(1..=MAX_RESTARTS))]
    pub max_restarts: u32,
    /// Time in which they are counted.
    #[schemars(transform = within(TIME))]
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
