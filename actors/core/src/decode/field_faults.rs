//! Everything that is wrong with one JSON value, field by field, for the person who sent it.
//!
//! Decoding stops at a record's first fault, which is what a dead letter needs. Here each field is read alone, by the
//! same reader, so that both say the same of a field. Cost: one small parse per leaf; only for values that were refused.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Decoder, row::Row};
use crate::schema::{Field, StreamSchema};

/// What is wrong with one field of a value.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldFault {
    /// Path of the field, or of the record around it that is no object.
    pub path: Vec<String>,
    /// As decoding words it: begins with the dotted path.
    pub reason: String,
    /// What the value has there; none where the field is missing.
    pub input: Option<Value>,
}

impl Decoder {
    /// All fields of a JSON value that do not fit the schema, in schema order. Empty where the value as a whole is at
    /// fault: it is no JSON object, names a key twice, or is too large.
    pub fn field_faults(&mut self, value: &[u8]) -> Vec<FieldFault> {
        let Ok(Value::Object(object)) = serde_json::from_slice(value) else { return Vec::new() };
        let schema = Arc::clone(&self.schema);
        let mut faults: Vec<FieldFault> = Vec::new();
        for field in &schema.fields {
            // A record that is no object is one fault, not one for each of its fields.
            if faults.iter().any(|fault| field.path.starts_with(&fault.path)) {
                continue;
            }
            faults.extend(self.fault_of_field(&schema, field, &object));
        }
        faults
    }

    fn fault_of_field(
        &mut self,
        schema: &StreamSchema,
        field: &Field,
        object: &Map<String, Value>,
    ) -> Option<FieldFault> {
        let (path, input) = found(&field.path, object);
        let Some(input) = input else {
            let reason = format!("{}: missing and without default", field.dotted());
            return field.default.is_none().then(|| FieldFault { path: field.path.clone(), reason, input: None });
        };
        let alone =
            path.iter().rev().fold(input.clone(), |inner, name| Value::Object(Map::from_iter([(name.clone(), inner)])));
        let text = alone.to_string();
        let fault = self.json.read(schema, text.as_bytes(), &mut Row::new(schema.fields.len())).err()?;
        Some(FieldFault { path: path.to_vec(), reason: fault.reason, input: Some(input.clone()) })
    }
}

/// What a value has at a path: the whole path and what is there, or the part of it that leads to something else than
/// an object. None where a name is missing.
fn found<'p, 'v>(path: &'p [String], object: &'v Map<String, Value>) -> (&'p [String], Option<&'v Value>) {
    let mut inside = object;
    for (depth, name) in path.iter().enumerate() {
        match inside.get(name) {
            Some(Value::Object(inner)) if depth + 1 < path.len() => inside = inner,
            other => return (&path[..=depth], other),
        }
    }
    (path, None)
}
