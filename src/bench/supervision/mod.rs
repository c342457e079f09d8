//! `streamward bench supervision`: seeded faults in every role under load, then what was lost, and how fast it healed.
//!
//! The server runs in this process with its real tree; faults go through the same interface as an operator's drills.
//! The policies differ from the built-in ones in these points, so that hundreds of faults are not taken for a broken
//! machine: no supervisor gives up, back-off starts anew after half a second of health, half a second in hand is stuck.
//!
//! [`nemesis`] injects, [`oracle`] judges, [`neighbours`] measures what a crash loop and a flood do to others, [`outages`]
//! are what goes wrong around the actors.

mod neighbours;
mod nemesis;
mod oracle;
mod outages;
mod report;
mod trickle;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use self::{
    nemesis::{Healing, Nemesis},
    oracle::OrderWatch,
};
pub use self::{outages::Outages, report::SupervisionReport};
use super::{
    Machine,
    load::{LoadSettings, Progress, Sent},
    pipeline::load_in_thread,
    server::BenchServer,
    websocket::{self, OnEnd, Seen},
};
use crate::{
    clock::now_ms,
    process::{self, Process},
};

/// Dashboards that read while faults strike, and come back when their session ends.
const DASHBOARDS: usize = 3;
/// Part of the time before memory is looked at.
const SETTLING: f64 = 0.25;
const MEMORY_EVERY: Duration = Duration::from_secs(1);
/// Load at the full rate before the first fault.
const WARM_UP: Duration = Duration::from_secs(3);
/// Longest load: it ends with the last fault.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// What differs from the built-in configuration.
const SETTINGS: [(&str, &str); 12] = [
    ("drills.enabled", "true"),
    ("supervision.defaults.stuck_after", "500ms"),
    ("supervision.defaults.backoff.min", "20ms"),
    ("supervision.defaults.backoff.max", "200ms"),
    ("supervision.defaults.backoff.reset_after", "500ms"),
    ("supervision.root.max_restarts", "10000"),
    ("supervision.pipelines.max_restarts", "10000"),
    ("supervision.actors.*.intensity.max_restarts", "10000"),
    ("supervision.actors.*/*.intensity.max_restarts", "10000"),
    // A chunk of old rows may take longer than that, on a busy disk.
    ("supervision.actors.ops.stuck_after", "30s"),
    ("storage.retention.check_every", "1s"),
    ("http.websocket.max_sessions", "64"),
];

/// What to measure.
#[derive(Debug, Clone)]
pub struct SupervisionBench {
    /// Records per second.
    pub rate: f64,
    pub duration: Duration,
    /// Faults to inject in that time.
    pub faults: u32,
    /// Panics one by one, before that.
    pub panics: u32,
    pub keys: u32,
    pub seed: u64,
    /// Length of each of the measurements beside a crash loop; none are made if zero.
    pub neighbours: Duration,
    /// What is made to fail around the actors, after all that.
    pub outages: Outages,
}

/// Runs the measurement in `folder`.
///
/// # Errors
/// If a part of it fails; a loss or a fault that does not heal is a figure of the report, not an error.
pub async fn run(folder: &Path, bench: &SupervisionBench) -> Result<SupervisionReport, String> {
    let (load_average, since_ms) = (process::load_average(), now_ms());
    let order = Arc::new(OrderWatch::default());
    let sets = SETTINGS.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let server = BenchServer::start(folder, &sets, Some(order.clone())).await?;
    let dashboards =
        websocket::watch_many(server.app.addresses().http, &Seen::default(), DASHBOARDS, OnEnd::ConnectAgain);
    let under_faults = under_faults(&server, bench).await?;
    let (sent, trickle) = (under_faults.sent, &under_faults.trickle);
    let restarts = server.app.runtime().metrics().iter().map(|actor| actor.restarts_total).sum();
    let neighbours = neighbours::measure(&server, bench, sent.records).await?;
    let also_sent = neighbours.as_ref().map_or(0, |neighbours| neighbours.acknowledged);
    let database = server.config.database();
    dashboards.stop();
    server.stop().await;
    let verdict = oracle::judge(&database, since_ms, sent.acknowledged + also_sent, trickle).await?;
    let outages = outages::make(&folder.join("outages"), bench).await?;
    Ok(SupervisionReport {
        seed: bench.seed,
        seconds: bench.duration.as_secs_f64(),
        rate: bench.rate,
        records_acknowledged: sent.acknowledged + also_sent + trickle.series(),
        records_lost: verdict.lost,
        records_duplicated: verdict.duplicated,
        records_reordered: verdict.reordered + order.violations.load(Ordering::Relaxed),
        commits_repeated: order.repeated.load(Ordering::Relaxed),
        poison_sent: trickle.poison(),
        poison_missing: verdict.poison_missing,
        dead_letters: verdict.dead_letters,
        dead_letters_unexpected: verdict.dead_letters.saturating_sub(under_faults.expected_dead)
            + verdict.poison_repeated,
        restarts,
        faults: report::Faults::of(&under_faults.panics, &under_faults.faults),
        memory: report::Memory::of(&under_faults.memory, SETTLING),
        neighbours,
        outages,
        machine: Machine::here(),
        load_average,
    })
}

/// What was sent while faults struck, and what they did.
struct UnderFaults {
    sent: Sent,
    trickle: trickle::Sent,
    expected_dead: u64,
    panics: Vec<Healing>,
    faults: Vec<Healing>,
    memory: Vec<u64>,
}

/// Sends until the last fault has healed, then waits until all of it is stored or set aside.
async fn under_faults(server: &BenchServer, bench: &SupervisionBench) -> Result<UnderFaults, String> {
    let sensors = load(server, bench, (Some(bench.rate), LONGEST), 0)?;
    let progress = Progress::default();
    let trickling = trickle::send(server, progress.stop.clone());
    let sending = load_in_thread(server.kafka.clone(), sensors, progress.clone());
    let nemesis = Nemesis::new(&server.app, bench);
    let struck = async {
        tokio::time::sleep(WARM_UP).await;
        let panics = nemesis.one_by_one().await;
        let faults = nemesis.rage().await;
        progress.stop.store(true, Ordering::Relaxed);
        (panics, faults)
    };
    let memory = resident_memory(&progress.stop);
    let (sent, trickle, memory, (panics, faults)) = tokio::join!(sending, trickling, memory, struck);
    let (sent, trickle) = (sent?, trickle?);
    let expected_dead = trickle.poison() + nemesis.corrupt_records();
    server.caught_up("sensors", sent.acknowledged + expected_dead).await?;
    server.caught_up("series", trickle.series()).await?;
    Ok(UnderFaults { sent, trickle, expected_dead, panics, faults, memory })
}

/// A load into the stream `sensors`; `first` keeps the ids of several loads apart.
fn load(
    server: &BenchServer,
    bench: &SupervisionBench,
    (rate, duration): (Option<f64>, Duration),
    first: u64,
) -> Result<LoadSettings, String> {
    let stream = server.plan.stream("sensors").ok_or("the configuration has no stream sensors")?;
    Ok(LoadSettings {
        topic: stream.topic.to_string(),
        seed: bench.seed,
        keys: bench.keys,
        rate,
        duration,
        max_records: u64::MAX,
        first,
        history: None,
    })
}

/// Resident bytes, once a second.
async fn resident_memory(stop: &AtomicBool) -> Vec<u64> {
    let mut seen = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(MEMORY_EVERY).await;
        seen.push(Process::this().resident_bytes());
    }
    seen
}
