//! `streamward bench broker`: the embedded broker, alone and beside another one, with the same clients in the same run.
//!
//! Each broker is a process of its own, so that its CPU time and memory are its own; the clients are librdkafka in this
//! process. Cases take turns between the brokers, several rounds each, and the median counts. Start at [`run`].

mod cases;
mod raw;
mod target;

use std::{fmt, time::Duration};

use serde::Serialize;

use self::cases::{Case, Figures};
pub use self::target::Target;
use super::Machine;
use crate::process;

/// What to measure.
#[derive(Debug, Clone)]
pub struct BrokerBench {
    /// Length of one measurement.
    pub duration: Duration,
    /// Measurements of each case; the median counts.
    pub rounds: usize,
    /// Load before the first measurement, on each broker.
    pub warm_up: Duration,
    /// Bytes of a record's value.
    pub value_bytes: usize,
    /// Text that the names of measured cases contain.
    pub case: String,
}

/// The report.
#[derive(Debug, Clone, Serialize)]
pub struct BrokerReport {
    pub cases: Vec<CaseReport>,
    /// Resident memory of each broker at the end, in MB.
    pub rss_mb: Vec<Named>,
    pub value_bytes: usize,
    pub seconds: u64,
    pub rounds: usize,
    pub machine: Machine,
    pub load_average: f64,
}

/// A case with the figures of each broker.
#[derive(Debug, Clone, Serialize)]
pub struct CaseReport {
    pub case: &'static str,
    pub clients: usize,
    pub brokers: Vec<BrokerFigures>,
}

/// Figures of one broker.
#[derive(Debug, Clone, Serialize)]
pub struct BrokerFigures {
    pub broker: String,
    #[serde(flatten)]
    pub figures: Figures,
}

/// A figure of one broker.
#[derive(Debug, Clone, Serialize)]
pub struct Named {
    pub broker: String,
    pub value: f64,
}

/// Measures every case on every broker.
///
/// # Errors
/// If no case has such a name, or a broker does not take the load.
pub async fn run(targets: &[Target], bench: &BrokerBench) -> Result<BrokerReport, String> {
    let chosen = Case::ALL.into_iter().filter(|(case, _)| case.name().contains(&bench.case));
    let chosen: Vec<(Case, usize)> = chosen.collect();
    if chosen.is_empty() {
        let names: Vec<&str> = Case::ALL.iter().map(|(case, _)| case.name()).collect();
        return Err(format!("no case has {:?} in its name; they are: {}", bench.case, names.join("; ")));
    }
    let load_average = process::load_average();
    for target in targets {
        cases::prepare(target, bench).await?;
    }
    let mut reports = Vec::new();
    for (case, clients) in chosen {
        let mut measured: Vec<Vec<Figures>> = vec![Vec::new(); targets.len()];
        for _ in 0..bench.rounds {
            for (target, figures) in targets.iter().zip(&mut measured) {
                figures.push(cases::measure(target, bench, (case, clients)).await?);
            }
        }
        for target in targets {
            cases::clean_up(target, (case, clients)).await?;
        }
        let brokers = targets
            .iter()
            .zip(measured)
            .map(|(target, figures)| BrokerFigures { broker: target.name.clone(), figures: cases::median(figures) });
        reports.push(CaseReport { case: case.name(), clients, brokers: brokers.collect() });
    }
    for target in targets {
        cases::end(target).await?;
    }
    let rss = |target: &Target| target.resident_mb().map(|value| Named { broker: target.name.clone(), value });
    Ok(BrokerReport {
        cases: reports,
        rss_mb: targets.iter().filter_map(rss).collect(),
        value_bytes: bench.value_bytes,
        seconds: bench.duration.as_secs(),
        rounds: bench.rounds,
        machine: Machine::here(),
        load_average,
    })
}

impl fmt::Display for BrokerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<42} {:>7} {:<15} {:>10} {:>8} {:>8} {:>8} {:>8}",
            "case", "clients", "broker", "records/s", "CPU µs", "p50 ms", "p99 ms", "max ms"
        )?;
        for case in &self.cases {
            for BrokerFigures { broker, figures } in &case.brokers {
                write!(
                    f,
                    "{:<42} {:>7} {:<15} {:>10.0} {:>8}",
                    case.case,
                    case.clients,
                    broker,
                    figures.records_per_s,
                    or_dash(figures.broker_cpu_us_per_record, 2)
                )?;
                for value in [figures.p50_ms, figures.p99_ms, figures.max_ms] {
                    write!(f, " {:>8}", or_dash(value, 1))?;
                }
                writeln!(f)?;
            }
        }
        for Named { broker, value } in &self.rss_mb {
            writeln!(f, "memory of {broker}: {value:.0} MB")?;
        }
        write!(f, "load average before {:.2}", self.load_average)
    }
}

fn or_dash(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}
