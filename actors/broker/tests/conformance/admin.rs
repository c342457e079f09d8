//! Groups, records and the cluster as an administrator sees them.

use rdkafka::admin::{AdminOptions, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::topic_partition_list::Offset;

use crate::Case;
use crate::env::{Env, PATIENCE, all_of, code, eventually, numbers, read, strs};
use crate::worker::Worker;

pub const CASES: &[Case] = &[
    ("records/unknown-topic", unknown_topic),
    ("records/delete-records", delete_records),
    ("records/delete-records-all", delete_all_records),
    ("group-admin/list", list),
    ("group-admin/describe", describe),
    ("group-admin/delete", delete),
    ("cluster/describe", describe_cluster),
    ("cluster/broker-configs", broker_configs),
];

fn unknown_topic(env: &Env) {
    let (topic, admin) = (env.name(), env.admin());
    let known = || {
        let metadata = admin.inner().fetch_metadata(None, PATIENCE).unwrap();
        metadata.topics().iter().any(|found| found.name() == topic)
    };
    assert!(!known());
    let deleted = env.runtime.block_on(admin.delete_topics(&[&topic], &AdminOptions::new())).unwrap().remove(0);
    assert_eq!(deleted.map_err(|(_, code)| code), Err(Code::UnknownTopicOrPartition));
    assert!(!known());
}

/// The log's beginning after deleting records before an offset.
fn delete_before(env: &Env, topic: &str, offset: Offset) -> Result<Offset, Code> {
    let list = all_of(topic, 1, offset);
    let done = env.runtime.block_on(env.admin().delete_records(&list, &AdminOptions::new())).unwrap();
    let element = &done.elements()[0];
    match code(element.error()) {
        None => Ok(element.offset()),
        Some(code) => Err(code),
    }
}

fn delete_records(env: &Env) {
    let topic = env.topic(1, &[]);
    let texts = numbers(0..100);
    env.fill(&topic, 0, &strs(&texts));
    assert_eq!(delete_before(env, &topic, Offset::Offset(40)), Ok(Offset::Offset(40)));
    assert_eq!(delete_before(env, &topic, Offset::Offset(1000)), Err(Code::OffsetOutOfRange));
    let consumer = env.consumer("none", &[]);
    assert_eq!(consumer.fetch_watermarks(&topic, 0, PATIENCE).unwrap(), (40, 100));
    consumer.assign(&all_of(&topic, 1, Offset::Offset(0))).unwrap();
    assert_eq!(read(&consumer, 60), texts[40..]);
}

fn delete_all_records(env: &Env) {
    let topic = env.topic(1, &[]);
    env.fill(&topic, 0, &["a", "b"]);
    assert_eq!(delete_before(env, &topic, Offset::End), Ok(Offset::Offset(2)));
    assert_eq!(env.fill(&topic, 0, &["c"]), [2]);
    assert_eq!(env.values(&topic, 1, &[]), ["c"]);
}

/// Leaves an empty group behind that has committed an offset.
fn settle(env: &Env, group: &str, topic: &str) {
    let consumer = env.consumer(group, &[]);
    consumer.commit(&all_of(topic, 1, Offset::Offset(2)), CommitMode::Sync).unwrap();
}

fn list(env: &Env) {
    let (topic, empty, live) = (env.topic(1, &[]), env.name(), env.name());
    settle(env, &empty, &topic);
    let worker = Worker::start(env, &live, &topic, &[]);
    eventually("assigned", || worker.numbers() == [0]);
    let found = env.consumer("none", &[]).fetch_group_list(None, PATIENCE).unwrap();
    let names: Vec<_> = found.groups().iter().map(|group| group.name().to_owned()).collect();
    assert!(names.contains(&empty) && names.contains(&live), "{names:?}");
}

fn describe(env: &Env) {
    let (topic, group) = (env.topic(2, &[]), env.name());
    let worker = Worker::start(env, &group, &topic, &[("client.id", "first")]);
    eventually("assigned", || worker.numbers() == [0, 1]);
    let found = env.consumer("none", &[]).fetch_group_list(Some(&group), PATIENCE).unwrap();
    let found = &found.groups()[0];
    assert_eq!((found.state(), found.protocol(), found.protocol_type()), ("Stable", "range", "consumer"));
    assert_eq!(found.members().iter().map(|member| member.client_id()).collect::<Vec<_>>(), ["first"]);
    // The assignment as the consumer protocol writes it: the topic's name is in it.
    let assigned = found.members()[0].assignment().unwrap();
    assert!(assigned.windows(topic.len()).any(|window| window == topic.as_bytes()), "the topic is in the assignment");
}

fn delete(env: &Env) {
    let (topic, group) = (env.topic(1, &[]), env.name());
    let delete = || {
        let done = env.runtime.block_on(env.admin().delete_groups(&[&group], &AdminOptions::new())).unwrap().remove(0);
        done.map(drop).map_err(|(_, code)| code)
    };
    let worker = Worker::start(env, &group, &topic, &[]);
    eventually("assigned", || worker.numbers() == [0]);
    assert_eq!(delete(), Err(Code::NonEmptyGroup));
    worker.stop();
    settle(env, &group, &topic);
    assert_eq!(delete(), Ok(()));
    let consumer = env.consumer(&group, &[]);
    let left = consumer.committed_offsets(all_of(&topic, 1, Offset::Invalid), PATIENCE).unwrap();
    assert_eq!(left.elements()[0].offset(), Offset::Invalid, "its offsets are gone");
    assert_eq!(delete(), Err(Code::GroupIdNotFound));
}

fn describe_cluster(env: &Env) {
    let admin = env.admin();
    let metadata = admin.inner().fetch_metadata(None, PATIENCE).unwrap();
    let nodes: Vec<_> = metadata.brokers().iter().map(|node| format!("{}:{}", node.host(), node.port())).collect();
    assert_eq!(nodes, std::slice::from_ref(&env.address));
    let id = admin.inner().fetch_cluster_id(PATIENCE);
    assert!(id.is_some_and(|id| !id.is_empty()), "a cluster id");
}

fn broker_configs(env: &Env) {
    let admin = env.admin();
    let node = admin.inner().fetch_metadata(None, PATIENCE).unwrap().brokers()[0].id();
    let asked = [ResourceSpecifier::Broker(node)];
    let found = env.runtime.block_on(admin.describe_configs(&asked, &AdminOptions::new())).unwrap().remove(0).unwrap();
    assert_eq!(found.specifier, OwnedResourceSpecifier::Broker(node));
    for key in
        ["log.retention.ms", "num.partitions", "auto.create.topics.enable", "message.max.bytes", "log.segment.bytes"]
    {
        assert!(found.get(key).is_some(), "the key {key}");
    }
    assert_eq!(found.get("num.partitions").unwrap().value.as_deref(), Some("1"));
}
