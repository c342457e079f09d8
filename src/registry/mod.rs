//! The embedded schema registry: Confluent's REST protocol over a compacted topic.
//!
//! [`Registry`] is the in-process side and [`server`] the REST side. What is registered is kept in a topic in the record
//! format of Confluent's registry (`record`), read into memory (`state`) and changed by decisions without I/O
//! (`decide`). Avro is read and compared; JSON Schema and Protobuf are kept as text. There are no contexts beside the
//! default one, and rules and metadata of data contracts are kept but not acted upon.
//!
//! Invariants: an id names one schema for ever, also after a crash, a permanent deletion and the loss of the topic, and
//! with several registries on one topic (see [`log`], [`highest`], `writer`); the same schema with the same references has one id under every subject,
//! unless it was imported under several; what is answered is in the topic.
//! Start at [`Registry::register`].

mod avro;
mod decide;
pub mod decode;
pub mod encode;
mod error;
mod highest;
mod level;
pub mod log;
mod model;
mod record;
mod rest;
pub mod schemas;
mod state;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

use std::{fmt, sync::Arc, time::Instant};

use parking_lot::{Mutex, RwLock};

pub use self::{
    decide::{Force, Permanent, SettingsUpdate, Submission},
    error::RegistryError,
    highest::HighestId,
    level::Level,
    model::{Definition, Mode, Reference, SchemaType, Version, Visible, Which},
    record::Settings,
    rest::{ClusterIds, server},
};
use self::{
    log::{LogError, SchemaLog},
    state::State,
    writer::Writer,
};

/// Longest schema text accepted, in bytes.
pub const MAX_SCHEMA_BYTES: usize = 1024 * 1024;
/// Most versions, settings and modes that the registry holds.
pub const MAX_ENTRIES: usize = 100_000;
/// Most bytes of schemas, their metadata and settings that the registry holds.
pub const MAX_BYTES: usize = 256 * 1024 * 1024;
/// Longest subject name, in bytes.
pub const MAX_SUBJECT_BYTES: usize = 255;

/// The schemas of the process. Clones are the same registry.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    state: RwLock<State>,
    log: Mutex<Writer>,
    /// When the last read that came to the topic's end began.
    read_at: Mutex<Option<Instant>>,
    /// When the topic was last made again, and what was done.
    restored: Mutex<Option<(Instant, String)>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

impl Registry {
    /// Reads a topic to its end. Ids up to the highest that was kept are taken for given, whatever the topic says.
    ///
    /// # Errors
    /// [`RegistryError::Store`].
    pub fn open(log: Box<dyn SchemaLog>, highest: HighestId) -> Result<Self, RegistryError> {
        Self::bounded(log, highest, MAX_BYTES)
    }

    /// As [`Registry::open`], for a registry that holds at most `max_bytes`.
    fn bounded(log: Box<dyn SchemaLog>, highest: HighestId, max_bytes: usize) -> Result<Self, RegistryError> {
        let mut state = State::bounded(max_bytes);
        let kept = highest.kept();
        state.raise_floor(kept);
        let log = Mutex::new(Writer::new(log, highest));
        let shared = Shared { state: RwLock::new(state), log, read_at: Mutex::default(), restored: Mutex::default() };
        let registry = Self { shared: Arc::new(shared) };
        registry.catch_up()?;
        if registry.shared.state.read().unsaid_max_id().is_some() {
            tracing::warn!(
                "schema ids up to {kept} were given, and the schemas topic does not know of them all: it was deleted while \
                 the server was away or just before it ended, or is another cluster's. No id is given again, the next one is {}. Records with an id \
                 that the topic lacks become dead letters",
                kept + 1
            );
        }
        Ok(registry)
    }

    /// Takes in what others have written, up to the end of the topic; the call after one that found the topic lost
    /// writes what is known into the one that is there.
    ///
    /// # Errors
    /// [`RegistryError::Store`], [`RegistryError::TimedOut`].
    pub fn catch_up(&self) -> Result<(), RegistryError> {
        let mut writer = self.lock()?;
        if writer.is_lost() { self.restore(&mut writer) } else { Ok(self.read(&mut writer)?) }
    }

    /// What was last written into a topic that was made again, and when.
    #[must_use]
    pub fn restored(&self) -> Option<(Instant, String)> {
        self.shared.restored.lock().clone()
    }

    /// Whether all that was written before `since` is taken in.
    #[must_use]
    pub fn is_read_since(&self, since: Instant) -> bool {
        self.shared.read_at.lock().is_some_and(|read_at| read_at >= since)
    }

    /// Takes in all that was written before `since`; many that ask at once share one read.
    ///
    /// # Errors
    /// As [`Registry::catch_up`].
    pub fn catch_up_since(&self, since: Instant) -> Result<(), RegistryError> {
        let mut writer = self.lock()?;
        if self.is_read_since(since) {
            return Ok(());
        }
        match self.read(&mut writer) {
            Err(LogError::Lost(_)) => self.restore(&mut writer),
            read => Ok(read?),
        }
    }

    /// Registers a schema under a subject; one that the subject has keeps its id and version. Blocks until it is in
    /// the topic.
    ///
    /// # Errors
    /// [`RegistryError`]: the schema, its references, the subject's level or mode, the topic.
    pub fn register(&self, subject: &str, submission: &Submission) -> Result<Version, RegistryError> {
        let subject = decide::subject_name(subject)?;
        if let Some(version) = decide::existing(&self.shared.state.read(), &subject, submission)? {
            return Ok(version);
        }
        self.write(|state| decide::register(state, &subject, submission))
    }

    /// Whether a schema may be registered as far as the subject's mode goes; one that the subject has always may.
    ///
    /// # Errors
    /// [`RegistryError::NotPermitted`], or why it is no schema.
    pub fn check_writable(&self, subject: &str, submission: &Submission) -> Result<(), RegistryError> {
        decide::check_writable(&self.shared.state.read(), subject, submission)
    }

    /// An id that a schema has, deleted or under another subject, if it goes with the versions that the subject has.
    ///
    /// # Errors
    /// [`RegistryError::Incompatible`], [`RegistryError::NotCheckable`], or why it is no schema.
    pub fn known(&self, subject: &str, submission: &Submission) -> Result<Option<u32>, RegistryError> {
        decide::known(&self.shared.state.read(), subject, submission)
    }

    /// The schema of an id.
    #[must_use]
    pub fn definition(&self, id: u32) -> Option<Arc<Definition>> {
        self.shared.state.read().definition(id).cloned()
    }

    /// The schema of an id with its references put in, if it is Avro; else its text.
    #[must_use]
    pub fn whole_text(&self, id: u32) -> Option<Arc<str>> {
        let state = self.shared.state.read();
        let definition = state.definition(id)?;
        if definition.schema_type != SchemaType::Avro || definition.references.is_empty() {
            return Some(Arc::clone(&definition.text));
        }
        let references = state.resolve(&definition.references).ok()?;
        schemas::whole_avro(&definition.text, &references).ok().map(Into::into)
    }

    /// The highest id that was ever given.
    #[must_use]
    pub fn max_id(&self) -> u32 {
        self.shared.state.read().max_id()
    }

    /// Subject names with a prefix, ascending.
    #[must_use]
    pub fn subjects(&self, prefix: &str, visible: Visible) -> Vec<String> {
        self.shared.state.read().subjects(prefix, visible)
    }

    /// Version numbers of a subject, ascending.
    ///
    /// # Errors
    /// [`RegistryError::SubjectNotFound`].
    pub fn versions(&self, subject: &str, visible: Visible) -> Result<Vec<u32>, RegistryError> {
        self.shared.state.read().version_numbers(subject, visible)
    }

    /// One version of a subject.
    ///
    /// # Errors
    /// [`RegistryError::SubjectNotFound`], [`RegistryError::VersionNotFound`].
    pub fn version(&self, subject: &str, which: Which, visible: Visible) -> Result<Version, RegistryError> {
        self.shared.state.read().version(subject, which, visible)
    }

    /// Every version of the subjects with a prefix, by subject and version.
    #[must_use]
    pub fn all_versions(&self, prefix: &str, visible: Visible) -> Vec<Version> {
        let state = self.shared.state.read();
        let subjects = state.subjects(prefix, visible);
        subjects.iter().flat_map(|subject| state.versions_of(subject, visible)).collect()
    }

    /// The version under which a subject has a schema.
    ///
    /// # Errors
    /// [`RegistryError::InvalidSchema`], [`RegistryError::SubjectNotFound`], [`RegistryError::SchemaNotFound`].
    pub fn look_up(&self, subject: &str, submission: &Submission, visible: Visible) -> Result<Version, RegistryError> {
        decide::look_up(&self.shared.state.read(), subject, submission, visible)
    }

    /// Subjects and versions that have the schema of an id.
    ///
    /// # Errors
    /// [`RegistryError::IdNotFound`].
    pub fn uses(&self, id: u32, visible: Visible) -> Result<Vec<Version>, RegistryError> {
        self.shared.state.read().uses(id, visible)
    }

    /// Ids of the schemas that refer to a version, ascending.
    ///
    /// # Errors
    /// [`RegistryError::SubjectNotFound`], [`RegistryError::VersionNotFound`].
    pub fn referenced_by(&self, subject: &str, which: Which, visible: Visible) -> Result<Vec<u32>, RegistryError> {
        let state = self.shared.state.read();
        let version = state.version(subject, which, Visible::All)?;
        let referrers = state.referrers(subject, version.version, visible);
        let ids: std::collections::BTreeSet<u32> = referrers.iter().map(|referrer| referrer.id).collect();
        Ok(ids.into_iter().collect())
    }

    /// Why readers and writers of a schema would not understand those of a version, or, without one, of the versions
    /// that the subject's level asks; empty if they would.
    ///
    /// # Errors
    /// [`RegistryError::InvalidSchema`], [`RegistryError::VersionNotFound`], [`RegistryError::NotCheckable`].
    pub fn compare(
        &self,
        subject: &str,
        which: Option<Which>,
        submission: &Submission,
    ) -> Result<Vec<String>, RegistryError> {
        decide::compare(&self.shared.state.read(), subject, which, submission)
    }

    /// Deletes a version; answers its number. Blocks until it is in the topic.
    ///
    /// # Errors
    /// [`RegistryError`]
    pub fn delete_version(&self, subject: &str, which: Which, permanent: Permanent) -> Result<u32, RegistryError> {
        self.write(|state| decide::delete_version(state, subject, which, permanent))
    }

    /// Deletes a subject; answers the numbers of its versions. Blocks until it is in the topic.
    ///
    /// # Errors
    /// [`RegistryError`]
    pub fn delete_subject(&self, subject: &str, permanent: Permanent) -> Result<Vec<u32>, RegistryError> {
        self.write(|state| decide::delete_subject(state, subject, permanent))
    }

    /// Settings of a subject's own, or of the registry with `None`.
    #[must_use]
    pub fn settings(&self, subject: Option<&str>) -> Option<Settings> {
        self.shared.state.read().settings(subject).cloned()
    }

    /// The level that a subject is held to; of the registry with `None`.
    #[must_use]
    pub fn level(&self, subject: Option<&str>) -> Level {
        self.shared.state.read().level(subject)
    }

    /// Changes settings; answers what they are then. Blocks until it is in the topic.
    ///
    /// # Errors
    /// [`RegistryError`]
    pub fn set_settings(&self, subject: Option<&str>, update: SettingsUpdate) -> Result<Settings, RegistryError> {
        let subject = subject.map(decide::subject_name).transpose()?;
        self.write(|state| decide::set_settings(state, subject.as_deref(), update))
    }

    /// Takes settings away; answers what they were. Blocks until it is in the topic.
    ///
    /// # Errors
    /// [`RegistryError`]
    pub fn delete_settings(&self, subject: Option<&str>) -> Result<Settings, RegistryError> {
        self.write(|state| decide::delete_settings(state, subject))
    }

    /// The mode of a subject's own.
    #[must_use]
    pub fn own_mode(&self, subject: Option<&str>) -> Option<Mode> {
        self.shared.state.read().own_mode(subject)
    }

    /// The mode that holds for a subject, or for the registry with `None`.
    #[must_use]
    pub fn mode(&self, subject: Option<&str>) -> Mode {
        self.shared.state.read().mode(subject)
    }

    /// Sets a mode. Blocks until it is in the topic.
    ///
    /// # Errors
    /// [`RegistryError`]
    pub fn set_mode(&self, subject: Option<&str>, mode: Mode, force: Force) -> Result<(), RegistryError> {
        let subject = subject.map(decide::subject_name).transpose()?;
        self.write(|state| decide::set_mode(state, subject.as_deref(), mode, force))
    }

    /// Takes a mode away; answers what it was. Blocks until it is in the topic.
    ///
    /// # Errors
    /// [`RegistryError`]
    pub fn delete_mode(&self, subject: Option<&str>) -> Result<Mode, RegistryError> {
        self.write(|state| decide::delete_mode(state, subject))
    }
}
