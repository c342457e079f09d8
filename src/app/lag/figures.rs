//! How far each partition is behind: one definition for REST, metrics and the console.

use std::sync::Arc;

use streamward_pipeline::slot::PartitionSlot;

use super::{LogEnds, TopicLogs};
use crate::app::{
    operations::PipelineView,
    standstill::{Finding, Findings},
};

/// Age of the newest stored record, while there are newer ones, from which on a partition counts as behind, in seconds;
/// `monitoring/alerts.yml` warns of the same.
pub const BEHIND_SECONDS: f64 = 30.0;

/// How far one partition is behind.
#[derive(Debug)]
pub struct Lag {
    pub pipeline: Arc<str>,
    pub stream: Arc<str>,
    pub topic: Arc<str>,
    pub partition: i32,
    /// Next offset to store; none where it is not known, since this server does not read the partition.
    pub position: Option<i64>,
    /// Where a reader of committed records ends.
    pub log_end: i64,
    /// Offsets that a reader could still get and that are not stored: control records and aborted ones at the end of
    /// the log do not count.
    pub records: i64,
    /// Age of the newest stored record while there are newer ones.
    pub seconds: f64,
    /// Offsets of open transactions and behind them.
    pub in_transactions: i64,
    /// Why it does not progress.
    pub standing_still: Option<Finding>,
}

impl Lag {
    /// Whether it is further behind than it should ever be.
    pub fn is_behind(&self) -> bool {
        self.seconds > BEHIND_SECONDS
    }
}

/// Every partition that its topic has, and those that the source still reads.
pub fn all(pipelines: &[PipelineView], ends: &LogEnds, findings: &Findings, now_ms: i64) -> Vec<Lag> {
    let mut lags = Vec::new();
    for pipeline in pipelines {
        let slots = pipeline.slots.all();
        let mut partitions: Vec<i32> = slots.iter().map(|slot| slot.key.partition).collect();
        if let Some(TopicLogs::Partitions(known)) = ends.topic(&pipeline.topic) {
            partitions.extend(known.keys());
        }
        partitions.extend(pipeline.slots.standing_still().keys());
        partitions.sort_unstable();
        partitions.dedup();
        for partition in partitions {
            let slot = slots.iter().find(|slot| slot.key.partition == partition);
            lags.push(of_partition((pipeline, partition), slot, (ends, findings), now_ms));
        }
    }
    lags
}

fn of_partition(
    (pipeline, partition): (&PipelineView, i32),
    slot: Option<&Arc<PartitionSlot>>,
    (ends, findings): (&LogEnds, &Findings),
    now_ms: i64,
) -> Lag {
    let bounds = ends.bounds(&pipeline.topic, partition);
    let position = slot.map(|slot| slot.committed()).or_else(|| findings.position(&pipeline.name, partition));
    let stored_to = slot.map_or(position, |slot| Some(slot.stored_to()));
    // The ends are asked for now and then: what is stored already is in the log for sure.
    let stored_to = stored_to.or(bounds.map(|log| log.start)).unwrap_or(0);
    let log_end = bounds.map_or(stored_to, |log| log.end).max(position.unwrap_or(0));
    let records = (log_end - stored_to).max(0);
    let standing_still = findings.of_partition(&pipeline.name, &pipeline.topic, partition);
    let newest_ms = slot.map_or(0, |slot| slot.newest_log_timestamp_ms());
    let since_ms = match newest_ms {
        1.. => newest_ms,
        _ => standing_still.as_ref().map_or(now_ms, |finding| finding.since_ms),
    };
    Lag {
        pipeline: pipeline.name.clone(),
        stream: pipeline.stream.clone(),
        topic: pipeline.topic.clone(),
        partition,
        position,
        log_end,
        records,
        seconds: if records == 0 { 0.0 } else { (now_ms - since_ms).max(0) as f64 / 1000.0 },
        in_transactions: slot.map_or(0, |slot| slot.end().in_transactions()),
        standing_still,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALERTS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/monitoring/alerts.yml"));

    #[test]
    fn an_alert_about_an_actor_that_is_down_does_not_begin_anew_when_its_state_changes() {
        let (_, rule) = ALERTS.split_once("- alert: StreamwardActorDown\n").unwrap();
        let expr = rule.lines().next().unwrap().trim();
        // The label `state` would make two alerts of an actor that fails between two waits, each with its own `for`.
        assert_eq!(expr, r#"expr: max by (actor) (streamward_actor_state{state=~"failed|backing_off"}) == 1"#);
    }

    #[test]
    fn a_partition_counts_as_behind_when_the_alert_rule_warns_of_it() {
        assert!(ALERTS.contains(&format!("streamward_consumer_lag_seconds > {BEHIND_SECONDS}\n")), "{BEHIND_SECONDS}");
        let lag = |seconds| Lag {
            pipeline: "p".into(),
            stream: "s".into(),
            topic: "t".into(),
            partition: 0,
            position: Some(1),
            log_end: 2,
            records: 1,
            seconds,
            in_transactions: 0,
            standing_still: None,
        };
        assert_eq!([29.9, 30.0, 30.1].map(|seconds| lag(seconds).is_behind()), [false, false, true]);
    }
}
