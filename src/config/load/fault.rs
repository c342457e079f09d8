//! A fault of the config as people and scripts see it.
//!
//! Invariant: no fault shows a secret: lines of the sections that hold some are never quoted.

use std::fmt;

use serde::Serialize;

use super::node::Place;

/// Faults that are reported at once; a file with more has another problem.
pub const MAX_FAULTS: usize = 100;
/// Sections whose source lines may hold secrets.
const SECRET_SECTIONS: [&str; 8] = [
    "auth.tokens",
    "kafka.bootstrap",
    "kafka.client",
    "kafka.embedded.auth",
    "kafka.embedded.tls",
    "registry.auth",
    "registry.url",
    "storage.postgres",
];

/// Words whose lines are not quoted even where the path of the fault is unknown.
const SECRET_WORDS: [&str; 9] = ["token", "password", "secret", "key.pem", "ssl_key", "://", "@", "kinit", "oauth"];

/// One thing that is wrong with the config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// `file:line:column`, the name of an environment variable, or `--set path`.
    pub origin: String,
    /// Path of the key meant, with dots; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    #[serde(skip)]
    snippet: Option<Box<Snippet>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Snippet {
    line: u32,
    column: u32,
    text: String,
}

impl Fault {
    /// A fault that has no place in a text.
    pub fn outside(origin: impl Into<String>, message: impl Into<String>) -> Self {
        Self { origin: origin.into(), path: String::new(), message: message.into(), help: None, snippet: None }
    }

    /// Leaves out the line.
    pub fn hide_line(&mut self) {
        self.snippet = None;
    }

    /// The same fault with advice.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if let Some(Snippet { line, column, text }) = self.snippet.as_deref() {
            let number = line.to_string();
            let indent = column.saturating_sub(1) as usize;
            write!(f, "\n {number} | {text}")?;
            write!(f, "\n {:w$} | {:indent$}^", "", "", w = number.len())?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n   help: {help}")?;
        }
        Ok(())
    }
}

/// All faults of a config, in the order in which they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
pub struct Faults {
    /// The first of them, at most [`MAX_FAULTS`].
    pub named: Vec<Fault>,
    /// How many there are besides.
    pub unnamed: usize,
    /// Whether there are more that nobody counted.
    pub has_more: bool,
}

impl From<Vec<Fault>> for Faults {
    fn from(faults: Vec<Fault>) -> Self {
        let mut all = Self::default();
        all.extend(faults);
        all
    }
}

impl Extend<Fault> for Faults {
    fn extend<T: IntoIterator<Item = Fault>>(&mut self, faults: T) {
        faults.into_iter().for_each(|fault| self.add(fault));
    }
}

impl Faults {
    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// Whether no further fault is named.
    pub const fn is_full(&self) -> bool {
        self.named.len() >= MAX_FAULTS
    }

    /// Names a fault, or counts it.
    pub fn add(&mut self, fault: Fault) {
        if self.is_full() {
            self.unnamed += 1;
        } else {
            self.named.push(fault);
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.named {
            writeln!(f, "{fault}")?;
        }
        let (count, unnamed) = (self.named.len() + self.unnamed, self.unnamed);
        let plural = if count == 1 { "" } else { "s" };
        let least = if self.has_more { "at least " } else { "" };
        write!(f, "{least}{count} fault{plural} in the configuration")?;
        if unnamed > 0 { write!(f, ", {least}{unnamed} of them not shown") } else { Ok(()) }
    }
}

/// The texts that places point into.
#[derive(Debug, Clone)]
pub struct Texts {
    /// Name of the config file as the user gave it.
    pub file_name: String,
    pub file: String,
    pub built_in: &'static str,
}

/// Name by which the copy inside the binary is shown.
pub const BUILT_IN_NAME: &str = "built-in config.yaml";

impl Texts {
    /// A fault at a place.
    pub fn fault(&self, place: &Place, path: &str, message: impl Into<String>) -> Fault {
        let (origin, snippet) = match place {
            Place::Env(name) => (name.clone(), None),
            Place::Set(key) => (format!("--set {key}"), None),
            Place::File { line, column } => {
                (format!("{}:{line}:{column}", self.file_name), snippet(&self.file, *line, *column))
            }
            Place::BuiltIn { line, column } => {
                (format!("{BUILT_IN_NAME}:{line}:{column}"), snippet(self.built_in, *line, *column))
            }
        };
        Fault {
            origin,
            path: path.to_owned(),
            message: message.into(),
            help: None,
            snippet: snippet.filter(|_| !may_hold_secret(path)).map(Box::new),
        }
    }
}

/// Whether what stands at this path may be a secret.
pub fn may_hold_secret(path: &str) -> bool {
    SECRET_SECTIONS.iter().any(|section| super::node::related(path, section))
}

/// Whether an unknown key stands in a section that has secrets somewhere, and may be meant for one of them.
pub fn is_beside_secrets(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(section, _)| may_hold_secret(section))
}

fn snippet(text: &str, line: u32, column: u32) -> Option<Snippet> {
    let source = text.lines().nth(line.checked_sub(1)? as usize)?;
    let lower = source.to_ascii_lowercase();
    if SECRET_WORDS.iter().any(|word| lower.contains(word)) {
        return None;
    }
    Some(Snippet { line, column, text: source.replace('\t', " ") })
}

/// Advice for an unknown word: the known one that it is close to, else all known ones.
pub fn suggest(word: &str, known: &[&str]) -> (String, Option<String>) {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    let near = known
        .iter()
        .map(|candidate| (distance(word, candidate), *candidate))
        .filter(|(steps, _)| *steps <= limit)
        .min();
    match near {
        Some((_, candidate)) => (format!(", did you mean '{candidate}'?"), None),
        None => {
            let list = if known.is_empty() {
                "nothing goes here".to_owned()
            } else {
                format!("known here: {}", known.join(", "))
            };
            (String::new(), Some(list))
        }
    }
}

/// Insertions, deletions, replacements and swaps of neighbours between two words (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}
