//! Reading a config: file → tree → overrides → variables → typed config → rules between keys; every fault at once.
//!
//! A fault never stops the reading: its node is noted and taken out, so that the default stands in and the next fault
//! is found. The result is given out only if there was none.
//!
//! Start at [`Config::load`]; `node.rs` is what everything here works on.

mod blame;
mod de;
mod expand;
mod fault;
mod node;
mod overrides;
mod yaml;

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::schemas::Schemas;
use super::{Config, DEFAULT_YAML, validate};
use blame::Blame;
use de::Problem;
use expand::Scope;
use fault::Texts;
pub use fault::{BUILT_IN_NAME, Fault, Faults, MAX_FAULTS};
use node::{Entry, Kind};
pub(super) use node::{Node, Place, related};
use overrides::Override;

/// Readings of a tree, each of which finds what is at fault in one place.
const MAX_READINGS: usize = 2 * MAX_FAULTS;
/// Largest config file, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Everything a config is made of.
#[derive(Clone, Default)]
pub struct Sources {
    /// The config file; none: the copy inside the binary.
    pub file: Option<PathBuf>,
    /// `--set path=value`, in order.
    pub sets: Vec<(String, String)>,
    /// The environment, for `${VAR}` and `STREAMWARD__A__B`.
    pub env: BTreeMap<String, String>,
    /// Whether listeners may be open to others without authentication.
    pub exposure: Exposure,
}

impl Sources {
    /// Sources with the environment of this process; variables that are not UTF-8 are left out.
    pub fn from_process(file: Option<PathBuf>, sets: Vec<(String, String)>) -> Self {
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { file, sets, env, exposure: Exposure::default() }
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("file", &self.file).field("exposure", &self.exposure).finish_non_exhaustive()
    }
}

/// Whether a listener may be open to other machines without authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exposure {
    /// Refused.
    #[default]
    Guarded,
    /// Allowed, as `--insecure` says.
    Insecure,
}

/// Splits the argument of `--set path=value`.
///
/// # Errors
/// A text for the user, if there is no `=` or nothing before it.
pub fn parse_set(argument: &str) -> Result<(String, String), String> {
    match argument.split_once('=') {
        Some((path, value)) if !path.trim().is_empty() => Ok((path.trim().to_owned(), value.to_owned())),
        _ => Err("expected path=value, such as http.listen=127.0.0.1:8080".to_owned()),
    }
}

/// A config, and what is needed to point at its places later.
#[derive(Clone)]
pub struct Loaded {
    /// The typed config; where something is at fault, its default stands in.
    pub config: Config,
    /// Name of the file it was read from.
    pub origin: String,
    /// What is at fault; nothing in what [`Config::load`] gives out.
    pub faults: Faults,
    tree: Node,
    texts: Texts,
    folder: Option<PathBuf>,
    failed: Vec<String>,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded").field("origin", &self.origin).field("config", &self.config).finish_non_exhaustive()
    }
}

impl Loaded {
    /// A fault of the value at a dotted path, for checks that need more than the config itself.
    pub fn fault_at(&self, path: &str, message: impl Into<String>) -> Fault {
        let found = self.tree.find(path);
        self.texts.fault(found.place, &found.written_at(), message)
    }

    /// Whether a fault found later follows from one that is known.
    pub fn follows_from_known(&self, fault: &Fault) -> bool {
        self.failed.iter().any(|known| related(known, &fault.path))
    }

    /// Reads the schema files that streams name.
    pub fn schemas(&self) -> Schemas {
        Schemas::new(self.folder.clone())
    }
}

impl Config {
    /// Reads, overrides, expands and checks a config.
    ///
    /// # Errors
    /// Every fault that was found, the first [`MAX_FAULTS`] by name.
    pub fn load(sources: &Sources) -> Result<Loaded, Faults> {
        let loaded = Self::load_sound_parts(sources)?;
        if loaded.faults.is_empty() { Ok(loaded) } else { Err(loaded.faults) }
    }

    /// The same for checks that go on where parts are at fault: what is sound, and the faults of the rest.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn load_sound_parts(sources: &Sources) -> Result<Loaded, Faults> {
        let (texts, folder) = read(sources.file.as_deref()).map_err(|fault| Faults::from(vec![fault]))?;
        let mut load = Load { texts, faults: Faults::default(), failed: Vec::new() };
        let tree = load.tree(sources, folder.as_deref());
        let mut pruned = tree.clone();
        let config = load.typed(&mut pruned);
        let mut check =
            validate::Check { tree: &pruned, original: &tree, failed: &load.failed, found: Vec::new(), unnamed: 0 };
        validate::all(&config, sources.exposure, &mut check);
        let validate::Check { found, unnamed, .. } = check;
        for (place, path, message) in found {
            load.report(&place, &path, message, None);
        }
        load.faults.unnamed += unnamed;
        let Load { texts, faults, failed } = load;
        Ok(Loaded { config, origin: texts.file_name.clone(), faults, tree: pruned, texts, folder, failed })
    }
}

type Read = (Texts, Option<PathBuf>);

fn read(file: Option<&Path>) -> Result<Read, Fault> {
    let Some(path) = file else {
        let texts =
            Texts { file_name: BUILT_IN_NAME.to_owned(), file: DEFAULT_YAML.to_owned(), built_in: DEFAULT_YAML };
        return Ok((texts, None));
    };
    let name = path.display().to_string();
    let unreadable = |why: String| Fault::outside(&name, format!("cannot read the file: {why}"));
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text));
    let size = read.map_err(|error| unreadable(error.to_string()))?;
    if size as u64 > MAX_FILE_BYTES {
        return Err(unreadable(format!("larger than {MAX_FILE_BYTES} bytes")));
    }
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let texts = Texts { file_name: name, file: text, built_in: DEFAULT_YAML };
    Ok((texts, Some(folder)))
}

struct Load {
    texts: Texts,
    faults: Faults,
    /// Paths whose fault has been reported; what follows from them is not.
    failed: Vec<String>,
}

impl Load {
    fn report(&mut self, place: &Place, path: &str, message: String, help: Option<String>) {
        if self.faults.is_full() {
            self.faults.unnamed += 1;
            return;
        }
        let mut fault = self.texts.fault(place, path, message);
        fault.help = help;
        self.faults.add(fault);
        self.failed.push(path.to_owned());
    }

    fn tree(&mut self, sources: &Sources, folder: Option<&Path>) -> Node {
        let built_in = yaml::parse(DEFAULT_YAML, |line, column| Place::BuiltIn { line, column })
            .map_or_else(|_| empty(), |(node, _)| node);
        let mut root = if sources.file.is_some() {
            let mut root = self.parse();
            graft(&mut root, &built_in);
            root
        } else {
            built_in
        };
        let wanted: Vec<Override> = overrides::collect(&sources.env, &sources.sets);
        for one in &wanted {
            if let Err(bad) = overrides::apply(&mut root, one) {
                self.report(&bad.place, &bad.path, bad.message, None);
            }
        }
        root.number("");
        let room = Cell::new(expand::MAX_EXPANDED_BYTES);
        let scope = Scope { env: &sources.env, folder: folder.unwrap_or(Path::new("")), room: &room };
        let mut unexpanded = Vec::new();
        expand::expand(&mut root, scope, &mut unexpanded);
        for bad in unexpanded {
            if self.faults.is_full() {
                self.faults.unnamed += 1;
                continue;
            }
            let place = root.find(&bad.path).place.clone();
            self.report(&place, &bad.path, bad.message, Some(bad.help));
        }
        root
    }

    fn parse(&mut self) -> Node {
        let parsed = yaml::parse(&self.texts.file, |line, column| Place::File { line, column });
        let (root, duplicates) = match parsed {
            Ok(parsed) => parsed,
            Err(bad) => {
                let place = Place::File { line: bad.line, column: bad.column };
                self.report(&place, "", format!("not YAML: {}", bad.message), None);
                return empty();
            }
        };
        for duplicate in duplicates {
            if self.faults.is_full() {
                self.faults.unnamed += 1;
                continue;
            }
            let first = match duplicate.first {
                Place::File { line, .. } | Place::BuiltIn { line, .. } => line,
                Place::Env(_) | Place::Set(_) => 0,
            };
            let message = format!("duplicate key '{}', given first in line {first}", duplicate.key);
            let fault = self.texts.fault(&duplicate.place, &duplicate.path, message).with_help("keep one of them");
            self.faults.add(fault);
        }
        match root.kind {
            Kind::Map(_) => root,
            Kind::Null => empty(),
            Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::List(_) => {
                let message = "expected a map of sections".to_owned();
                self.report(&root.place, "", message, None);
                empty()
            }
        }
    }

    fn typed(&mut self, tree: &mut Node) -> Config {
        for path in self.failed.clone() {
            if let Some(segments) = tree.segments_to(&path) {
                tree.remove(&segments);
            }
        }
        for _ in 0..MAX_READINGS {
            match serde_path_to_error::deserialize::<_, Config>(&*tree) {
                Ok(config) => return config,
                Err(error) => self.note(tree, &error),
            }
        }
        self.faults.has_more = true;
        Config::deserialize(&empty()).unwrap_or_default()
    }

    /// Reports what made the typed reading fail and takes it out of the tree.
    fn note(&mut self, tree: &mut Node, error: &serde_path_to_error::Error<Problem>) {
        let blame = Blame::of(tree, error);
        // All unknown keys of a map in one reading, however many there are.
        let others = blame.other_unknown_keys(tree);
        tree.remove(&blame.segments);
        for blame in std::iter::once(blame).chain(others) {
            let was_full = self.faults.is_full();
            self.report(&blame.place, &blame.path, blame.message, blame.help);
            if let (true, false, Some(fault)) = (blame.is_line_hidden, was_full, self.faults.named.last_mut()) {
                fault.hide_line();
            }
        }
    }
}

fn empty() -> Node {
    Node::empty_map(Place::File { line: 1, column: 1 })
}

/// Gives a file without streams those of the built-in config, and one without pipelines those that fit its streams.
fn graft(root: &mut Node, built_in: &Node) {
    for section in ["streams", "pipelines"] {
        let missing = root.get(section).is_none_or(|node| matches!(node.kind, Kind::Null));
        if !missing {
            continue;
        }
        let Some(mut copy) = built_in.get(section).cloned() else {
            continue;
        };
        if let (Kind::Map(pipelines), "pipelines") = (&mut copy.kind, section) {
            pipelines.retain(|pipeline| reads_a_stream_of(root, &pipeline.node));
        }
        let key_place = copy.place.clone();
        if let Kind::Map(entries) = &mut root.kind {
            entries.retain(|entry| entry.key != section);
            entries.push(Entry { key: section.to_owned(), key_place, node: copy });
        }
    }
}

fn reads_a_stream_of(root: &Node, pipeline: &Node) -> bool {
    let Some(Kind::Text(from)) = pipeline.get("from").map(|node| &node.kind) else {
        return false;
    };
    root.get("streams").is_some_and(|streams| streams.get(from).is_some())
}
