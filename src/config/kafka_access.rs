//! Sections `auth`, `tls` and `client_rates` of `kafka.embedded`: who may use the embedded broker, and how much of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use streamward_broker::BrokerConfig;

use super::limits::{bytes_within, within};
use super::secret::Secret;
use super::units::{ByteSize, HumanDuration};

/// How clients of the embedded broker prove who they are.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaAuth {
    /// SASL mechanisms that clients may choose from.
    pub mechanisms: Vec<SaslMechanism>,
    /// Who may use the broker; with none, everyone who reaches it.
    pub users: Vec<KafkaUser>,
    /// Time after which a connection has to prove its user again; null: never.
    #[schemars(transform = within(BrokerConfig::MAX_SESSION))]
    pub reauthenticate_after: Option<HumanDuration>,
}

impl Default for KafkaAuth {
    fn default() -> Self {
        let mechanisms = vec![SaslMechanism::ScramSha512, SaslMechanism::ScramSha256];
        Self { mechanisms, users: Vec::new(), reauthenticate_after: None }
    }
}

/// A SASL mechanism by the name that Kafka's clients have for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum SaslMechanism {
    /// The password itself goes to the broker.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Proof of the password with SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Proof of the password with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// Somebody who may use the embedded broker.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["name", "password"]))]
pub struct KafkaUser {
    /// Name that clients give. Required.
    pub name: String,
    /// The password. Required.
    pub password: Secret,
}

/// TLS of the embedded broker's listener; every text is PEM, best given as `${file:tls/broker.pem}`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaTls {
    /// The certificate, followed by those that lead to its root; null: no TLS.
    pub certificate: Option<String>,
    /// The certificate's private key.
    pub key: Option<Secret>,
    /// Roots of the certificates that clients have to show; null: they show none.
    pub client_ca: Option<String>,
}

/// Bytes per second of each user, or of each client id where clients do not authenticate.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientRates {
    /// Of produce requests; null: no limit.
    #[schemars(transform = bytes_within(BrokerConfig::CLIENT_RATE))]
    pub produce: Option<ByteSize>,
    /// Of fetched records; null: no limit.
    #[schemars(transform = bytes_within(BrokerConfig::CLIENT_RATE))]
    pub fetch: Option<ByteSize>,
}
