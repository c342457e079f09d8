//! The embedded schema registry: Avro schemas with global ids, kept in one append-only file.
//!
//! [`Registry`] is the in-process side, [`rest`] speaks the part of the Confluent REST protocol that Avro serializers
//! and their tools use. It has no references between schemas, no JSON or Protobuf schemas, no deletion and no modes.
//!
//! Invariants: an id names one schema for ever, also after a crash, because it is on disk before it is answered; the
//! same schema has the same id under every subject; versions of a subject are 1, 2, 3 ….
//! Start at [`Registry::register`].

mod compatibility;
mod error;
mod log;
mod rest;
mod state;
#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc};

use apache_avro::Schema;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use streamward_core::ports::ValueDecoder;

pub use compatibility::Level;
pub use error::RegistryError;
pub use rest::server;

use self::{
    log::{Event, Log},
    state::{State, StoredSchema},
};

/// Longest schema text accepted, in bytes.
pub const MAX_SCHEMA_BYTES: usize = 1024 * 1024;
/// Most schemas that the registry holds.
pub const MAX_SCHEMAS: usize = 100_000;
/// Longest subject name, in bytes.
pub const MAX_SUBJECT_BYTES: usize = 255;

/// First byte of a value in Confluent framing; the schema id follows as four bytes, big-endian.
const MAGIC: u8 = 0;
const FRAME_BYTES: usize = 5;

/// The schemas of the process. Clones are the same registry.
#[derive(Debug, Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: RwLock<State>,
    /// Held from the decision to the answer, so that writes are one after the other.
    log: Mutex<Log>,
}

/// A schema under a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub subject: String,
    pub version: u32,
    pub id: u32,
    /// Avro JSON, as it was first registered.
    pub schema: Arc<str>,
}

/// Which version of a subject is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Number(u32),
    Latest,
}

impl Registry {
    /// Opens the registry in a folder, making it if it is new. Bytes behind the last whole entry are a torn write
    /// and are cut off.
    ///
    /// # Errors
    /// [`RegistryError::Store`] if the file cannot be read, or is damaged before its end.
    pub fn open(folder: &Path) -> Result<Self, RegistryError> {
        let (log, events) = Log::open(folder)?;
        let mut state = State::default();
        for event in events {
            state.apply(event)?;
        }
        Ok(Self { shared: Arc::new(Shared { state: RwLock::new(state), log: Mutex::new(log) }) })
    }

    /// Registers a schema under a subject and answers its id; a schema that the subject has keeps its id and version.
    /// Blocks until the entry is on disk.
    ///
    /// # Errors
    /// [`RegistryError::InvalidSchema`], [`RegistryError::Incompatible`] with the subject's versions by its level,
    /// [`RegistryError::Full`], [`RegistryError::Store`].
    pub fn register(&self, subject: &str, avro_json: &str) -> Result<u32, RegistryError> {
        let schema = parse(avro_json)?;
        let mut log = self.shared.log.lock();
        let event = {
            let state = self.shared.state.read();
            if let Some(version) = state.find(subject, &content(&schema)) {
                return Ok(version.id);
            }
            state.check_room(subject)?;
            let problems = state.incompatibilities(subject, &schema);
            if !problems.is_empty() {
                return Err(RegistryError::Incompatible(problems));
            }
            state.registration(subject, &schema, avro_json)
        };
        log.append(&event)?;
        let Event::Registered { id, .. } = event else {
            unreachable!("a registration makes a Registered event");
        };
        self.shared.state.write().apply(event)?;
        Ok(id)
    }

    /// The schema of an id.
    #[must_use]
    pub fn schema_by_id(&self, id: u32) -> Option<Arc<str>> {
        self.stored(id).map(|schema| Arc::clone(&schema.text))
    }

    /// Subject names, ascending.
    #[must_use]
    pub fn subjects(&self) -> Vec<String> {
        self.shared.state.read().subjects()
    }

    /// Version numbers of a subject, ascending.
    ///
    /// # Errors
    /// [`RegistryError::SubjectNotFound`].
    pub fn versions(&self, subject: &str) -> Result<Vec<u32>, RegistryError> {
        self.shared.state.read().versions(subject)
    }

    /// One version of a subject.
    ///
    /// # Errors
    /// [`RegistryError::SubjectNotFound`], [`RegistryError::VersionNotFound`].
    pub fn version(&self, subject: &str, which: Which) -> Result<Version, RegistryError> {
        self.shared.state.read().version(subject, which)
    }

    /// The version under which a subject has this schema.
    ///
    /// # Errors
    /// [`RegistryError::InvalidSchema`], [`RegistryError::SubjectNotFound`], [`RegistryError::SchemaNotFound`].
    pub fn look_up(&self, subject: &str, avro_json: &str) -> Result<Version, RegistryError> {
        let state = self.shared.state.read();
        state.versions(subject)?;
        let schema = parse(avro_json)?;
        state.find(subject, &content(&schema)).ok_or(RegistryError::SchemaNotFound)
    }

    /// Subjects and versions that have the schema of this id.
    ///
    /// # Errors
    /// [`RegistryError::SchemaNotFound`].
    pub fn uses(&self, id: u32) -> Result<Vec<Version>, RegistryError> {
        self.stored(id).ok_or(RegistryError::SchemaNotFound)?;
        Ok(self.shared.state.read().uses(id))
    }

    /// Why readers and writers of this schema would not understand those of a version; empty if they would.
    ///
    /// # Errors
    /// [`RegistryError::InvalidSchema`], [`RegistryError::SubjectNotFound`], [`RegistryError::VersionNotFound`].
    pub fn compare(&self, subject: &str, which: Option<Which>, avro_json: &str) -> Result<Vec<String>, RegistryError> {
        let schema = parse(avro_json)?;
        let state = self.shared.state.read();
        match which {
            Some(which) => state.compare(subject, which, &schema),
            None => Ok(state.incompatibilities(subject, &schema)),
        }
    }

    /// The level of a subject, if it has its own; of the registry with `None`.
    #[must_use]
    pub fn level(&self, subject: Option<&str>) -> Option<Level> {
        self.shared.state.read().level(subject)
    }

    /// Sets the level of a subject, or of the registry. Blocks until it is on disk.
    ///
    /// # Errors
    /// [`RegistryError::Full`], [`RegistryError::Store`].
    pub fn set_level(&self, subject: Option<&str>, level: Level) -> Result<(), RegistryError> {
        let event = Event::Level { subject: subject.map(str::to_owned), level };
        let mut log = self.shared.log.lock();
        if let Some(subject) = subject {
            self.shared.state.read().check_room(subject)?;
        }
        log.append(&event)?;
        self.shared.state.write().apply(event)
    }

    fn stored(&self, id: u32) -> Option<Arc<StoredSchema>> {
        self.shared.state.read().schema(id)
    }
}

impl ValueDecoder for Registry {
    /// JSON text, or Avro in Confluent framing with an id of this registry.
    fn decode(&self, value: &[u8]) -> Option<Value> {
        if value.first() != Some(&MAGIC) {
            return serde_json::from_slice(value).ok();
        }
        let id = u32::from_be_bytes(value.get(1..FRAME_BYTES)?.try_into().ok()?);
        let schema = self.stored(id)?;
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema.parsed).build().ok()?;
        let mut rest = &value[FRAME_BYTES..];
        let datum = reader.read_value(&mut rest).ok()?;
        // The reader takes a text that is cut short for a null, so its answer is checked.
        let is_whole = rest.is_empty() && datum.validate(&schema.parsed);
        is_whole.then(|| datum.try_into().ok()).flatten()
    }
}

fn parse(avro_json: &str) -> Result<Schema, RegistryError> {
    if avro_json.len() > MAX_SCHEMA_BYTES {
        return Err(RegistryError::InvalidSchema(format!("it is over {MAX_SCHEMA_BYTES} bytes")));
    }
    Schema::parse_str(avro_json).map_err(|error| RegistryError::InvalidSchema(error.to_string()))
}

/// What makes two schemas the same one: all but white space and the order of attributes. (Avro's parsing canonical form
/// leaves out defaults and logical types, which readers need.)
fn content(schema: &Schema) -> String {
    serde_json::to_value(schema).map(|value| value.to_string()).unwrap_or_default()
}
