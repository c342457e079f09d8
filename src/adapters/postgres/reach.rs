//! Whether the database answers, for those who begin.

use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};
use tokio::time::{sleep, timeout};

use super::{fault::words, settings::PostgresSettings};

/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(250);

/// Why the database cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// Nobody answers, or it takes no connections now.
    #[error("the database {place} does not answer: {why}")]
    Away { place: String, why: String },
    /// It answers, and does not let this user in.
    #[error("the database {place} refuses: {why}")]
    Refused { place: String, why: String },
}

/// Waits until the database answers, at most for `patience`.
///
/// # Errors
/// [`Unreachable`]; what is refused is not tried again.
pub async fn reach(settings: &PostgresSettings, patience: Duration) -> Result<(), Unreachable> {
    let until = Instant::now() + patience;
    let mut is_told = false;
    loop {
        let Err(error) = attempt(settings).await else { return Ok(()) };
        if matches!(error, Unreachable::Refused { .. }) || Instant::now() + PAUSE >= until {
            return Err(error);
        }
        if !is_told {
            tracing::warn!("{error}; trying for {} s", patience.as_secs());
            is_told = true;
        }
        sleep(PAUSE).await;
    }
}

async fn attempt(settings: &PostgresSettings) -> Result<(), Unreachable> {
    let place = settings.place();
    let options = settings.options("start");
    let connecting = PgConnection::connect_with(&options);
    let connection = match timeout(settings.connect_timeout, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) if is_refusal(&error) => return Err(Unreachable::Refused { place, why: words(&error) }),
        Ok(Err(error)) => return Err(Unreachable::Away { place, why: words(&error) }),
        Err(_) => {
            let why = format!("no answer within {} s", settings.connect_timeout.as_secs());
            return Err(Unreachable::Away { place, why });
        }
    };
    // It has answered: how the connection ends is of no interest.
    let _ = timeout(settings.connect_timeout, connection.close()).await;
    Ok(())
}

/// Whether waiting does not help: wrong password, unknown database, certificates, or a URL that asks for what the server
/// does not have.
fn is_refusal(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(fault) => {
            fault.code().is_some_and(|code| matches!(code.get(..2), Some("28" | "3D" | "42")))
        }
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => true,
        _ => false,
    }
}
