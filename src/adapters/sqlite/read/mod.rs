//! Reads of SQLite for the HTTP side: the adapter behind [`ReadStore`].
//!
//! Its connections are its own and read-only, so a slow read holds no lock that the writer waits for (WAL), and each
//! statement is interrupted at [`ReadSettings::statement_timeout`].
//!
//! Invariant: no statement's work grows with the length of the history. Lists walk an index from their cursor and stop;
//! a filter that no index serves looks at [`SCAN_LIMIT`](streamward_core::reading::walk::SCAN_LIMIT) rows at most per page and hands out a cursor to go on;
//! totals are counted up to [`COUNT_LIMIT`](streamward_core::reading::walk::COUNT_LIMIT) or come from the positions and then say that they are estimates.
//!
//! It knows tables and indexes by name only; making them is the writer's part. Start at [`scan::Scan`].

mod facts;
mod rows;
mod scan;
#[cfg(test)]
mod tests;
mod windows;

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use sqlx::{
    Sqlite, SqlitePool,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};
use streamward_core::ports::{
    AlertQuery, Answer, DeadLetterQuery, DeadLetterRow, Page, PositionRow, ReadError, ReadStore, Row, RowQuery,
    StatsQuery, StreamStats, StreamSummary, WindowQuery,
};
use streamward_core::{
    reading,
    table::{StreamTable, WindowTable},
};

use super::damage::{Damage, is_damage_of};

/// How many SQLite instructions run between two looks at the clock.
const PROGRESS_STEPS: i32 = 2_000;

/// Bounds of the reading side.
#[derive(Debug, Clone)]
pub struct ReadSettings {
    /// Connections, each with a thread of its own.
    pub connections: u32,
    /// A statement that runs longer is interrupted.
    pub statement_timeout: Duration,
    /// How long a read waits for a connection.
    pub acquire_timeout: Duration,
    /// Page cache of each connection, in KiB.
    pub cache_kib: u32,
}

impl ReadSettings {
    /// Of [`Self::connections`].
    pub const CONNECTIONS: RangeInclusive<u32> = 1..=64;
}

impl Default for ReadSettings {
    fn default() -> Self {
        Self {
            connections: 4,
            statement_timeout: Duration::from_secs(2),
            acquire_timeout: Duration::from_secs(5),
            cache_kib: 2_048,
        }
    }
}

/// The read side of a SQLite file.
#[derive(Debug)]
pub struct SqliteReads {
    /// Another one after the database was opened anew.
    pool: RwLock<SqlitePool>,
    file: PathBuf,
    streams: Vec<StreamTable>,
    windows: Vec<WindowTable>,
    settings: ReadSettings,
    damage: Damage,
}

impl SqliteReads {
    /// Opens a file that exists, with all tables of `streams` and `windows` in it.
    ///
    /// # Errors
    /// [`ReadError::Unavailable`] if the file cannot be opened.
    pub async fn open(
        file: &Path,
        streams: Vec<StreamTable>,
        windows: Vec<WindowTable>,
        settings: ReadSettings,
    ) -> Result<Self, ReadError> {
        let pool = RwLock::new(pool(file, &settings).await?);
        Ok(Self { pool, file: file.to_owned(), streams, windows, settings, damage: Damage::default() })
    }

    /// Closes all connections, waiting for statements in hand. Reads fail until [`Self::reopen`].
    pub async fn close(&self) {
        let pool = self.pool.read().clone();
        pool.close().await;
    }

    /// Opens connections anew after [`Self::close`].
    ///
    /// # Errors
    /// [`ReadError::Unavailable`] if the file cannot be opened.
    pub async fn reopen(&self) -> Result<(), ReadError> {
        let pool = pool(&self.file, &self.settings).await?;
        *self.pool.write() = pool;
        self.damage.forget();
        Ok(())
    }

    /// Damage that a read came across.
    #[must_use]
    pub fn damage(&self) -> Option<String> {
        self.damage.found()
    }

    /// An answer, of which damage is kept.
    async fn noted<T>(&self, read: impl Future<Output = Result<T, ReadError>>) -> Result<T, ReadError> {
        let answer = read.await;
        if let Err(ReadError::Damaged(why)) = &answer {
            self.damage.note_read(why);
        }
        answer
    }

    /// A connection whose statements are interrupted at the deadline that starts now.
    async fn connection(&self) -> Result<PoolConnection<Sqlite>, ReadError> {
        let pool = self.pool.read().clone();
        let mut connection = pool.acquire().await.map_err(read_error)?;
        let deadline = Instant::now() + self.settings.statement_timeout;
        connection
            .lock_handle()
            .await
            .map_err(read_error)?
            .set_progress_handler(PROGRESS_STEPS, move || Instant::now() < deadline);
        Ok(connection)
    }

    fn stream(&self, name: &str) -> Result<&StreamTable, ReadError> {
        reading::stream(&self.streams, name)
    }
}

impl ReadStore for SqliteReads {
    fn streams(&self, now_ms: i64) -> Answer<'_, Vec<StreamSummary>, ReadError> {
        Box::pin(self.noted(self.read_streams(now_ms)))
    }

    fn latest(&self, query: RowQuery) -> Answer<'_, Page<Row>, ReadError> {
        Box::pin(self.noted(self.read_latest(query)))
    }

    fn anomalies(&self, query: RowQuery) -> Answer<'_, Page<Row>, ReadError> {
        Box::pin(self.noted(self.read_anomalies(query)))
    }

    fn stats(&self, query: StatsQuery) -> Answer<'_, StreamStats, ReadError> {
        Box::pin(self.noted(self.read_stats(query)))
    }

    fn windows(&self, query: WindowQuery) -> Answer<'_, Page<Row>, ReadError> {
        Box::pin(self.noted(self.read_windows(query)))
    }

    fn alerts(&self, query: AlertQuery) -> Answer<'_, Page<Row>, ReadError> {
        Box::pin(self.noted(self.read_alerts(query)))
    }

    fn dead_letters(&self, query: DeadLetterQuery) -> Answer<'_, Page<DeadLetterRow>, ReadError> {
        Box::pin(self.noted(self.read_dead_letters(query)))
    }

    fn dead_letter(&self, id: i64) -> Answer<'_, Option<DeadLetterRow>, ReadError> {
        Box::pin(self.noted(self.read_dead_letter(id)))
    }

    fn positions(&self) -> Answer<'_, Vec<PositionRow>, ReadError> {
        Box::pin(self.noted(self.read_positions()))
    }
}

async fn pool(file: &Path, settings: &ReadSettings) -> Result<SqlitePool, ReadError> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .read_only(true)
        .busy_timeout(settings.statement_timeout)
        .pragma("query_only", "ON")
        .pragma("cache_size", format!("-{}", settings.cache_kib));
    let pool = SqlitePoolOptions::new()
        .max_connections(settings.connections)
        .acquire_timeout(settings.acquire_timeout)
        .connect_with(options);
    pool.await.map_err(read_error)
}

/// SQLite's result code of an interrupted statement.
const SQLITE_INTERRUPT: &str = "9";

fn read_error(error: sqlx::Error) -> ReadError {
    match error {
        sqlx::Error::Database(fault) if fault.code().as_deref() == Some(SQLITE_INTERRUPT) => ReadError::Timeout,
        sqlx::Error::PoolTimedOut => ReadError::Timeout,
        damaged if is_damage_of(&damaged) => ReadError::Damaged(damaged.to_string()),
        other => ReadError::Unavailable(other.to_string()),
    }
}
