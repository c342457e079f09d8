//! Facts on their way out of SQL: alerts and dead letters in commit order, removed once their target has them.
//!
//! Each pipeline has a part of a page of its own, so that one with a long queue does not make the others wait.

use base64::{Engine, engine::general_purpose::STANDARD};
use rusqlite::{Connection, OptionalExtension, Row, params};
use streamward_pipeline::{
    relay::{EntryId, Fact, FactKind, Outbox},
    store::{BoxFuture, StoreError},
};

use super::{SqlStore, begin, ledger::Kind};
use crate::clock::rfc3339;

/// Entries that one page has.
const MAX_ENTRIES: usize = 500;
/// Bytes of keys, values and headers after which a page ends.
const MAX_BYTES: usize = 4 << 20;

const NEXT_SINK: &str = "SELECT min(sink) FROM sw_outbox WHERE kind = ? AND sink > ?";

pub(super) const ALERTS: &str = "SELECT o.sink, a.id, a.alert_id, a.n, a.rule, a.stream, a.\"key\", a.severity, \
     a.state, a.message, a.record, a.event_time, a.topic, a.\"partition\", a.\"offset\", a.created_at \
     FROM sw_outbox o JOIN alerts a ON a.id = o.fact WHERE o.kind = 'alert' AND o.sink = ? ORDER BY o.fact LIMIT ?";

pub(super) const DEAD_LETTERS: &str = "SELECT o.sink, d.id, d.\"key\", d.value, d.headers, d.log_timestamp, \
     d.created_at, d.topic, d.\"partition\", d.\"offset\", d.log, d.class, d.reason, d.stage \
     FROM sw_outbox o JOIN dead_letters d ON d.id = o.fact WHERE o.kind = 'dead_letter' AND o.sink = ? \
     ORDER BY o.fact LIMIT ?";

pub(super) const SENT: &str = "DELETE FROM sw_outbox WHERE kind = ? AND sink = ? AND fact = ?";

type ReadFact = fn(&Row<'_>) -> Result<Fact, rusqlite::Error>;

impl Outbox for SqlStore {
    fn changed(&self, kind: FactKind) -> BoxFuture<'_, ()> {
        Box::pin(self.changed[index(kind)].notified())
    }

    fn facts(&self, kind: FactKind) -> BoxFuture<'_, Result<Vec<Fact>, StoreError>> {
        Box::pin(self.write(move |_, writer| Ok(page(&writer.connection, kind)?)))
    }

    fn sent<'a>(&'a self, kind: FactKind, entries: &'a [EntryId]) -> BoxFuture<'a, Result<(), StoreError>> {
        let entries = entries.to_vec();
        Box::pin(self.write(move |_, writer| {
            let transaction = begin(&mut writer.connection)?;
            let mut delete = transaction.prepare_cached(SENT)?;
            for entry in &entries {
                delete.execute(params![stored_as(kind).name(), entry.sink, entry.fact])?;
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

fn stored_as(kind: FactKind) -> Kind {
    match kind {
        FactKind::Alert => Kind::Alert,
        FactKind::DeadLetter => Kind::DeadLetter,
    }
}

/// The oldest entries of each pipeline, as many of each, within the bounds of a page.
fn page(connection: &Connection, kind: FactKind) -> Result<Vec<Fact>, rusqlite::Error> {
    let (sql, fact): (_, ReadFact) = match kind {
        FactKind::Alert => (ALERTS, alert),
        FactKind::DeadLetter => (DEAD_LETTERS, dead_letter),
    };
    let sinks = sinks(connection, kind)?;
    let parts = sinks.len().max(1);
    let (entries, bytes) = ((MAX_ENTRIES / parts).max(1), MAX_BYTES / parts);
    let mut select = connection.prepare_cached(sql)?;
    let mut facts = Vec::new();
    for sink in &sinks {
        let mut rows = select.query(params![sink, i64::try_from(entries).unwrap_or(i64::MAX)])?;
        let mut taken = 0;
        while taken < bytes
            && let Some(row) = rows.next()?
        {
            let fact = fact(row)?;
            taken += bytes_of(&fact);
            facts.push(fact);
        }
    }
    Ok(facts)
}

/// Pipelines that have entries.
fn sinks(connection: &Connection, kind: FactKind) -> Result<Vec<String>, rusqlite::Error> {
    let mut sinks: Vec<String> = Vec::new();
    let mut next = connection.prepare_cached(NEXT_SINK)?;
    loop {
        let last = sinks.last().map_or("", String::as_str);
        match next.query_row(params![stored_as(kind).name(), last], |row| row.get(0)).optional()?.flatten() {
            Some(sink) => sinks.push(sink),
            None => return Ok(sinks),
        }
    }
}

fn bytes_of(fact: &Fact) -> usize {
    let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let headers: usize = fact.headers.iter().map(|(name, value)| name.len() + length(value)).sum();
    length(&fact.key) + length(&fact.value) + headers
}

/// Place of a kind among the store's notices.
pub(super) fn index(kind: FactKind) -> usize {
    match kind {
        FactKind::Alert => 0,
        FactKind::DeadLetter => 1,
    }
}

fn entry(row: &Row<'_>) -> Result<EntryId, rusqlite::Error> {
    Ok(EntryId { sink: row.get(0)?, fact: row.get(1)? })
}

fn alert(row: &Row<'_>) -> Result<Fact, rusqlite::Error> {
    let record: serde_json::Value = serde_json::from_str(row.get_ref(10)?.as_str()?).unwrap_or_default();
    let key: Option<String> = row.get(6)?;
    let (rule, integer) = (row.get::<_, String>(4)?, |column: usize| row.get::<_, i64>(column));
    let text = |column: usize| row.get::<_, String>(column);
    let json = serde_json::json!({
        "alert_id": text(2)?, "n": integer(3)?, "rule": rule, "stream": text(5)?, "key": key,
        "severity": text(7)?, "state": text(8)?, "message": text(9)?, "record": record,
        "event_time": rfc3339(integer(11)?), "topic": text(12)?, "partition": integer(13)?,
        "offset": integer(14)?, "created_at": rfc3339(integer(15)?),
    });
    Ok(Fact {
        entry: entry(row)?,
        in_order: Some(serde_json::json!([rule, key]).to_string()),
        key: key.map(String::into_bytes),
        value: Some(json.to_string().into_bytes()),
        headers: Vec::new(),
    })
}

fn dead_letter(row: &Row<'_>) -> Result<Fact, rusqlite::Error> {
    let entry = entry(row)?;
    let text = |value: String| Some(value.into_bytes());
    let (topic, partition): (String, i32) = (row.get(7)?, row.get(8)?);
    let (offset, log): (i64, i64) = (row.get(9)?, row.get(10)?);
    let mut headers = original_headers(row.get_ref(4)?.as_blob()?);
    let mut id = format!("{}/{topic}/{partition}/{offset}", entry.sink);
    if log > 0 {
        // A topic that was made anew counts its offsets anew.
        id = format!("{id}/{log}");
    }
    let own = [
        ("x-dlq-id", text(id)),
        ("x-dlq-original-topic", text(topic)),
        ("x-dlq-original-partition", text(partition.to_string())),
        ("x-dlq-original-offset", text(offset.to_string())),
        ("x-dlq-original-timestamp", text(row.get::<_, i64>(5)?.to_string())),
        ("x-dlq-failed-at", text(rfc3339(row.get(6)?))),
        ("x-dlq-class", text(row.get(11)?)),
        ("x-dlq-reason", text(row.get(12)?)),
        ("x-dlq-stage", text(row.get(13)?)),
    ];
    headers.extend(own.map(|(name, value)| (name.as_bytes().to_vec(), value)));
    Ok(Fact { entry, in_order: None, key: row.get(2)?, value: row.get(3)?, headers })
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
