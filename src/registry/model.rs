//! What is registered: schemas, the subjects and versions that have them, settings.

use std::{fmt, str::FromStr, sync::Arc};

use apache_avro::Schema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{RegistryError, avro};

/// Kind of schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SchemaType {
    #[default]
    Avro,
    /// JSON Schema; kept and served as text.
    Json,
    /// Kept and served as text.
    Protobuf,
}

impl SchemaType {
    /// Every kind, by name.
    pub const ALL: [Self; 3] = [Self::Avro, Self::Json, Self::Protobuf];

    /// Its name in the protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Json => "JSON",
            Self::Protobuf => "PROTOBUF",
        }
    }

    /// For serde: Avro is not said.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(super) fn is_default(&self) -> bool {
        *self == Self::Avro
    }
}

impl FromStr for SchemaType {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == text);
        known.ok_or_else(|| RegistryError::InvalidSchema(format!("Invalid schema type {text}")))
    }
}

/// A schema that another one needs, by the name that it has there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Reference {
    pub name: String,
    pub subject: String,
    /// -1 in a request: the latest.
    pub version: i64,
}

impl Reference {
    /// Whether it means a version of a subject.
    pub(super) fn points_to(&self, subject: &str, version: u32) -> bool {
        self.subject == subject && self.version == i64::from(version)
    }
}

/// All that makes two schemas the same one, and so gives them one id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Definition {
    pub schema_type: SchemaType,
    /// Avro in canonical form; other kinds as they came.
    pub text: Arc<str>,
    pub references: Vec<Reference>,
    /// Metadata and rules of a data contract: kept as they came and not acted upon.
    pub metadata: Option<Value>,
    pub rule_set: Option<Value>,
}

impl Definition {
    /// An Avro schema or another one without references.
    #[must_use]
    pub fn new(schema_type: SchemaType, text: &str) -> Self {
        Self { schema_type, text: text.into(), references: Vec::new(), metadata: None, rule_set: None }
    }

    /// About how much it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        let references = self.references.iter().map(|reference| reference.name.len() + reference.subject.len());
        let contract = [&self.metadata, &self.rule_set].into_iter().flatten().map(|value| value.to_string().len());
        self.text.len() + references.chain(contract).sum::<usize>()
    }
}

/// A definition that was read, with what compatibility needs.
#[derive(Debug, Clone)]
pub(super) struct Checked {
    pub definition: Definition,
    /// For Avro.
    pub parsed: Option<Schema>,
}

impl Checked {
    /// Reads a submitted schema and brings it into canonical form.
    pub(super) fn new(submitted: Definition, references: &[String], form: avro::Form) -> Result<Self, RegistryError> {
        match submitted.schema_type {
            SchemaType::Avro => {
                let schema = avro::read(&submitted.text, references, form).map_err(RegistryError::InvalidSchema)?;
                let definition = Definition { text: schema.text.into(), ..submitted };
                Ok(Self { definition, parsed: Some(schema.parsed) })
            }
            SchemaType::Json => match serde_json::from_str::<serde::de::IgnoredAny>(&submitted.text) {
                Ok(_) => Ok(Self { definition: submitted, parsed: None }),
                Err(error) => Err(RegistryError::InvalidSchema(error.to_string())),
            },
            SchemaType::Protobuf => Ok(Self { definition: submitted, parsed: None }),
        }
    }
}

/// A schema under a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub subject: String,
    pub version: u32,
    pub id: u32,
    pub definition: Arc<Definition>,
    pub is_deleted: bool,
}

/// Which version of a subject is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Number(u32),
    Latest,
}

impl FromStr for Which {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let text = text.trim();
        match text.parse() {
            Ok(number @ 1..=2_147_483_647) => Ok(Self::Number(number)),
            _ if text == "-1" || text.eq_ignore_ascii_case("latest") => Ok(Self::Latest),
            _ => Err(RegistryError::InvalidVersion(text.to_owned())),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Latest => f.write_str("-1"),
        }
    }
}

/// Which of the versions count: a deleted one is kept until it is deleted for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Visible {
    #[default]
    Live,
    All,
    Deleted,
}

impl Visible {
    pub(super) fn shows(self, is_deleted: bool) -> bool {
        match self {
            Self::Live => !is_deleted,
            Self::All => true,
            Self::Deleted => is_deleted,
        }
    }
}

/// What may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Mode {
    #[default]
    ReadWrite,
    ReadOnly,
    /// Read-only for every subject, whatever its own mode says. For the whole registry.
    #[serde(rename = "READONLY_OVERRIDE")]
    ReadOnlyOverride,
    /// Schemas come with their ids and versions, unchecked.
    Import,
}

impl FromStr for Mode {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        serde_json::from_value(text.to_uppercase().into()).map_err(|_| RegistryError::InvalidMode)
    }
}
