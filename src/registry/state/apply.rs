//! From records to what is known.
//!
//! Applying the records of a topic in order gives the same state before and after compaction: a record says all of
//! its key.

use std::{collections::BTreeSet, sync::Arc};

use super::{Entry, State, Stored};
use crate::registry::{
    avro,
    log::Record,
    model::{Definition, SchemaType},
    record::{Change, SchemaValue, Settings},
};

impl State {
    /// Takes in a record; one that cannot be read, or that gives an id to a second schema, is left alone.
    pub(in crate::registry) fn apply(&mut self, record: &Record) {
        match Change::read(record) {
            Ok(Some(change)) => self.take_in(change),
            Ok(None) => {}
            Err(error) => {
                let key = String::from_utf8_lossy(&record.key);
                tracing::error!(%error, %key, "a record of the schemas topic cannot be read and is left alone");
            }
        }
    }

    fn take_in(&mut self, change: Change) {
        match change {
            Change::Schema(value) => self.put(&value),
            Change::Removed { subject, version } => self.remove(&subject, version),
            Change::SubjectDeleted { subject, version } => {
                let versions = self.subjects.get_mut(&subject);
                for (_, entry) in versions.into_iter().flat_map(|versions| versions.range_mut(..=version)) {
                    entry.is_deleted = true;
                }
            }
            Change::Cleared { subject } => self.clear(subject.as_deref()),
            Change::Settings { subject, settings } => self.put_settings(subject, settings),
            Change::Mode { subject, mode: Some(mode) } => drop(self.modes.insert(subject, mode)),
            Change::Mode { subject, mode: None } => drop(self.modes.remove(&subject)),
            Change::MaxId(id) => self.max_id = self.max_id.max(id),
        }
    }

    fn put_settings(&mut self, subject: Option<String>, settings: Option<Settings>) {
        let bytes = |settings: &Settings| settings.bytes(subject.as_deref());
        self.bytes -= self.settings.get(&subject).map_or(0, bytes);
        self.bytes += settings.as_ref().map_or(0, bytes);
        match settings {
            Some(settings) => drop(self.settings.insert(subject, settings)),
            None => drop(self.settings.remove(&subject)),
        }
    }

    /// The first schema of an id keeps it, as in Confluent's `KafkaStoreMessageHandler.validateUpdate`.
    fn put(&mut self, value: &SchemaValue) {
        let (id, subject, version) = (value.id, &value.subject, value.version);
        let definition = value.definition();
        let taken = self.ids.get(&id).is_some_and(|stored| stored.definition.text != definition.text);
        if taken {
            tracing::error!(id, subject, version, "a second schema with this id is left alone");
            return;
        }
        let replaced = self.subjects.get(subject).and_then(|versions| versions.get(&version));
        if replaced.is_some_and(|entry| entry.id != id) {
            self.remove(subject, version);
        }
        self.max_id = self.max_id.max(id);
        let (by_definition, bytes) = (&mut self.by_definition, &mut self.bytes);
        let stored = self.ids.entry(id).or_insert_with(|| {
            let canonical = Arc::new(canonical(&definition));
            by_definition.entry(Arc::clone(&canonical)).or_insert(id);
            let stored = Stored { definition: Arc::new(definition), canonical, uses: BTreeSet::new() };
            *bytes += stored.bytes();
            stored
        });
        stored.uses.insert((subject.clone(), version));
        let entry = Entry { id, is_deleted: value.deleted };
        self.subjects.entry(subject.clone()).or_default().insert(version, entry);
    }

    fn remove(&mut self, subject: &str, version: u32) {
        let Some(versions) = self.subjects.get_mut(subject) else { return };
        let removed = versions.remove(&version);
        if versions.is_empty() {
            self.subjects.remove(subject);
        }
        let Some(Entry { id, .. }) = removed else { return };
        let Some(stored) = self.ids.get_mut(&id) else { return };
        stored.uses.remove(&(subject.to_owned(), version));
        if !stored.uses.is_empty() {
            return;
        }
        let Some(gone) = self.ids.remove(&id) else { return };
        self.bytes -= gone.bytes();
        if self.by_definition.get(&gone.canonical) == Some(&id) {
            self.by_definition.remove(&gone.canonical);
            // An imported schema may have had a second id.
            let other = self.ids.iter().find(|(_, stored)| stored.canonical == gone.canonical);
            if let Some((other, stored)) = other {
                self.by_definition.insert(Arc::clone(&stored.canonical), *other);
            }
        }
    }

    fn clear(&mut self, subject: Option<&str>) {
        let deleted: Vec<(String, u32)> = self
            .subjects
            .iter()
            .filter(|(name, _)| subject.is_none_or(|subject| *name == subject))
            .flat_map(|(name, versions)| versions.iter().map(move |version| (name, version)))
            .filter(|(_, (_, entry))| entry.is_deleted)
            .map(|(name, (version, _))| (name.clone(), *version))
            .collect();
        for (subject, version) in deleted {
            self.remove(&subject, version);
        }
    }
}

fn canonical(definition: &Definition) -> Definition {
    let text = match definition.schema_type {
        SchemaType::Avro => avro::canonical(&definition.text),
        SchemaType::Json | SchemaType::Protobuf => None,
    };
    let text = text.map_or_else(|| Arc::clone(&definition.text), Into::into);
    Definition { text, ..definition.clone() }
}
