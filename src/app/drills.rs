//! Drills: a fault is injected on purpose, and what becomes of it is measured.
//!
//! Times come from the actor's own marks (when the fault struck, when the exit was noticed, when the next incarnation
//! finished its first record). Records of a pipeline are counted by its books: each offset that its positions pass must
//! be stored, dead or filtered once.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use serde::Serialize;
use streamward_core::ports::{InjectedFault, OpsError};
use streamward_kit::{ActorPath, ActorState, Command, ExitReport, Runtime, TreeNode};
use tokio::time::{Instant, sleep};

use super::operations::{PipelineView, fault_of, refusal};

/// How often the actor and the books are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long the books may take to agree after the recovery: position and counters move one after the other.
const SETTLE: Duration = Duration::from_secs(2);

/// What became of an injected fault.
#[derive(Debug, Serialize)]
pub struct DrillReport {
    path: String,
    fault: InjectedFault,
    /// Where it struck; none if it did not in time.
    point: Option<String>,
    /// From the fault to when the supervisor knew; none if no incarnation ended of it.
    detected_after_ms: Option<u64>,
    /// From the fault to the first record finished after it, or to the restart where the actor handles no records.
    recovered_after_ms: Option<u64>,
    generation_before: u64,
    generation: u64,
    state: ActorState,
    /// How the incarnation ended that the fault struck.
    exit: Option<ExitReport>,
    /// Of the actor's pipeline; none for actors of no pipeline.
    records: Option<Records>,
}

/// The books of a pipeline over the time of a drill.
#[derive(Debug, Serialize)]
struct Records {
    /// Offsets that the positions passed.
    passed: u64,
    /// Of these, stored, dead or filtered less than once.
    lost: u64,
    /// Stored, dead or filtered more than once.
    duplicated: u64,
    /// Times that a position went back.
    reordered: u64,
}

/// Injects a fault and watches until the actor has recovered, at most for `within`.
///
/// # Errors
/// An unknown actor, or one that takes no faults.
pub async fn run(
    runtime: &Runtime,
    pipelines: &[PipelineView],
    path: &ActorPath,
    (fault, within): (InjectedFault, Duration),
) -> Result<DrillReport, OpsError> {
    let node = || runtime.node(path).ok_or_else(|| OpsError::UnknownPath(path.to_string()));
    let before = node()?;
    let mut books = Books::of(pipelines, path);
    runtime.command(path, Command::Inject(fault_of(&fault))).await.map_err(refusal)?;
    let deadline = Instant::now() + within;
    let mut now = node()?;
    while !has_recovered(&before, &now, fault.times) && Instant::now() < deadline {
        sleep(LOOK_EVERY).await;
        if let Some(books) = &mut books {
            books.look();
        }
        now = node()?;
    }
    let records = match books {
        Some(books) => Some(books.settled().await),
        None => None,
    };
    Ok(report((path, fault), &before, &now, records))
}

fn report(
    (path, fault): (&ActorPath, InjectedFault),
    before: &TreeNode,
    now: &TreeNode,
    records: Option<Records>,
) -> DrillReport {
    let struck = now.last_fault.clone().filter(|struck| before.last_fault.as_ref() != Some(struck));
    let struck_at = struck.as_ref().map(|struck| struck.at);
    let exit = now.last_exit.clone().filter(|exit| exit.generation >= before.generation && exit.injected);
    let since_fault = |at: u64| struck_at.map(|struck| at.saturating_sub(struck));
    let is_recovered = has_recovered(before, now, fault.times);
    DrillReport {
        path: path.to_string(),
        point: struck.map(|struck| struck.point),
        detected_after_ms: exit.as_ref().and_then(|exit| since_fault(exit.at)),
        recovered_after_ms: is_recovered.then(|| since_fault(resumed_at(now))).flatten(),
        generation_before: before.generation,
        generation: now.generation,
        state: now.state,
        exit,
        fault,
        records,
    }
}

/// When the present incarnation did what it is for.
fn resumed_at(node: &TreeNode) -> u64 {
    node.first_progress.unwrap_or(node.since)
}

/// Whether the fault has struck as often as it was to, and the actor works again.
fn has_recovered(before: &TreeNode, now: &TreeNode, times: u32) -> bool {
    let has_struck = now.last_fault.is_some() && now.last_fault != before.last_fault;
    let is_up = matches!(now.state, ActorState::Running | ActorState::Degraded);
    let has_restarted = now.generation >= before.generation + u64::from(times);
    let does_records = before.processed > 0;
    has_struck && is_up && has_restarted && (!does_records || now.first_progress.is_some())
}

/// Positions and counters of one pipeline.
struct Books<'a> {
    pipeline: &'a PipelineView,
    begun: (i64, u64),
    /// By partition; one that is not assigned at the moment keeps its last.
    positions: BTreeMap<i32, i64>,
    went_back: u64,
}

impl<'a> Books<'a> {
    /// Of the pipeline that an actor belongs to.
    fn of(pipelines: &'a [PipelineView], path: &ActorPath) -> Option<Self> {
        let mut segments = path.segments();
        let name = (segments.next() == Some("pipelines")).then(|| segments.next()).flatten()?;
        let pipeline = pipelines.iter().find(|pipeline| &*pipeline.name == name)?;
        let positions: BTreeMap<i32, i64> = pipeline.slots.committed_positions().into_iter().collect();
        Some(Self { begun: (positions.values().sum(), accounted(pipeline)), pipeline, positions, went_back: 0 })
    }

    fn look(&mut self) {
        for (partition, position) in self.pipeline.slots.committed_positions() {
            let before = self.positions.insert(partition, position);
            self.went_back += u64::from(before.is_some_and(|before| position < before));
        }
    }

    /// The books once they agree, or as they stand after [`SETTLE`].
    async fn settled(mut self) -> Records {
        let deadline = Instant::now() + SETTLE;
        loop {
            self.look();
            let passed = u64::try_from(self.positions.values().sum::<i64>() - self.begun.0).unwrap_or(0);
            let accounted = accounted(self.pipeline).saturating_sub(self.begun.1);
            if passed == accounted || Instant::now() >= deadline {
                return Records {
                    passed,
                    lost: passed.saturating_sub(accounted),
                    duplicated: accounted.saturating_sub(passed),
                    reordered: self.went_back,
                };
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

fn accounted(pipeline: &PipelineView) -> u64 {
    let totals = pipeline.slots.totals();
    [&totals.stored, &totals.dead, &totals.filtered].map(|total| total.load(Ordering::Relaxed)).iter().sum()
}
