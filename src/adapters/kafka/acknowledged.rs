//! A producer whose acknowledgements a thread of its own hands to those who wait for them.
//!
//! rust-rdkafka's `FutureProducer` is the same with polls of 100 ms, each of which ends in a busy wait: what is left of
//! its time below a millisecond is nothing to librdkafka. That is 1 % of a core for a producer that has nothing to do.
//! Here polls are long: acknowledgements are handled as they come, so that only the end of the thread is late.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext, Message,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::OwnedHeaders,
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext},
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{
    ffi::add_header,
    log_line,
    producer::{Outgoing, Placed},
};

/// Length of one poll; also how long the client may outlive its last user.
const POLL: Duration = Duration::from_secs(5);
/// Wait for room in the client's queue.
const QUEUE_FULL: Duration = Duration::from_millis(100);

type Answer = oneshot::Sender<Result<Placed, KafkaError>>;

/// Clones are the same producer.
#[derive(Clone)]
pub(super) struct Acknowledged(Arc<Polled>);

struct Polled {
    producer: Arc<BaseProducer<Quiet>>,
    is_over: Arc<AtomicBool>,
}

impl Drop for Polled {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Keeps what the cluster said to the producer's user and password.
#[derive(Default)]
struct Quiet {
    refusal: Mutex<Option<String>>,
}

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka producer");
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Authentication) {
            *self.refusal.lock() = Some(reason.to_owned());
        }
    }
}

impl ProducerContext for Quiet {
    type DeliveryOpaque = Box<Answer>;

    fn delivery(&self, result: &DeliveryResult<'_>, answer: Self::DeliveryOpaque) {
        let placed = match result {
            Ok(message) => Ok(Placed { partition: message.partition(), offset: message.offset() }),
            Err((error, _)) => Err(error.clone()),
        };
        let _nobody_waits = answer.send(placed);
    }
}

impl Acknowledged {
    /// Starts the client and its thread.
    ///
    /// # Errors
    /// If a setting is refused, or the system has no thread.
    pub fn create(config: &ClientConfig) -> Result<Self, KafkaError> {
        let producer: Arc<BaseProducer<Quiet>> = Arc::new(config.create_with_context(Quiet::default())?);
        let is_over = Arc::new(AtomicBool::new(false));
        let (polled, ends) = (producer.clone(), is_over.clone());
        let run = move || {
            while !ends.load(Ordering::Relaxed) {
                polled.poll(POLL);
            }
        };
        #[expect(clippy::disallowed_methods, reason = "it ends with the producer, and nothing in it panics")]
        let started = thread::Builder::new().name("acknowledgements".to_owned()).spawn(run);
        started.map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(Self(Arc::new(Polled { producer, is_over })))
    }

    /// Queues a record, waiting at most `limit` while the queue is full, and waits for its place in the log.
    ///
    /// # Errors
    /// What the client or the cluster says.
    pub async fn send(&self, outgoing: Outgoing<'_>, limit: Duration) -> Result<Placed, KafkaError> {
        let (answer, placed) = oneshot::channel();
        let mut record = BaseRecord::with_opaque_to(outgoing.topic, Box::new(answer));
        (record.partition, record.key, record.payload) = (outgoing.partition, outgoing.key, outgoing.value);
        if !outgoing.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(outgoing.headers.len());
            for (name, value) in &outgoing.headers {
                add_header(&mut headers, name, value.as_deref());
            }
            record = record.headers(headers);
        }
        let until = Instant::now() + limit;
        loop {
            match self.0.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) if Instant::now() < until => {
                    record = back;
                    sleep(QUEUE_FULL).await;
                }
                Err((error, _)) => return Err(error),
            }
        }
        placed.await.unwrap_or(Err(KafkaError::Canceled))
    }

    /// What the cluster said to the client's user and password since the last call.
    pub fn take_refusal(&self) -> Option<String> {
        self.0.producer.context().refusal.lock().take()
    }
}
