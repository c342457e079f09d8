//! Who a client is: SASL with PLAIN and SCRAM (KIP-43, KIP-84, KIP-152, KIP-368).
//!
//! Nothing here reads a socket: [`Session`] takes decoded requests and tells what to answer, an
//! [`Exchange`] takes the tokens of one mechanism, [`Users`] knows the secrets.
//!
//! Invariants: no order of messages leads to an authenticated session without a proof of the
//! secret; a user that does not exist is answered as one that does, until the proof fails; secrets
//! are compared in constant time and are in no message, log line or `Debug` text.

mod plain;
mod scram;
mod session;
#[cfg(test)]
mod tests;
pub(crate) mod users;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

pub(crate) use scram::{Hash, MIN_ITERATIONS, ScramKeys};
pub(crate) use session::{Outcome, Session};
pub(crate) use users::MAX_NAME_BYTES;
use users::Users;

use crate::config::{AuthConfig, Mechanism, User};
use crate::error::OpenError;
use crate::meta::MetaStore;
use plain::check_plain;
use scram::Scram;

impl Mechanism {
    /// The mechanism of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Plain, Self::ScramSha256, Self::ScramSha512].into_iter().find(|m| m.name() == name)
    }
}

/// What the listeners of one kind ask of their clients.
#[derive(Debug)]
pub(crate) struct Authenticator {
    mechanisms: Vec<Mechanism>,
    users: Users,
    max_session: Option<Duration>,
}

impl Authenticator {
    /// Derives the keys of all users, some milliseconds each.
    ///
    /// # Errors
    /// No mechanism, an impossible user, or a system without random numbers.
    pub fn new(config: &AuthConfig, stored: Arc<Mutex<MetaStore>>) -> Result<Self, OpenError> {
        if config.mechanisms.is_empty() {
            return Err(OpenError::Config("auth.mechanisms is empty"));
        }
        let users = Users::new(&config.users, &config.mechanisms)?.with_stored(stored);
        Ok(Self { mechanisms: config.mechanisms.clone(), users, max_session: config.max_session })
    }

    /// By PLAIN for a user of the embedder's own beside those of the configuration.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn internal(own: &User, config: Option<&AuthConfig>) -> Result<Self, OpenError> {
        let mechanisms = vec![Mechanism::Plain];
        let mut users = config.map_or_else(Vec::new, |config| config.users.clone());
        users.push(own.clone());
        let users = Users::new(&users, &mechanisms)?;
        Ok(Self { mechanisms, users, max_session: None })
    }
}

/// What one token leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A challenge; the client's next token belongs to the same exchange.
    Challenge(Vec<u8>),
    /// The client has shown that it is this user.
    Done { user: String, last: Vec<u8> },
    /// The exchange is over.
    Failed(&'static str),
}

/// Reason of a failed proof: the same for an unknown user and for a wrong secret.
const WRONG_SECRET: &str = "the user name or the password is wrong";
/// Reason of a client that wants to act for another user.
const ANOTHER_IDENTITY: &str = "a client can act for its own user alone";

/// The tokens of one mechanism, from the first to the last.
#[derive(Debug)]
enum Exchange {
    Plain,
    Scram(Box<Scram>),
}

impl Exchange {
    fn begin(mechanism: Mechanism, users: &Users) -> Result<Self, OpenError> {
        Ok(match mechanism.hash() {
            None => Self::Plain,
            Some(hash) => Self::Scram(Box::new(Scram::new(hash, users.nonce()?))),
        })
    }

    fn step(&mut self, token: &[u8], users: &Users) -> Step {
        match self {
            Self::Plain => check_plain(token, users),
            Self::Scram(scram) => scram.step(token, users),
        }
    }
}

impl Mechanism {
    /// The hash of its proof; none where the password itself is sent.
    pub(crate) fn hash(self) -> Option<Hash> {
        match self {
            Self::Plain => None,
            Self::ScramSha256 => Some(Hash::Sha256),
            Self::ScramSha512 => Some(Hash::Sha512),
        }
    }
}
