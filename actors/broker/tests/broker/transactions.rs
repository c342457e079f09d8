//! Transactions: hidden until committed, hidden for ever when aborted, one producer at a time.

use std::time::Duration;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{
    ApiKey, FetchRequest, FetchResponse, InitProducerIdRequest, InitProducerIdResponse, ProducerId, TopicName,
    TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::raw::Raw;
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
fn a_reader_is_told_of_the_aborted_transactions_in_what_it_gets_alone() {
    let server = Server::start();
    let producer = transactional(&server, &[]);
    for _ in 0..5 {
        producer.begin_transaction().unwrap();
        server.send(&producer, ("t", 0), &["never"]);
        producer.abort_transaction(PATIENCE).unwrap();
    }
    let told = |max_bytes| {
        let partition = FetchPartition::default().with_partition_max_bytes(max_bytes);
        let topic = FetchTopic::default()
            .with_topic(TopicName(StrBytes::from_static_str("t")))
            .with_partitions(vec![partition]);
        let request =
            FetchRequest::default().with_max_bytes(max_bytes).with_isolation_level(1).with_topics(vec![topic]);
        let response: FetchResponse = Raw::connect(&server).ask(ApiKey::Fetch, 11, &request);
        response.responses[0].partitions[0].aborted_transactions.as_ref().unwrap().len()
    };
    assert_eq!((told(1), told(100_000)), (1, 5));
}

#[test]
fn a_newer_producer_fences_the_older_and_aborts_its_transaction() {
    let server = Server::start();
    let older = transactional(&server, &[]);
    older.begin_transaction().unwrap();
    server.send(&older, ("t", 0), &["lost"]);
    let newer = transactional(&server, &[]);
    newer.begin_transaction().unwrap();
    server.send(&newer, ("t", 0), &["kept"]);
    let refused = older.commit_transaction(PATIENCE).unwrap_err();
    assert_eq!(refused.rdkafka_error_code(), Some(RDKafkaErrorCode::Fenced), "{refused}");
    assert!(committed(&server, "t").is_empty(), "the older one ends the transaction of the newer");
    newer.commit_transaction(PATIENCE).unwrap();
    assert_eq!(committed(&server, "t"), ["kept"]);
}

/// Error code, id and epoch that a producer gets; `claimed` is who it says it is.
fn init(raw: &mut Raw, claimed: (i64, i16)) -> (i16, (i64, i16)) {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(StrBytes::from_static_str("txn"))))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(ProducerId(claimed.0))
        .with_producer_epoch(claimed.1);
    let response: InitProducerIdResponse = raw.ask(ApiKey::InitProducerId, 4, &request);
    (response.error_code, (response.producer_id.0, response.producer_epoch))
}

#[test]
fn only_the_present_producer_gets_the_next_epoch_and_may_ask_again() {
    const FENCED: i16 = 90;
    let server = Server::start();
    let mut raw = Raw::connect(&server);
    let (_, (id, first)) = init(&mut raw, (-1, -1));
    assert_eq!(init(&mut raw, (id, first)), (0, (id, first + 1)));
    assert_eq!(init(&mut raw, (id, first)), (0, (id, first + 1)), "the answer was lost");
    assert_eq!(init(&mut raw, (-1, -1)), (0, (id, first + 2)), "another producer");
    assert_eq!(init(&mut raw, (id, first + 1)).0, FENCED, "the older one does not come back");
    assert_eq!(init(&mut raw, (id + 1, first + 2)).0, FENCED);
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
