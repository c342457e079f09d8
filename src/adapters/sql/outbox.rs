//! Facts on their way out of SQL: alerts and dead letters in commit order, removed once their target has them.

use base64::{Engine, engine::general_purpose::STANDARD};
use sqlx::{Row, sqlite::SqliteRow};
use streamward_core::schema::instant;
use streamward_pipeline::{
    relay::{EntryId, Fact, FactKind, Outbox},
    store::{BoxFuture, StoreError},
};

use super::{SqlStore, store_error};

/// Entries that one read returns.
const MAX_ENTRIES: i64 = 500;

const ALERTS: &str = "SELECT o.sink, o.topic, o.\"partition\", o.seq, a.id, a.alert_id, a.n, a.rule, a.stream, \
     a.\"key\", a.severity, a.state, a.message, a.record, a.event_time, a.\"offset\", a.created_at \
     FROM sw_outbox o JOIN alerts a ON a.id = o.fact WHERE o.kind = 'alert' \
     ORDER BY o.sink, o.topic, o.\"partition\", o.seq LIMIT ?";

const DEAD_LETTERS: &str = "SELECT o.sink, o.topic, o.\"partition\", o.seq, d.id, d.\"key\", d.value, d.headers, \
     d.log_timestamp, d.created_at, d.\"offset\", d.class, d.reason, d.stage \
     FROM sw_outbox o JOIN dead_letters d ON d.id = o.fact WHERE o.kind = 'dead_letter' \
     ORDER BY o.sink, o.topic, o.\"partition\", o.seq LIMIT ?";

impl Outbox for SqlStore {
    fn changed(&self, kind: FactKind) -> BoxFuture<'_, ()> {
        Box::pin(self.changed[index(kind)].notified())
    }

    fn facts(&self, kind: FactKind) -> BoxFuture<'_, Result<Vec<Fact>, StoreError>> {
        Box::pin(async move {
            let (sql, fact): (_, fn(&SqliteRow) -> Fact) = match kind {
                FactKind::Alert => (ALERTS, alert),
                FactKind::DeadLetter => (DEAD_LETTERS, dead_letter),
            };
            let mut writer = self.writer().await?;
            let rows = sqlx::query(sql).bind(MAX_ENTRIES).fetch_all(&mut writer.connection).await;
            Ok(rows.map_err(store_error)?.iter().map(fact).collect())
        })
    }

    fn sent<'a>(&'a self, entries: &'a [EntryId]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut writer = self.writer().await?;
            writer.begin().await?;
            for entry in entries {
                sqlx::query("DELETE FROM sw_outbox WHERE sink = ? AND topic = ? AND \"partition\" = ? AND seq = ?")
                    .bind(entry.sink.as_str())
                    .bind(entry.topic.as_str())
                    .bind(entry.partition)
                    .bind(entry.seq)
                    .execute(&mut writer.connection)
                    .await
                    .map_err(store_error)?;
            }
            writer.end().await
        })
    }

    fn undeliverable<'a>(&'a self, kind: FactKind, id: i64, why: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let sql = match kind {
                FactKind::Alert => "UPDATE alerts SET undeliverable = ? WHERE id = ?",
                FactKind::DeadLetter => "UPDATE dead_letters SET undeliverable = ? WHERE id = ?",
            };
            let mut writer = self.writer().await?;
            let done = sqlx::query(sql).bind(why).bind(id).execute(&mut writer.connection).await;
            done.map(|_| ()).map_err(store_error)
        })
    }
}

/// Place of a kind among the store's notices.
pub(super) fn index(kind: FactKind) -> usize {
    match kind {
        FactKind::Alert => 0,
        FactKind::DeadLetter => 1,
    }
}

fn entry(row: &SqliteRow) -> EntryId {
    EntryId { sink: row.get(0), topic: row.get(1), partition: row.get(2), seq: row.get(3) }
}

/// Milliseconds since 1970 (UTC) as RFC 3339 text.
pub fn rfc3339(ms: i64) -> String {
    let mut text = Vec::with_capacity(24);
    instant::write(ms, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn alert(row: &SqliteRow) -> Fact {
    let record: serde_json::Value = serde_json::from_str(row.get(13)).unwrap_or_default();
    let key: String = row.get(9);
    let json = serde_json::json!({
        "alert_id": row.get::<String, _>(5), "n": row.get::<i64, _>(6), "rule": row.get::<String, _>(7),
        "stream": row.get::<String, _>(8), "key": key, "severity": row.get::<String, _>(10),
        "state": row.get::<String, _>(11), "message": row.get::<String, _>(12), "record": record,
        "event_time": rfc3339(row.get(14)), "topic": row.get::<String, _>(1), "partition": row.get::<i32, _>(2),
        "offset": row.get::<i64, _>(15), "created_at": rfc3339(row.get(16)),
    });
    Fact {
        entry: entry(row),
        id: row.get(4),
        key: Some(key.into_bytes()),
        value: Some(json.to_string().into_bytes()),
        headers: Vec::new(),
    }
}

fn dead_letter(row: &SqliteRow) -> Fact {
    let entry = entry(row);
    let text = |value: String| Some(value.into_bytes());
    let mut headers = original_headers(&row.get::<Vec<u8>, _>(7));
    let id = format!("{}/{}/{}/{}", entry.sink, entry.topic, entry.partition, row.get::<i64, _>(10));
    headers.extend([
        ("x-dlq-id".to_owned(), text(id)),
        ("x-dlq-original-topic".to_owned(), text(entry.topic.clone())),
        ("x-dlq-original-partition".to_owned(), text(entry.partition.to_string())),
        ("x-dlq-original-offset".to_owned(), text(row.get::<i64, _>(10).to_string())),
        ("x-dlq-original-timestamp".to_owned(), text(row.get::<i64, _>(8).to_string())),
        ("x-dlq-failed-at".to_owned(), text(rfc3339(row.get(9)))),
        ("x-dlq-class".to_owned(), text(row.get(11))),
        ("x-dlq-reason".to_owned(), text(row.get(12))),
        ("x-dlq-stage".to_owned(), text(row.get(13))),
    ]);
    Fact { entry, id: row.get(4), key: row.get(5), value: row.get(6), headers }
}

/// The record's own headers, as they were stored.
fn original_headers(stored: &[u8]) -> Vec<(String, Option<Vec<u8>>)> {
    #[derive(serde::Deserialize)]
    struct Header {
        name: String,
        value: Option<String>,
    }
    let headers: Vec<Header> = serde_json::from_slice(stored).unwrap_or_default();
    let bytes = |text: &str| STANDARD.decode(text).unwrap_or_default();
    let header = |header: Header| {
        (String::from_utf8_lossy(&bytes(&header.name)).into_owned(), header.value.as_deref().map(bytes))
    };
    headers.into_iter().map(header).collect()
}
