//! Reads of PostgreSQL for the HTTP side: the adapter behind [`ReadStore`].
//!
//! Its connections are its own and read-only. The server cancels a statement after [`STATEMENT_TIMEOUT`]; a read that
//! the server does not answer at all ends after [`READ_TIMEOUT`]. A connection whose read was cut off, here or by a
//! client that went away, is closed: nothing of one read is left for the next.
//!
//! Invariant: no statement's work grows with the length of the history. Lists walk an index from their cursor and stop,
//! see [`scan`]; the planner is kept from sorts, bitmaps and scans of tables, which it takes for cheap where its figures
//! are old. Plans are made once for each statement and connection: with hundreds of daily partitions a plan costs more
//! than what it finds.
//!
//! It knows tables and indexes by name only; making them is the writer's part. Start at [`scan::Scan`].

mod facts;
mod lease;
mod rows;
mod scan;
#[cfg(test)]
#[cfg(feature = "postgres-tests")]
mod tests;
mod windows;

use std::time::Duration;

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use streamward_core::{
    ports::{
        AlertQuery, Answer, DeadLetterQuery, DeadLetterRow, Page, PositionRow, ReadError, ReadStore, Row, RowQuery,
        StatsQuery, StreamStats, StreamSummary, WindowQuery,
    },
    reading,
    table::{StreamTable, WindowTable},
};

use super::{fault::words, settings::PostgresSettings};
use lease::Lease;

/// A statement that runs longer is cancelled by the server.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a read waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// A read whose statements take longer together, or whose server is silent, is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The read side of a PostgreSQL database.
#[derive(Debug)]
pub struct PostgresReads {
    pool: PgPool,
    streams: Vec<StreamTable>,
    windows: Vec<WindowTable>,
    /// Of all statements of a read.
    timeout: Duration,
}

impl PostgresReads {
    /// Opens a database with all tables of `streams` and `windows` in it.
    ///
    /// # Errors
    /// [`ReadError::Unavailable`] if the server cannot be reached.
    pub async fn open(
        settings: &PostgresSettings,
        streams: Vec<StreamTable>,
        windows: Vec<WindowTable>,
    ) -> Result<Self, ReadError> {
        let options = session(settings.options("reads"), STATEMENT_TIMEOUT);
        let pool = PgPoolOptions::new().max_connections(settings.pool).acquire_timeout(ACQUIRE_TIMEOUT);
        let pool = pool.connect_with(options).await.map_err(|error| ReadError::Unavailable(words(&error)))?;
        Ok(Self { pool, streams, windows, timeout: READ_TIMEOUT })
    }

    fn stream(&self, name: &str) -> Result<&StreamTable, ReadError> {
        reading::stream(&self.streams, name)
    }

    async fn lease(&self) -> Result<Lease, ReadError> {
        Lease::of(&self.pool).await
    }

    /// An answer, or that there is none in time.
    async fn bounded<T>(&self, read: impl Future<Output = Result<T, ReadError>>) -> Result<T, ReadError> {
        let answer = tokio::time::timeout(self.timeout, read).await;
        answer.unwrap_or_else(|_| Err(ReadError::Unavailable("the server does not answer".to_owned())))
    }
}

/// What each session of a reader is told.
fn session(options: PgConnectOptions, statement_timeout: Duration) -> PgConnectOptions {
    let timeout = format!("{}ms", statement_timeout.as_millis());
    options.options([
        ("default_transaction_read_only", "on"),
        ("statement_timeout", &timeout),
        ("idle_in_transaction_session_timeout", &timeout),
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_seqscan", "off"),
        ("enable_bitmapscan", "off"),
        ("enable_sort", "off"),
        ("max_parallel_workers_per_gather", "0"),
        ("jit", "off"),
    ])
}

impl ReadStore for PostgresReads {
    fn streams(&self, now_ms: i64) -> Answer<'_, Vec<StreamSummary>, ReadError> {
        Box::pin(self.ask_streams(now_ms))
    }

    fn latest(&self, query: RowQuery) -> Answer<'_, Page<Row>, ReadError> {
        Box::pin(self.ask_latest(query))
    }

    fn anomalies(&self, query: RowQuery) -> Answer<'_, Page<Row>, ReadError> {
        Box::pin(self.ask_anomalies(query))
    }

    fn stats(&self, query: StatsQuery) -> Answer<'_, StreamStats, ReadError> {
        Box::pin(self.ask_stats(query))
    }

    fn windows(&self, query: WindowQuery) -> Answer<'_, Page<Row>, ReadError> {
        Box::pin(self.ask_windows(query))
    }

    fn alerts(&self, query: AlertQuery) -> Answer<'_, Page<Row>, ReadError> {
        Box::pin(self.ask_alerts(query))
    }

    fn dead_letters(&self, query: DeadLetterQuery) -> Answer<'_, Page<DeadLetterRow>, ReadError> {
        Box::pin(self.ask_dead_letters(query))
    }

    fn dead_letter(&self, id: i64) -> Answer<'_, Option<DeadLetterRow>, ReadError> {
        Box::pin(self.ask_dead_letter(id))
    }

    fn positions(&self) -> Answer<'_, Vec<PositionRow>, ReadError> {
        Box::pin(self.ask_positions())
    }
}

/// SQLSTATE of a statement that its time limit ended (`query_canceled`).
const QUERY_CANCELED: &str = "57014";
/// Those of damage: `data_corrupted` and `index_corrupted`.
const DAMAGE: [&str; 2] = ["XX001", "XX002"];

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn read_error(error: sqlx::Error) -> ReadError {
    match error.as_database_error().and_then(|fault| fault.code()).as_deref() {
        Some(QUERY_CANCELED) => ReadError::Timeout,
        Some(code) if DAMAGE.contains(&code) => ReadError::Damaged(words(&error)),
        _ => ReadError::Unavailable(words(&error)),
    }
}
