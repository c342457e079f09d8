//! Facts on their way out of SQL: alerts and dead letters in commit order, removed once their target has them.

use base64::{Engine, engine::general_purpose::STANDARD};
use rusqlite::{Row, params};
use streamward_pipeline::{
    relay::{EntryId, Fact, FactKind, Outbox},
    store::{BoxFuture, StoreError},
};

use super::{SqlStore, begin};
use crate::clock::rfc3339;

/// Entries that one read returns.
const MAX_ENTRIES: i64 = 500;

const ALERTS: &str = "SELECT o.sink, o.topic, o.\"partition\", o.seq, a.id, a.alert_id, a.n, a.rule, a.stream, \
     a.\"key\", a.severity, a.state, a.message, a.record, a.event_time, a.\"offset\", a.created_at, o.log \
     FROM sw_outbox o JOIN alerts a ON a.id = o.fact WHERE o.kind = 'alert' \
     ORDER BY o.sink, o.topic, o.\"partition\", o.log, o.seq LIMIT ?";

const DEAD_LETTERS: &str = "SELECT o.sink, o.topic, o.\"partition\", o.seq, d.id, d.\"key\", d.value, d.headers, \
     d.log_timestamp, d.created_at, d.\"offset\", d.class, d.reason, d.stage, o.log \
     FROM sw_outbox o JOIN dead_letters d ON d.id = o.fact WHERE o.kind = 'dead_letter' \
     ORDER BY o.sink, o.topic, o.\"partition\", o.log, o.seq LIMIT ?";

type ReadFact = fn(&Row<'_>) -> Result<Fact, rusqlite::Error>;

impl Outbox for SqlStore {
    fn changed(&self, kind: FactKind) -> BoxFuture<'_, ()> {
        Box::pin(self.changed[index(kind)].notified())
    }

    fn facts(&self, kind: FactKind) -> BoxFuture<'_, Result<Vec<Fact>, StoreError>> {
        Box::pin(self.write(move |_, writer| {
            let (sql, fact): (_, ReadFact) = match kind {
                FactKind::Alert => (ALERTS, alert),
                FactKind::DeadLetter => (DEAD_LETTERS, dead_letter),
            };
            let mut select = writer.connection.prepare_cached(sql)?;
            let facts = select.query_map([MAX_ENTRIES], fact)?;
            Ok(facts.collect::<Result<_, _>>()?)
        }))
    }

    fn sent<'a>(&'a self, entries: &'a [EntryId]) -> BoxFuture<'a, Result<(), StoreError>> {
        let entries = entries.to_vec();
        Box::pin(self.write(move |_, writer| {
            let transaction = begin(&mut writer.connection)?;
            let mut delete = transaction.prepare_cached(
                "DELETE FROM sw_outbox WHERE sink = ? AND topic = ? AND \"partition\" = ? AND log = ? AND seq = ?",
            )?;
            for entry in &entries {
                delete.execute(params![entry.sink, entry.topic, entry.partition, entry.log, entry.seq])?;
            }
            drop(delete);
            Ok(transaction.commit()?)
        }))
    }

    fn undeliverable<'a>(&'a self, kind: FactKind, id: i64, why: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        let why = why.to_owned();
        Box::pin(self.write(move |_, writer| {
            let sql = match kind {
                FactKind::Alert => "UPDATE alerts SET undeliverable = ? WHERE id = ?",
                FactKind::DeadLetter => "UPDATE dead_letters SET undeliverable = ? WHERE id = ?",
            };
            writer.connection.execute(sql, params![why, id])?;
            Ok(())
        }))
    }
}

/// Place of a kind among the store's notices.
pub(super) fn index(kind: FactKind) -> usize {
    match kind {
        FactKind::Alert => 0,
        FactKind::DeadLetter => 1,
    }
}

fn entry(row: &Row<'_>) -> Result<EntryId, rusqlite::Error> {
    Ok(EntryId {
        sink: row.get(0)?,
        topic: row.get(1)?,
        partition: row.get(2)?,
        log: row.get("log")?,
        seq: row.get(3)?,
    })
}

fn alert(row: &Row<'_>) -> Result<Fact, rusqlite::Error> {
    let record: serde_json::Value = serde_json::from_str(row.get_ref(13)?.as_str()?).unwrap_or_default();
    let entry = entry(row)?;
    let key: Option<String> = row.get(9)?;
    let text = |column: usize| row.get::<_, String>(column);
    let json = serde_json::json!({
        "alert_id": text(5)?, "n": row.get::<_, i64>(6)?, "rule": text(7)?, "stream": text(8)?, "key": key,
        "severity": text(10)?, "state": text(11)?, "message": text(12)?, "record": record,
        "event_time": rfc3339(row.get(14)?), "topic": entry.topic, "partition": entry.partition,
        "offset": row.get::<_, i64>(15)?, "created_at": rfc3339(row.get(16)?),
    });
    Ok(Fact {
        entry,
        id: row.get(4)?,
        key: key.map(String::into_bytes),
        value: Some(json.to_string().into_bytes()),
        headers: Vec::new(),
    })
}

fn dead_letter(row: &Row<'_>) -> Result<Fact, rusqlite::Error> {
    let entry = entry(row)?;
    let text = |value: String| Some(value.into_bytes());
    let offset: i64 = row.get(10)?;
    let mut headers = original_headers(row.get_ref(7)?.as_blob()?);
    let mut id = format!("{}/{}/{}/{offset}", entry.sink, entry.topic, entry.partition);
    if entry.log > 0 {
        // A topic that was made anew counts its offsets anew.
        id = format!("{id}/{}", entry.log);
    }
    let own = [
        ("x-dlq-id", text(id)),
        ("x-dlq-original-topic", text(entry.topic.clone())),
        ("x-dlq-original-partition", text(entry.partition.to_string())),
        ("x-dlq-original-offset", text(offset.to_string())),
        ("x-dlq-original-timestamp", text(row.get::<_, i64>(8)?.to_string())),
        ("x-dlq-failed-at", text(rfc3339(row.get(9)?))),
        ("x-dlq-class", text(row.get(11)?)),
        ("x-dlq-reason", text(row.get(12)?)),
        ("x-dlq-stage", text(row.get(13)?)),
    ];
    headers.extend(own.map(|(name, value)| (name.as_bytes().to_vec(), value)));
    Ok(Fact { entry, id: row.get(4)?, key: row.get(5)?, value: row.get(6)?, headers })
}

/// The record's own headers, as they were stored.
fn original_headers(stored: &[u8]) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    #[derive(serde::Deserialize)]
    struct Header {
        name: String,
        value: Option<String>,
    }
    let headers: Vec<Header> = serde_json::from_slice(stored).unwrap_or_default();
    let bytes = |text: &str| STANDARD.decode(text).unwrap_or_default();
    let header = |header: Header| (bytes(&header.name), header.value.as_deref().map(bytes));
    headers.into_iter().map(header).collect()
}
