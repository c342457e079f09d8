//! Rules that a single key's type cannot hold: ranges, names, references between sections, open listeners.

mod flow;
mod limits;

use super::load::{Exposure, Node, Place, related};
use super::{Config, HIDDEN, ListenAddr};

/// Longest name of a stream, pipeline, window or rule; PostgreSQL's limit for a table.
pub const MAX_NAME_LENGTH: usize = 63;

/// What the rules are checked against, and what they find.
pub struct Check<'a> {
    /// The tree that the config was made from.
    pub tree: &'a Node,
    /// The tree before faulty nodes were taken out.
    pub original: &'a Node,
    /// Paths that have a fault already.
    pub failed: &'a [String],
    /// Place, path and message of each fault.
    pub found: Vec<(Place, String, String)>,
}

impl Check<'_> {
    /// Notes a fault, unless it follows from one that is known.
    fn fault(&mut self, path: &str, message: impl Into<String>) {
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

    /// Notes a fault if a value is outside its range.
    fn range<T: PartialOrd + std::fmt::Display + Copy>(
        &mut self,
        path: &str,
        value: T,
        range: std::ops::RangeInclusive<T>,
    ) {
        if !range.contains(&value) {
            let (low, high) = (range.start(), range.end());
            self.fault(path, format!("{value} is not between {low} and {high}"));
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
    listeners(config, exposure, check);
    tokens(config, check);
    limits::all(config, check);
    flow::streams(config, check);
    flow::pipelines(config, check);
}

fn listeners(config: &Config, exposure: Exposure, check: &mut Check<'_>) {
    let http = ("http.listen", config.http.listen);
    let mut open = vec![http];
    if config.kafka.bootstrap.is_none() {
        open.push(("kafka.embedded.listen", config.kafka.embedded.listen));
    }
    if config.registry.url.is_none() {
        open.push(("registry.embedded.listen", config.registry.embedded.listen));
    }
    for (index, (path, address)) in open.iter().enumerate() {
        let earlier = open[..index].iter().find(|(_, taken)| same(*taken, *address));
        if let Some((taken, _)) = earlier {
            check.fault(path, format!("{address} is the address of {taken} already"));
        }
        let authenticated = *path == http.0 && !config.auth.tokens.is_empty();
        if !address.is_loopback() && !authenticated && exposure == Exposure::Guarded {
            let way_out = if *path == http.0 {
                "set auth.tokens, listen on 127.0.0.1, or start with --insecure"
            } else {
                "listen on 127.0.0.1, or start with --insecure"
            };
            check.fault(path, format!("{address} is open to other machines without authentication: {way_out}"));
        }
    }
}

fn same(a: ListenAddr, b: ListenAddr) -> bool {
    let (a, b) = (a.get(), b.get());
    let overlap = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && overlap
}

fn tokens(config: &Config, check: &mut Check<'_>) {
    let tokens = &config.auth.tokens;
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
