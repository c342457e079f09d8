//! What stands still besides what differs: gaps, topics that are gone, and positions that do not move.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use streamward_pipeline::store::{Audit, StoredPosition};

use super::{Report, SinkPlace, Subject, VerifyError};
use crate::{
    app::{Cause, Finding, Place, last_findings},
    clock::now_ms,
};

/// How long a position with records behind it may stand still in a running server.
const MOVES_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Adds what the server of the data folder says, and what it does not say.
pub async fn look(subject: &Subject<'_>, audit: &mut dyn Audit, report: &mut Report) -> Result<(), VerifyError> {
    let findings = last_findings(subject.data_dir).unwrap_or_else(|error| {
        tracing::warn!(error, "what the server says of itself is not known");
        Vec::new()
    });
    if !subject.database.is_in_use().await {
        // Of a server that has ended: why it stood still, if it did.
        report.standing_still.extend(findings.into_iter().filter(|finding| concerns(finding, subject.sinks)));
        return Ok(());
    }
    for finding in findings {
        if concerns(&finding, subject.sinks) {
            report.stands_still(finding);
        } else {
            report.standing_still.push(finding);
        }
    }
    unmoved(audit, report).await
}

/// Whether a finding says that records of one of these sinks may stay where they are: full windows hold up none.
fn concerns(finding: &Finding, sinks: &BTreeMap<String, SinkPlace>) -> bool {
    let place = &finding.place;
    let is_theirs = place.pipeline.as_ref().is_some_and(|pipeline| sinks.contains_key(&**pipeline));
    place.cause != Cause::Full && (is_theirs || matches!(place.cause, Cause::Kafka | Cause::Storage | Cause::Damaged))
}

/// Partitions of a running server that have something to do and do not move.
async fn unmoved(audit: &mut dyn Audit, report: &mut Report) -> Result<(), VerifyError> {
    let mut waiting: BTreeMap<(String, String, i32), (i64, u64)> = report
        .partitions
        .iter()
        .filter(|partition| partition.pending > 0)
        .map(|one| ((one.sink.clone(), one.topic.clone(), one.partition), (one.to, one.pending)))
        .collect();
    let until = tokio::time::Instant::now() + MOVES_WITHIN;
    while !waiting.is_empty() && tokio::time::Instant::now() < until {
        for position in audit.positions().await.map_err(VerifyError::database)? {
            let key = (position.sink, position.topic, position.partition);
            if waiting.get(&key).is_some_and(|(was, _)| position.next_offset > *was) {
                waiting.remove(&key);
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    for ((sink, topic, partition), (position, pending)) in waiting {
        let reason = format!(
            "stands still at offset {position}: {pending} records are not processed, and the position did not move for \
             {} s",
            MOVES_WITHIN.as_secs()
        );
        let way_out = "see the pipeline in the tree: streamward tree".to_owned();
        report.stands_still(finding(Cause::Storing, (&sink, &topic, Some(partition)), reason, way_out));
    }
    Ok(())
}

/// A position outside the log.
pub fn gap(position: &StoredPosition, log: Range<i64>) -> Finding {
    let at = position.next_offset;
    let reason =
        format!("position {at} is outside the log [{}, {}): the records that came next are gone", log.start, log.end);
    let way_out = "set on_gap: earliest to go on without them".to_owned();
    finding(Cause::Gap, (&position.sink, &position.topic, Some(position.partition)), reason, way_out)
}

/// A sink whose topic does not exist.
pub fn topic_gone(sink: &str, place: &SinkPlace) -> Finding {
    let topic = &place.topic;
    let reason = format!("topic {topic} does not exist: it was deleted, or this user may not see it");
    let way_out = format!("a start of the server makes it anew, and so does streamward topics create {topic}");
    finding(Cause::TopicGone, (sink, topic, None), reason, way_out)
}

fn finding(
    cause: Cause,
    (sink, topic, partition): (&str, &str, Option<i32>),
    reason: String,
    way_out: String,
) -> Finding {
    let actor = format!("pipelines/{sink}");
    let place = Place { cause, actor, pipeline: Some(sink.into()), topic: Some(topic.into()), partition };
    Finding { place, since_ms: now_ms(), reason, way_out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_up_records_of_a_sink_concerns_it_and_full_windows_do_not() {
        let place = SinkPlace { topic: "orders-topic".into(), table: "orders".into(), skips_gaps: false };
        let sinks = BTreeMap::from([("orders".to_owned(), place)]);
        let of = |cause, sink| finding(cause, (sink, "orders-topic", None), String::new(), String::new());
        assert!(concerns(&of(Cause::Gap, "orders"), &sinks));
        assert!(!concerns(&of(Cause::Gap, "other"), &sinks));
        assert!(concerns(&of(Cause::Kafka, "other"), &sinks));
        assert!(!concerns(&of(Cause::Full, "orders"), &sinks));
    }
}
