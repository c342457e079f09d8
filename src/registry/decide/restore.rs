//! What a log that was made again lacks of all that is known.

use crate::registry::{
    model::{Visible, Which},
    record::{Change, SchemaValue},
    state::State,
};

/// What is to be written, and what cannot be.
#[derive(Debug, Default)]
pub struct Restored {
    pub changes: Vec<Change>,
    /// Versions of which the log says something else, as a sentence each.
    pub conflicts: Vec<String>,
}

/// From what was known before, `held`, and what the new log holds, `found`, to what it lacks. The highest id comes first,
/// so that no id is given again whatever else is not written.
pub fn restore(held: &State, found: &State) -> Restored {
    let mut restored = Restored::default();
    let max_id = held.max_id().max(found.max_id());
    if found.unsaid_max_id().is_some() {
        restored.changes.push(Change::MaxId(max_id));
    }
    for (subject, mode) in held.all_modes().filter(|(subject, _)| found.own_mode(subject.as_deref()).is_none()) {
        restored.changes.push(Change::Mode { subject: subject.clone(), mode: Some(mode) });
    }
    for (subject, settings) in held.all_settings().filter(|(subject, _)| found.settings(subject.as_deref()).is_none()) {
        restored.changes.push(Change::Settings { subject: subject.clone(), settings: Some(settings.clone()) });
    }
    for subject in held.subjects("", Visible::All) {
        for version in held.versions_of(&subject, Visible::All) {
            let (id, number) = (version.id, version.version);
            let there = found.version(&subject, Which::Number(number), Visible::All).ok().map(|there| there.id);
            match (there, found.definition(id)) {
                (Some(there), _) if there == id => {}
                (None, None) => restored.changes.push(Change::Schema(SchemaValue::new(&version))),
                (None, Some(other)) if other.text == version.definition.text => {
                    restored.changes.push(Change::Schema(SchemaValue::new(&version)));
                }
                (Some(there), _) => restored.conflicts.push(format!(
                    "version {number} of subject {subject} had the id {id} and has the id {there}"
                )),
                (None, Some(_)) => restored.conflicts.push(format!(
                    "version {number} of subject {subject} had the id {id}, which another schema has by now: records that \
                     were written with it before are read as that one"
                )),
            }
        }
    }
    restored
}
