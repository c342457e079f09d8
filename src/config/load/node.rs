//! The untyped tree between the texts (file, environment, command line) and the typed config.
//!
//! Invariant: a node keeps the path and the place it was written at, whatever is removed around it later.

use serde_json::Number;

/// One value with where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub kind: Kind,
    pub place: Place,
    /// Path at which it was written, with dots.
    pub path: String,
    /// The text as given, when it came from a variable, the environment or the command line; a text field takes it
    /// as it is, whatever the text looks like.
    pub given: Option<String>,
    /// Whether the value was read from a file named in the config and must not be shown.
    pub hidden: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_place: Place,
    pub node: Node,
}

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A line and column of the config file, from 1.
    File { line: u32, column: u32 },
    /// A line and column of the copy inside the binary.
    BuiltIn { line: u32, column: u32 },
    /// An environment variable.
    Env(String),
    /// The path of a `--set`.
    Set(String),
}

/// One step down the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    Key(String),
    Index(usize),
}

/// How far a path leads.
pub struct Found<'a, 'p> {
    /// The deepest node on the path.
    pub node: &'a Node,
    /// Where to point: at a scalar itself, else at its key.
    pub place: &'a Place,
    /// What is left of the path.
    pub rest: &'p str,
}

impl Found<'_, '_> {
    /// The path as it stands in the file, where the tree no longer holds everything that was written.
    pub fn written_at(&self) -> String {
        if self.rest.is_empty() { self.node.path.clone() } else { join(&self.node.path, self.rest) }
    }
}

impl Node {
    pub const fn new(kind: Kind, place: Place) -> Self {
        Self { kind, place, path: String::new(), given: None, hidden: false }
    }

    pub const fn empty_map(place: Place) -> Self {
        Self::new(Kind::Map(Vec::new()), place)
    }

    pub const fn is_container(&self) -> bool {
        matches!(self.kind, Kind::List(_) | Kind::Map(_))
    }

    /// The value of a key, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Kind::Map(entries) = &self.kind else {
            return None;
        };
        entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        let Kind::Map(entries) = &mut self.kind else {
            return None;
        };
        entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.node)
    }

    /// Keys of a map, nothing for anything else.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let entries = match &self.kind {
            Kind::Map(entries) => entries.as_slice(),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::List(_) => &[],
        };
        entries.iter().map(|entry| entry.key.as_str())
    }

    /// Writes into every node its path from here.
    pub fn number(&mut self, path: &str) {
        path.clone_into(&mut self.path);
        match &mut self.kind {
            Kind::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    item.number(&join(path, &index.to_string()));
                }
            }
            Kind::Map(entries) => {
                for entry in entries {
                    entry.node.number(&join(path, &entry.key));
                }
            }
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) => {}
        }
    }

    /// Follows a dotted path as far as it leads; keys that hold dots themselves are found too.
    pub fn find<'a, 'p>(&'a self, path: &'p str) -> Found<'a, 'p> {
        let mut found = Found { node: self, place: &self.place, rest: path };
        while !found.rest.is_empty() {
            let Some((node, key_place, rest)) = found.node.step(found.rest) else {
                break;
            };
            let exact_scalar = rest.is_empty() && !node.is_container();
            found = Found { node, place: if exact_scalar { &node.place } else { key_place }, rest };
        }
        found
    }

    fn step<'a, 'p>(&'a self, path: &'p str) -> Option<(&'a Self, &'a Place, &'p str)> {
        match &self.kind {
            Kind::Map(entries) => entries
                .iter()
                .filter_map(|entry| Some((entry, after(path, &entry.key)?)))
                .min_by_key(|(_, rest)| rest.len())
                .map(|(entry, rest)| (&entry.node, &entry.key_place, rest)),
            Kind::List(items) => {
                let (index, rest) = path.split_once('.').unwrap_or((path, ""));
                let item = items.get(index.parse::<usize>().ok()?)?;
                Some((item, &item.place, rest))
            }
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) => None,
        }
    }

    /// The steps to the node that was written at a path, wherever it is now.
    pub fn segments_to(&self, written_at: &str) -> Option<Vec<Segment>> {
        if self.path == written_at {
            return Some(Vec::new());
        }
        let below = |child: &Self, segment: Segment| {
            after(written_at, &child.path)?;
            let mut segments = child.segments_to(written_at)?;
            segments.insert(0, segment);
            Some(segments)
        };
        match &self.kind {
            Kind::List(items) => items.iter().enumerate().find_map(|(index, item)| below(item, Segment::Index(index))),
            Kind::Map(entries) => entries.iter().find_map(|entry| below(&entry.node, Segment::Key(entry.key.clone()))),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) => None,
        }
    }

    /// Takes out those entries of the map that the segments lead to which are not to stay.
    pub fn take_entries(&mut self, segments: &[Segment], stays: impl Fn(&str) -> bool) -> Vec<Entry> {
        let mut node = self;
        for segment in segments {
            let below = match (&mut node.kind, segment) {
                (Kind::Map(entries), Segment::Key(key)) => {
                    entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.node)
                }
                (Kind::List(items), Segment::Index(index)) => items.get_mut(*index),
                _ => None,
            };
            let Some(below) = below else { return Vec::new() };
            node = below;
        }
        let Kind::Map(entries) = &mut node.kind else { return Vec::new() };
        let (stay, taken) = std::mem::take(entries).into_iter().partition(|entry| stays(&entry.key));
        *entries = stay;
        taken
    }

    /// Takes out what the segments lead to, and the list item around it if nothing else was in it.
    pub fn remove(&mut self, segments: &[Segment]) {
        let Some((first, rest)) = segments.split_first() else {
            self.kind = Kind::Map(Vec::new());
            return;
        };
        match (&mut self.kind, first) {
            (Kind::Map(entries), Segment::Key(key)) => {
                let Some(at) = entries.iter().position(|entry| entry.key == *key) else {
                    return;
                };
                if rest.is_empty() {
                    entries.remove(at);
                } else {
                    entries[at].node.remove(rest);
                }
            }
            (Kind::List(items), Segment::Index(index)) if *index < items.len() => {
                if !rest.is_empty() {
                    items[*index].remove(rest);
                }
                if rest.is_empty() || matches!(&items[*index].kind, Kind::Map(m) if m.is_empty()) {
                    items.remove(*index);
                }
            }
            _ => {}
        }
    }
}

/// `path.key`, or `key` at the root.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Whether one of the paths leads through the other.
pub fn related(a: &str, b: &str) -> bool {
    after(a, b).is_some() || after(b, a).is_some()
}

fn after<'p>(path: &'p str, key: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(key)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('.') }
}

/// What an unquoted text means: nothing, a boolean, a number, else itself.
pub fn infer(text: &str) -> Kind {
    let trimmed = text.trim();
    match trimmed {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Bool(true),
        "false" | "False" | "FALSE" => return Kind::Bool(false),
        _ => {}
    }
    let digits = trimmed.strip_prefix('-').unwrap_or(trimmed);
    let numeric = digits.starts_with(|c: char| c.is_ascii_digit())
        && !(digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0."));
    let number = if numeric { trimmed.parse::<Number>().ok() } else { None };
    number.map_or_else(|| Kind::Text(text.to_owned()), Kind::Number)
}
