//! Every number, duration and size within its range, as the schema of the configuration states it.

use std::cmp::Ordering;
use std::sync::LazyLock;

use serde_json::Value;

use super::Check;
use crate::config::{ByteSize, Config, HumanDuration, limits};

static SCHEMA: LazyLock<Value> = LazyLock::new(|| schemars::schema_for!(Config).to_value());

pub fn all(config: &Config, check: &mut Check<'_>) {
    let config = serde_json::to_value(config).expect("every key is a text and every value a scalar, list or map");
    visit(&SCHEMA, &config, "", check);
}

/// Walks value and schema together; a schema may say the same in another place (`$ref`) or one way among others.
fn visit(schema: &Value, value: &Value, path: &str, check: &mut Check<'_>) {
    bounds(schema, value, path, check);
    if let Some(name) = schema["$ref"].as_str() {
        visit(&SCHEMA["$defs"][name.trim_start_matches("#/$defs/")], value, path, check);
    }
    for way in ["anyOf", "oneOf"].into_iter().filter_map(|way| schema[way].as_array()).flatten() {
        visit(way, value, path, check);
    }
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let schema = schema["properties"].get(key).unwrap_or(&schema["additionalProperties"]);
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                visit(schema, value, &path, check);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                visit(&schema["items"], value, &format!("{path}.{index}"), check);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn bounds(schema: &Value, value: &Value, path: &str, check: &mut Check<'_>) {
    for [least, greatest] in [limits::NUMBER, limits::TEXT] {
        let (Some(least), Some(greatest)) = (schema.get(least), schema.get(greatest)) else { continue };
        let is_within =
            order(least, value).is_none_or(Ordering::is_le) && order(value, greatest).is_none_or(Ordering::is_le);
        if !is_within {
            let [value, least, greatest] = [value, least, greatest].map(words);
            check.fault(path, format!("{value} is not between {least} and {greatest}"));
        }
    }
}

/// The order of two numbers, durations or sizes; none for anything else.
fn order(a: &Value, b: &Value) -> Option<Ordering> {
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        let durations = a.parse::<HumanDuration>().ok().zip(b.parse().ok());
        let sizes = a.parse::<ByteSize>().ok().zip(b.parse().ok());
        return durations.map(|(a, b)| a.cmp(&b)).or(sizes.map(|(a, b)| a.cmp(&b)));
    }
    match (a.as_u64(), b.as_u64()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

fn words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
