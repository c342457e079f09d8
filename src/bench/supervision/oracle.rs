//! What must hold at the end: nothing lost, nothing twice, each key in order, dead letters exactly the poison.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use streamward_pipeline::{sink::CommitObserver, store::Pending};

use super::trickle::Sent;
use crate::adapters::database::DatabaseSettings;

/// Watches commits: the outputs of a partition must follow each other without a step back.
#[derive(Default)]
pub struct OrderWatch {
    /// Position after the last output, by topic and partition.
    ends: Mutex<BTreeMap<(Arc<str>, i32), i64>>,
    /// Outputs with a record below the position.
    pub violations: AtomicU64,
    /// Outputs that came again after their commit: the sink had died before it could say so.
    pub repeated: AtomicU64,
}

impl CommitObserver for OrderWatch {
    fn committed(&self, pending: &[Arc<Pending>]) {
        let mut ends = self.ends.lock();
        for pending in pending {
            let output = &pending.output;
            let end = ends.entry((output.topic.clone(), output.partition)).or_insert(output.start);
            if output.end <= *end && output.end > output.start {
                self.repeated.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            if output.start != *end {
                self.violations.fetch_add(1, Ordering::Relaxed);
            }
            *end = output.end;
        }
    }
}

/// What the database says.
#[derive(Debug)]
pub struct Verdict {
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub dead_letters: u64,
    pub poison_missing: u64,
    pub poison_repeated: u64,
}

/// Compares the database with what was acknowledged.
///
/// # Errors
/// If it cannot be read.
pub async fn judge(
    database: &DatabaseSettings,
    since_ms: i64,
    acknowledged: u64,
    trickle: &Sent,
) -> Result<Verdict, String> {
    let mut audit = database.audit().await.map_err(|error| error.to_string())?;
    let fault = |error: streamward_pipeline::store::StoreError| error.to_string();
    let (stored, distinct) = audit.count_distinct("sensor_readings", "location", since_ms).await.map_err(fault)?;
    let reordered = audit.steps_back("sensor_readings", "sensor_id", "location", since_ms).await.map_err(fault)?;
    let (series, distinct_series) = audit.count_distinct("series_readings", "id", since_ms).await.map_err(fault)?;
    let dead = audit.dead_values("sensor-readings").await.map_err(fault)?;
    let mut counts: BTreeMap<&[u8], u64> = BTreeMap::new();
    for value in dead.iter().flatten() {
        *counts.entry(value).or_default() += 1;
    }
    let poison: Vec<Vec<u8>> = trickle.poison_values().collect();
    let times = |value: &Vec<u8>| counts.get(value.as_slice()).copied().unwrap_or(0);
    Ok(Verdict {
        lost: acknowledged.saturating_sub(distinct) + trickle.series().saturating_sub(distinct_series),
        duplicated: stored.saturating_sub(distinct) + series.saturating_sub(trickle.series()),
        reordered,
        dead_letters: dead.len() as u64,
        poison_missing: poison.iter().filter(|value| times(value) == 0).count() as u64,
        poison_repeated: poison.iter().map(|value| times(value).saturating_sub(1)).sum(),
    })
}
