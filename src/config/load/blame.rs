//! From an error of the typed reading to the node it is about, and the words for it.

use serde_path_to_error::Segment as PathSegment;

use super::de::Problem;
use super::fault::{is_beside_secrets, may_hold_secret, suggest};
use super::node::{Entry, Kind, Node, Place, Segment};

/// A fault before it is put into its text.
pub struct Blame {
    pub place: Place,
    /// Path at which it was written.
    pub path: String,
    /// Where it is in the tree now.
    pub segments: Vec<Segment>,
    pub message: String,
    pub help: Option<String>,
    /// Whether its line may hold a secret, though no path of one leads there.
    pub is_line_hidden: bool,
    /// The keys that there are, where this is about one that is unknown.
    known: Option<&'static [&'static str]>,
}

impl Blame {
    /// What an error says about the tree that it came from.
    pub fn of(tree: &Node, error: &serde_path_to_error::Error<Problem>) -> Self {
        let mut walk = Walk::start(tree);
        for segment in error.path() {
            walk.down(segment);
        }
        let mut problem = error.inner().clone();
        if let (Problem::UnknownChoice { choice, known }, Kind::Map(_)) = (&problem, &walk.node.kind) {
            let (key, known) = (choice.clone(), *known);
            let variant = key.clone();
            walk.down(&PathSegment::Enum { variant });
            problem = Problem::UnknownKey { key, known };
        }
        let at_key = walk.node.is_container() || matches!(problem, Problem::UnknownKey { .. });
        let known = if let Problem::UnknownKey { known, .. } = &problem { Some(*known) } else { None };
        let is_line_hidden = known.is_some() && is_beside_secrets(&walk.path);
        let secret = walk.node.hidden || may_hold_secret(&walk.path);
        let (message, help) = words(&problem, secret);
        Self {
            place: if at_key { walk.key_place } else { &walk.node.place }.clone(),
            path: walk.path,
            segments: walk.segments,
            message,
            help,
            is_line_hidden,
            known,
        }
    }

    /// Takes the other unknown keys of the same map out of the tree, where this is about one.
    pub fn other_unknown_keys(&self, tree: &mut Node) -> Vec<Self> {
        let (Some(known), Some((Segment::Key(this), parent))) = (self.known, self.segments.split_last()) else {
            return Vec::new();
        };
        let unknown = tree.take_entries(parent, |key| key == this || known.contains(&key));
        let blame = |entry: Entry| {
            let (message, help) = words(&Problem::UnknownKey { key: entry.key, known }, false);
            let is_line_hidden = is_beside_secrets(&entry.node.path);
            Self {
                place: entry.key_place,
                path: entry.node.path,
                segments: Vec::new(),
                message,
                help,
                is_line_hidden,
                known: None,
            }
        };
        unknown.into_iter().map(blame).collect()
    }
}

/// The way from the root to the node that an error is about.
struct Walk<'a> {
    node: &'a Node,
    key_place: &'a Place,
    path: String,
    segments: Vec<Segment>,
}

impl<'a> Walk<'a> {
    fn start(root: &'a Node) -> Self {
        Self { node: root, key_place: &root.place, path: String::new(), segments: Vec::new() }
    }

    fn down(&mut self, segment: &PathSegment) {
        match (segment, &self.node.kind) {
            (PathSegment::Seq { index }, Kind::List(items)) => {
                if let Some(item) = items.get(*index) {
                    self.enter(item, &item.place, Segment::Index(*index));
                }
            }
            (PathSegment::Map { key } | PathSegment::Enum { variant: key }, Kind::Map(entries)) => {
                if let Some(entry) = entries.iter().find(|entry| entry.key == *key) {
                    self.enter(&entry.node, &entry.key_place, Segment::Key(key.clone()));
                }
            }
            _ => {}
        }
    }

    fn enter(&mut self, node: &'a Node, key_place: &'a Place, segment: Segment) {
        self.path.clone_from(&node.path);
        self.node = node;
        self.key_place = key_place;
        self.segments.push(segment);
    }
}

fn words(problem: &Problem, secret: bool) -> (String, Option<String>) {
    match problem {
        Problem::UnknownKey { key, known } => {
            let (hint, help) = suggest(key, known);
            (format!("unknown key '{key}'{hint}"), help)
        }
        Problem::UnknownChoice { known, .. } if secret => (format!("expected one of {}", known.join(", ")), None),
        Problem::UnknownChoice { choice, known } => {
            let (hint, help) = suggest(choice, known);
            (format!("unknown value '{choice}'{hint}"), help)
        }
        Problem::Wrong { expected, .. } if secret => (format!("expected {expected}"), None),
        Problem::Wrong { found, expected } => {
            let help = match (expected.as_str(), found.as_str()) {
                ("a text", found) if !found.starts_with("a ") && found != "nothing" => {
                    Some(format!("put quotes around it: \"{found}\""))
                }
                (_, "nothing") => Some("leave the key out to have its default".to_owned()),
                _ => None,
            };
            (format!("expected {expected}, found {found}"), help)
        }
        Problem::Other(message) => (message.clone(), None),
    }
}
