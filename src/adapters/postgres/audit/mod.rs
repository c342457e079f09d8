//! What the database says happened to each offset; read-only, for `verify`.

use std::{ops::Range, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection, PgConnection, Row,
    postgres::{PgArguments, PgRow},
};
use streamward_core::table::{offset_of, row_id};
use streamward_pipeline::{
    logs::LogIdentity,
    store::{Audit, BoxFuture, RangeKind, StoreError, StoredPosition},
};
use tokio::time::timeout;

use super::{fault::words, moment::Moment, names::quoted, settings::PostgresSettings};

/// Longest time for one statement: it may read all that there is.
const WITHIN: Duration = Duration::from_secs(300);

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, PgArguments>;

/// A connection that writes nothing.
pub struct PostgresAudit {
    connection: PgConnection,
    /// Whether a statement had no answer in time: what the connection says next would be the answer to that one.
    is_stuck: bool,
}

/// Whether a server stores in the database now, as far as this user may see.
pub async fn is_in_use(settings: &PostgresSettings) -> bool {
    let asked = async {
        let mut audit = PostgresAudit::open(settings).await.ok()?;
        let writers = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() \
                       AND application_name = 'streamward writer')";
        sqlx::query_scalar(writers).fetch_one(&mut audit.connection).await.ok()
    };
    timeout(WITHIN, asked).await.ok().flatten().unwrap_or(false)
}

impl PostgresAudit {
    /// Connects for reading.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn open(settings: &PostgresSettings) -> Result<Self, StoreError> {
        let statement_ms = WITHIN.as_millis().to_string();
        let options = settings.options("audit").options([
            ("default_transaction_read_only", "on"),
            ("statement_timeout", &*statement_ms),
            ("lock_timeout", "5000"),
        ]);
        let connected = timeout(settings.connect_timeout, PgConnection::connect_with(&options)).await;
        let connection = connected.map_err(|_| late(&settings.place()))?.map_err(unavailable)?;
        Ok(Self { connection, is_stuck: false })
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), StoreError> {
        if std::mem::replace(&mut self.is_stuck, true) {
            return Err(late("the database"));
        }
        let done = timeout(WITHIN, sqlx::raw_sql(sql).execute(&mut self.connection)).await;
        let done = done.map_err(|_| late("the database"))?;
        self.is_stuck = false;
        done.map(drop).map_err(unavailable)
    }

    async fn rows(&mut self, query: Query<'_>) -> Result<Vec<PgRow>, StoreError> {
        if std::mem::replace(&mut self.is_stuck, true) {
            return Err(late("the database"));
        }
        let rows = timeout(WITHIN, query.fetch_all(&mut self.connection)).await.map_err(|_| late("the database"))?;
        self.is_stuck = false;
        rows.map_err(unavailable)
    }

    /// Two counts.
    async fn counts(&mut self, query: Query<'_>) -> Result<(u64, u64), StoreError> {
        let rows = self.rows(query).await?;
        let row = rows.first().ok_or_else(|| late("an answer"))?;
        let count = |index| row.try_get::<i64, _>(index).map(i64::unsigned_abs).map_err(unavailable);
        Ok((count(0)?, count(1)?))
    }

    async fn column<T>(&mut self, query: Query<'_>) -> Result<Vec<T>, StoreError>
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        self.rows(query).await?.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(unavailable)
    }
}

impl Audit for PostgresAudit {
    /// PostgreSQL tells of damage where it comes across it, and has no check that is for everybody.
    fn with_damage(&mut self, error: String) -> BoxFuture<'_, String> {
        Box::pin(async move { error })
    }

    fn begin(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.run("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    }

    fn end(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.run("COMMIT"))
    }

    fn retained_from<'a>(&'a mut self, position: &'a StoredPosition) -> BoxFuture<'a, Result<i64, StoreError>> {
        let sql = "SELECT max(retained_from) FROM sw_positions WHERE sink = $1 AND topic = $2 AND partition = $3 AND log = $4";
        Box::pin(async move {
            let floor: Vec<Option<i64>> = self.column(at(sql, position)).await?;
            Ok(floor.first().copied().flatten().unwrap_or(position.retained_from))
        })
    }

    fn positions(&mut self) -> BoxFuture<'_, Result<Vec<StoredPosition>, StoreError>> {
        let sql = "SELECT sink, topic, partition, log, next_offset, first_offset, retained_from, stored, dead, filtered \
                   FROM sw_positions ORDER BY sink COLLATE \"C\", topic COLLATE \"C\", partition, log";
        let position = |row: &PgRow| {
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
        Box::pin(async move {
            let rows = self.rows(sqlx::query(sql)).await?;
            rows.iter().map(position).collect::<Result<_, _>>().map_err(unavailable)
        })
    }

    fn log_number<'a>(
        &'a mut self,
        topic: &'a str,
        log: &'a LogIdentity,
    ) -> BoxFuture<'a, Result<Option<i64>, StoreError>> {
        let sql = "SELECT log, cluster_id, topic_id FROM sw_logs WHERE topic = $1 ORDER BY log DESC";
        Box::pin(async move {
            for row in &self.rows(sqlx::query(sql).bind(topic)).await? {
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
        let id = move |offset| row_id(position.log, position.partition, offset);
        let sql = format!("SELECT id FROM {} WHERE id >= $1 AND id < $2 ORDER BY id", quoted(table));
        Box::pin(async move {
            let query = sqlx::query(AssertSqlSafe(sql)).bind(id(range.start)).bind(id(range.end));
            let ids: Vec<i64> = self.column(query).await?;
            Ok(ids.into_iter().map(offset_of).collect())
        })
    }

    fn count_distinct<'a>(
        &'a mut self,
        table: &'a str,
        column: &'a str,
        since_ms: i64,
    ) -> BoxFuture<'a, Result<(u64, u64), StoreError>> {
        let (table, column) = (quoted(table), quoted(column));
        let sql = format!("SELECT count(*), count(DISTINCT {column}) FROM {table} WHERE stored_at >= $1");
        Box::pin(async move { self.counts(sqlx::query(AssertSqlSafe(sql)).bind(Moment(since_ms))).await })
    }

    fn steps_back<'a>(
        &'a mut self,
        table: &'a str,
        key: &'a str,
        number: &'a str,
        since_ms: i64,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        let (table, key) = (quoted(table), quoted(key));
        let number = format!("coalesce(substring({} from '^.{{5}}([0-9]+)'), '0')::numeric", quoted(number));
        let sql = format!(
            "SELECT count(*), 0::bigint FROM (SELECT {number} AS n, lag({number}) OVER (PARTITION BY {key} ORDER BY id) \
             AS before FROM {table} WHERE stored_at >= $1) s WHERE n <= before"
        );
        Box::pin(async move { Ok(self.counts(sqlx::query(AssertSqlSafe(sql)).bind(Moment(since_ms))).await?.0) })
    }

    fn dead_values<'a>(&'a mut self, topic: &'a str) -> BoxFuture<'a, Result<Vec<Option<Vec<u8>>>, StoreError>> {
        let sql = "SELECT value FROM dead_letters WHERE topic = $1 ORDER BY id";
        Box::pin(async move { self.column(sqlx::query(sql).bind(topic)).await })
    }

    fn alerts(&mut self) -> BoxFuture<'_, Result<(u64, u64), StoreError>> {
        let sql = "SELECT (SELECT count(*) FROM alerts WHERE state = 'firing' AND latest), \
                   (SELECT count(*) FROM sw_outbox WHERE kind = 'alert')";
        Box::pin(self.counts(sqlx::query(sql)))
    }

    fn dead<'a>(
        &'a mut self,
        position: &'a StoredPosition,
        range: Range<i64>,
    ) -> BoxFuture<'a, Result<Vec<i64>, StoreError>> {
        let sql = "SELECT \"offset\" FROM dead_letters WHERE sink = $1 AND topic = $2 AND partition = $3 AND log = $4 \
                   AND \"offset\" >= $5 AND \"offset\" < $6 ORDER BY \"offset\"";
        Box::pin(async move { self.column(at(sql, position).bind(range.start).bind(range.end)).await })
    }

    fn ranges<'a>(
        &'a mut self,
        position: &'a StoredPosition,
        kind: RangeKind,
        range: Range<i64>,
    ) -> BoxFuture<'a, Result<Vec<Range<i64>>, StoreError>> {
        let sql = "SELECT first_offset, next_offset FROM sw_ranges WHERE sink = $1 AND topic = $2 AND partition = $3 \
                   AND log = $4 AND kind = $5 AND next_offset > $6 AND first_offset < $7 ORDER BY first_offset";
        let as_range = |row: &PgRow| Ok(row.try_get(0)?..row.try_get(1)?);
        Box::pin(async move {
            let rows = self.rows(at(sql, position).bind(kind.name()).bind(range.start).bind(range.end)).await?;
            rows.iter().map(as_range).collect::<Result<_, _>>().map_err(unavailable)
        })
    }
}

/// A statement whose first four parameters are a position's key.
fn at<'q>(sql: &'static str, position: &'q StoredPosition) -> Query<'q> {
    sqlx::query(sql)
        .bind(position.sink.as_str())
        .bind(position.topic.as_str())
        .bind(position.partition)
        .bind(position.log)
}

fn late(what: &str) -> StoreError {
    StoreError::Unavailable(format!("{what} takes longer than it should"))
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable(words(&error))
}

#[cfg(test)]
#[cfg(feature = "postgres-tests")]
mod tests;
