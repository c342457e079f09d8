//! Clients that measure a broker: librdkafka as it is, counted.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext},
};

use super::{KafkaSettings, QuietContext, log_line};

const TIMEOUT: Duration = Duration::from_secs(60);
/// Wait for an acknowledgement.
const ACKNOWLEDGED: Duration = Duration::from_millis(10);
/// Wait for room in the client's queue.
const QUEUE_FULL: Duration = Duration::from_millis(5);

/// What the client library says.
pub type MeasureError = KafkaError;

/// Counts acknowledgements.
#[derive(Default)]
struct Acknowledged {
    count: AtomicU64,
    failed: AtomicU64,
}

impl ClientContext for Acknowledged {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }
}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() { &self.count } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A producer under measurement.
pub struct MeasuredProducer {
    producer: BaseProducer<Acknowledged>,
}

impl MeasuredProducer {
    /// A client with librdkafka's defaults but for the given settings; with `transactional.id` it is ready to begin.
    ///
    /// # Errors
    /// If a setting is refused, or transactions are.
    pub fn create(kafka: &KafkaSettings, settings: &[(&str, &str)]) -> Result<Self, KafkaError> {
        let mut config = kafka.client("streamward-bench");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        let producer: BaseProducer<Acknowledged> = config.create_with_context(Acknowledged::default())?;
        if config.get("transactional.id").is_some() {
            producer.init_transactions(TIMEOUT)?;
        }
        Ok(Self { producer })
    }

    /// Hands a record to the client, waiting while its queue is full.
    ///
    /// # Errors
    /// If the client refuses it.
    pub fn send(&self, topic: &str, partition: Option<i32>, value: &[u8]) -> Result<(), KafkaError> {
        let mut record: BaseRecord<'_, (), [u8]> = BaseRecord::to(topic).payload(value);
        record.partition = partition;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.producer.poll(QUEUE_FULL);
                    record = back;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// Lets the client report acknowledgements.
    pub fn poll(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Waits for all acknowledgements; how many there were since the start.
    ///
    /// # Errors
    /// If they do not come, or a record was refused.
    pub fn finish(&self) -> Result<u64, KafkaError> {
        self.producer.flush(TIMEOUT)?;
        match self.producer.context().failed.load(Ordering::Relaxed) {
            0 => Ok(self.producer.context().count.load(Ordering::Relaxed)),
            _ => Err(KafkaError::MessageProduction(RDKafkaErrorCode::Fail)),
        }
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// If the broker refuses.
    pub fn begin(&self) -> Result<(), KafkaError> {
        self.producer.begin_transaction()
    }

    /// Commits the transaction once its records are acknowledged.
    ///
    /// # Errors
    /// If the broker refuses.
    pub fn commit(&self) -> Result<(), KafkaError> {
        // The commit itself looks for acknowledgements only every 100 ms.
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(ACKNOWLEDGED);
        }
        self.producer.commit_transaction(TIMEOUT)
    }
}

/// A consumer of some partitions under measurement.
pub struct MeasuredConsumer {
    consumer: BaseConsumer<QuietContext>,
}

impl MeasuredConsumer {
    /// A client that reads partitions from an offset.
    ///
    /// # Errors
    /// If a setting or an assignment is refused.
    pub fn create(kafka: &KafkaSettings, topic: &str, partitions: &[i32], from: Offset) -> Result<Self, KafkaError> {
        let mut config = kafka.client("streamward-bench");
        config.set("group.id", "streamward-bench").set("enable.auto.commit", "false").set("check.crcs", "false");
        let consumer: BaseConsumer<QuietContext> = config.create_with_context(QuietContext)?;
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition_offset(topic, *partition, from)?;
        }
        consumer.assign(&list)?;
        Ok(Self { consumer })
    }

    /// Reads records until `count` were read or the time is up, and shows each to `see`; how many were read.
    ///
    /// # Errors
    /// If the broker refuses.
    pub fn read(&self, count: u64, until: Instant, mut see: impl FnMut(&[u8])) -> Result<u64, KafkaError> {
        let mut read = 0;
        while read < count && Instant::now() < until {
            if let Some(message) = self.consumer.poll(Duration::from_millis(100)) {
                see(message?.payload().unwrap_or_default());
                read += 1;
            }
        }
        Ok(read)
    }
}

/// Where a consumer begins.
pub const FROM_START: Offset = Offset::Beginning;
/// Where a consumer begins that wants what comes.
pub const FROM_END: Offset = Offset::End;
