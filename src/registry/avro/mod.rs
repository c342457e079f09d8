//! Avro: texts in one form, references put in, and who can read whom.
//!
//! Two texts of one schema are told to be the same by their *canonical* text, the form in which Avro's Java library
//! (and so Confluent's registry) writes a schema: no white space, attributes in one order, names as short as they can
//! be. Unlike Avro's parsing canonical form it keeps documentation, defaults, aliases and logical types.
//!
//! Start at [`read`].

mod expand;
mod size;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;

use apache_avro::{
    Schema,
    schema_compatibility::{Compatibility, SchemaCompatibility},
};
use serde_json::Value;

pub use size::is_within;
use text::Definitions;
pub use text::Form;

/// Longest text of one incompatibility, in characters.
const MAX_REASON: usize = 500;

/// A schema that was read.
#[derive(Debug)]
pub struct AvroSchema {
    /// Its text in the asked form.
    pub text: String,
    pub parsed: Schema,
}

/// Reads a schema and writes it in a form. `references` are the texts of the schemas that it refers to.
///
/// # Errors
/// Why it is no schema.
pub fn read(json: &str, references: &[String], form: Form) -> Result<AvroSchema, String> {
    let definitions = Definitions::of(references)?;
    let value: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let whole = text::write(&value, &definitions, Form::Resolved);
    let parsed = Schema::parse_str(&whole).map_err(|error| error.to_string())?;
    let text = if form == Form::Resolved { whole } else { text::write(&value, &definitions, form) };
    Ok(AvroSchema { text, parsed })
}

/// The canonical text of a stored schema; none if it is no JSON.
#[must_use]
pub fn canonical(json: &str) -> Option<String> {
    let value: Value = serde_json::from_str(json).ok()?;
    Some(text::write(&value, &Definitions::default(), Form::Canonical))
}

/// Whether everything that `writer` writes can be read by `reader`; what may fail for some values counts as failing.
///
/// # Errors
/// What cannot be read, with the field's path.
pub fn reads(reader: &Schema, writer: &Schema) -> Result<(), String> {
    match SchemaCompatibility::can_read(&expand::whole(writer), &expand::whole(reader)) {
        Ok(Compatibility::Full) => Ok(()),
        Ok(Compatibility::Partial) => Err(partial(reader, writer)),
        Err(error) => Err(reason(&error)),
    }
}

/// The fields of a record that can be read for some values alone.
fn partial(reader: &Schema, writer: &Schema) -> String {
    const WHY: &str = "some values (a symbol of an enum, a branch of a union) are unknown to the reader";
    let (Schema::Record(reader), Schema::Record(writer)) = (reader, writer) else { return WHY.to_owned() };
    let written: BTreeMap<&str, &Schema> =
        writer.fields.iter().map(|field| (field.name.as_str(), &field.schema)).collect();
    let doubtful = reader.fields.iter().filter(|field| {
        let pair = written.get(field.name.as_str()).map(|written| reads(&field.schema, written));
        pair.is_some_and(|read| read.is_err())
    });
    let names: Vec<&str> = doubtful.map(|field| field.name.as_str()).collect();
    if names.is_empty() { WHY.to_owned() } else { format!("field '{}': {WHY}", names.join("', '")) }
}

/// An error with what caused it, on one line.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(MAX_REASON) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
