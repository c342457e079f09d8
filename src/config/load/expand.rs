//! `${VAR}`, `${VAR:-default}` and `${file:/path}` inside the texts of the tree; `$${` stands for `${`.
//!
//! What a variable holds is not expanded again.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;

use super::node::{Kind, Node, infer};
use crate::config::files;

/// Largest file that `${file:}` reads, in bytes.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// What variables and relative files are looked up in.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    pub env: &'a BTreeMap<String, String>,
    pub folder: &'a Path,
    /// Bytes that texts with variables may still have.
    pub room: &'a Cell<usize>,
}

/// Bytes that the texts with variables of a tree may have together.
pub const MAX_EXPANDED_BYTES: usize = 4 << 20;

/// A variable that could not be replaced; its node is null now.
pub struct Unexpanded {
    pub path: String,
    pub message: String,
    pub help: String,
}

/// Replaces the variables of the whole tree, which must be numbered.
pub fn expand(node: &mut Node, scope: Scope<'_>, failed: &mut Vec<Unexpanded>) {
    match &mut node.kind {
        Kind::Text(text) if text.contains("${") => match replace(text, scope) {
            Ok(Replaced { text, from_file }) => {
                node.kind = infer(&text);
                node.given = Some(text);
                node.hidden = from_file;
            }
            Err((message, help)) => failed.push(Unexpanded { path: node.path.clone(), message, help }),
        },
        Kind::List(items) => {
            for item in items {
                expand(item, scope, failed);
            }
        }
        Kind::Map(entries) => {
            for entry in entries {
                expand(&mut entry.node, scope, failed);
            }
        }
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) => {}
    }
}

struct Replaced {
    text: String,
    from_file: bool,
}

type Failure = (String, String);

fn too_much() -> Failure {
    let help = format!("files and variables may give {} MiB in all", MAX_EXPANDED_BYTES >> 20);
    ("there is no room for what it stands for".to_owned(), help)
}

fn replace(text: &str, scope: Scope<'_>) -> Result<Replaced, Failure> {
    if scope.room.get() == 0 {
        return Err(too_much());
    }
    let mut out = Replaced { text: String::new(), from_file: false };
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if let Some(before) = rest[..at].strip_suffix('$') {
            out.text.push_str(before);
            out.text.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.text.push_str(&rest[..at]);
        let Some(end) = rest[at..].find('}') else {
            return Err(("'${' without '}'".to_owned(), "close it, or write $${ for a literal ${".to_owned()));
        };
        let inside = &rest[at + 2..at + end];
        if let Some(path) = inside.strip_prefix("file:") {
            out.text.push_str(&read(&scope.folder.join(path))?);
            out.from_file = true;
        } else {
            out.text.push_str(variable(inside, scope.env)?);
        }
        rest = &rest[at + end + 1..];
    }
    out.text.push_str(rest);
    let room = scope.room.get().checked_sub(out.text.len());
    scope.room.set(room.unwrap_or(0));
    if room.is_none() { Err(too_much()) } else { Ok(out) }
}

fn variable<'a>(inside: &'a str, env: &'a BTreeMap<String, String>) -> Result<&'a str, Failure> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let well_formed = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !well_formed {
        return Err((
            format!("'${{{inside}}}' names no variable"),
            "write ${NAME}, ${NAME:-default}, ${file:/path}, or $${ for a literal ${".to_owned(),
        ));
    }
    match (env.get(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default),
        (None, None) => Err((
            format!("environment variable {name} is not set"),
            format!("set it, or give a default: ${{{name}:-…}}"),
        )),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let failure = |what: &dyn std::fmt::Display| {
        (
            format!("cannot read {}: {what}", path.display()),
            "it must be a regular file with UTF-8 text of at most 64 KiB".to_owned(),
        )
    };
    let mut text = files::read_text(path, MAX_SECRET_BYTES).map_err(|error| failure(&error))?;
    let line_end = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(line_end);
    Ok(text)
}
