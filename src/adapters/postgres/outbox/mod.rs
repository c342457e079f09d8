//! Facts on their way out of SQL: alerts and dead letters in commit order, removed once their target has them.
//!
//! Each pipeline has a part of a page of its own, so that one with a long queue does not make the others wait. A page is
//! one statement: the pipelines that have entries are found by steps over the primary key.

use sqlx::{PgConnection, Row, postgres::PgRow};
use streamward_pipeline::relay::{AlertFact, DeadLetterFact, EntryId, Fact, FactKind};

use super::{ledger::Kind, moment::Moment, names::clean};
use crate::adapters::headers;

/// Entries that one page has.
const MAX_ENTRIES: i64 = 500;
/// Bytes of keys, values and headers after which a page ends.
const MAX_BYTES: i64 = 4 << 20;

/// Pipelines with entries of a kind, ascending: a step over the primary key each.
const SINKS: &str = "WITH RECURSIVE sinks AS (SELECT min(sink) AS sink FROM sw_outbox WHERE kind = $1 \
     UNION ALL SELECT (SELECT min(sink) FROM sw_outbox WHERE kind = $1 AND sink > sinks.sink) FROM sinks \
     WHERE sinks.sink IS NOT NULL) SELECT sink FROM sinks WHERE sink IS NOT NULL";

/// The oldest entries of some pipelines. An entry is of the page while those before it, of its pipeline, hold fewer bytes
/// than its part: so there is one of each at least. Long values are looked at by their length alone until they are chosen.
const ALERTS: &str = "SELECT e.sink, a.id, a.alert_id, a.n, a.rule, a.stream, a.\"key\", a.severity, a.state, a.message, \
     a.record, a.event_time, a.topic, a.partition, a.\"offset\", a.created_at \
     FROM unnest($1::text[]) WITH ORDINALITY AS s(sink, place) CROSS JOIN LATERAL \
     (SELECT o.sink, o.fact, coalesce(sum(octet_length(m.message) + octet_length(m.record)) OVER \
     (ORDER BY o.fact ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before FROM (SELECT sink, fact \
     FROM sw_outbox WHERE kind = 'alert' AND sink = s.sink ORDER BY fact LIMIT $2) o JOIN alerts m ON m.id = o.fact) e \
     JOIN alerts a ON a.id = e.fact WHERE e.before < $3 ORDER BY s.place, e.fact";

const DEAD_LETTERS: &str = "SELECT e.sink, d.id, d.\"key\", d.value, d.headers, d.log_timestamp, d.created_at, d.topic, \
     d.partition, d.\"offset\", d.log, d.class, d.reason, d.stage \
     FROM unnest($1::text[]) WITH ORDINALITY AS s(sink, place) CROSS JOIN LATERAL \
     (SELECT o.sink, o.fact, coalesce(sum(coalesce(octet_length(m.\"key\"), 0) + coalesce(octet_length(m.value), 0) \
     + octet_length(m.headers)) OVER (ORDER BY o.fact ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before \
     FROM (SELECT sink, fact FROM sw_outbox WHERE kind = 'dead_letter' AND sink = s.sink ORDER BY fact LIMIT $2) o \
     JOIN dead_letters m ON m.id = o.fact) e \
     JOIN dead_letters d ON d.id = e.fact WHERE e.before < $3 ORDER BY s.place, e.fact";

type ReadFact = fn(&PgRow) -> Result<Fact, sqlx::Error>;

/// The oldest entries of every pipeline, in commit order within each, within the bounds of a page.
///
/// # Errors
/// Of the database.
pub async fn page(connection: &mut PgConnection, kind: FactKind) -> Result<Vec<Fact>, sqlx::Error> {
    let sinks: Vec<String> = sqlx::query_scalar(SINKS).bind(stored_as(kind).name()).fetch_all(&mut *connection).await?;
    let Some(parts) = i64::try_from(sinks.len()).ok().filter(|parts| *parts > 0) else { return Ok(Vec::new()) };
    let (sql, fact): (_, ReadFact) = match kind {
        FactKind::Alert => (ALERTS, alert),
        FactKind::DeadLetter => (DEAD_LETTERS, dead_letter),
    };
    let rows = sqlx::query(sql).bind(sinks).bind((MAX_ENTRIES / parts).max(1)).bind(MAX_BYTES / parts);
    rows.fetch_all(connection).await?.iter().map(fact).collect()
}

/// Removes entries that the target has.
///
/// # Errors
/// Of the database.
pub async fn sent(connection: &mut PgConnection, kind: FactKind, entries: &[EntryId]) -> Result<(), sqlx::Error> {
    let (sinks, facts): (Vec<&str>, Vec<i64>) = entries.iter().map(|entry| (entry.sink.as_str(), entry.fact)).unzip();
    sqlx::query(
        "DELETE FROM sw_outbox o USING unnest($2::text[], $3::bigint[]) AS s(sink, fact) \
         WHERE o.kind = $1 AND o.sink = s.sink AND o.fact = s.fact",
    )
    .bind(stored_as(kind).name())
    .bind(sinks)
    .bind(facts)
    .execute(connection)
    .await
    .map(drop)
}

/// Notes on a fact that the target refuses it for good.
///
/// # Errors
/// Of the database.
pub async fn undeliverable(
    connection: &mut PgConnection,
    kind: FactKind,
    (id, why): (i64, &str),
) -> Result<(), sqlx::Error> {
    let sql = match kind {
        FactKind::Alert => "UPDATE alerts SET undeliverable = $1 WHERE id = $2",
        FactKind::DeadLetter => "UPDATE dead_letters SET undeliverable = $1 WHERE id = $2",
    };
    sqlx::query(sql).bind(clean(why)).bind(id).execute(connection).await.map(drop)
}

/// Place of a kind among the store's notices.
pub fn index(kind: FactKind) -> usize {
    match kind {
        FactKind::Alert => 0,
        FactKind::DeadLetter => 1,
    }
}

fn stored_as(kind: FactKind) -> Kind {
    match kind {
        FactKind::Alert => Kind::Alert,
        FactKind::DeadLetter => Kind::DeadLetter,
    }
}

fn entry(row: &PgRow) -> Result<EntryId, sqlx::Error> {
    Ok(EntryId { sink: row.try_get(0)?, fact: row.try_get(1)? })
}

fn ms(row: &PgRow, column: usize) -> Result<i64, sqlx::Error> {
    Ok(row.try_get::<Moment, _>(column)?.0)
}

fn alert(row: &PgRow) -> Result<Fact, sqlx::Error> {
    let alert = AlertFact {
        entry: entry(row)?,
        alert_id: row.try_get(2)?,
        n: row.try_get(3)?,
        rule: row.try_get(4)?,
        stream: row.try_get(5)?,
        key: row.try_get(6)?,
        severity: row.try_get(7)?,
        state: row.try_get(8)?,
        message: row.try_get(9)?,
        record: row.try_get(10)?,
        event_time_ms: ms(row, 11)?,
        topic: row.try_get(12)?,
        partition: row.try_get(13)?,
        offset: row.try_get(14)?,
        created_at_ms: ms(row, 15)?,
    };
    Ok(alert.into())
}

fn dead_letter(row: &PgRow) -> Result<Fact, sqlx::Error> {
    let letter = DeadLetterFact {
        entry: entry(row)?,
        key: row.try_get(2)?,
        value: row.try_get(3)?,
        headers: headers::of_json(row.try_get(4)?),
        log_timestamp_ms: ms(row, 5)?,
        created_at_ms: ms(row, 6)?,
        topic: row.try_get(7)?,
        partition: row.try_get(8)?,
        offset: row.try_get(9)?,
        log: row.try_get(10)?,
        class: row.try_get(11)?,
        reason: row.try_get(12)?,
        stage: row.try_get(13)?,
    };
    Ok(letter.into())
}

#[cfg(test)]
#[cfg(feature = "postgres-tests")]
mod tests;
