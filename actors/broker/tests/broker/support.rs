//! A broker on port 0 in its own folder, and clients for it.

use std::path::Path;
use std::time::{Duration, Instant};

use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use streamward_broker::{Broker, BrokerConfig};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// How long a test waits for a state before it fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A broker that serves; its folder goes with it.
pub struct Server {
    pub broker: Broker,
    pub address: String,
    pub runtime: Runtime,
    stop: oneshot::Sender<()>,
    dir: TempDir,
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub fn start_with(change: impl FnOnce(&mut BrokerConfig)) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), change)
    }

    fn start_in(dir: TempDir, change: impl FnOnce(&mut BrokerConfig)) -> Self {
        let mut config = BrokerConfig::new(dir.path());
        change(&mut config);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let broker = Broker::open(config).unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = broker.clone();
        #[expect(clippy::disallowed_methods, reason = "the test's server ends with its runtime")]
        runtime.handle().spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            serving.serve(listener, stopped).await.unwrap();
        });
        Self { broker, address, runtime, stop, dir }
    }

    /// Ends all at once, as a crash would, without closing the broker.
    pub fn crash(self) -> TempDir {
        drop(self.runtime);
        drop(self.stop);
        self.dir
    }

    /// A crash and a start in the same folder.
    pub fn restart(self) -> Self {
        self.restart_with(|_| {}, |_| {})
    }

    /// A crash, a change to the folder, and a start in it.
    pub fn restart_with(self, damage: impl FnOnce(&Path), change: impl FnOnce(&mut BrokerConfig)) -> Self {
        let dir = self.crash();
        damage(dir.path());
        Self::start_in(dir, change)
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address);
        config
    }

    pub fn producer(&self, settings: &[(&str, &str)]) -> FutureProducer {
        with(self.client(), settings).create().unwrap()
    }

    pub fn consumer(&self, group: &str, settings: &[(&str, &str)]) -> BaseConsumer {
        let mut config = self.client();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "100");
        with(config, settings).create().unwrap()
    }

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    /// Sends payloads to a partition one after the other; the offsets they got.
    pub fn send(&self, producer: &FutureProducer, to: (&str, i32), payloads: &[&str]) -> Vec<i64> {
        let send = |payload: &&str| {
            let record = FutureRecord::<(), str>::to(to.0).partition(to.1).payload(*payload);
            producer.send_result(record).map_err(|e| e.0).unwrap()
        };
        let sent: Vec<_> = payloads.iter().map(send).collect();
        let delivered = sent.into_iter().map(|future| {
            let delivery = self.runtime.block_on(future).unwrap();
            delivery.map_err(|e| e.0).unwrap().offset
        });
        delivered.collect()
    }

    /// The payloads of a partition from an offset to its end.
    pub fn read_from(&self, topic: &str, partition: i32, from: Offset) -> Vec<(i64, String)> {
        self.read_with(&[], (topic, partition), from)
    }

    pub fn read_with(&self, settings: &[(&str, &str)], at: (&str, i32), from: Offset) -> Vec<(i64, String)> {
        let mut settings = settings.to_vec();
        settings.push(("enable.partition.eof", "true"));
        let consumer = self.consumer("reader", &settings);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(at.0, at.1, from).unwrap();
        consumer.assign(&list).unwrap();
        let mut found = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "no end of {at:?}");
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(m)) => found.push((m.offset(), text(m.payload()))),
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => return found,
                Some(Err(e)) => panic!("{e}"),
                None => {}
            }
        }
    }

    pub fn read(&self, topic: &str, partition: i32) -> Vec<String> {
        let all = self.read_from(topic, partition, Offset::Beginning);
        all.into_iter().map(|(_, payload)| payload).collect()
    }
}

pub fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8(bytes.unwrap().to_vec()).unwrap()
}

fn with(mut config: ClientConfig, settings: &[(&str, &str)]) -> ClientConfig {
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config
}

/// Waits until a value is there.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

/// Polls consumers in turn until `done` says so.
pub fn poll_until(consumers: &[&BaseConsumer], what: &str, mut done: impl FnMut() -> bool) {
    eventually(what, || {
        for consumer in consumers {
            if let Some(Err(e)) = consumer.poll(Duration::from_millis(10)) {
                panic!("{e}");
            }
        }
        done().then_some(())
    });
}

/// The next record that a consumer gets.
pub fn next(consumer: &BaseConsumer) -> BorrowedMessage<'_> {
    let polled = eventually("a record", || consumer.poll(Duration::from_millis(100)));
    polled.unwrap()
}
