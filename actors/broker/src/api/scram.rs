//! DescribeUserScramCredentials and AlterUserScramCredentials (KIP-554): users of the configuration
//! are listed; what administrators alter is stored and comes before it.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::alter_user_scram_credentials_request::ScramCredentialUpsertion;
use kafka_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use kafka_protocol::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
};

use super::Call;
use crate::auth::{Hash, MAX_NAME_BYTES, MIN_ITERATIONS, ScramKeys};
use crate::broker::Inner;
use crate::error::Code;
use crate::meta::{Change, Durability};
use crate::wire::text;

/// Most iterations of a stored credential, as in Kafka: a client has to do them at each connection.
const MAX_ITERATIONS: u32 = 16_384;
/// Users with a stored credential.
const MAX_STORED_USERS: usize = 1_000;
const MAX_SALT_BYTES: usize = 256;

/// A refusal: its code, and words for the administrator.
type Refused = (Code, &'static str);

/// Numbers of the hashes in requests.
fn hash(mechanism: i8) -> Option<Hash> {
    match mechanism {
        1 => Some(Hash::Sha256),
        2 => Some(Hash::Sha512),
        _ => None,
    }
}

fn wire(hash: Hash) -> i8 {
    match hash {
        Hash::Sha256 => 1,
        Hash::Sha512 => 2,
    }
}

/// Hashes and iterations by user: those of the configuration, over them those that are stored.
fn credentials(broker: &Inner) -> BTreeMap<String, BTreeMap<Hash, u32>> {
    let mut all = BTreeMap::<String, BTreeMap<Hash, u32>>::new();
    if let Some(auth) = &broker.config.auth {
        for user in &auth.users {
            let hashes = auth.mechanisms.iter().filter_map(|mechanism| mechanism.hash());
            all.entry(user.name.clone()).or_default().extend(hashes.map(|hash| (hash, MIN_ITERATIONS)));
        }
    }
    for (user, keys) in &broker.meta.lock().state().scram {
        let stored = keys.iter().map(|(hash, keys)| (*hash, keys.iterations));
        all.entry(user.clone()).or_default().extend(stored);
    }
    all.retain(|_, hashes| !hashes.is_empty());
    all
}

/// Tells mechanisms and iterations of users, never their keys.
pub(super) fn describe(
    call: &Call<'_>,
    request: &DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let known = credentials(call.inner());
    let named = request.users.as_ref().filter(|users| !users.is_empty());
    let names: Vec<String> = match named {
        None => known.keys().cloned().collect(),
        Some(users) => users.iter().map(|user| user.name.to_string()).collect(),
    };
    let mut seen = BTreeSet::new();
    let repeated: BTreeSet<String> = names.iter().filter(|name| !seen.insert(*name)).cloned().collect();
    let one = |name: &String| {
        let result = DescribeUserScramCredentialsResult::default().with_user(text(name.as_str()));
        let refused =
            |code: Code, words| result.clone().with_error_code(code.code()).with_error_message(Some(text(words)));
        match known.get(name) {
            _ if repeated.contains(name) => refused(Code::DuplicateResource, "the user is named twice".to_owned()),
            None => refused(Code::ResourceNotFound, format!("there is no SCRAM credential of a user {name}")),
            Some(hashes) => {
                let info = |(hash, iterations): (&Hash, &u32)| {
                    CredentialInfo::default().with_mechanism(wire(*hash)).with_iterations(iterations.cast_signed())
                };
                result.with_credential_infos(hashes.iter().map(info).collect())
            }
        }
    };
    let asked: BTreeSet<&String> = names.iter().collect();
    DescribeUserScramCredentialsResponse::default().with_results(asked.into_iter().map(one).collect())
}

/// Stores and removes credentials; for each user all of its alterations or none.
pub(super) async fn alter(
    call: &Call<'_>,
    request: AlterUserScramCredentialsRequest,
) -> AlterUserScramCredentialsResponse {
    let mut wanted = BTreeMap::<String, Vec<Result<(Hash, Option<ScramKeys>), Refused>>>::new();
    for deletion in &request.deletions {
        let hash = hash(deletion.mechanism).ok_or(UNKNOWN_MECHANISM);
        wanted.entry(deletion.name.to_string()).or_default().push(hash.map(|hash| (hash, None)));
    }
    for upsertion in &request.upsertions {
        let keys = keys(upsertion).map(|(hash, keys)| (hash, Some(keys)));
        wanted.entry(upsertion.name.to_string()).or_default().push(keys);
    }
    let mut results = Vec::with_capacity(wanted.len());
    for (user, edits) in wanted {
        let result = AlterUserScramCredentialsResult::default().with_user(text(user.as_str()));
        let edits: Result<Vec<_>, Refused> = edits.into_iter().collect();
        let work = move |broker: &Inner| edits.and_then(|edits| store(broker, &user, edits));
        let outcome = call.blocking(work).await.unwrap_or_else(|code| Err((code, "the work was interrupted")));
        results.push(match outcome {
            Ok(()) => result,
            Err((code, words)) => result.with_error_code(code.code()).with_error_message(Some(text(words))),
        });
    }
    AlterUserScramCredentialsResponse::default().with_results(results)
}

const UNKNOWN_MECHANISM: Refused = (Code::UnsupportedSaslMechanism, "the mechanism is neither 1 nor 2");

fn keys(wanted: &ScramCredentialUpsertion) -> Result<(Hash, ScramKeys), Refused> {
    let hash = hash(wanted.mechanism).ok_or(UNKNOWN_MECHANISM)?;
    let iterations = u32::try_from(wanted.iterations).unwrap_or(0);
    let unacceptable = |words| Err((Code::UnacceptableCredential, words));
    if !(MIN_ITERATIONS..=MAX_ITERATIONS).contains(&iterations) {
        return unacceptable("iterations are 4096 to 16384");
    }
    if wanted.salted_password.len() != hash.len_bytes() {
        return unacceptable("the salted password is not as long as the hash");
    }
    if wanted.salt.is_empty() || wanted.salt.len() > MAX_SALT_BYTES {
        return unacceptable("a salt is 1 to 256 bytes");
    }
    Ok((hash, ScramKeys::from_salted(hash, &wanted.salted_password, wanted.salt.to_vec(), iterations)))
}

/// Checks all edits of a user, then makes them durable in one change.
fn store(broker: &Inner, user: &str, edits: Vec<(Hash, Option<ScramKeys>)>) -> Result<(), Refused> {
    if !(1..=MAX_NAME_BYTES).contains(&user.len()) || user.contains('\0') {
        return Err((Code::UnacceptableCredential, "a user name is 1 to 255 bytes without NUL"));
    }
    let configured = broker.config.auth.iter().flat_map(|auth| &auth.users).any(|known| known.name == user);
    let mut meta = broker.meta.lock();
    let stored = meta.state().scram.get(user).cloned();
    if stored.is_none() && meta.state().scram.len() >= MAX_STORED_USERS {
        return Err((Code::UnacceptableCredential, "there are as many users as the broker stores"));
    }
    let mut seen = BTreeSet::new();
    if !edits.iter().all(|(hash, _)| seen.insert(*hash)) {
        return Err((Code::DuplicateResource, "a credential is altered twice"));
    }
    let mut keys = stored.unwrap_or_default();
    for (hash, edit) in edits {
        match edit {
            Some(new) => {
                keys.insert(hash, new);
            }
            None if keys.remove(&hash).is_some() => {}
            None if configured => {
                return Err((Code::UnacceptableCredential, "the user is in the configuration: remove it there"));
            }
            None => return Err((Code::ResourceNotFound, "there is no such credential")),
        }
    }
    let change = Change::Scram { user: user.to_owned(), keys };
    meta.commit(change, Durability::Synced).map_err(|_| (Code::KafkaStorageError, "the change cannot be stored"))
}
