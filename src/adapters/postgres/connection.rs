//! Connections that are made when they are needed and given up on any doubt.
//!
//! Who works takes the connection out of its place and puts it back when all went well. What is dropped on the way, by an
//! error, a time limit or a caller that went away, closes the connection, and PostgreSQL rolls back what it had begun.

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use sqlx::{Connection as _, PgConnection};
use streamward_pipeline::store::StoreError;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::timeout,
};

use super::{
    fault::{store_error, words},
    settings::PostgresSettings,
};

/// How long all statements of one piece of work may take together; a peer that is half gone says nothing for ever.
const WORK_WITHIN: Duration = Duration::from_secs(60);
/// Likewise, of work that reads a whole day.
const LONG_WORK_WITHIN: Duration = Duration::from_hours(1);

/// Limits of every session, so that none holds up others for long, and none is left behind by a process that is gone.
const SESSION: &str = "SET lock_timeout = '5s'; SET statement_timeout = '45s'; \
     SET idle_in_transaction_session_timeout = '30s'; SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; \
     SET tcp_keepalives_count = 3; SET tcp_user_timeout = '30s'; SET TimeZone = 'UTC'; SET jit = off; \
     SET client_min_messages = warning";

/// Of a session whose work reads a whole day.
const LONG: &str = "SET statement_timeout = '1h'";

/// One connection, for one piece of work after the other.
pub struct Line {
    settings: PostgresSettings,
    role: &'static str,
    within: Duration,
    place: Mutex<Option<PgConnection>>,
}

/// A connection at work.
pub struct Held<'a> {
    place: MutexGuard<'a, Option<PgConnection>>,
    connection: PgConnection,
}

impl Line {
    /// A connection that is made at first need.
    pub fn new(settings: &PostgresSettings, role: &'static str) -> Self {
        Self { settings: settings.clone(), role, within: WORK_WITHIN, place: Mutex::default() }
    }

    /// Likewise, for work that may take an hour.
    pub fn for_long_work(settings: &PostgresSettings, role: &'static str) -> Self {
        Self { within: LONG_WORK_WITHIN, ..Self::new(settings, role) }
    }

    /// How long a piece of work may take.
    pub fn within(&self) -> Duration {
        self.within
    }

    /// Takes the connection, or makes one.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn take(&self) -> Result<Held<'_>, StoreError> {
        let mut place = self.place.lock().await;
        let connection = match place.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        Ok(Held { place, connection })
    }

    async fn connect(&self) -> Result<PgConnection, StoreError> {
        let mut connection = connect(&self.settings, self.role).await?;
        if self.within > WORK_WITHIN {
            within(WORK_WITHIN, async { sqlx::raw_sql(LONG).execute(&mut connection).await.map_err(WriteError::from) })
                .await?;
        }
        Ok(connection)
    }

    /// Closes it.
    pub async fn close(&self) {
        if let Some(connection) = self.place.lock().await.take() {
            // What is stored is stored; how the connection ends is of no interest.
            let _ = timeout(self.settings.connect_timeout, connection.close()).await;
        }
    }
}

impl Held<'_> {
    /// All went well: the connection is for the next.
    pub fn keep(self) {
        let Self { mut place, connection } = self;
        *place = Some(connection);
    }
}

impl Deref for Held<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

/// Makes a connection.
///
/// # Errors
/// If the database does not answer, or does not let this user in.
pub async fn connect(settings: &PostgresSettings, role: &str) -> Result<PgConnection, StoreError> {
    let place = settings.place();
    let connecting = async {
        let mut connection = PgConnection::connect_with(&settings.options(role)).await?;
        sqlx::raw_sql(SESSION).execute(&mut connection).await?;
        Ok::<_, sqlx::Error>(connection)
    };
    match timeout(settings.connect_timeout, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(StoreError::Unavailable(format!("{place}: {}", words(&error)))),
        Err(_) => {
            let seconds = settings.connect_timeout.as_secs();
            Err(StoreError::Unavailable(format!("{place} does not answer within {seconds} s")))
        }
    }
}

/// Work on a connection, within its time.
///
/// # Errors
/// Of the work, or that it took too long.
pub async fn within<T, E: Into<StoreError>>(
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, StoreError> {
    match timeout(limit, work).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(StoreError::Unavailable(format!("no answer within {} s", limit.as_secs()))),
    }
}

/// What is said of a row that a trigger left out.
pub const LEFT_OUT: &str = "a trigger of the table left the row out";

/// Why work on a connection failed.
#[derive(Debug)]
pub enum WriteError {
    Sql(sqlx::Error),
    /// A broken promise of the position protocol or the layout.
    Protocol(String),
    /// A trigger made rows of a COPY have no effect.
    LeftOut,
}

impl From<sqlx::Error> for WriteError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<WriteError> for StoreError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Sql(error) => store_error(error),
            WriteError::Protocol(why) => Self::Protocol(why),
            WriteError::LeftOut => Self::Protocol(LEFT_OUT.to_owned()),
        }
    }
}
