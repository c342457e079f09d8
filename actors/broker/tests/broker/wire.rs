//! Bytes that no client sends: duplicates of idempotent batches, broken and oversized requests.

use std::io::Write;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiKey, DescribeGroupsRequest, DescribeGroupsResponse, FetchRequest, GroupId, JoinGroupRequest, MetadataRequest,
    MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::raw::{Raw, batch, produce};
use crate::support::{Server, next};

#[test]
fn a_repeated_idempotent_batch_is_stored_once_even_across_a_restart() {
    let server = Server::start_with(|c| c.segment_bytes = 1_024);
    server.broker.ensure_topic("t", 1, &[]).unwrap();
    let mut raw = Raw::connect(&server);
    for sequence in 0..40 {
        assert_eq!(produce(&mut raw, batch(0, sequence)), (0, i64::from(sequence)));
    }
    assert_eq!(produce(&mut raw, batch(0, 39)), (0, 39));
    let server = server.restart();
    let mut raw = Raw::connect(&server);
    assert_eq!(produce(&mut raw, batch(0, 39)), (0, 39));
    assert_eq!(produce(&mut raw, batch(0, 36)), (0, 36));
    assert_eq!(produce(&mut raw, batch(0, 41)), (45, -1), "a gap");
    assert_eq!(produce(&mut raw, batch(1, 0)), (0, 40), "a new epoch");
    assert_eq!(produce(&mut raw, batch(0, 40)), (47, -1), "the old epoch");
    assert_eq!(server.read("t", 0).len(), 41);
}

#[test]
fn a_batch_with_a_wrong_checksum_is_refused_and_not_stored() {
    let server = Server::start();
    server.broker.ensure_topic("t", 1, &[]).unwrap();
    let mut raw = Raw::connect(&server);
    let mut bytes = batch(0, 0).to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(produce(&mut raw, bytes.into()), (2, -1));
    assert_eq!(produce(&mut raw, batch(0, 0)), (0, 0));
}

#[test]
fn a_broken_request_ends_its_connection_alone() {
    let server = Server::start();
    let mut healthy = Raw::connect(&server);
    server.broker.ensure_topic("t", 1, &[]).unwrap();
    let garbage: [&[u8]; 6] = [
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff",
        // The beginning of Metadata of 2 MiB.
        b"\x00\x20\x00\x00\x00\x03",
        b"\x00\x00\x00\x02\x00\x00",
        b"\x00\x00\x00\x0a\x7f\x7f\x00\x00\x00\x00\x00\x01\xff\xff",
        // Metadata v1 that claims 2^31 - 1 topics.
        b"\x00\x00\x00\x0e\x00\x03\x00\x01\x00\x00\x00\x01\xff\xff\x7f\xff\xff\xff",
    ];
    for bytes in garbage {
        let mut raw = Raw::connect(&server);
        raw.0.write_all(bytes).unwrap();
        assert!(raw.is_closed(), "{bytes:x?}");
    }
    assert_eq!(produce(&mut healthy, batch(0, 0)), (0, 0));
}

#[test]
fn a_compact_array_cannot_claim_more_than_the_request_holds() {
    let server = Server::start();
    let mut raw = Raw::connect(&server);
    // Metadata v9 (compact) with a topic count of 2^32 - 2.
    raw.0.write_all(b"\x00\x00\x00\x10\x00\x03\x00\x09\x00\x00\x00\x01\xff\xff\x00\xff\xff\xff\xff\x0f").unwrap();
    assert!(raw.is_closed());
}

#[test]
fn what_a_request_names_again_and_again_is_answered_once() {
    let server = Server::start();
    server.broker.ensure_topic("t", 3, &[]).unwrap();
    let mut raw = Raw::connect(&server);
    let topic = MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_static_str("t"))));
    let request = MetadataRequest::default().with_topics(Some(vec![topic; 100]));
    let response: MetadataResponse = raw.ask(ApiKey::Metadata, 9, &request);
    assert_eq!(response.topics.len(), 1);
    let request = DescribeGroupsRequest::default().with_groups(vec![GroupId::default(); 100]);
    let response: DescribeGroupsResponse = raw.ask(ApiKey::DescribeGroups, 5, &request);
    assert_eq!(response.groups.len(), 1);
}

#[test]
fn a_member_whose_client_goes_while_it_waits_does_not_hold_up_the_group() {
    let server = Server::start();
    let producer = server.producer(&[]);
    server.send(&producer, ("t", 0), &["x"]);
    let mut raw = Raw::connect(&server);
    let protocol = kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol::default()
        .with_name(StrBytes::from_static_str("range"));
    let request = JoinGroupRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("g")))
        .with_session_timeout_ms(300_000)
        .with_rebalance_timeout_ms(300_000)
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![protocol]);
    raw.send(ApiKey::JoinGroup, 3, &request);
    drop(raw);
    let consumer = server.consumer("g", &[]);
    rdkafka::consumer::Consumer::subscribe(&consumer, &["t"]).unwrap();
    next(&consumer);
}

#[test]
fn a_fetch_that_waits_ends_with_its_client() {
    let server = Server::start();
    server.broker.ensure_topic("t", 1, &[]).unwrap();
    let mut raw = Raw::connect(&server);
    let partition = kafka_protocol::messages::fetch_request::FetchPartition::default().with_partition_max_bytes(1_000);
    let topic = kafka_protocol::messages::fetch_request::FetchTopic::default()
        .with_topic(TopicName(StrBytes::from_static_str("t")))
        .with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_max_wait_ms(60_000)
        .with_min_bytes(1)
        .with_max_bytes(1_000)
        .with_topics(vec![topic]);
    raw.send(ApiKey::Fetch, 11, &request);
    crate::support::eventually("the connection is served", || (server.broker.stats().bytes_in > 0).then_some(()));
    drop(raw);
    crate::support::eventually("the connection has ended", || (server.broker.stats().connections == 0).then_some(()));
}
