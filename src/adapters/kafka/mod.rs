//! Kafka through librdkafka: the only importer of rdkafka.
//!
//! [`source`] consumes for a pipeline, [`producer`] writes, [`schemas`] keeps the registry, [`admin`] makes topics and
//! reads log bounds, [`topics`] lets people look at topics and change them, [`reach`] says why a cluster cannot be
//! reached, [`members`] who else is in a pipeline's group, [`probe`] asks the library whether it takes settings, [`measure`] is for benchmarks. All of them speak to the
//! embedded broker and to Apache Kafka alike.

mod acknowledged;
pub mod admin;
mod ffi;
pub mod logs;
pub mod measure;
pub mod members;
pub mod probe;
pub mod producer;
pub mod reach;
pub mod schemas;
#[cfg(test)]
mod served;
pub mod source;
pub mod topics;

use std::{collections::BTreeMap, fmt};

use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
};

/// How to reach the cluster.
#[derive(Clone)]
pub struct KafkaSettings {
    /// `host:port`, comma separated.
    pub bootstrap: String,
    /// Further librdkafka settings, such as `security.protocol`.
    pub extra: BTreeMap<String, String>,
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSettings").field("bootstrap", &self.bootstrap).finish_non_exhaustive()
    }
}

impl KafkaSettings {
    /// As this user by PLAIN over loopback, whatever the other settings say of security.
    #[must_use]
    pub fn with_plain(mut self, user: &str, password: &str) -> Self {
        self.extra.retain(|name, _| !name.starts_with("ssl."));
        let own = [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanisms", "PLAIN"),
            ("sasl.username", user),
            ("sasl.password", password),
        ];
        self.extra.remove("sasl.mechanism");
        self.extra.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
        self
    }

    /// The settings that every client shares.
    fn client(&self, client_id: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", client_id)
            .set("socket.nagle.disable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000")
            .set("topic.metadata.refresh.interval.ms", "5000")
            .set("allow.auto.create.topics", "false");
        for (key, value) in &self.extra {
            config.set(key, value);
        }
        config
    }
}

/// Keeps librdkafka's lines out of the log unless they matter: a refused connection is repeated by every client.
#[derive(Clone, Default)]
struct QuietContext;

impl ClientContext for QuietContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client");
    }
}

impl rdkafka::consumer::ConsumerContext for QuietContext {}

/// Whether a reading client recovers from an error by itself.
fn is_passing(error: &KafkaError) -> bool {
    let KafkaError::MessageConsumption(code) = error else { return false };
    matches!(
        code,
        RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::NotLeaderForPartition
            | RDKafkaErrorCode::LeaderNotAvailable
    )
}

fn log_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(facility, "kafka client: {message}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => tracing::debug!(facility, "kafka client: {message}"),
        _ => tracing::trace!(facility, "kafka client: {message}"),
    }
}
