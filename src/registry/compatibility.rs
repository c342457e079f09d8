//! Compatibility levels: who must understand whom before a schema may join a subject.

use apache_avro::{
    Schema,
    schema_compatibility::{Compatibility, SchemaCompatibility},
};
use serde::{Deserialize, Serialize};

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

impl Level {
    /// Whether all versions count, or the latest alone.
    pub(super) fn is_transitive(self) -> bool {
        match self {
            Self::BackwardTransitive | Self::ForwardTransitive | Self::FullTransitive => true,
            Self::None | Self::Backward | Self::Forward | Self::Full => false,
        }
    }

    /// Why `new` may not follow `old`.
    pub(super) fn objection(self, old: &Schema, new: &Schema) -> Option<String> {
        let backward = || reads(new, old).err().map(|why| format!("it cannot read: {why}"));
        let forward = || reads(old, new).err().map(|why| format!("it cannot be read: {why}"));
        match self {
            Self::None => None,
            Self::Backward | Self::BackwardTransitive => backward(),
            Self::Forward | Self::ForwardTransitive => forward(),
            Self::Full | Self::FullTransitive => backward().or_else(forward),
        }
    }
}

/// Whether everything that `writer` writes can be read; what may fail for some values counts as failing.
fn reads(reader: &Schema, writer: &Schema) -> Result<(), String> {
    match SchemaCompatibility::can_read(writer, reader) {
        Ok(Compatibility::Full) => Ok(()),
        Ok(Compatibility::Partial) => Err("some values (an enum symbol, a union branch)".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
