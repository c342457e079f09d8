//! Alerts and dead letters.

use std::collections::HashMap;

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, Row as _, postgres::PgRow};
use streamward_core::{
    ports::{AlertQuery, DeadLetterQuery, DeadLetterRow, Page, ReadError, Row},
    reading::{
        facts::{Alert, Transition, firsts},
        unsigned,
        walk::{self, LISTED_VALUE_BYTES, Walked},
    },
};

use super::{super::moment::Moment, PostgresReads, read_error, scan::Scan};

const ALERT_COLUMNS: &str = "id, opened, alert_id, n, rule, stream, \"key\", severity, state, message, record, \
     event_time, topic, partition, \"offset\", created_at, undeliverable";

const DEAD_LETTER_COLUMNS: &str = "id, sink, topic, partition, \"offset\", stage, class, reason, state, \"key\", \
     coalesce(octet_length(value), 0)::bigint AS value_length, headers, log_timestamp, created_at, undeliverable";

pub(super) const FIRST_SQL: &str =
    "SELECT id, message, record, event_time, \"offset\", created_at FROM alerts WHERE id = ANY($1)";

impl PostgresReads {
    pub(super) async fn ask_alerts(&self, query: AlertQuery) -> Result<Page<Row>, ReadError> {
        let mut lease = self.lease().await?;
        let answer = self.bounded(alerts(lease.connection()?, query)).await;
        lease.end(answer)
    }

    pub(super) async fn ask_dead_letters(&self, query: DeadLetterQuery) -> Result<Page<DeadLetterRow>, ReadError> {
        let mut lease = self.lease().await?;
        let answer = self.bounded(dead_letters(lease.connection()?, query)).await;
        lease.end(answer)
    }

    pub(super) async fn ask_dead_letter(&self, id: i64) -> Result<Option<DeadLetterRow>, ReadError> {
        let mut lease = self.lease().await?;
        let answer = self.bounded(dead_letter_of(lease.connection()?, id)).await;
        lease.end(answer)
    }
}

async fn alerts(connection: &mut PgConnection, query: AlertQuery) -> Result<Page<Row>, ReadError> {
    let Walked { rows, total, total_is_estimate, next } = alert_scan(&query).page(connection, &query.page).await?;
    let rows = rows.iter().map(alert).collect::<Result<Vec<_>, _>>().map_err(read_error)?;
    let first = first_transitions(connection, &firsts(&rows)).await?;
    Walked { rows, total, total_is_estimate, next }.into_page(|alert| Ok(alert.to_row(&first)))
}

async fn dead_letters(connection: &mut PgConnection, query: DeadLetterQuery) -> Result<Page<DeadLetterRow>, ReadError> {
    let walked = dead_letter_scan(&query).page(connection, &query.page).await?;
    walked.into_page(dead_letter).map_err(read_error)
}

async fn dead_letter_of(connection: &mut PgConnection, id: i64) -> Result<Option<DeadLetterRow>, ReadError> {
    let sql = AssertSqlSafe(format!("SELECT {DEAD_LETTER_COLUMNS}, value FROM dead_letters WHERE id = $1"));
    let row = sqlx::query(sql).bind(id).fetch_optional(connection).await.map_err(read_error)?;
    row.as_ref().map(dead_letter).transpose().map_err(read_error)
}

pub(super) fn alert_scan(query: &AlertQuery) -> Scan {
    Scan(walk::alerts(query, ALERT_COLUMNS.to_owned()))
}

pub(super) fn dead_letter_scan(query: &DeadLetterQuery) -> Scan {
    let select = format!("{DEAD_LETTER_COLUMNS}, substring(value FROM 1 FOR {LISTED_VALUE_BYTES}) AS value");
    Scan(walk::dead_letters(query, select))
}

/// Transitions by their numbers.
async fn first_transitions(connection: &mut PgConnection, ids: &[i64]) -> Result<HashMap<i64, Transition>, ReadError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query(FIRST_SQL).bind(ids).fetch_all(connection).await.map_err(read_error)?;
    let numbered = rows.iter().map(|row| Ok((row.try_get("id")?, transition(row)?)));
    numbered.collect::<Result<_, _>>().map_err(read_error)
}

fn transition(row: &PgRow) -> Result<Transition, sqlx::Error> {
    Ok(Transition {
        event_time_ms: row.try_get::<Moment, _>("event_time")?.0,
        created_at_ms: row.try_get::<Moment, _>("created_at")?.0,
        offset: row.try_get("offset")?,
        message: row.try_get("message")?,
        record: row.try_get("record")?,
    })
}

fn alert(row: &PgRow) -> Result<Alert, sqlx::Error> {
    Ok(Alert {
        id: row.try_get("id")?,
        opened: row.try_get("opened")?,
        alert_id: row.try_get("alert_id")?,
        n: row.try_get("n")?,
        rule: row.try_get("rule")?,
        stream: row.try_get("stream")?,
        key: row.try_get("key")?,
        severity: row.try_get("severity")?,
        state: row.try_get("state")?,
        topic: row.try_get("topic")?,
        partition: row.try_get::<i32, _>("partition")?.into(),
        undeliverable: row.try_get("undeliverable")?,
        newest: transition(row)?,
    })
}

fn dead_letter(row: &PgRow) -> Result<DeadLetterRow, sqlx::Error> {
    let headers: Vec<u8> = row.try_get("headers")?;
    Ok(DeadLetterRow {
        id: row.try_get("id")?,
        sink: row.try_get("sink")?,
        topic: row.try_get("topic")?,
        partition: row.try_get("partition")?,
        offset: row.try_get("offset")?,
        stage: row.try_get("stage")?,
        class: row.try_get("class")?,
        reason: row.try_get("reason")?,
        state: row.try_get("state")?,
        key: row.try_get("key")?,
        value: row.try_get("value")?,
        value_length: unsigned(row.try_get("value_length")?),
        headers: serde_json::from_slice(&headers).unwrap_or(Value::Null),
        log_timestamp_ms: row.try_get::<Moment, _>("log_timestamp")?.0,
        created_at_ms: row.try_get::<Moment, _>("created_at")?.0,
        undeliverable: row.try_get("undeliverable")?,
    })
}
