//! Retention: old rows leave in small chunks, by age and by the size of pages in use.
//!
//! Row ids ascend within a partition in the order of storing, so the oldest rows of a partition are one range of ids
//! and no index on `stored_at` is needed. Between chunks the writer is free for commits.

use std::time::Duration;

use rusqlite::{Connection, params};
use streamward_core::table::{OFFSET_BITS, offset_of, row_id};
use streamward_pipeline::store::StoreError;

use super::{Layout, SqlStore, begin, ddl::quoted};
use crate::clock::now_ms;

/// Rows removed per transaction: few enough that a commit waits a few milliseconds at most.
const CHUNK_ROWS: i64 = 250;
/// Pages handed back to the file system per chunk.
const VACUUM_PAGES: u32 = 40;

/// What to keep.
#[derive(Debug, Clone)]
pub struct RetentionPolicy {
    pub age: Option<Duration>,
    pub size_bytes: Option<u64>,
}

/// What one step of retention did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retained {
    /// Rows that went.
    pub rows: u64,
    /// Pages that the file is shorter.
    pub pages: u64,
}

/// One partition's rows.
#[derive(Debug, Clone)]
struct Shelf {
    stream: usize,
    sink: String,
    topic: String,
    partition: i32,
    log: i64,
    retained_from: i64,
}

impl SqlStore {
    /// Bytes of pages in use: the file without its free pages.
    ///
    /// # Errors
    /// If the database is busy or gone.
    pub async fn used_bytes(&self) -> Result<u64, StoreError> {
        self.write(|_, writer| Ok(used_bytes(&writer.connection)?)).await
    }

    /// Removes one chunk of rows that the policy no longer keeps or, where there are none, hands some free pages back
    /// to the file system: beside the load one of them is work enough.
    ///
    /// Callers repeat it, with a pause between, until it finds nothing to do.
    ///
    /// # Errors
    /// If the database is busy or gone.
    pub async fn retain_chunk(&self, policy: &RetentionPolicy) -> Result<Retained, StoreError> {
        let over_size = match policy.size_bytes {
            Some(limit) => self.used_bytes().await? > limit,
            None => false,
        };
        let before_ms = match policy.age {
            Some(age) => now_ms() - i64::try_from(age.as_millis()).unwrap_or(i64::MAX),
            None => i64::MIN,
        };
        let shelves = self.write(|shared, writer| Ok(shelves(&writer.connection, &shared.layout)?)).await?;
        let mut rows = 0;
        for shelf in shelves {
            let limit_ms = if over_size { i64::MAX } else { before_ms };
            rows += self
                .write(move |shared, writer| {
                    let transaction = begin(&mut writer.connection)?;
                    let table = quoted(&shared.layout.streams[shelf.stream].table);
                    let removed = remove_oldest(&transaction, &table, &shelf, limit_ms)?;
                    transaction.commit()?;
                    Ok(removed)
                })
                .await?;
        }
        for statement in old_facts(self.layout()) {
            rows += self
                .write(move |_, writer| {
                    let removed = writer.connection.prepare_cached(&statement)?.execute([before_ms])?;
                    Ok(removed as u64)
                })
                .await?;
        }
        let pages = match rows {
            0 => self.write(|_, writer| Ok(vacuum(&writer.connection)?)).await?,
            _ => 0,
        };
        Ok(Retained { rows, pages })
    }
}

/// Hands some free pages back to the file system; returns how many.
fn vacuum(connection: &Connection) -> Result<u64, rusqlite::Error> {
    let free = |connection: &Connection| connection.query_row("PRAGMA freelist_count", [], |row| row.get::<_, i64>(0));
    let before = free(connection)?;
    // The statement goes one page further with each row that it returns.
    let mut statement = connection.prepare_cached(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
    let mut pages = statement.query([])?;
    while pages.next()?.is_some() {}
    drop(pages);
    Ok(u64::try_from(before - free(connection)?).unwrap_or(0))
}

fn used_bytes(connection: &Connection) -> Result<u64, rusqlite::Error> {
    let bytes = connection.query_row(
        "SELECT ((SELECT page_count FROM pragma_page_count()) - (SELECT freelist_count FROM pragma_freelist_count())) \
         * (SELECT page_size FROM pragma_page_size())",
        [],
        |row| row.get::<_, i64>(0),
    )?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

fn shelves(connection: &Connection, layout: &Layout) -> Result<Vec<Shelf>, rusqlite::Error> {
    let mut select =
        connection.prepare_cached("SELECT sink, topic, \"partition\", log, retained_from FROM sw_positions")?;
    let mut rows = select.query([])?;
    let mut shelves = Vec::new();
    while let Some(row) = rows.next()? {
        let sink: String = row.get(0)?;
        let stream = layout.sinks.iter().find(|(name, _)| **name == *sink).map(|(_, stream)| stream);
        // A pipeline that is no longer configured keeps its rows.
        let Some(stream) = layout.streams.iter().position(|table| Some(&table.stream) == stream) else { continue };
        let (topic, partition) = (row.get(1)?, row.get(2)?);
        shelves.push(Shelf { stream, sink, topic, partition, log: row.get(3)?, retained_from: row.get(4)? });
    }
    Ok(shelves)
}

/// Removes the oldest rows of one partition that were stored before `limit_ms`, and what was noted about records
/// before them.
fn remove_oldest(connection: &Connection, table: &str, shelf: &Shelf, limit_ms: i64) -> Result<u64, rusqlite::Error> {
    let from = row_id(shelf.log, shelf.partition, shelf.retained_from);
    let to = row_id(shelf.log, shelf.partition, (1 << OFFSET_BITS) - 1);
    let last: Option<i64> = connection
        .prepare_cached(&format!(
            "SELECT max(id) FROM (SELECT id, stored_at FROM {table} WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?) \
             WHERE stored_at < ?"
        ))?
        .query_row(params![from, to, CHUNK_ROWS, limit_ms], |row| row.get(0))?;
    let Some(last) = last else { return Ok(0) };
    let removed = connection
        .prepare_cached(&format!("DELETE FROM {table} WHERE id BETWEEN ? AND ?"))?
        .execute(params![from, last])?;
    let retained_from = offset_of(last) + 1;
    let place = params![retained_from, shelf.sink, shelf.topic, shelf.partition, shelf.log];
    connection
        .prepare_cached(
            "UPDATE sw_positions SET retained_from = ? \
             WHERE sink = ? AND topic = ? AND \"partition\" = ? AND log = ?",
        )?
        .execute(place)?;
    connection
        .prepare_cached(
            "DELETE FROM sw_ranges WHERE next_offset <= ?1 AND sink = ?2 AND topic = ?3 AND \"partition\" = ?4 \
             AND log = ?5 AND kind = 'filtered' AND first_offset < ?1",
        )?
        .execute(params![retained_from, shelf.sink, shelf.topic, shelf.partition, shelf.log])?;
    Ok(removed as u64)
}

/// Statements that remove windows, minutes, keys, alerts, dead letters and late notes from before a time, each a chunk
/// at most. What still waits in the outbox stays.
fn old_facts(layout: &Layout) -> Vec<String> {
    let mut statements = Vec::new();
    for stream in &layout.streams {
        let name = stream.stream.replace('\'', "''");
        statements.push(format!("DELETE FROM sw_minutes WHERE stream = '{name}' AND minute < ?1"));
        statements.push(format!("DELETE FROM sw_keys WHERE stream = '{name}' AND last_seen < ?1"));
    }
    for (table, kind) in [("dead_letters", "dead_letter"), ("alerts", "alert")] {
        statements.push(format!(
            "DELETE FROM {table} WHERE id IN (SELECT id FROM (SELECT id, created_at FROM {table} ORDER BY id \
             LIMIT {CHUNK_ROWS}) WHERE created_at < ?1 AND id NOT IN (SELECT fact FROM sw_outbox WHERE kind = '{kind}'))"
        ));
    }
    let windows = layout.windows.iter().map(|window| quoted(&window.window));
    for table in windows.chain(["sw_late".to_owned()]) {
        statements.push(format!(
            "DELETE FROM {table} WHERE created_at < ?1 AND created_at <= coalesce((SELECT created_at FROM {table} \
             ORDER BY created_at LIMIT 1 OFFSET {CHUNK_ROWS}), ?1)"
        ));
    }
    statements
}
