//! The form in which a checkpoint keeps state: named chunks of bytes.
//!
//! A chunk is `version: u8, covered: i64, shape length: u32, shape, body length: u32, body`, little endian, the body in
//! postcard. `covered` is the offset up to which it covers the log; `shape` says what the plan must agree with. Nothing
//! may follow the body.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

use crate::output::StateChunk;

/// Version of the form of chunks.
const VERSION: u8 = 1;

/// Why a checkpoint cannot be taken up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The bytes are not a chunk, or do not hold together.
    #[error("the state chunk '{chunk}' is damaged: {reason}")]
    Damaged { chunk: String, reason: &'static str },
    /// Written by another version of this program.
    #[error("the state chunk '{chunk}' has version {found}, this program reads version {VERSION}")]
    Version { chunk: String, found: u8 },
    /// The step has other settings now. Without this chunk, the step is new.
    #[error("the state chunk '{chunk}' belongs to another plan: it has {found}, the plan has {wanted}")]
    OtherPlan { chunk: String, found: String, wanted: String },
    /// The plan has no such step. The rest can be taken up without this chunk.
    #[error("the state chunk '{chunk}' belongs to a step that the plan does not have")]
    UnknownChunk { chunk: String },
    /// There is no watermark, so nothing says up to where the state covers the log.
    #[error("the checkpoint has no chunk 'watermark'")]
    NoWatermark,
}

/// What a chunk holds.
#[derive(Debug)]
pub(crate) struct Opened<T> {
    pub(crate) covered: i64,
    pub(crate) body: T,
}

/// A chunk of that name, for a plan that says `shape`.
pub(crate) fn chunk<T: Serialize>(name: Arc<str>, covered: i64, shape: &str, body: &T) -> StateChunk {
    let body = postcard::to_stdvec(body).expect("state has no types that postcard refuses");
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&covered.to_le_bytes());
    for part in [shape.as_bytes(), &body] {
        let length = u32::try_from(part.len()).expect("limits keep a chunk far below 4 GiB");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(part);
    }
    StateChunk { name, bytes }
}

/// What a chunk holds, for a plan that says `wanted`.
pub(crate) fn open<T: DeserializeOwned>(chunk: &StateChunk, wanted: &str) -> Result<Opened<T>, StateError> {
    let Parts { covered, shape, body: bytes } = parts(chunk)?;
    if shape != wanted.as_bytes() {
        let (found, wanted) = (String::from_utf8_lossy(shape).into_owned(), wanted.to_owned());
        return Err(StateError::OtherPlan { chunk: chunk.name.to_string(), found, wanted });
    }
    Ok(Opened { covered, body: body(chunk, bytes)? })
}

/// What a chunk holds, whatever plan it belongs to.
pub(crate) fn open_any<T: DeserializeOwned>(chunk: &StateChunk) -> Result<T, StateError> {
    let parts = parts(chunk)?;
    body::<T>(chunk, parts.body)
}

/// A fault of what a chunk holds.
pub(crate) fn damaged(chunk: &StateChunk, reason: &'static str) -> StateError {
    StateError::Damaged { chunk: chunk.name.to_string(), reason }
}

/// A chunk apart.
struct Parts<'a> {
    covered: i64,
    shape: &'a [u8],
    body: &'a [u8],
}

fn parts(chunk: &StateChunk) -> Result<Parts<'_>, StateError> {
    let cut_off = || damaged(chunk, "it is cut off");
    let mut rest = chunk.bytes.as_slice();
    let version = take(&mut rest, 1).ok_or_else(cut_off)?[0];
    if version != VERSION {
        return Err(StateError::Version { chunk: chunk.name.to_string(), found: version });
    }
    let covered = take(&mut rest, 8).and_then(|bytes| bytes.try_into().ok()).map(i64::from_le_bytes);
    let covered = covered.ok_or_else(cut_off)?;
    let shape = part(&mut rest).ok_or_else(cut_off)?;
    let body = part(&mut rest).ok_or_else(cut_off)?;
    if !rest.is_empty() {
        return Err(damaged(chunk, "bytes follow its end"));
    }
    Ok(Parts { covered, shape, body })
}

fn body<T: DeserializeOwned>(chunk: &StateChunk, bytes: &[u8]) -> Result<T, StateError> {
    match postcard::take_from_bytes(bytes) {
        Ok((body, [])) => Ok(body),
        Ok(_) | Err(_) => Err(damaged(chunk, "its body cannot be read")),
    }
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_le_bytes(take(rest, 4)?.try_into().ok()?);
    take(rest, usize::try_from(length).ok()?)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    Some(head)
}
