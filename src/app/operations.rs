//! What the HTTP side may ask of the running system: tree, events, commands, topology, lag, readiness, metrics.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Map, Value, json};
use streamward_core::ports::{
    Answer, FaultKind as DrillKind, InjectedFault, Operations, OpsCommand, OpsError, Page, ReadStore, Readiness,
};
use streamward_kit::{ActorPath, ActorState, Command, CommandError, Fault, FaultKind, Runtime, TreeNode};
use streamward_pipeline::{live::LiveHub, slot::Slots, store::Store};

use super::{
    broker::Embedded,
    drills::{Drills, UnderWay},
    lag::{
        LogEnds,
        figures::{self, Lag},
    },
    metrics, policies,
    standstill::Findings,
};
use crate::{
    adapters::kafka::{members::Member, producer::KafkaProducer},
    clock::now_ms,
    plan::Plan,
};

/// The actor that answers requests.
const HTTP_SERVER: &str = "edge/http";

/// A pipeline as the operations see it.
#[derive(Clone)]
pub struct PipelineView {
    pub name: Arc<str>,
    pub stream: Arc<str>,
    pub topic: Arc<str>,
    pub slots: Arc<Slots>,
    /// Its place in its consumer group.
    pub member: Arc<Member>,
}

/// Answers for the running system.
pub struct LiveOperations {
    pub runtime: Runtime,
    pub plan: Plan,
    pub pipelines: Vec<PipelineView>,
    pub ends: LogEnds,
    pub findings: Findings,
    pub store: Arc<dyn Store>,
    pub reads: Arc<dyn ReadStore>,
    pub live: LiveHub,
    pub broker: Option<Arc<Embedded>>,
    pub producer: KafkaProducer,
    pub drills: bool,
    pub drills_under_way: UnderWay,
    /// False once shutdown has begun.
    pub serving: Arc<AtomicBool>,
}

impl LiveOperations {
    fn lags(&self) -> Vec<Lag> {
        figures::all(&self.pipelines, &self.ends, &self.findings, now_ms())
    }

    async fn carry_out(&self, path: &str, command: OpsCommand, who: &str) -> Result<Value, OpsError> {
        let actor = parsed(path)?;
        let (action, before) = (format!("{command:?}"), self.runtime.node(&actor));
        let command = match command {
            OpsCommand::Restart => Command::Restart,
            OpsCommand::Pause => Command::Pause,
            OpsCommand::Resume => Command::Resume,
            OpsCommand::Drain => Command::Drain,
            OpsCommand::Disarm => {
                self.drills_under_way.take_back(&actor, (&self.runtime, self.broker.as_deref()));
                return self.audited((&actor, before), (&action, ""), who).await;
            }
            OpsCommand::Inject(_) if !self.drills => return Err(OpsError::DrillsDisabled),
            OpsCommand::Inject(fault) => {
                let node = self.runtime.node(&actor).ok_or_else(|| OpsError::UnknownPath(path.to_owned()))?;
                Command::Inject(fault_of(&fault, &node.kind)?)
            }
        };
        self.runtime.command(&actor, command).await.map_err(refusal)?;
        self.audited((&actor, before), (&action, ""), who).await
    }

    async fn run_drill(&self, path: &str, drill: (InjectedFault, Duration), who: &str) -> Result<Value, OpsError> {
        if !self.drills {
            return Err(OpsError::DrillsDisabled);
        }
        let actor = parsed(path)?;
        if actor.as_str() == HTTP_SERVER {
            let reason = "the report would go with it: inject the fault and look at the tree".to_owned();
            return Err(OpsError::Refused(reason));
        }
        let drills = Drills {
            runtime: &self.runtime,
            pipelines: &self.pipelines,
            reads: &*self.reads,
            broker: self.broker.as_deref(),
            producer: &self.producer,
            under_way: &self.drills_under_way,
        };
        let before = self.runtime.node(&actor);
        let report = drills.run(&actor, drill.0, drill.1).await?;
        let report = to_value(&report)?;
        self.audited((&actor, before), ("Drill", &report.to_string()), who).await?;
        Ok(report)
    }

    async fn change_policy(&self, path: &str, patch: Map<String, Value>, who: &str) -> Result<Value, OpsError> {
        let actor = parsed(path)?;
        let detail = Value::Object(patch.clone()).to_string();
        policies::change(&self.runtime, &actor, patch).await?;
        self.audited((&actor, None), ("SetPolicy", &detail), who).await
    }

    /// Takes note of what was done to a node; its new state, or that of before where a session is gone by then.
    async fn audited(
        &self,
        (actor, before): (&ActorPath, Option<TreeNode>),
        (action, detail): (&str, &str),
        who: &str,
    ) -> Result<Value, OpsError> {
        let path = actor.as_str();
        tracing::info!(path, action, detail, who, "command carried out");
        if let Err(error) = self.store.note_action(who, action, path, detail).await {
            tracing::warn!(%error, "write the audit entry");
        }
        let node = self.runtime.node(actor).or(before).ok_or_else(|| OpsError::UnknownPath(path.to_owned()))?;
        to_value(&node)
    }

    fn topology_value(&self) -> Value {
        let streams: Vec<Value> = self
            .plan
            .streams
            .iter()
            .map(|stream| {
                json!({ "name": stream.name, "topic": stream.topic, "table": stream.table.table,
                        "key": stream.key, "event_time": stream.event_time, "schema": stream.schema.name })
            })
            .collect();
        let pipelines: Vec<Value> = self
            .plan
            .pipelines
            .iter()
            .map(|pipeline| {
                let steps = serde_json::to_value(&pipeline.config.steps).unwrap_or_default();
                json!({ "name": pipeline.name, "from": pipeline.config.from, "steps": steps,
                        "to": pipeline.config.to, "path": format!("pipelines/{}", pipeline.name) })
            })
            .collect();
        json!({ "streams": streams, "pipelines": pipelines })
    }
}

fn parsed(path: &str) -> Result<ActorPath, OpsError> {
    ActorPath::parse(path).map_err(|_| OpsError::UnknownPath(path.to_owned()))
}

/// Whether an actor of this kind can be seen to stall: not one that serves many at once and has no message in hand.
pub fn can_stall(kind: &str) -> bool {
    !["broker", "http", "registry", "session"].contains(&kind)
}

/// A fault in the words of the supervisors.
///
/// # Errors
/// A fault that does not strike inside an actor, or not in one of this kind.
pub fn fault_of(fault: &InjectedFault, kind: &str) -> Result<Fault, OpsError> {
    let kind = match fault.fault {
        DrillKind::Panic => FaultKind::Panic,
        DrillKind::Error => FaultKind::Error,
        DrillKind::Stall if !can_stall(kind) => {
            let reason =
                format!("a {kind} serves many at once, with no message in hand: its stall would not be noticed");
            return Err(OpsError::Refused(reason));
        }
        DrillKind::Stall => FaultKind::Stall(fault.millis),
        DrillKind::Slow => FaultKind::Slow(fault.millis),
        DrillKind::BrokerDrop | DrillKind::CorruptRecord => {
            return Err(OpsError::Refused("this fault comes from outside an actor: run it as a drill".to_owned()));
        }
    };
    Ok(Fault::new(kind, fault.times))
}

/// Why the supervisors refuse something.
pub fn refusal(error: CommandError) -> OpsError {
    match error {
        CommandError::UnknownPath(path) => OpsError::UnknownPath(path.to_string()),
        CommandError::Ended | CommandError::NoAnswer(_) => OpsError::Unavailable(error.to_string()),
        other => OpsError::Refused(other.to_string()),
    }
}

/// What is missing for the server to be ready, and what stands still in it.
pub fn readiness(runtime: &Runtime, (pipelines, findings): (&[PipelineView], &Findings), serving: bool) -> Readiness {
    let mut reasons = Vec::new();
    if !serving {
        reasons.push("shutting down".to_owned());
    }
    for figures in runtime.metrics() {
        let path = figures.path.as_str();
        if !matches!(figures.state, ActorState::Running | ActorState::Degraded) && !path.starts_with("edge/sessions/") {
            reasons.push(format!("{path} is {}", figures.state.as_str()));
        }
    }
    for pipeline in pipelines.iter().filter(|pipeline| !pipeline.slots.was_assigned()) {
        reasons.push(format!("pipeline {} has no partitions yet", pipeline.name));
    }
    let all = findings.all();
    let degraded = all.iter().map(ToString::to_string).collect();
    let standing_still = all.iter().filter_map(|finding| finding.to_json().ok()).collect();
    Readiness { ready: reasons.is_empty(), reasons, degraded, standing_still }
}

fn to_value(value: &impl serde::Serialize) -> Result<Value, OpsError> {
    serde_json::to_value(value).map_err(|error| OpsError::Unavailable(error.to_string()))
}

impl Operations for LiveOperations {
    fn tree(&self) -> Answer<'_, Value, OpsError> {
        Box::pin(async { to_value(&self.runtime.snapshot()) })
    }

    fn events(&self, after_seq: u64, limit: u32) -> Answer<'_, Page<Value>, OpsError> {
        Box::pin(async move {
            let events = self.runtime.events_since(after_seq);
            let total = events.len() as u64;
            let shown = &events[..events.len().min(limit as usize)];
            let next = shown.last().filter(|_| shown.len() < events.len()).map(|last| last.seq.to_string());
            let items = shown.iter().map(to_value).collect::<Result<_, _>>()?;
            Ok(Page { items, total, total_is_estimate: false, next })
        })
    }

    fn drills(&self) -> Value {
        let fault = |(fault, about, takes_millis): &(DrillKind, &str, bool)| json!({ "fault": fault, "about": about, "takes_millis": takes_millis });
        json!({ "drills": self.drills, "faults": DrillKind::ALL.iter().map(fault).collect::<Vec<_>>() })
    }

    fn command(&self, path: &str, command: OpsCommand, who: &str) -> Answer<'_, Value, OpsError> {
        let (path, who) = (path.to_owned(), who.to_owned());
        Box::pin(async move { self.carry_out(&path, command, &who).await })
    }

    fn drill(&self, path: &str, fault: InjectedFault, within: Duration, who: &str) -> Answer<'_, Value, OpsError> {
        let (path, who) = (path.to_owned(), who.to_owned());
        Box::pin(async move { self.run_drill(&path, (fault, within), &who).await })
    }

    fn set_policy(&self, path: &str, patch: Map<String, Value>, who: &str) -> Answer<'_, Value, OpsError> {
        let (path, who) = (path.to_owned(), who.to_owned());
        Box::pin(async move { self.change_policy(&path, patch, &who).await })
    }

    fn topology(&self) -> Answer<'_, Value, OpsError> {
        Box::pin(async { Ok(self.topology_value()) })
    }

    fn lag(&self) -> Answer<'_, Vec<Value>, OpsError> {
        Box::pin(async {
            let value = |lag: Lag| {
                let state = if lag.standing_still.is_some() { "standing_still" } else { "moving" };
                json!({ "pipeline": lag.pipeline, "stream": lag.stream, "topic": lag.topic,
                        "partition": lag.partition, "position": lag.position, "log_end": lag.log_end,
                        "lag_records": lag.records, "lag_seconds": lag.seconds, "behind": lag.is_behind(),
                        "in_open_transactions": lag.in_transactions, "state": state,
                        "standing_still": lag.standing_still.and_then(|finding| finding.to_json().ok()) })
            };
            Ok(self.lags().into_iter().map(value).collect())
        })
    }

    fn readiness(&self) -> Readiness {
        readiness(&self.runtime, (&self.pipelines, &self.findings), self.serving.load(Ordering::Acquire))
    }

    fn metrics_text(&self) -> String {
        metrics::text(self, &self.lags())
    }
}
