//! Which fields the Avro library does not take: it says what is wrong and not where.
//!
//! The schema is made anew without fields, and gets them back one by one; the one after which it is no schema any more is
//! at fault and stays out. Types are defined in front of the fields that name them, so no field is blamed for another.
//! Cost: one parse of the schema for each field, for schemas that are at fault alone.

use apache_avro::Schema;
use serde_json::{Value, json};

use super::{MAX_FIELDS, SchemaError};

/// The schema without the fields at fault, and their faults.
///
/// # Errors
/// If the text is no JSON (with line and column), or the fault is in no field.
pub(super) fn faults(text: &str) -> Result<(Schema, Vec<SchemaError>), SchemaError> {
    let no_json = |error: serde_json::Error| SchemaError::Syntax(format!("it is no JSON: {error}"));
    let whole: Value = serde_json::from_str(text).map_err(no_json)?;
    let mut kept = whole.clone();
    let fields = whole["fields"].as_array().filter(|fields| fields.len() <= MAX_FIELDS);
    if let Some(fields) = fields {
        kept["fields"] = json!([]);
        parse(&kept)?;
        let mut found = Vec::new();
        for field in fields {
            let around = kept.clone();
            let good = without_faults(field, "", &|candidate| with(&around, candidate), &mut found);
            kept = good.map_or(around, |good| with(&kept, good));
        }
        return Ok((parse(&kept)?, found));
    }
    parse(&whole).map(|schema| (schema, Vec::new()))
}

fn parse(schema: &Value) -> Result<Schema, SchemaError> {
    Schema::parse(schema).map_err(|error| SchemaError::Syntax(error.to_string()))
}

/// A record with one more field.
fn with(record: &Value, field: Value) -> Value {
    let mut record = record.clone();
    if let Some(fields) = record["fields"].as_array_mut() {
        fields.push(field);
    }
    record
}

/// A field without what is at fault inside it, if anything of it is left. `whole` puts a candidate into the schema.
fn without_faults(
    field: &Value,
    within: &str,
    whole: &dyn Fn(Value) -> Value,
    found: &mut Vec<SchemaError>,
) -> Option<Value> {
    let error = match parse(&whole(field.clone())) {
        Ok(_) => return Some(field.clone()),
        Err(SchemaError::Syntax(reason)) => reason,
        Err(other) => other.to_string(),
    };
    let path = format!("{within}{}", field["name"].as_str().unwrap_or("without a name"));
    if let Some(inner) = field["type"]["fields"].as_array() {
        let mut kept = field.clone();
        kept["type"]["fields"] = json!([]);
        if parse(&whole(kept.clone())).is_ok() {
            for field in inner {
                let around = kept.clone();
                let inside = |candidate| {
                    let mut around = around.clone();
                    around["type"] = with(&around["type"], candidate);
                    whole(around)
                };
                if let Some(good) = without_faults(field, &format!("{path}."), &inside, found) {
                    kept["type"] = with(&kept["type"], good);
                }
            }
            return Some(kept);
        }
    }
    found.push(SchemaError::Field { path, reason: error });
    None
}

#[cfg(test)]
mod tests {
    use crate::schema::StreamSchema;

    fn faults(fields: &str) -> Vec<String> {
        let text = format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#);
        let faults = StreamSchema::parse(&text).unwrap_err().each();
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_field_at_fault_is_named_whoever_finds_the_fault() {
        let found = faults(
            r#"{"name":"good","type":"int"},{"name":"a","type":"strin"},{"name":"b","type":"bytes"},
               {"name":"in","type":{"type":"record","name":"I","fields":[{"name":"x","type":"int"},
                 {"name":"c","type":{"type":"enum","name":"E"}},{"name":"d","type":["null","flot"]}]}},
               {"name":"e","type":"I"},{"name":"f","type":{"type":"int","logicalType":"time-millis"}}"#,
        );
        let begins = ["field a: ", "field in.c: ", "field in.d: ", "field b: bytes", "field f: time-millis is"];
        assert_eq!(found.len(), begins.len(), "{found:#?}");
        for (found, begins) in found.iter().zip(begins) {
            assert!(found.starts_with(begins), "{found} does not begin with {begins}");
        }
        assert!(found[0].contains("strin") && found[2].contains("flot"), "{found:#?}");
    }

    #[test]
    fn a_text_that_is_no_json_has_its_line_and_column_and_other_faults_are_those_of_the_schema() {
        let said = |text: &str| StreamSchema::parse(text).unwrap_err().to_string();
        let no_json = said("{\"type\":\n\"record\",,}");
        assert!(no_json.contains("it is no JSON") && no_json.contains("line 2 column 10"), "{no_json}");
        assert!(said(r#"{"type":"record","fields":[]}"#).starts_with("not an Avro schema: "));
        assert!(said("\"strin\"").contains("strin"));
    }

    #[test]
    fn columns_that_clash_are_told_together() {
        let found = faults(
            r#"{"name":"Va","type":"int"},{"name":"va","type":"int"},{"name":"Wb","type":"int"},{"name":"wb","type":"int"}"#,
        );
        assert_eq!(found.len(), 2, "{found:#?}");
    }

    #[test]
    fn a_record_that_contains_itself_has_a_bounded_number_of_faults() {
        let found = faults(r#"{"name":"a","type":"R"},{"name":"b","type":"R"}"#);
        assert_eq!(found.len(), 20, "{found:#?}");
    }
}
