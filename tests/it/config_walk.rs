//! What `check` accepts starts: both bounds of each number, duration and size, each value of each choice, each boolean.
//!
//! Keys and ranges are read from the JSON Schema, so that no new key is forgotten. The keys of a section are set together:
//! all to their least values, then all to their greatest. One step outside, `check` refuses each and names it.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use serde_json::Value;

use crate::support::{
    server::{Node, Server, run},
    wait,
};

/// Starts at a time.
const AT_ONCE: usize = 2;
/// Keys that one `check` refuses: fewer than the faults that it shows at most.
const REFUSED_AT_ONCE: usize = 40;
/// How much faster than the clock the simulator's event time runs.
const SPEED: &str = "simulators.sensors.speed";
/// Readings that the fastest simulator writes in several goes, and what the process may take meanwhile.
const MADE_UP_ROWS: i64 = 60_000;
const MOST_BYTES: u64 = 500_000_000;
const DURATIONS: [(&str, i128); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: [(&str, i128); 5] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("B", 1)];
/// Where keys below any name or place are tried.
const PLACES: [(&str, &str); 6] = [
    ("streams.*", "streams.sensors"),
    ("pipelines.*", "pipelines.sensors"),
    ("steps.*.window", "steps.1.window"),
    ("steps.*.rule", "steps.2.rule"),
    ("supervision.actors.*", "supervision.actors.pipelines/sensors"),
    ("auth.tokens.*", "auth.tokens.0"),
];
/// What some keys need beside them.
const COMPANIONS: [(&str, [(&str, &str); 2]); 3] = [
    ("auth.tokens.0", [("auth.tokens.0.name", "ops"), ("auth.tokens.0.token", "secret")]),
    (
        "kafka.embedded.auth",
        [("kafka.embedded.auth.users.0.name", "ann"), ("kafka.embedded.auth.users.0.password", "pencil")],
    ),
    (ELSEWHERE, [("storage.postgres.url", "postgres://ann@127.0.0.1:1/rows"), ("storage.postgres.password", "pencil")]),
];
/// Keys that no start without another program has.
const ELSEWHERE: &str = "storage.postgres";

/// What may be set at a key.
#[derive(Debug)]
enum Values {
    /// From the first to the second, both numbers, durations or sizes.
    Range([String; 2]),
    /// One of these.
    Choices(Vec<String>),
}

type Keys = BTreeMap<String, Values>;
type Settings = Vec<(String, String)>;

/// Every key of the schema that is a number, a duration, a size, a choice or a boolean.
fn keys() -> Keys {
    let (code, schema, complaint) = run(&Node::new(), &["config", "--schema"]);
    assert_eq!(code, Some(0), "{complaint}");
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let mut found = BTreeMap::new();
    collect(&schema, &schema, "", &mut found);
    found
}

fn collect(root: &Value, schema: &Value, path: &str, found: &mut Keys) {
    if let Some(values) = values(schema) {
        let place = |path: String, (pattern, place): &(&str, &str)| path.replace(pattern, place);
        found.insert(PLACES.iter().fold(path.to_owned(), place), values);
        return;
    }
    let referred = schema["$ref"].as_str().map(|name| name.strip_prefix("#/$defs/").unwrap());
    // What may stand there is decided by librdkafka.
    if let Some(name) = referred.filter(|name| *name != "ClientSettings") {
        collect(root, &root["$defs"][name], path, found);
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

fn values(schema: &Value) -> Option<Values> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for [least, greatest] in [["minimum", "maximum"], ["x-minimum", "x-maximum"]] {
        if let (Some(least), Some(greatest)) = (schema.get(least), schema.get(greatest)) {
            return Some(Values::Range([text(least), text(greatest)]));
        }
    }
    if schema["type"] == "boolean" {
        return Some(Values::Choices(vec!["false".to_owned(), "true".to_owned()]));
    }
    let choices: Vec<_> = schema["oneOf"].as_array()?.iter().filter_map(|way| way.get("const").map(text)).collect();
    (!choices.is_empty()).then_some(Values::Choices(choices))
}

/// How a value is set at a key; a list has it as its only item.
fn setting(key: &str, value: &str) -> (String, String) {
    match key.strip_suffix(".*") {
        Some(list) => (list.to_owned(), format!("[{value}]")),
        None => (key.to_owned(), value.to_owned()),
    }
}

fn with_companions(mut settings: Settings) -> Settings {
    for (beginning, companions) in COMPANIONS {
        if settings.iter().any(|(key, _)| key.starts_with(beginning)) {
            settings.extend(companions.map(|(key, value)| (key.to_owned(), value.to_owned())));
        }
    }
    settings
}

/// One step below the least value, and one above the greatest.
fn outside(bounds: &[String; 2]) -> [String; 2] {
    let [least, greatest] = bounds;
    if let (Ok(least), Ok(greatest)) = (least.parse::<i128>(), greatest.parse::<i128>()) {
        return [(least - 1).to_string(), (greatest + 1).to_string()];
    }
    if let (Ok(least), Ok(greatest)) = (least.parse::<f64>(), greatest.parse::<f64>()) {
        return [(least - 0.001).to_string(), (greatest + 0.001).to_string()];
    }
    let units = if least.ends_with('B') { SIZES } else { DURATIONS };
    let unit = if least.ends_with('B') { "B" } else { "ms" };
    let count = |text: &String| {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap();
        let (number, name) = text.split_at(digits);
        let (_, worth) = units.iter().find(|(unit, _)| *unit == name).unwrap();
        number.parse::<i128>().unwrap() * worth
    };
    [format!("{}{unit}", count(least) - 1), format!("{}{unit}", count(greatest) + 1)]
}

/// Settings of the starts that together have both bounds of each key and each value of each choice.
fn starts(keys: &Keys) -> Vec<Settings> {
    let mut starts: BTreeMap<(&str, usize), Settings> = BTreeMap::new();
    let most = keys.values().map(|values| if let Values::Choices(choices) = values { choices.len() } else { 0 }).max();
    for (key, values) in keys.iter().filter(|(key, _)| !key.starts_with(ELSEWHERE)) {
        match values {
            Values::Range(bounds) => {
                for (which, bound) in bounds.iter().enumerate() {
                    let section = key.split('.').next().unwrap();
                    starts.entry((section, which)).or_default().push(setting(key, bound));
                }
            }
            Values::Choices(choices) => {
                for which in 0..most.unwrap() {
                    let choice = &choices[which % choices.len()];
                    starts.entry(("choices", which)).or_default().push(setting(key, choice));
                }
            }
        }
    }
    starts.into_values().map(with_companions).collect()
}

#[actix_rt::test]
async fn whatever_check_accepts_at_its_bounds_becomes_ready() {
    let keys = keys();
    let ranges = keys.values().filter(|values| matches!(values, Values::Range(_))).count();
    let choices = keys.values().map(|values| if let Values::Choices(choices) = values { choices.len() } else { 0 });
    println!("{} keys: {ranges} with both bounds, the others with {} values", keys.len(), choices.sum::<usize>());
    assert!(ranges > 60 && keys.len() > 80, "{keys:#?}");
    let Values::Range([_, fastest]) = &keys[SPEED] else { panic!("{SPEED} has no range") };
    let start = |settings: Settings| async move {
        println!("{settings:?}");
        let node = settings.iter().fold(Node::new().with_simulators(), |node, (key, value)| node.set(key, value));
        let server = node.start().await;
        let is_fastest = settings.iter().any(|(key, value)| key == SPEED && value == fastest);
        if is_fastest {
            assert_rows_in_bounded_memory(&server).await;
        }
        is_fastest
    };
    let is_fastest = stream::iter(starts(&keys)).map(start).buffer_unordered(AT_ONCE).collect::<Vec<bool>>().await;
    assert_eq!(is_fastest.into_iter().filter(|is_fastest| *is_fastest).count(), 1);
}

/// Waits for several goes of a simulator of which more readings are due than Kafka takes.
async fn assert_rows_in_bounded_memory(server: &Server) {
    let database = server.database();
    wait::until("the simulator's readings are stored", async || {
        wait::at_least(database.count("sensor_readings").await, &MADE_UP_ROWS)
    })
    .await;
    let taken = server.peak_memory();
    eprintln!("{MADE_UP_ROWS} readings and more at the greatest speed: {} MB at most", taken / 1_000_000);
    assert!(taken < MOST_BYTES, "{taken} bytes");
}

/// Asserts that one `check` refuses each of these settings and names its key.
fn refused(settings: &[(String, String)]) {
    let sets = with_companions(settings.to_vec());
    let arguments: Vec<_> =
        sets.iter().flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")]).collect();
    let arguments: Vec<&str> = ["check", "--json"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    let (code, report, complaint) = run(&Node::new(), &arguments);
    assert_eq!(code, Some(2), "{settings:?}: {complaint}");
    let report: Value = serde_json::from_str(&report).unwrap();
    let faults: Vec<&str> =
        report["faults"].as_array().unwrap().iter().map(|fault| fault["path"].as_str().unwrap()).collect();
    for (key, value) in settings {
        assert!(faults.iter().any(|path| path.starts_with(key)), "{key}={value} is not refused: {report:#}");
    }
}

#[test]
fn one_step_outside_its_bounds_each_key_is_refused_by_name() {
    let keys = keys();
    let mut sides: [Settings; 2] = Default::default();
    for (key, values) in &keys {
        let wrong = match values {
            Values::Range(bounds) => outside(bounds),
            Values::Choices(_) => ["none_of_these", "7"].map(str::to_owned),
        };
        for (side, value) in sides.iter_mut().zip(wrong) {
            side.push(setting(key, &value));
        }
    }
    println!("{} keys on two sides", keys.len());
    sides.iter().flat_map(|side| side.chunks(REFUSED_AT_ONCE)).for_each(refused);
}
