//! Alerts and dead letters.

use std::collections::HashMap;

use serde_json::Value;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};
use streamward_core::{
    ports::{AlertQuery, DeadLetterQuery, DeadLetterRow, Page, ReadError, Row},
    reading::{
        facts::{Alert, Transition, firsts},
        unsigned,
        walk::{self, LISTED_VALUE_BYTES, Walked},
    },
};

use super::{SqliteReads, read_error, scan::Scan};

const ALERT_COLUMNS: &str = "id, opened, alert_id, n, rule, stream, \"key\", severity, state, message, record, \
     event_time, topic, partition, \"offset\", created_at, undeliverable";

const DEAD_LETTER_COLUMNS: &str = "id, sink, topic, partition, \"offset\", stage, class, reason, state, \
     \"key\", COALESCE(length(value), 0) AS value_length, headers, log_timestamp, created_at, undeliverable";

impl SqliteReads {
    pub(super) async fn read_alerts(&self, query: AlertQuery) -> Result<Page<Row>, ReadError> {
        let mut connection = self.connection().await?;
        let Walked { rows, total, total_is_estimate, next } =
            alert_scan(&query).page(&mut connection, &query.page).await?;
        let rows = rows.iter().map(alert).collect::<Result<Vec<_>, _>>().map_err(read_error)?;
        let first = first_transitions(&mut connection, &firsts(&rows)).await?;
        Walked { rows, total, total_is_estimate, next }.into_page(|alert| Ok(alert.to_row(&first)))
    }

    pub(super) async fn read_dead_letters(&self, query: DeadLetterQuery) -> Result<Page<DeadLetterRow>, ReadError> {
        let mut connection = self.connection().await?;
        let walked = dead_letter_scan(&query).page(&mut connection, &query.page).await?;
        walked.into_page(dead_letter).map_err(read_error)
    }

    pub(super) async fn read_dead_letter(&self, id: i64) -> Result<Option<DeadLetterRow>, ReadError> {
        let mut connection = self.connection().await?;
        let mut sql = QueryBuilder::new("SELECT ");
        sql.push(DEAD_LETTER_COLUMNS).push(", value FROM dead_letters WHERE id = ").push_bind(id);
        let row = sql.build().fetch_optional(&mut *connection).await.map_err(read_error)?;
        row.as_ref().map(dead_letter).transpose().map_err(read_error)
    }
}

pub(super) fn alert_scan(query: &AlertQuery) -> Scan {
    Scan(walk::alerts(query, ALERT_COLUMNS.to_owned()))
}

pub(super) fn dead_letter_scan(query: &DeadLetterQuery) -> Scan {
    let select = format!("{DEAD_LETTER_COLUMNS}, substr(value, 1, {LISTED_VALUE_BYTES}) AS value");
    Scan(walk::dead_letters(query, select))
}

/// Transitions by their numbers.
async fn first_transitions(
    connection: &mut SqliteConnection,
    ids: &[i64],
) -> Result<HashMap<i64, Transition>, ReadError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = first_sql(ids).build().fetch_all(connection).await.map_err(read_error)?;
    let numbered = rows.iter().map(|row| Ok((row.try_get("id")?, transition(row)?)));
    numbered.collect::<Result<_, _>>().map_err(read_error)
}

/// The statement that reads transitions by their numbers.
pub(super) fn first_sql(ids: &[i64]) -> QueryBuilder<Sqlite> {
    let mut sql =
        QueryBuilder::new("SELECT id, message, record, event_time, \"offset\", created_at FROM alerts WHERE id IN (");
    let mut list = sql.separated(", ");
    for id in ids {
        list.push_bind(*id);
    }
    sql.push(")");
    sql
}

fn transition(row: &SqliteRow) -> Result<Transition, sqlx::Error> {
    Ok(Transition {
        event_time_ms: row.try_get("event_time")?,
        created_at_ms: row.try_get("created_at")?,
        offset: row.try_get("offset")?,
        message: row.try_get("message")?,
        record: row.try_get("record")?,
    })
}

fn alert(row: &SqliteRow) -> Result<Alert, sqlx::Error> {
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
        partition: row.try_get("partition")?,
        undeliverable: row.try_get("undeliverable")?,
        newest: transition(row)?,
    })
}

fn dead_letter(row: &SqliteRow) -> Result<DeadLetterRow, sqlx::Error> {
    let headers: Vec<u8> = row.try_get("headers")?;
    let value_length: i64 = row.try_get("value_length")?;
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
        value_length: unsigned(value_length),
        headers: serde_json::from_slice(&headers).unwrap_or(Value::Null),
        log_timestamp_ms: row.try_get("log_timestamp")?,
        created_at_ms: row.try_get("created_at")?,
        undeliverable: row.try_get("undeliverable")?,
    })
}
