//! `streamward bench pipeline`: generator → broker → pipeline → SQLite and WebSocket, all in this process.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Machine, floor, in_thread,
    latency::{Latencies, Percentiles, RowWatch},
    load::{self, LoadSettings, Progress, Sent},
    server::BenchServer,
    websocket::{self, OnEnd, Seen},
};
use crate::{
    adapters::database::DatabaseSettings,
    clock::now_ms,
    process::{self, Process},
};
use serde::Serialize;

/// Time before the measurement, at the same rate: connections, caches and first allocations.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long the floor is measured.
const FLOOR: Duration = Duration::from_secs(5);

/// Column of the event time in the stream `sensors`.
pub const EVENT_TIME: usize = 3;

/// What to measure.
#[derive(Debug, Clone)]
pub struct PipelineBench {
    /// Records per second; `None` as fast as possible.
    pub rate: Option<f64>,
    pub duration: Duration,
    pub keys: u32,
    pub seed: u64,
    /// Overrides of the built-in configuration.
    pub sets: Vec<(String, String)>,
}

/// The report.
#[derive(Debug, Clone, Serialize)]
pub struct PipelineReport {
    pub records_sent: u64,
    pub records_stored: u64,
    pub records_lost: u64,
    pub records_duplicated: u64,
    pub throughput_per_s: f64,
    pub floor_per_s: f64,
    pub event_to_row_ms: Percentiles,
    pub event_to_websocket_ms: Percentiles,
    pub websocket_frames: u64,
    pub websocket_dropped: u64,
    pub cpu_us_per_record: f64,
    pub rss_peak_mb: f64,
    pub seconds: f64,
    /// Records per second asked for, or `max`.
    pub rate: serde_json::Value,
    pub keys: u32,
    pub machine: Machine,
    pub load_average: f64,
}

/// Runs the measurement in `folder`, beside what is stored there.
///
/// # Errors
/// If a part of it fails; a loss or a duplicate is a figure of the report, not an error.
pub async fn run(folder: &Path, bench: &PipelineBench) -> Result<PipelineReport, String> {
    let (load_average, since_ms) = (process::load_average(), now_ms());
    let (rows, seen) = (Latencies::default(), Seen::default());
    let watch = Arc::new(RowWatch { latencies: rows.clone(), event_time: EVENT_TIME });
    let server = BenchServer::start(folder, &bench.sets, Some(watch)).await?;
    let before = server.app.committed("sensors");
    let dashboard = websocket::watch_many(server.app.addresses().http, &seen, 1, OnEnd::Leave);
    let warm = send(&server, bench, WARM_UP, 0).await?;
    server.caught_up("sensors", before + warm.acknowledged).await?;
    rows.reset();
    seen.reset();
    let (cpu, started) = (Process::this().cpu_time(), Instant::now());
    let sent = send(&server, bench, bench.duration, warm.records).await?;
    server.caught_up("sensors", before + warm.acknowledged + sent.acknowledged).await?;
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), Process::this().cpu_time() - cpu);
    let rss_peak_mb = Process::this().peak_resident_bytes() as f64 / 1e6;
    let (plan, database) = (server.plan.clone(), server.config.database());
    server.stop().await;
    dashboard.stop();
    let floor_per_s = floor::measure(&plan, bench.keys, FLOOR).await?;
    let (stored, distinct) = recount(&database, since_ms).await?;
    let (all_sent, all_acknowledged) = (warm.records + sent.records, warm.acknowledged + sent.acknowledged);
    Ok(PipelineReport {
        records_sent: all_sent,
        records_stored: stored,
        records_lost: all_acknowledged.saturating_sub(distinct),
        records_duplicated: stored.saturating_sub(distinct),
        throughput_per_s: sent.acknowledged as f64 / seconds,
        floor_per_s,
        event_to_row_ms: rows.percentiles(),
        event_to_websocket_ms: seen.latencies.percentiles(),
        websocket_frames: seen.frames.load(std::sync::atomic::Ordering::Relaxed),
        websocket_dropped: seen.dropped.load(std::sync::atomic::Ordering::Relaxed),
        cpu_us_per_record: cpu.as_secs_f64() * 1e6 / sent.acknowledged.max(1) as f64,
        rss_peak_mb,
        seconds,
        rate: bench.rate.map_or_else(|| "max".into(), Into::into),
        keys: bench.keys,
        machine: Machine::here(),
        load_average,
    })
}

/// Sends from a thread of its own; `first` keeps the ids of two loads apart.
async fn send(server: &BenchServer, bench: &PipelineBench, duration: Duration, first: u64) -> Result<Sent, String> {
    let stream = server.plan.stream("sensors").ok_or("the configuration has no stream sensors")?;
    let settings = LoadSettings {
        topic: stream.topic.to_string(),
        seed: bench.seed,
        keys: bench.keys,
        rate: bench.rate,
        duration,
        max_records: u64::MAX,
        first,
        history: None,
    };
    load_in_thread(server.kafka.clone(), settings, Progress::default()).await
}

/// Runs a load on a thread and waits for it.
///
/// # Errors
/// If the load fails.
pub async fn load_in_thread(
    kafka: crate::adapters::kafka::KafkaSettings,
    settings: LoadSettings,
    progress: Progress,
) -> Result<Sent, String> {
    in_thread("load", move || load::run(&kafka, &settings, &progress)).await
}

/// Rows stored since then, and rows with an id of their own.
async fn recount(database: &DatabaseSettings, since_ms: i64) -> Result<(u64, u64), String> {
    let mut audit = database.audit().await.map_err(|error| error.to_string())?;
    audit.count_distinct("sensor_readings", "location", since_ms).await.map_err(|error| error.to_string())
}
