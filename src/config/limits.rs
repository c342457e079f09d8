//! Least and greatest values of keys, as a part of the schema: stated where the thing is built, written once at the field.
//!
//! The schema holds `minimum` and `maximum` of numbers, `x-minimum` and `x-maximum` of durations and sizes, which are
//! texts. The check of a file ([`super::validate`]), `config --schema` and the test of the documentation read them there.

use std::ops::RangeInclusive;
use std::time::Duration;

use schemars::Schema;
use serde_json::Value;

use super::units::{ByteSize, HumanDuration};

/// Keywords of a schema: least and greatest value of a number.
pub const NUMBER: [&str; 2] = ["minimum", "maximum"];
/// Likewise of a duration or a size, as texts.
pub const TEXT: [&str; 2] = ["x-minimum", "x-maximum"];

/// A value that a key can be bounded by.
pub trait Bound {
    /// Where the schema has it.
    const KEYWORDS: [&'static str; 2];

    /// How the schema writes it.
    fn written(&self) -> Value;
}

macro_rules! numbers {
    ($($number:ty),*) => {
        $(impl Bound for $number {
            const KEYWORDS: [&'static str; 2] = NUMBER;

            fn written(&self) -> Value {
                Value::from(*self)
            }
        })*
    };
}

numbers!(u32, u64, usize, i32);

impl Bound for f64 {
    const KEYWORDS: [&'static str; 2] = NUMBER;

    fn written(&self) -> Value {
        let is_whole = self.fract() == 0.0 && self.abs() < f64::from(i32::MAX);
        if is_whole { Value::from(*self as i64) } else { Value::from(*self) }
    }
}

impl Bound for Duration {
    const KEYWORDS: [&'static str; 2] = TEXT;

    fn written(&self) -> Value {
        let millis = u64::try_from(self.as_millis()).unwrap_or(u64::MAX);
        Value::from(HumanDuration::from_millis(millis).to_string())
    }
}

impl Bound for ByteSize {
    const KEYWORDS: [&'static str; 2] = TEXT;

    fn written(&self) -> Value {
        Value::from(self.to_string())
    }
}

/// Writes a range into the schema of the key that it bounds.
pub fn within<T: Bound>(range: RangeInclusive<T>) -> impl FnMut(&mut Schema) {
    move |schema| {
        for (keyword, bound) in T::KEYWORDS.into_iter().zip([range.start(), range.end()]) {
            schema.insert(keyword.to_owned(), bound.written());
        }
    }
}

/// The same for a size whose limits are numbers of bytes where it is used.
pub fn bytes_within<T: TryInto<u64> + Copy>(range: RangeInclusive<T>) -> impl FnMut(&mut Schema) {
    let size = |bytes: &T| ByteSize::bytes((*bytes).try_into().unwrap_or(u64::MAX));
    within(size(range.start())..=size(range.end()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::config::Config;

    use super::*;

    /// Type and bounds of each number, duration and size by its path, with `*` for names and places in a list.
    fn keys() -> BTreeMap<String, (String, Option<[String; 2]>)> {
        let schema = schemars::schema_for!(Config).to_value();
        let mut found = BTreeMap::new();
        collect(&schema, &schema, "", &mut found);
        found
    }

    fn collect(root: &Value, schema: &Value, path: &str, found: &mut BTreeMap<String, (String, Option<[String; 2]>)>) {
        let kind = kind(schema);
        if let Some(kind) = kind {
            let bound = |keyword: &str| schema.get(keyword).map(|bound| bound.to_string().replace('"', ""));
            let pair = |[least, greatest]: [&str; 2]| Some([bound(least)?, bound(greatest)?]);
            found.insert(path.to_owned(), (kind.to_owned(), pair(NUMBER).or_else(|| pair(TEXT))));
            return;
        }
        if let Some(name) = schema["$ref"].as_str() {
            collect(root, &root["$defs"][name.trim_start_matches("#/$defs/")], path, found);
        }
        for way in ["anyOf", "oneOf"].into_iter().filter_map(|way| schema[way].as_array()).flatten() {
            collect(root, way, path, found);
        }
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
            collect(root, schema, &below(key), found);
        }
        for all in ["items", "additionalProperties"].into_iter().filter_map(|all| schema.get(all)) {
            collect(root, all, &below("*"), found);
        }
    }

    /// What a key's own schema says that it is; the settings of librdkafka are its own business.
    fn kind(schema: &Value) -> Option<&'static str> {
        let types = schema["type"].to_string();
        if (types.contains("integer") || types.contains("number")) && !types.contains("boolean") {
            return Some("number");
        }
        let ways = schema["anyOf"].as_array().into_iter().flatten();
        let names = std::iter::once(schema).chain(ways).filter_map(|way| way["$ref"].as_str());
        names.into_iter().find_map(|name| match name {
            "#/$defs/Duration" => Some("duration"),
            "#/$defs/Size" => Some("size"),
            _ => None,
        })
    }

    #[test]
    fn each_number_duration_and_size_has_a_least_and_a_greatest_value() {
        let keys = keys();
        let unbounded: Vec<_> = keys.iter().filter(|(_, (_, bounds))| bounds.is_none()).map(|(path, _)| path).collect();
        assert_eq!(unbounded, [""; 0]);
        let kinds = ["number", "duration", "size"];
        let counts = kinds.map(|kind| keys.values().filter(|(one, _)| one == kind).count());
        assert!(counts[0] > 20 && counts[1] > 30 && counts[2] >= 10, "{kinds:?}: {counts:?}");
    }

    #[test]
    fn the_reference_says_the_range_of_each_key() {
        let reference = include_str!("../../docs/config.md");
        let mut missing = Vec::new();
        for (path, (kind, bounds)) in keys() {
            if path.starts_with("supervision.actors.") || path.starts_with("pipelines.*.supervision.") {
                continue;
            }
            let name = path.replace("pipelines.*.steps.*.", "").replace(".*", ".<name>");
            let [least, greatest] = bounds.unwrap();
            let range = format!("{least} to {greatest}");
            let type_cell = if kind == "number" { range } else { format!("{kind}, {range}") };
            let row = format!("| `{name}` | {type_cell}");
            let is_stated = [" |", " or null |"].iter().any(|end| reference.contains(&format!("{row}{end}")));
            if !is_stated {
                missing.push(row);
            }
        }
        assert!(missing.is_empty(), "not in docs/config.md:\n{}", missing.join("\n"));
    }

    /// Each `A to B` and `up to B` in the comments of `config.yaml`, with the path of the key below the comment.
    fn ranges_in_the_built_in_config() -> Vec<(String, Option<&'static str>, &'static str)> {
        let (mut found, mut above, mut path) = (Vec::new(), Vec::new(), Vec::<(usize, &str)>::new());
        for line in include_str!("../../config.yaml").lines() {
            let text = line.trim_start();
            if let Some(comment) = text.strip_prefix('#') {
                above.extend(comment.split_whitespace());
                continue;
            }
            let Some((key, _)) = text.split_once(':') else {
                above.clear();
                continue;
            };
            let column = line.len() - text.len();
            path.retain(|(outer, _)| *outer < column);
            let key = match key.strip_prefix("- ") {
                Some(key) => {
                    path.push((column, "*"));
                    key
                }
                None => key,
            };
            let is_name = path.len() == 1 && matches!(path[0].1, "streams" | "pipelines");
            path.push((line.find(key).unwrap(), if is_name { "*" } else { key }));
            let is_bound = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
            for words in std::mem::take(&mut above).windows(3).filter(|words| words[1] == "to") {
                let greatest = words[2].trim_end_matches(['.', ',', ';']);
                if is_bound(&greatest) {
                    let path = path.iter().map(|(_, key)| *key).collect::<Vec<_>>().join(".");
                    found.push((path, Some(words[0]).filter(is_bound), greatest));
                }
            }
        }
        found
    }

    #[test]
    fn the_built_in_config_says_ranges_that_hold() {
        let (keys, stated) = (keys(), ranges_in_the_built_in_config());
        assert!(stated.len() > 12, "{stated:?}");
        for (path, least, greatest) in stated {
            let [at_least, at_most] =
                keys.get(&path).and_then(|(_, bounds)| bounds.clone()).unwrap_or_else(|| panic!("{path} has no range"));
            assert_eq!((least.unwrap_or(&at_least), greatest), (&*at_least, &*at_most), "{path}");
        }
    }

    #[test]
    fn what_differs_for_one_actor_or_pipeline_has_the_ranges_of_the_defaults() {
        let keys = keys();
        let mut compared = 0;
        for (path, found) in &keys {
            let default = path.replace("supervision.actors.*.intensity.", "supervision.root.");
            let default = default.replace("supervision.actors.*.", "supervision.defaults.");
            let default = default.replace("pipelines.*.supervision.", "supervision.pipelines.");
            assert_eq!(found, &keys[&default], "{path} and {default}");
            compared += usize::from(*path != default);
        }
        assert!(compared > 8, "{compared}");
    }
}
