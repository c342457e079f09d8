//! `streamward bench alerts`: what alerts that fire cost.
//!
//! The same records are stored as fast as possible by two pipelines that differ in the condition of their one rule: it
//! holds for no record, or for each, so that every key fires with its first record and fires on. They take turns, each
//! time with a server and a folder of its own, which is asked to stop as soon as all records are stored.

use std::{
    fmt,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    Machine,
    load::{LoadSettings, Progress},
    pipeline::load_in_thread,
    server::BenchServer,
};
use crate::process;

/// What to measure.
#[derive(Debug, Clone)]
pub struct AlertsBench {
    /// Different sensors, each of which fires.
    pub keys: u32,
    /// Records of a round.
    pub records: u64,
    /// Rounds of each way.
    pub rounds: u32,
    /// Seed of the load.
    pub seed: u64,
}

/// One way to run the job; medians of its rounds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Way {
    /// Records stored per second.
    pub per_s: f64,
    /// Alerts that fire at the end, the fewest of all rounds.
    pub firing: u64,
    /// Transitions that wait to be announced at the end, the most of all rounds.
    pub waiting: u64,
    /// Seconds from the request to stop until the server has stopped.
    pub stop_s: f64,
}

/// The report.
#[derive(Debug, Clone, Serialize)]
pub struct AlertsReport {
    pub keys: u32,
    pub records: u64,
    pub rounds: u32,
    pub quiet: Way,
    pub firing: Way,
    /// Rate with alerts to rate without.
    pub ratio: f64,
    pub machine: Machine,
    pub load_average: f64,
}

impl fmt::Display for AlertsReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, records, quiet, firing, ratio, load_average, .. } = self;
        writeln!(formatter, "{records} records of {keys} keys")?;
        for (name, way) in [("no alert", quiet), ("each key fires", firing)] {
            let Way { per_s, firing, waiting, stop_s } = way;
            writeln!(
                formatter,
                "{name:<15} {per_s:>8.0}/s  {firing:>7} firing, {waiting:>7} to announce  stopped after {stop_s:.1} s"
            )?;
        }
        write!(formatter, "ratio {ratio:.2}, load average before {load_average:.2}")
    }
}

/// Runs the measurement.
///
/// # Errors
/// If a part of it fails.
pub async fn run(bench: &AlertsBench) -> Result<AlertsReport, String> {
    let load_average = process::load_average();
    let (mut quiet, mut firing) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        quiet.push(round(bench, "value > 1000000").await?);
        firing.push(round(bench, "value > -1000000").await?);
    }
    let (quiet, firing) = (medians(&quiet), medians(&firing));
    Ok(AlertsReport {
        keys: bench.keys,
        records: bench.records,
        rounds: bench.rounds,
        quiet,
        firing,
        ratio: firing.per_s / quiet.per_s,
        machine: Machine::here(),
        load_average,
    })
}

async fn round(bench: &AlertsBench, condition: &str) -> Result<Way, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("make a temporary folder: {error}"))?;
    let steps = format!("[{{ rule: {{ name: fires, when: '{condition}' }} }}]");
    let sets = [("pipelines.sensors.steps".to_owned(), steps)];
    let server = BenchServer::start(folder.path(), &sets, None).await?;
    let stream = server.plan.stream("sensors").ok_or("the configuration has no stream sensors")?;
    let settings = LoadSettings {
        topic: stream.topic.to_string(),
        seed: bench.seed,
        keys: bench.keys,
        rate: None,
        duration: Duration::from_secs(24 * 3600),
        max_records: bench.records,
        first: 0,
        history: None,
    };
    let begun = Instant::now();
    let sent = load_in_thread(server.kafka.clone(), settings, Progress::default()).await?;
    server.caught_up("sensors", sent.acknowledged).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let database = server.config.database();
    let asked = Instant::now();
    server.stop().await;
    let stop_s = asked.elapsed().as_secs_f64();
    let mut audit = database.audit().await.map_err(|error| error.to_string())?;
    let (firing, waiting) = audit.alerts().await.map_err(|error| error.to_string())?;
    Ok(Way { per_s: sent.acknowledged as f64 / seconds, firing, waiting, stop_s })
}

fn medians(rounds: &[Way]) -> Way {
    let median = |figure: fn(&Way) -> f64| {
        let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
    };
    Way {
        per_s: median(|way| way.per_s),
        firing: rounds.iter().map(|way| way.firing).min().unwrap_or(0),
        waiting: rounds.iter().map(|way| way.waiting).max().unwrap_or(0),
        stop_s: median(|way| way.stop_s),
    }
}
