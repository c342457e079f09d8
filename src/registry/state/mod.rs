//! What the registry knows, in memory: the sum of the records of its topic.
//!
//! `apply` takes in records and nothing else changes a [`State`]; the queries are here, decisions about changes in
//! `decide`.

mod apply;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    Level, MAX_ENTRIES, RegistryError,
    model::{Definition, Mode, Reference, SchemaType, Version, Visible, Which},
    record::Settings,
};

/// Most schemas that one schema may bring in by references, its references' references included.
const MAX_REFERENCES: usize = 1_000;

/// The schema of an id.
#[derive(Debug)]
struct Stored {
    definition: Arc<Definition>,
    /// The definition with Avro in canonical form, as [`State::by_definition`] has it.
    canonical: Arc<Definition>,
    /// Subjects and versions that have it, deleted ones too.
    uses: BTreeSet<(String, u32)>,
}

impl Stored {
    fn bytes(&self) -> usize {
        let canonical =
            if Arc::ptr_eq(&self.canonical.text, &self.definition.text) { 0 } else { self.canonical.text.len() };
        self.definition.bytes() + canonical
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    id: u32,
    is_deleted: bool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    ids: BTreeMap<u32, Stored>,
    by_definition: HashMap<Arc<Definition>, u32>,
    subjects: BTreeMap<String, BTreeMap<u32, Entry>>,
    /// By subject; none is the registry's own.
    settings: BTreeMap<Option<String>, Settings>,
    modes: BTreeMap<Option<String>, Mode>,
    /// The highest id that a record of the topic names.
    max_id: u32,
    /// Ids up to this one were given, whatever the topic says.
    floor: u32,
    /// Bytes of definitions and settings held.
    bytes: usize,
    max_bytes: usize,
}

impl State {
    /// Holds nothing yet.
    pub(super) fn bounded(max_bytes: usize) -> Self {
        Self { max_bytes, ..Self::default() }
    }

    pub(super) fn definition(&self, id: u32) -> Option<&Arc<Definition>> {
        self.ids.get(&id).map(|stored| &stored.definition)
    }

    /// The highest id ever given.
    pub(super) fn max_id(&self) -> u32 {
        self.max_id.max(self.floor)
    }

    /// Takes ids up to this one for given.
    pub(super) fn raise_floor(&mut self, id: u32) {
        self.floor = self.floor.max(id);
    }

    /// The highest id ever given, if the topic does not know of it.
    pub(super) fn unsaid_max_id(&self) -> Option<u32> {
        (self.floor > self.max_id).then_some(self.floor)
    }

    /// Most bytes of definitions and settings to be held.
    pub(super) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Settings by subject; `None` is the registry's own.
    pub(super) fn all_settings(&self) -> impl Iterator<Item = (&Option<String>, &Settings)> {
        self.settings.iter()
    }

    /// Modes by subject; `None` is the registry's own.
    pub(super) fn all_modes(&self) -> impl Iterator<Item = (&Option<String>, Mode)> {
        self.modes.iter().map(|(subject, mode)| (subject, *mode))
    }

    /// The id of a definition in canonical form.
    pub(super) fn id_of(&self, definition: &Definition) -> Option<u32> {
        self.by_definition.get(definition).copied()
    }

    /// Versions and settings held, for the bound on them.
    pub(super) fn len(&self) -> usize {
        let versions: usize = self.subjects.values().map(BTreeMap::len).sum();
        versions + self.settings.len() + self.modes.len()
    }

    /// Whether a new entry of so many bytes has room.
    ///
    /// # Errors
    /// [`RegistryError::Full`].
    pub(super) fn check_room(&self, bytes: usize) -> Result<(), RegistryError> {
        if self.len() >= MAX_ENTRIES {
            return Err(RegistryError::Full(MAX_ENTRIES));
        }
        if self.bytes.saturating_add(bytes) > self.max_bytes {
            return Err(RegistryError::Full(self.max_bytes));
        }
        Ok(())
    }

    /// Subject names with a prefix, ascending.
    pub(super) fn subjects(&self, prefix: &str, visible: Visible) -> Vec<String> {
        let matching = self.subjects.range(prefix.to_owned()..).take_while(|(name, _)| name.starts_with(prefix));
        let shown = matching.filter(|(_, versions)| match visible {
            Visible::Live | Visible::All => versions.values().any(|entry| visible.shows(entry.is_deleted)),
            Visible::Deleted => versions.values().all(|entry| entry.is_deleted),
        });
        shown.map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn has_subject(&self, subject: &str, visible: Visible) -> bool {
        self.versions_of(subject, visible).next().is_some()
    }

    /// Versions of a subject, ascending; none for an unknown subject.
    pub(super) fn versions_of(&self, subject: &str, visible: Visible) -> impl DoubleEndedIterator<Item = Version> {
        let known = self.subjects.get_key_value(subject);
        let entries = known.into_iter().flat_map(|(name, versions)| versions.iter().map(move |entry| (name, entry)));
        let shown = entries.filter(move |(_, (_, entry))| visible.shows(entry.is_deleted));
        shown.filter_map(|(name, (version, entry))| self.as_version(name, *version, *entry))
    }

    /// Version numbers of a subject, ascending.
    pub(super) fn version_numbers(&self, subject: &str, visible: Visible) -> Result<Vec<u32>, RegistryError> {
        let exists = match visible {
            Visible::Live => Visible::Live,
            Visible::All | Visible::Deleted => Visible::All,
        };
        if !self.has_subject(subject, exists) {
            return Err(RegistryError::SubjectNotFound(subject.to_owned()));
        }
        Ok(self.versions_of(subject, visible).map(|version| version.version).collect())
    }

    /// One version; the latest is the last one that is not deleted.
    pub(super) fn version(&self, subject: &str, which: Which, visible: Visible) -> Result<Version, RegistryError> {
        let found = match which {
            Which::Latest => self.versions_of(subject, Visible::Live).next_back(),
            Which::Number(number) => {
                let entry = self.subjects.get(subject).and_then(|versions| versions.get(&number));
                let shown = entry.filter(|entry| visible.shows(entry.is_deleted));
                shown.and_then(|entry| self.as_version(subject, number, *entry))
            }
        };
        found.ok_or_else(|| match self.has_subject(subject, visible) {
            true => RegistryError::VersionNotFound(which.to_string()),
            false => RegistryError::SubjectNotFound(subject.to_owned()),
        })
    }

    /// The last version under which a subject has a definition in canonical form.
    pub(super) fn find(&self, subject: &str, definition: &Definition, visible: Visible) -> Option<Version> {
        let is_same =
            |version: &Version| self.ids.get(&version.id).is_some_and(|stored| *stored.canonical == *definition);
        self.versions_of(subject, visible).rev().find(is_same)
    }

    /// Subjects and versions that have the schema of an id.
    pub(super) fn uses(&self, id: u32, visible: Visible) -> Result<Vec<Version>, RegistryError> {
        let stored = self.ids.get(&id).ok_or_else(|| RegistryError::IdNotFound(id.to_string()))?;
        let version = |(subject, version): &(String, u32)| {
            let entry = self.subjects.get(subject)?.get(version)?;
            visible.shows(entry.is_deleted).then(|| self.as_version(subject, *version, *entry)).flatten()
        };
        Ok(stored.uses.iter().filter_map(version).collect())
    }

    /// Versions whose schemas refer to a version.
    pub(super) fn referrers(&self, subject: &str, version: u32, visible: Visible) -> Vec<Version> {
        let refers = |stored: &&Stored| {
            stored.definition.references.iter().any(|reference| reference.points_to(subject, version))
        };
        let uses = self.ids.values().filter(refers).flat_map(|stored| &stored.uses);
        let entry = |(subject, version): &(String, u32)| {
            let entry = self.subjects.get(subject)?.get(version)?;
            visible.shows(entry.is_deleted).then(|| self.as_version(subject, *version, *entry)).flatten()
        };
        uses.filter_map(entry).collect()
    }

    /// Texts of the schemas that references bring in, what they need first.
    pub(super) fn resolve(&self, references: &[Reference]) -> Result<Vec<String>, RegistryError> {
        let mut texts = Vec::new();
        let mut met = BTreeSet::new();
        self.resolve_into(references, &mut texts, &mut met)?;
        Ok(texts)
    }

    fn resolve_into(
        &self,
        references: &[Reference],
        texts: &mut Vec<String>,
        met: &mut BTreeSet<(String, u32)>,
    ) -> Result<(), RegistryError> {
        for reference in references {
            let version = self.referenced(reference)?;
            if !met.insert((version.subject.clone(), version.version)) {
                continue;
            }
            if met.len() > MAX_REFERENCES {
                return Err(RegistryError::InvalidSchema(format!("it refers to more than {MAX_REFERENCES} schemas")));
            }
            self.resolve_into(&version.definition.references, texts, met)?;
            if version.definition.schema_type == SchemaType::Avro {
                texts.push(version.definition.text.to_string());
            }
        }
        Ok(())
    }

    /// The version that a reference means, also a deleted one.
    pub(super) fn referenced(&self, reference: &Reference) -> Result<Version, RegistryError> {
        let which = match reference.version {
            -1 => Some(Which::Latest),
            number => u32::try_from(number).ok().map(Which::Number),
        };
        let found = which.and_then(|which| self.version(&reference.subject, which, Visible::All).ok());
        found.ok_or_else(|| {
            let (subject, version) = (&reference.subject, reference.version);
            RegistryError::InvalidSchema(format!(
                "No schema reference found for subject \"{subject}\" and version {version}"
            ))
        })
    }

    /// The settings of a subject's own, or of the registry with `None`.
    pub(super) fn settings(&self, subject: Option<&str>) -> Option<&Settings> {
        self.settings.get(&subject.map(str::to_owned))
    }

    /// The level that a subject is held to.
    pub(super) fn level(&self, subject: Option<&str>) -> Level {
        let level = |subject| self.settings(subject).and_then(|settings: &Settings| settings.compatibility_level);
        level(subject).or_else(|| level(None)).unwrap_or_default()
    }

    /// Whether schemas of a subject are normalized unasked.
    pub(super) fn normalizes(&self, subject: &str) -> bool {
        let normalize = |subject| self.settings(subject).and_then(|settings: &Settings| settings.normalize);
        normalize(Some(subject)).or_else(|| normalize(None)).unwrap_or_default()
    }

    /// The mode of a subject's own, or of the registry with `None`.
    pub(super) fn own_mode(&self, subject: Option<&str>) -> Option<Mode> {
        self.modes.get(&subject.map(str::to_owned)).copied()
    }

    /// The mode that holds for a subject.
    pub(super) fn mode(&self, subject: Option<&str>) -> Mode {
        match self.own_mode(None) {
            Some(Mode::ReadOnlyOverride) => Mode::ReadOnlyOverride,
            global => self.own_mode(subject).or(global).unwrap_or_default(),
        }
    }

    fn as_version(&self, subject: &str, version: u32, entry: Entry) -> Option<Version> {
        let definition = Arc::clone(self.definition(entry.id)?);
        let Entry { id, is_deleted } = entry;
        Some(Version { subject: subject.to_owned(), version, id, definition, is_deleted })
    }
}
