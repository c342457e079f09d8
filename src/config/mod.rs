//! The configuration: one typed tree, read from YAML, environment and command line.
//!
//! One file per group of sections (`kafka`, `storage`, `streams`, `pipelines`, `http`, `supervision`, `simulators`);
//! every key has a default there, and unknown keys are faults. `load` turns texts into the tree and finds all faults at
//! once, `validate` holds the rules between keys, `schemas` reads the schema files that streams name.
//!
//! Not here: whether an expression or a schema is right. Whoever plans a pipeline checks that and reports it at its
//! place with [`Loaded::fault_at`].
//!
//! Invariants: printing a config never shows a secret; a value that can be printed can be read again.

mod files;
mod http;
mod kafka;
mod kafka_access;
mod limits;
mod load;
mod pipelines;
mod schemas;
mod secret;
mod simulators;
mod storage;
mod streams;
mod supervision;
mod units;
mod validate;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use files::read_bytes;
pub use http::{
    AuthConfig, HttpConfig, LogConfig, LogFormat, LogLevel, Role, TelemetryConfig, TokenConfig, WebSocketConfig,
};
pub use kafka::{
    EmbeddedKafka, EmbeddedRegistry, Fsync, KafkaConfig, LogRetention, NodeConfig, RegistryAuth, RegistryConfig,
};
pub use kafka_access::{ClientRates, KafkaAuth, KafkaTls, KafkaUser, SaslMechanism};
pub use load::{BUILT_IN_NAME, Exposure, Fault, Faults, Loaded, MAX_FAULTS, Sources, parse_set};
pub use pipelines::{
    AlertsConfig, BatchConfig, Columns, DlqConfig, PipelineConfig, RuleStep, Severity, Step, Target, WindowStep,
};
pub use schemas::{SchemaReadError, Schemas};
pub use secret::{ClientSettings, HIDDEN, Secret, SecretUrl, is_secret_setting};
pub use simulators::{SensorSimulator, SensorType, SimulatorFormat, SimulatorsConfig};
pub use storage::{CommitConfig, PostgresConfig, RowRetention, SQLITE_FILE, SqliteConfig, StorageConfig, Synchronous};
pub use streams::{OnGap, RecordFormat, StreamConfig};
pub use supervision::{
    ActorOverride, ActorPolicy, Backoff, BackoffOverride, CHILDLESS, DrillsConfig, Intensity, Restart, Strategy,
    SupervisionConfig, actor_paths,
};
pub use units::{ByteSize, HumanDuration, ListenAddr};
pub use validate::{MAX_FLOWS, brokers_fault};

/// The config that is used when there is no file: complete and commented.
pub const DEFAULT_YAML: &str = include_str!("../../config.yaml");

/// Name of the stream that the sensor simulator writes to.
pub const SENSORS_STREAM: &str = "sensors";

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Identity and place of this process.
    pub node: NodeConfig,
    /// Kafka outside, or the embedded broker.
    pub kafka: KafkaConfig,
    /// Schema registry outside, or the embedded one.
    pub registry: RegistryConfig,
    /// The SQL database.
    pub storage: StorageConfig,
    /// Streams by name; a file without this section has those of the built-in config.
    pub streams: BTreeMap<String, StreamConfig>,
    /// Pipelines by name; a file without this section has those of the built-in config whose stream it has.
    pub pipelines: BTreeMap<String, PipelineConfig>,
    /// Where alerts are announced.
    pub alerts: AlertsConfig,
    /// Where dead letters are announced.
    pub dlq: DlqConfig,
    /// REST, WebSocket and console.
    pub http: HttpConfig,
    /// Who may do what.
    pub auth: AuthConfig,
    /// Restart policies.
    pub supervision: SupervisionConfig,
    /// Faults injected on purpose.
    pub drills: DrillsConfig,
    /// Sources of made-up records.
    pub simulators: SimulatorsConfig,
    /// What the process says about itself.
    pub telemetry: TelemetryConfig,
}

impl Config {
    /// The config as YAML with every key and without secrets; what looks like a variable in a value is escaped.
    pub fn effective_yaml(&self) -> String {
        serde_saphyr::to_string(self)
            .expect("every key is a text and every value a scalar, list or map")
            .replace("${", "$${")
    }

    /// The JSON Schema of the config file, for editors.
    pub fn schema_json() -> String {
        serde_json::to_string_pretty(&schemars::schema_for!(Self)).expect("a schema is a JSON value already")
    }

    /// The sensor simulator, if it is on and there is a stream for it.
    pub fn sensor_simulator(&self) -> Option<&SensorSimulator> {
        let simulator = &self.simulators.sensors;
        (simulator.enabled && self.streams.contains_key(SENSORS_STREAM)).then_some(simulator)
    }
}
