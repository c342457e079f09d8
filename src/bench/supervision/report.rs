//! The figures, as JSON and as a table.

use std::{collections::BTreeMap, fmt};

use hdrhistogram::Histogram;
use serde::Serialize;
use streamward_core::ports::FaultKind;

use super::{
    neighbours::Neighbours,
    nemesis::Healing,
    outages::{self, Outage},
};
use crate::bench::Machine;

/// The name of all roles together.
const ALL: &str = "all";
/// Part by which memory may differ late from early.
const FLAT: f64 = 0.1;

/// The report.
#[derive(Debug, Clone, Serialize)]
pub struct SupervisionReport {
    pub seed: u64,
    pub seconds: f64,
    /// Records per second while faults struck.
    pub rate: f64,
    pub records_acknowledged: u64,
    pub records_lost: u64,
    pub records_duplicated: u64,
    /// Steps back of a key in SQL, and of a partition's commits.
    pub records_reordered: u64,
    /// Outputs that a sink offered again after their commit, and that SQL recognised.
    pub commits_repeated: u64,
    pub poison_sent: u64,
    pub poison_missing: u64,
    pub dead_letters: u64,
    /// Dead letters that are neither poison nor a drill's, or poison twice.
    pub dead_letters_unexpected: u64,
    /// Of all actors, those of parents included.
    pub restarts: u64,
    pub faults: Faults,
    pub memory: Memory,
    pub neighbours: Option<Neighbours>,
    pub outages: Vec<Outage>,
    pub machine: Machine,
    pub load_average: f64,
}

impl SupervisionReport {
    /// Whether nothing was lost, repeated or reordered, all faults have healed, and all outages were named and are over.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        let wrong = [
            self.records_lost,
            self.records_duplicated,
            self.records_reordered,
            self.poison_missing,
            self.dead_letters_unexpected,
        ];
        wrong.iter().all(|count| *count == 0)
            && self.faults.healed == self.faults.injected
            && self.outages.iter().all(Outage::is_over)
    }
}

/// Quantiles in milliseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Millis {
    pub count: u64,
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

/// Quantiles in microseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Micros {
    pub count: u64,
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

impl Micros {
    pub fn of(times: &Histogram<u64>) -> Self {
        let at = |quantile| times.value_at_quantile(quantile);
        Self { count: times.len(), p50: at(0.5), p99: at(0.99), max: times.max() }
    }
}

impl Millis {
    fn of(times: impl Iterator<Item = u64>) -> Self {
        let mut times: Vec<u64> = times.collect();
        times.sort_unstable();
        let at = |quantile: f64| {
            let rank = (quantile * times.len() as f64).ceil() as usize;
            times.get(rank.saturating_sub(1)).copied().unwrap_or(0)
        };
        Self { count: times.len() as u64, p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

/// What became of the faults.
#[derive(Debug, Clone, Serialize)]
pub struct Faults {
    pub injected: u64,
    pub healed: u64,
    /// Reports on those that have not.
    pub not_healed: Vec<String>,
    /// From a panic or an error to the next record handled, by role; roles that handle none: until they run again.
    pub recovered_ms: BTreeMap<String, Millis>,
    /// From a panic of a sink, lane or source to the next record handled, with nothing else wrong, by role and over all.
    pub panic_to_next_record_ms: BTreeMap<String, Millis>,
    /// From a stall to its detection, beyond the limit.
    pub stall_detected_beyond_limit_ms: Millis,
    /// How many of each, by role and fault.
    pub by_role: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Faults {
    pub fn of(panics: &[Healing], healings: &[Healing]) -> Self {
        let mut by_role: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for healing in healings {
            let fault = serde_json::to_value(healing.fault).unwrap_or_default();
            let faults = by_role.entry(healing.role.clone()).or_default();
            *faults.entry(fault.as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        let all = || panics.iter().chain(healings);
        let recovered = |role: &str, faults: &[FaultKind]| {
            let of_role = healings.iter().filter(|healing| healing.role == role && faults.contains(&healing.fault));
            of_role.filter_map(|healing| healing.recovered_after_ms).collect::<Vec<_>>()
        };
        let crashes = |role: &String| Millis::of(recovered(role, &[FaultKind::Panic, FaultKind::Error]).into_iter());
        let recovered_ms = by_role.keys().map(|role| (role.clone(), crashes(role))).collect();
        let stalls = healings.iter().filter(|healing| healing.fault == FaultKind::Stall).filter_map(|healing| {
            let limit = u64::try_from(healing.stuck_after?.as_millis()).unwrap_or(u64::MAX);
            Some(healing.detected_after_ms?.saturating_sub(limit))
        });
        Self {
            injected: (panics.len() + healings.len()) as u64,
            healed: all().filter(|healing| healing.healed).count() as u64,
            not_healed: all().filter_map(|healing| healing.complaint.clone()).collect(),
            recovered_ms,
            panic_to_next_record_ms: one_by_one(panics),
            stall_detected_beyond_limit_ms: Millis::of(stalls),
            by_role,
        }
    }
}

fn one_by_one(panics: &[Healing]) -> BTreeMap<String, Millis> {
    let mut times: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for panic in panics {
        for name in [&*panic.role, ALL] {
            times.entry(name.to_owned()).or_default().extend(panic.recovered_after_ms);
        }
    }
    times.into_iter().map(|(name, times)| (name, Millis::of(times.into_iter()))).collect()
}

/// Resident memory while faults struck, after a time of settling.
#[derive(Debug, Clone, Serialize)]
pub struct Memory {
    pub least_mb: f64,
    pub most_mb: f64,
    /// Median of the first third of the samples.
    pub early_mb: f64,
    /// Median of the last third.
    pub late_mb: f64,
    /// Whether the late median is within 10 % of the early one.
    pub is_flat: bool,
}

impl Memory {
    pub fn of(samples: &[u64], settling: f64) -> Self {
        let settled = samples.get((samples.len() as f64 * settling) as usize..).unwrap_or_default();
        let mb = |bytes: Option<u64>| bytes.map_or(0.0, |bytes| bytes as f64 / 1e6);
        let median = |part: &[u64]| {
            let mut part = part.to_vec();
            part.sort_unstable();
            mb(part.get(part.len() / 2).copied())
        };
        let third = settled.len() / 3;
        let (early_mb, late_mb) = (median(&settled[..third]), median(&settled[settled.len() - third..]));
        Self {
            least_mb: mb(settled.iter().min().copied()),
            most_mb: mb(settled.iter().max().copied()),
            early_mb,
            late_mb,
            is_flat: (late_mb / early_mb - 1.0).abs() <= FLAT,
        }
    }
}

impl fmt::Display for SupervisionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = &self.faults;
        writeln!(
            f,
            "{} faults in {:.0} s at {:.0} records/s, seed {}: {} healed, {} restarts",
            faults.injected, self.seconds, self.rate, self.seed, faults.healed, self.restarts
        )?;
        writeln!(
            f,
            "{} records acknowledged: {} lost, {} duplicated, {} reordered; {} commits offered again",
            self.records_acknowledged,
            self.records_lost,
            self.records_duplicated,
            self.records_reordered,
            self.commits_repeated
        )?;
        writeln!(
            f,
            "{} poisonous records: {} missing among {} dead letters, {} unexpected",
            self.poison_sent, self.poison_missing, self.dead_letters, self.dead_letters_unexpected
        )?;
        let memory = &self.memory;
        writeln!(
            f,
            "memory: median {:.0} MB early, {:.0} MB late; {:.0} to {:.0} MB",
            memory.early_mb, memory.late_mb, memory.least_mb, memory.most_mb
        )?;
        writeln!(
            f,
            "\n{:<12} {:>6} {:>6} {:>6} {:>6} ms from a panic or error to recovery; faults",
            "role", "", "p50", "p99", "max"
        )?;
        for (role, times) in &faults.recovered_ms {
            let kinds: Vec<String> =
                faults.by_role[role].iter().map(|(fault, count)| format!("{fault} {count}")).collect();
            let Millis { count, p50, p99, max } = times;
            writeln!(f, "{role:<12} {count:>6} {p50:>6} {p99:>6} {max:>6} {}", kinds.join(", "))?;
        }
        for (role, Millis { count, p50, p99, max }) in &faults.panic_to_next_record_ms {
            writeln!(f, "{count} panics one by one, {role}: next record after p50 {p50} p99 {p99} max {max} ms")?;
        }
        let stalls = &faults.stall_detected_beyond_limit_ms;
        writeln!(
            f,
            "{} stalls detected after their limit + p50 {} p99 {} max {} ms",
            stalls.count, stalls.p50, stalls.p99, stalls.max
        )?;
        if let Some(neighbours) = &self.neighbours {
            writeln!(f, "{neighbours}")?;
        }
        if !self.outages.is_empty() {
            writeln!(f, "\n{}", outages::HEADING)?;
        }
        for outage in &self.outages {
            writeln!(f, "{outage}")?;
        }
        for report in &faults.not_healed {
            writeln!(f, "not healed: {report}")?;
        }
        write!(f, "load average before {:.2}", self.load_average)
    }
}
