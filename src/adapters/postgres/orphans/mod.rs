//! Alerts that fire although nobody judges them any more: their rule or pipeline is no longer configured, or their log is
//! not the topic's any more. The server resolves them itself, with the reason as their message, and they are announced
//! like any other.
//!
//! The state of such a rule leaves with them: where the rule comes back, it begins afresh and may fire again.

use std::collections::BTreeSet;

use sqlx::{Connection, PgConnection, Row, postgres::PgRow};
use streamward_core::{steps::rule::rule_chunk, table::Layout};
use streamward_pipeline::store::PartitionKey;

use super::{
    ledger::{self, Kind},
    memory,
    moment::Moment,
};
use crate::{
    adapters::unjudged::{self, LOG_TOO_SHORT, OTHER_SETTINGS, other_log, unconfigured},
    clock::now_ms,
};

/// Alerts looked at in one transaction.
const CHUNK: i64 = 1_000;

const FIRING: &str = "SELECT id, opened, sink, topic, rule, log, partition FROM alerts \
     WHERE state = 'firing' AND latest AND opened > $1 ORDER BY opened LIMIT $2";

/// Ends what still fires, stores how it ended with numbers from `$3` on, and lets it wait for its relay; selects how many
/// and how many bytes they hold.
const RESOLVE: &str = "WITH why AS (SELECT * FROM unnest($1::bigint[], $2::text[]) AS w(id, why)), \
     ended AS (UPDATE alerts a SET latest = false FROM why WHERE a.id = why.id AND a.latest AND a.state = 'firing' \
     RETURNING a.*, why.why), \
     stored AS (INSERT INTO alerts (id, alert_id, n, rule, stream, \"key\", severity, state, message, record, event_time, \
     topic, partition, \"offset\", created_at, latest, sink, log, opened) \
     SELECT $3 + row_number() OVER (ORDER BY opened) - 1, alert_id, n + 1, rule, stream, \"key\", severity, 'resolved', why, \
     record, event_time, topic, partition, \"offset\", $4, true, sink, log, opened FROM ended \
     RETURNING id, sink, octet_length(message) + octet_length(record) AS bytes), \
     announced AS (INSERT INTO sw_outbox SELECT 'alert', sink, id FROM stored) \
     SELECT count(*), coalesce(sum(bytes), 0)::bigint FROM stored";

/// An alert that fires.
#[derive(Debug)]
pub struct Firing {
    id: i64,
    opened: i64,
    pub sink: String,
    pub topic: String,
    pub rule: String,
    pub log: i64,
    pub partition: i32,
}

/// Resolves the alerts of rules and pipelines that the layout does not have, and forgets the state of steps that it does
/// not have; returns how many alerts.
///
/// # Errors
/// Of the database.
pub async fn resolve_unconfigured(connection: &mut PgConnection, layout: &Layout) -> Result<u64, sqlx::Error> {
    let resolved =
        resolve_firing(connection, |firing| unconfigured(layout, (&firing.sink, &firing.topic, &firing.rule))).await?;
    memory::forget_removed_steps(connection, &layout.definitions).await?;
    Ok(resolved)
}

/// Resolves the alerts of a partition whose rules begin anew; returns how many.
///
/// # Errors
/// Of the database.
pub async fn resolve_partition(
    connection: &mut PgConnection,
    key: &PartitionKey,
    log: i64,
) -> Result<u64, sqlx::Error> {
    resolve_firing(connection, |firing| {
        let place = (&*firing.sink, &*firing.topic, firing.partition, firing.log);
        let is_its = place == (&*key.sink, &*key.topic, key.partition, log);
        is_its.then(|| LOG_TOO_SHORT.to_owned())
    })
    .await
}

/// Resolves the alerts of the other logs of a topic that a pipeline reads; returns how many.
///
/// # Errors
/// Of the database.
pub async fn resolve_other_logs(
    connection: &mut PgConnection,
    (sink, topic): (&str, &str),
    log: i64,
) -> Result<u64, sqlx::Error> {
    resolve_firing(connection, |firing| {
        let is_other = firing.sink == sink && firing.topic == topic && firing.log != log;
        is_other.then(|| other_log(topic))
    })
    .await
}

/// Resolves the alerts that fire for which there is a reason, a chunk to a transaction.
async fn resolve_firing<F>(connection: &mut PgConnection, reason: F) -> Result<u64, sqlx::Error>
where
    F: Fn(&Firing) -> Option<String> + Send,
{
    let (mut after, mut resolved) = (Some(i64::MIN), 0);
    while let Some(from) = after {
        let mut transaction = connection.begin().await?;
        let (next, count) = resolve_chunk(&mut transaction, from, &reason).await?;
        transaction.commit().await?;
        (after, resolved) = (next, resolved + count);
    }
    if resolved > 0 {
        tracing::warn!(alerts = resolved, "alerts that nobody judges any more are resolved");
    }
    Ok(resolved)
}

/// Resolves all alerts of a pipeline whose rules begin anew, within a transaction.
///
/// # Errors
/// Of the database.
pub async fn resolve_of(connection: &mut PgConnection, sink: &str) -> Result<(), sqlx::Error> {
    let reason = |firing: &Firing| (firing.sink == sink).then(|| OTHER_SETTINGS.to_owned());
    let mut after = Some(i64::MIN);
    while let Some(from) = after {
        (after, _) = resolve_chunk(connection, from, &reason).await?;
    }
    Ok(())
}

/// Where to go on, and how many were resolved.
async fn resolve_chunk<F>(
    connection: &mut PgConnection,
    after: i64,
    reason: &F,
) -> Result<(Option<i64>, u64), sqlx::Error>
where
    F: Fn(&Firing) -> Option<String>,
{
    let rows = sqlx::query(FIRING).bind(after).bind(CHUNK).fetch_all(&mut *connection).await?;
    let firing: Vec<Firing> = rows.iter().map(firing).collect::<Result<_, _>>()?;
    let is_full = i64::try_from(firing.len()).is_ok_and(|count| count == CHUNK);
    let next = firing.last().filter(|_| is_full).map(|last| last.opened);
    let ends = firing.iter().filter_map(|alert| reason(alert).map(|why| (alert, why)));
    let ends: Vec<(&Firing, String)> = ends.collect();
    if ends.is_empty() {
        return Ok((next, 0));
    }
    let rules: BTreeSet<_> =
        ends.iter().map(|(alert, _)| (&*alert.sink, &*alert.topic, alert.partition, alert.log, &*alert.rule)).collect();
    lock_positions(connection, &rules.iter().map(|rule| (rule.0, rule.1, rule.2)).collect()).await?;
    for (sink, topic, partition, log, rule) in rules {
        sqlx::query(
            "DELETE FROM sw_checkpoints WHERE sink = $1 AND topic = $2 AND partition = $3 AND log = $4 AND chunk = $5",
        )
        .bind(sink)
        .bind(topic)
        .bind(partition)
        .bind(log)
        .bind(&*rule_chunk(rule))
        .execute(&mut *connection)
        .await?;
        // Read again from an older checkpoint, its records would make the rule fire once more, without a word.
        memory::begin_rule(connection, (sink, topic, partition), rule).await?;
    }
    let ends: Vec<(i64, String)> = ends.into_iter().map(|(alert, why)| (alert.id, why)).collect();
    Ok((next, resolve(connection, &ends).await?))
}

fn firing(row: &PgRow) -> Result<Firing, sqlx::Error> {
    Ok(Firing {
        id: row.try_get(0)?,
        opened: row.try_get(1)?,
        sink: row.try_get(2)?,
        topic: row.try_get(3)?,
        rule: row.try_get(4)?,
        log: row.try_get(5)?,
        partition: row.try_get(6)?,
    })
}

/// Keeps the state of partitions from moving until the transaction ends, in the order in which commits take them.
async fn lock_positions(
    connection: &mut PgConnection,
    places: &BTreeSet<(&str, &str, i32)>,
) -> Result<(), sqlx::Error> {
    let sinks: Vec<&str> = places.iter().map(|place| place.0).collect();
    let topics: Vec<&str> = places.iter().map(|place| place.1).collect();
    let partitions: Vec<i32> = places.iter().map(|place| place.2).collect();
    sqlx::query(
        "SELECT p.log FROM sw_positions p WHERE (sink, topic, partition) IN \
         (SELECT * FROM unnest($1::text[], $2::text[], $3::integer[])) ORDER BY sink, topic, partition, log FOR UPDATE OF p",
    )
    .bind(sinks)
    .bind(topics)
    .bind(partitions)
    .execute(connection)
    .await
    .map(drop)
}

/// Resolves those of the alerts that fire, by the number of their newest transition, within a transaction; returns how many
/// did. Numbers of those that did not are left out.
///
/// # Errors
/// Of the database.
pub async fn resolve(connection: &mut PgConnection, ends: &[(i64, String)]) -> Result<u64, sqlx::Error> {
    let Some(count) = i64::try_from(ends.len()).ok().filter(|count| *count > 0) else { return Ok(0) };
    let (ids, messages): (Vec<i64>, Vec<String>) = ends.iter().map(|(id, why)| (*id, unjudged::message(why))).unzip();
    let first = ledger::take(connection, Kind::Alert, (count, 0)).await?;
    let row = sqlx::query(RESOLVE)
        .bind(ids)
        .bind(messages)
        .bind(first)
        .bind(Moment(now_ms()))
        .fetch_one(&mut *connection)
        .await?;
    let (resolved, bytes): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    ledger::take(connection, Kind::Alert, (0, bytes + resolved * Kind::Alert.fixed_bytes())).await?;
    Ok(resolved.unsigned_abs())
}

#[cfg(test)]
#[cfg(feature = "postgres-tests")]
mod tests;
