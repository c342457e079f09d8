//! Windows, alerts, dead letters, late notes and figures.
//!
//! What waits in the outbox stays until its target has it, and an alert stays while it fires; a resolved one leaves as a
//! whole, some time after it was resolved. What stays stands at the front, so a walk looks at [`WALK_ROWS`] at most.

use rusqlite::{Connection, params};
use streamward_core::table::WindowTable;

use super::{
    CHUNK_BYTES, CHUNK_ROWS,
    removed::{LogPlace, Removed},
};
use crate::adapters::sqlite::{
    ddl::quoted,
    ledger::{self, Kind},
    window_tables::ROW,
};

/// Facts that one call looks at.
const WALK_ROWS: i64 = 2_000;

pub(in crate::adapters::sqlite) const OLDEST_LETTERS: &str = "SELECT id, created_at, EXISTS (SELECT 1 FROM sw_outbox o \
     WHERE o.kind = 'dead_letter' AND o.sink = d.sink AND o.fact = d.id) FROM dead_letters d ORDER BY id LIMIT ?";
pub(in crate::adapters::sqlite) const RESOLVED_ALERTS: &str = "SELECT alert_id FROM (SELECT id, alert_id, sink FROM alerts \
     INDEXED BY alerts_resolved WHERE latest = 1 AND state = 'resolved' AND created_at < ? ORDER BY created_at LIMIT ?) a WHERE NOT EXISTS \
     (SELECT 1 FROM sw_outbox o WHERE o.kind = 'alert' AND o.sink = a.sink AND o.fact = a.id) LIMIT ?";
pub(in crate::adapters::sqlite) const OLD_LATE_NOTES: &str = "DELETE FROM sw_late WHERE (sink, window, topic, log, \
     \"partition\", \"offset\") IN (SELECT sink, window, topic, log, \"partition\", \"offset\" FROM sw_late \
     WHERE created_at < ? ORDER BY created_at LIMIT ?)";

/// Removes a chunk of dead letters from before a time that wait for nobody, and notes whose they were.
pub(super) fn remove_dead_letters(connection: &Connection, before_ms: i64) -> Result<u64, rusqlite::Error> {
    let mut select = connection.prepare_cached(OLDEST_LETTERS)?;
    let mut delete = connection.prepare_cached(&format!(
        "DELETE FROM dead_letters WHERE id = ? RETURNING {}, sink, topic, \"partition\", log, \"offset\"",
        Kind::DeadLetter.bytes_sql()
    ))?;
    let (mut removed, mut bytes) = (Removed::default(), 0);
    let mut letters = select.query([WALK_ROWS])?;
    while removed.count() < CHUNK_ROWS
        && bytes < CHUNK_BYTES
        && let Some(letter) = letters.next()?
        && letter.get::<_, i64>(1)? < before_ms
    {
        if !letter.get::<_, bool>(2)? {
            bytes += delete.query_row([letter.get::<_, i64>(0)?], |row| {
                let log = LogPlace { sink: row.get(1)?, topic: row.get(2)?, partition: row.get(3)?, log: row.get(4)? };
                removed.add(log, row.get(5)?);
                row.get::<_, i64>(0)
            })?;
        }
    }
    ledger::removed(connection, Kind::DeadLetter, bytes)?;
    removed.note(connection)?;
    Ok(removed.count().unsigned_abs())
}

/// Removes a chunk of alerts that were resolved before a time, each with all its transitions.
pub(super) fn remove_alerts(connection: &Connection, before_ms: i64) -> Result<u64, rusqlite::Error> {
    let mut select = connection.prepare_cached(RESOLVED_ALERTS)?;
    let alerts = select.query_map(params![before_ms, WALK_ROWS, CHUNK_ROWS], |row| row.get(0))?;
    let alerts: Vec<String> = alerts.collect::<Result<_, _>>()?;
    let mut delete = connection
        .prepare_cached(&format!("DELETE FROM alerts WHERE alert_id = ? RETURNING {}", Kind::Alert.bytes_sql()))?;
    let (mut removed, mut bytes) = (0, 0);
    for alert in alerts {
        let mut transitions = delete.query([alert])?;
        while let Some(transition) = transitions.next()? {
            removed += 1;
            bytes += transition.get::<_, i64>(0)?;
        }
    }
    ledger::removed(connection, Kind::Alert, bytes)?;
    Ok(removed)
}

/// Removes a chunk of notes about records that windows missed before a time.
pub(super) fn remove_late_notes(connection: &Connection, before_ms: i64) -> Result<u64, rusqlite::Error> {
    let removed = connection.prepare_cached(OLD_LATE_NOTES)?.execute([before_ms, CHUNK_ROWS])?;
    let bytes = removed * Kind::Late.fixed_bytes();
    ledger::removed(connection, Kind::Late, i64::try_from(bytes).unwrap_or(i64::MAX))?;
    Ok(removed as u64)
}

/// Removes a chunk of a window's rows that were written before a time.
pub(super) fn remove_windows(
    connection: &Connection,
    table: &WindowTable,
    before_ms: i64,
) -> Result<u64, rusqlite::Error> {
    let table = quoted(&table.window);
    let removed = connection
        .prepare_cached(&format!(
            "DELETE FROM {table} WHERE {ROW} IN (SELECT {ROW} FROM {table} WHERE created_at < ? \
             ORDER BY created_at LIMIT {CHUNK_ROWS})"
        ))?
        .execute([before_ms])?;
    Ok(removed as u64)
}

/// Removes the figures of a stream's minutes and keys from before a time.
pub(super) fn remove_summaries(connection: &Connection, stream: &str, before_ms: i64) -> Result<u64, rusqlite::Error> {
    let mut removed = 0;
    for sql in [
        "DELETE FROM sw_minutes WHERE stream = ? AND minute < ?",
        "DELETE FROM sw_keys WHERE stream = ? AND last_seen < ?",
    ] {
        removed += connection.prepare_cached(sql)?.execute(params![stream, before_ms])? as u64;
    }
    Ok(removed)
}
