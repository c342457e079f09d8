//! A connection for one read: closed when it is dropped, unless the read says that it is whole.

use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection};
use streamward_core::ports::ReadError;

use super::read_error;

pub(super) struct Lease(Option<PoolConnection<Postgres>>);

impl Lease {
    /// A connection of the pool, made anew where none is free.
    pub(super) async fn of(pool: &PgPool) -> Result<Self, ReadError> {
        match pool.acquire().await {
            Ok(connection) => Ok(Self(Some(connection))),
            Err(sqlx::Error::PoolTimedOut) if pool.size() < pool.options().get_max_connections() => {
                Err(ReadError::Unavailable("no connection could be made".to_owned()))
            }
            Err(sqlx::Error::PoolTimedOut) => Err(ReadError::Timeout),
            Err(error) => Err(read_error(error)),
        }
    }

    pub(super) fn connection(&mut self) -> Result<&mut PgConnection, ReadError> {
        let connection = self.0.as_deref_mut();
        connection.ok_or_else(|| ReadError::Unavailable("the connection was given back".to_owned()))
    }

    /// Ends the read: the connection goes back to the pool, unless it is in doubt. It is as before after a statement that
    /// was cancelled, and where only the question was wrong.
    pub(super) fn end<T>(mut self, answer: Result<T, ReadError>) -> Result<T, ReadError> {
        if !matches!(answer, Err(ReadError::Unavailable(_) | ReadError::Damaged(_))) {
            self.0 = None;
        }
        answer
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}
