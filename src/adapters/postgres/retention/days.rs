//! The partitions of a stream's table, a day each: what is over leaves as a whole, without a row being touched.

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use streamward_core::table::{Layout, MAX_PARTITIONS, OFFSET_BITS, PARTITION_BITS, offset_of};

use super::floors::{self, Floor};
use crate::adapters::postgres::{moment::Moment, names::quoted};

/// How long the removal of a day waits for others' locks: who waits for it keeps commits waiting.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '1s'";
/// SQLSTATE: no lock within the time.
const NO_LOCK: &str = "55P03";

/// Partitions with their ends, which PostgreSQL keeps as text of the session's own time zone; a default one has no end.
const DAYS: &str = "SELECT c.relname::text, (substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \\(''([^'']+)''\\)'))::timestamptz, \
     pg_total_relation_size(c.oid), pg_table_size(c.oid), pg_relation_size(c.oid) \
     FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent \
     JOIN pg_namespace n ON n.oid = p.relnamespace \
     WHERE n.nspname = current_schema() AND p.relname = $1 ORDER BY 2 NULLS LAST";

/// A partition.
#[derive(Debug, Clone)]
pub struct Day {
    pub table: String,
    /// Rows were stored before; none for a partition of everything else.
    pub end_ms: Option<i64>,
    pub size: Size,
}

/// Bytes of a table on disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct Size {
    /// With its indexes.
    pub total: u64,
    /// Without them.
    pub table: u64,
    /// Without long values too.
    pub heap: u64,
}

impl Day {
    /// Whether no row comes any more.
    pub fn is_over(&self, at_ms: i64) -> bool {
        self.end_ms.is_some_and(|end| end <= at_ms)
    }
}

/// The partitions of a table, oldest first; one of everything else comes last.
pub async fn days_of(connection: &mut PgConnection, table: &str) -> Result<Vec<Day>, sqlx::Error> {
    let rows = sqlx::query(DAYS).bind(table).fetch_all(connection).await?;
    let day = |row: &sqlx::postgres::PgRow| {
        let bytes = |column| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
        Ok(Day {
            table: row.try_get(0)?,
            end_ms: row.try_get::<Option<Moment>, _>(1)?.map(|end| end.0),
            size: Size { total: bytes(2)?, table: bytes(3)?, heap: bytes(4)? },
        })
    };
    rows.iter().map(day).collect()
}

/// Drops a partition that is over, with the floors of all logs that it has rows of raised in the same transaction; returns
/// how many rows went. None where somebody reads it for longer than [`LOCK_TIMEOUT`]: the next call tries again.
pub async fn drop_day(
    connection: &mut PgConnection,
    (layout, stream): (&Layout, usize),
    day: &Day,
) -> Result<Option<u64>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let dropped = drop_within(&mut transaction, (layout, stream), &day.table).await;
    match dropped {
        Ok(rows) => transaction.commit().await.map(|()| Some(rows)),
        Err(error) if error.as_database_error().and_then(|error| error.code()).as_deref() == Some(NO_LOCK) => {
            tracing::debug!(table = day.table, "a day that is to be removed is being read");
            transaction.rollback().await.map(|()| None)
        }
        Err(error) => Err(error),
    }
}

async fn drop_within(
    connection: &mut PgConnection,
    (layout, stream): (&Layout, usize),
    day: &str,
) -> Result<u64, sqlx::Error> {
    let day = quoted(day);
    // Who writes into a day that is over has a clock that is behind, and waits. Commits of the present go on while the day
    // is read.
    let begin = format!("{LOCK_TIMEOUT}; LOCK TABLE ONLY {day} IN SHARE MODE");
    sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut *connection).await?;
    let newest = format!("SELECT max(id), count(*) FROM ONLY {day} GROUP BY id >> {OFFSET_BITS}");
    let newest: Vec<(i64, i64)> =
        sqlx::query_as(AssertSqlSafe(newest)).persistent(false).fetch_all(&mut *connection).await?;
    let floors = newest.iter().map(|(id, _)| Floor::above(*id));
    floors::raise(connection, (layout, stream), &floors.collect::<Vec<_>>()).await?;
    sqlx::raw_sql(AssertSqlSafe(format!("DROP TABLE {day}"))).execute(&mut *connection).await?;
    Ok(newest.iter().map(|(_, rows)| rows.unsigned_abs()).sum())
}

/// Removes a chunk of a partition's rows that were stored before a time or at it, in one transaction; returns how many.
pub async fn remove_rows(
    connection: &mut PgConnection,
    (layout, stream): (&Layout, usize),
    (day, until_ms, limit): (&Day, i64, i64),
) -> Result<u64, sqlx::Error> {
    let table = quoted(&day.table);
    let mut transaction = connection.begin().await?;
    let sql = format!(
        "WITH chunk AS MATERIALIZED (SELECT ctid FROM ONLY {table} WHERE stored_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED), \
         gone AS (DELETE FROM ONLY {table} t USING chunk WHERE t.ctid = chunk.ctid RETURNING id) \
         SELECT max(id), count(*) FROM gone GROUP BY id >> {OFFSET_BITS}"
    );
    let gone: Vec<(i64, i64)> = sqlx::query_as(AssertSqlSafe(sql))
        .persistent(false)
        .bind(Moment(until_ms))
        .bind(limit)
        .fetch_all(&mut *transaction)
        .await?;
    let floors = gone.iter().map(|(id, _)| Floor::above(*id));
    floors::raise(&mut transaction, (layout, stream), &floors.collect::<Vec<_>>()).await?;
    transaction.commit().await?;
    Ok(gone.iter().map(|(_, rows)| rows.unsigned_abs()).sum())
}

impl Floor {
    /// Of rows whose newest has an id.
    fn above(id: i64) -> Self {
        let partition = (id >> OFFSET_BITS) & (i64::from(MAX_PARTITIONS) - 1);
        let partition = i32::try_from(partition).unwrap_or(MAX_PARTITIONS);
        Self { log: id >> (OFFSET_BITS + PARTITION_BITS), partition, offset: offset_of(id) + 1 }
    }
}
