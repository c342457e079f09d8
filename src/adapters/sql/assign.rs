//! Taking a partition over: log number, fencing epoch, position and state.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use streamward_core::{output::StateChunk, table::MAX_LOGS};
use streamward_pipeline::store::{
    Assignment, BoxFuture, Checkpoint, LogIdentity, Outcome, PartitionKey, Pending, SinkStore, Start, StoreError,
};

use super::{SqlStore, WriteError, begin};
use crate::clock::now_ms;

impl SinkStore for SqlStore {
    fn assign<'a>(
        &'a self,
        key: &'a PartitionKey,
        log: &'a LogIdentity,
    ) -> BoxFuture<'a, Result<Assignment, StoreError>> {
        let (key, log) = (key.clone(), log.clone());
        Box::pin(self.write(move |_, writer| {
            let transaction = begin(&mut writer.connection)?;
            let assignment = take_over(&transaction, &key, &log)?;
            transaction.commit()?;
            Ok(assignment)
        }))
    }

    fn start_at<'a>(&'a self, key: &'a PartitionKey, start: Start) -> BoxFuture<'a, Result<(), StoreError>> {
        let key = key.clone();
        Box::pin(self.write(move |_, writer| {
            let transaction = begin(&mut writer.connection)?;
            set_position(&transaction, &key, &start)?;
            Ok(transaction.commit()?)
        }))
    }

    fn commit<'a>(&'a self, pending: &'a [Arc<Pending>]) -> BoxFuture<'a, Result<Vec<Outcome>, StoreError>> {
        Box::pin(self.commit_outputs(pending))
    }
}

/// The number of this log among those of its topic; a new one for a log never seen.
fn log_number(connection: &Connection, topic: &str, log: &LogIdentity) -> Result<i64, WriteError> {
    let known = connection
        .query_row(
            "SELECT log FROM sw_logs WHERE topic = ? AND cluster_id = ? AND topic_id = ?",
            params![topic, log.cluster_id, log.topic_id],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(number) = known {
        return Ok(number);
    }
    let number: i64 = connection.query_row(
        "INSERT INTO sw_logs SELECT ?1, coalesce(max(log) + 1, 0), ?2, ?3, ?4 FROM sw_logs WHERE topic = ?1 \
         RETURNING log",
        params![topic, log.cluster_id, log.topic_id, now_ms()],
        |row| row.get(0),
    )?;
    if number < MAX_LOGS {
        return Ok(number);
    }
    Err(WriteError::Protocol(format!("topic {topic} was created again more than {MAX_LOGS} times")))
}

fn take_over(connection: &Connection, key: &PartitionKey, identity: &LogIdentity) -> Result<Assignment, WriteError> {
    let log = log_number(connection, &key.topic, identity)?;
    let stored = connection
        .query_row(
            "UPDATE sw_positions SET epoch = epoch + 1, updated_at = ? \
             WHERE sink = ? AND topic = ? AND \"partition\" = ? RETURNING epoch, log, next_offset",
            params![now_ms(), key.sink, key.topic, key.partition],
            |row| Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get(2)?)),
        )
        .optional()?;
    let Some((epoch, stored_log, position)) = stored else {
        return Ok(Assignment { epoch: 1, log, position: None, checkpoint: None });
    };
    if stored_log != log {
        return Ok(Assignment { epoch, log, position: None, checkpoint: None });
    }
    let checkpoint = checkpoint(connection, key, log)?;
    Ok(Assignment { epoch, log, position: Some(position), checkpoint })
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

/// Sets a first position, or one behind a gap; older logs' state is forgotten with the position.
fn set_position(connection: &Connection, key: &PartitionKey, start: &Start) -> Result<(), rusqlite::Error> {
    connection.execute(
        "INSERT INTO sw_positions (sink, topic, \"partition\", log, epoch, next_offset, first_offset, retained_from, \
         updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?6, ?7) ON CONFLICT DO UPDATE SET \
         first_offset = CASE WHEN log = excluded.log THEN first_offset ELSE excluded.first_offset END, \
         retained_from = CASE WHEN log = excluded.log THEN retained_from ELSE excluded.retained_from END, \
         log = excluded.log, next_offset = excluded.next_offset, updated_at = excluded.updated_at \
         WHERE epoch = excluded.epoch",
        params![key.sink, key.topic, key.partition, start.log, start.epoch, start.position, now_ms()],
    )?;
    connection.execute(
        "DELETE FROM sw_checkpoints WHERE sink = ? AND topic = ? AND \"partition\" = ?",
        params![key.sink, key.topic, key.partition],
    )?;
    if let Some(gap) = &start.gap {
        connection.execute(
            "INSERT OR REPLACE INTO sw_ranges VALUES (?, ?, ?, ?, 'gap', ?, ?)",
            params![key.sink, key.topic, key.partition, start.log, gap.start, gap.end],
        )?;
    }
    Ok(())
}
