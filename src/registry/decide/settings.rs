//! Compatibility levels, normalization and modes, of subjects and of the registry.

use super::{Decision, check_not_read_only, delete::removal};
use crate::registry::{
    Level, RegistryError,
    model::{Mode, Visible},
    record::{Change, Settings},
    state::State,
};

/// Settings to change; what is not given stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SettingsUpdate {
    pub level: Option<Level>,
    pub normalize: Option<bool>,
}

/// Changes settings of a subject, or of the registry; answers what they are then.
pub fn set_settings(
    state: &State,
    subject: Option<&str>,
    update: SettingsUpdate,
) -> Result<Decision<Settings>, RegistryError> {
    check_not_read_only(state, subject)?;
    let old = state.settings(subject);
    if old.is_none() {
        state.check_room(subject.map_or(0, str::len))?;
    }
    let mut settings = old.cloned().unwrap_or_default();
    settings.compatibility_level = update.level.or(settings.compatibility_level);
    settings.normalize = update.normalize.or(settings.normalize);
    let change = Change::Settings { subject: subject.map(str::to_owned), settings: Some(settings.clone()) };
    Ok(Decision { changes: vec![change], answer: settings })
}

/// Takes settings away; answers what they were.
pub fn delete_settings(state: &State, subject: Option<&str>) -> Result<Decision<Settings>, RegistryError> {
    let old = match (state.settings(subject), subject) {
        (Some(old), _) => old.clone(),
        (None, Some(subject)) => return Err(RegistryError::SubjectNotFound(subject.to_owned())),
        (None, None) => {
            let default = Settings { compatibility_level: Some(Level::default()), ..Settings::default() };
            return Ok(Decision::nothing(default));
        }
    };
    check_not_read_only(state, subject)?;
    let change = Change::Settings { subject: subject.map(str::to_owned), settings: None };
    Ok(Decision { changes: vec![change], answer: old })
}

/// Sets a mode. IMPORT wants a subject (or a registry) without versions, and removes deleted ones for good;
/// `Force::Yes` takes it as it is.
pub fn set_mode(state: &State, subject: Option<&str>, mode: Mode, force: Force) -> Result<Decision<()>, RegistryError> {
    let mut changes = Vec::new();
    if mode == Mode::Import && state.mode(subject) != Mode::Import && force == Force::No {
        changes = emptied(state, subject)?;
    }
    if state.own_mode(subject).is_none() {
        state.check_room(subject.map_or(0, str::len))?;
    }
    changes.push(Change::Mode { subject: subject.map(str::to_owned), mode: Some(mode) });
    Ok(Decision { changes, answer: () })
}

/// Whether to import beside versions that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    Yes,
    No,
}

fn emptied(state: &State, subject: Option<&str>) -> Result<Vec<Change>, RegistryError> {
    let subjects = match subject {
        Some(subject) => vec![subject.to_owned()],
        None => state.subjects("", Visible::All),
    };
    if subjects.iter().any(|subject| state.has_subject(subject, Visible::Live)) {
        return Err(RegistryError::NotPermitted("Cannot import since found existing subjects".to_owned()));
    }
    let mut changes = Vec::new();
    for subject in &subjects {
        let numbers: Vec<u32> = state.versions_of(subject, Visible::All).map(|version| version.version).collect();
        for number in &numbers {
            if !state.referrers(subject, *number, Visible::All).is_empty() {
                return Err(RegistryError::ReferenceExists(subject.clone(), *number));
            }
        }
        if !numbers.is_empty() {
            changes.extend(removal(state, subject, &numbers));
        }
    }
    changes.push(Change::Cleared { subject: subject.map(str::to_owned) });
    Ok(changes)
}

/// Takes a mode away; answers what it was.
pub fn delete_mode(state: &State, subject: Option<&str>) -> Result<Decision<Mode>, RegistryError> {
    let old = match (state.own_mode(subject), subject) {
        (Some(old), _) => old,
        (None, Some(subject)) => return Err(RegistryError::SubjectNotFound(subject.to_owned())),
        (None, None) => return Ok(Decision::nothing(Mode::default())),
    };
    let change = Change::Mode { subject: subject.map(str::to_owned), mode: None };
    Ok(Decision { changes: vec![change], answer: old })
}
