//! The database of a server, whichever it is: the one place that knows the adapters of all of them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use streamward_core::{definition::Remembered, ports::ReadStore, table::Layout};
use streamward_pipeline::store::{Audit, Store, StoreError};

use super::{
    postgres::{
        self, PostgresStore,
        audit::PostgresAudit,
        reach::{Unreachable, reach},
        read::PostgresReads,
        settings::PostgresSettings,
    },
    sqlite::{
        self, SqlStore, SqliteSettings,
        audit::SqliteAudit,
        lock::DatabaseLock,
        read::{ReadSettings, SqliteReads},
    },
};

pub use super::sqlite::lock::DatabaseLockError;

/// Which database, and how it is reached.
#[derive(Debug, Clone)]
pub enum DatabaseSettings {
    Sqlite { file: PathBuf, writer: SqliteSettings, reads: ReadSettings },
    Postgres(Box<PostgresSettings>),
}

/// A database that is open for writing and reading.
#[derive(Clone)]
pub struct Database {
    pub store: Arc<dyn Store>,
    pub reads: Arc<dyn ReadStore>,
}

/// Keeps other servers from a database that only one may have; it ends when it is dropped, or with the process.
#[derive(Debug)]
pub struct Held {
    _lock: Option<DatabaseLock>,
}

/// Why it is not known what a database holds.
#[derive(Debug, thiserror::Error)]
pub enum UnknownContent {
    /// Nobody answers.
    #[error("{0}")]
    Away(String),
    #[error("{0}")]
    Unreadable(String),
}

impl DatabaseSettings {
    /// The database in messages: its file, or its address without credentials.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Sqlite { file, .. } => file.display().to_string(),
            Self::Postgres(settings) => settings.place(),
        }
    }

    /// The key of the configuration that says where it is.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "storage.sqlite.path",
            Self::Postgres(_) => "storage.postgres.url",
        }
    }

    /// What works and is hardly meant.
    #[must_use]
    pub fn remark(&self) -> Option<String> {
        match self {
            Self::Sqlite { .. } => None,
            Self::Postgres(settings) => settings.remark(),
        }
    }

    /// Keeps other servers away.
    ///
    /// # Errors
    /// If another server has it.
    pub fn hold(&self) -> Result<Held, DatabaseLockError> {
        let lock = match self {
            Self::Sqlite { file, .. } => Some(DatabaseLock::acquire(file)?),
            Self::Postgres(_) => None,
        };
        Ok(Held { _lock: lock })
    }

    /// Opens or creates it, and makes it fit the layout.
    ///
    /// # Errors
    /// If it does not answer, is damaged, or holds rows that mean something else than the layout says.
    pub async fn open(&self, layout: Layout) -> Result<Database, StoreError> {
        let (streams, windows) = (layout.streams.clone(), layout.windows.clone());
        let unavailable = |error: streamward_core::ports::ReadError| StoreError::Unavailable(error.to_string());
        match self {
            Self::Sqlite { file, writer, reads } => {
                let store = SqlStore::open(file, writer, layout).await?;
                let reads = SqliteReads::open(file, streams, windows, reads.clone()).await;
                let reads = Arc::new(reads.map_err(unavailable)?);
                store.is_read_by(reads.clone());
                Ok(Database { store: Arc::new(store), reads })
            }
            Self::Postgres(settings) => {
                let store = PostgresStore::open(settings, layout).await?;
                let reads = PostgresReads::open(settings, streams, windows).await.map_err(unavailable)?;
                Ok(Database { store: Arc::new(store), reads: Arc::new(reads) })
            }
        }
    }

    /// Whether there is one, as far as that can be told without asking it.
    ///
    /// # Errors
    /// That there is none, in words.
    pub fn is_there(&self) -> Result<(), String> {
        match self {
            Self::Sqlite { file, .. } if !file.exists() => Err(format!(
                "there is no database {}: nothing was stored here, or the data is in another folder (--data-dir)",
                file.display()
            )),
            Self::Sqlite { .. } | Self::Postgres(_) => Ok(()),
        }
    }

    /// Opens it for a recount.
    ///
    /// # Errors
    /// If there is none, or it does not answer.
    pub async fn audit(&self) -> Result<Box<dyn Audit>, StoreError> {
        match self {
            Self::Sqlite { file, .. } => Ok(Box::new(SqliteAudit::open(file).await?)),
            Self::Postgres(settings) => Ok(Box::new(PostgresAudit::open(settings).await?)),
        }
    }

    /// Whether a server stores in it now.
    pub async fn is_in_use(&self) -> bool {
        match self {
            Self::Sqlite { file, .. } => DatabaseLock::is_held(file),
            Self::Postgres(settings) => postgres::audit::is_in_use(settings).await,
        }
    }

    /// What it was written with; none where there is none, or it does not remember. Waits for an answer as long as a start
    /// does where `waits`.
    ///
    /// # Errors
    /// [`UnknownContent`]
    pub fn remembered(&self, waits: bool) -> Result<Option<Remembered>, UnknownContent> {
        match self {
            Self::Sqlite { file, .. } => sqlite::memory::read(file).map_err(UnknownContent::Unreadable),
            Self::Postgres(settings) => {
                let patience = if waits { settings.patience } else { Duration::ZERO };
                aside(async {
                    reach(settings, patience).await.map_err(|error| match error {
                        Unreachable::Away { .. } => UnknownContent::Away(error.to_string()),
                        Unreachable::Refused { .. } => UnknownContent::Unreadable(error.to_string()),
                    })?;
                    postgres::memory::read(settings).await.map_err(UnknownContent::Unreadable)
                })
            }
        }
    }

    /// What to say of windows that are open and get no row with another layout.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn dropped_windows(&self, remembered: &Remembered, layout: &Layout) -> Result<Vec<String>, String> {
        match self {
            Self::Sqlite { file, .. } => sqlite::memory::dropped_windows(remembered, file, layout),
            Self::Postgres(settings) => aside(postgres::memory::dropped_windows(remembered, settings, layout)),
        }
    }
}

/// Runs a future to its end on a thread of its own, for callers that may be inside an event loop or outside of any.
fn aside<T: Send>(future: impl Future<Output = T> + Send) -> T {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a thread of its own has an event loop").block_on(future)
    };
    std::thread::scope(|scope| match scope.spawn(run).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
