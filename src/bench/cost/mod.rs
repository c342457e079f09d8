//! `streamward bench cost`, without rates (those are in [`super::rates`]): what supervision costs, the same stages called one after the other and as supervised actors.
//!
//! Both ways take the same records from a log in memory, one per poll as from a client, put them into batches of the
//! pipeline's size, decode them, run the built-in steps of the pipeline `sensors`, and commit each output to the same
//! kind of store: SQLite as the server uses it, or one that only counts, where the rest of the work is nearest to nothing.
//! Reported is the CPU time of the whole process, so waiting does not count and helping threads do.

mod log;
mod store;
mod ways;

use std::{fmt, sync::Arc, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use self::{log::MemoryLog, ways::Stages};
use super::Machine;
use crate::{
    config::Sources,
    plan::{self, Plan},
    process,
};

/// Where outputs go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    Sqlite,
    Counting,
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct CostBench {
    pub store: StoreKind,
    /// Records of a round, in whole batches.
    pub records: usize,
    /// Records of a batch.
    pub batch: usize,
    /// Rounds of each way, which take turns; one more of each warms up.
    pub rounds: usize,
    pub keys: u32,
    pub seed: u64,
}

/// The report.
#[derive(Debug, Clone, Serialize)]
pub struct CostReport {
    pub store: StoreKind,
    pub records: usize,
    pub batch: usize,
    pub rounds: usize,
    /// CPU time per record in microseconds, medians.
    pub direct_us: f64,
    pub actors_us: f64,
    /// Median of the rounds' ratios, actors to direct.
    pub ratio: f64,
    pub machine: Machine,
    pub load_average: f64,
}

/// Runs the measurement.
///
/// # Errors
/// If a stage fails, or the two ways did not do the same.
pub async fn run(bench: &CostBench) -> Result<CostReport, String> {
    let load_average = process::load_average();
    let (_, plan) = plan::load(&Sources::default()).map_err(|faults| faults.to_string())?;
    let log = Arc::new(MemoryLog::new(bench.seed, bench.keys, bench.records - bench.records % bench.batch));
    let (mut direct, mut actors) = (Vec::new(), Vec::new());
    for round in 0..=bench.rounds {
        // The first of a pair takes turns as well: a machine that gets faster or slower favours neither way.
        let actors_first = round % 2 == 0;
        for as_actors in [actors_first, !actors_first] {
            let cost = measured(&plan, bench, &log, as_actors).await?;
            if round > 0 {
                if as_actors { &mut actors } else { &mut direct }.push(cost);
            }
        }
    }
    let ratios = direct.iter().zip(&actors).map(|(direct, actors)| actors / direct).collect();
    Ok(CostReport {
        store: bench.store,
        records: log.len(),
        batch: bench.batch,
        rounds: bench.rounds,
        direct_us: median(direct),
        actors_us: median(actors),
        ratio: median(ratios),
        machine: Machine::here(),
        load_average,
    })
}

/// CPU microseconds per record of one round.
async fn measured(plan: &Plan, bench: &CostBench, log: &Arc<MemoryLog>, as_actors: bool) -> Result<f64, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("make a temporary folder: {error}"))?;
    let store = store::open(bench.store, &folder.path().join("cost.db"), plan).await?;
    let stages = Stages::new(plan, store, log.clone(), bench.batch).await?;
    let begun = cpu_time();
    if as_actors {
        stages.as_actors().await?
    } else {
        stages.directly().await?
    }
    Ok((cpu_time() - begun).as_secs_f64() * 1e6 / log.len() as f64)
}

/// CPU time of all threads of this process.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl fmt::Display for CostReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} rounds of {} records in batches of {}, {:?}: called directly {:.3} µs of CPU per record, as actors {:.3}, \
             ratio {:.3}; load average before {:.2}",
            self.rounds,
            self.records,
            self.batch,
            self.store,
            self.direct_us,
            self.actors_us,
            self.ratio,
            self.load_average
        )
    }
}
