//! From a request and what is known to the records to write. No I/O; a decision is made again when somebody else
//! wrote in between.

mod delete;
mod register;
mod restore;
mod settings;

pub use delete::Permanent;
pub(super) use delete::{delete_subject, delete_version};
pub use register::Submission;
pub(super) use register::{check_writable, compare, existing, known, look_up, register};
pub(super) use restore::{Restored, restore};
pub use settings::{Force, SettingsUpdate};
pub(super) use settings::{delete_mode, delete_settings, set_mode, set_settings};

use super::{MAX_SUBJECT_BYTES, RegistryError, model::Mode, record::Change, state::State};

/// What a request comes to.
pub(super) struct Decision<T> {
    /// To be written together; none if there is nothing to do.
    pub changes: Vec<Change>,
    /// The answer once they are.
    pub answer: T,
}

impl<T> Decision<T> {
    fn nothing(answer: T) -> Self {
        Self { changes: Vec::new(), answer }
    }
}

/// The default context may be said: `:.:name` is `name`.
///
/// # Errors
/// [`RegistryError::InvalidSubject`].
pub(super) fn subject_name(text: &str) -> Result<String, RegistryError> {
    let name = text.strip_prefix(":.:").unwrap_or(text);
    let is_fine =
        (1..=MAX_SUBJECT_BYTES).contains(&name.len()) && !name.starts_with(":.") && !name.chars().any(char::is_control);
    is_fine.then(|| name.to_owned()).ok_or_else(|| RegistryError::InvalidSubject(text.to_owned()))
}

fn check_not_read_only(state: &State, subject: Option<&str>) -> Result<(), RegistryError> {
    match state.mode(subject) {
        Mode::ReadOnly | Mode::ReadOnlyOverride => {
            let subject = subject.unwrap_or_default();
            Err(RegistryError::NotPermitted(format!("Subject {subject} in context . is in read-only mode")))
        }
        Mode::ReadWrite | Mode::Import => Ok(()),
    }
}
