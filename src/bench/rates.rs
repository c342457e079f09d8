//! `streamward bench cost --rates`: what a server costs at the rates at which people run it.
//!
//! The server is a process of its own with everything embedded, on a temporary folder, with no client connected but the
//! load. The load comes from this process, so that only the server's time counts. CPU time and context switches are the
//! kernel's, by thread.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    Machine,
    broker::Target,
    load::{LoadSettings, Progress},
    pipeline::load_in_thread,
};
use crate::process::{self, Thread};

/// Topic of the built-in stream `sensors`.
const TOPIC: &str = "sensor-readings";
/// The load goes on for so much longer than it is measured.
const MARGIN: Duration = Duration::from_secs(2);

/// What the server is given to do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Nothing.
    Idle,
    /// The built-in simulator: 30 readings a second.
    Simulator,
    /// Records a second from outside, as JSON.
    Load(f64),
}

impl std::str::FromStr for Work {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rate = |text: &str| text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
        match text {
            "idle" => Ok(Self::Idle),
            "simulator" => Ok(Self::Simulator),
            number => rate(number)
                .map(Self::Load)
                .ok_or_else(|| format!("{text} is no rate: idle, simulator, or a number of records a second above 0")),
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("idle"),
            Self::Simulator => f.write_str("simulator"),
            Self::Load(rate) => write!(f, "{rate}/s"),
        }
    }
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct RatesBench {
    /// The server's program.
    pub program: PathBuf,
    pub rates: Vec<Work>,
    /// How long each is measured, and how long it runs before that.
    pub duration: Duration,
    pub settle: Duration,
    pub keys: u32,
    pub seed: u64,
}

/// What one rate cost.
#[derive(Debug, Clone, Serialize)]
pub struct RateCost {
    pub work: Work,
    /// Share of one core, in percent.
    pub cpu_percent: f64,
    /// CPU time per record in microseconds; none without a load.
    pub cpu_us_per_record: Option<f64>,
    pub switches_per_s: f64,
    /// Share of one core in percent, and context switches a second, by what the threads do.
    pub threads: BTreeMap<&'static str, (f64, f64)>,
    pub load_average: f64,
}

/// The report.
#[derive(Debug, Clone, Serialize)]
pub struct RatesReport {
    pub rates: Vec<RateCost>,
    pub seconds: f64,
    pub machine: Machine,
}

/// Runs the measurement, one rate after the other, each on a server of its own.
///
/// # Errors
/// If a server does not start or end, or does not take the load.
pub async fn run(bench: &RatesBench) -> Result<RatesReport, String> {
    let mut rates = Vec::with_capacity(bench.rates.len());
    for work in &bench.rates {
        rates.push(measure(bench, *work).await?);
    }
    Ok(RatesReport { rates, seconds: bench.duration.as_secs_f64(), machine: Machine::here() })
}

async fn measure(bench: &RatesBench, work: Work) -> Result<RateCost, String> {
    let load_average = process::load_average();
    let folder = tempfile::tempdir().map_err(|error| format!("make a temporary folder: {error}"))?;
    let more: &[&str] = if work == Work::Simulator { &[] } else { &["--no-simulators"] };
    let server = Target::start_program(&bench.program, folder.path(), more)?;
    let window = async {
        tokio::time::sleep(bench.settle).await;
        let (before, begun) = (server.threads(), Instant::now());
        tokio::time::sleep(bench.duration).await;
        (before, server.threads(), begun.elapsed())
    };
    let load = async {
        match work {
            Work::Idle | Work::Simulator => Ok(()),
            Work::Load(rate) => load(bench, &server, rate).await,
        }
    };
    let ((before, after, elapsed), loaded) = tokio::join!(window, load);
    loaded?;
    drop(server);
    Ok(cost(work, (&before, &after), elapsed, load_average))
}

/// What the threads did between two looks. Those that ended in between are not counted.
fn cost(work: Work, (before, after): (&[Thread], &[Thread]), elapsed: Duration, load_average: f64) -> RateCost {
    let seconds = elapsed.as_secs_f64();
    let mut threads: BTreeMap<&'static str, (f64, f64)> = BTreeMap::new();
    for thread in after {
        let earlier = before.iter().find(|earlier| earlier.id == thread.id);
        let cpu = thread.cpu.saturating_sub(earlier.map_or(Duration::ZERO, |earlier| earlier.cpu));
        let switches = thread.switches.saturating_sub(earlier.map_or(0, |earlier| earlier.switches));
        let sum = threads.entry(group(&thread.name)).or_default();
        sum.0 += cpu.as_secs_f64() / seconds * 100.0;
        sum.1 += switches as f64 / seconds;
    }
    let cpu_percent: f64 = threads.values().map(|(cpu, _)| cpu).sum();
    RateCost {
        work,
        cpu_percent,
        cpu_us_per_record: match work {
            Work::Idle | Work::Simulator => None,
            Work::Load(rate) => Some(cpu_percent * 1e4 / rate),
        },
        switches_per_s: threads.values().map(|(_, switches)| switches).sum(),
        threads,
        load_average,
    }
}

/// What a thread of this name does.
fn group(name: &str) -> &'static str {
    let groups = [
        ("rdk:", "Kafka clients"),
        ("acknowledgem", "Kafka clients"),
        ("producer pol", "Kafka clients"),
        ("platform/bro", "broker"),
        ("platform/", "registry"),
        ("pipelines/", "sources"),
        ("ops/", "watches"),
        ("tokio-rt-wor", "SQLite and files"),
        ("actix-", "lanes, sinks, HTTP"),
    ];
    groups.iter().find(|(start, _)| name.starts_with(start)).map_or("main and rest", |(_, group)| group)
}

/// Sends records from a thread of this process until the measurement is over.
async fn load(bench: &RatesBench, server: &Target, rate: f64) -> Result<(), String> {
    let settings = LoadSettings {
        topic: TOPIC.to_owned(),
        seed: bench.seed,
        keys: bench.keys,
        rate: Some(rate),
        duration: bench.settle + bench.duration + MARGIN,
        max_records: u64::MAX,
        first: 0,
        history: None,
    };
    let sent = load_in_thread(server.kafka.clone(), settings, Progress::default()).await?;
    let is_all = sent.acknowledged == sent.records;
    is_all.then_some(()).ok_or_else(|| format!("only {} of {} records were taken", sent.acknowledged, sent.records))
}

impl fmt::Display for RatesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} s each; CPU in percent of one core, context switches a second", self.seconds)?;
        for rate in &self.rates {
            let per_record = rate.cpu_us_per_record.map(|us| format!(", {us:.1} µs per record")).unwrap_or_default();
            writeln!(
                f,
                "{:<10} {:>6.2} %{per_record}, {:.0} switches/s; load average before {:.2}",
                rate.work.to_string(),
                rate.cpu_percent,
                rate.switches_per_s,
                rate.load_average
            )?;
            for (group, (cpu, switches)) in &rate.threads {
                writeln!(f, "    {group:<18} {cpu:>6.2} % {switches:>7.0}/s")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_word_or_a_number_above_zero() {
        let parsed = ["idle", "simulator", "2000", "0.5"].map(|text| text.parse());
        assert_eq!(parsed, [Ok(Work::Idle), Ok(Work::Simulator), Ok(Work::Load(2000.0)), Ok(Work::Load(0.5))]);
        for wrong in ["", "0", "-1", "inf", "NaN", "fast"] {
            assert!(wrong.parse::<Work>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_threads_have_done_between_two_looks_is_summed_by_what_they_do() {
        let thread = |id, name: &str, cpu_ms, switches| Thread {
            id,
            name: name.to_owned(),
            cpu: Duration::from_millis(cpu_ms),
            switches,
        };
        let before = [thread(1, "rdk:main", 500, 7), thread(2, "tokio-rt-worker", 90, 1)];
        let after = [
            thread(1, "rdk:main", 520, 17),
            thread(3, "rdk:broker1", 20, 30),
            thread(4, "tokio-rt-worker", 40, 2),
            thread(5, "streamward", 20, 0),
        ];
        let cost = cost(Work::Load(1000.0), (&before, &after), Duration::from_secs(2), 0.0);
        let groups = [("Kafka clients", (2.0, 20.0)), ("SQLite and files", (2.0, 1.0)), ("main and rest", (1.0, 0.0))];
        assert_eq!(cost.threads, BTreeMap::from(groups));
        assert_eq!((cost.cpu_percent, cost.switches_per_s, cost.cpu_us_per_record), (5.0, 21.0, Some(50.0)));
    }
}
