//! What the registry knows, in memory: the sum of its events.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use apache_avro::Schema;

use super::{Level, MAX_SCHEMAS, MAX_SUBJECT_BYTES, RegistryError, Version, Which, content, log::Event, parse};

#[derive(Debug)]
pub(super) struct StoredSchema {
    pub(super) text: Arc<str>,
    pub(super) parsed: Schema,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// The schema of id n is at n - 1.
    schemas: Vec<Arc<StoredSchema>>,
    ids: HashMap<String, u32>,
    /// Schema ids; version n is at n - 1.
    subjects: BTreeMap<String, Vec<u32>>,
    level: Level,
    levels: BTreeMap<String, Level>,
}

impl State {
    pub(super) fn apply(&mut self, event: Event) -> Result<(), RegistryError> {
        match event {
            Event::Level { subject: None, level } => self.level = level,
            Event::Level { subject: Some(subject), level } => {
                self.levels.insert(subject, level);
            }
            Event::Registered { id, subject, version, schema } => {
                let ids = self.subjects.entry(subject).or_default();
                let place = usize::try_from(id).unwrap_or(usize::MAX);
                let is_next = place == self.schemas.len() + 1;
                if version as usize != ids.len() + 1 || place == 0 || place > self.schemas.len() + 1 {
                    return Err(RegistryError::Damaged(format!("schema {id} is out of order")));
                }
                ids.push(id);
                if is_next {
                    let parsed = parse(&schema)?;
                    self.ids.insert(content(&parsed), id);
                    self.schemas.push(Arc::new(StoredSchema { text: schema.into(), parsed }));
                }
            }
        }
        Ok(())
    }

    /// The event that registers a schema that the subject does not have.
    pub(super) fn registration(&self, subject: &str, schema: &Schema, text: &str) -> Event {
        let next = u32::try_from(self.schemas.len() + 1).expect("MAX_SCHEMAS is below 2^32");
        let id = self.ids.get(&content(schema)).copied().unwrap_or(next);
        let version = self.subjects.get(subject).map_or(0, Vec::len) + 1;
        let version = u32::try_from(version).expect("MAX_SCHEMAS is below 2^32");
        Event::Registered { id, subject: subject.to_owned(), version, schema: text.to_owned() }
    }

    pub(super) fn check_room(&self, subject: &str) -> Result<(), RegistryError> {
        if subject.is_empty() || subject.len() > MAX_SUBJECT_BYTES {
            return Err(RegistryError::InvalidSubject(MAX_SUBJECT_BYTES));
        }
        let versions: usize = self.subjects.values().map(Vec::len).sum();
        if versions >= MAX_SCHEMAS || self.levels.len() >= MAX_SCHEMAS {
            return Err(RegistryError::Full);
        }
        Ok(())
    }

    pub(super) fn schema(&self, id: u32) -> Option<Arc<StoredSchema>> {
        let place = usize::try_from(id).ok()?.checked_sub(1)?;
        self.schemas.get(place).map(Arc::clone)
    }

    pub(super) fn subjects(&self) -> Vec<String> {
        self.subjects.keys().cloned().collect()
    }

    pub(super) fn versions(&self, subject: &str) -> Result<Vec<u32>, RegistryError> {
        let ids = self.ids_of(subject)?;
        Ok((1..).zip(ids).map(|(version, _)| version).collect())
    }

    pub(super) fn version(&self, subject: &str, which: Which) -> Result<Version, RegistryError> {
        let ids = self.ids_of(subject)?;
        let version = match which {
            Which::Number(number) => number,
            Which::Latest => u32::try_from(ids.len()).expect("MAX_SCHEMAS is below 2^32"),
        };
        let place = usize::try_from(version).ok().and_then(|version| version.checked_sub(1));
        let id = place.and_then(|place| ids.get(place));
        id.map(|id| self.as_version(subject, version, *id)).ok_or(RegistryError::VersionNotFound(version))
    }

    pub(super) fn find(&self, subject: &str, content: &str) -> Option<Version> {
        let id = *self.ids.get(content)?;
        let mut versions = (1..).zip(self.subjects.get(subject)?);
        let (version, _) = versions.find(|(_, own)| **own == id)?;
        Some(self.as_version(subject, version, id))
    }

    pub(super) fn uses(&self, id: u32) -> Vec<Version> {
        let mut uses = Vec::new();
        for (subject, ids) in &self.subjects {
            for (version, _) in (1..).zip(ids).filter(|(_, own)| **own == id) {
                uses.push(self.as_version(subject, version, id));
            }
        }
        uses
    }

    pub(super) fn level(&self, subject: Option<&str>) -> Option<Level> {
        match subject {
            None => Some(self.level),
            Some(subject) => self.levels.get(subject).copied(),
        }
    }

    /// Objections of the versions that the subject's level asks.
    pub(super) fn incompatibilities(&self, subject: &str, schema: &Schema) -> Vec<String> {
        let level = self.effective_level(subject);
        let ids = self.subjects.get(subject).map_or(&[][..], Vec::as_slice);
        let asked = if level.is_transitive() { ids.len() } else { ids.len().min(1) };
        let objection = |id: &u32| {
            let why = level.objection(&self.schema(*id)?.parsed, schema)?;
            Some(format!("schema {id}: {why}"))
        };
        ids.iter().rev().take(asked).filter_map(objection).collect()
    }

    pub(super) fn compare(&self, subject: &str, which: Which, schema: &Schema) -> Result<Vec<String>, RegistryError> {
        let version = self.version(subject, which)?;
        let old = self.schema(version.id).ok_or(RegistryError::SchemaNotFound)?;
        Ok(self.effective_level(subject).objection(&old.parsed, schema).into_iter().collect())
    }

    fn effective_level(&self, subject: &str) -> Level {
        self.levels.get(subject).copied().unwrap_or(self.level)
    }

    fn ids_of(&self, subject: &str) -> Result<&[u32], RegistryError> {
        let ids = self.subjects.get(subject).map(Vec::as_slice);
        ids.ok_or_else(|| RegistryError::SubjectNotFound(subject.to_owned()))
    }

    fn as_version(&self, subject: &str, version: u32, id: u32) -> Version {
        let schema = self.schema(id).map_or_else(|| "".into(), |schema| Arc::clone(&schema.text));
        Version { subject: subject.to_owned(), version, id, schema }
    }
}
