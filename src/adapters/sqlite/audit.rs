//! What the database says happened to each offset; read-only, for `verify`.

use std::{ops::Range, path::Path, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteRow},
};
use streamward_core::table::{offset_of, row_id};
use streamward_pipeline::{
    logs::LogIdentity,
    store::{Audit, BoxFuture, RangeKind, StoreError, StoredPosition},
};

use super::{
    SqlStore,
    damage::{WAY_OUT, of_opening},
    ddl::quoted,
};
use crate::clock::now_ms;

/// A read-only connection.
pub struct SqliteAudit {
    connection: SqliteConnection,
}

/// Faults of a damaged database that are named.
const MAX_FAULTS: usize = 3;

impl SqliteAudit {
    /// Opens the database for reading.
    ///
    /// # Errors
    /// If there is no such database.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .busy_timeout(Duration::from_secs(5))
            .pragma("query_only", "ON");
        let connection = SqliteConnection::connect_with(&options).await;
        Ok(Self { connection: connection.map_err(|error| of_opening(path, &error))? })
    }
}

impl Audit for SqliteAudit {
    fn with_damage(&mut self, error: String) -> BoxFuture<'_, String> {
        Box::pin(async move {
            let checked = sqlx::query(AssertSqlSafe(format!("PRAGMA quick_check({MAX_FAULTS})")));
            let faults = match checked.fetch_all(&mut self.connection).await {
                Ok(rows) => rows.iter().filter_map(|row| row.try_get::<String, _>(0).ok()).collect(),
                Err(damage) => vec![damage.to_string()],
            };
            if faults.iter().all(|fault| fault == "ok") {
                return error;
            }
            format!("{error}: the database is damaged ({}): {WAY_OUT}", faults.join("; "))
        })
    }

    fn begin(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(
            async move { sqlx::raw_sql("BEGIN").execute(&mut self.connection).await.map(drop).map_err(unavailable) },
        )
    }

    fn end(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(
            async move { sqlx::raw_sql("COMMIT").execute(&mut self.connection).await.map(drop).map_err(unavailable) },
        )
    }

    fn retained_from<'a>(&'a mut self, position: &'a StoredPosition) -> BoxFuture<'a, Result<i64, StoreError>> {
        Box::pin(async move {
            let row = sqlx::query(
                "SELECT max(retained_from) FROM sw_positions WHERE sink = ? AND topic = ? AND \"partition\" = ? AND log = ?",
            )
            .bind(position.sink.as_str())
            .bind(position.topic.as_str())
            .bind(position.partition)
            .bind(position.log)
            .fetch_one(&mut self.connection)
            .await
            .map_err(unavailable)?;
            Ok(row.try_get::<Option<i64>, _>(0).map_err(unavailable)?.unwrap_or(position.retained_from))
        })
    }

    fn positions(&mut self) -> BoxFuture<'_, Result<Vec<StoredPosition>, StoreError>> {
        Box::pin(async move {
            let rows = sqlx::query(
                "SELECT sink, topic, \"partition\", log, next_offset, first_offset, retained_from, stored, dead, filtered \
                 FROM sw_positions ORDER BY sink, topic, \"partition\", log",
            )
            .fetch_all(&mut self.connection)
            .await
            .map_err(unavailable)?;
            let position = |row: &SqliteRow| {
                let accounted: [i64; 3] = [row.try_get(7)?, row.try_get(8)?, row.try_get(9)?];
                Ok(StoredPosition {
                    sink: row.try_get(0)?,
                    topic: row.try_get(1)?,
                    partition: row.try_get(2)?,
                    log: row.try_get(3)?,
                    next_offset: row.try_get(4)?,
                    first_offset: row.try_get(5)?,
                    retained_from: row.try_get(6)?,
                    accounted: accounted.into_iter().fold(0, i64::saturating_add),
                })
            };
            rows.iter().map(position).collect::<Result<_, _>>().map_err(unavailable)
        })
    }

    fn log_number<'a>(
        &'a mut self,
        topic: &'a str,
        log: &'a LogIdentity,
    ) -> BoxFuture<'a, Result<Option<i64>, StoreError>> {
        Box::pin(async move {
            let rows = sqlx::query("SELECT log, cluster_id, topic_id FROM sw_logs WHERE topic = ? ORDER BY log DESC")
                .bind(topic)
                .fetch_all(&mut self.connection)
                .await
                .map_err(unavailable)?;
            for row in &rows {
                let seen = |column| row.try_get(column).map_err(unavailable);
                if (LogIdentity { cluster_id: seen(1)?, topic_id: seen(2)? }).is_same(log) {
                    return Ok(Some(row.try_get(0).map_err(unavailable)?));
                }
            }
            Ok(None)
        })
    }

    fn stored<'a>(
        &'a mut self,
        table: &'a str,
        position: &'a StoredPosition,
        range: Range<i64>,
    ) -> BoxFuture<'a, Result<Vec<i64>, StoreError>> {
        Box::pin(async move {
            let id = |offset| row_id(position.log, position.partition, offset);
            let sql = format!("SELECT id FROM {} WHERE id >= ? AND id < ? ORDER BY id", quoted(table));
            let rows = sqlx::query(AssertSqlSafe(sql))
                .bind(id(range.start))
                .bind(id(range.end))
                .fetch_all(&mut self.connection)
                .await
                .map_err(unavailable)?;
            let offset = |row: &SqliteRow| Ok(offset_of(row.try_get(0)?));
            rows.iter().map(offset).collect::<Result<_, _>>().map_err(unavailable)
        })
    }

    fn count_distinct<'a>(
        &'a mut self,
        table: &'a str,
        column: &'a str,
        since_ms: i64,
    ) -> BoxFuture<'a, Result<(u64, u64), StoreError>> {
        Box::pin(async move {
            let (table, column) = (quoted(table), quoted(column));
            let sql = format!("SELECT count(*), count(DISTINCT {column}) FROM {table} WHERE stored_at >= ?");
            let row = sqlx::query(AssertSqlSafe(sql))
                .bind(since_ms)
                .fetch_one(&mut self.connection)
                .await
                .map_err(unavailable)?;
            let count = |index| u64::try_from(row.get::<i64, _>(index)).unwrap_or(0);
            Ok((count(0), count(1)))
        })
    }

    fn steps_back<'a>(
        &'a mut self,
        table: &'a str,
        key: &'a str,
        number: &'a str,
        since_ms: i64,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            let (table, key) = (quoted(table), quoted(key));
            let number = format!("CAST(substr({}, 6) AS INTEGER)", quoted(number));
            let sql = format!(
                "SELECT count(*) FROM (SELECT {number} AS n, lag({number}) OVER (PARTITION BY {key} ORDER BY id) AS before \
                 FROM {table} WHERE stored_at >= ?) WHERE n <= before"
            );
            let row = sqlx::query(AssertSqlSafe(sql))
                .bind(since_ms)
                .fetch_one(&mut self.connection)
                .await
                .map_err(unavailable)?;
            Ok(u64::try_from(row.get::<i64, _>(0)).unwrap_or(0))
        })
    }

    fn dead_values<'a>(&'a mut self, topic: &'a str) -> BoxFuture<'a, Result<Vec<Option<Vec<u8>>>, StoreError>> {
        Box::pin(async move {
            let rows = sqlx::query("SELECT value FROM dead_letters WHERE topic = ?")
                .bind(topic)
                .fetch_all(&mut self.connection)
                .await
                .map_err(unavailable)?;
            Ok(rows.iter().map(|row| row.get(0)).collect())
        })
    }

    fn alerts(&mut self) -> BoxFuture<'_, Result<(u64, u64), StoreError>> {
        Box::pin(async move {
            let sql = "SELECT (SELECT count(*) FROM alerts WHERE state = 'firing' AND latest = 1), \
                       (SELECT count(*) FROM sw_outbox WHERE kind = 'alert')";
            let row = sqlx::query(sql).fetch_one(&mut self.connection).await.map_err(unavailable)?;
            let count = |index| u64::try_from(row.get::<i64, _>(index)).unwrap_or(0);
            Ok((count(0), count(1)))
        })
    }

    fn dead<'a>(
        &'a mut self,
        position: &'a StoredPosition,
        range: Range<i64>,
    ) -> BoxFuture<'a, Result<Vec<i64>, StoreError>> {
        Box::pin(async move {
            let rows = sqlx::query(
                "SELECT \"offset\" FROM dead_letters WHERE sink = ? AND topic = ? AND log = ? AND \"partition\" = ? \
                 AND \"offset\" >= ? AND \"offset\" < ? ORDER BY \"offset\"",
            )
            .bind(position.sink.as_str())
            .bind(position.topic.as_str())
            .bind(position.log)
            .bind(position.partition)
            .bind(range.start)
            .bind(range.end)
            .fetch_all(&mut self.connection)
            .await
            .map_err(unavailable)?;
            rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(unavailable)
        })
    }

    fn ranges<'a>(
        &'a mut self,
        position: &'a StoredPosition,
        kind: RangeKind,
        range: Range<i64>,
    ) -> BoxFuture<'a, Result<Vec<Range<i64>>, StoreError>> {
        Box::pin(async move {
            let rows = sqlx::query(
                "SELECT first_offset, next_offset FROM sw_ranges WHERE sink = ? AND topic = ? AND \"partition\" = ? \
                 AND log = ? AND kind = ? AND next_offset > ? AND first_offset < ? ORDER BY first_offset",
            )
            .bind(position.sink.as_str())
            .bind(position.topic.as_str())
            .bind(position.partition)
            .bind(position.log)
            .bind(kind.name())
            .bind(range.start)
            .bind(range.end)
            .fetch_all(&mut self.connection)
            .await
            .map_err(unavailable)?;
            let range = |row: &SqliteRow| Ok(row.try_get(0)?..row.try_get(1)?);
            rows.iter().map(range).collect::<Result<_, _>>().map_err(unavailable)
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
pub(super) fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

impl SqlStore {
    pub(super) async fn write_action(
        &self,
        who: &str,
        action: &str,
        target: &str,
        detail: &str,
    ) -> Result<(), StoreError> {
        let [who, action, target, detail] = [who, action, target, detail].map(str::to_owned);
        self.write(move |_, writer| {
            let sql = "INSERT INTO sw_audit (at, who, action, target, detail) VALUES (?, ?, ?, ?, ?)";
            writer.connection.execute(sql, rusqlite::params![now_ms(), who, action, target, detail])?;
            Ok(())
        })
        .await
    }
}
