//! Administration: topics, partitions, settings, groups, deleted records.

use std::time::Duration;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{ApiKey, CreateTopicsRequest, CreateTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use rdkafka::admin::{
    AdminOptions, AlterConfig, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::raw::Raw;
use crate::support::{PATIENCE, Server, eventually};

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE))
}

#[test]
fn topics_are_created_described_grown_and_deleted() {
    let server = Server::start();
    let admin = server.admin();
    let new = NewTopic::new("t", 3, TopicReplication::Fixed(1)).set("retention.ms", "12345");
    let created = server.runtime.block_on(admin.create_topics([&new], &options()));
    assert_eq!(created.unwrap(), [Ok("t".to_owned())]);
    let again = server.runtime.block_on(admin.create_topics([&new], &options()));
    assert_eq!(again.unwrap(), [Err(("t".to_owned(), RDKafkaErrorCode::TopicAlreadyExists))]);
    let metadata = admin.inner().fetch_metadata(Some("t"), PATIENCE).unwrap();
    assert_eq!(metadata.topics()[0].partitions().len(), 3);

    let more = NewPartitions::new("t", 5);
    let grown = server.runtime.block_on(admin.create_partitions([&more], &options()));
    assert_eq!(grown.unwrap(), [Ok("t".to_owned())]);
    let metadata = admin.inner().fetch_metadata(Some("t"), PATIENCE).unwrap();
    assert_eq!(metadata.topics()[0].partitions().len(), 5);

    let deleted = server.runtime.block_on(admin.delete_topics(&["t"], &options()));
    assert_eq!(deleted.unwrap(), [Ok("t".to_owned())]);
    let metadata = admin.inner().fetch_metadata(None, PATIENCE).unwrap();
    assert!(metadata.topics().is_empty());
    let left = std::fs::read_dir(server.path().join("topics")).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn partitions_for_which_the_limit_of_open_files_leaves_no_room_are_refused_until_others_go() {
    let server = Server::start_with(|config| config.max_files = 10);
    let made = |name: &str, partitions: i32| server.broker.ensure_topic(name, partitions, &[]);
    made("a", 3).unwrap();
    let refused = made("b", 3).unwrap_err().to_string();
    assert!(refused.contains("hold 6 files and may hold 10") && refused.contains("ulimit -n"), "{refused}");
    made("b", 2).unwrap();
    assert_eq!(streamward_broker::log_files(server.path()).unwrap(), 10);
    assert!(server.broker.room_for(1).is_err());
    let (admin, more) = (server.admin(), NewPartitions::new("b", 3));
    let add = || server.runtime.block_on(admin.create_partitions([&more], &options())).unwrap();
    assert_eq!(add(), [Err(("b".to_owned(), RDKafkaErrorCode::PolicyViolation))]);
    server.runtime.block_on(admin.delete_topics(&["a"], &options())).unwrap();
    assert_eq!(add(), [Ok("b".to_owned())]);
}

#[test]
fn topics_beyond_what_one_request_may_create_are_refused_by_name() {
    let server = Server::start();
    let topic = |n: usize| {
        let name = TopicName(StrBytes::from_string(format!("t{n}")));
        CreatableTopic::default().with_name(name).with_num_partitions(1).with_replication_factor(1)
    };
    let topics = (0..1_001).map(topic).collect();
    let request = CreateTopicsRequest::default().with_validate_only(true).with_topics(topics);
    let response: CreateTopicsResponse = Raw::connect(&server).ask(ApiKey::CreateTopics, 4, &request);
    let codes: Vec<i16> = response.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!((codes.len(), &codes[999..]), (1_001, &[0, 44][..]), "POLICY_VIOLATION");
}

#[test]
fn a_topic_created_again_has_none_of_the_old_records() {
    let server = Server::start();
    let producer = server.producer(&[]);
    server.send(&producer, ("t", 0), &["old"]);
    drop(producer);
    let admin = server.admin();
    let deleted = server.runtime.block_on(admin.delete_topics(&["t"], &options()));
    deleted.unwrap()[0].clone().unwrap();
    let producer = server.producer(&[]);
    assert_eq!(server.send(&producer, ("t", 0), &["new"]), [0]);
    assert_eq!(server.read("t", 0), ["new"]);
}

#[test]
fn impossible_topics_are_refused() {
    let server = Server::start();
    let admin = server.admin();
    let cases = [
        (NewTopic::new("no/slash", 1, TopicReplication::Fixed(1)), RDKafkaErrorCode::InvalidTopic),
        (NewTopic::new("two", 1, TopicReplication::Fixed(2)), RDKafkaErrorCode::InvalidReplicationFactor),
        (NewTopic::new("none", 0, TopicReplication::Fixed(1)), RDKafkaErrorCode::InvalidPartitions),
        (
            NewTopic::new("typo", 1, TopicReplication::Fixed(1)).set("retention.sm", "1"),
            RDKafkaErrorCode::InvalidConfig,
        ),
    ];
    for (topic, expected) in cases {
        let created = server.runtime.block_on(admin.create_topics([&topic], &options()));
        match created {
            Ok(results) => assert_eq!(results[0].as_ref().unwrap_err().1, expected),
            Err(error) => panic!("{}: {error}", topic.name),
        }
    }
}

#[test]
fn settings_are_told_and_changed() {
    let server = Server::start();
    server.broker.ensure_topic("t", 1, &[("retention.ms", "1000")]).unwrap();
    let admin = server.admin();
    let topic = ResourceSpecifier::Topic("t");
    let described = server.runtime.block_on(admin.describe_configs([&topic], &options()));
    let described = described.unwrap().remove(0).unwrap();
    let entry = described.get("retention.ms").unwrap();
    assert_eq!(entry.value.as_deref(), Some("1000"));
    assert_eq!(entry.source, ConfigSource::DynamicTopic);
    let entry = described.get("cleanup.policy").unwrap();
    assert_eq!(entry.value.as_deref(), Some("delete"));

    let change = AlterConfig::new(topic).set("max.message.bytes", "77");
    let altered = server.runtime.block_on(admin.alter_configs([&change], &options()));
    altered.unwrap().remove(0).unwrap();
    let server = server.restart();
    let admin = server.admin();
    let described = server.runtime.block_on(admin.describe_configs([&topic], &options()));
    let described = described.unwrap().remove(0).unwrap();
    let value = |key: &str| described.get(key).unwrap().value.clone().unwrap();
    assert_eq!(value("max.message.bytes"), "77");
    assert_eq!(value("retention.ms"), "604800000");
}

#[test]
fn without_auto_creation_an_unknown_topic_stays_unknown() {
    let server = Server::start_with(|c| c.auto_create_topics = false);
    let producer = server.producer(&[("message.timeout.ms", "2000")]);
    let record = rdkafka::producer::FutureRecord::<(), str>::to("nowhere").payload("x");
    let sent = producer.send_result(record).map_err(|e| e.0).unwrap();
    server.runtime.block_on(sent).unwrap().unwrap_err();
    assert_eq!(server.broker.stats().partitions, 0);
}

#[test]
fn deleted_records_are_gone_after_a_restart_too() {
    let server = Server::start();
    let producer = server.producer(&[]);
    server.send(&producer, ("t", 0), &["a", "b", "c"]);
    let admin = server.admin();
    let mut upto = TopicPartitionList::new();
    upto.add_partition_offset("t", 0, Offset::Offset(2)).unwrap();
    let deleted = server.runtime.block_on(admin.delete_records(&upto, &options()));
    deleted.unwrap();
    assert_eq!(server.read("t", 0), ["c"]);
    drop(producer);
    drop(admin);
    let server = server.restart();
    assert_eq!(server.read("t", 0), ["c"]);
}

#[test]
fn a_group_with_members_cannot_be_deleted() {
    let server = Server::start();
    server.broker.ensure_topic("t", 1, &[]).unwrap();
    let consumer = server.consumer("g", &[]);
    consumer.subscribe(&["t"]).unwrap();
    eventually("an assignment", || {
        consumer.poll(Duration::from_millis(20));
        (consumer.assignment().unwrap().count() == 1).then_some(())
    });
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("t", 0, Offset::Offset(7)).unwrap();
    consumer.commit(&list, CommitMode::Sync).unwrap();
    let admin = server.admin();
    let refused = server.runtime.block_on(admin.delete_groups(&["g"], &options()));
    assert_eq!(refused.unwrap()[0].as_ref().unwrap_err().1, RDKafkaErrorCode::NonEmptyGroup);
    drop(consumer);
    let deleted = server.runtime.block_on(admin.delete_groups(&["g"], &options()));
    assert_eq!(deleted.unwrap(), [Ok("g".to_owned())]);
    let consumer = server.consumer("g", &[]);
    let mut list = TopicPartitionList::new();
    list.add_partition("t", 0);
    let committed = consumer.committed_offsets(list, PATIENCE).unwrap();
    assert_eq!(committed.elements()[0].offset(), Offset::Invalid);
}
