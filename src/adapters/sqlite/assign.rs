//! Taking a partition over: log number, fencing epoch, position and state.

use std::{ops::Range, sync::Arc};

use rusqlite::{Connection, OptionalExtension, params};
use streamward_core::{output::StateChunk, partition::Decisions, table::MAX_LOGS, watermark::NO_WATERMARK};
use streamward_pipeline::logs::LogIdentity;
use streamward_pipeline::store::{
    Assignment, BoxFuture, Checkpoint, Outcome, PartitionKey, Pending, SinkStore, Start, StoreError,
};

use super::{SqlStore, WriteError, begin, facts::DEAD};
use crate::clock::now_ms;

/// Event times of keys are kept by the minute.
const MINUTE_MS: i64 = 60_000;

impl SinkStore for SqlStore {
    fn assign<'a>(
        &'a self,
        key: &'a PartitionKey,
        log: &'a LogIdentity,
    ) -> BoxFuture<'a, Result<Assignment, StoreError>> {
        let (key, log) = (key.clone(), log.clone());
        Box::pin(async move {
            let (of, stream) = (key.clone(), self.shared.stream_of(&key.sink)?);
            let number = self
                .write(move |_, writer| {
                    let transaction = begin(&mut writer.connection)?;
                    let number = log_number(&transaction, &of, &log)?;
                    transaction.commit()?;
                    Ok(number)
                })
                .await?;
            if number.others > 0 {
                self.resolve_other_logs(&key.sink, &key.topic, number.log).await?;
            }
            self.write(move |_, writer| {
                let transaction = begin(&mut writer.connection)?;
                let assignment = take_over(&transaction, (&key, &stream), number.log)?;
                transaction.commit()?;
                Ok(assignment)
            })
            .await
        })
    }

    fn start_at<'a>(&'a self, key: &'a PartitionKey, start: Start) -> BoxFuture<'a, Result<(), StoreError>> {
        let key = key.clone();
        Box::pin(self.write(move |_, writer| {
            let transaction = begin(&mut writer.connection)?;
            set_position(&transaction, &key, &start)?;
            Ok(transaction.commit()?)
        }))
    }

    fn begin_rules<'a>(&'a self, key: &'a PartitionKey, log: i64) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.resolve_partition(key, log))
    }

    fn commit<'a>(&'a self, pending: &'a [Arc<Pending>]) -> BoxFuture<'a, Result<Vec<Outcome>, StoreError>> {
        Box::pin(self.commit_outputs(pending))
    }
}

/// A log among those of its topic.
#[derive(Debug, Clone, Copy)]
struct LogNumber {
    log: i64,
    /// Other logs of the topic.
    others: usize,
}

/// The number of this log among those of its topic; a new one for a log never seen.
fn log_number(connection: &Connection, key: &PartitionKey, log: &LogIdentity) -> Result<LogNumber, WriteError> {
    let (sink, topic) = (&*key.sink, &*key.topic);
    let mut select =
        connection.prepare("SELECT log, cluster_id, topic_id FROM sw_logs WHERE topic = ? ORDER BY log")?;
    let known = select.query_map([topic], |row| {
        Ok((row.get::<_, i64>(0)?, LogIdentity { cluster_id: row.get(1)?, topic_id: row.get(2)? }))
    })?;
    let known: Vec<(i64, LogIdentity)> = known.collect::<Result<_, _>>()?;
    let by_id = known.iter().find(|(_, seen)| seen.topic_id == log.topic_id && seen.is_same(log));
    let others = known.len().saturating_sub(1);
    if let Some((log, _)) = by_id {
        return Ok(LogNumber { log: *log, others });
    }
    // Its id was not known when it was first read.
    if let Some((number, _)) = known.iter().find(|(_, seen)| seen.is_same(log)) {
        let adopt = "UPDATE sw_logs SET topic_id = ? WHERE topic = ? AND log = ? AND topic_id = ''";
        connection.execute(adopt, params![log.topic_id, topic, number])?;
        return Ok(LogNumber { log: *number, others });
    }
    let of_table: Option<i64> =
        connection.query_row("SELECT max(log) FROM sw_positions WHERE sink = ?", [sink], |row| row.get(0))?;
    // Above those of other topics that the sink has read: the table is the same, and row ids carry the log alone.
    let number = known.last().map(|(newest, _)| *newest).max(of_table).map_or(0, |newest| newest + 1);
    if number >= MAX_LOGS {
        return Err(WriteError::Protocol(format!(
            "topic {topic} was made anew more than {MAX_LOGS} times: give the stream another topic and table"
        )));
    }
    let place = params![topic, number, log.cluster_id, log.topic_id, now_ms()];
    connection
        .execute("INSERT INTO sw_logs (topic, log, cluster_id, topic_id, created_at) VALUES (?, ?, ?, ?, ?)", place)?;
    Ok(LogNumber { log: number, others: known.len() })
}

/// The epoch goes on from log to log, so that the newest log of a partition is the one with the highest.
fn take_over(
    connection: &Connection,
    (key, stream): (&PartitionKey, &str),
    log: i64,
) -> Result<Assignment, WriteError> {
    no_other_topic(connection, key, log)?;
    let epoch: i64 = connection.query_row(
        "SELECT coalesce(max(epoch), 0) + 1 FROM sw_positions WHERE sink = ? AND topic = ? AND \"partition\" = ?",
        params![key.sink, key.topic, key.partition],
        |row| row.get(0),
    )?;
    let place = connection
        .query_row(
            "UPDATE sw_positions SET epoch = ?1, updated_at = ?2, newest_event = coalesce(newest_event, ?7) \
             WHERE sink = ?3 AND topic = ?4 AND \"partition\" = ?5 AND log = ?6 \
             RETURNING next_offset, decided_from, first_offset, newest_event",
            params![epoch, now_ms(), key.sink, key.topic, key.partition, log, newest_of_keys(connection, stream)?],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .optional()?;
    let new = Assignment {
        epoch,
        log,
        position: None,
        first_offset: 0,
        checkpoint: None,
        newest_event_ms: NO_WATERMARK,
        decisions: Decisions::default(),
    };
    let Some((position, decided_from, first_offset, newest_event_ms)): Option<(i64, i64, i64, i64)> = place else {
        return Ok(new);
    };
    let checkpoint = checkpoint(connection, key, log)?;
    let covered = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.next_offset);
    let decisions = decisions(connection, (key, log), decided_from.max(covered)..position)?;
    Ok(Assignment { position: Some(position), first_offset, checkpoint, newest_event_ms, decisions, ..new })
}

/// Refuses a log whose number the sink's table has from another topic already: rows would have the same ids.
fn no_other_topic(connection: &Connection, key: &PartitionKey, log: i64) -> Result<(), WriteError> {
    let other: Option<String> = connection
        .query_row(
            "SELECT topic FROM sw_positions WHERE sink = ? AND topic <> ? AND log = ? LIMIT 1",
            params![key.sink, key.topic, log],
            |row| row.get(0),
        )
        .optional()?;
    match other {
        None => Ok(()),
        Some(other) => Err(WriteError::Protocol(format!(
            "topic {} was read by another pipeline before as log {log}, which this pipeline's table has of topic {other}: \
             give the stream another table",
            key.topic
        ))),
    }
}

/// An upper bound of the event times of the stream's keys, which are kept to the minute.
fn newest_of_keys(connection: &Connection, stream: &str) -> Result<i64, rusqlite::Error> {
    let minute: Option<i64> =
        connection.query_row("SELECT max(last_seen) FROM sw_keys WHERE stream = ?", [stream], |row| row.get(0))?;
    Ok(minute.map_or(NO_WATERMARK, |minute| minute.saturating_add(MINUTE_MS - 1)))
}

/// What was decided of these records, of which a lane keeps the number within bounds.
fn decisions(
    connection: &Connection,
    (key, log): (&PartitionKey, i64),
    known: Range<i64>,
) -> Result<Decisions, rusqlite::Error> {
    let mut select = connection.prepare(
        "SELECT first_offset, next_offset, kind FROM sw_decisions \
         WHERE sink = ? AND topic = ? AND \"partition\" = ? AND log = ? AND first_offset >= ? ORDER BY first_offset",
    )?;
    let mut rows = select.query(params![key.sink, key.topic, key.partition, log, known.start])?;
    let (mut dead, mut ahead) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        let of_kind = if row.get_ref(2)?.as_str()? == DEAD { &mut dead } else { &mut ahead };
        of_kind.push(row.get(0)?..row.get(1)?);
    }
    Ok(Decisions::new(known, dead, ahead))
}

fn checkpoint(connection: &Connection, key: &PartitionKey, log: i64) -> Result<Option<Checkpoint>, rusqlite::Error> {
    let mut select = connection.prepare(
        "SELECT chunk, bytes, next_offset FROM sw_checkpoints \
         WHERE sink = ? AND topic = ? AND \"partition\" = ? AND log = ? ORDER BY chunk",
    )?;
    let mut rows = select.query(params![key.sink, key.topic, key.partition, log])?;
    let mut found: Option<Checkpoint> = None;
    while let Some(row) = rows.next()? {
        let chunk = StateChunk { name: row.get(0)?, bytes: row.get(1)? };
        let next_offset = row.get(2)?;
        found.get_or_insert(Checkpoint { next_offset, chunks: Vec::new() }).chunks.push(chunk);
    }
    Ok(found)
}

/// Sets a first position, or one behind a gap. State that was kept is forgotten, unless the gap lies behind it.
fn set_position(connection: &Connection, key: &PartitionKey, start: &Start) -> Result<(), rusqlite::Error> {
    let moved = connection.execute(
        "INSERT INTO sw_positions (sink, topic, \"partition\", log, epoch, next_offset, first_offset, retained_from, \
         updated_at, newest_event) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?6, ?7, ?8) ON CONFLICT DO UPDATE SET \
         next_offset = excluded.next_offset, updated_at = excluded.updated_at WHERE epoch = excluded.epoch",
        params![key.sink, key.topic, key.partition, start.log, start.epoch, start.position, now_ms(), NO_WATERMARK],
    )?;
    if moved == 0 {
        // Another owner has the partition, and its state.
        return Ok(());
    }
    if start.gap.as_ref().is_none_or(std::ops::Range::is_empty) {
        connection.execute(
            "DELETE FROM sw_checkpoints WHERE sink = ? AND topic = ? AND \"partition\" = ?",
            params![key.sink, key.topic, key.partition],
        )?;
    }
    if let Some(gap) = &start.gap {
        connection.execute(
            "INSERT OR REPLACE INTO sw_ranges VALUES (?, ?, ?, ?, 'gap', ?, ?, ?)",
            params![key.sink, key.topic, key.partition, start.log, gap.start, gap.end, now_ms()],
        )?;
    }
    Ok(())
}
