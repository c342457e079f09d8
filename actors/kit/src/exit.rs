//! How an incarnation ended: the reason for the machine, the report for the operator.
//!
//! | how it ended | reason | a transient child comes back |
//! |---|---|---|
//! | returned `Ok` by itself | [`ExitReason::Normal`] | no |
//! | returned `Ok` after it was asked to end | [`ExitReason::Shutdown`] | no |
//! | returned a [`Failure`] | [`ExitReason::Error`] | yes |
//! | panicked, in any of its polls or while its locals were dropped | [`ExitReason::Panic`] | yes |
//! | had one message in hand for too long | [`ExitReason::Stuck`] | yes |
//! | stood still while work was pending | [`ExitReason::NoProgress`] | yes |
//! | failed in its factory, before its first wait and first message, or had no thread | [`ExitReason::StartFailed`] | yes |
//! | was aborted, or its arbiter ended | [`ExitReason::Killed`] | yes |
//! | its arbiter is held by somebody else | [`ExitReason::Stranded`] | yes, uncharged |
//! | a supervisor gave up | [`ExitReason::Escalated`] | yes |
//!
//! There is one report per generation: an incarnation that was told to be stuck and ends later is not told again. The
//! culprit is the record of the innermost hand when it panicked or was found stuck, or the one that a [`Failure`]
//! names; whoever returns a failure has put everything down already, so it has to say it.

use std::{fmt, sync::Arc, time::SystemTime};

use serde::Serialize;

/// Longest message kept in a report, in bytes.
pub const MAX_MESSAGE_LEN: usize = 2_000;

/// The record that was in hand when something failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Culprit {
    /// Topic, or any other name of the place the record came from.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: i32,
    /// Offset of the record, or the first of its batch.
    pub offset: i64,
}

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.topic, self.partition, self.offset)
    }
}

/// The error a role ends with.
///
/// Made from any error with `?`; it is not an [`std::error::Error`] itself for that reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong, causes included.
    pub message: String,
    /// The record it went wrong with.
    pub culprit: Option<Culprit>,
}

impl Failure {
    /// A failure with a message.
    #[must_use]
    pub fn new(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), culprit: None }
    }

    /// The same failure, tied to a record.
    #[must_use]
    pub fn with_culprit(self, culprit: Culprit) -> Self {
        Self { culprit: Some(culprit), ..self }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self { message, culprit: None }
    }
}

/// Why an incarnation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// It returned by itself.
    Normal,
    /// It returned because it was asked to.
    Shutdown,
    /// It returned a [`Failure`].
    Error,
    /// It panicked.
    Panic,
    /// It had one message in hand for too long and was fenced.
    Stuck,
    /// Work was pending and it stood still without a reason; it was fenced.
    NoProgress,
    /// It failed before it first waited for anything or took a message.
    StartFailed,
    /// It was aborted: it missed its stop limit, or its arbiter ended.
    Killed,
    /// Its arbiter was blocked by another actor; it moves to a fresh one and is not blamed.
    Stranded,
    /// A supervisor that gave up on its children.
    Escalated,
}

impl ExitReason {
    /// True if a transient child comes back after it.
    #[must_use]
    pub fn is_abnormal(self) -> bool {
        match self {
            Self::Normal | Self::Shutdown => false,
            Self::Error
            | Self::Panic
            | Self::Stuck
            | Self::NoProgress
            | Self::StartFailed
            | Self::Killed
            | Self::Stranded
            | Self::Escalated => true,
        }
    }
}

/// What the operator is told about an exit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExitReport {
    /// Generation that ended.
    pub generation: u64,
    /// Why.
    pub reason: ExitReason,
    /// Panic message or error text, at most [`MAX_MESSAGE_LEN`] bytes; empty if there is nothing to say.
    pub message: String,
    /// `file:line:column` of a panic.
    pub location: Option<String>,
    /// First frames of a panic, once they are resolved; none in stripped binaries.
    pub backtrace_head: Option<String>,
    /// The record in hand.
    pub culprit: Option<Culprit>,
    /// True if the fault was injected.
    pub injected: bool,
    /// Milliseconds since the epoch.
    pub at: u64,
}

impl ExitReport {
    pub(crate) fn new(generation: u64, reason: ExitReason, message: impl Into<String>) -> Self {
        Self {
            generation,
            reason,
            message: cut(message.into()),
            location: None,
            backtrace_head: None,
            culprit: None,
            injected: false,
            at: epoch_ms(),
        }
    }
}

fn cut(mut message: String) -> String {
    if message.len() > MAX_MESSAGE_LEN {
        let end = (0..=MAX_MESSAGE_LEN).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(end);
    }
    message
}

pub(crate) fn epoch_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let report = ExitReport::new(1, ExitReason::Error, "ä".repeat(MAX_MESSAGE_LEN));
        assert!(report.message.len() <= MAX_MESSAGE_LEN);
        assert!(report.message.chars().all(|c| c == 'ä'));
    }

    #[test]
    fn a_failure_keeps_the_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::num::ParseIntError);
        let failure = Failure::from(Outer("x".parse::<i32>().unwrap_err()));
        assert_eq!(failure.message, "outer: invalid digit found in string");
    }
}
