//! Names of the fields that a JSON value has and its stream's schema does not, for the person who sent it.
//!
//! Decoding passes over such fields and counts them ([`super::Decoded::unknown_fields`]). Here they get their names.
//! Cost: one parse of the value; only for values in which decoding met such fields.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;

use crate::schema::{Node, RecordNode, StreamSchema};

/// Most names that are kept.
pub const MAX_IGNORED_NAMES: usize = 100;

/// Adds the dotted paths of the fields of a JSON value that the schema does not have, up to [`MAX_IGNORED_NAMES`] of them.
/// A value that is no JSON object adds none.
pub fn ignored_fields(schema: &StreamSchema, value: &[u8], names: &mut BTreeSet<String>) {
    if let Ok(text) = std::str::from_utf8(value) {
        collect(&schema.root, text, "", names);
    }
}

fn collect(node: &RecordNode, text: &str, within: &str, names: &mut BTreeSet<String>) {
    // Values stay texts: an unknown one may be a number that no type holds.
    let Ok(object) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) else { return };
    for (name, value) in object {
        if names.len() >= MAX_IGNORED_NAMES {
            return;
        }
        match node.fields.iter().find(|field| field.name == name).map(|field| &field.node) {
            None => {
                names.insert(format!("{within}{name}"));
            }
            Some(Node::Record(inner)) => collect(inner, value.get(), &format!("{within}{name}."), names),
            Some(Node::Leaf(_)) => {}
        }
    }
}
