//! Taking a partition over: log number, fencing epoch, position and state.

use std::sync::Arc;

use sqlx::{Row, SqliteConnection};
use streamward_core::{output::StateChunk, table::MAX_LOGS};
use streamward_pipeline::store::{
    Assignment, BoxFuture, Checkpoint, LogIdentity, Outcome, PartitionKey, Pending, SinkStore, Start, StoreError,
};

use super::{SqlStore, commit::now_ms, store_error};

impl SinkStore for SqlStore {
    fn assign<'a>(
        &'a self,
        key: &'a PartitionKey,
        log: &'a LogIdentity,
    ) -> BoxFuture<'a, Result<Assignment, StoreError>> {
        Box::pin(async move {
            let mut writer = self.writer().await?;
            writer.begin().await?;
            let assignment = take_over(&mut writer.connection, key, log).await?;
            writer.end().await?;
            Ok(assignment)
        })
    }

    fn start_at<'a>(&'a self, key: &'a PartitionKey, start: Start) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut writer = self.writer().await?;
            writer.begin().await?;
            set_position(&mut writer.connection, key, &start).await?;
            writer.end().await
        })
    }

    fn commit<'a>(&'a self, pending: &'a [Arc<Pending>]) -> BoxFuture<'a, Result<Vec<Outcome>, StoreError>> {
        Box::pin(self.commit_outputs(pending))
    }
}

/// The number of this log among those of its topic; a new one for a log never seen.
async fn log_number(connection: &mut SqliteConnection, topic: &str, log: &LogIdentity) -> Result<i64, StoreError> {
    let known = sqlx::query("SELECT log FROM sw_logs WHERE topic = ? AND cluster_id = ? AND topic_id = ?")
        .bind(topic)
        .bind(log.cluster_id.as_str())
        .bind(log.topic_id.as_str())
        .fetch_optional(&mut *connection)
        .await
        .map_err(store_error)?;
    if let Some(row) = known {
        return Ok(row.get(0));
    }
    let row = sqlx::query(
        "INSERT INTO sw_logs SELECT ?1, coalesce(max(log) + 1, 0), ?2, ?3, ?4 FROM sw_logs WHERE topic = ?1 \
         RETURNING log",
    )
    .bind(topic)
    .bind(log.cluster_id.as_str())
    .bind(log.topic_id.as_str())
    .bind(now_ms())
    .fetch_one(connection)
    .await
    .map_err(store_error)?;
    let number: i64 = row.get(0);
    if number < MAX_LOGS {
        return Ok(number);
    }
    Err(StoreError::Protocol(format!("topic {topic} was created again more than {MAX_LOGS} times")))
}

async fn take_over(
    connection: &mut SqliteConnection,
    key: &PartitionKey,
    identity: &LogIdentity,
) -> Result<Assignment, StoreError> {
    let log = log_number(connection, &key.topic, identity).await?;
    let stored = sqlx::query(
        "UPDATE sw_positions SET epoch = epoch + 1, updated_at = ? \
         WHERE sink = ? AND topic = ? AND \"partition\" = ? RETURNING epoch, log, next_offset",
    )
    .bind(now_ms())
    .bind(key.sink.clone())
    .bind(key.topic.clone())
    .bind(key.partition)
    .fetch_optional(&mut *connection)
    .await
    .map_err(store_error)?;
    let Some(stored) = stored else {
        return Ok(Assignment { epoch: 1, log, position: None, checkpoint: None });
    };
    let epoch = stored.get(0);
    if stored.get::<i64, _>(1) != log {
        return Ok(Assignment { epoch, log, position: None, checkpoint: None });
    }
    let checkpoint = checkpoint(connection, key, log).await?;
    Ok(Assignment { epoch, log, position: Some(stored.get(2)), checkpoint })
}

async fn checkpoint(
    connection: &mut SqliteConnection,
    key: &PartitionKey,
    log: i64,
) -> Result<Option<Checkpoint>, StoreError> {
    let rows = sqlx::query(
        "SELECT chunk, next_offset, bytes FROM sw_checkpoints \
         WHERE sink = ? AND topic = ? AND \"partition\" = ? AND log = ? ORDER BY chunk",
    )
    .bind(key.sink.clone())
    .bind(key.topic.clone())
    .bind(key.partition)
    .bind(log)
    .fetch_all(connection)
    .await
    .map_err(store_error)?;
    let Some(first) = rows.first() else { return Ok(None) };
    let next_offset = first.get(1);
    let chunk = |row: &sqlx::sqlite::SqliteRow| StateChunk { name: row.get::<String, _>(0).into(), bytes: row.get(2) };
    Ok(Some(Checkpoint { next_offset, chunks: rows.iter().map(chunk).collect() }))
}

/// Sets a first position, or one behind a gap; older logs' state is forgotten with the position.
async fn set_position(connection: &mut SqliteConnection, key: &PartitionKey, start: &Start) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO sw_positions (sink, topic, \"partition\", log, epoch, next_offset, first_offset, retained_from, \
         updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?6, ?7) ON CONFLICT DO UPDATE SET \
         first_offset = CASE WHEN log = excluded.log THEN first_offset ELSE excluded.first_offset END, \
         retained_from = CASE WHEN log = excluded.log THEN retained_from ELSE excluded.retained_from END, \
         log = excluded.log, next_offset = excluded.next_offset, updated_at = excluded.updated_at \
         WHERE epoch = excluded.epoch",
    )
    .bind(key.sink.clone())
    .bind(key.topic.clone())
    .bind(key.partition)
    .bind(start.log)
    .bind(start.epoch)
    .bind(start.position)
    .bind(now_ms())
    .execute(&mut *connection)
    .await
    .map_err(store_error)?;
    sqlx::query("DELETE FROM sw_checkpoints WHERE sink = ? AND topic = ? AND \"partition\" = ?")
        .bind(key.sink.clone())
        .bind(key.topic.clone())
        .bind(key.partition)
        .execute(&mut *connection)
        .await
        .map_err(store_error)?;
    let Some(gap) = &start.gap else { return Ok(()) };
    sqlx::query("INSERT OR REPLACE INTO sw_ranges VALUES (?, ?, ?, ?, 'gap', ?, ?)")
        .bind(key.sink.clone())
        .bind(key.topic.clone())
        .bind(key.partition)
        .bind(start.log)
        .bind(gap.start)
        .bind(gap.end)
        .execute(connection)
        .await
        .map(|_| ())
        .map_err(store_error)
}
