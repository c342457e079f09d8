//! An idempotent producer with Java's partitioning.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext},
};

use super::{KafkaSettings, acknowledged::Acknowledged, log_line};

/// How long a record may wait for its acknowledgement, unless its sender says otherwise.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// Where a record ended up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    pub partition: i32,
    pub offset: i64,
}

/// A record to write.
pub struct Outgoing<'a> {
    pub topic: &'a str,
    /// Without one the key decides.
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// Names may have any bytes.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    /// The topic does not take this record, now or later.
    #[error("the topic refuses the record: {0}")]
    Refused(RDKafkaErrorCode),
    /// No acknowledgement; the record may or may not be in the log.
    #[error("no acknowledgement: {0}")]
    Unavailable(String),
}

/// Writes records and waits for the broker's acknowledgement.
#[derive(Clone)]
pub struct KafkaProducer {
    producer: Acknowledged,
    delivery_timeout: Duration,
}

impl KafkaProducer {
    /// Creates the producer; it connects when the first record is written.
    ///
    /// # Errors
    /// If a setting is refused.
    pub fn create(settings: &KafkaSettings, client_id: &str) -> Result<Self, KafkaError> {
        Self::with_timeout(settings, client_id, DELIVERY_TIMEOUT)
    }

    /// Likewise; a record that is not acknowledged within `delivery_timeout` fails.
    ///
    /// # Errors
    /// If a setting is refused.
    pub fn with_timeout(
        settings: &KafkaSettings,
        client_id: &str,
        delivery_timeout: Duration,
    ) -> Result<Self, KafkaError> {
        let config = bounded(settings, client_id, delivery_timeout);
        Ok(Self { producer: Acknowledged::create(&config)?, delivery_timeout })
    }

    /// Writes one record and waits for its place in the log.
    ///
    /// # Errors
    /// [`ProduceError`]
    pub async fn send(&self, record: Outgoing<'_>) -> Result<Placed, ProduceError> {
        self.producer.send(record, self.delivery_timeout).await.map_err(|error| self.classify(error))
    }

    fn classify(&self, error: KafkaError) -> ProduceError {
        match error {
            KafkaError::MessageProduction(
                code @ (RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::InvalidMessage
                | RDKafkaErrorCode::InvalidMessageSize
                | RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::TopicAuthorizationFailed),
            ) => ProduceError::Refused(code),
            // A client that may not come in sees its records time out; the cause is what it was told before.
            other => match self.producer.take_refusal() {
                Some(refusal) => ProduceError::Unavailable(format!("{other}; {refusal}")),
                None => ProduceError::Unavailable(other.to_string()),
            },
        }
    }
}

/// The settings of [`KafkaProducer::create`].
pub(super) fn config(settings: &KafkaSettings, client_id: &str) -> ClientConfig {
    bounded(settings, client_id, DELIVERY_TIMEOUT)
}

fn bounded(settings: &KafkaSettings, client_id: &str, delivery_timeout: Duration) -> ClientConfig {
    let mut config = idempotent(settings, client_id, delivery_timeout);
    config
        .set("compression.type", "lz4")
        .set("queue.buffering.max.messages", "200000")
        .set("queue.buffering.max.kbytes", "65536")
        .set("message.max.bytes", "10000000");
    config
}

/// What every producer here has in common: no duplicates by retries, Java's partitions, little waiting.
fn idempotent(settings: &KafkaSettings, client_id: &str, delivery_timeout: Duration) -> ClientConfig {
    let mut config = settings.client(client_id);
    config
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "5")
        .set("message.timeout.ms", delivery_timeout.as_millis().to_string());
    config
}

/// An idempotent producer for floods: counts acknowledgements instead of answering for each record.
pub struct BulkProducer {
    producer: BaseProducer<Counting>,
}

#[derive(Default)]
struct Counting {
    acknowledged: AtomicU64,
    failed: AtomicU64,
}

impl ClientContext for Counting {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }
}

impl ProducerContext for Counting {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): Self::DeliveryOpaque) {
        let counter = if result.is_ok() { &self.acknowledged } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl BulkProducer {
    /// Creates the producer.
    ///
    /// # Errors
    /// If a setting is refused.
    pub fn create(settings: &KafkaSettings, client_id: &str) -> Result<Self, KafkaError> {
        let mut config = idempotent(settings, client_id, DELIVERY_TIMEOUT);
        config.set("queue.buffering.max.messages", "20000").set("queue.buffering.max.kbytes", "8192");
        Ok(Self { producer: config.create_with_context(Counting::default())? })
    }

    /// Queues one record, waiting while the queue is full.
    ///
    /// # Errors
    /// If the record is refused.
    pub fn send(&self, topic: &str, key: &[u8], value: &[u8]) -> Result<(), String> {
        loop {
            match self.producer.send(BaseRecord::to(topic).key(key).payload(value)) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    self.poll(Duration::from_millis(5));
                }
                Err((error, _)) => return Err(error.to_string()),
            }
        }
    }

    /// Handles acknowledgements, waiting at most `timeout` for one.
    pub fn poll(&self, timeout: Duration) {
        self.producer.poll(timeout);
    }

    /// Waits until everything queued is acknowledged.
    ///
    /// # Errors
    /// If that takes too long, or a record failed.
    pub fn flush(&self, timeout: Duration) -> Result<(), String> {
        self.producer.flush(timeout).map_err(|error| error.to_string())?;
        match self.producer.context().failed.load(Ordering::Relaxed) {
            0 => Ok(()),
            failed => Err(format!("{failed} records were not acknowledged")),
        }
    }

    /// Records acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.producer.context().acknowledged.load(Ordering::Relaxed)
    }
}
