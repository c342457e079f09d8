//! What a case is given: a broker's address, names that nobody else uses, clients, and waiting for a state.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Message, OwnedMessage, ToBytes};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::runtime::Runtime;

/// How long a state may take to come.
pub const PATIENCE: Duration = Duration::from_secs(30);

static NAMES: AtomicU64 = AtomicU64::new(0);

pub struct Env {
    pub address: String,
    label: String,
    pub runtime: Runtime,
}

impl Env {
    pub fn new(address: String, case: &str) -> Self {
        let label = case.replace('/', "-");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { address, label, runtime }
    }

    /// A name for a topic, a group or a transactional id.
    pub fn name(&self) -> String {
        let number = NAMES.fetch_add(1, Ordering::Relaxed);
        format!("{}-rust-{}-{}-{number}", self.label, std::process::id(), now_ms())
    }

    pub fn client(&self, settings: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address);
        config.set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
        settings.iter().for_each(|(key, value)| _ = config.set(*key, *value));
        config
    }

    pub fn producer(&self, settings: &[(&str, &str)]) -> FutureProducer {
        self.client(settings).create().unwrap()
    }

    /// A producer that has a transactional id and has begun nothing yet.
    pub fn transactional(&self, id: &str, settings: &[(&str, &str)]) -> KafkaResult<FutureProducer> {
        let producer = self.producer(&[settings, &[("transactional.id", id)]].concat());
        producer.init_transactions(PATIENCE)?;
        Ok(producer)
    }

    /// A consumer that commits only when told to and begins at the earliest record.
    pub fn consumer(&self, group: &str, settings: &[(&str, &str)]) -> BaseConsumer {
        let own = [("group.id", group), ("enable.auto.commit", "false"), ("auto.offset.reset", "earliest")];
        self.client(&[&own, settings].concat()).create().unwrap()
    }

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client(&[]).create().unwrap()
    }

    /// Creates a topic and waits until each of its partitions answers.
    pub fn topic(&self, partitions: i32, configs: &[(&str, &str)]) -> String {
        let name = self.name();
        self.create(&name, partitions, configs).unwrap();
        let consumer = self.consumer("none", &[]);
        for partition in 0..partitions {
            eventually("a partition that answers", || consumer.fetch_watermarks(&name, partition, PATIENCE).is_ok());
        }
        name
    }

    /// # Errors
    /// What the broker says about the topic.
    pub fn create(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<(), RDKafkaErrorCode> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in configs {
            topic = topic.set(key, value);
        }
        let created = self.runtime.block_on(self.admin().create_topics(&[topic], &AdminOptions::new()));
        created.unwrap().remove(0).map(drop).map_err(|(_, code)| code)
    }

    /// Sends one record and waits for its offset.
    pub fn send<P: ToBytes + ?Sized>(&self, to: &FutureProducer, record: FutureRecord<'_, str, P>) -> KafkaResult<i64> {
        let sent = to.send_result(record).map_err(|(error, _)| error)?;
        self.runtime.block_on(sent).unwrap().map(|delivery| delivery.offset).map_err(|(error, _)| error)
    }

    /// Sends texts to a partition one after the other.
    pub fn send_texts<'a>(
        &self,
        producer: &FutureProducer,
        to: (&'a str, i32),
        texts: &[&'a str],
    ) -> KafkaResult<Vec<i64>> {
        let record = |text: &'a str| FutureRecord::to(to.0).partition(to.1).payload(text);
        texts.iter().map(|text| self.send(producer, record(text))).collect()
    }

    pub fn fill(&self, topic: &str, partition: i32, texts: &[&str]) -> Vec<i64> {
        self.send_texts(&self.producer(&[]), (topic, partition), texts).unwrap()
    }

    /// All records of a topic up to the ends that a consumer with these settings is told.
    pub fn read_all(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) -> Vec<OwnedMessage> {
        let consumer = self.consumer("none", &[settings, &[("enable.partition.eof", "true")]].concat());
        consumer.assign(&all_of(topic, partitions, Offset::Beginning)).unwrap();
        let (mut found, mut ended) = (Vec::new(), Vec::new());
        let deadline = Instant::now() + PATIENCE;
        while ended.len() < usize::try_from(partitions).unwrap() {
            assert!(Instant::now() < deadline, "{topic} was not read to its end");
            match consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => found.push(message.detach()),
                Some(Err(KafkaError::PartitionEOF(partition))) if !ended.contains(&partition) => ended.push(partition),
                Some(Err(KafkaError::PartitionEOF(_))) | None => {}
                Some(Err(error)) => panic!("{error}"),
            }
        }
        found.sort_by_key(|message| (message.partition(), message.offset()));
        found
    }

    pub fn values(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) -> Vec<String> {
        self.read_all(topic, partitions, settings).iter().map(value).collect()
    }
}

pub fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Young enough for every retention.
pub fn an_hour_ago() -> i64 {
    now_ms() - 3_600_000
}

pub fn value<M: Message>(message: &M) -> String {
    String::from_utf8(message.payload().unwrap().to_vec()).unwrap()
}

pub fn all_of(topic: &str, partitions: i32, at: Offset) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    (0..partitions).for_each(|partition| list.add_partition_offset(topic, partition, at).unwrap());
    list
}

/// The next records of a consumer.
pub fn read(consumer: &BaseConsumer, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while found.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} records", found.len());
        if let Some(message) = consumer.poll(Duration::from_millis(200)) {
            found.push(value(&message.unwrap()));
        }
    }
    found
}

/// Waits until a probe answers true.
pub fn eventually(what: &str, mut probe: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE * 2;
    while !probe() {
        assert!(Instant::now() < deadline, "{what} did not come");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The code of an error.
pub fn code<T>(outcome: KafkaResult<T>) -> Option<RDKafkaErrorCode> {
    outcome.err().and_then(|error| error.rdkafka_error_code())
}

/// Texts of consecutive numbers.
pub fn numbers(range: std::ops::Range<i32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

pub fn strs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}
