//! Seeded faults in every role, several at a time, never two in one actor.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng, seq::IndexedRandom as _};
use streamward_core::ports::{FaultKind, InjectedFault, OpsError};
use streamward_kit::{ActorPath, Command, Fault, FaultKind as Strike, TreeNode};
use tokio::time::Instant;

use super::SupervisionBench;
use crate::app::{App, has_healed};

/// Faults at a time.
const WORKERS: u64 = 3;
/// How long one fault may take to heal.
const HEALED_WITHIN: Duration = Duration::from_secs(30);
/// How long a stall would last, had it no limit.
const STALL_MS: u64 = 3_000;
/// Longest delay of a slow step.
const MAX_SLOW_MS: u64 = 300;
/// How long the broker is away.
const OUTAGE_MS: u64 = 500;
/// Actors with a longer limit are not stalled: it would have to pass.
const MAX_STUCK_AFTER: Duration = Duration::from_secs(1);
/// Kinds that work on records or events and mark no wait for the whole of their life, so that a stall is noticed.
const STALLED: [&str; 5] = ["sink", "lane", "source", "relay", "announcer"];
/// Actors that panic one by one, and the time between: each has been healthy for long enough to start without delay.
const ONE_BY_ONE: [&str; 3] = ["pipelines/sensors/sink", "pipelines/sensors/lane", "pipelines/sensors/source"];
const BETWEEN: Duration = Duration::from_millis(250);
/// The actor that carries the operators' interface: its fault is injected beside it.
const HTTP_SERVER: &str = "edge/http";

/// One fault and what became of it.
#[derive(Debug, Clone)]
pub struct Healing {
    /// Kind of the actor.
    pub role: String,
    pub fault: FaultKind,
    pub healed: bool,
    pub detected_after_ms: Option<u64>,
    pub recovered_after_ms: Option<u64>,
    /// Why it counts as not healed, for people.
    pub complaint: Option<String>,
    /// The actor's limit on one message in hand.
    pub stuck_after: Option<Duration>,
}

pub struct Nemesis<'a> {
    app: &'a App,
    bench: &'a SupervisionBench,
    /// Paths under a fault.
    busy: Mutex<BTreeSet<String>>,
    corrupt_records: AtomicU64,
}

impl<'a> Nemesis<'a> {
    pub fn new(app: &'a App, bench: &'a SupervisionBench) -> Self {
        Self { app, bench, busy: Mutex::default(), corrupt_records: AtomicU64::new(0) }
    }

    /// Records that drills wrote and that must become dead letters.
    pub fn corrupt_records(&self) -> u64 {
        self.corrupt_records.load(Ordering::Relaxed)
    }

    /// Panics of sink, lane and source in turn, with nothing else wrong: what one restart takes.
    pub async fn one_by_one(&self) -> Vec<Healing> {
        let mut healings = Vec::new();
        for (_, path) in (0..self.bench.panics).zip(ONE_BY_ONE.iter().cycle()) {
            let node = ActorPath::parse(path).ok().and_then(|path| self.app.runtime().node(&path));
            let Some(node) = node else { continue };
            let fault = InjectedFault { fault: FaultKind::Panic, times: 1, millis: 0, seed: 0 };
            healings.push(self.strike(node, fault).await);
            tokio::time::sleep(BETWEEN).await;
        }
        healings
    }

    /// Injects all faults, evenly over the time, and waits until each has healed.
    pub async fn rage(&self) -> Vec<Healing> {
        let workers = (0..WORKERS).map(|worker| self.work(worker));
        futures_util::future::join_all(workers).await.into_iter().flatten().collect()
    }

    async fn work(&self, worker: u64) -> Vec<Healing> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.bench.seed.wrapping_mul(31).wrapping_add(worker));
        let count = u64::from(self.bench.faults);
        let share = count / WORKERS + u64::from(worker < count % WORKERS);
        let (begun, mut seen) = (Instant::now(), Vec::new());
        for number in 0..share {
            let due = self.bench.duration.mul_f64((number as f64 + worker as f64 / WORKERS as f64) / share as f64);
            tokio::time::sleep_until(begun + due).await;
            let Some(node) = self.choose(&mut rng) else { continue };
            let fault = any_fault(&node, &mut rng);
            let path = node.path.to_string();
            seen.push(self.strike(node, fault).await);
            self.busy.lock().remove(&path);
        }
        seen
    }

    /// An actor that is up and under no fault, marked as under one.
    fn choose(&self, rng: &mut ChaCha8Rng) -> Option<TreeNode> {
        let tree = self.app.runtime().snapshot();
        let mut busy = self.busy.lock();
        let is_free = |node: &&TreeNode| &*node.kind != "supervisor" && !busy.contains(node.path.as_str());
        let free: Vec<&TreeNode> = tree.iter().filter(is_free).collect();
        let chosen = (*free.choose(rng)?).clone();
        busy.insert(chosen.path.to_string());
        Some(chosen)
    }

    async fn strike(&self, node: TreeNode, fault: InjectedFault) -> Healing {
        let mut healing = Healing {
            role: node.kind.to_string(),
            fault: fault.fault,
            healed: false,
            detected_after_ms: None,
            recovered_after_ms: None,
            stuck_after: node.policy.stuck_after,
            complaint: None,
        };
        if fault.fault == FaultKind::CorruptRecord {
            self.corrupt_records.fetch_add(u64::from(fault.times), Ordering::Relaxed);
        }
        if node.path.as_str() == HTTP_SERVER {
            healing.complaint = self.restart_http(&node).await.err();
            healing.healed = healing.complaint.is_none();
            return healing;
        }
        match self.app.operations().drill(node.path.as_str(), fault, HEALED_WITHIN, "bench").await {
            Ok(report) => {
                healing.detected_after_ms = report["detected_after_ms"].as_u64();
                healing.recovered_after_ms = report["recovered_after_ms"].as_u64();
                healing.healed = has_healed(&report);
                healing.complaint = (!healing.healed).then(|| report.to_string());
            }
            // A session leaves the tree when it ends; its client opens another one.
            Err(OpsError::UnknownPath(_)) if &*node.kind == "session" => healing.healed = true,
            Err(error) => healing.complaint = Some(format!("{}: {error}", node.path)),
        }
        healing
    }

    async fn restart_http(&self, before: &TreeNode) -> Result<(), String> {
        let runtime = self.app.runtime();
        let strike = Command::Inject(Fault::new(Strike::Panic, 1));
        runtime.command(&before.path, strike).await.map_err(|error| format!("{}: {error}", before.path))?;
        let is_back = || {
            let now = runtime.node(&before.path);
            now.is_some_and(|now| now.generation > before.generation && now.state.as_str() == "running")
        };
        let back = tokio::time::timeout(HEALED_WITHIN, runtime.until(is_back)).await;
        back.map_err(|_| format!("{}: did not come back: {:?}", before.path, runtime.node(&before.path)))
    }
}

fn any_fault(node: &TreeNode, rng: &mut ChaCha8Rng) -> InjectedFault {
    let mut kinds = vec![FaultKind::Panic, FaultKind::Panic, FaultKind::Error, FaultKind::Slow];
    if STALLED.contains(&&*node.kind) && node.policy.stuck_after.is_some_and(|limit| limit <= MAX_STUCK_AFTER) {
        kinds.push(FaultKind::Stall);
    }
    if &*node.kind == "broker" {
        kinds.push(FaultKind::BrokerDrop);
    }
    if node.path.as_str() == "pipelines/sensors/lane" {
        kinds.push(FaultKind::CorruptRecord);
    }
    if &*node.kind == "session" {
        kinds = vec![FaultKind::Panic, FaultKind::Error];
    }
    let fault = kinds[rng.random_range(0..kinds.len())];
    let millis = match fault {
        FaultKind::Stall => STALL_MS,
        FaultKind::Slow => rng.random_range(1..=MAX_SLOW_MS),
        FaultKind::BrokerDrop => OUTAGE_MS,
        FaultKind::Panic | FaultKind::Error | FaultKind::CorruptRecord => 0,
    };
    InjectedFault { fault, times: 1, millis, seed: rng.random() }
}
