//! Deleting: first softly, so that ids still resolve, then for ever.
//!
//! Source: `KafkaSchemaRegistry.deleteSubject` and `deleteSchemaVersion` of Confluent's registry.

use super::{Decision, check_not_read_only};
use crate::registry::{
    RegistryError,
    model::{Version, Visible, Which},
    record::{Change, SchemaValue},
    state::State,
};

/// Deletes a version softly, or one that is so for ever; answers its number.
pub fn delete_version(
    state: &State,
    subject: &str,
    which: Which,
    permanent: Permanent,
) -> Result<Decision<u32>, RegistryError> {
    let version = state.version(subject, which, Visible::All)?;
    if version.is_deleted && !permanent.0 {
        return Err(RegistryError::VersionSoftDeleted(subject.to_owned(), version.version));
    }
    check_not_read_only(state, Some(subject))?;
    if !state.referrers(subject, version.version, permanent.referrers()).is_empty() {
        return Err(RegistryError::ReferenceExists(subject.to_owned(), version.version));
    }
    let number = version.version;
    if !permanent.0 {
        let change = Change::Schema(SchemaValue::new(&Version { is_deleted: true, ..version }));
        return Ok(Decision { changes: vec![change], answer: number });
    }
    if !version.is_deleted {
        return Err(RegistryError::VersionNotSoftDeleted(subject.to_owned(), number));
    }
    let is_last = state.versions_of(subject, Visible::All).count() == 1;
    let mut changes = removal(state, subject, &[number]);
    if is_last {
        changes.extend(without_settings(state, subject));
    }
    Ok(Decision { changes, answer: number })
}

/// Deletes the versions of a subject softly, or for ever where all of them are so; answers their numbers.
pub fn delete_subject(state: &State, subject: &str, permanent: Permanent) -> Result<Decision<Vec<u32>>, RegistryError> {
    if !state.has_subject(subject, Visible::All) {
        return Err(RegistryError::SubjectNotFound(subject.to_owned()));
    }
    if !permanent.0 && !state.has_subject(subject, Visible::Live) {
        return Err(RegistryError::SubjectSoftDeleted(subject.to_owned()));
    }
    check_not_read_only(state, Some(subject))?;
    let visible = if permanent.0 { Visible::All } else { Visible::Live };
    let versions: Vec<Version> = state.versions_of(subject, visible).collect();
    for version in &versions {
        let mut referrers = state.referrers(subject, version.version, permanent.referrers()).into_iter();
        if referrers.any(|referrer| referrer.subject != subject) {
            return Err(RegistryError::ReferenceExists(subject.to_owned(), version.version));
        }
        if permanent.0 && !version.is_deleted {
            return Err(RegistryError::SubjectNotSoftDeleted(subject.to_owned()));
        }
    }
    let numbers: Vec<u32> = versions.iter().map(|version| version.version).collect();
    let changes = if permanent.0 {
        let mut changes = removal(state, subject, &numbers);
        changes.extend(without_settings(state, subject));
        changes
    } else {
        let last = numbers.last().copied().unwrap_or_default();
        vec![Change::SubjectDeleted { subject: subject.to_owned(), version: last }]
    };
    Ok(Decision { changes, answer: numbers })
}

/// Whether a deletion is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permanent(pub bool);

impl Permanent {
    /// Whose references stand in the way.
    fn referrers(self) -> Visible {
        if self.0 { Visible::All } else { Visible::Live }
    }
}

/// Removes versions and remembers the highest id, which compaction would forget.
pub(super) fn removal(state: &State, subject: &str, versions: &[u32]) -> Vec<Change> {
    let removed = |version: &u32| Change::Removed { subject: subject.to_owned(), version: *version };
    let mut changes: Vec<Change> = versions.iter().rev().map(removed).collect();
    changes.push(Change::MaxId(state.max_id()));
    changes
}

fn without_settings(state: &State, subject: &str) -> Vec<Change> {
    let name = || Some(subject.to_owned());
    let mode = state.own_mode(name().as_deref()).map(|_| Change::Mode { subject: name(), mode: None });
    let settings = state.settings(Some(subject)).map(|_| Change::Settings { subject: name(), settings: None });
    mode.into_iter().chain(settings).collect()
}
