//! SQLite storage: one writer connection, a separate pool of read-only connections.
//!
//! [`SqlStore`] owns the writer. Its jobs are synchronous code on a blocking thread: a transaction of thousands of
//! statements then costs one change of threads, not one per statement. [`read`] answers the HTTP side from connections
//! of its own (WAL lets both work at once). Start reading at [`commit`]: the position protocol.

mod apart;
mod assign;
pub mod audit;
mod commit;
mod damage;
mod database;
mod ddl;
mod facts;
mod files;
mod insert;
mod ledger;
pub mod lock;
pub mod memory;
mod orphans;
mod outbox;
mod probe;
pub mod read;
mod retention;
pub mod stranger;
#[cfg(test)]
mod tests;
mod wal;
mod window_tables;

use std::{
    ops::RangeInclusive,
    panic::resume_unwind,
    path::Path,
    sync::{Arc, OnceLock, atomic::AtomicU32},
    time::Duration,
};

use parking_lot::Mutex;
use rusqlite::{Transaction, TransactionBehavior};
use sqlx::{
    Connection, SqlSafeStr, SqliteConnection,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode},
};
use streamward_core::table::Layout;
use streamward_pipeline::store::StoreError;
use tokio::sync::Notify;

use self::{
    damage::{Damage, Walk, Wanted},
    files::OpenFiles,
    insert::Inserts,
    probe::Looked,
    read::SqliteReads,
};
use crate::adapters::seen::SeenKeys;

/// How long a statement waits for a lock that another process holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Statements kept prepared.
const STATEMENTS: usize = 256;

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

impl SqliteSettings {
    /// Of [`Self::cache_bytes`]; SQLite counts it in KiB, in 32 bits.
    pub const CACHE_BYTES: RangeInclusive<u64> = 64 << 10..=1 << 40;
}

impl Default for SqliteSettings {
    fn default() -> Self {
        Self { synchronous: Synchronous::Normal, cache_bytes: 16 << 20 }
    }
}

/// The writer side of the database.
pub struct SqlStore {
    shared: Arc<Shared>,
    /// One notice per kind of fact that follows SQL.
    changed: [Notify; 2],
    /// Who else has the database open in this process.
    reads: OnceLock<Arc<SqliteReads>>,
    /// Checkpoints in a row that left something.
    unfinished: AtomicU32,
}

/// What a job on the writer works with.
struct Shared {
    files: OpenFiles,
    settings: SqliteSettings,
    damage: Damage,
    wanted: Wanted,
    walk: Walk,
    looked: Mutex<Looked>,
    writer: Mutex<Writer>,
    /// Told after each job that changed something.
    wrote: Notify,
    checkpointer: Mutex<rusqlite::Connection>,
    layout: Layout,
    inserts: Inserts,
}

struct Writer {
    connection: rusqlite::Connection,
    /// Newest minute stored of each key, so that a key is written once a minute.
    seen: SeenKeys,
}

/// Why a job on the writer failed.
#[derive(Debug)]
enum WriteError {
    Sql(rusqlite::Error),
    /// A broken promise of the position protocol or the layout.
    Protocol(String),
    /// A trigger made an insert have no effect.
    LeftOut,
    /// What is written now would be lost.
    Gone(Arc<str>),
}

impl WriteError {
    /// Whether the moment is at fault, and not the data or our SQL: the same statement may succeed later.
    fn may_pass(&self) -> bool {
        use rusqlite::ffi::ErrorCode;
        match self {
            Self::Protocol(_) | Self::LeftOut => false,
            Self::Gone(_) => true,
            Self::Sql(error) => !matches!(
                error.sqlite_error_code(),
                None | Some(
                    ErrorCode::ConstraintViolation
                        | ErrorCode::TypeMismatch
                        | ErrorCode::TooBig
                        | ErrorCode::ApiMisuse
                        | ErrorCode::ParameterOutOfRange
                        | ErrorCode::Unknown,
                )
            ),
        }
    }
}

impl std::fmt::Display for WriteError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sql(error) => error.fmt(formatter),
            Self::Protocol(why) => formatter.write_str(why),
            Self::Gone(why) => formatter.write_str(why),
            Self::LeftOut => formatter.write_str("a trigger of the table left the row out"),
        }
    }
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<WriteError> for StoreError {
    /// Sorts an error into what may pass and what may not.
    fn from(error: WriteError) -> Self {
        if error.may_pass() { Self::Unavailable(error.to_string()) } else { Self::Protocol(error.to_string()) }
    }
}

impl Shared {
    fn open(path: &Path, settings: &SqliteSettings, layout: Layout) -> Result<Self, WriteError> {
        let mut connection = connect(path, settings)?;
        memory::adopt(&mut connection, &layout)?;
        for table in &layout.streams {
            ddl::create_stream_table(&connection, table)?;
        }
        for table in &layout.windows {
            window_tables::create_window_table(&connection, table)?;
        }
        memory::remember(&connection, &layout.definitions)?;
        let wanted = Wanted::of(&connection, &layout)?;
        let walk = Walk::default();
        damage::look(path, (&wanted, &layout), &walk, BUSY_TIMEOUT)?;
        let inserts = Inserts::new(&layout);
        let writer = Mutex::new(Writer { connection, seen: SeenKeys::default() });
        let checkpointer = Mutex::new(connect(path, settings)?);
        let (files, settings, damage) = (OpenFiles::new(path), settings.clone(), Damage::default());
        let (looked, wrote) = (Mutex::default(), Notify::new());
        Ok(Self { files, settings, damage, wanted, walk, looked, writer, wrote, checkpointer, layout, inserts })
    }
}

impl SqlStore {
    /// Opens or creates the database, migrates it and creates the tables that the layout asks for. Alerts whose rule or
    /// pipeline the layout does not have are resolved.
    ///
    /// # Errors
    /// If the file cannot be opened, is damaged, or holds rows that mean something else than the layout says.
    pub async fn open(path: &Path, settings: &SqliteSettings, layout: Layout) -> Result<Self, StoreError> {
        migrate(path).await?;
        let opened = Shared::open(path, settings, layout).map_err(|error| damage::explain(path, error))?;
        let (changed, reads, unfinished) = (Default::default(), OnceLock::new(), AtomicU32::new(0));
        let store = Self { shared: Arc::new(opened), changed, reads, unfinished };
        match (store.resolve_unconfigured().await, store.damage()) {
            (Ok(()), _) => Ok(store),
            (Err(_), Some(why)) => Err(StoreError::Unavailable(damage::is_damaged(path, &why))),
            (Err(error), None) => Err(error),
        }
    }

    /// Tells who else of this process has the database open, once.
    pub fn is_read_by(&self, reads: Arc<SqliteReads>) {
        let _ = self.reads.set(reads);
    }

    /// Wakes the relays: there is something in the outbox.
    fn announce_changes(&self) {
        for changed in &self.changed {
            changed.notify_one();
        }
    }

    /// The layout that this store was opened with.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.shared.layout
    }

    /// Runs a job on the writer, on a blocking thread. A caller that goes away does not stop a job that has begun; the
    /// position protocol tells the next caller what became of it. A panic of the job is the caller's.
    async fn write<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Shared, &mut Writer) -> Result<T, WriteError> + Send + 'static,
    {
        self.work(move |shared| {
            let mut writer = shared.writer.lock();
            shared.files.may_write()?;
            let before = writer.connection.total_changes();
            let done = job(shared, &mut writer);
            if writer.connection.total_changes() != before {
                shared.wrote.notify_one();
            }
            done
        })
        .await
    }

    /// Likewise, for a job that takes the connection it needs.
    async fn work<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Shared) -> Result<T, WriteError> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        #[expect(clippy::disallowed_methods, reason = "the caller waits for it, and its panic is the caller's")]
        let done = tokio::task::spawn_blocking(move || job(&shared)).await;
        match done.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(result) => result.map_err(|error| {
                self.shared.damage.note(&error);
                StoreError::from(error)
            }),
            Err(Ok(panic)) => resume_unwind(panic),
            Err(Err(_)) => Err(StoreError::Unavailable("the process is ending".to_owned())),
        }
    }
}

/// A transaction that holds the write lock from its beginning; dropped without a commit it is rolled back.
fn begin(connection: &mut rusqlite::Connection) -> Result<Transaction<'_>, rusqlite::Error> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// Creates the file if it is missing, in the layout that cannot be changed later, and brings our own tables up to date.
async fn migrate(path: &Path) -> Result<(), StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(BUSY_TIMEOUT);
    let unavailable = |error: sqlx::Error| damage::of_opening(path, &error);
    let mut connection = SqliteConnection::connect_with(&options).await.map_err(unavailable)?;
    let migrated = Migrator::with_migrations(migrations()).run(&mut connection).await;
    migrated.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => damage::of_opening(path, &error),
        other => StoreError::Protocol(format!("migrate the database: {other}")),
    })?;
    connection.close().await.map_err(unavailable)
}

fn migrations() -> Vec<Migration> {
    let migration = |version, name: &'static str, sql: &'static str| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    vec![
        migration(1, "streamward", include_str!("migrations/0001_streamward.sql")),
        migration(2, "late by age", include_str!("migrations/0002_late_by_age.sql")),
        migration(3, "dead letters by place", include_str!("migrations/0003_dead_letters_by_place.sql")),
        migration(4, "positions by log", include_str!("migrations/0004_positions_by_log.sql")),
        migration(5, "why missed", include_str!("migrations/0005_why_missed.sql")),
        migration(6, "null sums and keys", include_str!("migrations/0006_null_sums_and_keys.sql")),
        migration(7, "what is not counted", include_str!("migrations/0007_what_is_not_counted.sql")),
        migration(8, "facts", include_str!("migrations/0008_facts.sql")),
        migration(10, "decisions", include_str!("migrations/0010_decisions_and_measured.sql")),
        migration(11, "definitions", include_str!("migrations/0011_definitions.sql")),
        migration(12, "newest_event", include_str!("migrations/0012_newest_event.sql")),
    ]
}

fn connect(path: &Path, settings: &SqliteSettings) -> Result<rusqlite::Connection, rusqlite::Error> {
    use rusqlite::OpenFlags;
    let connection = rusqlite::Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let synchronous = match settings.synchronous {
        Synchronous::Off => "OFF",
        Synchronous::Normal => "NORMAL",
        Synchronous::Full => "FULL",
    };
    connection.execute_batch(&format!(
        "PRAGMA synchronous = {synchronous}; PRAGMA cache_size = -{}; PRAGMA temp_store = MEMORY; \
         PRAGMA foreign_keys = OFF; PRAGMA wal_autocheckpoint = {}; PRAGMA journal_size_limit = {};",
        settings.cache_bytes >> 10,
        wal::MAX_PAGES,
        wal::BYTES,
    ))?;
    Ok(connection)
}

/// Tables and indexes of a database without streams and windows.
#[cfg(test)]
pub async fn names_of_an_empty_database() -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("own.db");
    drop(SqlStore::open(&file, &SqliteSettings::default(), Layout::default()).await.unwrap());
    let file = rusqlite::Connection::open(file).unwrap();
    let mut select = file.prepare("SELECT name FROM sqlite_schema").unwrap();
    select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}
