//! Another program that has the database open; for measurements.

use std::{path::Path, time::Duration};

use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use streamward_pipeline::store::StoreError;

use super::audit::unavailable;

/// How long it waits for the server's transactions.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection of its own. What it holds ends when it is dropped.
pub struct Stranger(SqliteConnection);

impl Stranger {
    /// Opens the database for reading and writing.
    ///
    /// # Errors
    /// If there is no such database.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new().filename(path).busy_timeout(PATIENCE);
        Ok(Self(SqliteConnection::connect_with(&options).await.map_err(unavailable)?))
    }

    /// Runs statements.
    ///
    /// # Errors
    /// If SQLite refuses one.
    pub async fn run(&mut self, sql: &'static str) -> Result<(), StoreError> {
        sqlx::raw_sql(sql).execute(&mut self.0).await.map(drop).map_err(unavailable)
    }
}
