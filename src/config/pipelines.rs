//! Sections `pipelines`, `alerts` and `dlq`: what is done with a stream's records, and where what follows from them goes.
//!
//! Expressions are kept as texts; they are checked against the schema by whoever plans the pipeline.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use streamward_core::steps::{
    StepSpec,
    derive::DeriveSpec,
    filter::FilterSpec,
    rule::{RuleSpec, SEVERITIES},
    window::{LONGEST, WindowSpec},
};
use streamward_pipeline::source::BatchLimits;

use super::limits::{bytes_within, within};
use super::supervision::Intensity;
use super::units::{ByteSize, HumanDuration};

/// Shortest window.
const MILLISECOND: Duration = Duration::from_millis(1);

/// One pipeline: a stream, steps in order, a sink.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["from"]))]
pub struct PipelineConfig {
    /// Name of the stream. Required.
    pub from: String,
    /// Steps, in order.
    pub steps: Vec<Step>,
    /// Where records go.
    pub to: Vec<Target>,
    /// Whether records are stored as rows; false: only what steps make of them.
    pub store: bool,
    /// What one batch may hold.
    pub batch: BatchConfig,
    /// Restart intensity of this pipeline; null: `supervision.pipelines`.
    pub supervision: Option<Intensity>,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        Self {
            from: String::new(),
            steps: Vec::new(),
            to: vec![Target::Sql],
            store: true,
            batch: BatchConfig::default(),
            supervision: None,
        }
    }
}

/// One step of a pipeline: a map with one key, which says its kind.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Keeps the records for which the expression is true; the others are counted, not stored.
    Filter(String),
    /// Makes columns: name and expression, in order. Later steps, the table and live frames have them.
    Derive(Columns),
    /// Aggregates over event time.
    Window(WindowStep),
    /// An alert while a condition holds.
    Rule(RuleStep),
}

impl Step {
    /// Names of the columns that it makes.
    #[must_use]
    pub fn makes(&self) -> Vec<String> {
        self.spec().makes().into_iter().map(str::to_owned).collect()
    }

    /// The step as the pipeline's logic has it.
    #[must_use]
    pub fn spec(&self) -> StepSpec {
        match self {
            Self::Filter(condition) => StepSpec::Filter(FilterSpec(condition.clone())),
            Self::Derive(columns) => StepSpec::Derive(DeriveSpec(columns.pairs())),
            Self::Window(window) => StepSpec::Window(WindowSpec {
                name: window.name.clone(),
                size: window.tumbling.into(),
                allowed_lateness: window.allowed_lateness.into(),
                group_by: window.group_by.clone(),
                select: window.select.pairs(),
            }),
            Self::Rule(rule) => StepSpec::Rule(RuleSpec {
                name: rule.name.clone(),
                when: rule.when.clone(),
                severity: rule.severity.word().to_owned(),
                hold_for: rule.hold.into(),
                cooldown: rule.cooldown.into(),
                resolve_after: None,
            }),
        }
    }
}

/// Tumbling windows over event time, one row per window and group.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["name", "select"]))]
pub struct WindowStep {
    /// Name of the window and of its table. Required.
    pub name: String,
    /// Length of a window.
    #[schemars(transform = within(MILLISECOND..=LONGEST))]
    pub tumbling: HumanDuration,
    /// How long after its end a window still takes late records.
    #[schemars(transform = within(Duration::ZERO..=LONGEST))]
    pub allowed_lateness: HumanDuration,
    /// Fields whose every combination has a row of its own.
    pub group_by: Vec<String>,
    /// Columns and their aggregate expressions, in order. Required.
    pub select: Columns,
}

impl Default for WindowStep {
    fn default() -> Self {
        Self {
            name: String::new(),
            tumbling: HumanDuration::from_secs(60),
            allowed_lateness: HumanDuration::from_secs(30),
            group_by: Vec::new(),
            select: Columns::default(),
        }
    }
}

/// A threshold rule, evaluated per record in event time.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["name", "when"]))]
pub struct RuleStep {
    /// Name of the rule and of its alerts. Required.
    pub name: String,
    /// Condition. Required.
    pub when: String,
    /// How bad it is.
    pub severity: Severity,
    /// How long the condition must hold before the alert fires.
    #[schemars(transform = within(Duration::ZERO..=LONGEST))]
    #[serde(rename = "for")]
    pub hold: HumanDuration,
    /// How long the same key does not fire again.
    #[schemars(transform = within(Duration::ZERO..=LONGEST))]
    pub cooldown: HumanDuration,
}

impl Default for RuleStep {
    fn default() -> Self {
        Self {
            name: String::new(),
            when: String::new(),
            severity: Severity::Warning,
            hold: HumanDuration::from_secs(0),
            cooldown: HumanDuration::from_secs(300),
        }
    }
}

/// How bad an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Worth a look.
    Warning,
    /// Worth waking someone.
    Critical,
}

impl Severity {
    /// The word for it, as the configuration and alerts have it.
    fn word(self) -> &'static str {
        let [info, warning, critical] = SEVERITIES;
        match self {
            Self::Info => info,
            Self::Warning => warning,
            Self::Critical => critical,
        }
    }
}

/// Where a pipeline stores its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The database of section `storage`.
    Sql,
}

/// Limits of one batch; whichever is reached first closes it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchConfig {
    /// Records.
    #[schemars(transform = within(BatchLimits::RECORDS))]
    pub max_records: u32,
    /// Time between two batches of a partition while records keep coming, and longest age of a batch.
    #[schemars(transform = within(BatchLimits::DELAY))]
    pub max_delay: HumanDuration,
    /// Bytes of its values; a batch of one record may be larger.
    #[schemars(transform = bytes_within(BatchLimits::BYTES))]
    pub max_bytes: ByteSize,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self { max_records: 4096, max_delay: HumanDuration::from_millis(20), max_bytes: ByteSize::mib(4) }
    }
}

/// Named expressions in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Columns(Vec<(String, String)>);

impl Columns {
    /// Column name and expression, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, text)| (&**name, &**text))
    }

    /// The same as values of their own.
    fn pairs(&self) -> Vec<(String, String)> {
        self.0.clone()
    }

    /// Whether there is no column.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Columns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ColumnsVisitor)
    }
}

struct ColumnsVisitor;

impl<'de> Visitor<'de> for ColumnsVisitor {
    type Value = Columns;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of column: expression")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
        let mut columns = Vec::new();
        while let Some(column) = map.next_entry()? {
            columns.push(column);
        }
        Ok(Columns(columns))
    }
}

impl JsonSchema for Columns {
    fn schema_name() -> Cow<'static, str> {
        "Columns".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": { "type": "string" } })
    }
}

/// Where alerts are announced.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsConfig {
    /// Topic of alert transitions.
    pub topic: String,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self { topic: "system-alerts".into() }
    }
}

/// Where dead letters are announced.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DlqConfig {
    /// Topic of dead letters.
    pub topic: String,
}

impl Default for DlqConfig {
    fn default() -> Self {
        Self { topic: "dlq-messages".into() }
    }
}
