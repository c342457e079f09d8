//! Taking a partition over: log number, fencing epoch, position and state.

use std::ops::Range;

use sqlx::{Connection as _, PgConnection, Row as _};
use streamward_core::{output::StateChunk, partition::Decisions, table::MAX_LOGS, watermark::NO_WATERMARK};
use streamward_pipeline::{
    logs::LogIdentity,
    store::{Assignment, Checkpoint, PartitionKey, Start},
};

use super::{connection::WriteError, facts::DEAD, moment::Moment};
use crate::clock::now_ms;

/// Lets one process after the other number logs.
const NUMBERING: &str = "SELECT pg_advisory_xact_lock(hashtext('streamward: numbers of logs'))";
/// All logs of a partition, held until the transaction ends; the key's columns are `$1` to `$3`.
const HOLD: &str = "SELECT log, epoch FROM sw_positions WHERE sink = $1 AND topic = $2 AND partition = $3 \
     ORDER BY log FOR UPDATE";

/// A log among those of its topic.
#[derive(Debug, Clone, Copy)]
pub struct LogNumber {
    pub log: i64,
    /// Other logs of the topic.
    pub others: usize,
}

/// The number of this log among those of its topic; a new one for a log never seen.
///
/// # Errors
/// If there are too many logs.
pub async fn log_number(
    connection: &mut PgConnection,
    key: &PartitionKey,
    log: &LogIdentity,
) -> Result<LogNumber, WriteError> {
    let mut transaction = connection.begin().await?;
    sqlx::query(NUMBERING).execute(&mut *transaction).await?;
    let number = number_in(&mut transaction, key, log).await?;
    transaction.commit().await?;
    Ok(number)
}

async fn number_in(
    connection: &mut PgConnection,
    key: &PartitionKey,
    log: &LogIdentity,
) -> Result<LogNumber, WriteError> {
    let (sink, topic) = (&*key.sink, &*key.topic);
    let known: Vec<(i64, String, String)> =
        sqlx::query_as("SELECT log, cluster_id, topic_id FROM sw_logs WHERE topic = $1 ORDER BY log")
            .bind(topic)
            .fetch_all(&mut *connection)
            .await?;
    let known: Vec<(i64, LogIdentity)> =
        known.into_iter().map(|(log, cluster_id, topic_id)| (log, LogIdentity { cluster_id, topic_id })).collect();
    let by_id = known.iter().find(|(_, seen)| seen.topic_id == log.topic_id && seen.is_same(log));
    let others = known.len().saturating_sub(1);
    if let Some((log, _)) = by_id {
        return Ok(LogNumber { log: *log, others });
    }
    // Its id was not known when it was first read.
    if let Some((number, _)) = known.iter().find(|(_, seen)| seen.is_same(log)) {
        sqlx::query("UPDATE sw_logs SET topic_id = $1 WHERE topic = $2 AND log = $3 AND topic_id = ''")
            .bind(&log.topic_id)
            .bind(topic)
            .bind(number)
            .execute(connection)
            .await?;
        return Ok(LogNumber { log: *number, others });
    }
    let of_table: Option<i64> = sqlx::query_scalar("SELECT max(log) FROM sw_positions WHERE sink = $1")
        .bind(sink)
        .fetch_one(&mut *connection)
        .await?;
    // Above those of other topics that the sink has read: the table is the same, and row ids carry the log alone.
    let number = known.last().map(|(newest, _)| *newest).max(of_table).map_or(0, |newest| newest + 1);
    if number >= MAX_LOGS {
        return Err(WriteError::Protocol(format!(
            "topic {topic} was made anew more than {MAX_LOGS} times: give the stream another topic and table"
        )));
    }
    sqlx::query("INSERT INTO sw_logs (topic, log, cluster_id, topic_id, created_at) VALUES ($1, $2, $3, $4, $5)")
        .bind(topic)
        .bind(number)
        .bind(&log.cluster_id)
        .bind(&log.topic_id)
        .bind(Moment(now_ms()))
        .execute(connection)
        .await?;
    Ok(LogNumber { log: number, others: known.len() })
}

/// Takes the partition over. The epoch goes on from log to log, so that the newest log of a partition is the one with the
/// highest.
///
/// # Errors
/// If the sink's table has this log's number from another topic.
pub async fn take_over(connection: &mut PgConnection, key: &PartitionKey, log: i64) -> Result<Assignment, WriteError> {
    let mut transaction = connection.begin().await?;
    let assignment = take_over_in(&mut transaction, key, log).await?;
    transaction.commit().await?;
    Ok(assignment)
}

async fn take_over_in(connection: &mut PgConnection, key: &PartitionKey, log: i64) -> Result<Assignment, WriteError> {
    let logs: Vec<(i64, i64)> =
        sqlx::query_as(HOLD).bind(&*key.sink).bind(&*key.topic).bind(key.partition).fetch_all(&mut *connection).await?;
    no_other_topic(connection, key, log).await?;
    let newest = logs.iter().map(|(_, epoch)| *epoch).max().unwrap_or(0);
    let epoch: i64 = sqlx::query_scalar("SELECT greatest(nextval('sw_epochs'), $1)")
        .bind(newest + 1)
        .fetch_one(&mut *connection)
        .await?;
    let place = sqlx::query(
        "UPDATE sw_positions SET epoch = $5, updated_at = $6 \
         WHERE sink = $1 AND topic = $2 AND partition = $3 AND log = $4 \
         RETURNING next_offset, decided_from, first_offset, newest_event",
    )
    .bind(&*key.sink)
    .bind(&*key.topic)
    .bind(key.partition)
    .bind(log)
    .bind(epoch)
    .bind(Moment(now_ms()))
    .fetch_optional(&mut *connection)
    .await?;
    let new = Assignment {
        epoch,
        log,
        position: None,
        first_offset: 0,
        checkpoint: None,
        newest_event_ms: NO_WATERMARK,
        decisions: Decisions::default(),
    };
    let Some(place) = place else { return Ok(new) };
    let (position, decided_from): (i64, i64) = (place.try_get(0)?, place.try_get(1)?);
    let (first_offset, newest_event_ms) = (place.try_get(2)?, place.try_get::<Moment, _>(3)?.0);
    let checkpoint = checkpoint(connection, key, log).await?;
    let covered = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.next_offset);
    let decisions = decisions(connection, (key, log), decided_from.max(covered)..position).await?;
    Ok(Assignment { position: Some(position), first_offset, checkpoint, newest_event_ms, decisions, ..new })
}

/// Refuses a log whose number the sink's table has from another topic already: rows would have the same ids.
async fn no_other_topic(connection: &mut PgConnection, key: &PartitionKey, log: i64) -> Result<(), WriteError> {
    let other: Option<String> =
        sqlx::query_scalar("SELECT topic FROM sw_positions WHERE sink = $1 AND topic <> $2 AND log = $3 LIMIT 1")
            .bind(&*key.sink)
            .bind(&*key.topic)
            .bind(log)
            .fetch_optional(connection)
            .await?;
    match other {
        None => Ok(()),
        Some(other) => Err(WriteError::Protocol(format!(
            "topic {} was read by another pipeline before as log {log}, which this pipeline's table has of topic {other}: \
             give the stream another table",
            key.topic
        ))),
    }
}

/// What was decided of these records, of which a lane keeps the number within bounds.
async fn decisions(
    connection: &mut PgConnection,
    (key, log): (&PartitionKey, i64),
    known: Range<i64>,
) -> Result<Decisions, sqlx::Error> {
    let rows: Vec<(i64, i64, String)> = sqlx::query_as(
        "SELECT first_offset, next_offset, kind FROM sw_decisions \
         WHERE sink = $1 AND topic = $2 AND partition = $3 AND log = $4 AND first_offset >= $5 ORDER BY first_offset",
    )
    .bind(&*key.sink)
    .bind(&*key.topic)
    .bind(key.partition)
    .bind(log)
    .bind(known.start)
    .fetch_all(connection)
    .await?;
    let (mut dead, mut ahead) = (Vec::new(), Vec::new());
    for (first, next, kind) in rows {
        let of_kind = if kind == DEAD { &mut dead } else { &mut ahead };
        of_kind.push(first..next);
    }
    Ok(Decisions::new(known, dead, ahead))
}

async fn checkpoint(
    connection: &mut PgConnection,
    key: &PartitionKey,
    log: i64,
) -> Result<Option<Checkpoint>, sqlx::Error> {
    let rows: Vec<(String, Vec<u8>, i64)> = sqlx::query_as(
        "SELECT chunk, bytes, next_offset FROM sw_checkpoints \
         WHERE sink = $1 AND topic = $2 AND partition = $3 AND log = $4 ORDER BY chunk COLLATE \"C\"",
    )
    .bind(&*key.sink)
    .bind(&*key.topic)
    .bind(key.partition)
    .bind(log)
    .fetch_all(connection)
    .await?;
    let next_offset = rows.last().map(|(_, _, next_offset)| *next_offset);
    let chunks = rows.into_iter().map(|(name, bytes, _)| StateChunk { name: name.into(), bytes }).collect();
    Ok(next_offset.map(|next_offset| Checkpoint { next_offset, chunks }))
}

/// Sets a first position, or one behind a gap. State that was kept is forgotten, unless the gap lies behind it.
///
/// # Errors
/// Of the database.
pub async fn set_position(connection: &mut PgConnection, key: &PartitionKey, start: &Start) -> Result<(), WriteError> {
    let mut transaction = connection.begin().await?;
    let now = Moment(now_ms());
    sqlx::query(HOLD).bind(&*key.sink).bind(&*key.topic).bind(key.partition).execute(&mut *transaction).await?;
    let moved = sqlx::query(
        "INSERT INTO sw_positions (sink, topic, partition, log, epoch, next_offset, first_offset, retained_from, \
         updated_at, newest_event) VALUES ($1, $2, $3, $4, $5, $6, $6, $6, $7, $8) \
         ON CONFLICT (sink, topic, partition, log) DO UPDATE SET next_offset = excluded.next_offset, \
         updated_at = excluded.updated_at WHERE sw_positions.epoch = excluded.epoch",
    )
    .bind(&*key.sink)
    .bind(&*key.topic)
    .bind(key.partition)
    .bind(start.log)
    .bind(start.epoch)
    .bind(start.position)
    .bind(now)
    .bind(Moment(NO_WATERMARK))
    .execute(&mut *transaction)
    .await?;
    if moved.rows_affected() == 0 {
        // Another owner has the partition, and its state.
        return Ok(transaction.rollback().await?);
    }
    if start.gap.as_ref().is_none_or(Range::is_empty) {
        sqlx::query("DELETE FROM sw_checkpoints WHERE sink = $1 AND topic = $2 AND partition = $3")
            .bind(&*key.sink)
            .bind(&*key.topic)
            .bind(key.partition)
            .execute(&mut *transaction)
            .await?;
    }
    if let Some(gap) = &start.gap {
        sqlx::query(
            "INSERT INTO sw_ranges VALUES ($1, $2, $3, $4, 'gap', $5, $6, $7) \
             ON CONFLICT (sink, topic, partition, log, kind, first_offset) \
             DO UPDATE SET next_offset = excluded.next_offset, stored_at = excluded.stored_at",
        )
        .bind(&*key.sink)
        .bind(&*key.topic)
        .bind(key.partition)
        .bind(start.log)
        .bind(gap.start)
        .bind(gap.end)
        .bind(now)
        .execute(&mut *transaction)
        .await?;
    }
    Ok(transaction.commit().await?)
}
