//! `STREAMWARD__A__B=value` and `--set a.b=value`, written into the tree.
//!
//! A value is YAML: `5`, `true`, `[a, b]`, `{x: 1}`; a text needs no quotes. List items go by index, the next free
//! index appends.

use std::collections::BTreeMap;

use super::node::{Entry, Kind, Node, Place, infer};
use super::yaml;

/// Beginning of the environment variables that override keys.
pub const ENV_PREFIX: &str = "STREAMWARD__";
/// Deepest path that an override may name.
const MAX_DEPTH: usize = 32;
/// The one section whose keys hold dots.
const DOTTED: [&str; 2] = ["kafka", "client"];

/// One override: where it goes, what it is, who gave it.
pub struct Override {
    pub segments: Vec<String>,
    pub value: String,
    pub place: Place,
}

/// An override that leads nowhere.
pub struct Misplaced {
    pub path: String,
    pub place: Place,
    pub message: String,
}

/// Overrides of the environment, then those of the command line, which are stronger.
pub fn collect(env: &BTreeMap<String, String>, sets: &[(String, String)]) -> Vec<Override> {
    let from_env = env.iter().filter_map(|(name, value)| {
        let path = name.strip_prefix(ENV_PREFIX)?.to_ascii_lowercase();
        let segments = path.split("__").map(str::to_owned).collect();
        Some(Override {
            segments: librdkafka_name(segments, "_"),
            value: value.clone(),
            place: Place::Env(name.clone()),
        })
    });
    let from_sets = sets.iter().map(|(path, value)| Override {
        segments: librdkafka_name(path.split('.').map(str::to_owned).collect(), "."),
        value: value.clone(),
        place: Place::Set(path.clone()),
    });
    from_env.chain(from_sets).collect()
}

/// librdkafka's names hold dots: everything after `kafka.client` is one key.
fn librdkafka_name(mut segments: Vec<String>, separator: &str) -> Vec<String> {
    if segments.len() > 2 && segments[..2] == DOTTED {
        let name = segments.split_off(2).join(".").replace(separator, ".");
        segments.push(name);
    }
    segments
}

/// Writes one override into the tree, making the maps and items on its way.
pub fn apply(root: &mut Node, wanted: &Override) -> Result<(), Misplaced> {
    let misplaced =
        |message: String| Misplaced { path: wanted.segments.join("."), place: wanted.place.clone(), message };
    if wanted.segments.len() > MAX_DEPTH || wanted.segments.iter().any(String::is_empty) {
        return Err(misplaced("this is not the path of a key".to_owned()));
    }
    let mut node = root;
    for segment in &wanted.segments {
        node = descend(node, segment, &wanted.place).map_err(misplaced)?;
    }
    let path = std::mem::take(&mut node.path);
    *node = value(&wanted.value, &wanted.place);
    node.path = path;
    Ok(())
}

fn descend<'a>(node: &'a mut Node, segment: &str, place: &Place) -> Result<&'a mut Node, String> {
    if !node.is_container() {
        let is_index = segment.chars().all(|c| c.is_ascii_digit());
        let kind = if is_index { Kind::List(Vec::new()) } else { Kind::Map(Vec::new()) };
        *node = Node::new(kind, place.clone());
    }
    match &mut node.kind {
        Kind::List(items) => {
            let length = items.len();
            let index = segment.parse::<usize>().ok().filter(|at| *at <= length);
            let Some(index) = index else {
                return Err(format!("'{segment}' is no item of this list, which has {length}; {length} would append"));
            };
            if index == length {
                items.push(Node::new(Kind::Null, place.clone()));
            }
            Ok(&mut items[index])
        }
        Kind::Map(entries) => {
            let at = entries.iter().position(|entry| entry.key == segment);
            let at = at.unwrap_or_else(|| {
                entries.push(Entry {
                    key: segment.to_owned(),
                    key_place: place.clone(),
                    node: Node::new(Kind::Null, place.clone()),
                });
                entries.len() - 1
            });
            Ok(&mut entries[at].node)
        }
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) => {
            Err(format!("nothing can be set below '{segment}'"))
        }
    }
}

fn value(text: &str, place: &Place) -> Node {
    let structured = text.trim_start().starts_with(['[', '{', '"', '\'']);
    let parsed = if structured {
        yaml::parse(text, |line, column| Place::File { line, column })
            .ok()
            .filter(|(_, duplicates)| duplicates.is_empty())
    } else {
        None
    };
    let mut node = match parsed {
        Some((node, _)) => node,
        None => Node::new(infer(text), place.clone()),
    };
    replace_places(&mut node, place);
    if !matches!(node.kind, Kind::Text(_)) {
        node.given = Some(text.to_owned());
    }
    node
}

fn replace_places(node: &mut Node, place: &Place) {
    node.place.clone_from(place);
    match &mut node.kind {
        Kind::List(items) => items.iter_mut().for_each(|item| replace_places(item, place)),
        Kind::Map(entries) => {
            for entry in entries {
                entry.key_place.clone_from(place);
                replace_places(&mut entry.node, place);
            }
        }
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) => {}
    }
}
