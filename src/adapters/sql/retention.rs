//! Retention: old rows leave in small chunks, by age and by the size of pages in use.
//!
//! Row ids ascend within a partition in the order of storing, so the oldest rows of a partition are one range of ids
//! and no index on `stored_at` is needed. Between chunks the writer is free for commits.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Row};
use streamward_core::table::{OFFSET_BITS, offset_of, row_id};
use streamward_pipeline::store::StoreError;

use super::{SqlStore, commit::now_ms, ddl::quoted, store_error};

/// Rows removed per transaction: few enough that a commit waits a few milliseconds at most.
const CHUNK_ROWS: i64 = 1_000;
/// Pages handed back to the file system per chunk.
const VACUUM_PAGES: u32 = 200;

/// What to keep.
#[derive(Debug, Clone)]
pub struct RetentionPolicy {
    pub age: Option<Duration>,
    pub size_bytes: Option<u64>,
}

/// One partition's rows.
#[derive(Debug, Clone)]
struct Shelf {
    stream: usize,
    sink: String,
    topic: String,
    partition: i32,
    log: i64,
    retained_from: i64,
}

impl SqlStore {
    /// Bytes of pages in use: the file without its free pages.
    ///
    /// # Errors
    /// If the database is busy or gone.
    pub async fn used_bytes(&self) -> Result<u64, StoreError> {
        let mut writer = self.writer().await?;
        let row = sqlx::query(
            "SELECT (SELECT page_count FROM pragma_page_count()) - (SELECT freelist_count FROM pragma_freelist_count()), \
             (SELECT page_size FROM pragma_page_size())",
        )
        .fetch_one(&mut writer.connection)
        .await
        .map_err(store_error)?;
        let (pages, size): (i64, i64) = (row.get(0), row.get(1));
        Ok(u64::try_from(pages * size).unwrap_or(0))
    }

    /// Removes one chunk of rows that the policy no longer keeps; returns how many rows went.
    ///
    /// Callers repeat it, with a pause between, until it returns 0.
    ///
    /// # Errors
    /// If the database is busy or gone.
    pub async fn retain_chunk(&self, policy: &RetentionPolicy) -> Result<u64, StoreError> {
        let over_size = match policy.size_bytes {
            Some(limit) => self.used_bytes().await? > limit,
            None => false,
        };
        let before_ms = match policy.age {
            Some(age) => now_ms() - i64::try_from(age.as_millis()).unwrap_or(i64::MAX),
            None => i64::MIN,
        };
        let shelves = self.shelves().await?;
        let mut removed = 0;
        for shelf in &shelves {
            let limit_ms = if over_size { i64::MAX } else { before_ms };
            removed += self.remove_oldest(shelf, limit_ms).await?;
        }
        removed += self.remove_old_facts(before_ms).await?;
        if removed > 0 {
            let mut writer = self.writer().await?;
            sqlx::query(AssertSqlSafe(format!("PRAGMA incremental_vacuum({VACUUM_PAGES})")))
                .execute(&mut writer.connection)
                .await
                .map_err(store_error)?;
        }
        Ok(removed)
    }

    async fn shelves(&self) -> Result<Vec<Shelf>, StoreError> {
        let mut writer = self.writer().await?;
        let rows = sqlx::query("SELECT sink, topic, \"partition\", log, retained_from FROM sw_positions")
            .fetch_all(&mut writer.connection)
            .await
            .map_err(store_error)?;
        let shelf = |row: &sqlx::sqlite::SqliteRow| {
            let sink: String = row.get(0);
            let stream = self.layout.sinks.iter().find(|(name, _)| **name == *sink).map(|(_, stream)| stream)?;
            let stream = self.layout.streams.iter().position(|table| table.stream == *stream)?;
            let (topic, partition) = (row.get(1), row.get(2));
            Some(Shelf { stream, sink, topic, partition, log: row.get(3), retained_from: row.get(4) })
        };
        Ok(rows.iter().filter_map(shelf).collect())
    }

    /// Removes the oldest rows of one partition that were stored before `limit_ms`.
    async fn remove_oldest(&self, shelf: &Shelf, limit_ms: i64) -> Result<u64, StoreError> {
        let table = quoted(&self.layout.streams[shelf.stream].table);
        let from = row_id(shelf.log, shelf.partition, shelf.retained_from);
        let to = row_id(shelf.log, shelf.partition, (1 << OFFSET_BITS) - 1);
        let mut writer = self.writer().await?;
        writer.begin().await?;
        let last = sqlx::query(AssertSqlSafe(format!(
            "SELECT max(id) FROM (SELECT id, stored_at FROM {table} WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?) \
             WHERE stored_at < ?"
        )))
        .bind(from)
        .bind(to)
        .bind(CHUNK_ROWS)
        .bind(limit_ms)
        .fetch_one(&mut writer.connection)
        .await
        .map_err(store_error)?
        .get::<Option<i64>, _>(0);
        let mut removed = 0;
        if let Some(last) = last {
            removed = sqlx::query(AssertSqlSafe(format!("DELETE FROM {table} WHERE id BETWEEN ? AND ?")))
                .bind(from)
                .bind(last)
                .execute(&mut writer.connection)
                .await
                .map_err(store_error)?
                .rows_affected();
            let retained_from = offset_of(last) + 1;
            sqlx::query("UPDATE sw_positions SET retained_from = ? WHERE sink = ? AND topic = ? AND \"partition\" = ?")
                .bind(retained_from)
                .bind(shelf.sink.as_str())
                .bind(shelf.topic.as_str())
                .bind(shelf.partition)
                .execute(&mut writer.connection)
                .await
                .map_err(store_error)?;
        }
        writer.end().await?;
        Ok(removed)
    }

    /// Removes windows, minutes, alerts, dead letters and late notes by age. What still waits in the outbox stays.
    async fn remove_old_facts(&self, before_ms: i64) -> Result<u64, StoreError> {
        let mut statements = vec![
            "DELETE FROM sw_minutes WHERE minute < ?1".to_owned(),
            "DELETE FROM sw_keys WHERE last_seen < ?1".to_owned(),
            "DELETE FROM sw_late WHERE created_at < ?1".to_owned(),
            format!(
                "DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters WHERE created_at < ?1 AND id NOT IN \
                 (SELECT fact FROM sw_outbox WHERE kind = 'dead_letter') ORDER BY id LIMIT {CHUNK_ROWS})"
            ),
            format!(
                "DELETE FROM alerts WHERE id IN (SELECT id FROM alerts WHERE created_at < ?1 AND id NOT IN \
                 (SELECT fact FROM sw_outbox WHERE kind = 'alert') ORDER BY id LIMIT {CHUNK_ROWS})"
            ),
        ];
        for window in &self.layout.windows {
            statements.push(format!("DELETE FROM {} WHERE created_at < ?1", quoted(&window.window)));
        }
        let mut removed = 0;
        for statement in statements {
            let mut writer = self.writer().await?;
            let done = sqlx::query(AssertSqlSafe(statement)).bind(before_ms).execute(&mut writer.connection).await;
            removed += done.map_err(store_error)?.rows_affected();
        }
        Ok(removed)
    }
}
