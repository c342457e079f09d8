//! Recounts the log against the database: every offset is stored, dead, filtered, or in a declared gap, exactly once.
//!
//! Per partition over [max(log start, retention floor), position). A topic that was made anew is another log: the rows of
//! its earlier logs have nothing left to be compared with, and are told apart. It cannot see what the broker itself lost, and it does
//! not judge records again: what was filtered is taken from the ranges stored with the position.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::Path,
    time::Duration,
};

use serde::Serialize;
use streamward_broker::Damage;

use crate::adapters::{
    kafka::{
        KafkaSettings,
        admin::{LogInspector, compacted_topics},
    },
    sql::audit::{Audit, StoredPosition},
};

/// Offsets compared at a time: bounds the memory.
const CHUNK: i64 = 200_000;
/// Offsets named one by one in a report.
const MAX_NAMED: usize = 20;
const TIMEOUT: Duration = Duration::from_secs(10);

/// The result of a recount.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// No partition differs.
    pub ok: bool,
    pub records: u64,
    pub stored: u64,
    pub dead: u64,
    pub filtered: u64,
    /// Accounted for, and compacted away since.
    pub compacted: u64,
    /// Records behind the stored position: not yet processed.
    pub pending: u64,
    pub partitions: Vec<PartitionReport>,
    /// Logs that are gone: the topic was deleted, made anew, or is read from another cluster now.
    pub earlier_logs: Vec<EarlierLog>,
}

/// What the database holds of a log that is gone.
#[derive(Debug, Serialize)]
pub struct EarlierLog {
    pub sink: String,
    pub topic: String,
    pub partition: i32,
    /// Its number among the logs of the topic.
    pub log: i64,
    /// Records that were stored, dead or filtered, retention apart.
    pub accounted: i64,
}

/// One partition's recount.
#[derive(Debug, Default, Serialize)]
pub struct PartitionReport {
    pub sink: String,
    pub topic: String,
    pub partition: i32,
    /// Offsets compared: from, up to.
    pub from: i64,
    pub to: i64,
    pub records: u64,
    pub stored: u64,
    pub dead: u64,
    pub filtered: u64,
    pub in_gaps: u64,
    /// Offsets that the broker declared lost to damage of its files; what is stored of them is stored.
    pub damaged: u64,
    /// Accounted for, and no longer in the log: a newer record of their key has replaced them, as the topic wants it.
    pub compacted: u64,
    pub pending: u64,
    /// In the log, nowhere in the database.
    pub missing: Difference,
    /// In more than one place.
    pub twice: Difference,
    /// In the database, not in the log.
    pub unknown: Difference,
}

/// Offsets that differ.
#[derive(Debug, Default, Serialize)]
pub struct Difference {
    pub count: u64,
    /// The first few.
    pub offsets: Vec<i64>,
}

impl Difference {
    fn add(&mut self, offset: i64) {
        self.count += 1;
        if self.offsets.len() < MAX_NAMED {
            self.offsets.push(offset);
        }
    }
}

impl PartitionReport {
    fn differs(&self) -> bool {
        self.missing.count + self.twice.count + self.unknown.count > 0
    }
}

/// Recounts every partition that has a position.
///
/// `sinks` has the topic and the table of each sink; `damage` is what the embedded broker lost.
///
/// # Errors
/// If the database or the cluster does not answer.
pub async fn verify(
    database: &Path,
    kafka: &KafkaSettings,
    sinks: &BTreeMap<String, SinkPlace>,
    damage: &[Damage],
) -> Result<Report, String> {
    let mut audit = Audit::open(database).await.map_err(|error| format!("open {}: {error}", database.display()))?;
    let inspector = LogInspector::connect(kafka).map_err(|error| error.to_string())?;
    let mut report = Report { ok: true, ..Report::default() };
    let numbers = log_numbers(&mut audit, &inspector, sinks).await?;
    let mut known = BTreeSet::new();
    let topics: Vec<&str> = numbers.keys().map(String::as_str).collect();
    let compacted = compacted_topics(kafka, &topics).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "the settings of the topics are not known: none counts as compacted");
        BTreeSet::new()
    });
    for position in audit.positions().await.map_err(|error| error.to_string())? {
        let Some(place) = sinks.get(&position.sink) else { continue };
        if numbers.get(&position.topic) != Some(&Some(position.log)) {
            report.earlier_logs.push(EarlierLog {
                sink: position.sink,
                topic: position.topic,
                partition: position.partition,
                log: position.log,
                accounted: position.accounted,
            });
            continue;
        }
        known.insert((position.sink.clone(), position.topic.clone(), position.partition));
        let log = Log { inspector: &inspector, damage, is_compacted: compacted.contains(&position.topic) };
        report.add(partition(&mut audit, &log, &position, &place.table).await?);
    }
    for (sink, place) in sinks.iter().filter(|(_, place)| numbers.contains_key(&place.topic)) {
        let unread = |partition: &i32| !known.contains(&(sink.clone(), place.topic.clone(), *partition));
        let partitions = inspector.partitions(&place.topic, TIMEOUT).map_err(|error| error.to_string())?;
        for partition in (0..i32::try_from(partitions).unwrap_or(i32::MAX)).filter(unread) {
            report.add(unread_partition(&inspector, (sink, &place.topic), partition)?);
        }
    }
    Ok(report)
}

/// Where a sink's records come from and go to.
#[derive(Debug, Clone)]
pub struct SinkPlace {
    pub topic: String,
    pub table: String,
}

/// The number of the log that each topic is now, none where it was never read; topics that are missing are left out.
async fn log_numbers(
    audit: &mut Audit,
    inspector: &LogInspector,
    sinks: &BTreeMap<String, SinkPlace>,
) -> Result<BTreeMap<String, Option<i64>>, String> {
    let topics: BTreeSet<&str> = sinks.values().map(|place| place.topic.as_str()).collect();
    let topics: Vec<&str> = topics.into_iter().collect();
    let logs = inspector.logs(&topics, TIMEOUT).map_err(|error| format!("read the ids of the topics: {error}"))?;
    let mut numbers = BTreeMap::new();
    for (topic, log) in topics.into_iter().zip(logs) {
        let Some(log) = log else { continue };
        let number = audit.log_number(topic, &log).await.map_err(|error| error.to_string())?;
        numbers.insert(topic.to_owned(), number);
    }
    Ok(numbers)
}

/// A partition of which nothing was read yet: all that it holds is pending.
fn unread_partition(
    inspector: &LogInspector,
    (sink, topic): (&str, &str),
    partition: i32,
) -> Result<PartitionReport, String> {
    let bounds = inspector.bounds(topic, partition, TIMEOUT);
    let (low, high) = bounds.map_err(|error| format!("read the bounds of {topic} partition {partition}: {error}"))?;
    Ok(PartitionReport {
        sink: sink.to_owned(),
        topic: topic.to_owned(),
        partition,
        from: low,
        to: low,
        pending: u64::try_from(high - low).unwrap_or(0),
        ..PartitionReport::default()
    })
}

impl Report {
    fn add(&mut self, partition: PartitionReport) {
        self.ok &= !partition.differs();
        self.records += partition.records;
        self.stored += partition.stored;
        self.dead += partition.dead;
        self.filtered += partition.filtered;
        self.compacted += partition.compacted;
        self.pending += partition.pending;
        self.partitions.push(partition);
    }
}

/// The log of a partition, and why records may be missing there.
struct Log<'a> {
    inspector: &'a LogInspector,
    damage: &'a [Damage],
    is_compacted: bool,
}

async fn partition(
    audit: &mut Audit,
    log: &Log<'_>,
    position: &StoredPosition,
    table: &str,
) -> Result<PartitionReport, String> {
    let name = format!("{} partition {}", position.topic, position.partition);
    let bounds = log.inspector.bounds(&position.topic, position.partition, TIMEOUT);
    let (low, high) = bounds.map_err(|error| format!("read the bounds of {name}: {error}"))?;
    let from = low.max(position.retained_from).max(position.first_offset);
    let to = position.next_offset;
    let mut report = PartitionReport {
        sink: position.sink.clone(),
        topic: position.topic.clone(),
        partition: position.partition,
        from,
        to,
        pending: u64::try_from(high - to).unwrap_or(0),
        ..PartitionReport::default()
    };
    let mut start = from;
    while start < to {
        let range = start..(start + CHUNK).min(to);
        let mut offsets = Vec::new();
        log.inspector
            .scan(&position.topic, position.partition, range.clone(), &mut |offset| offsets.push(offset))
            .map_err(|error| format!("read {name}: {error}"))?;
        let fates = fates(audit, log, (position, table), range.clone()).await.map_err(|error| error.to_string())?;
        compare(&offsets, &fates, range.clone(), &mut report);
        start = range.end;
    }
    Ok(report)
}

/// What the database says of a range of offsets, and why the log may lack some of them.
#[derive(Default)]
struct Fates {
    stored: Vec<i64>,
    dead: Vec<i64>,
    filtered: Vec<Range<i64>>,
    gaps: Vec<Range<i64>>,
    /// Lost by the broker, and declared.
    damaged: Vec<Range<i64>>,
    /// Whether records leave the log once newer ones of their key are there.
    is_compacted: bool,
}

async fn fates(
    audit: &mut Audit,
    log: &Log<'_>,
    (position, table): (&StoredPosition, &str),
    range: Range<i64>,
) -> Result<Fates, streamward_pipeline::store::StoreError> {
    let here = log.damage.iter().filter(|lost| lost.topic == position.topic && lost.partition == position.partition);
    Ok(Fates {
        stored: audit.stored(table, position, range.clone()).await?,
        dead: audit.dead(position, range.clone()).await?,
        filtered: audit.ranges(position, "filtered", range.clone()).await?,
        gaps: audit.ranges(position, "gap", range).await?,
        damaged: here.map(|lost| lost.first_offset..lost.last_offset + 1).collect(),
        is_compacted: log.is_compacted,
    })
}

/// Compares the offsets of the log with their fates, all within `range`.
fn compare(log: &[i64], fates: &Fates, range: Range<i64>, report: &mut PartitionReport) {
    let place = |offset: i64| usize::try_from(offset - range.start).unwrap_or(usize::MAX);
    let mut times = vec![0_u8; place(range.end)];
    let within = |each: &Range<i64>| each.start.max(range.start)..each.end.min(range.end);
    report.stored += fates.stored.len() as u64;
    report.dead += fates.dead.len() as u64;
    for &offset in fates.stored.iter().chain(&fates.dead) {
        times[place(offset)] = times[place(offset)].saturating_add(1);
    }
    let (mut in_log, mut excused) = (vec![false; times.len()], vec![false; times.len()]);
    let mut damaged = vec![false; times.len()];
    for offset in fates.damaged.iter().flat_map(within) {
        damaged[place(offset)] = true;
    }
    for offset in log {
        in_log[place(*offset)] = true;
    }
    for offset in fates.filtered.iter().flat_map(within) {
        // A filtered range may span holes of the log.
        if in_log[place(offset)] {
            times[place(offset)] = times[place(offset)].saturating_add(1);
            report.filtered += 1;
        }
    }
    for offset in fates.gaps.iter().flat_map(within) {
        excused[place(offset)] = true;
    }
    report.records += log.len() as u64;
    for offset in range.clone() {
        if damaged[place(offset)] && !in_log[place(offset)] {
            report.damaged += 1;
            if times[place(offset)] > 1 {
                report.twice.add(offset);
            }
            continue;
        }
        match (in_log[place(offset)], times[place(offset)], excused[place(offset)]) {
            (true, 0, true) => report.in_gaps += 1,
            (true, 0, false) => report.missing.add(offset),
            (false, 1, _) if fates.is_compacted => report.compacted += 1,
            (false, 1.., _) => report.unknown.add(offset),
            (_, 2.., _) => report.twice.add(offset),
            (true, 1, _) | (false, 0, _) => {}
        }
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one range of offsets is meant")]
mod tests {
    use super::*;

    fn check(log: &[i64], fates: &Fates, expect: (u64, u64, u64)) {
        let mut report = PartitionReport::default();
        compare(log, fates, 10..20, &mut report);
        assert_eq!((report.missing.count, report.twice.count, report.unknown.count), expect, "{report:?}");
    }

    #[test]
    fn an_exact_database_shows_no_difference() {
        let fates = Fates { stored: vec![10, 12], dead: vec![13], filtered: vec![14..16], ..Fates::default() };
        check(&[10, 12, 13, 14, 15], &fates, (0, 0, 0));
    }

    #[test]
    fn a_lost_record_is_missing() {
        check(&[10, 11], &Fates { stored: vec![10], ..Fates::default() }, (1, 0, 0));
    }

    #[test]
    fn a_record_both_stored_and_dead_counts_twice() {
        check(&[10], &Fates { stored: vec![10], dead: vec![10], ..Fates::default() }, (0, 1, 0));
    }

    #[test]
    fn a_row_without_a_record_is_unknown() {
        check(&[10], &Fates { stored: vec![10, 19], ..Fates::default() }, (0, 0, 1));
    }

    #[test]
    fn a_row_whose_record_was_compacted_away_is_no_difference_and_one_that_is_there_twice_is() {
        let fates = Fates { stored: vec![10, 11], dead: vec![11, 12], is_compacted: true, ..Fates::default() };
        check(&[12, 13], &fates, (1, 0, 1));
        let mut report = PartitionReport::default();
        compare(&[12, 13], &fates, 10..20, &mut report);
        assert_eq!(report.compacted, 1);
    }

    #[test]
    fn what_the_broker_declared_lost_is_neither_missing_nor_unknown() {
        let fates = Fates { stored: vec![10, 12, 13], damaged: vec![11..14], ..Fates::default() };
        check(&[10], &fates, (0, 0, 0));
        let twice = Fates { stored: vec![10, 12], dead: vec![12], damaged: vec![11..14], ..Fates::default() };
        check(&[10], &twice, (0, 1, 0));
        let mut report = PartitionReport::default();
        compare(&[10], &fates, 10..20, &mut report);
        assert_eq!(report.damaged, 3);
    }

    #[test]
    fn a_declared_gap_excuses_what_was_not_stored() {
        check(&[10, 11], &Fates { stored: vec![11], gaps: vec![10..11], ..Fates::default() }, (0, 0, 0));
    }
}
