//! What administrators are shown of producers, transactions, logs and epochs.

use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{
    ApiKey, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeProducersRequest, DescribeProducersResponse,
    DescribeTransactionsRequest, DescribeTransactionsResponse, ListGroupsRequest, ListGroupsResponse,
    ListTransactionsRequest, ListTransactionsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use rdkafka::producer::Producer;

use crate::raw::Raw;
use crate::support::{PATIENCE, Server};

fn text(words: &'static str) -> StrBytes {
    StrBytes::from_static_str(words)
}

fn listed(raw: &mut Raw, states: &[&'static str]) -> (Vec<String>, usize) {
    let request = ListTransactionsRequest::default().with_state_filters(states.iter().map(|s| text(s)).collect());
    let response: ListTransactionsResponse = raw.ask(ApiKey::ListTransactions, 1, &request);
    let states = response.transaction_states.iter().map(|t| t.transaction_state.to_string()).collect();
    (states, response.unknown_state_filters.len())
}

/// Start of the open transaction of the first producer of `t`.
fn open_since(raw: &mut Raw) -> (i64, i32) {
    let topic = TopicRequest::default().with_name(TopicName(text("t"))).with_partition_indexes(vec![0]);
    let request = DescribeProducersRequest::default().with_topics(vec![topic]);
    let response: DescribeProducersResponse = raw.ask(ApiKey::DescribeProducers, 0, &request);
    let producer = &response.topics[0].partitions[0].active_producers[0];
    (producer.current_txn_start_offset, producer.last_sequence)
}

#[test]
fn a_transaction_is_shown_while_it_is_open_and_when_it_has_ended() {
    let server = Server::start();
    let plain = server.producer(&[]);
    server.send(&plain, ("t", 0), &["before"]);
    let mut raw = Raw::connect(&server);
    let producer = server.producer(&[("transactional.id", "txn")]);
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    server.send(&producer, ("t", 0), &["a", "b"]);
    assert_eq!(listed(&mut raw, &["Ongoing"]), (vec!["Ongoing".to_owned()], 0));
    assert_eq!(open_since(&mut raw), (1, 1));
    let ids = ["txn", "unknown"].map(|id| TransactionalId(text(id)));
    let request = DescribeTransactionsRequest::default().with_transactional_ids(ids.to_vec());
    let response: DescribeTransactionsResponse = raw.ask(ApiKey::DescribeTransactions, 0, &request);
    let [described, unknown] = &response.transaction_states[..] else { panic!("{response:?}") };
    assert_eq!(described.topics[0].partitions, [0]);
    assert!(described.transaction_start_time_ms > 0);
    assert_eq!(unknown.error_code, 105);
    producer.commit_transaction(PATIENCE).unwrap();
    assert_eq!(listed(&mut raw, &[]), (vec!["CompleteCommit".to_owned()], 0));
    assert_eq!(listed(&mut raw, &["Ongoing", "Nonsense"]), (vec![], 1));
    assert_eq!(open_since(&mut raw), (-1, 1));
}

#[test]
fn the_logs_and_the_only_epoch_are_described() {
    let server = Server::start();
    let producer = server.producer(&[]);
    server.send(&producer, ("t", 0), &["a", "b"]);
    let mut raw = Raw::connect(&server);
    let request = DescribeLogDirsRequest::default().with_topics(None);
    let response: DescribeLogDirsResponse = raw.ask(ApiKey::DescribeLogDirs, 4, &request);
    let size = response.results[0].topics[0].partitions[0].partition_size;
    assert_eq!(u64::try_from(size), Ok(server.broker.stats().log_bytes));

    let epoch = |leader_epoch, current| {
        OffsetForLeaderPartition::default().with_leader_epoch(leader_epoch).with_current_leader_epoch(current)
    };
    let topic = OffsetForLeaderTopic::default().with_topic(TopicName(text("t"))).with_partitions(vec![
        epoch(0, -1),
        epoch(1, 0),
        epoch(0, 1),
    ]);
    let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
    let response: OffsetForLeaderEpochResponse = raw.ask(ApiKey::OffsetForLeaderEpoch, 4, &request);
    let ends: Vec<_> = response.topics[0].partitions.iter().map(|p| (p.error_code, p.end_offset)).collect();
    assert_eq!(ends, [(0, 2), (0, -1), (75, -1)]);
}

#[test]
fn groups_are_listed_by_their_type() {
    let server = Server::start();
    let consumer = server.consumer("g", &[]);
    let producer = server.producer(&[]);
    server.send(&producer, ("t", 0), &["a"]);
    rdkafka::consumer::Consumer::subscribe(&consumer, &["t"]).unwrap();
    crate::support::next(&consumer);
    let mut raw = Raw::connect(&server);
    for (group_type, count) in [("classic", 1), ("consumer", 0)] {
        let request = ListGroupsRequest::default().with_types_filter(vec![text(group_type)]);
        let response: ListGroupsResponse = raw.ask(ApiKey::ListGroups, 5, &request);
        assert_eq!(response.groups.len(), count, "{group_type}");
    }
}
