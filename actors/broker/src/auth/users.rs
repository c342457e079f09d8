//! Users and what is kept of their secrets: no password, but what a proof is checked against.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use parking_lot::Mutex;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;

use super::scram::{Hash, MIN_ITERATIONS, ScramKeys};
use crate::config::{Mechanism, User};
use crate::error::OpenError;
use crate::meta::MetaStore;

/// Users of one configuration; each has keys of its own for each hash.
pub const MAX_USERS: usize = 1_000;
/// Bytes of a user name, as of a SASL name (RFC 4616).
pub(crate) const MAX_NAME_BYTES: usize = 255;
const SECRET_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const SALT_BYTES: usize = 16;

/// What is kept of a user's password.
struct Known {
    /// Keyed digest of the password, so that comparing takes the same time whatever its length.
    password: hmac::Tag,
    scram: HashMap<Hash, ScramKeys>,
}

/// Users from the configuration, and those that administrators stored.
pub(crate) struct Users {
    known: HashMap<String, Known>,
    stored: Option<Arc<Mutex<MetaStore>>>,
    /// Random in each process: salts of all users and keys of unknown ones come from it.
    secret: hmac::Key,
    random: SystemRandom,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("known", &self.known.len()).finish_non_exhaustive()
    }
}

/// Keys to check a client against.
pub(super) struct Found {
    pub keys: ScramKeys,
    /// Without it no proof is accepted.
    pub is_known: bool,
}

impl Users {
    /// Derives what is kept of the users' passwords.
    ///
    /// # Errors
    /// A user without name or password, a name used twice, or a system without random numbers.
    pub fn new(users: &[User], mechanisms: &[Mechanism]) -> Result<Self, OpenError> {
        let random = SystemRandom::new();
        let secret: [u8; SECRET_BYTES] = random_bytes(&random)?;
        let mut new =
            Self { known: HashMap::new(), stored: None, secret: hmac::Key::new(hmac::HMAC_SHA256, &secret), random };
        if users.len() > MAX_USERS {
            return Err(OpenError::Config("auth.users has more than 1000 users"));
        }
        for user in users {
            check(user)?;
            let scram = mechanisms.iter().filter_map(|mechanism| mechanism.hash()).map(|hash| {
                let salt = new.salt(hash, &user.name);
                (hash, ScramKeys::derive(hash, user.password().as_bytes(), salt, MIN_ITERATIONS))
            });
            let known = Known { password: new.digest(user.password()), scram: scram.collect() };
            if new.known.insert(user.name.clone(), known).is_some() {
                return Err(OpenError::Config("auth.users has a name twice"));
            }
        }
        Ok(new)
    }

    /// Adds the users that administrators stored (KIP-554).
    pub fn with_stored(mut self, stored: Arc<Mutex<MetaStore>>) -> Self {
        self.stored = Some(stored);
        self
    }

    /// Whether a user of the configuration has this password.
    pub(super) fn has_password(&self, name: &str, password: &str) -> bool {
        let given = self.digest(password);
        let nobody = self.digest("");
        let known = self.known.get(name).map(|known| known.password);
        let is_equal: bool = given.as_ref().ct_eq(known.unwrap_or(nobody).as_ref()).into();
        is_equal && known.is_some()
    }

    /// The keys of a user; made-up ones, always the same, for a user that does not exist.
    pub(super) fn scram_keys(&self, hash: Hash, name: &str) -> Found {
        let nobody = self.made_up(hash, name);
        let stored = self.stored.as_ref().and_then(|meta| meta.lock().state().scram_keys(hash, name).cloned());
        let found = stored.or_else(|| self.known.get(name)?.scram.get(&hash).cloned());
        Found { is_known: found.is_some(), keys: found.unwrap_or(nobody) }
    }

    /// A nonce that was never used.
    ///
    /// # Errors
    /// A system without random numbers.
    pub(super) fn nonce(&self) -> Result<String, OpenError> {
        Ok(STANDARD_NO_PAD.encode(random_bytes::<NONCE_BYTES>(&self.random)?))
    }

    /// Gives a user of the configuration other keys.
    #[cfg(test)]
    pub(super) fn set_keys(&mut self, name: &str, hash: Hash, keys: ScramKeys) {
        self.known.get_mut(name).expect("the user is configured").scram.insert(hash, keys);
    }

    fn digest(&self, password: &str) -> hmac::Tag {
        hmac::sign(&self.secret, password.as_bytes())
    }

    fn salt(&self, hash: Hash, name: &str) -> Vec<u8> {
        let label = format!("salt {} {name}", hash.name());
        hmac::sign(&self.secret, label.as_bytes()).as_ref()[..SALT_BYTES].to_vec()
    }

    fn made_up(&self, hash: Hash, name: &str) -> ScramKeys {
        let label = format!("keys {} {name}", hash.name());
        let key = hash.hmac(hmac::sign(&self.secret, label.as_bytes()).as_ref(), b"");
        ScramKeys {
            salt: self.salt(hash, name),
            iterations: MIN_ITERATIONS,
            stored_key: key.as_ref().to_vec(),
            server_key: key.as_ref().to_vec(),
        }
    }
}

fn check(user: &User) -> Result<(), OpenError> {
    let is_text = |text: &str| !text.is_empty() && !text.contains('\0');
    if !is_text(&user.name) || user.name.len() > MAX_NAME_BYTES {
        return Err(OpenError::Config("auth.users has a name that is empty, too long or has a NUL"));
    }
    if !is_text(user.password()) {
        return Err(OpenError::Config("auth.users has a password that is empty or has a NUL"));
    }
    Ok(())
}

fn random_bytes<const N: usize>(random: &SystemRandom) -> Result<[u8; N], OpenError> {
    let mut bytes = [0; N];
    random.fill(&mut bytes).map_err(|_| OpenError::Config("auth needs the system's random numbers"))?;
    Ok(bytes)
}
