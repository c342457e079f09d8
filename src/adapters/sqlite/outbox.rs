//! Facts on their way out of SQL: alerts and dead letters in commit order, removed once their target has them.
//!
//! Each pipeline has a part of a page of its own, so that one with a long queue does not make the others wait.

use rusqlite::{Connection, OptionalExtension, Row, params};
use streamward_pipeline::{
    relay::{AlertFact, DeadLetterFact, EntryId, Fact, FactKind, Outbox},
    store::{BoxFuture, StoreError},
};

use super::{SqlStore, begin, ledger::Kind};
use crate::adapters::headers;

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
            taken += fact.bytes();
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
    let alert = AlertFact {
        entry: entry(row)?,
        alert_id: row.get(2)?,
        n: row.get(3)?,
        rule: row.get(4)?,
        stream: row.get(5)?,
        key: row.get(6)?,
        severity: row.get(7)?,
        state: row.get(8)?,
        message: row.get(9)?,
        record: row.get(10)?,
        event_time_ms: row.get(11)?,
        topic: row.get(12)?,
        partition: row.get(13)?,
        offset: row.get(14)?,
        created_at_ms: row.get(15)?,
    };
    Ok(alert.into())
}

fn dead_letter(row: &Row<'_>) -> Result<Fact, rusqlite::Error> {
    let letter = DeadLetterFact {
        entry: entry(row)?,
        key: row.get(2)?,
        value: row.get(3)?,
        headers: headers::of_json(row.get_ref(4)?.as_blob()?),
        log_timestamp_ms: row.get(5)?,
        created_at_ms: row.get(6)?,
        topic: row.get(7)?,
        partition: row.get(8)?,
        offset: row.get(9)?,
        log: row.get(10)?,
        class: row.get(11)?,
        reason: row.get(12)?,
        stage: row.get(13)?,
    };
    Ok(letter.into())
}
