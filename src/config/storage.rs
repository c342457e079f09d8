//! Section `storage`: the SQL database, its transactions and how long rows stay.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use streamward_pipeline::{lane::LaneSettings, sink::CommitLimits, store::RetentionPolicy};

use super::limits::{bytes_within, within};
use super::units::{ByteSize, HumanDuration};
use super::{Config, Secret, SecretUrl};
use crate::{
    adapters::{
        database::DatabaseSettings,
        postgres::settings::PostgresSettings,
        sqlite::{self, SqliteSettings, read::ReadSettings},
    },
    app::RETENTION_CHECKS,
};

/// Name of the database file inside the data folder.
pub const SQLITE_FILE: &str = "streamward.db";

/// Where rows, windows, alerts and positions are kept.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StorageConfig {
    /// The SQLite file and its connections; unused when `postgres` is given.
    pub sqlite: SqliteConfig,
    /// A PostgreSQL database in place of the SQLite file.
    pub postgres: Option<PostgresConfig>,
    /// Size and age of one transaction.
    pub commit: CommitConfig,
    /// How long rows stay.
    pub retention: RowRetention,
    /// Time between two checkpoints of the state of windows and rules.
    #[schemars(transform = within(LaneSettings::CHECKPOINT_EVERY))]
    pub checkpoint_every: HumanDuration,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            sqlite: SqliteConfig::default(),
            postgres: None,
            commit: CommitConfig::default(),
            retention: RowRetention::default(),
            checkpoint_every: HumanDuration::from_secs(5),
        }
    }
}

/// One SQLite file in WAL mode: one writer, several readers.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SqliteConfig {
    /// The file; null: `streamward.db` in the data folder.
    pub path: Option<PathBuf>,
    /// What a commit waits for.
    pub synchronous: Synchronous,
    /// Page cache of the writer.
    #[schemars(transform = bytes_within(SqliteSettings::CACHE_BYTES))]
    pub cache_size: ByteSize,
    /// Connections that answer reads.
    #[schemars(transform = within(ReadSettings::CONNECTIONS))]
    pub read_connections: u32,
}

impl Config {
    /// The database, and how it is reached. A URL that is none was refused before.
    #[must_use]
    pub fn database(&self) -> DatabaseSettings {
        if let Some(Ok(settings)) = self.storage.postgres.as_ref().map(PostgresConfig::settings) {
            return DatabaseSettings::Postgres(Box::new(settings));
        }
        let sqlite = &self.storage.sqlite;
        DatabaseSettings::Sqlite {
            file: sqlite.file(&self.node.data_dir),
            writer: sqlite.writer(),
            reads: ReadSettings { connections: sqlite.read_connections, ..ReadSettings::default() },
        }
    }
}

impl SqliteConfig {
    fn writer(&self) -> SqliteSettings {
        SqliteSettings {
            synchronous: match self.synchronous {
                Synchronous::Normal => sqlite::Synchronous::Normal,
                Synchronous::Full => sqlite::Synchronous::Full,
                Synchronous::Off => sqlite::Synchronous::Off,
            },
            cache_bytes: self.cache_size.get(),
        }
    }

    /// The database file, in `data_dir` unless `path` names another.
    pub fn file(&self, data_dir: &Path) -> PathBuf {
        match &self.path {
            Some(path) => path.clone(),
            None => data_dir.join(SQLITE_FILE),
        }
    }
}

impl Default for SqliteConfig {
    fn default() -> Self {
        Self { path: None, synchronous: Synchronous::Normal, cache_size: ByteSize::mib(16), read_connections: 2 }
    }
}

/// One PostgreSQL database, 15 or later, which several servers may share.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// `postgres://USER@HOST:PORT/DATABASE`, with `?sslmode=verify-full&sslrootcert=FILE` for a server elsewhere.
    pub url: SecretUrl,
    /// The user's password, if it is not in the URL.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Connections that answer reads; five more write, follow facts and look after the tables.
    #[serde(default = "default_pool")]
    #[schemars(transform = within(PostgresSettings::POOL))]
    pub pool: u32,
    /// How long the database may take to answer at the start.
    #[serde(default = "default_start_timeout")]
    #[schemars(transform = within(START_TIMEOUT))]
    pub start_timeout: HumanDuration,
}

/// Of [`PostgresConfig::start_timeout`].
const START_TIMEOUT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(1);

fn default_pool() -> u32 {
    4
}

fn default_start_timeout() -> HumanDuration {
    HumanDuration::from_secs(60)
}

impl PostgresConfig {
    /// How the database is reached.
    ///
    /// # Errors
    /// What is wrong with the URL, without showing it.
    pub fn settings(&self) -> Result<PostgresSettings, String> {
        let password = self.password.as_ref().map(Secret::expose);
        let settings = PostgresSettings::of(self.url.expose(), password, self.pool)?;
        Ok(settings.with_patience(self.start_timeout.into()))
    }
}

/// SQLite's `PRAGMA synchronous`; a process that dies loses nothing in any mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Synchronous {
    /// Forced to disk at WAL checkpoints; a power cut may take back the last commits, whole.
    Normal,
    /// Forced to disk at every commit.
    Full,
    /// Never forced; a power cut may damage the file.
    Off,
}

/// When the writer commits what it has gathered.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CommitConfig {
    /// Rows of one transaction while the writer keeps up.
    #[schemars(transform = within(CommitLimits::ROWS))]
    pub max_rows: u32,
    /// Time between two commits while records keep coming, and longest wait for more rows before one.
    #[schemars(transform = within(CommitLimits::DELAY))]
    pub max_delay: HumanDuration,
    /// Rows of one transaction while batches are waiting.
    #[schemars(transform = within(CommitLimits::ROWS))]
    pub max_rows_busy: u32,
}

impl Default for CommitConfig {
    fn default() -> Self {
        Self { max_rows: 1000, max_delay: HumanDuration::from_millis(40), max_rows_busy: 16384 }
    }
}

/// Limits of what is stored; the oldest goes first, in small chunks. Alerts that fire stay.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RowRetention {
    /// Time since something was stored; null: no limit.
    #[schemars(transform = within(RetentionPolicy::AGE))]
    pub age: Option<HumanDuration>,
    /// Bytes of database pages in use; the table that holds the most gives its oldest. null: no limit.
    #[schemars(transform = bytes_within(RetentionPolicy::SIZE_BYTES))]
    pub size: Option<ByteSize>,
    /// Time between two looks at the limits.
    #[schemars(transform = within(RETENTION_CHECKS))]
    pub check_every: HumanDuration,
}

impl Default for RowRetention {
    fn default() -> Self {
        Self {
            age: Some(HumanDuration::from_secs(7 * 86_400)),
            size: Some(ByteSize::gib(8)),
            check_every: HumanDuration::from_secs(30),
        }
    }
}
