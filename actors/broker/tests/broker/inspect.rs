//! What administrators are shown of producers, transactions, logs and epochs.

use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::{
    ApiKey, DescribeGroupsRequest, DescribeGroupsResponse, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeProducersRequest, DescribeProducersResponse, DescribeTransactionsRequest, DescribeTransactionsResponse,
    GroupId, ListGroupsRequest, ListGroupsResponse, ListTransactionsRequest, ListTransactionsResponse, MetadataRequest,
    MetadataResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, ProducerId, TopicName, TransactionalId, WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
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
fn an_administrator_ends_a_hanging_transaction() {
    let server = Server::start();
    let producer = server.producer(&[("transactional.id", "txn")]);
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    server.send(&producer, ("t", 0), &["hangs"]);
    let mut raw = Raw::connect(&server);
    let mut abort = |epoch| {
        let topic = WritableTxnMarkerTopic::default().with_name(TopicName(text("t"))).with_partition_indexes(vec![0]);
        let marker = WritableTxnMarker::default()
            .with_producer_id(ProducerId(0))
            .with_producer_epoch(epoch)
            .with_topics(vec![topic]);
        let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
        let response: WriteTxnMarkersResponse = raw.ask(ApiKey::WriteTxnMarkers, 1, &request);
        response.markers[0].topics[0].partitions[0].error_code
    };
    assert_eq!(abort(-1), 47, "an older epoch");
    assert_eq!(abort(0), 0);
    assert_eq!(open_since(&mut raw), (-1, 0));
}

#[test]
fn a_topic_is_described_by_its_id() {
    let server = Server::start();
    server.broker.ensure_topic("t", 2, &[]).unwrap();
    let id: uuid::Uuid = server.broker.topic_id("t").unwrap().parse().unwrap();
    let ask = |id| {
        let topic = MetadataRequestTopic::default().with_topic_id(id).with_name(Some(TopicName(text(""))));
        let request = MetadataRequest::default().with_topics(Some(vec![topic]));
        let response: MetadataResponse = Raw::connect(&server).ask(ApiKey::Metadata, 12, &request);
        let topic = &response.topics[0];
        (topic.error_code, topic.topic_id, topic.name.as_ref().map(|n| n.to_string()), topic.partitions.len())
    };
    assert_eq!(ask(id), (0, id, Some("t".to_owned()), 2));
    let unknown = uuid::Uuid::from_u128(7);
    assert_eq!(ask(unknown), (100, unknown, None, 0));
}

#[test]
fn offsets_of_topics_that_no_member_reads_are_deleted() {
    let server = Server::start();
    let producer = server.producer(&[]);
    let consumer = server.consumer("g", &[]);
    for topic in ["read", "left"] {
        server.send(&producer, (topic, 0), &["a"]);
    }
    rdkafka::consumer::Consumer::subscribe(&consumer, &["read"]).unwrap();
    crate::support::next(&consumer);
    let mut raw = Raw::connect(&server);
    let topic = |name| {
        OffsetDeleteRequestTopic::default()
            .with_name(TopicName(text(name)))
            .with_partitions(vec![OffsetDeleteRequestPartition::default()])
    };
    let request = OffsetDeleteRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_topics(vec![topic("read"), topic("left")]);
    let response: OffsetDeleteResponse = raw.ask(ApiKey::OffsetDelete, 0, &request);
    let codes: Vec<_> = response.topics.iter().map(|t| t.partitions[0].error_code).collect();
    assert_eq!((response.error_code, codes), (0, vec![86, 0]));
    let described = |group: &'static str| {
        let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(group))]);
        let response: DescribeGroupsResponse = Raw::connect(&server).ask(ApiKey::DescribeGroups, 6, &request);
        response.groups[0].error_code
    };
    assert_eq!((described("g"), described("unknown")), (0, 69));
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
