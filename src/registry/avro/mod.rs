//! Avro: texts in one form, references put in, and who can read whom.
//!
//! Two texts of one schema are told to be the same by their *canonical* text, the form in which Avro's Java library
//! (and so Confluent's registry) writes a schema: no white space, attributes in one order, names as short as they can
//! be. Unlike Avro's parsing canonical form it keeps documentation, defaults, aliases and logical types.
//!
//! Start at [`read`].

mod reads;
mod size;
#[cfg(test)]
mod tests;
mod text;

use apache_avro::{
    Schema,
    schema::{DecimalSchema, InnerDecimalSchema, ResolvedSchema, UuidSchema},
};
use serde_json::Value;

pub use reads::reads;
pub use size::is_within;
use text::Definitions;
pub use text::Form;

/// Longest text of one incompatibility, in characters.
const MAX_REASON: usize = 500;
/// Greatest size of a fixed: Avro's Java library, and so each of its clients, keeps it in an `int`.
const MAX_FIXED_BYTES: usize = i32::MAX as usize;

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
    sizes(&parsed)?;
    let text = if form == Form::Resolved { whole } else { text::write(&value, &definitions, form) };
    Ok(AvroSchema { text, parsed })
}

/// Refuses a fixed that no client can read.
fn sizes(schema: &Schema) -> Result<(), String> {
    let resolved = ResolvedSchema::new(schema).map_err(|error| error.to_string())?;
    for (name, definition) in resolved.get_names() {
        let (Schema::Fixed(fixed)
        | Schema::Duration(fixed)
        | Schema::Uuid(UuidSchema::Fixed(fixed))
        | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Fixed(fixed), .. })) = definition
        else {
            continue;
        };
        if fixed.size > MAX_FIXED_BYTES {
            return Err(format!("fixed {name} has {} bytes; at most {MAX_FIXED_BYTES} are possible", fixed.size));
        }
    }
    Ok(())
}

/// The canonical text of a stored schema; none if it is no JSON.
#[must_use]
pub fn canonical(json: &str) -> Option<String> {
    let value: Value = serde_json::from_str(json).ok()?;
    Some(text::write(&value, &Definitions::default(), Form::Canonical))
}

/// A reason on one line and of bounded length.
fn shortened(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(MAX_REASON) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
