//! Where an actor lives in the tree.
//!
//! A path is the list of child ids from the root, written `pipelines/sensors/lane-0`. The root itself is `/`.
//! A path names a *slot*, not an incarnation: it stays valid over restarts, and whoever commands it reaches the one
//! that lives there now.
//!
//! An id has 1 to [`MAX_ID_LEN`] bytes without `/`, `*`, white space and control characters; siblings have different
//! ones.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Longest id of one child, in bytes.
pub const MAX_ID_LEN: usize = 128;

/// The place of an actor in the supervision tree.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorPath(Arc<str>);

/// Why a text is not a child id or a path.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{text}` is not an actor id: 1 to {MAX_ID_LEN} bytes, without `/`, `*`, spaces or control characters")]
pub struct PathError {
    /// The refused text.
    pub text: String,
}

impl ActorPath {
    /// The path of the root supervisor.
    #[must_use]
    pub fn root() -> Self {
        Self(Arc::from(""))
    }

    /// Reads `a/b/c`, `/a/b/c` or `/`.
    ///
    /// # Errors
    /// A segment that is not a valid id.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let trimmed = text.trim_matches('/');
        if trimmed.is_empty() {
            return Ok(Self::root());
        }
        trimmed.split('/').try_for_each(check_id)?;
        Ok(Self(Arc::from(trimmed)))
    }

    /// The path of this actor's child `id`.
    ///
    /// # Errors
    /// `id` is not a valid id.
    pub fn child(&self, id: &str) -> Result<Self, PathError> {
        check_id(id)?;
        Ok(if self.is_root() { Self(Arc::from(id)) } else { Self(Arc::from(format!("{}/{id}", self.0))) })
    }

    /// True for the root supervisor.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The last segment; empty for the root.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The ids from the root down.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|segment| !segment.is_empty())
    }

    /// The text, `/` for the root.
    #[must_use]
    pub fn as_str(&self) -> &str {
        if self.is_root() { "/" } else { &self.0 }
    }
}

fn check_id(id: &str) -> Result<(), PathError> {
    let allowed = |c: char| !c.is_control() && !c.is_whitespace() && c != '/' && c != '*';
    let good = !id.is_empty() && id.len() <= MAX_ID_LEN && id.chars().all(allowed);
    if good { Ok(()) } else { Err(PathError { text: id.to_owned() }) }
}

impl fmt::Display for ActorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ActorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Borrow<str> for ActorPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for ActorPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ActorPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// A set of paths: every path that starts with these segments, where `*` stands for any one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern(Vec<String>);

impl PathPattern {
    /// Reads `pipelines/*/source`; `/` matches everything.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect())
    }

    /// True if `path` starts with this pattern.
    #[must_use]
    pub fn matches(&self, path: &ActorPath) -> bool {
        self.covers(path.segments())
    }

    /// True if a path of these segments starts with this pattern; the path need not be a valid one.
    #[must_use]
    pub fn covers<'a>(&self, mut segments: impl Iterator<Item = &'a str>) -> bool {
        self.0.iter().all(|wanted| segments.next().is_some_and(|found| wanted == "*" || wanted == found))
    }

    /// How many segments it has; 0 matches everything.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.0.len()
    }

    /// Segments that are not `*`.
    #[must_use]
    pub fn named(&self) -> usize {
        self.0.iter().filter(|segment| *segment != "*").count()
    }
}

impl From<&str> for PathPattern {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_of_the_root_has_no_leading_slash() {
        let path = ActorPath::root().child("pipelines").unwrap().child("sensors").unwrap();
        assert_eq!(path.as_str(), "pipelines/sensors");
        assert_eq!(ActorPath::parse("/pipelines/sensors/").unwrap(), path);
        assert_eq!(path.id(), "sensors");
    }

    #[test]
    fn ids_with_separators_are_refused() {
        for bad in ["", "a/b", "a b", "*", "a\n"] {
            assert!(ActorPath::root().child(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_pattern_matches_a_prefix_of_segments() {
        let pattern = PathPattern::new("pipelines/*/lane");
        assert!(pattern.matches(&ActorPath::parse("pipelines/a/lane").unwrap()));
        assert!(pattern.matches(&ActorPath::parse("pipelines/a/lane/x").unwrap()));
        assert!(!pattern.matches(&ActorPath::parse("pipelines/a/lane-0").unwrap()));
        assert!(!pattern.matches(&ActorPath::parse("pipelines/a").unwrap()));
        assert!(PathPattern::new("/").matches(&ActorPath::root()));
    }
}
