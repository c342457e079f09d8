//! Compatibility levels: who must understand whom before a schema may join a subject.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    RegistryError, avro,
    model::{Checked, SchemaType},
};

/// What is checked when a schema is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Level {
    None,
    /// The new schema reads what the latest one wrote.
    #[default]
    Backward,
    /// The new schema reads what any version wrote.
    BackwardTransitive,
    /// The latest schema reads what the new one writes.
    Forward,
    /// Every version reads what the new one writes.
    ForwardTransitive,
    Full,
    FullTransitive,
}

impl FromStr for Level {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        serde_json::from_value(text.to_uppercase().into()).map_err(|_| RegistryError::InvalidLevel)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Why a schema cannot follow another one.
pub(super) enum Objection {
    Incompatible(String),
    /// Nobody here can tell.
    NotCheckable(SchemaType),
}

impl Level {
    /// Whether all versions count, or the latest alone.
    pub(super) fn is_transitive(self) -> bool {
        match self {
            Self::BackwardTransitive | Self::ForwardTransitive | Self::FullTransitive => true,
            Self::None | Self::Backward | Self::Forward | Self::Full => false,
        }
    }

    /// Why `new` may not follow `old`.
    pub(super) fn objection(self, old: &Checked, new: &Checked) -> Option<Objection> {
        if self == Self::None {
            return None;
        }
        let (old_type, new_type) = (old.definition.schema_type, new.definition.schema_type);
        if old_type != new_type {
            let why = format!("it has the type {} instead of {}", new_type.name(), old_type.name());
            return Some(Objection::Incompatible(why));
        }
        let (Some(old), Some(new)) = (&old.parsed, &new.parsed) else {
            return Some(Objection::NotCheckable(new_type));
        };
        let backward = || avro::reads(new, old).err().map(|why| format!("it cannot read: {why}"));
        let forward = || avro::reads(old, new).err().map(|why| format!("it cannot be read: {why}"));
        let why = match self {
            Self::None => None,
            Self::Backward | Self::BackwardTransitive => backward(),
            Self::Forward | Self::ForwardTransitive => forward(),
            Self::Full | Self::FullTransitive => backward().or_else(forward),
        };
        why.map(Objection::Incompatible)
    }
}
