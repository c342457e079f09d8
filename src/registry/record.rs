//! The records of the schemas topic, in the format of Confluent's registry, so that a topic can be moved to or from it.
//!
//! Source: `storage/SchemaKey.java`, `SchemaValue.java` and their neighbours in `confluentinc/schema-registry`. Keys
//! are compared as bytes by compaction: the order of their attributes is part of the format.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Level,
    log::Record,
    model::{Definition, Mode, Reference, SchemaType, Version},
};

const MAGIC: u8 = 0;
const SCHEMA_MAGIC: u8 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "keytype", rename_all = "SCREAMING_SNAKE_CASE")]
enum Key {
    Schema {
        subject: String,
        version: u32,
        magic: u8,
    },
    Config {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<String>,
        magic: u8,
    },
    Mode {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<String>,
        magic: u8,
    },
    DeleteSubject {
        subject: String,
        magic: u8,
    },
    ClearSubject {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<String>,
        magic: u8,
    },
    Noop {
        magic: u8,
    },
}

/// A schema under a subject, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SchemaValue {
    pub subject: String,
    pub version: u32,
    pub id: u32,
    #[serde(default, skip_serializing_if = "SchemaType::is_default")]
    schema_type: SchemaType,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    references: Vec<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule_set: Option<Value>,
    schema: String,
    #[serde(default)]
    pub deleted: bool,
}

impl SchemaValue {
    pub(super) fn new(version: &Version) -> Self {
        let definition = &version.definition;
        Self {
            subject: version.subject.clone(),
            version: version.version,
            id: version.id,
            schema_type: definition.schema_type,
            references: definition.references.clone(),
            metadata: definition.metadata.clone(),
            rule_set: definition.rule_set.clone(),
            schema: definition.text.to_string(),
            deleted: version.is_deleted,
        }
    }

    pub(super) fn definition(&self) -> Definition {
        Definition {
            schema_type: self.schema_type,
            text: self.schema.as_str().into(),
            references: self.references.clone(),
            metadata: self.metadata.clone(),
            rule_set: self.rule_set.clone(),
        }
    }
}

/// Settings of a subject, or of the registry.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalize: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compatibility_level: Option<Level>,
    /// What Confluent's registry keeps here besides: not acted upon, and not lost.
    #[serde(flatten)]
    pub(super) other: Map<String, Value>,
}

impl Settings {
    /// About how much they take in memory, with the name of their subject.
    pub(super) fn bytes(&self, subject: Option<&str>) -> usize {
        let other = self.other.iter().map(|(name, value)| name.len() + value.to_string().len());
        subject.map_or(0, str::len) + other.sum::<usize>()
    }
}

#[derive(Serialize, Deserialize)]
struct ModeValue {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    mode: Mode,
}

#[derive(Serialize, Deserialize)]
struct DeleteSubjectValue {
    subject: String,
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct ClearSubjectValue {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
}

/// What this registry keeps in the value of a NOOP record, which Confluent's does not look at.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NoopValue {
    max_id: u32,
}

/// A change of the registry.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    Schema(SchemaValue),
    /// A version is gone for ever.
    Removed {
        subject: String,
        version: u32,
    },
    /// Versions up to this one are deleted.
    SubjectDeleted {
        subject: String,
        version: u32,
    },
    /// Deleted versions of a subject, or of all, are gone for ever.
    Cleared {
        subject: Option<String>,
    },
    Settings {
        subject: Option<String>,
        settings: Option<Settings>,
    },
    Mode {
        subject: Option<String>,
        mode: Option<Mode>,
    },
    /// Ids up to this one were given: compaction forgets those of removed schemas.
    MaxId(u32),
}

impl Change {
    /// The highest id that it gives, or says to be given.
    pub(super) fn highest_id(&self) -> Option<u32> {
        match self {
            Self::Schema(value) => Some(value.id),
            Self::MaxId(id) => Some(*id),
            Self::Removed { .. }
            | Self::SubjectDeleted { .. }
            | Self::Cleared { .. }
            | Self::Settings { .. }
            | Self::Mode { .. } => None,
        }
    }

    /// As stored.
    pub(super) fn to_record(&self) -> Record {
        let (key, value) = match self {
            Self::Schema(value) => (schema_key(&value.subject, value.version), Some(json(value))),
            Self::Removed { subject, version } => (schema_key(subject, *version), None),
            Self::SubjectDeleted { subject, version } => {
                let value = DeleteSubjectValue { subject: subject.clone(), version: *version };
                (Key::DeleteSubject { subject: subject.clone(), magic: MAGIC }, Some(json(&value)))
            }
            Self::Cleared { subject } => {
                let value = ClearSubjectValue { subject: subject.clone() };
                (Key::ClearSubject { subject: subject.clone(), magic: MAGIC }, Some(json(&value)))
            }
            Self::Settings { subject, settings } => {
                let with_subject = |settings: &Settings| {
                    let mut settings = settings.clone();
                    if let Some(subject) = subject {
                        settings.other.insert("subject".to_owned(), subject.clone().into());
                    }
                    json(&settings)
                };
                (Key::Config { subject: subject.clone(), magic: MAGIC }, settings.as_ref().map(with_subject))
            }
            Self::Mode { subject, mode } => {
                let value = mode.map(|mode| json(&ModeValue { subject: subject.clone(), mode }));
                (Key::Mode { subject: subject.clone(), magic: MAGIC }, value)
            }
            Self::MaxId(max_id) => (Key::Noop { magic: MAGIC }, Some(json(&NoopValue { max_id: *max_id }))),
        };
        Record { key: json(&key), value }
    }

    /// What a record says; none if it says nothing that concerns this registry.
    pub(super) fn read(record: &Record) -> Result<Option<Self>, serde_json::Error> {
        let value = record.value.as_deref().filter(|value| *value != b"null");
        let key = match serde_json::from_slice::<Value>(&record.key)? {
            key if is_ours(&key) => serde_json::from_value(key)?,
            _ => return Ok(None),
        };
        Ok(Some(match (key, value) {
            (Key::Schema { subject, version, .. }, Some(value)) => {
                Self::Schema(SchemaValue { subject, version, ..serde_json::from_slice(value)? })
            }
            (Key::Schema { subject, version, .. }, None) => Self::Removed { subject, version },
            (Key::Config { subject, .. }, value) => {
                let mut settings: Option<Settings> = value.map(serde_json::from_slice).transpose()?;
                if let Some(settings) = &mut settings {
                    settings.other.remove("subject");
                }
                Self::Settings { subject, settings }
            }
            (Key::Mode { subject, .. }, value) => {
                let value: Option<ModeValue> = value.map(serde_json::from_slice).transpose()?;
                Self::Mode { subject, mode: value.map(|value| value.mode) }
            }
            (Key::DeleteSubject { subject, .. }, Some(value)) => {
                Self::SubjectDeleted { subject, version: serde_json::from_slice::<DeleteSubjectValue>(value)?.version }
            }
            (Key::ClearSubject { subject, .. }, Some(_)) => Self::Cleared { subject },
            (Key::Noop { .. }, Some(value)) => Self::MaxId(serde_json::from_slice::<NoopValue>(value)?.max_id),
            (Key::DeleteSubject { .. } | Key::ClearSubject { .. } | Key::Noop { .. }, None) => return Ok(None),
        }))
    }
}

/// Confluent's registry has kinds of its own, and contexts beside the default one.
fn is_ours(key: &Value) -> bool {
    const KINDS: [&str; 6] = ["SCHEMA", "CONFIG", "MODE", "DELETE_SUBJECT", "CLEAR_SUBJECT", "NOOP"];
    let is_in_context = key["subject"].as_str().is_some_and(|subject| subject.starts_with(":."));
    key["keytype"].as_str().is_some_and(|kind| KINDS.contains(&kind)) && !is_in_context
}

fn schema_key(subject: &str, version: u32) -> Key {
    Key::Schema { subject: subject.to_owned(), version, magic: SCHEMA_MAGIC }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("records are JSON")
}
