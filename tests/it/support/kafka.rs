//! Clients of the embedded broker that know nothing of Streamward.

use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::RDKafkaErrorCode,
    message::{DeliveryResult, Header, Headers, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
};

use super::wait::{self, PATIENCE};

/// A record to send; `id` is the test's own name for it.
#[derive(Default)]
pub struct Outgoing<'a> {
    pub id: u64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// What the producer says is the time; the client's clock unless given.
    pub timestamp_ms: Option<i64>,
}

/// What the broker said of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acked {
    pub partition: i32,
    pub offset: i64,
    pub id: u64,
}

#[derive(Default)]
struct Ledger {
    acked: Mutex<Vec<Acked>>,
    refused: Mutex<Vec<String>>,
}

struct Context(Arc<Ledger>);

impl ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, id: usize) {
        match result {
            Ok(message) => {
                self.0.acked.lock().push(Acked {
                    partition: message.partition(),
                    offset: message.offset(),
                    id: id as u64,
                });
            }
            Err((error, _)) => self.0.refused.lock().push(format!("record {id}: {error}")),
        }
    }
}

/// An idempotent producer that keeps its own list of what was acknowledged.
pub struct Producer {
    producer: ThreadedProducer<Context>,
    ledger: Arc<Ledger>,
}

impl Producer {
    /// A producer that keeps trying for as long as a test waits.
    pub fn connect(bootstrap: &str) -> Self {
        Self::connect_with(bootstrap, &[])
    }

    /// As [`Self::connect`], with further settings of the client.
    pub fn connect_with(bootstrap: &str, settings: &[(&str, &str)]) -> Self {
        let ledger = Arc::new(Ledger::default());
        let mut config = ClientConfig::new();
        config.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let producer = config
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "5")
            .set("message.max.bytes", "16000000")
            .set("message.timeout.ms", PATIENCE.as_millis().to_string())
            .set("reconnect.backoff.max.ms", "500")
            .create_with_context(Context(ledger.clone()))
            .unwrap();
        Self { producer, ledger }
    }

    /// Hands a record to the client; the broker's answer comes later.
    pub fn send(&self, topic: &str, record: &Outgoing<'_>) {
        let id = usize::try_from(record.id).unwrap();
        let mut outgoing = BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, id);
        outgoing.key = record.key;
        outgoing.payload = record.value;
        outgoing.timestamp = record.timestamp_ms;
        let headers = record
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: value.as_deref() }));
        if let Err((error, _)) = self.producer.send(outgoing.headers(headers)) {
            panic!("record {id}: {error}");
        }
    }

    /// Everything acknowledged so far.
    pub fn acked(&self) -> Vec<Acked> {
        self.ledger.acked.lock().clone()
    }

    /// Waits for all answers and returns what was acknowledged; asserts that nothing was refused.
    pub fn finish(&self) -> Vec<Acked> {
        self.producer.flush(PATIENCE).unwrap();
        assert_eq!(*self.ledger.refused.lock(), Vec::<String>::new());
        self.acked()
    }
}

/// A record as a consumer sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Incoming {
    /// A header's value as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        std::str::from_utf8(value.as_ref()?).ok()
    }
}

/// Everything that a topic's partition 0 holds now.
pub fn read_all(bootstrap: &str, topic: &str) -> Vec<Incoming> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let (low, high) = consumer.fetch_watermarks(topic, 0, PATIENCE).unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(low)).unwrap();
    consumer.assign(&list).unwrap();
    let mut records: Vec<Incoming> = Vec::new();
    while records.last().map_or(low, |record| record.offset + 1) < high {
        let message = consumer.poll(PATIENCE).expect("the records below the log end arrive").unwrap();
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        records.push(Incoming {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect(),
        });
    }
    records
}

/// Deletes the records of a partition below an offset.
pub async fn delete_records(bootstrap: &str, topic: &str, (partition, below): (i32, i64)) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(below)).unwrap();
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
    let deleted = admin.delete_records(&list, &options).await.unwrap();
    assert!(deleted.elements().iter().all(|element| element.error().is_ok()), "{deleted:?}");
}

/// Deletes a topic and makes it anew with that many partitions.
pub async fn make_anew(bootstrap: &str, topic: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
    match &admin.delete_topics(&[topic], &options).await.unwrap()[0] {
        Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
        Err((_, error)) => panic!("delete {topic}: {error}"),
    }
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    // A cluster deletes in the background.
    wait::until("the topic is made", async || match &admin.create_topics([&new], &options).await.unwrap()[0] {
        Ok(_) => Ok(()),
        Err((_, error)) => Err(error.to_string()),
    })
    .await;
}
