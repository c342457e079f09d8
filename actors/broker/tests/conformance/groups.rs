//! Consumer groups: who gets what, what happens when members come and go, committed offsets.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminOptions, NewPartitions};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::Message;
use rdkafka::producer::{FutureRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::Case;
use crate::env::{Env, PATIENCE, all_of, code, eventually, numbers, read, strs};
use crate::worker::Worker;

pub const CASES: &[Case] = &[
    ("groups/range", |env| assignor(env, "range", &[&[0, 1, 2], &[3, 4]])),
    ("groups/round-robin", |env| assignor(env, "roundrobin", &[&[0, 2, 4], &[1, 3]])),
    ("groups/cooperative-sticky", cooperative_sticky),
    ("groups/join-leave", join_leave),
    ("groups/static-member", static_member),
    ("groups/dead-member", dead_member),
    ("groups/fenced-member", fenced_member),
    ("groups/first-record", first_record),
    ("groups/offset-reset", offset_reset),
    ("groups/commit", commit),
    ("groups/commit-without-group-management", commit_alone),
    ("groups/metadata-limit", metadata_limit),
    ("groups/new-partitions", new_partitions),
    ("groups/pattern", pattern),
    ("groups/many", many),
];

/// Waits until the members have these partitions, in whatever order of members.
fn shared_out(workers: &[&Worker], wanted: &[&[i32]]) {
    eventually("the assignment", || {
        let mut found: Vec<_> = workers.iter().map(|worker| worker.numbers()).collect();
        found.sort();
        found == wanted
    });
}

fn assignor(env: &Env, name: &str, wanted: &[&[i32]]) {
    let (topic, group) = (env.topic(5, &[]), env.name());
    let settings = [("partition.assignment.strategy", name)];
    let one = Worker::start(env, &group, &topic, &settings);
    shared_out(&[&one], &[&[0, 1, 2, 3, 4]]);
    let two = Worker::start(env, &group, &topic, &settings);
    shared_out(&[&one, &two], wanted);
    for number in 0..5 {
        env.fill(&topic, number, &["x"]);
    }
    eventually("each record once", || one.values().len() + two.values().len() == 5);
    for worker in [&one, &two] {
        let mut places: Vec<_> = worker.seen().records.iter().map(Message::partition).collect();
        places.sort_unstable();
        assert_eq!(places, worker.numbers());
    }
}

fn cooperative_sticky(env: &Env) {
    let (topic, group) = (env.topic(4, &[]), env.name());
    let settings = [("partition.assignment.strategy", "cooperative-sticky")];
    let one = Worker::start(env, &group, &topic, &settings);
    shared_out(&[&one], &[&[0, 1, 2, 3]]);
    let two = Worker::start(env, &group, &topic, &settings);
    eventually("two partitions each", || one.numbers().len() == 2 && two.numbers().len() == 2);
    let mut given = one.seen().revocations.concat();
    given.sort_unstable();
    assert_eq!(given, two.numbers(), "what the first gave away");
    two.stop();
    shared_out(&[&one], &[&[0, 1, 2, 3]]);
    assert_eq!(one.seen().revocations.len(), 1, "it lost nothing more");
}

fn join_leave(env: &Env) {
    let (topic, group) = (env.topic(6, &[]), env.name());
    let (stop, read_by_others) = (AtomicBool::new(false), AtomicUsize::new(0));
    let one = Worker::start(env, &group, &topic, &[]);
    let seen = || one.seen().records.len() + read_by_others.load(Ordering::Relaxed);
    thread::scope(|scope| {
        let writing = scope.spawn(|| write_on(env, &topic, &stop, seen));
        let two = Worker::start(env, &group, &topic, &[]);
        eventually("three each", || two.numbers().len() == 3);
        let three = Worker::start(env, &group, &topic, &[]);
        eventually("two each", || three.numbers().len() == 2);
        let mut gone = two.stop();
        read_by_others.store(gone.len(), Ordering::Relaxed);
        shared_out(&[&one, &three], &[&[0, 1, 2], &[3, 4, 5]]);
        gone.extend(three.stop());
        read_by_others.store(gone.len(), Ordering::Relaxed);
        stop.store(true, Ordering::Relaxed);
        let total = writing.join().unwrap();
        eventually("all records", || seen() >= usize::try_from(total).unwrap());
        gone.append(&mut one.seen().records);
        let mut found: Vec<i32> = gone.iter().map(|m| crate::env::value(m).parse().unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, (0..total).collect::<Vec<_>>());
    });
}

/// Writes numbers until told to stop, about as fast as the first member reads its share; how many.
fn write_on(env: &Env, topic: &str, stop: &AtomicBool, seen: impl Fn() -> usize) -> i32 {
    let producer = env.producer(&[("linger.ms", "2")]);
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) {
        for number in written..written + 50 {
            let text = number.to_string();
            drop(
                producer.send_result(FutureRecord::<str, str>::to(topic).partition(number % 6).payload(&text)).unwrap(),
            );
        }
        producer.flush(PATIENCE).unwrap();
        written += 50;
        let enough = usize::try_from(written).unwrap() / 4;
        eventually("the members follow", || stop.load(Ordering::Relaxed) || seen() + 100 > enough);
    }
    written
}

fn static_member(env: &Env) {
    let (topic, group) = (env.topic(4, &[]), env.name());
    let one = Worker::start(env, &group, &topic, &[("group.instance.id", "one")]);
    shared_out(&[&one], &[&[0, 1, 2, 3]]);
    let two = Worker::start(env, &group, &topic, &[("group.instance.id", "two")]);
    shared_out(&[&one, &two], &[&[0, 1], &[2, 3]]);
    let (mine, theirs, revoked) = (one.numbers(), two.numbers(), one.seen().revocations.len());
    two.stop();
    let again = Worker::start(env, &group, &topic, &[("group.instance.id", "two")]);
    eventually("its partitions again", || again.numbers() == theirs);
    env.fill(&topic, mine[0], &["x"]);
    eventually("the other goes on", || one.values() == ["x"]);
    assert_eq!((one.numbers(), one.seen().revocations.len()), (mine, revoked), "the other kept its partitions");
}

fn dead_member(env: &Env) {
    let (topic, group) = (env.topic(4, &[]), env.name());
    let one = Worker::start(env, &group, &topic, &[]);
    let two = Worker::start(env, &group, &topic, &[("group.instance.id", "static")]);
    shared_out(&[&one, &two], &[&[0, 1], &[2, 3]]);
    // A static member that closes does not leave: the broker misses its heartbeats.
    let begun = Instant::now();
    two.stop();
    shared_out(&[&one], &[&[0, 1, 2, 3]]);
    assert!(begun.elapsed() > Duration::from_secs(3), "before the session's end: {:?}", begun.elapsed());
}

fn fenced_member(env: &Env) {
    let (topic, group) = (env.topic(1, &[]), env.name());
    let one = Worker::start(env, &group, &topic, &[("group.instance.id", "same")]);
    shared_out(&[&one], &[&[0]]);
    let two = Worker::start(env, &group, &topic, &[("group.instance.id", "same")]);
    shared_out(&[&two], &[&[0]]);
    let is_told = |text: &String| text.contains("Fatal") || text.contains("group.instance.id");
    eventually("the first is told", || one.seen().error.as_ref().is_some_and(is_told));
}

fn first_record(env: &Env) {
    let topic = env.topic(1, &[]);
    env.fill(&topic, 0, &["x"]);
    let begun = Instant::now();
    let worker = Worker::start(env, &env.name(), &topic, &[]);
    eventually("the record", || worker.values() == ["x"]);
    assert!(begun.elapsed() < Duration::from_secs(15), "after {:?}", begun.elapsed());
}

fn offset_reset(env: &Env) {
    let topic = env.topic(1, &[]);
    env.fill(&topic, 0, &["old"]);
    let earliest = Worker::start(env, &env.name(), &topic, &[]);
    let latest = Worker::start(env, &env.name(), &topic, &[("auto.offset.reset", "latest")]);
    eventually("both read", || {
        env.fill(&topic, 0, &["new"]);
        !earliest.values().is_empty() && !latest.values().is_empty()
    });
    assert_eq!(earliest.values()[0], "old");
    assert!(!latest.values().contains(&"old".to_owned()));
    let none = Worker::start(env, &env.name(), &topic, &[("auto.offset.reset", "error")]);
    eventually("an error without a policy", || none.seen().error.is_some());
}

/// Commits the offset of partition 0, with metadata.
fn commit_offset(consumer: &rdkafka::consumer::BaseConsumer, topic: &str, (next, text): (i64, &str)) -> Option<Code> {
    let mut list = TopicPartitionList::new();
    let mut place = list.add_partition(topic, 0);
    place.set_offset(Offset::Offset(next)).unwrap();
    place.set_metadata(text);
    code(consumer.commit(&list, CommitMode::Sync))
}

fn commit(env: &Env) {
    let (topic, group) = (env.topic(1, &[]), env.name());
    let texts = numbers(0..10);
    env.fill(&topic, 0, &strs(&texts));
    {
        let consumer = env.consumer(&group, &[]);
        consumer.subscribe(&[&topic]).unwrap();
        read(&consumer, 10);
        let committed = || consumer.committed_offsets(all_of(&topic, 1, Offset::Invalid), PATIENCE).unwrap();
        assert_eq!(committed().elements()[0].offset(), Offset::Invalid);
        assert_eq!(commit_offset(&consumer, &topic, (4, "four")), None);
        assert_eq!(committed().elements()[0].metadata(), "four");
        assert_eq!(commit_offset(&consumer, &topic, (7, "")), None);
        assert_eq!(committed().elements()[0].offset(), Offset::Offset(7));
    }
    let consumer = env.consumer(&group, &[]);
    consumer.subscribe(&[&topic]).unwrap();
    assert_eq!(read(&consumer, 3), ["7", "8", "9"]);
}

fn commit_alone(env: &Env) {
    let (topic, group) = (env.topic(1, &[]), env.name());
    env.fill(&topic, 0, &["a", "b", "c"]);
    assert_eq!(commit_offset(&env.consumer(&group, &[]), &topic, (2, "")), None);
    let consumer = env.consumer(&group, &[]);
    consumer.assign(&all_of(&topic, 1, Offset::Stored)).unwrap();
    assert_eq!(read(&consumer, 1), ["c"]);
}

fn metadata_limit(env: &Env) {
    let (topic, group) = (env.topic(1, &[]), env.name());
    let consumer = env.consumer(&group, &[]);
    assert_eq!(commit_offset(&consumer, &topic, (0, &"x".repeat(4000))), None);
    assert_eq!(commit_offset(&consumer, &topic, (0, &"x".repeat(5000))), Some(Code::OffsetMetadataTooLarge));
}

fn new_partitions(env: &Env) {
    let topic = env.topic(1, &[]);
    let worker = Worker::start(env, &env.name(), &topic, &[]);
    let producer = env.producer(&[("topic.metadata.refresh.interval.ms", "500")]);
    shared_out(&[&worker], &[&[0]]);
    let send = |key: &str| env.send(&producer, FutureRecord::to(&topic).key(key).payload("x")).unwrap();
    send("first");
    let (wanted, options) = ([NewPartitions::new(&topic, 3)], AdminOptions::new());
    env.runtime.block_on(env.admin().create_partitions(&wanted, &options)).unwrap().remove(0).unwrap();
    shared_out(&[&worker], &[&[0, 1, 2]]);
    eventually("records in all three", || {
        (0..20).for_each(|number| _ = send(&format!("key-{number}")));
        let mut places: Vec<_> = worker.seen().records.iter().map(Message::partition).collect();
        places.sort_unstable();
        places.dedup();
        places == [0, 1, 2]
    });
}

fn pattern(env: &Env) {
    let prefix = env.name();
    let names = [format!("{prefix}-a"), format!("{prefix}-b")];
    env.create(&names[0], 1, &[]).unwrap();
    let worker = Worker::start(env, &env.name(), &format!("^{prefix}"), &[]);
    let topics = || {
        let mut topics: Vec<_> = worker.seen().assigned.iter().map(|(topic, _)| topic.clone()).collect();
        topics.sort();
        topics
    };
    eventually("the first topic", || topics() == names[..1]);
    env.create(&names[1], 1, &[]).unwrap();
    eventually("the second one too", || topics() == names);
}

fn many(env: &Env) {
    let topic = env.topic(2, &[]);
    env.fill(&topic, 0, &["x"]);
    let workers: Vec<_> = (0..12).map(|_| Worker::start(env, &env.name(), &topic, &[])).collect();
    for worker in &workers {
        eventually("a group's record", || worker.values() == ["x"]);
    }
}
