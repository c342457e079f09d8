//! Recounts the log against the database: every offset is stored, dead, filtered, or in a declared gap, exactly once.
//!
//! Per partition over [max(log start, retention floor), position). A topic that was made anew is another log: the rows of
//! its earlier logs have nothing left to be compared with, and are told apart. It cannot see what the broker itself lost, and it does
//! not judge records again: what was filtered is taken from the ranges stored with the position.

mod compare;
mod report;
mod still;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::Path,
    time::Duration,
};

use streamward_broker::Damage;
use streamward_pipeline::store::{Audit, RangeKind, StoredPosition};

use self::compare::{Fates, compare};
pub use self::report::{Difference, EarlierLog, PartitionReport, Report};
use crate::adapters::{
    database::DatabaseSettings,
    kafka::{
        KafkaSettings,
        admin::{LogInspector, compacted_topics},
    },
};

/// Offsets compared at a time: bounds the memory.
const CHUNK: i64 = 200_000;
/// Records that are not processed yet are counted one by one up to so many offsets; beyond, each offset counts.
const MAX_COUNTED: i64 = CHUNK;
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is recounted.
#[derive(Debug)]
pub struct Subject<'a> {
    pub database: &'a DatabaseSettings,
    pub data_dir: &'a Path,
    pub kafka: &'a KafkaSettings,
    /// Each sink's topic and table.
    pub sinks: &'a BTreeMap<String, SinkPlace>,
    /// What the embedded broker lost.
    pub damage: &'a [Damage],
}

/// Where a sink's records come from and go to.
#[derive(Debug, Clone)]
pub struct SinkPlace {
    pub topic: String,
    pub table: String,
    /// Whether the pipeline goes on behind offsets that the log no longer holds.
    pub skips_gaps: bool,
}

/// Why a recount did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The cluster does not answer, or does not give out its log.
    #[error("{0}")]
    Log(String),
    /// The database cannot be read.
    #[error("{0}")]
    Database(String),
}

impl VerifyError {
    fn log(error: impl std::fmt::Display) -> Self {
        Self::Log(error.to_string())
    }

    fn database(error: impl std::fmt::Display) -> Self {
        Self::Database(error.to_string())
    }
}

/// Recounts every partition that has a position, and looks at whether those that have something to do move.
///
/// # Errors
/// If the database or the cluster does not answer.
pub async fn verify(subject: &Subject<'_>) -> Result<Report, VerifyError> {
    let opened = subject.database.audit().await;
    let place = subject.database.place();
    let mut audit = opened.map_err(|error| VerifyError::Database(format!("open the database {place}: {error}")))?;
    let mut report = match recount(subject, &mut *audit).await {
        Ok(report) => report,
        Err(VerifyError::Database(error)) => return Err(VerifyError::Database(audit.with_damage(error).await)),
        Err(VerifyError::Log(error)) => return Err(VerifyError::Log(error)),
    };
    still::look(subject, &mut *audit, &mut report).await?;
    Ok(report)
}

async fn recount(subject: &Subject<'_>, audit: &mut dyn Audit) -> Result<Report, VerifyError> {
    let Subject { kafka, sinks, .. } = *subject;
    let inspector = LogInspector::connect(kafka).map_err(VerifyError::log)?;
    let mut report = Report { ok: true, ..Report::default() };
    let numbers = log_numbers(audit, &inspector, sinks).await?;
    for (sink, place) in sinks.iter().filter(|(_, place)| !numbers.contains_key(&place.topic)) {
        report.stands_still(still::topic_gone(sink, place));
    }
    let mut known = BTreeSet::new();
    let topics: Vec<&str> = numbers.keys().map(String::as_str).collect();
    let compacted = compacted_topics(kafka, &topics).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "the settings of the topics are not known: none counts as compacted");
        BTreeSet::new()
    });
    for position in audit.positions().await.map_err(VerifyError::database)? {
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
        let is_compacted = compacted.contains(&position.topic);
        let log = Log { inspector: &inspector, damage: subject.damage, is_compacted };
        partition(audit, &log, (&position, place), &mut report).await?;
    }
    for (sink, place) in sinks.iter().filter(|(_, place)| numbers.contains_key(&place.topic)) {
        let unread = |partition: &i32| !known.contains(&(sink.clone(), place.topic.clone(), *partition));
        let partitions = inspector.partitions(&place.topic, TIMEOUT).map_err(VerifyError::log)?;
        for partition in (0..i32::try_from(partitions).unwrap_or(i32::MAX)).filter(unread) {
            report.add(unread_partition(&inspector, (sink, &place.topic), partition)?);
        }
    }
    Ok(report)
}

/// The number of the log that each topic is now, none where it was never read; topics that are missing are left out.
async fn log_numbers(
    audit: &mut dyn Audit,
    inspector: &LogInspector,
    sinks: &BTreeMap<String, SinkPlace>,
) -> Result<BTreeMap<String, Option<i64>>, VerifyError> {
    let topics: BTreeSet<&str> = sinks.values().map(|place| place.topic.as_str()).collect();
    let topics: Vec<&str> = topics.into_iter().collect();
    let logs = inspector
        .logs(&topics, TIMEOUT)
        .map_err(|error| VerifyError::Log(format!("read the ids of the topics: {error}")))?;
    let mut numbers = BTreeMap::new();
    for (topic, log) in topics.into_iter().zip(logs) {
        let Some(log) = log else { continue };
        let number = audit.log_number(topic, &log).await.map_err(VerifyError::database)?;
        numbers.insert(topic.to_owned(), number);
    }
    Ok(numbers)
}

/// A partition of which nothing was read yet: all that it holds is pending.
fn unread_partition(
    inspector: &LogInspector,
    (sink, topic): (&str, &str),
    partition: i32,
) -> Result<PartitionReport, VerifyError> {
    let bounds = inspector.bounds(topic, partition, TIMEOUT);
    let (low, high) = bounds
        .map_err(|error| VerifyError::Log(format!("read the bounds of {topic} partition {partition}: {error}")))?;
    Ok(PartitionReport {
        sink: sink.to_owned(),
        topic: topic.to_owned(),
        partition,
        from: low,
        to: low,
        pending: pending(inspector, (topic, partition), low..high)?,
        ..PartitionReport::default()
    })
}

/// Records in a range at the end of a log: some of its offsets may hold none (control records, aborted ones).
fn pending(inspector: &LogInspector, (topic, partition): (&str, i32), range: Range<i64>) -> Result<u64, VerifyError> {
    let offsets = range.end.saturating_sub(range.start);
    if offsets > MAX_COUNTED {
        return Ok(u64::try_from(offsets).unwrap_or(0));
    }
    let mut records = 0;
    let scanned = inspector.scan(topic, partition, range, &mut |_| records += 1);
    scanned.map_err(|error| VerifyError::Log(format!("read {topic} partition {partition}: {error}")))?;
    Ok(records)
}

/// The log of a partition, and why records may be missing there.
struct Log<'a> {
    inspector: &'a LogInspector,
    damage: &'a [Damage],
    is_compacted: bool,
}

async fn partition(
    audit: &mut dyn Audit,
    log: &Log<'_>,
    (position, place): (&StoredPosition, &SinkPlace),
    report: &mut Report,
) -> Result<(), VerifyError> {
    let name = format!("{} partition {}", position.topic, position.partition);
    let bounds = log.inspector.bounds(&position.topic, position.partition, TIMEOUT);
    let (low, high) = bounds.map_err(|error| VerifyError::Log(format!("read the bounds of {name}: {error}")))?;
    let from = low.max(position.retained_from).max(position.first_offset);
    let to = position.next_offset;
    if to > high || (to < low && !place.skips_gaps) {
        report.stands_still(still::gap(position, low..high));
    }
    let mut found = PartitionReport {
        sink: position.sink.clone(),
        topic: position.topic.clone(),
        partition: position.partition,
        from,
        to,
        pending: pending(log.inspector, (&position.topic, position.partition), to.max(low)..high)?,
        ..PartitionReport::default()
    };
    let mut start = from;
    while start < to {
        let end = (start + CHUNK).min(to);
        let (range, offsets, fates) = chunk(audit, log, (position, &place.table), start..end).await?;
        if start == from {
            found.from = range.start;
        }
        compare(&offsets, &fates, range, &mut found);
        start = end;
    }
    report.add(found);
    Ok(())
}

/// What the log and the database say of a range of offsets, without its part that retention of either has taken since.
async fn chunk(
    audit: &mut dyn Audit,
    log: &Log<'_>,
    (position, table): (&StoredPosition, &str),
    range: Range<i64>,
) -> Result<(Range<i64>, Vec<i64>, Fates), VerifyError> {
    let (topic, partition) = (&position.topic, position.partition);
    let of_log =
        |error: &dyn std::fmt::Display| VerifyError::Log(format!("read {topic} partition {partition}: {error}"));
    let mut offsets = Vec::new();
    let scanned = log.inspector.scan(topic, partition, range.clone(), &mut |offset| offsets.push(offset));
    scanned.map_err(|error| of_log(&error))?;
    let (low, _) = log.inspector.bounds(topic, partition, TIMEOUT).map_err(|error| of_log(&error))?;
    let of_database = |error: streamward_pipeline::store::StoreError| VerifyError::database(error);
    audit.begin().await.map_err(of_database)?;
    let floor = audit.retained_from(position).await.map_err(of_database)?;
    let range = range.start.max(low).max(floor).min(range.end)..range.end;
    let fates = fates(audit, log, (position, table), range.clone()).await.map_err(of_database)?;
    audit.end().await.map_err(of_database)?;
    offsets.retain(|offset| range.contains(offset));
    Ok((range, offsets, fates))
}

async fn fates(
    audit: &mut dyn Audit,
    log: &Log<'_>,
    (position, table): (&StoredPosition, &str),
    range: Range<i64>,
) -> Result<Fates, streamward_pipeline::store::StoreError> {
    let here = log.damage.iter().filter(|lost| lost.topic == position.topic && lost.partition == position.partition);
    Ok(Fates {
        stored: audit.stored(table, position, range.clone()).await?,
        dead: audit.dead(position, range.clone()).await?,
        filtered: audit.ranges(position, RangeKind::Filtered, range.clone()).await?,
        removed: audit.ranges(position, RangeKind::Removed, range.clone()).await?,
        gaps: audit.ranges(position, RangeKind::Gap, range).await?,
        damaged: here.map(|lost| lost.first_offset..lost.last_offset + 1).collect(),
        is_compacted: log.is_compacted,
    })
}
