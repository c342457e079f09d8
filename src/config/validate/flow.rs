//! Streams and pipelines: what must be named, what must exist, what may be there once.

use std::collections::BTreeMap;

use streamward_core::{
    partition::MAX_STEPS,
    steps::window::MAX_GROUP_BY,
    table::{OWN_PREFIXES, OWN_TABLES},
};

use super::limits::{collision_key, topic};
use super::{Check, MAX_NAME_LENGTH};
use crate::config::{Config, PipelineConfig, RuleStep, Step, StreamConfig, WindowStep};

/// Topics of brokers begin so.
const BROKER_PREFIX: &str = "__";
const MAX_INDEXES: usize = 16;
/// Most streams, and most pipelines: each pipeline has threads and clients of its own.
pub const MAX_FLOWS: usize = 256;

pub fn streams(config: &Config, check: &mut Check<'_>) {
    if config.streams.len() > MAX_FLOWS {
        return check.fault("streams", format!("at most {MAX_FLOWS} streams"));
    }
    let mut topics = Topics::default();
    // Also beside a registry outside: it keeps its schemas in a topic of this name as well.
    topics.take(&config.registry.embedded.topic, "registry.embedded.topic", check);
    for (path, name) in [("alerts.topic", &config.alerts.topic), ("dlq.topic", &config.dlq.topic)] {
        topic(path, name, check);
        topics.take(name, path, check);
    }
    for (name, stream) in &config.streams {
        let path = format!("streams.{name}");
        check.name(&path, name);
        let topic_path = format!("{path}.topic");
        topic(&topic_path, stream.topic(name), check);
        topics.take(stream.topic(name), &topic_path, check);
        one_stream(&path, stream, check);
    }
}

/// Topics that the configuration names, by what Kafka tells them apart by: [`collision_key`].
#[derive(Default)]
struct Topics(BTreeMap<String, (String, String)>);

impl Topics {
    /// Notes a fault at the second path that names a topic, or one that Kafka does not make beside it.
    fn take(&mut self, topic: &str, path: &str, check: &mut Check<'_>) {
        let key = collision_key(topic);
        match self.0.get(&key) {
            Some((first, place)) if first == topic => {
                check.fault(path, format!("'{topic}' is taken by {place} already"));
            }
            Some((first, place)) => check.fault(
                path,
                format!(
                    "'{topic}' and '{first}' ({place}) differ in '.' and '_' alone, and Kafka makes one of them: choose \
                     another name"
                ),
            ),
            None if key.starts_with(BROKER_PREFIX) => {
                check.fault(path, format!("'{topic}' is a topic of brokers: choose another name"));
            }
            None => drop(self.0.insert(key, (topic.to_owned(), path.to_owned()))),
        }
    }
}

fn one_stream(path: &str, stream: &StreamConfig, check: &mut Check<'_>) {
    let at = |key: &str| format!("{path}.{key}");
    check.require(!stream.schema.as_os_str().is_empty(), &at("schema"), "a stream needs an Avro schema file");
    check.require(!stream.key.is_empty(), &at("key"), "a stream needs the field that is its key");
    check.require(!stream.event_time.is_empty(), &at("event_time"), "a stream needs the field with the event time");
    if let Some(table) = &stream.table {
        check.name(&at("table"), table);
        own_table(&at("table"), table, check);
    }
    check.require(stream.indexes.len() <= MAX_INDEXES, &at("indexes"), &format!("at most {MAX_INDEXES} indexes"));
    for (index, field) in stream.indexes.iter().take(MAX_INDEXES).enumerate() {
        let item = format!("{path}.indexes.{index}");
        check.require(!field.is_empty(), &item, "a field is missing");
        let repeated = stream.indexes[..index].contains(field);
        check.require(!repeated, &item, "this field is in the list already");
    }
}

pub fn pipelines(config: &Config, check: &mut Check<'_>) {
    if config.pipelines.len() > MAX_FLOWS {
        return check.fault("pipelines", format!("at most {MAX_FLOWS} pipelines"));
    }
    let mut tables = BTreeMap::new();
    let mut readers = BTreeMap::new();
    for (name, stream) in &config.streams {
        if let Some(table) = &stream.table {
            once(&mut tables, table, &format!("streams.{name}.table"), check);
        }
    }
    for (name, pipeline) in &config.pipelines {
        let path = format!("pipelines.{name}");
        check.name(&path, name);
        let from = format!("{path}.from");
        if source(&from, pipeline, config, check) {
            once(&mut readers, &pipeline.from, &from, check);
        }
        one_pipeline(&path, pipeline, check);
        for (index, step) in pipeline.steps.iter().enumerate() {
            if let Step::Window(window) = step {
                let path = format!("{path}.steps.{index}.window.name");
                once(&mut tables, &window.name, &path, check);
            }
        }
    }
}

/// Whether the pipeline reads a stream that is configured without faults.
fn source(path: &str, pipeline: &PipelineConfig, config: &Config, check: &mut Check<'_>) -> bool {
    let from = pipeline.from.as_str();
    if config.streams.contains_key(from) {
        return true;
    }
    let written = check.original.get("streams");
    let faulty = written.is_some_and(|streams| streams.get(from).is_some());
    if from.is_empty() {
        check.fault(path, "a pipeline needs the stream that it reads");
    } else if !faulty {
        let known: Vec<&str> = written.map_or_else(Vec::new, |streams| streams.keys().collect());
        check.fault(path, format!("there is no stream '{from}'; streams: {}", known.join(", ")));
    }
    false
}

fn one_pipeline(path: &str, pipeline: &PipelineConfig, check: &mut Check<'_>) {
    let to = format!("{path}.to");
    check.require(pipeline.to.len() == 1, &to, "a pipeline has exactly one sink: [sql]");
    let steps = format!("{path}.steps");
    check.require(pipeline.steps.len() <= MAX_STEPS, &steps, &format!("at most {MAX_STEPS} steps"));
    let mut rules = BTreeMap::new();
    for (index, step) in pipeline.steps.iter().enumerate() {
        match step {
            Step::Filter(text) => {
                check.require(!text.trim().is_empty(), &format!("{steps}.{index}.filter"), "an expression is missing")
            }
            Step::Derive(columns) => {
                for (column, text) in columns.iter() {
                    let path = format!("{steps}.{index}.derive.{column}");
                    check.require(!text.trim().is_empty(), &path, "an expression is missing");
                }
            }
            Step::Window(step) => window(&format!("{steps}.{index}.window"), step, check),
            Step::Rule(step) => {
                let path = format!("{steps}.{index}.rule");
                rule(&path, step, check);
                once(&mut rules, &step.name, &format!("{path}.name"), check);
            }
        }
    }
}

fn window(path: &str, window: &WindowStep, check: &mut Check<'_>) {
    let name = format!("{path}.name");
    check.name(&name, &window.name);
    own_table(&name, &window.name, check);
    for (index, field) in window.group_by.iter().take(MAX_GROUP_BY).enumerate() {
        let repeated = window.group_by[..index].contains(field);
        check.require(
            !repeated && !field.is_empty(),
            &format!("{path}.group_by.{index}"),
            "expected a field that is not in the list already",
        );
    }
    let select = format!("{path}.select");
    check.require(!window.select.is_empty(), &select, "a window needs at least one column, such as count: count(*)");
    for (column, text) in window.select.iter() {
        let path = format!("{select}.{column}");
        check.name(&path, column);
        check.require(!text.trim().is_empty(), &path, "an expression is missing");
        let grouped = window.group_by.iter().take(MAX_GROUP_BY).any(|field| field == column);
        check.require(!grouped, &path, "group_by has a column of this name");
    }
}

fn rule(path: &str, rule: &RuleStep, check: &mut Check<'_>) {
    check.name(&format!("{path}.name"), &rule.name);
    check.require(!rule.when.trim().is_empty(), &format!("{path}.when"), "a condition is missing");
}

fn own_table(path: &str, table: &str, check: &mut Check<'_>) {
    let own = OWN_PREFIXES.iter().any(|prefix| table.starts_with(prefix)) || OWN_TABLES.contains(&table);
    check.require(!own, path, "the product has a table of this name itself");
}

/// Notes a fault at the second path that claims the same thing.
fn once(claims: &mut BTreeMap<String, String>, claim: &str, path: &str, check: &mut Check<'_>) {
    if claim.is_empty() || claim.len() > MAX_NAME_LENGTH * 4 {
        return;
    }
    if let Some(first) = claims.get(claim) {
        check.fault(path, format!("'{claim}' is taken by {first} already"));
    } else {
        claims.insert(claim.to_owned(), path.to_owned());
    }
}
