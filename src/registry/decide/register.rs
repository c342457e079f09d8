//! Registering, looking up and comparing schemas.
//!
//! Source: `KafkaSchemaRegistry.register` and `AbstractSchemaRegistry.lookUpSchemaUnderSubject` of Confluent's registry.

use std::sync::Arc;

use super::{Decision, check_not_read_only};
use crate::registry::{
    Level, MAX_ENTRIES, MAX_SCHEMA_BYTES, RegistryError,
    avro::Form,
    level::Objection,
    model::{Checked, Definition, Mode, Reference, Version, Visible, Which},
    record::{Change, SchemaValue},
    state::State,
};

/// Highest id and version that clients can hold.
const MAX_NUMBER: u32 = i32::MAX as u32;

/// A schema that a client sent.
#[derive(Debug, Clone)]
pub struct Submission {
    /// As it was sent.
    pub definition: Definition,
    /// The id that it has to have: in mode IMPORT.
    pub id: Option<u32>,
    pub version: Option<u32>,
    /// Whether to bring it into normal form, also where the subject's settings do not ask for it.
    pub normalize: bool,
}

impl Submission {
    /// An Avro schema as it is.
    #[must_use]
    pub fn avro(text: &str) -> Self {
        let definition = Definition::new(Default::default(), text);
        Self { definition, id: None, version: None, normalize: false }
    }

    fn check(&self, state: &State, subject: &str) -> Result<Checked, RegistryError> {
        if self.definition.text.len() > MAX_SCHEMA_BYTES {
            return Err(RegistryError::TooLarge(MAX_SCHEMA_BYTES));
        }
        if self.definition.text.trim().is_empty() {
            return Err(RegistryError::InvalidSchema("Empty schema".to_owned()));
        }
        let mut definition = self.definition.clone();
        for reference in &mut definition.references {
            reference.version = i64::from(state.referenced(reference)?.version);
        }
        let normalize = self.normalize || state.normalizes(subject);
        if normalize {
            definition.references.sort();
            definition.references.dedup();
        }
        let texts = state.resolve(&definition.references)?;
        Checked::new(definition, &texts, if normalize { Form::Normalized } else { Form::Canonical })
    }
}

/// The version that a submission is already, so that nothing needs to be written.
pub fn existing(state: &State, subject: &str, submission: &Submission) -> Result<Option<Version>, RegistryError> {
    let checked = submission.check(state, subject)?;
    existing_of(state, subject, submission, &checked.definition)
}

fn existing_of(
    state: &State,
    subject: &str,
    submission: &Submission,
    definition: &Definition,
) -> Result<Option<Version>, RegistryError> {
    let Some(found) = state.find(subject, definition, Visible::Live) else { return Ok(None) };
    if let Some(asked) = submission.id.filter(|id| *id != found.id) {
        return Err(RegistryError::IdDoesNotMatch { registered: found.id, asked });
    }
    let Some(number) = submission.version.filter(|number| *number != found.version) else { return Ok(Some(found)) };
    let other = state.version(subject, Which::Number(number), Visible::Live).ok();
    Ok(other.filter(|other| other.id == found.id))
}

/// Whether the mode of a subject lets a schema in that it does not have.
pub fn check_writable(state: &State, subject: &str, submission: &Submission) -> Result<(), RegistryError> {
    match existing(state, subject, submission)? {
        Some(_) => Ok(()),
        None => check_mode(state, subject, submission),
    }
}

/// An id that a schema has, be it that of a deleted version or of another subject.
pub fn known(state: &State, subject: &str, submission: &Submission) -> Result<Option<u32>, RegistryError> {
    let checked = submission.check(state, subject)?;
    let problems = incompatibilities(state, subject, &checked)?;
    if !problems.is_empty() {
        return Err(RegistryError::Incompatible { subject: subject.to_owned(), problems });
    }
    Ok(state.id_of(&checked.definition))
}

/// Gives a schema its id and version under a subject.
pub fn register(state: &State, subject: &str, submission: &Submission) -> Result<Decision<Version>, RegistryError> {
    let checked = submission.check(state, subject)?;
    if let Some(version) = existing_of(state, subject, submission, &checked.definition)? {
        return Ok(Decision::nothing(version));
    }
    check_mode(state, subject, submission)?;
    let is_held = state.id_of(&checked.definition).is_some();
    state.check_room(if is_held { 0 } else { checked.definition.bytes() })?;
    let is_import = state.mode(Some(subject)) == Mode::Import;
    if !is_import {
        let problems = incompatibilities(state, subject, &checked)?;
        if !problems.is_empty() {
            return Err(RegistryError::Incompatible { subject: subject.to_owned(), problems });
        }
    }
    let id = id(state, submission, &checked.definition)?;
    let next = state.versions_of(subject, Visible::All).next_back().map_or(1, |last| last.version + 1);
    let number = match submission.version {
        Some(number) if number == next || is_import => number,
        Some(_) => {
            return Err(RegistryError::InvalidSchema("Version is not one more than previous version".to_owned()));
        }
        None => next,
    };
    if id > MAX_NUMBER || number > MAX_NUMBER {
        return Err(RegistryError::Full(MAX_ENTRIES));
    }
    let definition = Arc::new(checked.definition);
    let version = Version { subject: subject.to_owned(), version: number, id, definition, is_deleted: false };
    let mut changes = superseded(state, &version);
    changes.push(Change::Schema(SchemaValue::new(&version)));
    Ok(Decision { changes, answer: version })
}

fn check_mode(state: &State, subject: &str, submission: &Submission) -> Result<(), RegistryError> {
    check_not_read_only(state, Some(subject))?;
    let needed = match (state.mode(Some(subject)), submission.id) {
        (Mode::Import, None) => "read-write",
        (Mode::Import, Some(_)) | (_, None) => return Ok(()),
        (_, Some(_)) => "import",
    };
    Err(RegistryError::NotPermitted(format!("Subject {subject} in context . is not in {needed} mode")))
}

/// One id for one schema under every subject; a number that was never given for a schema that has none.
fn id(state: &State, submission: &Submission, definition: &Definition) -> Result<u32, RegistryError> {
    let Some(asked) = submission.id else {
        return Ok(state.id_of(definition).unwrap_or(state.max_id() + 1));
    };
    match state.definition(asked) {
        Some(other) if **other != *definition => Err(RegistryError::NotPermitted(format!(
            "Overwrite new schema with id {asked} in context . is not permitted."
        ))),
        _ => Ok(asked),
    }
}

/// Deleted versions that come back as the new one, unless a schema refers to them.
fn superseded(state: &State, new: &Version) -> Vec<Change> {
    let same = |old: &Version| {
        let is_same = old.id == new.id && old.version < new.version;
        is_same && state.referrers(&old.subject, old.version, Visible::All).is_empty()
    };
    let old = state.versions_of(&new.subject, Visible::Deleted).filter(same);
    old.map(|old| Change::Removed { subject: old.subject, version: old.version }).collect()
}

/// The version under which a subject has this schema.
pub fn look_up(
    state: &State,
    subject: &str,
    submission: &Submission,
    visible: Visible,
) -> Result<Version, RegistryError> {
    let checked = submission.check(state, subject)?;
    state.find(subject, &checked.definition, visible).ok_or_else(|| match state.has_subject(subject, visible) {
        true => RegistryError::SchemaNotFound,
        false => RegistryError::SubjectNotFound(subject.to_owned()),
    })
}

/// Why readers and writers of this schema would not understand those of a version, or, without one, of the versions
/// that the subject's level asks. Empty if they would.
pub fn compare(
    state: &State,
    subject: &str,
    which: Option<Which>,
    submission: &Submission,
) -> Result<Vec<String>, RegistryError> {
    let old = match which {
        None => None,
        Some(which) => match state.version(subject, which, Visible::Live) {
            Ok(version) => Some(version),
            // There is nothing yet that it could break.
            Err(_) if which == Which::Latest => return submission.check(state, subject).map(|_| Vec::new()),
            Err(_) => return Err(RegistryError::VersionNotFound(which.to_string())),
        },
    };
    let checked = submission.check(state, subject)?;
    match old {
        None => incompatibilities(state, subject, &checked),
        Some(old) => objections(state, &[old], &checked, state.level(Some(subject))),
    }
}

fn incompatibilities(state: &State, subject: &str, new: &Checked) -> Result<Vec<String>, RegistryError> {
    let level = state.level(Some(subject));
    let asked = if level.is_transitive() { usize::MAX } else { 1 };
    let versions: Vec<Version> = state.versions_of(subject, Visible::Live).rev().take(asked).collect();
    objections(state, &versions, new, level)
}

fn objections(state: &State, old: &[Version], new: &Checked, level: Level) -> Result<Vec<String>, RegistryError> {
    if level == Level::None {
        return Ok(Vec::new());
    }
    let mut problems = Vec::new();
    for version in old {
        let references: &[Reference] = &version.definition.references;
        let texts = state.resolve(references)?;
        let checked = Checked::new((*version.definition).clone(), &texts, Form::Canonical)?;
        match level.objection(&checked, new) {
            None => {}
            Some(Objection::Incompatible(why)) => problems.push(format!("version {}: {why}", version.version)),
            Some(Objection::NotCheckable(schema_type)) => {
                let (subject, level) = (version.subject.clone(), level.to_string());
                return Err(RegistryError::NotCheckable { subject, level, schema_type: schema_type.name() });
            }
        }
    }
    if !problems.is_empty() {
        problems.push(format!("compatibility: {level}"));
    }
    Ok(problems)
}
