//! Retention: what is old leaves in small chunks, by age and by the size of pages in use. Between chunks the writer is free
//! for commits.
//!
//! By age everything leaves but alerts that fire and facts that wait in the outbox. By size the table that holds the
//! most gives its oldest, again and again ([`sizes`]); a table that holds less than its equal share of the limit gives
//! nothing, so that rows do not leave for what others hold. Start at [`SqlStore::retain_chunk`].

pub(super) mod facts;
mod removed;
mod rows;
mod sizes;
#[cfg(test)]
mod tests;

use rusqlite::Connection;
use streamward_pipeline::store::{Retained, RetentionPolicy, StoreError};

use self::sizes::Holder;
use super::{Layout, SqlStore, begin, ledger::Kind};
use crate::clock::now_ms;

/// Rows removed per transaction: few enough that a commit waits a few milliseconds at most.
const CHUNK_ROWS: i64 = 250;
/// Bytes of values after which a transaction ends.
const CHUNK_BYTES: i64 = 1 << 20;
/// Chunks that one call removes by size.
const SIZE_CHUNKS: usize = 8;
/// Pages handed back to the file system per chunk.
const VACUUM_PAGES: u32 = 40;

impl SqlStore {
    /// Bytes of pages in use: the file without its free pages.
    ///
    /// # Errors
    /// If the database is busy or gone.
    pub(super) async fn used_bytes(&self) -> Result<u64, StoreError> {
        self.write(|_, writer| Ok(used_bytes(&writer.connection)?)).await
    }

    /// Removes a few chunks of what the policy no longer keeps or, where there is none, hands some free pages back to the
    /// file system: beside the load one of them is work enough.
    ///
    /// Callers repeat it, with a pause between, until it finds nothing to do.
    ///
    /// # Errors
    /// If the database is busy or gone.
    pub(super) async fn retain_chunk(&self, policy: &RetentionPolicy) -> Result<Retained, StoreError> {
        let mut retained = Retained::default();
        let before_ms = match policy.age {
            Some(age) => now_ms() - i64::try_from(age.as_millis()).unwrap_or(i64::MAX),
            None => i64::MIN,
        };
        if policy.age.is_some() {
            retained.rows += self.retain_age(before_ms).await?;
        }
        if let Some(limit) = policy.size_bytes {
            let (rows, stuck_bytes) = self.retain_size(limit, before_ms).await?;
            retained.rows += rows;
            retained.stuck_bytes = stuck_bytes;
        }
        if retained.rows == 0 {
            retained.pages = self.write(|_, writer| Ok(vacuum(&writer.connection)?)).await?;
        }
        Ok(retained)
    }

    /// Removes a chunk of each table's rows from before a time.
    async fn retain_age(&self, before_ms: i64) -> Result<u64, StoreError> {
        let shelves = self.write(|shared, writer| Ok(rows::shelves(&writer.connection, &shared.layout)?)).await?;
        let mut removed = 0;
        for shelf in shelves {
            removed += self
                .in_transaction(move |connection, layout| {
                    rows::remove_oldest(connection, layout, &shelf, (before_ms, before_ms))
                })
                .await?;
        }
        for window in 0..self.layout().windows.len() {
            removed += self.remove(Holder::Window(window), before_ms).await?;
        }
        for kind in Kind::ALL {
            removed += self.remove(Holder::Facts(kind), before_ms).await?;
        }
        for stream in 0..self.layout().streams.len() {
            removed += self
                .in_transaction(move |connection, layout| {
                    facts::remove_summaries(connection, &layout.streams[stream].stream, before_ms)
                })
                .await?;
        }
        Ok(removed)
    }

    /// Removes chunks of what is largest while the pages in use are over the limit; returns how many rows went, and the
    /// bytes over the limit if none could.
    async fn retain_size(&self, limit: u64, before_ms: i64) -> Result<(u64, u64), StoreError> {
        let mut removed = 0;
        for _ in 0..SIZE_CHUNKS {
            let over = self.used_bytes().await?.saturating_sub(limit);
            if over == 0 {
                break;
            }
            let holders = self
                .write(move |shared, writer| {
                    let used = used_bytes(&writer.connection)?;
                    Ok(sizes::above_their_share(&writer.connection, &shared.layout, (used, limit))?)
                })
                .await?;
            let mut went = 0;
            for holder in holders {
                went = match holder {
                    Holder::Stream(stream) => self.remove_oldest_of(stream, before_ms).await?,
                    Holder::Window(_) | Holder::Facts(_) => self.remove(holder, i64::MAX).await?,
                };
                if went > 0 {
                    break;
                }
            }
            if went == 0 {
                return Ok((removed, if removed == 0 { over } else { 0 }));
            }
            removed += went;
        }
        Ok((removed, 0))
    }

    /// Removes a chunk of a stream's oldest rows.
    async fn remove_oldest_of(&self, stream: usize, before_ms: i64) -> Result<u64, StoreError> {
        self.in_transaction(move |connection, layout| match rows::oldest_shelf(connection, layout, stream)? {
            Some(shelf) => rows::remove_oldest(connection, layout, &shelf, (i64::MAX, before_ms)),
            None => Ok(0),
        })
        .await
    }

    /// Removes a chunk of windows or facts from before a time.
    async fn remove(&self, holder: Holder, before_ms: i64) -> Result<u64, StoreError> {
        self.in_transaction(move |connection, layout| match holder {
            Holder::Stream(_) => Ok(0),
            Holder::Window(window) => facts::remove_windows(connection, &layout.windows[window], before_ms),
            Holder::Facts(Kind::Alert) => facts::remove_alerts(connection, before_ms),
            Holder::Facts(Kind::DeadLetter) => facts::remove_dead_letters(connection, before_ms),
            Holder::Facts(Kind::Late) => facts::remove_late_notes(connection, before_ms),
        })
        .await
    }

    /// Does a job in a transaction of its own.
    async fn in_transaction<F>(&self, job: F) -> Result<u64, StoreError>
    where
        F: FnOnce(&Connection, &Layout) -> Result<u64, rusqlite::Error> + Send + 'static,
    {
        self.write(move |shared, writer| {
            let transaction = begin(&mut writer.connection)?;
            let removed = job(&transaction, &shared.layout)?;
            transaction.commit()?;
            Ok(removed)
        })
        .await
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
