//! What the database remembers of the configuration that it was written with, and what a start does about differences.
//!
//! [`read`] looks at a database without changing it, for `check` and for a start that may be refused.
//! [`adopt`] carries out what a start accepts: it runs before the tables of the new configuration are made, and may be
//! repeated. Which differences do harm is decided by [`streamward_core::definition`].

mod dropped;
mod replay;
mod taken;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::Path};

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use streamward_core::definition::{Concerned, Definitions, Remembered, kept_table, said};

use super::{
    BUSY_TIMEOUT, Layout, WriteError, begin,
    damage::{damage_of, is_damaged},
    ddl::quoted,
};
use crate::clock::now_ms;

pub use self::dropped::dropped_windows;
pub(super) use self::replay::begin_rule;

/// Reads what the database at `path` was written with; none where there is no database, or none that remembers.
///
/// # Errors
/// If the file cannot be read, or is no database.
pub fn read(path: &Path) -> Result<Option<Remembered>, String> {
    if !path.is_file() {
        return Ok(None);
    }
    let read = open(path).and_then(|connection| remembered(&connection));
    read.map_err(|error| match damage_of(&error) {
        Some(why) => is_damaged(path, &why),
        None => format!("read what the database {} was written with: {error}", path.display()),
    })
}

/// The database at `path`, to look at.
fn open(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

fn remembered(connection: &Connection) -> Result<Option<Remembered>, rusqlite::Error> {
    if !is_there(connection, "sw_definitions")? {
        return Ok(None);
    }
    let text: Option<String> =
        connection.query_row("SELECT definitions FROM sw_definitions", [], |row| row.get(0)).optional()?;
    let Some(text) = text else { return Ok(None) };
    let wrong = |error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error));
    let definitions: Definitions = serde_json::from_str(&text).map_err(wrong)?;
    let behind = replay::behind(connection, &definitions)?;
    let (rows, partitions) = (taken::tables(connection)?, partitions(connection)?);
    Ok(Some(Remembered { definitions, rows, behind, partitions }))
}

fn partitions(connection: &Connection) -> Result<BTreeMap<(String, String), u32>, rusqlite::Error> {
    let mut select = connection.prepare(
        "SELECT sink, topic, count(*) FROM sw_positions AS position WHERE log = (SELECT max(log) FROM sw_positions AS other \
         WHERE other.sink = position.sink AND other.topic = position.topic) GROUP BY sink, topic",
    )?;
    let rows = select.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?;
    rows.collect()
}

/// Rows of a table, at most [`Remembered::MAX_COUNTED`].
fn count(connection: &Connection, table: &str) -> Result<u64, rusqlite::Error> {
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT {})", quoted(table), Remembered::MAX_COUNTED);
    let count: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Makes the database fit the layout's definitions, as far as they are accepted.
///
/// # Errors
/// A change that would do harm and is not allowed: nothing was changed then.
pub(super) fn adopt(connection: &mut Connection, layout: &Layout) -> Result<(), WriteError> {
    let transaction = begin(connection)?;
    if let Some(remembered) = remembered(&transaction)? {
        for (change, count) in remembered.changes(layout) {
            match (count, &change.concerned, change.allowed_by()) {
                (0, Concerned::Rows(table), _) => make_room(&transaction, table)?,
                (0, Concerned::Replay(_), _) => {}
                (_, concerned, Some(word)) if layout.allowed.iter().any(|allowed| allowed == word) => {
                    allow(&transaction, &remembered.definitions, (concerned, word))?;
                }
                (count, ..) => return Err(WriteError::Protocol(change.message(&said(count)))),
            }
        }
        for (old, new) in remembered.definitions.renamed_pipelines(&layout.definitions) {
            rename_pipeline(&transaction, &old, &new)?;
        }
        replay::begin_new_rules(&transaction, &remembered.definitions, &layout.definitions)?;
        taken::free_index_names(&transaction, &remembered, layout)?;
    }
    forget_removed_steps(&transaction, &layout.definitions)?;
    Ok(transaction.commit()?)
}

/// Writes down what the database is written with from now on, and what it holds of before.
pub(super) fn remember(connection: &Connection, definitions: &Definitions) -> Result<(), WriteError> {
    let before = remembered(connection)?.unwrap_or_default();
    let definitions = definitions.and_before(&before.definitions);
    let text = serde_json::to_string(&definitions).map_err(|error| WriteError::Protocol(error.to_string()))?;
    connection.execute(
        "INSERT INTO sw_definitions VALUES (1, ?1, ?2) ON CONFLICT DO UPDATE SET definitions = excluded.definitions, \
         updated_at = excluded.updated_at WHERE definitions <> excluded.definitions",
        params![text, now_ms()],
    )?;
    Ok(())
}

/// Drops a table that has no row, so that it is made as the configuration wants it.
fn make_room(connection: &Connection, table: &str) -> Result<(), rusqlite::Error> {
    connection.execute_batch(&format!("DROP TABLE IF EXISTS {}", quoted(table)))
}

/// Carries out a change that somebody allows: `window/NAME`, `measure/STREAM` or `replay/PIPELINE`.
fn allow(
    connection: &Connection,
    before: &Definitions,
    (concerned, word): (&Concerned, &str),
) -> Result<(), WriteError> {
    match (concerned, word.split_once('/')) {
        (Concerned::Replay(pipeline), _) => replay::begin_anew(connection, before, pipeline),
        (_, Some(("window", window))) => set_aside(connection, window),
        (_, Some(("measure", stream))) => {
            connection.execute("DELETE FROM sw_minutes WHERE stream = ?", [stream])?;
            Ok(())
        }
        _ => Err(WriteError::Protocol(format!("nobody knows what --allow {word} means"))),
    }
}

/// Keeps a window's table under another name, and forgets the window's state.
fn set_aside(connection: &Connection, window: &str) -> Result<(), WriteError> {
    let mut select = connection.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = ? COLLATE NOCASE AND sql NOT NULL",
    )?;
    let indexes: Vec<String> = select.query_map([window], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for index in indexes {
        connection.execute_batch(&format!("DROP INDEX {}", quoted(&index)))?;
    }
    let mut number = 1;
    while is_there(connection, &kept_table(window, number))? {
        number += 1;
    }
    let kept = kept_table(window, number);
    connection.execute_batch(&format!("ALTER TABLE {} RENAME TO {}", quoted(window), quoted(&kept)))?;
    for kind in ["window", "begin"] {
        connection.execute("DELETE FROM sw_checkpoints WHERE chunk = ?", [format!("{kind}/{window}")])?;
    }
    tracing::warn!(
        window,
        kept,
        "the window means something else from now on: its rows of before are kept in another table"
    );
    Ok(())
}

fn is_there(connection: &Connection, table: &str) -> Result<bool, rusqlite::Error> {
    let known = "SELECT 1 FROM sqlite_schema WHERE name = ? COLLATE NOCASE";
    Ok(connection.query_row(known, [table], |_| Ok(())).optional()?.is_some())
}

/// A pipeline goes on under another name: everything that is kept by its name moves along.
fn rename_pipeline(connection: &Connection, old: &str, new: &str) -> Result<(), WriteError> {
    let is_known =
        connection.query_row("SELECT 1 FROM sw_positions WHERE sink = ? LIMIT 1", [new], |_| Ok(())).optional()?;
    if is_known.is_some() {
        return Err(WriteError::Protocol(format!(
            "pipeline {old} is to be named {new}, and the database has positions of both: give it a third name"
        )));
    }
    for table in [
        "sw_positions",
        "sw_checkpoints",
        "sw_outbox",
        "sw_ranges",
        "sw_decisions",
        "sw_late",
        "alerts",
        "dead_letters",
    ] {
        connection.execute(&format!("UPDATE {table} SET sink = ?1 WHERE sink = ?2"), [new, old])?;
    }
    tracing::info!(old, new, "the pipeline has another name: it goes on where it was");
    Ok(())
}

/// A step that is taken out and put back later is new then: its state would cover less than it says.
pub(super) fn forget_removed_steps(connection: &Connection, definitions: &Definitions) -> Result<(), rusqlite::Error> {
    let mut select = connection.prepare("SELECT DISTINCT sink, chunk FROM sw_checkpoints")?;
    let kept = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let kept: Vec<(String, String)> = kept.collect::<Result<_, _>>()?;
    for (sink, chunk) in kept {
        // A pipeline that is not configured now moves no position, and its state stays as old as that.
        let Some(pipeline) = definitions.pipelines.get(&sink) else { continue };
        let is_a_step = match chunk.split_once('/') {
            Some(("window" | "begin", name)) => pipeline.windows.contains_key(name),
            Some(("rule", name)) => pipeline.rules.iter().any(|rule| rule == name),
            _ => true,
        };
        if !is_a_step {
            connection.execute("DELETE FROM sw_checkpoints WHERE sink = ? AND chunk = ?", [&sink, &chunk])?;
        }
    }
    Ok(())
}
