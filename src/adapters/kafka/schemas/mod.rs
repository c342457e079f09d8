//! The schemas topic: read to its end on demand, written in transactions.
//!
//! Every registry on a topic writes under the same transactional id, so that a claim (`InitProducerId`) fences who
//! claimed before and settles what that one left open (KIP-98); a read in `read_committed` then sees all there is. A
//! commit is answered when it is decided and before its markers are in the log, so a read waits for what was written.

#[cfg(test)]
mod tests;

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, TopicPartitionList,
    admin::AdminClient,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext},
};

use uuid::Uuid;

use super::{
    KafkaSettings, QuietContext,
    admin::{TopicSpec, cleans_up_by, cleanup_policies, ensure_topics},
    ffi, is_passing, log_line,
};
use crate::registry::log::{LogError, Record, SchemaLog};

const PARTITION: i32 = 0;
/// How long the broker is given for one step.
const STEP: Duration = Duration::from_secs(10);
/// How long the broker may be silent before the topic is looked for: the client library waits for one that is gone.
const SILENT: Duration = Duration::from_secs(1);
/// How long one look for the broker's answers takes.
const ANSWER_STEP: Duration = Duration::from_millis(1);
/// Wait before the end of the topic is asked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How long a transaction stays open when its writer is gone; nobody can write or read past it.
const TRANSACTION_TIMEOUT_MS: &str = "10000";
/// Longest record: a schema, quoted.
const MAX_RECORD_BYTES: &str = "8000000";

/// The schemas topic of a cluster.
pub struct KafkaSchemaLog {
    settings: KafkaSettings,
    topic: String,
    consumer: BaseConsumer<QuietContext>,
    /// Which topic of that name is read (KIP-516); nil where the cluster does not tell.
    id: Uuid,
    /// Offset of the next record to hand out.
    next: i64,
    /// Offset behind the last record written here: the least that a read reads to.
    written: i64,
    producer: Option<BaseProducer<Delivered>>,
}

/// A producer context that notes where the last record went.
#[derive(Default)]
struct Delivered(AtomicI64);

impl ClientContext for Delivered {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "schemas producer");
    }
}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): Self::DeliveryOpaque) {
        if let Ok(message) = result {
            self.0.fetch_max(message.offset(), Ordering::AcqRel);
        }
    }
}

/// Makes the topic if it is missing and checks that the one that is there keeps what is written to it.
///
/// # Errors
/// If the cluster does not answer, or the topic cannot hold schemas; the message says what to do.
pub async fn ensure_schemas_topic(settings: &KafkaSettings, topic: &str) -> Result<(), LogError> {
    let configs = vec![
        ("cleanup.policy".to_owned(), "compact".to_owned()),
        ("max.message.bytes".to_owned(), MAX_RECORD_BYTES.to_owned()),
    ];
    let spec = TopicSpec { name: topic.to_owned(), partitions: 1, configs };
    ensure_topics(settings, &[spec]).await.map_err(|error| unavailable(&format!("make topic {topic}"), &error))?;
    let admin: AdminClient<QuietContext> = settings
        .client("streamward-registry")
        .create_with_context(QuietContext)
        .map_err(|error| unavailable("the admin client", &error))?;
    // A cluster may know a new topic before it tells its settings.
    let until = Instant::now() + STEP;
    let mut policy = cleanup_policy(&admin, topic).await?;
    while policy.is_none() && Instant::now() < until {
        tokio::time::sleep(LOOK_AGAIN).await;
        policy = cleanup_policy(&admin, topic).await?;
    }
    match policy {
        Some(policy) if cleans_up_by(&policy, "delete") => Err(LogError::Unavailable(format!(
            "topic {topic} has cleanup.policy={policy}, which would delete schemas in time: set it to compact"
        ))),
        Some(_) => Ok(()),
        None => Err(LogError::Unavailable(format!("the cluster does not tell the settings of topic {topic}"))),
    }
}

async fn cleanup_policy(admin: &AdminClient<QuietContext>, topic: &str) -> Result<Option<String>, LogError> {
    let policies = cleanup_policies(admin, &[topic], STEP).await;
    Ok(policies.map_err(|error| unavailable("describe the topic", &error))?.remove(topic))
}

fn unavailable(what: &str, error: &KafkaError) -> LogError {
    LogError::Unavailable(format!("{what}: {error}"))
}

/// The settings of the reader.
pub(super) fn reading(settings: &KafkaSettings) -> ClientConfig {
    let mut config = settings.client("streamward-registry");
    config
        .set("group.id", "streamward-registry")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("fetch.message.max.bytes", MAX_RECORD_BYTES)
        .set("fetch.wait.max.ms", "1");
    config
}

/// The settings of the writer of a topic.
pub(super) fn writing(settings: &KafkaSettings, topic: &str) -> ClientConfig {
    let mut config = settings.client("streamward-registry");
    config
        .set("transactional.id", format!("streamward-registry-{topic}"))
        .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)
        .set("message.max.bytes", MAX_RECORD_BYTES)
        .set("linger.ms", "0");
    config
}

impl KafkaSchemaLog {
    /// A log that is read from the topic's beginning. The topic must exist.
    ///
    /// # Errors
    /// If a setting is refused, the cluster does not answer, or the topic has several partitions.
    pub fn open(settings: &KafkaSettings, topic: &str) -> Result<Self, LogError> {
        let config = reading(settings);
        let consumer: BaseConsumer<QuietContext> =
            config.create_with_context(QuietContext).map_err(|error| unavailable("the consumer", &error))?;
        let partitions = partitions(&consumer, topic)?;
        if partitions != 1 {
            return Err(LogError::Unavailable(format!(
                "topic {topic} has {partitions} partitions; a schemas topic has one, so that all registries see one order"
            )));
        }
        let id = identity(&consumer, topic)?.unwrap_or_default();
        let (settings, topic) = (settings.clone(), topic.to_owned());
        Ok(Self { settings, topic, consumer, id, next: 0, written: 0, producer: None })
    }

    /// Fails if the topic is gone, or is another one than that read so far.
    fn check_same(&self) -> Result<(), LogError> {
        let topic = &self.topic;
        match identity(&self.consumer, topic)? {
            None => Err(LogError::Lost(format!("topic {topic} does not exist any more: it was deleted"))),
            Some(id) if id != self.id => {
                Err(LogError::Lost(format!("topic {topic} is another one than before: it was deleted and made anew")))
            }
            Some(_) => Ok(()),
        }
    }

    /// Reads on to the end.
    fn read_on(&mut self, visit: &mut dyn FnMut(Record)) -> Result<(), LogError> {
        let (start, end) = self.bounds()?;
        if end < self.next {
            let (topic, next) = (&self.topic, self.next);
            return Err(LogError::Lost(format!("topic {topic} ends at {end} and was read to {next}")));
        }
        self.next = self.next.max(start);
        if self.next == end {
            return Ok(());
        }
        self.assign().map_err(|error| unavailable("read the topic", &error))?;
        let drained = self.drain(end, visit);
        self.consumer.unassign().map_err(|error| unavailable("read the topic", &error))?;
        drained
    }

    /// The topic's start and end, once the end is behind what was written here.
    fn bounds(&self) -> Result<(i64, i64), LogError> {
        let until = Instant::now() + STEP;
        loop {
            let is_late = Instant::now() >= until;
            match self.consumer.fetch_watermarks(&self.topic, PARTITION, SILENT) {
                Ok((start, end)) if end >= self.written => return Ok((start, end)),
                Ok(_) if is_late => {
                    return Err(LogError::Unavailable("what was written is not readable yet".to_owned()));
                }
                Err(error) if is_late => return Err(unavailable("the topic's end", &error)),
                Err(_) => self.check_same()?,
                Ok(_) => {}
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn assign(&self) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, PARTITION, Offset::Offset(self.next))?;
        self.consumer.assign(&list)
    }

    /// Reads `[next, end)`; the last offsets may hold no record.
    fn drain(&mut self, end: i64, visit: &mut dyn FnMut(Record)) -> Result<(), LogError> {
        let mut until = Instant::now() + STEP;
        while self.next < end {
            match self.consumer.poll(SILENT) {
                Some(Ok(message)) => {
                    if let Some(key) = message.key() {
                        visit(Record { key: key.to_vec(), value: message.payload().map(<[u8]>::to_vec) });
                    }
                    self.next = message.offset() + 1;
                    until = Instant::now() + STEP;
                }
                // The fetch was sent after the end was asked for.
                Some(Err(KafkaError::PartitionEOF(_))) => self.next = end,
                Some(Err(error)) if is_passing(&error) => {}
                Some(Err(error)) => return Err(unavailable("read the topic", &error)),
                None => self.check_same()?,
            }
            if Instant::now() >= until {
                return Err(LogError::Unavailable(format!("nothing came within {STEP:?}")));
            }
        }
        Ok(())
    }

    fn transact(&self, producer: &BaseProducer<Delivered>, records: &[Record]) -> Result<(), LogError> {
        producer.begin_transaction().map_err(|error| not_appended(&error))?;
        for record in records {
            let mut outgoing = BaseRecord::<[u8], [u8]>::to(&self.topic).partition(PARTITION).key(&record.key);
            outgoing.payload = record.value.as_deref();
            producer.send(outgoing).map_err(|(error, _)| not_appended(&error))?;
        }
        // A commit polls for the broker's answers in long steps.
        let (until, mut look_at) = (Instant::now() + STEP, Instant::now() + SILENT);
        while producer.in_flight_count() > 0 && Instant::now() < until {
            producer.poll(ANSWER_STEP);
            if Instant::now() >= look_at {
                self.check_same()?;
                look_at = Instant::now() + SILENT;
            }
        }
        producer.commit_transaction(STEP).map_err(|error| not_appended(&error))
    }
}

impl SchemaLog for KafkaSchemaLog {
    fn read(&mut self, visit: &mut dyn FnMut(Record)) -> Result<(), LogError> {
        self.read_whole(visit).map_err(|error| self.placed(error))
    }

    fn claim(&mut self) -> Result<(), LogError> {
        self.claim_it().map_err(|error| self.placed(error))
    }

    fn append(&mut self, records: &[Record]) -> Result<(), LogError> {
        self.append_all(records).map_err(|error| self.placed(error))
    }

    fn renew(&mut self) -> Result<(), LogError> {
        self.open_again().map_err(|error| self.placed(error))
    }
}

impl KafkaSchemaLog {
    /// An error with the topic and where it is.
    fn placed(&self, error: LogError) -> LogError {
        match error {
            LogError::Unavailable(why) => {
                LogError::Unavailable(format!("topic {} at {}: {why}", self.topic, self.settings.bootstrap))
            }
            LogError::Superseded(_) | LogError::Lost(_) => error,
        }
    }

    fn read_whole(&mut self, visit: &mut dyn FnMut(Record)) -> Result<(), LogError> {
        // First, since the end of a topic that is gone takes long to ask for.
        self.check_same()?;
        let before = self.next;
        let read = self.read_on(visit);
        // What came, or did not come, may be another topic's.
        if self.next != before || read.is_err() {
            self.check_same()?;
        }
        read
    }

    fn claim_it(&mut self) -> Result<(), LogError> {
        self.producer = None;
        let config = writing(&self.settings, &self.topic);
        let producer: BaseProducer<Delivered> =
            config.create_with_context(Delivered::default()).map_err(|error| unavailable("the producer", &error))?;
        producer.init_transactions(STEP).map_err(|error| match &error {
            KafkaError::Transaction(cause) if is_lost(cause.code()) => LogError::Superseded(error.to_string()),
            _ => unavailable("claim the topic", &error),
        })?;
        self.producer = Some(producer);
        Ok(())
    }

    fn append_all(&mut self, records: &[Record]) -> Result<(), LogError> {
        let Some(producer) = self.producer.take() else {
            return Err(LogError::Superseded("the topic is not claimed".to_owned()));
        };
        self.transact(&producer, records)?;
        self.written = producer.context().0.load(Ordering::Acquire) + 1;
        self.producer = Some(producer);
        Ok(())
    }

    fn open_again(&mut self) -> Result<(), LogError> {
        let failed = |error: std::io::Error| LogError::Unavailable(format!("make it: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
        runtime.block_on(ensure_schemas_topic(&self.settings, &self.topic))?;
        // Another client: librdkafka reads on by name and offset.
        *self = Self::open(&self.settings, &self.topic)?;
        Ok(())
    }
}

/// Number of partitions of a topic; a cluster may know a new topic before it knows them.
fn partitions(consumer: &BaseConsumer<QuietContext>, topic: &str) -> Result<usize, LogError> {
    let until = Instant::now() + STEP;
    loop {
        let metadata = consumer.fetch_metadata(Some(topic), STEP);
        let metadata = metadata.map_err(|error| unavailable("the topic's metadata", &error))?;
        match metadata.topics().first().map_or(0, |topic| topic.partitions().len()) {
            0 if Instant::now() < until => std::thread::sleep(LOOK_AGAIN),
            partitions => return Ok(partitions),
        }
    }
}

/// The id of a topic: none where there is no such topic, nil where the cluster does not tell.
fn identity(consumer: &BaseConsumer<QuietContext>, topic: &str) -> Result<Option<Uuid>, LogError> {
    let ids = ffi::topic_ids(consumer.client(), &[topic], STEP);
    let ids = ids.map_err(|error| unavailable("the topic's id", &error))?;
    Ok(ids.into_iter().next().flatten())
}

fn is_lost(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Fenced
            | RDKafkaErrorCode::ProducerFenced
            | RDKafkaErrorCode::InvalidProducerEpoch
            | RDKafkaErrorCode::ConcurrentTransactions
    )
}

/// What a write that failed means: a refusal would come again; of all others the next claim settles what became of them,
/// and reading tells.
fn not_appended(error: &KafkaError) -> LogError {
    match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::InvalidMessageSize,
        ) => unavailable("write to the topic", error),
        _ => LogError::Superseded(error.to_string()),
    }
}
