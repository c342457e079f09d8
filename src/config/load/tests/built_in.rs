//! `config.yaml`, the effective config and the JSON Schema agree with the types.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{super::node::join, *};
use crate::config::{Fsync, PipelineConfig, RecordFormat, Step, StreamConfig};

#[test]
fn columns_keep_the_order_of_the_file() {
    let config = Config::load(&Sources::default()).unwrap().config;
    let Step::Window(window) = &config.pipelines["sensors"].steps[1] else {
        panic!("the second step is a window");
    };
    let names: Vec<_> = window.select.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["avg_value", "min_value", "max_value", "count", "std_value"]);
}

/// Paths of all leaves, with `*` for names of streams and pipelines and for list items.
fn leaves(value: &Value, path: &str, out: &mut BTreeSet<String>) {
    let named = matches!(path, "streams" | "pipelines") || path.ends_with("select");
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let key = if named { "*" } else { key };
                leaves(value, &join(path, key), out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().for_each(|item| leaves(item, &join(path, "*"), out));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.insert(path.to_owned());
        }
        Value::Array(_) | Value::Object(_) => {
            out.insert(path.to_owned());
        }
    }
}

#[test]
fn the_built_in_config_states_every_key() {
    let loaded = Config::load(&Sources::default()).unwrap();
    let (mut stated, mut known) = (BTreeSet::new(), BTreeSet::new());
    let written: Value = serde_saphyr::from_str(DEFAULT_YAML).unwrap();
    leaves(&written, "", &mut stated);
    leaves(&serde_json::to_value(&loaded.config).unwrap(), "", &mut known);
    let unstated: Vec<_> = known.difference(&stated).collect();
    assert!(unstated.is_empty(), "not in config.yaml: {unstated:?}");
}

#[test]
fn the_built_in_config_states_the_defaults() {
    let mut config = Config::load(&Sources::default()).unwrap().config;
    let sensors = config.streams.remove("sensors").unwrap();
    let expected = StreamConfig {
        topic: Some("sensor-readings".into()),
        schema: "schemas/sensor_reading.avsc".into(),
        key: "sensor_id".into(),
        indexes: vec!["sensor_id".into(), "sensor_type".into()],
        ..StreamConfig::default()
    };
    assert_eq!(sensors, expected);
    let pipeline = config.pipelines.remove("sensors").unwrap();
    let expected =
        PipelineConfig { from: "sensors".into(), steps: pipeline.steps.clone(), ..PipelineConfig::default() };
    assert_eq!(pipeline, expected);
    config.streams.clear();
    config.pipelines.clear();
    assert_eq!(config, Config::default());
}

#[test]
fn the_effective_config_can_be_read_again() {
    let config = given(STREAM)
        .set("streams.a.format", "avro")
        .set("kafka.embedded.fsync", "every_batch")
        .set("kafka.consumer_group", "a$${b}")
        .config();
    assert_eq!(config.streams["a"].format, RecordFormat::Avro);
    assert_eq!(config.kafka.embedded.fsync, Fsync::EveryBatch);
    assert_eq!(given(&config.effective_yaml()).config(), config);
}

#[test]
fn the_json_schema_describes_every_section() {
    let schema: Value = serde_json::from_str(&Config::schema_json()).unwrap();
    let sections = serde_json::to_value(Config::default()).unwrap();
    for section in sections.as_object().unwrap().keys() {
        assert!(schema["properties"][section].is_object(), "{section}");
    }
    assert_eq!(schema["additionalProperties"], json!(false));
    assert_eq!(schema["$defs"]["StreamConfig"]["required"], json!(["schema", "key"]));
    assert_eq!(schema["$defs"]["HttpConfig"]["properties"]["listen"]["default"], json!("127.0.0.1:8000"));
}
