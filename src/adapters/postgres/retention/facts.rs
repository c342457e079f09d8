//! Windows, alerts, dead letters, late notes and figures.
//!
//! What waits in the outbox stays until its target has it, and an alert stays while it fires; a resolved one leaves as a
//! whole, some time after it was resolved. What stays stands at the front, so a walk looks at [`WALK_ROWS`] at most.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use streamward_core::table::WindowTable;

use super::{CHUNK_BYTES, CHUNK_FACTS, CHUNK_ROWS, floors::Shelf, removed};
use crate::adapters::postgres::{
    ledger::{self, Kind},
    moment::Moment,
    names::quoted,
};

/// Facts that one call looks at.
const WALK_ROWS: i64 = 2_000;

/// The oldest dead letters from before a time that wait for nobody, until they hold so many bytes.
const LETTERS: &str = "SELECT id FROM (SELECT id, coalesce(sum(bytes) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING \
     AND 1 PRECEDING), 0) AS before FROM (SELECT d.id, {BYTES} AS bytes FROM \
     (SELECT * FROM dead_letters ORDER BY id LIMIT $2) d \
     WHERE d.created_at < $1 AND NOT EXISTS (SELECT 1 FROM sw_outbox o WHERE o.kind = 'dead_letter' \
     AND o.sink = d.sink AND o.fact = d.id) ORDER BY d.id LIMIT $3) f) s WHERE before < $4";
const ALERTS: &str = "SELECT alert_id FROM (SELECT id, alert_id, sink FROM alerts WHERE latest AND state = 'resolved' \
     AND created_at < $1 ORDER BY created_at LIMIT $2) a WHERE NOT EXISTS \
     (SELECT 1 FROM sw_outbox o WHERE o.kind = 'alert' AND o.sink = a.sink AND o.fact = a.id) LIMIT $3";
const LATE_NOTES: &str = "DELETE FROM sw_late l USING (SELECT ctid FROM sw_late WHERE created_at < $1 \
     ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED) old WHERE l.ctid = old.ctid";

/// Removes a chunk of facts of a kind from before a time.
pub async fn remove(connection: &mut PgConnection, kind: Kind, before_ms: i64) -> Result<u64, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let removed = match kind {
        Kind::Alert => remove_alerts(&mut transaction, before_ms).await?,
        Kind::DeadLetter => remove_dead_letters(&mut transaction, before_ms).await?,
        Kind::Late => remove_late_notes(&mut transaction, before_ms).await?,
    };
    transaction.commit().await?;
    Ok(removed)
}

/// Removes dead letters, and notes whose they were. Their positions are held, so that no other server removes the same.
async fn remove_dead_letters(connection: &mut PgConnection, before_ms: i64) -> Result<u64, sqlx::Error> {
    let sql = LETTERS.replace("{BYTES}", &Kind::DeadLetter.bytes_sql());
    let ids: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(Moment(before_ms))
        .bind(WALK_ROWS)
        .bind(CHUNK_FACTS)
        .bind(CHUNK_BYTES)
        .fetch_all(&mut *connection)
        .await?;
    if ids.is_empty() {
        return Ok(0);
    }
    sqlx::query(
        "SELECT p.log FROM sw_positions p WHERE (sink, topic, partition, log) IN (SELECT sink, topic, partition, log \
         FROM dead_letters WHERE id = ANY($1)) ORDER BY sink, topic, partition, log FOR UPDATE OF p",
    )
    .bind(&ids)
    .execute(&mut *connection)
    .await?;
    let places: Vec<(String, String, i32, i64, i64)> = sqlx::query_as(
        "SELECT sink, topic, partition, log, \"offset\" FROM dead_letters WHERE id = ANY($1) \
         ORDER BY sink, topic, partition, log, \"offset\"",
    )
    .bind(&ids)
    .fetch_all(&mut *connection)
    .await?;
    let mut offsets: BTreeMap<Shelf, Vec<i64>> = BTreeMap::new();
    for (sink, topic, partition, log, offset) in places {
        offsets.entry(Shelf { sink, topic, partition, log }).or_default().push(offset);
    }
    removed::note(connection, &offsets).await?;
    lock_ledger(connection, Kind::DeadLetter).await?;
    delete(connection, Kind::DeadLetter, "id = ANY($1)", |query| query.bind(&ids)).await
}

/// Removes alerts that were resolved before a time, each with all its transitions.
async fn remove_alerts(connection: &mut PgConnection, before_ms: i64) -> Result<u64, sqlx::Error> {
    let alerts = sqlx::query_scalar(ALERTS).bind(Moment(before_ms)).bind(WALK_ROWS).bind(CHUNK_FACTS);
    let alerts: Vec<String> = alerts.fetch_all(&mut *connection).await?;
    if alerts.is_empty() {
        return Ok(0);
    }
    lock_ledger(connection, Kind::Alert).await?;
    delete(connection, Kind::Alert, "alert_id = ANY($1)", |query| query.bind(&alerts)).await
}

type Counted<'q> = sqlx::query::QueryAs<'q, sqlx::Postgres, (i64, i64), sqlx::postgres::PgArguments>;

/// Deletes facts for which a condition holds, and counts them out of the ledger.
async fn delete<'q>(
    connection: &mut PgConnection,
    kind: Kind,
    condition: &str,
    bind: impl FnOnce(Counted<'q>) -> Counted<'q>,
) -> Result<u64, sqlx::Error> {
    let sql = format!(
        "WITH gone AS (DELETE FROM {} WHERE {condition} RETURNING {} AS bytes) \
         SELECT count(*), coalesce(sum(bytes), 0)::bigint FROM gone",
        kind.table(),
        kind.bytes_sql()
    );
    let (count, bytes) = bind(sqlx::query_as(AssertSqlSafe(sql))).fetch_one(&mut *connection).await?;
    ledger::removed(connection, kind, bytes).await?;
    Ok(count.unsigned_abs())
}

/// Takes a kind's ledger before its facts, as commits do.
async fn lock_ledger(connection: &mut PgConnection, kind: Kind) -> Result<(), sqlx::Error> {
    let lock = sqlx::query("SELECT 1 FROM sw_facts WHERE kind = $1 FOR UPDATE").bind(kind.name());
    lock.execute(connection).await.map(drop)
}

/// Removes a chunk of notes about records that windows missed before a time.
async fn remove_late_notes(connection: &mut PgConnection, before_ms: i64) -> Result<u64, sqlx::Error> {
    let removed = sqlx::query(LATE_NOTES).bind(Moment(before_ms)).bind(CHUNK_ROWS);
    let removed = removed.execute(&mut *connection).await?.rows_affected();
    if removed > 0 {
        let bytes = i64::try_from(removed).unwrap_or(i64::MAX).saturating_mul(Kind::Late.fixed_bytes());
        ledger::removed(connection, Kind::Late, bytes).await?;
    }
    Ok(removed)
}

/// Removes a chunk of a window's rows that were written before a time. Rows that a commit writes anew now stay.
pub async fn remove_windows(
    connection: &mut PgConnection,
    table: &WindowTable,
    before_ms: i64,
) -> Result<u64, sqlx::Error> {
    let table = quoted(&table.window);
    let sql = format!(
        "DELETE FROM {table} w USING (SELECT ctid FROM {table} WHERE created_at < $1 ORDER BY created_at LIMIT $2 \
         FOR UPDATE SKIP LOCKED) old WHERE w.ctid = old.ctid"
    );
    let removed = sqlx::query(AssertSqlSafe(sql)).bind(Moment(before_ms)).bind(CHUNK_ROWS);
    Ok(removed.execute(connection).await?.rows_affected())
}

/// Removes a chunk of the figures of a stream's minutes and keys from before a time.
pub async fn remove_summaries(connection: &mut PgConnection, stream: &str, before_ms: i64) -> Result<u64, sqlx::Error> {
    let mut removed = 0;
    for (table, time) in [("sw_minutes", "minute"), ("sw_keys", "last_seen")] {
        let sql = format!(
            "DELETE FROM {table} t USING (SELECT ctid FROM {table} WHERE stream = $1 AND {time} < $2 LIMIT $3 \
             FOR UPDATE SKIP LOCKED) old WHERE t.ctid = old.ctid"
        );
        let removing = sqlx::query(AssertSqlSafe(sql)).bind(stream).bind(Moment(before_ms)).bind(CHUNK_ROWS);
        removed += removing.execute(&mut *connection).await?.rows_affected();
    }
    Ok(removed)
}
