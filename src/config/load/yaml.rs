//! YAML text → [`Node`] tree with positions; duplicate keys are faults, not errors, so that reading goes on.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

use super::node::{Entry, Kind, Node, Place, join};

/// Deepest nesting that is read; the config itself has less than ten levels.
const MAX_DEPTH: usize = 64;

/// A text that is not YAML, and where it stops being so.
#[derive(Debug)]
pub struct Malformed {
    pub message: String,
    pub line: u32,
    pub column: u32,
}

/// A key that its map already had.
#[derive(Debug)]
pub struct Duplicate {
    pub key: String,
    pub path: String,
    pub place: Place,
    pub first: Place,
}

/// Parses one document; `place` makes a place of a line and a column.
pub fn parse(text: &str, place: fn(u32, u32) -> Place) -> Result<(Node, Vec<Duplicate>), Malformed> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
    };
    let raw: Spanned<Raw> = serde_saphyr::from_str_with_options(text, options).map_err(|error| malformed(&error))?;
    let mut build = Build { place, duplicates: Vec::new() };
    let node = build.node(raw, "");
    Ok((node, build.duplicates))
}

fn malformed(error: &serde_saphyr::Error) -> Malformed {
    let location = error.location();
    let (line, column) = location.map_or((1, 1), |at| coordinates(&at));
    let full = error.without_snippet().to_string();
    let tail = format!(" at line {line}, column {column}");
    Malformed { message: full.strip_suffix(&tail).unwrap_or(&full).to_owned(), line, column }
}

fn coordinates(location: &Location) -> (u32, u32) {
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).max(1);
    (small(location.line()), small(location.column()))
}

enum Raw {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
}

struct Build {
    place: fn(u32, u32) -> Place,
    duplicates: Vec<Duplicate>,
}

impl Build {
    fn place(&self, location: &Location) -> Place {
        let (line, column) = coordinates(location);
        (self.place)(line, column)
    }

    fn node(&mut self, raw: Spanned<Raw>, path: &str) -> Node {
        let place = self.place(&raw.referenced);
        let kind = match raw.value {
            Raw::Null => Kind::Null,
            Raw::Bool(value) => Kind::Bool(value),
            Raw::Number(value) => Kind::Number(value),
            Raw::Text(value) => Kind::Text(value),
            Raw::List(items) => {
                let items = items.into_iter().enumerate();
                Kind::List(items.map(|(index, item)| self.node(item, &join(path, &index.to_string()))).collect())
            }
            Raw::Map(entries) => Kind::Map(self.entries(entries, path)),
        };
        Node::new(kind, place)
    }

    fn entries(&mut self, raw: Vec<(Spanned<String>, Spanned<Raw>)>, path: &str) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::with_capacity(raw.len());
        let mut known: HashMap<String, usize> = HashMap::with_capacity(raw.len());
        for (key, value) in raw {
            let key_place = self.place(&key.referenced);
            let path = join(path, &key.value);
            let node = self.node(value, &path);
            match known.get(&key.value) {
                Some(earlier) => self.duplicates.push(Duplicate {
                    key: key.value,
                    path,
                    place: key_place,
                    first: entries[*earlier].key_place.clone(),
                }),
                None => {
                    known.insert(key.value.clone(), entries.len());
                    entries.push(Entry { key: key.value, key_place, node });
                }
            }
        }
        entries
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Raw, E> {
        Number::from_f64(value).map(Raw::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}
