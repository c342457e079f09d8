//! Facts of an output beside its rows: dead letters, alerts, late records, filtered ranges.

use std::{ops::Range, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use rusqlite::{Connection, params};
use streamward_core::output::{AlertTransition, DeadLetter, MissedRecord, Output, ranges};
use streamward_pipeline::store::PartitionKey;

use super::{apart, insert::Origin};

/// Kinds of decisions.
pub(super) const DEAD: &str = "dead";
const AHEAD: &str = "ahead";

/// Writes the facts of one run.
pub(super) struct Facts<'a> {
    connection: &'a Connection,
    key: &'a PartitionKey,
    stream: &'a Arc<str>,
    origin: Origin,
    /// Kind and row id of the facts that follow SQL to other places.
    pub outbox: Vec<(&'static str, i64)>,
}

impl<'a> Facts<'a> {
    pub fn new(connection: &'a Connection, key: &'a PartitionKey, stream: &'a Arc<str>, origin: Origin) -> Self {
        Self { connection, key, stream, origin, outbox: Vec::new() }
    }

    /// Writes all facts of an output.
    pub fn write(&mut self, output: &Output) -> Result<(), rusqlite::Error> {
        for letter in &output.dead {
            self.dead_letter(letter)?;
        }
        for alert in &output.alerts {
            self.alert(alert)?;
        }
        for record in &output.missed {
            self.missed(record)?;
        }
        for range in &output.filtered {
            self.filtered(range)?;
        }
        // The database refuses rows of records that were processed: they count as they did.
        let dead = output.dead.iter().filter(|letter| letter.stage != apart::STAGE).map(|letter| letter.offset);
        self.decided(DEAD, &ranges(dead))?;
        self.decided(AHEAD, &ranges(output.ahead.iter().copied()))
    }

    fn dead_letter(&mut self, letter: &DeadLetter) -> Result<(), rusqlite::Error> {
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO dead_letters (sink, topic, \"partition\", log, \"offset\", stage, class, reason, \"key\", \
             value, headers, log_timestamp, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?;
        let id = insert.insert(params![
            self.key.sink,
            self.key.topic,
            self.key.partition,
            self.origin.log,
            letter.offset,
            letter.stage,
            name_of(&letter.class),
            letter.reason,
            letter.key,
            letter.value,
            headers_json(&letter.headers),
            letter.log_timestamp_ms,
            self.origin.stored_at_ms
        ])?;
        self.outbox.push(("dead_letter", id));
        Ok(())
    }

    fn alert(&mut self, alert: &AlertTransition) -> Result<(), rusqlite::Error> {
        self.connection
            // The plus keeps the planner from the index of all newest transitions.
            .prepare_cached("UPDATE alerts SET latest = 0 WHERE alert_id = ? AND +latest = 1")?
            .execute([&alert.alert_id])?;
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO alerts (alert_id, n, rule, stream, \"key\", severity, state, message, record, event_time, \
             topic, \"partition\", \"offset\", created_at, latest) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)",
        )?;
        let id = insert.insert(params![
            alert.alert_id,
            alert.n,
            alert.rule,
            self.stream,
            alert.key,
            alert.severity,
            name_of(&alert.state),
            alert.message,
            alert.record.to_string(),
            alert.event_time_ms,
            self.key.topic,
            self.key.partition,
            alert.offset,
            self.origin.stored_at_ms
        ])?;
        self.outbox.push(("alert", id));
        Ok(())
    }

    fn missed(&self, record: &MissedRecord) -> Result<(), rusqlite::Error> {
        self.connection.prepare_cached("INSERT INTO sw_late VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?.execute(
            params![
                self.key.sink,
                record.window,
                self.key.topic,
                self.key.partition,
                self.origin.log,
                record.offset,
                record.event_time_ms,
                record.window_start_ms,
                record.watermark_ms,
                self.origin.stored_at_ms,
                name_of(&record.why)
            ],
        )?;
        Ok(())
    }

    fn filtered(&self, range: &Range<i64>) -> Result<(), rusqlite::Error> {
        self.connection.prepare_cached("INSERT INTO sw_ranges VALUES (?, ?, ?, ?, 'filtered', ?, ?)")?.execute(
            params![self.key.sink, self.key.topic, self.key.partition, self.origin.log, range.start, range.end],
        )?;
        Ok(())
    }

    fn decided(&self, kind: &str, ranges: &[Range<i64>]) -> Result<(), rusqlite::Error> {
        let key = self.key;
        for range in ranges {
            let place = params![key.sink, key.topic, key.partition, self.origin.log, range.start, range.end, kind];
            self.connection.prepare_cached("INSERT INTO sw_decisions VALUES (?, ?, ?, ?, ?, ?, ?)")?.execute(place)?;
        }
        Ok(())
    }
}

/// The name that serde gives a value.
fn name_of(value: &impl serde::Serialize) -> Option<String> {
    serde_json::to_value(value).ok().and_then(|name| name.as_str().map(str::to_owned))
}

/// Headers as a JSON array of `{name, value}`, names and values in base64 so that no byte is lost.
fn headers_json(headers: &[(Vec<u8>, Option<Vec<u8>>)]) -> Vec<u8> {
    let header = |(name, value): &(Vec<u8>, Option<Vec<u8>>)| serde_json::json!({ "name": STANDARD.encode(name), "value": value.as_ref().map(|value| STANDARD.encode(value)) });
    headers.iter().map(header).collect::<serde_json::Value>().to_string().into_bytes()
}
