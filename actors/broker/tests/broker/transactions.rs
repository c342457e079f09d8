//! Transactions: hidden until committed, hidden for ever when aborted, one producer at a time.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::support::{PATIENCE, Server, eventually};

const COMMITTED: [(&str, &str); 1] = [("isolation.level", "read_committed")];

fn transactional(server: &Server, settings: &[(&str, &str)]) -> FutureProducer {
    let mut all = vec![("transactional.id", "txn")];
    all.extend_from_slice(settings);
    let producer = server.producer(&all);
    producer.init_transactions(PATIENCE).unwrap();
    producer
}

fn committed(server: &Server, topic: &str) -> Vec<String> {
    let all = server.read_with(&COMMITTED, (topic, 0), Offset::Beginning);
    all.into_iter().map(|(_, payload)| payload).collect()
}

#[test]
fn only_committed_records_are_seen_by_readers_of_committed_data() {
    let server = Server::start();
    let producer = transactional(&server, &[]);
    producer.begin_transaction().unwrap();
    server.send(&producer, ("t", 0), &["a", "b"]);
    assert!(committed(&server, "t").is_empty(), "an open transaction is hidden");
    producer.commit_transaction(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    server.send(&producer, ("t", 0), &["never"]);
    producer.abort_transaction(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    server.send(&producer, ("t", 0), &["c"]);
    producer.commit_transaction(PATIENCE).unwrap();
    assert_eq!(committed(&server, "t"), ["a", "b", "c"]);
    let all = [("isolation.level", "read_uncommitted")];
    assert_eq!(server.read_with(&all, ("t", 0), Offset::Beginning).len(), 4);
    drop(producer);
    let server = server.restart();
    assert_eq!(committed(&server, "t"), ["a", "b", "c"], "after a restart");
}

#[test]
fn a_newer_producer_fences_the_older_and_aborts_its_transaction() {
    let server = Server::start();
    let older = transactional(&server, &[]);
    older.begin_transaction().unwrap();
    server.send(&older, ("t", 0), &["lost"]);
    let newer = transactional(&server, &[]);
    assert!(older.commit_transaction(PATIENCE).is_err());
    newer.begin_transaction().unwrap();
    server.send(&newer, ("t", 0), &["kept"]);
    newer.commit_transaction(PATIENCE).unwrap();
    assert_eq!(committed(&server, "t"), ["kept"]);
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted() {
    let server = Server::start();
    let slow = transactional(&server, &[("transaction.timeout.ms", "1000")]);
    slow.begin_transaction().unwrap();
    server.send(&slow, ("t", 0), &["lost"]);
    let other = server.producer(&[]);
    server.send(&other, ("t", 0), &["kept"]);
    eventually("the transaction no longer holds readers back", || (committed(&server, "t") == ["kept"]).then_some(()));
    assert!(slow.commit_transaction(PATIENCE).is_err());
}

fn position(consumer: &BaseConsumer) -> Offset {
    let mut list = TopicPartitionList::new();
    list.add_partition("in", 0);
    let committed = consumer.committed_offsets(list, PATIENCE).unwrap();
    committed.elements()[0].offset()
}

#[test]
fn offsets_are_committed_with_their_transaction() {
    let server = Server::start();
    let feeder = server.producer(&[]);
    server.send(&feeder, ("in", 0), &["a", "b", "c"]);
    let consumer = server.consumer("g", &COMMITTED);
    consumer.subscribe(&["in"]).unwrap();
    let producer = transactional(&server, &[]);
    let step = |is_kept: bool| {
        let polled = eventually("a record", || consumer.poll(Duration::from_millis(100)));
        let offset = polled.unwrap().offset();
        producer.begin_transaction().unwrap();
        server.send(&producer, ("out", 0), &[if is_kept { "kept" } else { "lost" }]);
        let mut next = TopicPartitionList::new();
        next.add_partition_offset("in", 0, Offset::Offset(offset + 1)).unwrap();
        let group = consumer.group_metadata().unwrap();
        producer.send_offsets_to_transaction(&next, &group, PATIENCE).unwrap();
        if is_kept {
            producer.commit_transaction(PATIENCE).unwrap();
        } else {
            producer.abort_transaction(PATIENCE).unwrap();
        }
    };
    step(true);
    assert_eq!(position(&consumer), Offset::Offset(1));
    step(false);
    assert_eq!(position(&consumer), Offset::Offset(1));
    step(true);
    assert_eq!(position(&consumer), Offset::Offset(3));
    assert_eq!(committed(&server, "out"), ["kept", "kept"]);
}
