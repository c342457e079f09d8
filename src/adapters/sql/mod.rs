//! SQLite storage: one writer connection, a separate pool of read-only connections.
//!
//! [`SqlStore`] owns the writer; [`read`] answers the HTTP side from its own connections (WAL lets both work at once).
//! Start reading at [`commit`]: the position protocol.

pub mod assign;
pub mod audit;
pub mod commit;
pub mod ddl;
pub mod insert;
pub mod outbox;
pub mod read;
pub mod retention;
mod seen;
#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc, time::Duration};

use sqlx::{
    Connection, Executor, SqlSafeStr, SqliteConnection,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use streamward_core::table::StreamTable;
use streamward_pipeline::store::StoreError;
use tokio::sync::{Mutex, MutexGuard};

use self::{ddl::WindowTable, insert::Inserts, seen::SeenKeys};

/// How long a statement waits for a lock that another process holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages in the write-ahead log before a checkpoint moves them into the database (4 KiB each).
const WAL_CHECKPOINT_PAGES: u32 = 4000;

/// How durable a commit is (SQLite's `synchronous`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synchronous {
    Off,
    Normal,
    Full,
}

/// Settings of the SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteSettings {
    pub synchronous: Synchronous,
    pub cache_bytes: u64,
}

impl Default for SqliteSettings {
    fn default() -> Self {
        Self { synchronous: Synchronous::Normal, cache_bytes: 32 << 20 }
    }
}

/// The layout that the configuration asks for.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    pub streams: Vec<StreamTable>,
    pub windows: Vec<WindowTable>,
    /// Stream of each sink (pipeline), by name.
    pub sinks: Vec<(Arc<str>, Arc<str>)>,
}

/// The writer side of the database.
pub struct SqlStore {
    writer: Mutex<Writer>,
    layout: Layout,
    inserts: Inserts,
    /// One notice per kind of fact that follows SQL.
    changed: [tokio::sync::Notify; 2],
}

struct Writer {
    connection: SqliteConnection,
    /// Newest minute stored of each key, so that a key is written once a minute.
    seen: SeenKeys,
    /// Set while a transaction is open: a future that was dropped in between leaves it set.
    open: bool,
}

impl SqlStore {
    /// Opens or creates the database, migrates it and creates the tables that the layout asks for.
    ///
    /// # Errors
    /// If the file cannot be opened, or holds a table whose columns contradict the layout.
    pub async fn open(path: &Path, settings: &SqliteSettings, layout: Layout) -> Result<Self, StoreError> {
        let cache_kib = settings.cache_bytes >> 10;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(match settings.synchronous {
                Synchronous::Off => SqliteSynchronous::Off,
                Synchronous::Normal => SqliteSynchronous::Normal,
                Synchronous::Full => SqliteSynchronous::Full,
            })
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(false)
            .pragma("cache_size", format!("-{cache_kib}"))
            .pragma("temp_store", "MEMORY")
            .pragma("wal_autocheckpoint", WAL_CHECKPOINT_PAGES.to_string())
            .pragma("journal_size_limit", (64 << 20).to_string())
            .statement_cache_capacity(256);
        let mut connection = SqliteConnection::connect_with(&options).await.map_err(store_error)?;
        migrate(&mut connection).await?;
        for table in &layout.streams {
            ddl::create_stream_table(&mut connection, table).await?;
        }
        for table in &layout.windows {
            ddl::create_window_table(&mut connection, table).await?;
        }
        let inserts = Inserts::new(&layout);
        let writer = Mutex::new(Writer { connection, seen: SeenKeys::default(), open: false });
        Ok(Self { writer, layout, inserts, changed: Default::default() })
    }

    /// The layout that this store was opened with.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Locks the writer and clears away a transaction that a dropped future left open.
    async fn writer(&self) -> Result<MutexGuard<'_, Writer>, StoreError> {
        let mut writer = self.writer.lock().await;
        if writer.open {
            writer.connection.execute("ROLLBACK").await.map_err(store_error)?;
            writer.open = false;
            writer.seen.forget();
        }
        Ok(writer)
    }

    /// Writes the log into the database file and shrinks the log; called at shutdown.
    ///
    /// # Errors
    /// If the database is busy or gone.
    pub async fn checkpoint_wal(&self) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        writer.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").await.map_err(store_error)?;
        Ok(())
    }
}

impl Writer {
    async fn begin(&mut self) -> Result<(), StoreError> {
        self.open = true;
        let begun = self.connection.execute("BEGIN IMMEDIATE").await;
        if begun.is_err() {
            self.open = false;
        }
        begun.map(|_| ()).map_err(store_error)
    }

    async fn end(&mut self) -> Result<(), StoreError> {
        self.connection.execute("COMMIT").await.map_err(store_error)?;
        self.open = false;
        self.seen.keep();
        Ok(())
    }
}

async fn migrate(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let migrations = vec![Migration::new(
        1,
        "streamward".into(),
        MigrationType::Simple,
        include_str!("migrations/sqlite/0001_streamward.sql").into_sql_str(),
        false,
    )];
    let migrator = Migrator::with_migrations(migrations);
    migrator.run(connection).await.map_err(|error| StoreError::Protocol(format!("migrate the database: {error}")))
}

/// Sorts a database error into what may pass and what may not.
#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn store_error(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(fault) if is_protocol_fault(fault.as_ref()) => StoreError::Protocol(error.to_string()),
        _ => StoreError::Unavailable(error.to_string()),
    }
}

/// Constraint violations (SQLite code 19) and misuse: the data or our SQL is at fault, not the moment.
fn is_protocol_fault(fault: &dyn sqlx::error::DatabaseError) -> bool {
    let code: Option<i64> = fault.code().and_then(|code| code.parse().ok());
    matches!(code.map(|code| code & 0xff), Some(1 | 19 | 20 | 21 | 25))
}
