//! Drills: a fault is injected on purpose, and what becomes of it is measured.
//!
//! Times come from the actor's own marks (when the fault struck, when the exit was noticed, when the next incarnation
//! finished its first record). Records of a pipeline are counted by its [`books`]. Faults inside an actor are here,
//! those that come from outside, such as a broker that drops its connections, in [`outside`].

mod books;
mod outside;
mod under_way;
mod words;

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use streamward_core::ports::{FaultKind, InjectedFault, OpsError, ReadStore};
use streamward_kit::{ActorPath, ActorState, Command, ExitReport, Runtime, StruckFault, TreeNode};
use tokio::time::{Instant, sleep};

pub use self::under_way::UnderWay;
use self::{
    books::{Books, Records},
    under_way::End,
    words::Seen,
};
use super::{
    broker::Embedded,
    operations::{PipelineView, fault_of, refusal},
};
use crate::{adapters::kafka::producer::KafkaProducer, clock::now_ms};

/// How often the actor and the positions are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// What an actor says it works on or waits for while a fault holds it.
const UNDER_FAULT: &str = "drill";

/// What drills work on.
pub struct Drills<'a> {
    pub runtime: &'a Runtime,
    pub pipelines: &'a [PipelineView],
    pub reads: &'a dyn ReadStore,
    pub broker: Option<&'a Embedded>,
    pub producer: &'a KafkaProducer,
    pub under_way: &'a UnderWay,
}

/// What became of an injected fault.
#[derive(Debug, Serialize)]
pub struct DrillReport {
    path: String,
    fault: InjectedFault,
    /// Where it struck; none if it did not in time.
    point: Option<String>,
    /// From the fault to when the supervisor knew, or the bad record was set aside; none if nothing was noticed.
    detected_after_ms: Option<u64>,
    /// From the fault to the first record finished after it, or to when the actor was free again.
    recovered_after_ms: Option<u64>,
    generation_before: u64,
    generation: u64,
    state: ActorState,
    /// How the incarnation ended that the fault struck.
    exit: Option<ExitReport>,
    /// What was seen, and what was not, as a sentence.
    observed: String,
    /// Of the actor's pipeline, or of all where the fault concerns all; none for actors of no pipeline.
    records: Option<Records>,
}

/// Whether a report, as JSON, says that the actor recovered and that no record was lost, doubled or went back.
#[must_use]
pub fn has_healed(report: &Value) -> bool {
    let is_exact = |records: &Value| ["lost", "duplicated", "reordered"].iter().all(|key| records[key] == 0);
    report["recovered_after_ms"].is_u64() && (report["records"].is_null() || is_exact(&report["records"]))
}

impl Drills<'_> {
    /// Injects a fault and watches until the system has recovered, at most for `within`.
    ///
    /// # Errors
    /// An unknown actor, or one that does not take this fault.
    pub async fn run(&self, path: &ActorPath, fault: InjectedFault, within: Duration) -> Result<DrillReport, OpsError> {
        let before = self.node(path)?;
        let end = self.under_way.begin(path, Instant::now() + within);
        match fault.fault {
            FaultKind::Panic | FaultKind::Error | FaultKind::Stall | FaultKind::Slow => {
                self.inside(before, fault, end).await
            }
            FaultKind::BrokerDrop => self.broker_drop(before, fault, end).await,
            FaultKind::CorruptRecord => self.corrupt_record(before, fault, end).await,
        }
    }

    fn node(&self, path: &ActorPath) -> Result<TreeNode, OpsError> {
        self.runtime.node(path).ok_or_else(|| OpsError::UnknownPath(path.to_string()))
    }

    /// The pipeline that an actor belongs to.
    fn pipeline_of(&self, path: &ActorPath) -> Option<&PipelineView> {
        let mut segments = path.segments();
        let name = (segments.next() == Some("pipelines")).then(|| segments.next()).flatten()?;
        self.pipelines.iter().find(|pipeline| &*pipeline.name == name)
    }

    /// A fault that strikes at the actor's next fault point.
    async fn inside(&self, before: TreeNode, fault: InjectedFault, mut end: End) -> Result<DrillReport, OpsError> {
        let path = before.path.clone();
        let mut books = match self.pipeline_of(&path) {
            Some(pipeline) => Some(Books::open(vec![pipeline], self.reads).await?),
            None => None,
        };
        let armed = fault_of(&fault, &before.kind)?;
        self.runtime.command(&path, Command::Inject(armed)).await.map_err(refusal)?;
        let _disarmed_at_the_end = Disarm { runtime: self.runtime, path: &path };
        let mut watch = Watch { before, fault, struck: None, is_taken_back: false };
        let now = loop {
            let now = self.node(&path)?;
            watch.look(&now);
            let is_over = end.is_over();
            watch.is_taken_back = end.is_taken_back();
            if is_over || watch.has_recovered(&now, now_ms()) {
                break now;
            }
            sleep(LOOK_EVERY).await;
            if let Some(books) = &mut books {
                books.look();
            }
        };
        let seen_ms = now_ms();
        let records = match books {
            Some(books) => Some(books.close().await?),
            None => None,
        };
        Ok(watch.report(&now, seen_ms, records))
    }
}

/// Leaves no fault behind that strikes when nobody looks any more.
struct Disarm<'a> {
    runtime: &'a Runtime,
    path: &'a ActorPath,
}

impl Drop for Disarm<'_> {
    fn drop(&mut self) {
        self.runtime.disarm(self.path);
    }
}

/// One actor under a fault.
struct Watch {
    before: TreeNode,
    fault: InjectedFault,
    /// The fault that struck last, and what the actor had processed by then.
    struck: Option<(StruckFault, u64)>,
    /// Whether somebody took back what had not struck.
    is_taken_back: bool,
}

impl Watch {
    fn look(&mut self, now: &TreeNode) {
        let known = self.struck.as_ref().map(|(fault, _)| fault).or(self.before.last_fault.as_ref());
        if let Some(fault) = now.last_fault.as_ref().filter(|fault| Some(*fault) != known) {
            self.struck = Some((fault.clone(), now.processed));
        }
    }

    /// Whether the fault has struck as often as it was to, and the actor works again.
    fn has_recovered(&self, now: &TreeNode, now_ms: i64) -> bool {
        let Some((struck, _)) = &self.struck else { return false };
        // The actor is seen to be held a moment after the fault has struck.
        let holds_until = struck.at.saturating_add(self.fault.millis);
        let is_over = match self.fault.fault {
            FaultKind::Stall | FaultKind::Slow => self.is_new(now) || u64::try_from(now_ms).unwrap_or(0) >= holds_until,
            FaultKind::Panic | FaultKind::Error | FaultKind::BrokerDrop | FaultKind::CorruptRecord => true,
        };
        let is_up = matches!(now.state, ActorState::Running | ActorState::Degraded);
        let is_held = now.in_hand.as_ref().is_some_and(|hand| hand.label.starts_with(UNDER_FAULT))
            || now.waiting_on.as_ref().is_some_and(|wait| wait.on == UNDER_FAULT);
        let ends_it = matches!(self.fault.fault, FaultKind::Panic | FaultKind::Error);
        let strikes = if self.is_taken_back { 1 } else { self.fault.times };
        let has_ended = now.generation >= self.before.generation + u64::from(strikes);
        let works = self.before.processed == 0 || self.has_worked(now);
        now.armed_faults == 0 && is_up && !is_held && is_over && (has_ended || !ends_it) && works
    }

    /// Whether the actor has finished something since the fault struck.
    fn has_worked(&self, now: &TreeNode) -> bool {
        match &self.struck {
            None => false,
            Some(_) if self.is_new(now) => now.first_progress.is_some(),
            Some((_, processed)) => now.processed > *processed,
        }
    }

    fn is_new(&self, now: &TreeNode) -> bool {
        now.generation > self.before.generation
    }

    fn report(self, now: &TreeNode, seen_ms: i64, records: Option<Records>) -> DrillReport {
        let struck = self.struck.as_ref().map(|(fault, _)| fault.clone());
        let struck_at = struck.as_ref().map(|struck| struck.at);
        let exit = now.last_exit.clone().filter(|exit| exit.generation >= self.before.generation && exit.injected);
        let has_recovered = self.has_recovered(now, seen_ms);
        let seen = Seen {
            now,
            fault: self.fault.fault,
            struck: struck.as_ref(),
            has_recovered,
            has_ended: exit.is_some(),
            has_worked: self.has_worked(now),
            is_taken_back: self.is_taken_back,
        };
        let observed = seen.in_words();
        let since_fault = |at: u64| struck_at.map(|struck| at.saturating_sub(struck));
        let resumed_at = match self.is_new(now) {
            true => now.first_progress.unwrap_or(now.since),
            false => u64::try_from(seen_ms).unwrap_or(0),
        };
        DrillReport {
            path: now.path.to_string(),
            point: struck.map(|struck| struck.point),
            detected_after_ms: exit.as_ref().and_then(|exit| since_fault(exit.at)),
            recovered_after_ms: has_recovered.then(|| since_fault(resumed_at)).flatten(),
            generation_before: self.before.generation,
            generation: now.generation,
            state: now.state,
            exit,
            observed,
            fault: self.fault,
            records,
        }
    }
}

#[cfg(test)]
mod tests {
    use streamward_kit::{ChildSpec, FaultKind as Injected, SupervisorSpec};

    use super::*;

    #[actix::test]
    async fn a_stall_is_over_when_its_time_has_passed_also_where_the_actor_is_not_seen_to_be_held() {
        let idle = ChildSpec::role("a", "a", |scope| async move {
            scope.stopping().await;
            Ok(())
        });
        let runtime = Runtime::start(SupervisorSpec::new("root").child(idle)).unwrap();
        let path = ActorPath::parse("a").unwrap();
        let node = loop {
            match runtime.node(&path) {
                Some(node) if node.state == ActorState::Running => break node,
                _ => tokio::task::yield_now().await,
            }
        };
        for (fault, kind) in [(FaultKind::Stall, Injected::Stall(700)), (FaultKind::Slow, Injected::Slow(700))] {
            let fault = InjectedFault { fault, times: 1, millis: 700, seed: 1 };
            let struck = StruckFault { kind, point: "look".to_owned(), at: 10_000 };
            let watch = Watch { before: node.clone(), fault, struck: Some((struck, 0)), is_taken_back: false };
            assert!(!watch.has_recovered(&node, 10_699) && watch.has_recovered(&node, 10_700));
        }
        runtime.shutdown(Vec::new()).await;
    }
}
