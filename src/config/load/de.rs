//! [`Node`] as a serde deserializer, with an error that keeps its parts instead of one sentence.
//!
//! Null is an empty section, list or map, so that a section whose keys are all commented out has its defaults.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, Expected, IntoDeserializer, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::node::{Entry, Kind, Node};

/// What is wrong with a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Problem {
    UnknownKey { key: String, known: &'static [&'static str] },
    UnknownChoice { choice: String, known: &'static [&'static str] },
    Wrong { found: String, expected: String },
    Other(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { key, .. } => write!(f, "unknown key '{key}'"),
            Self::UnknownChoice { choice, .. } => write!(f, "unknown value '{choice}'"),
            Self::Wrong { found, expected } => write!(f, "expected {expected}, found {found}"),
            Self::Other(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Problem {}

impl Error for Problem {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Other(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Wrong { found: found_words(found), expected: expected_words(&expected.to_string()) }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::UnknownKey { key: key.to_owned(), known }
    }

    fn unknown_variant(choice: &str, known: &'static [&'static str]) -> Self {
        Self::UnknownChoice { choice: choice.to_owned(), known }
    }
}

fn found_words(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(value) => value.to_string(),
        Unexpected::Signed(value) => value.to_string(),
        Unexpected::Float(value) => value.to_string(),
        Unexpected::Str(value) => format!("\"{value}\""),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a map".to_owned(),
        other => other.to_string(),
    }
}

fn expected_words(expected: &str) -> String {
    match expected {
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a string" | "path string" => "a text",
        "a sequence" => "a list",
        other if other.starts_with("struct ") => "a map of keys",
        other if other.starts_with("variant") || other.starts_with("enum ") => "a known value",
        other => other,
    }
    .to_owned()
}

impl<'de> IntoDeserializer<'de, Problem> for &'de Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

type Entries<'de> = MapDeserializer<'de, EntryIter<'de>, Problem>;

struct EntryIter<'de>(std::slice::Iter<'de, Entry>);

impl<'de> Iterator for EntryIter<'de> {
    type Item = (&'de str, &'de Node);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|entry| (entry.key.as_str(), &entry.node))
    }
}

fn entries(entries: &[Entry]) -> Entries<'_> {
    MapDeserializer::new(EntryIter(entries.iter()))
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match &self.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Bool(value) => visitor.visit_bool(*value),
            Kind::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => visitor.visit_u64(value),
                (None, Some(value)) => visitor.visit_i64(value),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Kind::Text(text) => visitor.visit_borrowed_str(text),
            Kind::List(items) => visitor.visit_seq(SeqDeserializer::new(items.iter())),
            Kind::Map(map) => visitor.visit_map(entries(map)),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match &self.given {
            Some(text) => visitor.visit_borrowed_str(text),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.kind {
            Kind::Null => visitor.visit_none(),
            Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::List(_) | Kind::Map(_) => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.kind {
            Kind::Null => visitor.visit_seq(SeqDeserializer::new(std::iter::empty::<&Node>())),
            Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::List(_) | Kind::Map(_) => {
                self.deserialize_any(visitor)
            }
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.kind {
            Kind::Null => visitor.visit_map(entries(&[])),
            Kind::List(_) => Err(Problem::invalid_type(Unexpected::Seq, &visitor)),
            Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::Map(_) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        match &self.kind {
            Kind::Text(text) => visitor.visit_enum(OnlyName(text)),
            Kind::Map(map) if map.len() == 1 => visitor.visit_enum(MapAccessDeserializer::new(entries(map))),
            Kind::Map(map) => {
                Err(Problem::Other(format!("expected one key of {}, found {}", known.join(", "), map.len())))
            }
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::List(_) => Err(Problem::Wrong {
                found: self.given.clone().unwrap_or_else(|| describe(&self.kind).to_owned()),
                expected: format!("one of {}", known.join(", ")),
            }),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple
        tuple_struct identifier ignored_any
    }
}

const fn describe(kind: &Kind) -> &'static str {
    match kind {
        Kind::Null => "nothing",
        Kind::Bool(_) => "a boolean",
        Kind::Number(_) => "a number",
        Kind::Text(_) => "a text",
        Kind::List(_) => "a list",
        Kind::Map(_) => "a map",
    }
}

/// A choice written as a text alone.
struct OnlyName<'de>(&'de str);

impl<'de> EnumAccess<'de> for OnlyName<'de> {
    type Error = Problem;
    type Variant = NoContent<'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, NoContent<'de>), Problem> {
        let name: StrDeserializer<'de, Problem> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, NoContent(self.0)))
    }
}

/// The content that a lone name does not have.
struct NoContent<'de>(&'de str);

impl NoContent<'_> {
    fn refuse<T>(&self) -> Result<T, Problem> {
        let name = self.0;
        Err(Problem::Other(format!("'{name}' needs a value, as in {name}: …")))
    }
}

impl<'de> VariantAccess<'de> for NoContent<'de> {
    type Error = Problem;

    fn unit_variant(self) -> Result<(), Problem> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Problem> {
        self.refuse()
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Problem> {
        self.refuse()
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Problem> {
        self.refuse()
    }
}
