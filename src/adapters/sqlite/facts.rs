//! Facts of an output beside its rows: dead letters, alerts, late records, filtered ranges.

use std::{ops::Range, sync::Arc};

use rusqlite::{Connection, OptionalExtension, params};
use streamward_core::output::{AlertState, AlertTransition, DeadLetter, MissedRecord, Output, ranges};
use streamward_pipeline::store::PartitionKey;

use super::{
    insert::Origin,
    ledger::{Kind, Ledger},
    orphans,
};
use crate::adapters::headers;
use crate::adapters::refused;

/// Ends what was the newest transition of an alert, unless the alert is resolved.
///
/// The plus signs keep the planner from the indexes of all newest transitions: an alert is found by its own id.
pub(super) const SUPERSEDE: &str =
    "UPDATE alerts SET latest = 0 WHERE alert_id = ? AND +latest = 1 AND +state = 'firing' RETURNING opened";
/// Whether any transition of an alert is stored.
pub(super) const IS_KNOWN: &str = "SELECT 1 FROM alerts WHERE alert_id = ?";
pub(super) const INSERT_ALERT: &str = "INSERT INTO alerts (id, alert_id, n, rule, stream, \"key\", severity, state, \
     message, record, event_time, topic, \"partition\", \"offset\", created_at, latest, sink, log, opened) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?)";
const EXTEND_RANGE: &str = "UPDATE sw_ranges SET next_offset = ?1, stored_at = ?2 WHERE sink = ?3 AND topic = ?4 \
     AND \"partition\" = ?5 AND log = ?6 AND kind = 'filtered' AND next_offset = ?7 AND first_offset = \
     (SELECT max(first_offset) FROM sw_ranges WHERE sink = ?3 AND topic = ?4 AND \"partition\" = ?5 AND log = ?6 \
     AND kind = 'filtered' AND first_offset < ?7)";

/// Kinds of decisions.
pub(super) const DEAD: &str = "dead";
const AHEAD: &str = "ahead";

/// Writes the facts of one run.
pub(super) struct Facts<'a> {
    connection: &'a Connection,
    key: &'a PartitionKey,
    stream: &'a Arc<str>,
    origin: Origin,
    ledger: Ledger,
    to_announce: bool,
    fired: Vec<i64>,
}

impl<'a> Facts<'a> {
    pub fn new(connection: &'a Connection, key: &'a PartitionKey, stream: &'a Arc<str>, origin: Origin) -> Self {
        Self { connection, key, stream, origin, ledger: Ledger::default(), to_announce: false, fired: Vec::new() }
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
        let dead = output.dead.iter().filter(|letter| letter.stage != refused::STAGE).map(|letter| letter.offset);
        self.decided(DEAD, &ranges(dead))?;
        self.decided(AHEAD, &ranges(output.ahead.iter().copied()))
    }

    /// Numbers of the transitions with which alerts fired.
    pub fn fired(&self) -> &[i64] {
        &self.fired
    }

    /// Resolves what has fired in this run and still does.
    pub fn resolve_fired(&mut self, why: &str) -> Result<(), rusqlite::Error> {
        for id in &self.fired {
            orphans::resolve(self.connection, &mut self.ledger, *id, why)?;
        }
        Ok(())
    }

    /// Ends the run; says whether something waits in the outbox.
    pub fn close(self) -> Result<bool, rusqlite::Error> {
        self.ledger.close(self.connection)?;
        Ok(self.to_announce)
    }

    fn dead_letter(&mut self, letter: &DeadLetter) -> Result<(), rusqlite::Error> {
        let id = self.ledger.number(self.connection, Kind::DeadLetter)?;
        let headers = headers::to_json(&letter.headers);
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let bytes = length(&letter.key) + length(&letter.value) + headers.len() + letter.reason.len();
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO dead_letters (id, sink, topic, \"partition\", log, \"offset\", stage, class, reason, \"key\", \
             value, headers, log_timestamp, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?;
        insert.execute(params![
            id,
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
            headers,
            letter.log_timestamp_ms,
            self.origin.stored_at_ms
        ])?;
        self.ledger.add(Kind::DeadLetter, bytes);
        self.announce(Kind::DeadLetter, id)
    }

    fn alert(&mut self, alert: &AlertTransition) -> Result<(), rusqlite::Error> {
        let earlier = match alert.n {
            0 => None,
            _ => self.supersede(&alert.alert_id)?,
        };
        if earlier.is_none() && alert.n > 0 && self.is_known(&alert.alert_id)? {
            // The server resolved it itself, when its log or its rule was gone.
            return Ok(());
        }
        let id = self.ledger.number(self.connection, Kind::Alert)?;
        let record = alert.record.to_string();
        self.connection.prepare_cached(INSERT_ALERT)?.execute(params![
            id,
            alert.alert_id,
            alert.n,
            alert.rule,
            self.stream,
            alert.key,
            alert.severity,
            name_of(&alert.state),
            alert.message,
            record,
            alert.event_time_ms,
            self.key.topic,
            self.key.partition,
            alert.offset,
            self.origin.stored_at_ms,
            self.key.sink,
            self.origin.log,
            earlier.unwrap_or(id)
        ])?;
        self.ledger.add(Kind::Alert, alert.message.len() + record.len());
        if alert.state == AlertState::Firing {
            self.fired.push(id);
        }
        self.announce(Kind::Alert, id)
    }

    /// The place in lists of an alert that fires, whose newest transition is being superseded.
    fn supersede(&self, alert_id: &str) -> Result<Option<i64>, rusqlite::Error> {
        self.connection.prepare_cached(SUPERSEDE)?.query_row([alert_id], |row| row.get(0)).optional()
    }

    fn is_known(&self, alert_id: &str) -> Result<bool, rusqlite::Error> {
        self.connection.prepare_cached(IS_KNOWN)?.exists([alert_id])
    }

    fn announce(&mut self, kind: Kind, id: i64) -> Result<(), rusqlite::Error> {
        self.to_announce = true;
        announce(self.connection, kind, &self.key.sink, id)
    }

    fn missed(&mut self, record: &MissedRecord) -> Result<(), rusqlite::Error> {
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
        self.ledger.add(Kind::Late, 0);
        Ok(())
    }

    /// Notes a range, as part of the one that it continues if there is one.
    fn filtered(&self, range: &Range<i64>) -> Result<(), rusqlite::Error> {
        let (key, log, now_ms) = (self.key, self.origin.log, self.origin.stored_at_ms);
        let extended = self.connection.prepare_cached(EXTEND_RANGE)?.execute(params![
            range.end,
            now_ms,
            key.sink,
            key.topic,
            key.partition,
            log,
            range.start
        ])?;
        if extended == 0 {
            self.connection
                .prepare_cached("INSERT INTO sw_ranges VALUES (?, ?, ?, ?, 'filtered', ?, ?, ?)")?
                .execute(params![key.sink, key.topic, key.partition, log, range.start, range.end, now_ms])?;
        }
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

/// Lets a fact wait for its relay.
pub(super) fn announce(connection: &Connection, kind: Kind, sink: &str, id: i64) -> Result<(), rusqlite::Error> {
    connection.prepare_cached("INSERT INTO sw_outbox VALUES (?, ?, ?)")?.execute(params![kind.name(), sink, id])?;
    Ok(())
}

/// The name that serde gives a value.
fn name_of(value: &impl serde::Serialize) -> Option<String> {
    serde_json::to_value(value).ok().and_then(|name| name.as_str().map(str::to_owned))
}
