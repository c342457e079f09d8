//! How to reach the database.

use std::{net::IpAddr, ops::RangeInclusive, str::FromStr, time::Duration};

use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// Statements kept prepared on each connection.
const STATEMENTS: usize = 256;

/// Where the database is, and how many connections there may be.
#[derive(Clone)]
pub struct PostgresSettings {
    options: PgConnectOptions,
    /// Connections that answer reads; a few more write, relay and look after the tables.
    pub pool: u32,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a start waits for an answer.
    pub patience: Duration,
}

impl PostgresSettings {
    /// Of [`Self::pool`].
    pub const POOL: RangeInclusive<u32> = 1..=64;

    /// Of a URL `postgres://USER@HOST:PORT/DATABASE?sslmode=…` and a password that stands elsewhere.
    ///
    /// # Errors
    /// What is wrong with the URL, without the URL: a password may stand in it.
    pub fn of(url: &str, password: Option<&str>, pool: u32) -> Result<Self, String> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err("is no postgres://USER@HOST:PORT/DATABASE".to_owned());
        }
        let mut options = PgConnectOptions::from_str(url).map_err(|error| error.to_string())?;
        if let Some(password) = password {
            options = options.password(password);
        }
        let options = options.statement_cache_capacity(STATEMENTS);
        Ok(Self { options, pool, connect_timeout: Duration::from_secs(5), patience: Duration::ZERO })
    }

    /// The same, with a start that waits so long.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Host, port and database, for messages.
    #[must_use]
    pub fn place(&self) -> String {
        let database = self.options.get_database().unwrap_or_else(|| self.options.get_username());
        format!("{}:{}/{database}", self.options.get_host(), self.options.get_port())
    }

    /// What works and is hardly meant: a server elsewhere whose name nobody checks.
    #[must_use]
    pub fn remark(&self) -> Option<String> {
        let host = self.options.get_host();
        let is_here = self.options.get_socket().is_some()
            || host == "localhost"
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let is_checked = matches!(self.options.get_ssl_mode(), PgSslMode::VerifyFull);
        (!is_here && !is_checked).then(|| {
            format!(
                "storage.postgres.url: nobody checks who {host} is, and rows may go there as plain text: add \
                 ?sslmode=verify-full, and sslrootcert=FILE where its certificate is of an authority of your own"
            )
        })
    }

    /// What a connection is opened with. `role` names it in `pg_stat_activity`.
    #[must_use]
    pub fn options(&self, role: &str) -> PgConnectOptions {
        self.options.clone().application_name(&format!("streamward {role}"))
    }
}

impl std::fmt::Debug for PostgresSettings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PostgresSettings").field("place", &self.place()).field("pool", &self.pool).finish()
    }
}
