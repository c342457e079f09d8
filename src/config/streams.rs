//! Section `streams`: one entry per Kafka topic of one schema, and the table its records are stored in.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use streamward_broker::MAX_PARTITIONS_PER_TOPIC;
use streamward_core::steps::window::LONGEST;
use streamward_pipeline::lane::LaneSettings;

use super::kafka::LogRetention;
use super::limits::{bytes_within, within};
use super::units::{ByteSize, HumanDuration};

/// Sizes of the largest record: up to what the broker takes in one request, with a frame.
const RECORD_BYTES: RangeInclusive<u64> = 1..=64 << 20;

/// One stream of records of one schema.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["schema", "key"]))]
pub struct StreamConfig {
    /// Kafka topic; null: the stream's own name.
    pub topic: Option<String>,
    /// Partitions of the topic when Streamward creates it.
    #[schemars(transform = within(1..=MAX_PARTITIONS_PER_TOPIC))]
    pub partitions: u32,
    /// Avro schema file, relative to the config file. Required.
    pub schema: PathBuf,
    /// How values are written.
    pub format: RecordFormat,
    /// Field that says which sensor, customer or series a record is about; the Kafka key. Required.
    pub key: String,
    /// Field with the time at which it happened.
    pub event_time: String,
    /// Numeric field that `stats` averages; null: `value` if the schema has it, else none.
    pub measure: Option<String>,
    /// Table of the records; null: the schema's record name in snake case and plural.
    pub table: Option<String>,
    /// Fields with an index of their own.
    pub indexes: Vec<String>,
    /// How much earlier than the newest record of its partition a record may be and still be in time.
    #[schemars(transform = within(Duration::ZERO..=LONGEST))]
    pub out_of_orderness: HumanDuration,
    /// Silence after which windows close by the wall clock.
    #[schemars(transform = within(LaneSettings::IDLE_AFTER))]
    pub idle_after: HumanDuration,
    /// How far event time may run ahead of the log's time and still move the watermark.
    #[schemars(transform = within(Duration::ZERO..=LONGEST))]
    pub max_ahead: HumanDuration,
    /// Largest value of a record; a larger one is a dead letter.
    #[schemars(transform = bytes_within(RECORD_BYTES))]
    pub max_record: ByteSize,
    /// How long the topic keeps records when Streamward creates it.
    pub retention: LogRetention,
    /// What to do when the next record to read is no longer in the log.
    pub on_gap: OnGap,
}

impl StreamConfig {
    /// The Kafka topic of the stream called `name`.
    pub fn topic<'a>(&'a self, name: &'a str) -> &'a str {
        self.topic.as_deref().unwrap_or(name)
    }
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            topic: None,
            partitions: 4,
            schema: PathBuf::new(),
            format: RecordFormat::Auto,
            key: String::new(),
            event_time: "timestamp".into(),
            measure: None,
            table: None,
            indexes: Vec::new(),
            out_of_orderness: HumanDuration::from_secs(5),
            idle_after: HumanDuration::from_secs(30),
            max_ahead: HumanDuration::from_secs(600),
            max_record: ByteSize::mib(1),
            retention: LogRetention::default(),
            on_gap: OnGap::Fail,
        }
    }
}

/// How the values of a topic are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordFormat {
    /// Told apart record by record.
    Auto,
    /// Plain JSON.
    Json,
    /// Avro in Confluent framing.
    Avro,
}

/// What happens at a hole between the stored position and the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnGap {
    /// The partition stops and says so.
    Fail,
    /// The hole is declared and reading goes on at the start of the log.
    Earliest,
}
