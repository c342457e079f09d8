//! The authentication of one connection, and its renewal (KIP-152, KIP-368).

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};

use super::{Authenticator, Exchange, Step};
use crate::config::Mechanism;
use crate::error::Code;
use crate::wire::text;

/// Version of the handshake after which tokens come without a Kafka header.
const BARE_TOKENS_VERSION: i16 = 0;

/// What a client has shown so far, and what it may do next.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) auth: Arc<Authenticator>,
    stage: Stage,
    identity: Option<Identity>,
}

/// A client that has proven who it is.
#[derive(Debug)]
struct Identity {
    user: String,
    mechanism: Mechanism,
    expires: Option<Instant>,
}

#[derive(Debug)]
enum Stage {
    /// A handshake may come.
    Idle,
    /// Tokens of this mechanism come.
    Exchanging { mechanism: Mechanism, exchange: Exchange, tokens: Tokens },
    /// Nothing may come any more.
    Failed,
}

/// How tokens are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tokens {
    InRequests,
    Bare,
}

/// What a token led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Bytes for the client; its next token is expected.
    Challenge(Vec<u8>),
    /// Bytes for the client, and how long the session holds.
    Authenticated(Vec<u8>, Option<Duration>),
    /// The connection ends after this error.
    Refused(Code, &'static str),
}

impl Session {
    /// Of a client that has shown nothing.
    pub fn new(auth: Arc<Authenticator>) -> Self {
        Self { auth, stage: Stage::Idle, identity: None }
    }

    /// The user, once it is proven.
    pub fn user(&self) -> Option<&str> {
        self.identity.as_ref().map(|identity| identity.user.as_str())
    }

    /// Whether the proof is too old, so that nothing but its renewal is served (KIP-368).
    pub fn is_expired(&self, now: Instant) -> bool {
        let expires = self.identity.as_ref().and_then(|identity| identity.expires);
        expires.is_some_and(|expires| now >= expires)
    }

    /// Whether a renewal has begun, so that no other request may come before it ends.
    pub fn is_renewing(&self) -> bool {
        self.identity.is_some() && !matches!(self.stage, Stage::Idle)
    }

    /// Whether the next frame is a token without a header.
    pub fn expects_bare_token(&self) -> bool {
        matches!(self.stage, Stage::Exchanging { tokens: Tokens::Bare, .. })
    }

    /// Whether the connection ends after the answer that was just made.
    pub fn has_failed(&self) -> bool {
        matches!(self.stage, Stage::Failed)
    }

    /// Chooses a mechanism; an error in the answer ends the connection.
    pub fn handshake(&mut self, request: &SaslHandshakeRequest, version: i16) -> SaslHandshakeResponse {
        let names = self.auth.mechanisms.iter().map(|mechanism| text(mechanism.name())).collect();
        let answer = SaslHandshakeResponse::default().with_mechanisms(names);
        match self.choose(&request.mechanism, version) {
            Ok(stage) => {
                self.stage = stage;
                answer
            }
            Err(code) => {
                self.stage = Stage::Failed;
                answer.with_error_code(code.code())
            }
        }
    }

    fn choose(&self, name: &str, version: i16) -> Result<Stage, Code> {
        if !matches!(self.stage, Stage::Idle) {
            return Err(Code::IllegalSaslState);
        }
        let mechanism = Mechanism::named(name).filter(|mechanism| self.auth.mechanisms.contains(mechanism));
        let mechanism = mechanism.ok_or(Code::UnsupportedSaslMechanism)?;
        // Whoever renews keeps its mechanism (KIP-368).
        if self.identity.as_ref().is_some_and(|identity| identity.mechanism != mechanism) {
            return Err(Code::IllegalSaslState);
        }
        let exchange = Exchange::begin(mechanism, &self.auth.users).map_err(|_| Code::UnknownServerError)?;
        let tokens = if version == BARE_TOKENS_VERSION { Tokens::Bare } else { Tokens::InRequests };
        Ok(Stage::Exchanging { mechanism, exchange, tokens })
    }

    /// Takes a token of the chosen mechanism.
    pub fn authenticate(&mut self, token: &[u8], now: Instant) -> Outcome {
        let stage = std::mem::replace(&mut self.stage, Stage::Failed);
        let Stage::Exchanging { mechanism, mut exchange, tokens } = stage else {
            return Outcome::Refused(Code::IllegalSaslState, "a SaslHandshake has to come first");
        };
        match exchange.step(token, &self.auth.users) {
            Step::Challenge(bytes) => {
                self.stage = Stage::Exchanging { mechanism, exchange, tokens };
                Outcome::Challenge(bytes)
            }
            Step::Done { user, last } => self.accept(user, mechanism, last, now),
            Step::Failed(reason) => Outcome::Refused(Code::SaslAuthenticationFailed, reason),
        }
    }

    fn accept(&mut self, user: String, mechanism: Mechanism, last: Vec<u8>, now: Instant) -> Outcome {
        if self.user().is_some_and(|known| known != user) {
            return Outcome::Refused(Code::SaslAuthenticationFailed, "a connection cannot change its user");
        }
        let lifetime = self.auth.max_session;
        self.identity = Some(Identity { user, mechanism, expires: lifetime.and_then(|l| now.checked_add(l)) });
        self.stage = Stage::Idle;
        Outcome::Authenticated(last, lifetime)
    }

    /// As [`Self::authenticate`], by the request of KIP-152.
    pub fn answer(&mut self, request: &SaslAuthenticateRequest, now: Instant) -> SaslAuthenticateResponse {
        let outcome = if self.expects_bare_token() {
            self.stage = Stage::Failed;
            Outcome::Refused(Code::IllegalSaslState, "tokens after SaslHandshake version 0 come without header")
        } else {
            self.authenticate(&request.auth_bytes, now)
        };
        let answer = SaslAuthenticateResponse::default();
        match outcome {
            Outcome::Challenge(bytes) => answer.with_auth_bytes(bytes.into()),
            Outcome::Authenticated(bytes, lifetime) => {
                let lifetime_ms = lifetime.map_or(0, |l| i64::try_from(l.as_millis()).unwrap_or(i64::MAX));
                answer.with_auth_bytes(bytes.into()).with_session_lifetime_ms(lifetime_ms)
            }
            Outcome::Refused(code, reason) => {
                answer.with_error_code(code.code()).with_error_message(Some(text(reason)))
            }
        }
    }
}
