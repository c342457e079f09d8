//! The database of a server, whichever it is: the one place that knows the adapters of all of them.

use std::{path::PathBuf, sync::Arc};

use streamward_core::{definition::Remembered, ports::ReadStore, table::Layout};
use streamward_pipeline::store::{Audit, Store, StoreError};

use super::sqlite::{
    SqlStore, SqliteSettings,
    audit::SqliteAudit,
    lock::DatabaseLock,
    memory,
    read::{ReadSettings, SqliteReads},
};

pub use super::sqlite::lock::DatabaseLockError;

/// Which database, and how it is reached.
#[derive(Debug, Clone)]
pub enum DatabaseSettings {
    Sqlite { file: PathBuf, writer: SqliteSettings, reads: ReadSettings },
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
    _lock: DatabaseLock,
}

impl DatabaseSettings {
    /// The database in messages: its file, or its address without credentials.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Sqlite { file, .. } => file.display().to_string(),
        }
    }

    /// The key of the configuration that says where it is.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "storage.sqlite.path",
        }
    }

    /// Keeps other servers away.
    ///
    /// # Errors
    /// If another server has it.
    pub fn hold(&self) -> Result<Held, DatabaseLockError> {
        match self {
            Self::Sqlite { file, .. } => Ok(Held { _lock: DatabaseLock::acquire(file)? }),
        }
    }

    /// Opens or creates it, and makes it fit the layout.
    ///
    /// # Errors
    /// If it does not answer, is damaged, or holds rows that mean something else than the layout says.
    pub async fn open(&self, layout: Layout) -> Result<Database, StoreError> {
        match self {
            Self::Sqlite { file, writer, reads } => {
                let (streams, windows) = (layout.streams.clone(), layout.windows.clone());
                let store = SqlStore::open(file, writer, layout).await?;
                let reads = SqliteReads::open(file, streams, windows, reads.clone()).await;
                let reads = Arc::new(reads.map_err(|error| StoreError::Unavailable(error.to_string()))?);
                store.is_read_by(reads.clone());
                Ok(Database { store: Arc::new(store), reads })
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
            Self::Sqlite { .. } => Ok(()),
        }
    }

    /// Opens it for a recount.
    ///
    /// # Errors
    /// If there is none, or it does not answer.
    pub async fn audit(&self) -> Result<Box<dyn Audit>, StoreError> {
        match self {
            Self::Sqlite { file, .. } => Ok(Box::new(SqliteAudit::open(file).await?)),
        }
    }

    /// Whether a server stores in it now.
    pub async fn is_in_use(&self) -> bool {
        match self {
            Self::Sqlite { file, .. } => DatabaseLock::is_held(file),
        }
    }

    /// What it was written with; none where there is none, or it does not remember.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn remembered(&self) -> Result<Option<Remembered>, String> {
        match self {
            Self::Sqlite { file, .. } => memory::read(file),
        }
    }

    /// What to say of windows that are open and get no row with another layout.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn dropped_windows(&self, remembered: &Remembered, layout: &Layout) -> Result<Vec<String>, String> {
        match self {
            Self::Sqlite { file, .. } => memory::dropped_windows(remembered, file, layout),
        }
    }
}
