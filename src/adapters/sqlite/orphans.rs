//! Alerts that fire although nobody judges them any more: their rule or pipeline is no longer configured, or their log is
//! not the topic's any more. The server resolves them itself, with the reason as their message, and they are announced
//! like any other.
//!
//! The state of such a rule leaves with them: where the rule comes back, it begins afresh and may fire again.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, params};
use streamward_core::steps::rule::rule_chunk;
use streamward_pipeline::store::{PartitionKey, StoreError};

use super::{
    SqlStore, begin, facts,
    ledger::{Kind, Ledger},
    memory::{begin_rule, forget_removed_steps},
};
use crate::{
    adapters::unjudged::{self, LOG_TOO_SHORT, OTHER_SETTINGS, other_log, unconfigured},
    clock::now_ms,
};

/// Alerts looked at in one transaction.
const CHUNK: i64 = 1_000;

pub(super) const FIRING: &str = "SELECT id, opened, sink, topic, rule, log, \"partition\" FROM alerts INDEXED BY alerts_state \
     WHERE state = 'firing' AND latest = 1 AND opened > ? ORDER BY opened LIMIT ?";
pub(super) const END: &str = "UPDATE alerts SET latest = 0 WHERE id = ? AND latest = 1 AND state = 'firing' RETURNING sink, octet_length(record)";
pub(super) const RESOLVE: &str = "INSERT INTO alerts (id, alert_id, n, rule, stream, \"key\", severity, state, message, \
     record, event_time, topic, \"partition\", \"offset\", created_at, latest, sink, log, opened) \
     SELECT ?, alert_id, n + 1, rule, stream, \"key\", severity, 'resolved', ?, record, event_time, topic, \
     \"partition\", \"offset\", ?, 1, sink, log, opened FROM alerts WHERE id = ?";

/// An alert that fires.
#[derive(Debug)]
pub(super) struct Firing {
    id: i64,
    opened: i64,
    pub sink: String,
    pub topic: String,
    pub rule: String,
    pub log: i64,
    partition: i32,
}

impl SqlStore {
    /// Resolves the alerts of rules and pipelines that the layout does not have.
    pub(super) async fn resolve_unconfigured(&self) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        self.resolve_firing(move |firing| unconfigured(&shared.layout, (&firing.sink, &firing.topic, &firing.rule)))
            .await?;
        self.write(|shared, writer| Ok(forget_removed_steps(&writer.connection, &shared.layout.definitions)?)).await
    }

    /// Resolves the alerts of a partition whose rules begin anew.
    pub(super) async fn resolve_partition(&self, key: &PartitionKey, log: i64) -> Result<(), StoreError> {
        let key = key.clone();
        self.resolve_firing(move |firing| {
            let place = (&*firing.sink, &*firing.topic, firing.partition, firing.log);
            let is_its = place == (&*key.sink, &*key.topic, key.partition, log);
            is_its.then(|| LOG_TOO_SHORT.to_owned())
        })
        .await
    }

    /// Resolves the alerts of the other logs of a topic that a pipeline reads.
    pub(super) async fn resolve_other_logs(&self, sink: &str, topic: &str, log: i64) -> Result<(), StoreError> {
        let (sink, topic) = (sink.to_owned(), topic.to_owned());
        self.resolve_firing(move |firing| {
            let is_other = firing.sink == sink && firing.topic == topic && firing.log != log;
            is_other.then(|| other_log(&topic))
        })
        .await
    }

    /// Resolves the alerts that fire for which there is a reason, a chunk to a transaction.
    async fn resolve_firing<F>(&self, reason: F) -> Result<(), StoreError>
    where
        F: Fn(&Firing) -> Option<String> + Send + Sync + 'static,
    {
        let reason = std::sync::Arc::new(reason);
        let (mut after, mut resolved) = (Some(i64::MIN), 0);
        while let Some(from) = after {
            let reason = reason.clone();
            let (next, count) = self
                .write(move |_, writer| {
                    let transaction = begin(&mut writer.connection)?;
                    let done = resolve_chunk(&transaction, from, &*reason)?;
                    transaction.commit()?;
                    Ok(done)
                })
                .await?;
            (after, resolved) = (next, resolved + count);
        }
        if resolved > 0 {
            tracing::warn!(alerts = resolved, "alerts that nobody judges any more are resolved");
            self.announce_changes();
        }
        Ok(())
    }
}

/// Resolves all alerts of a pipeline whose rules begin anew.
pub(super) fn resolve_of(connection: &Connection, sink: &str) -> Result<(), rusqlite::Error> {
    let reason = |firing: &Firing| (firing.sink == sink).then(|| OTHER_SETTINGS.to_owned());
    let mut after = Some(i64::MIN);
    while let Some(from) = after {
        (after, _) = resolve_chunk(connection, from, &reason)?;
    }
    Ok(())
}

/// Where to go on, and how many were resolved.
fn resolve_chunk(
    connection: &Connection,
    after: i64,
    reason: &dyn Fn(&Firing) -> Option<String>,
) -> Result<(Option<i64>, u64), rusqlite::Error> {
    let mut select = connection.prepare_cached(FIRING)?;
    let firing = select.query_map([after, CHUNK], |row| {
        Ok(Firing {
            id: row.get(0)?,
            opened: row.get(1)?,
            sink: row.get(2)?,
            topic: row.get(3)?,
            rule: row.get(4)?,
            log: row.get(5)?,
            partition: row.get(6)?,
        })
    })?;
    let firing: Vec<Firing> = firing.collect::<Result<_, _>>()?;
    let (mut ledger, mut resolved, mut rules) = (Ledger::default(), 0, BTreeSet::new());
    for alert in &firing {
        let Some(why) = reason(alert) else { continue };
        resolve(connection, &mut ledger, alert.id, &why)?;
        rules.insert((&*alert.sink, &*alert.topic, alert.partition, alert.log, &*alert.rule));
        resolved += 1;
    }
    ledger.close(connection)?;
    for (sink, topic, partition, log, rule) in rules {
        connection
            .prepare_cached(
                "DELETE FROM sw_checkpoints WHERE sink = ? AND topic = ? AND \"partition\" = ? AND log = ? AND chunk = ?",
            )?
            .execute(params![sink, topic, partition, log, rule_chunk(rule)])?;
        // Read again from an older checkpoint, its records would make the rule fire once more, without a word.
        begin_rule(connection, (sink, topic, partition), rule)?;
    }
    let is_full = firing.len() as i64 == CHUNK;
    Ok((firing.last().filter(|_| is_full).map(|last| last.opened), resolved))
}

/// Resolves an alert by its newest transition, if it fires.
pub(super) fn resolve(connection: &Connection, ledger: &mut Ledger, id: i64, why: &str) -> Result<(), rusqlite::Error> {
    let ended: Option<(String, i64)> =
        connection.prepare_cached(END)?.query_row([id], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((sink, record_bytes)) = ended else { return Ok(()) };
    let message = unjudged::message(why);
    let number = ledger.number(connection, Kind::Alert)?;
    connection.prepare_cached(RESOLVE)?.execute(params![number, message, now_ms(), id])?;
    ledger.add(Kind::Alert, message.len() + usize::try_from(record_bytes).unwrap_or(0));
    facts::announce(connection, Kind::Alert, &sink, number)
}
