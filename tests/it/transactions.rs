//! Read-process-write in transactions with aborts and dying producers: what is committed is exactly the input.
//!
//! `STREAMWARD_TRANSACTIONS` sets the number of transactions, `STREAMWARD_SEED` repeats a run.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use streamward_core::corpus::SplitMix64;

use crate::support::{number, server::Node, wait::PATIENCE};

const WORKERS: i32 = 4;
/// Most records of one transaction; the mean is two.
const MAX_RECORDS: usize = 3;
const POLL: Duration = Duration::from_millis(100);

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Commit,
    Abort,
    /// The producer and its consumer are gone in the middle.
    Death,
}

struct Worker {
    bootstrap: String,
    partition: i32,
    records: i64,
    random: SplitMix64,
}

/// Ended transactions of all workers.
#[derive(Default)]
struct Ended {
    committed: AtomicU64,
    aborted: AtomicU64,
    dead: AtomicU64,
}

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

impl Worker {
    /// Clients as a process that starts has them: the producer fences the one before, the consumer goes on at what
    /// is committed, which must be `position`.
    fn clients(&self, position: i64) -> (BaseProducer, BaseConsumer) {
        let producer: BaseProducer = client(&self.bootstrap)
            .set("transactional.id", format!("worker-{}", self.partition))
            .set("linger.ms", "0")
            .create()
            .unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        let consumer: BaseConsumer =
            client(&self.bootstrap).set("group.id", "workers").set("enable.auto.commit", "false").create().unwrap();
        assert_eq!(self.committed(&consumer), position, "a producer that died has committed nothing");
        self.assign(&consumer, position);
        (producer, consumer)
    }

    /// The group's position in the input.
    fn committed(&self, consumer: &BaseConsumer) -> i64 {
        let mut list = TopicPartitionList::new();
        list.add_partition("in", self.partition);
        let committed = consumer.committed_offsets(list, PATIENCE).unwrap();
        match committed.elements()[0].offset() {
            Offset::Offset(offset) => offset,
            _ => 0,
        }
    }

    /// How many records a reader of committed data sees in this worker's part of the output.
    fn seen(&self) -> usize {
        committed(&self.bootstrap, &[self.partition]).remove(&self.partition).map_or(0, |values| values.len())
    }

    fn assign(&self, consumer: &BaseConsumer, position: i64) {
        consumer.assign(&self.at(position)).unwrap();
    }

    fn at(&self, offset: i64) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("in", self.partition, Offset::Offset(offset)).unwrap();
        list
    }

    fn end(&mut self) -> End {
        match self.random.below(100) {
            0..2 => End::Death,
            2..12 => End::Abort,
            _ => End::Commit,
        }
    }

    /// Copies the partition from `in` to `out`.
    fn run(mut self, ended: &Ended) {
        let (mut producer, mut consumer) = self.clients(0);
        let mut position = 0;
        while position < self.records {
            producer.begin_transaction().unwrap();
            let wanted = 1 + self.random.below(MAX_RECORDS);
            let next = self.copy(&producer, &consumer, (position, wanted));
            let group = consumer.group_metadata().unwrap();
            producer.send_offsets_to_transaction(&self.at(next), &group, PATIENCE).unwrap();
            match self.end() {
                End::Commit => {
                    acknowledged(&producer);
                    producer.commit_transaction(PATIENCE).unwrap();
                    ended.committed.fetch_add(1, Ordering::Relaxed);
                    position = next;
                }
                End::Abort => {
                    acknowledged(&producer);
                    assert_eq!(self.seen(), usize::try_from(position).unwrap(), "an open transaction is hidden");
                    producer.abort_transaction(PATIENCE).unwrap();
                    ended.aborted.fetch_add(1, Ordering::Relaxed);
                    assert_eq!(self.committed(&consumer), position, "an abort commits nothing");
                    self.assign(&consumer, position);
                }
                End::Death => {
                    drop((producer, consumer));
                    ended.dead.fetch_add(1, Ordering::Relaxed);
                    (producer, consumer) = self.clients(position);
                    assert_eq!(self.seen(), usize::try_from(position).unwrap(), "nor is anything of it seen");
                }
            }
        }
        assert_eq!(self.committed(&consumer), self.records);
    }

    /// Copies up to `wanted` records; the offset behind the last.
    fn copy(&self, producer: &BaseProducer, consumer: &BaseConsumer, (from, wanted): (i64, usize)) -> i64 {
        let mut next = from;
        let upto = self.records.min(from + i64::try_from(wanted).unwrap());
        while next < upto {
            let Some(message) = consumer.poll(POLL) else { continue };
            let message = message.unwrap();
            // What the client fetched before it was sent back may still come.
            if message.offset() != next {
                assert!(message.offset() > next, "the consumer goes on where it was set");
                self.assign(consumer, next);
                continue;
            }
            let record: BaseRecord<'_, (), [u8]> = BaseRecord::to("out").payload(message.payload().unwrap());
            producer.send(record.partition(self.partition)).map_err(|(error, _)| error).unwrap();
            next += 1;
        }
        next
    }
}

fn acknowledged(producer: &BaseProducer) {
    while producer.in_flight_count() > 0 {
        producer.poll(Duration::from_millis(10));
    }
}

fn fill(bootstrap: &str, records: i64) {
    let producer: BaseProducer = client(bootstrap).set("enable.idempotence", "true").create().unwrap();
    for partition in 0..WORKERS {
        for id in 0..records {
            let value = format!("{partition}-{id}");
            let record: BaseRecord<'_, (), str> = BaseRecord::to("in").payload(value.as_str());
            producer.send(record.partition(partition)).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    }
}

/// Values of these partitions of `out` as a reader of committed data sees them now.
fn committed(bootstrap: &str, partitions: &[i32]) -> BTreeMap<i32, Vec<String>> {
    let consumer: BaseConsumer = client(bootstrap)
        .set("group.id", "reader")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "10")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition_offset("out", *partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut found, mut ends) = (BTreeMap::<i32, Vec<String>>::new(), 0);
    while ends < partitions.len() {
        match consumer.poll(PATIENCE).expect("records or the end arrive") {
            Ok(message) => {
                let value = String::from_utf8(message.payload().unwrap().to_vec()).unwrap();
                found.entry(message.partition()).or_default().push(value);
            }
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => ends += 1,
            Err(error) => panic!("{error}"),
        }
    }
    found
}

#[actix_rt::test]
async fn committed_output_is_exactly_the_input_whatever_aborts_and_dies() {
    let transactions = number("STREAMWARD_TRANSACTIONS", 400);
    let seed = number("STREAMWARD_SEED", 7);
    eprintln!("seed {seed}, {transactions} transactions");
    let server = Node::new().set("kafka.embedded.default_partitions", &WORKERS.to_string()).start().await;
    let bootstrap = server.kafka().to_owned();
    let records = i64::try_from(transactions / 2).unwrap();
    let ended = Ended::default();
    #[expect(clippy::disallowed_methods, reason = "the test waits for it")]
    let (output, ended) = actix_web::web::block(move || {
        fill(&bootstrap, records);
        std::thread::scope(|scope| {
            for partition in 0..WORKERS {
                let random = SplitMix64::new(seed + u64::try_from(partition).unwrap());
                let worker = Worker { bootstrap: bootstrap.clone(), partition, records, random };
                let ended = &ended;
                scope.spawn(move || worker.run(ended));
            }
        });
        (committed(&bootstrap, &Vec::from_iter(0..WORKERS)), ended)
    })
    .await
    .unwrap();
    for partition in 0..WORKERS {
        let expected: Vec<String> = (0..records).map(|id| format!("{partition}-{id}")).collect();
        assert_eq!(output.get(&partition), Some(&expected));
    }
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (committed, aborted, dead) = (count(&ended.committed), count(&ended.aborted), count(&ended.dead));
    eprintln!("{committed} committed, {aborted} aborted, {dead} dead");
    assert!(aborted > 0 && dead > 0 && committed + aborted + dead >= transactions * 9 / 10);
}
