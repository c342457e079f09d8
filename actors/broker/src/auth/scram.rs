//! The server's side of SCRAM (RFC 5802, RFC 7677) without channel binding, as a state machine.
//!
//! Names and passwords are taken as UTF-8 without SASLprep, as Kafka's own clients and librdkafka
//! send them.

use std::num::NonZeroU32;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{digest, hmac, pbkdf2};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::{ANOTHER_IDENTITY, Step, Users, WRONG_SECRET};

/// Fewest iterations of the key derivation (RFC 7677).
pub(crate) const MIN_ITERATIONS: u32 = 4_096;
const MAX_NONCE_BYTES: usize = 1_024;

const NOT_FIRST: &str = "the first SCRAM message is malformed";
const NOT_FINAL: &str = "the final SCRAM message is malformed";

/// The hash of a SCRAM mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Sha512 => "SHA-512",
        }
    }

    pub fn hmac(self, key: &[u8], data: &[u8]) -> hmac::Tag {
        let algorithm = match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), data)
    }

    fn digest(self, data: &[u8]) -> digest::Digest {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, data)
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }

    /// Bytes of a digest.
    pub fn len_bytes(self) -> usize {
        match self {
            Self::Sha256 => digest::SHA256_OUTPUT_LEN,
            Self::Sha512 => digest::SHA512_OUTPUT_LEN,
        }
    }
}

/// What a server keeps of a password; not enough to authenticate as a client.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScramKeys {
    pub salt: Vec<u8>,
    pub iterations: u32,
    pub stored_key: Vec<u8>,
    pub server_key: Vec<u8>,
}

impl std::fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScramKeys").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl ScramKeys {
    /// From a password; costs `iterations` times two digests.
    pub fn derive(hash: Hash, password: &[u8], salt: Vec<u8>, iterations: u32) -> Self {
        let mut salted = vec![0; hash.len_bytes()];
        let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        pbkdf2::derive(hash.pbkdf2(), rounds, &salt, password, &mut salted);
        Self::from_salted(hash, &salted, salt, iterations)
    }

    /// From a password that was salted already.
    pub fn from_salted(hash: Hash, salted: &[u8], salt: Vec<u8>, iterations: u32) -> Self {
        let client_key = hash.hmac(salted, b"Client Key");
        Self {
            salt,
            iterations,
            stored_key: hash.digest(client_key.as_ref()).as_ref().to_vec(),
            server_key: hash.hmac(salted, b"Server Key").as_ref().to_vec(),
        }
    }

    /// Whether a client's proof fits what both sides said.
    fn is_proven(&self, hash: Hash, said: &[u8], proof: &[u8]) -> bool {
        let signature = hash.hmac(&self.stored_key, said);
        if proof.len() != signature.as_ref().len() {
            return false;
        }
        let client_key: Vec<u8> = proof.iter().zip(signature.as_ref()).map(|(p, s)| p ^ s).collect();
        hash.digest(&client_key).as_ref().ct_eq(&self.stored_key).into()
    }
}

/// One exchange: two messages of the client.
#[derive(Debug)]
pub(super) struct Scram {
    hash: Hash,
    nonce: String,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Start,
    Challenged(Challenge),
    Over,
}

/// What the final message is checked against.
#[derive(Debug)]
struct Challenge {
    user: String,
    keys: ScramKeys,
    is_known: bool,
    /// The client's header, which the final message repeats.
    header: String,
    /// Both nonces.
    nonce: String,
    /// The client's first message without its header, and the server's.
    said: String,
}

impl Scram {
    /// With a nonce of printable characters that is used once.
    pub fn new(hash: Hash, nonce: String) -> Self {
        Self { hash, nonce, stage: Stage::Start }
    }

    /// Takes the client's next message; any failure ends the exchange.
    pub fn step(&mut self, token: &[u8], users: &Users) -> Step {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Start => self.challenge(token, users).unwrap_or_else(Step::Failed),
            Stage::Challenged(challenge) => challenge.check(self.hash, token).unwrap_or_else(Step::Failed),
            Stage::Over => Step::Failed("the SCRAM exchange is over"),
        }
    }

    fn challenge(&mut self, token: &[u8], users: &Users) -> Result<Step, &'static str> {
        let first = ClientFirst::parse(token)?;
        let found = users.scram_keys(self.hash, &first.user);
        let nonce = format!("{}{}", first.nonce, self.nonce);
        let (salt, iterations) = (STANDARD.encode(&found.keys.salt), found.keys.iterations);
        let answer = format!("r={nonce},s={salt},i={iterations}");
        self.stage = Stage::Challenged(Challenge {
            user: first.user,
            keys: found.keys,
            is_known: found.is_known,
            header: first.header.to_owned(),
            nonce,
            said: format!("{},{answer}", first.bare),
        });
        Ok(Step::Challenge(answer.into_bytes()))
    }
}

impl Challenge {
    fn check(self, hash: Hash, token: &[u8]) -> Result<Step, &'static str> {
        let message = str::from_utf8(token).map_err(|_| NOT_FINAL)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(NOT_FINAL)?;
        let mut parts = without_proof.split(',');
        let binding = parts.next().and_then(|part| part.strip_prefix("c=")).ok_or(NOT_FINAL)?;
        let nonce = parts.next().and_then(|part| part.strip_prefix("r=")).ok_or(NOT_FINAL)?;
        if STANDARD.decode(binding).ok().as_deref() != Some(self.header.as_bytes()) {
            return Err("the final SCRAM message repeats another header");
        }
        if nonce != self.nonce {
            return Err("the final SCRAM message repeats another nonce");
        }
        let proof = STANDARD.decode(proof).map_err(|_| NOT_FINAL)?;
        let said = format!("{},{without_proof}", self.said);
        if !(self.keys.is_proven(hash, said.as_bytes(), &proof) & self.is_known) {
            return Err(WRONG_SECRET);
        }
        let signature = hash.hmac(&self.keys.server_key, said.as_bytes());
        let last = format!("v={}", STANDARD.encode(signature.as_ref())).into_bytes();
        Ok(Step::Done { user: self.user, last })
    }
}

/// The client's first message.
struct ClientFirst<'a> {
    header: &'a str,
    bare: &'a str,
    user: String,
    nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    fn parse(token: &'a [u8]) -> Result<Self, &'static str> {
        let message = str::from_utf8(token).map_err(|_| NOT_FIRST)?;
        let mut parts = message.splitn(3, ',');
        let (Some(binding), Some(acts_for), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NOT_FIRST);
        };
        if binding != "n" && binding != "y" {
            return Err("channel binding is not supported");
        }
        let header = &message[..message.len() - bare.len()];
        let mut parts = bare.split(',');
        // An extension that must be understood would come first, as m=.
        let user = parts.next().and_then(|part| part.strip_prefix("n=")).ok_or(NOT_FIRST)?;
        let nonce = parts.next().and_then(|part| part.strip_prefix("r=")).ok_or(NOT_FIRST)?;
        let is_nonce = (1..=MAX_NONCE_BYTES).contains(&nonce.len()) && nonce.bytes().all(|b| b.is_ascii_graphic());
        if user.is_empty() || !is_nonce {
            return Err(NOT_FIRST);
        }
        let user = unescape(user).ok_or(NOT_FIRST)?;
        if !acts_for.is_empty() {
            let acts_for = acts_for.strip_prefix("a=").and_then(unescape).ok_or(NOT_FIRST)?;
            if acts_for != user {
                return Err(ANOTHER_IDENTITY);
            }
        }
        Ok(Self { header, bare, user, nonce })
    }
}

/// A name with `=2C` for a comma and `=3D` for an equals sign; none if another escape is in it.
fn unescape(name: &str) -> Option<String> {
    let mut plain = String::with_capacity(name.len());
    let mut parts = name.split('=');
    plain.push_str(parts.next()?);
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        plain.push(match code {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        plain.push_str(rest);
    }
    Some(plain)
}
