//! Sections `node`, `kafka` and `registry`: who this process is and where its records and schemas come from.

use std::{path::PathBuf, time::SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use streamward_broker::{BrokerConfig, MAX_PARTITIONS_PER_TOPIC};

use super::kafka_access::{ClientRates, KafkaAuth, KafkaTls};
use super::limits::{bytes_within, within};
use super::secret::{ClientSettings, Secret, SecretUrl};
use super::units::{ByteSize, HumanDuration, ListenAddr};
use crate::{
    adapters::{kafka::reach::START_WITHIN, registry},
    app::REGISTRY_START,
};

/// Identity and place of this process.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Name of this process towards Kafka; null: generated at first start and kept in the data folder.
    pub id: Option<String>,
    /// Folder of everything this process stores.
    pub data_dir: PathBuf,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self { id: None, data_dir: PathBuf::from("./data") }
    }
}

/// Kafka: a cluster outside, or the embedded broker.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaConfig {
    /// Brokers as `host:port,host:port`; null: the embedded broker runs.
    pub bootstrap: Option<String>,
    /// Beginning of the consumer groups: a pipeline's group is `<consumer_group>-<pipeline>`, and one server reads it.
    pub consumer_group: String,
    /// Further librdkafka settings for every client.
    pub client: ClientSettings,
    /// How long the cluster at `bootstrap` may take to answer at the start.
    #[schemars(transform = within(START_WITHIN))]
    pub start_timeout: HumanDuration,
    /// The embedded broker; unused when `bootstrap` is given.
    pub embedded: EmbeddedKafka,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            bootstrap: None,
            consumer_group: "streamward".into(),
            client: ClientSettings::default(),
            start_timeout: HumanDuration::from_secs(30),
            embedded: EmbeddedKafka::default(),
        }
    }
}

impl KafkaConfig {
    /// What to say of the certificate of the embedded broker, where that runs.
    pub fn remark(&self) -> Option<String> {
        if self.bootstrap.is_some() { None } else { self.embedded.tls.remark(SystemTime::now()) }
    }
}

/// The broker inside the process.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EmbeddedKafka {
    /// Address of the Kafka protocol; port 0 takes a free one.
    pub listen: ListenAddr,
    /// Host name that clients are told to come by, such as one in the certificate; null: the address they came by.
    pub advertised_host: Option<String>,
    /// How clients prove who they are.
    pub auth: KafkaAuth,
    /// Certificate of the listener.
    pub tls: KafkaTls,
    /// Loopback address for this process, and for commands on this machine where `auth` or `tls` guard the other one; its
    /// users are the same, by PLAIN and without TLS.
    pub local_listen: ListenAddr,
    /// When the log is forced to disk.
    pub fsync: Fsync,
    /// Time between two forced writes with `fsync: interval`.
    #[schemars(transform = within(BrokerConfig::FSYNC_INTERVAL))]
    pub fsync_interval: HumanDuration,
    /// Size at which a log file is closed and the next begun.
    #[schemars(transform = bytes_within(BrokerConfig::SEGMENT_BYTES))]
    pub segment_size: ByteSize,
    /// How long topics without a setting of their own keep records.
    pub retention: LogRetention,
    /// Client connections at a time; more are closed at once.
    #[schemars(transform = within(BrokerConfig::CONNECTIONS))]
    pub max_connections: u32,
    /// Connections of one address among them; null: no limit of its own.
    #[schemars(transform = within(BrokerConfig::CONNECTIONS))]
    pub max_connections_per_ip: Option<u32>,
    /// Bytes per second that each client may move, where administrators stored no other quota.
    pub client_rates: ClientRates,
    /// Whether a client's first use of a topic creates it.
    pub auto_create_topics: bool,
    /// Partitions of a topic created without a number.
    #[schemars(transform = within(1..=MAX_PARTITIONS_PER_TOPIC))]
    pub default_partitions: u32,
}

impl Default for EmbeddedKafka {
    fn default() -> Self {
        Self {
            listen: ListenAddr::loopback(9092),
            advertised_host: None,
            auth: KafkaAuth::default(),
            tls: KafkaTls::default(),
            local_listen: ListenAddr::loopback(0),
            fsync: Fsync::Interval,
            fsync_interval: HumanDuration::from_secs(1),
            segment_size: ByteSize::mib(64),
            retention: LogRetention::default(),
            max_connections: 1000,
            max_connections_per_ip: None,
            client_rates: ClientRates::default(),
            auto_create_topics: true,
            default_partitions: 1,
        }
    }
}

impl EmbeddedKafka {
    /// Whether not everyone who reaches the listener is served.
    pub fn is_guarded(&self) -> bool {
        !self.auth.users.is_empty() || self.tls.certificate.is_some()
    }

    /// Whether clients of the listener prove who they are, by password or by certificate.
    pub fn is_authenticated(&self) -> bool {
        !self.auth.users.is_empty() || self.tls.client_ca.is_some()
    }
}

/// When acknowledged records are forced to disk; a process that dies loses none in any mode, a machine that dies may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fsync {
    /// Every `fsync_interval`.
    Interval,
    /// Before a batch is acknowledged.
    EveryBatch,
    /// When the operating system does.
    Never,
}

/// Limits of a topic's log; whichever is reached first removes its oldest file.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogRetention {
    /// Age of the newest record in a file that is removed; null: no limit.
    #[schemars(transform = within(BrokerConfig::RETENTION_AGE))]
    pub age: Option<HumanDuration>,
    /// Bytes of one partition; null: no limit.
    #[schemars(transform = bytes_within(BrokerConfig::RETENTION_BYTES))]
    pub size: Option<ByteSize>,
}

impl Default for LogRetention {
    fn default() -> Self {
        Self { age: Some(HumanDuration::from_secs(7 * 86_400)), size: None }
    }
}

/// Schema registry: one outside, or the embedded one.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryConfig {
    /// A registry with Confluent's REST interface; null: the embedded registry runs.
    pub url: Option<SecretUrl>,
    /// Who this process is to the registry at `url`.
    pub auth: RegistryAuth,
    /// PEM file with the certificates to trust instead of the system's, for an `https` URL.
    pub ca_file: Option<PathBuf>,
    /// How long one request to the registry at `url` may take.
    #[schemars(transform = within(registry::TIMEOUT))]
    pub timeout: HumanDuration,
    /// How long the registry may take to answer at the start.
    #[schemars(transform = within(REGISTRY_START))]
    pub start_timeout: HumanDuration,
    /// The embedded registry; unused when `url` is given.
    pub embedded: EmbeddedRegistry,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            url: None,
            auth: RegistryAuth::default(),
            ca_file: None,
            timeout: HumanDuration::from_secs(5),
            start_timeout: HumanDuration::from_secs(60),
            embedded: EmbeddedRegistry::default(),
        }
    }
}

/// Credentials for a registry outside: a user with a password, or a bearer token. A URL may hold the former.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryAuth {
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub token: Option<Secret>,
}

/// The registry inside the process.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EmbeddedRegistry {
    /// Address of its REST interface; port 0 takes a free one.
    pub listen: ListenAddr,
    /// Kafka topic that the schemas are kept in, in the format of Confluent's registry.
    pub topic: String,
}

impl Default for EmbeddedRegistry {
    fn default() -> Self {
        Self { listen: ListenAddr::loopback(8081), topic: "_schemas".to_owned() }
    }
}
