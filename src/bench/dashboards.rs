//! `streamward bench websocket`: many dashboards, some of which never read.
//!
//! The same load runs twice: first with the readers alone, then with the stuck clients beside them. What the stuck ones
//! cost is the difference.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde::Serialize;

use super::{
    Machine,
    latency::{Latencies, Percentiles, RowWatch},
    load::{LoadSettings, Progress},
    pipeline::{EVENT_TIME, load_in_thread},
    server::BenchServer,
    websocket::{self, OnEnd, Seen},
};
use crate::process;

/// Warm-up before the first measurement.
const WARM_UP: Duration = Duration::from_secs(5);
/// A page cache that the warm-up fills: its growth is not the clients'.
const PAGE_CACHE: (&str, &str) = ("storage.sqlite.cache_size", "512KiB");

/// What to measure.
#[derive(Debug, Clone)]
pub struct DashboardBench {
    pub readers: usize,
    pub stuck: usize,
    /// Records per second.
    pub rate: f64,
    /// Length of each of the two measurements.
    pub duration: Duration,
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub struct Phase {
    pub event_to_websocket_ms: Percentiles,
    pub event_to_row_ms: Percentiles,
    pub frames: u64,
    /// Frames left out for readers.
    pub dropped: u64,
    pub rss_mb: f64,
}

/// The report.
#[derive(Debug, Clone, Serialize)]
pub struct DashboardReport {
    pub readers: usize,
    pub stuck: usize,
    pub rate: f64,
    pub readers_alone: Phase,
    pub with_stuck: Phase,
    pub rss_growth_kb_per_stuck: f64,
    pub machine: Machine,
    pub load_average: f64,
}

/// Runs both measurements in `folder`.
///
/// # Errors
/// If the server does not start, a client cannot connect, or the load fails.
pub async fn run(folder: &Path, bench: &DashboardBench) -> Result<DashboardReport, String> {
    let load_average = process::load_average();
    let (rows, seen) = (Latencies::default(), Seen::default());
    let watch = Arc::new(RowWatch { latencies: rows.clone(), event_time: EVENT_TIME });
    let server = BenchServer::start(folder, &[(PAGE_CACHE.0.to_owned(), PAGE_CACHE.1.to_owned())], Some(watch)).await?;
    let address = server.app.addresses().http;
    let clients = websocket::watch_many(address, &seen, bench.readers, OnEnd::Leave);
    send(&server, bench, WARM_UP).await?;
    let readers_alone = measure(&server, bench, (&rows, &seen)).await?;
    let stuck = (0..bench.stuck).map(|_| connect_stuck(address)).collect::<Result<Vec<_>, _>>()?;
    let with_stuck = measure(&server, bench, (&rows, &seen)).await?;
    drop(stuck);
    server.stop().await;
    clients.stop();
    let growth_kb = (with_stuck.rss_mb - readers_alone.rss_mb) * 1000.0;
    Ok(DashboardReport {
        readers: bench.readers,
        stuck: bench.stuck,
        rate: bench.rate,
        rss_growth_kb_per_stuck: growth_kb / bench.stuck.max(1) as f64,
        readers_alone,
        with_stuck,
        machine: Machine::here(),
        load_average,
    })
}

async fn measure(
    server: &BenchServer,
    bench: &DashboardBench,
    (rows, seen): (&Latencies, &Seen),
) -> Result<Phase, String> {
    rows.reset();
    seen.reset();
    send(server, bench, bench.duration).await?;
    Ok(Phase {
        event_to_websocket_ms: seen.latencies.percentiles(),
        event_to_row_ms: rows.percentiles(),
        frames: seen.frames.load(Ordering::Relaxed),
        dropped: seen.dropped.load(Ordering::Relaxed),
        rss_mb: process::Process::this().resident_bytes() as f64 / 1e6,
    })
}

async fn send(server: &BenchServer, bench: &DashboardBench, duration: Duration) -> Result<(), String> {
    let stream = server.plan.stream("sensors").ok_or("the configuration has no stream sensors")?;
    let before = server.app.committed("sensors");
    let settings = LoadSettings {
        topic: stream.topic.to_string(),
        seed: 1,
        keys: 100,
        rate: Some(bench.rate),
        duration,
        max_records: u64::MAX,
        first: before,
        history: None,
    };
    let sent = load_in_thread(server.kafka.clone(), settings, Progress::default()).await?;
    server.caught_up("sensors", before + sent.acknowledged).await
}

/// Opens a WebSocket and never reads from it.
fn connect_stuck(address: SocketAddr) -> Result<TcpStream, String> {
    let mut stream = TcpStream::connect(address).map_err(|error| format!("connect: {error}"))?;
    let request = format!(
        "GET /ws/sensors HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c3RyZWFtd2FyZC1iZW5jaA==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(|error| format!("ask for a WebSocket: {error}"))?;
    Ok(stream)
}
