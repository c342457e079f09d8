//! Rules that a single key's type cannot hold: ranges (as the schema states them), names, references between sections, open listeners.

mod client;
mod flow;
mod limits;
mod listeners;
mod ranges;
mod supervision;

pub use flow::MAX_FLOWS;
pub use limits::brokers_fault;

use super::load::{Exposure, MAX_FAULTS, Node, Place, related};
use super::{Config, HIDDEN};

/// Longest name of a stream, pipeline, window or rule; PostgreSQL's limit for a table.
pub const MAX_NAME_LENGTH: usize = 63;

/// Most tokens: each request is compared with all of them.
const MAX_TOKENS: usize = 1_000;

/// What the rules are checked against, and what they find.
pub struct Check<'a> {
    /// The tree that the config was made from.
    pub tree: &'a Node,
    /// The tree before faulty nodes were taken out.
    pub original: &'a Node,
    /// Paths that have a fault already.
    pub failed: &'a [String],
    /// Place, path and message of the first faults, at most [`MAX_FAULTS`].
    pub found: Vec<(Place, String, String)>,
    /// How many there are besides.
    pub unnamed: usize,
}

impl Check<'_> {
    /// Notes a fault, unless it follows from one that is known.
    fn fault(&mut self, path: &str, message: impl Into<String>) {
        if self.found.len() >= MAX_FAULTS {
            self.unnamed += 1;
            return;
        }
        let at = self.tree.find(path);
        let written = at.written_at();
        if !self.failed.iter().any(|known| related(known, &written)) {
            self.found.push((at.place.clone(), written, message.into()));
        }
    }

    /// Notes a fault if the condition does not hold.
    fn require(&mut self, holds: bool, path: &str, message: &str) {
        if !holds {
            self.fault(path, message);
        }
    }

    /// Notes a fault if a text cannot name a table, a window or the like.
    fn name(&mut self, path: &str, name: &str) {
        if !is_name(name) {
            let message = if name.is_empty() {
                "a name is missing".to_owned()
            } else {
                format!(
                    "'{name}' is not a name: lower case letters, digits and '_', a letter first, at most {MAX_NAME_LENGTH}"
                )
            };
            self.fault(path, message);
        }
    }
}

fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME_LENGTH
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Checks every rule.
pub fn all(config: &Config, exposure: Exposure, check: &mut Check<'_>) {
    ranges::all(config, check);
    listeners::all(config, exposure, check);
    tokens(config, check);
    limits::all(config, check);
    client::all(&config.kafka.client, check);
    supervision::all(config, check);
    flow::streams(config, check);
    flow::pipelines(config, check);
}

fn tokens(config: &Config, check: &mut Check<'_>) {
    let tokens = &config.auth.tokens;
    if tokens.len() > MAX_TOKENS {
        return check.fault("auth.tokens", format!("at most {MAX_TOKENS} tokens"));
    }
    for (index, token) in tokens.iter().enumerate() {
        let path = format!("auth.tokens.{index}");
        let text = token.token.expose();
        check.name(&format!("{path}.name"), &token.name);
        let visible = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
        check.require(visible, &format!("{path}.token"), "a token is visible ASCII characters without spaces");
        check.require(text != HIDDEN, &format!("{path}.token"), "this stands for a hidden token and is none");
        for earlier in &tokens[..index] {
            check.require(earlier.name != token.name, &format!("{path}.name"), "another token has this name");
            check.require(earlier.token != token.token, &format!("{path}.token"), "another name has this token");
        }
    }
}
