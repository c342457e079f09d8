//! Transactions: all or nothing, fenced, timed out, and seen in the logs' offsets.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::Case;
use crate::env::{Env, PATIENCE, all_of, code, eventually, numbers, read, strs, value};

pub const CASES: &[Case] = &[
    ("transactions/commit", commit),
    ("transactions/abort", abort),
    ("transactions/empty", empty),
    ("transactions/interleaved", interleaved),
    ("transactions/last-stable-offset", last_stable_offset),
    ("transactions/fencing", fencing),
    ("transactions/timeout", timeout),
    ("transactions/timeout-limit", timeout_limit),
    ("transactions/offsets", offsets),
    ("transactions/read-process-write", read_process_write),
    ("transactions/many-topics", many_topics),
    ("transactions/restart", restart),
];

fn committed(env: &Env, topic: &str, partitions: i32) -> Vec<String> {
    env.values(topic, partitions, &[("isolation.level", "read_committed")])
}

fn uncommitted(env: &Env, topic: &str, partitions: i32) -> Vec<String> {
    env.values(topic, partitions, &[("isolation.level", "read_uncommitted")])
}

fn producer(env: &Env) -> FutureProducer {
    env.transactional(&env.name(), &[]).unwrap()
}

fn commit(env: &Env) {
    let topic = env.topic(2, &[]);
    let producer = producer(env);
    producer.begin_transaction().unwrap();
    env.send_texts(&producer, (&topic, 0), &["a"]).unwrap();
    env.send_texts(&producer, (&topic, 1), &["b"]).unwrap();
    assert_eq!(committed(env, &topic, 2), [""; 0]);
    assert_eq!(uncommitted(env, &topic, 2), ["a", "b"]);
    producer.commit_transaction(PATIENCE).unwrap();
    eventually("both records", || committed(env, &topic, 2) == ["a", "b"]);
}

fn abort(env: &Env) {
    let topic = env.topic(1, &[]);
    let producer = producer(env);
    producer.begin_transaction().unwrap();
    env.send_texts(&producer, (&topic, 0), &["aborted-1", "aborted-2"]).unwrap();
    producer.abort_transaction(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    env.send_texts(&producer, (&topic, 0), &["good"]).unwrap();
    producer.commit_transaction(PATIENCE).unwrap();
    env.fill(&topic, 0, &["plain"]);
    eventually("the committed ones", || committed(env, &topic, 1) == ["good", "plain"]);
    assert_eq!(uncommitted(env, &topic, 1), ["aborted-1", "aborted-2", "good", "plain"]);
}

fn empty(env: &Env) {
    let topic = env.topic(1, &[]);
    let producer = producer(env);
    producer.begin_transaction().unwrap();
    producer.commit_transaction(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    producer.abort_transaction(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    assert_eq!(env.send_texts(&producer, (&topic, 0), &["a"]).unwrap(), [0]);
    producer.commit_transaction(PATIENCE).unwrap();
    eventually("the record", || committed(env, &topic, 1) == ["a"]);
}

fn interleaved(env: &Env) {
    let topic = env.topic(1, &[]);
    let (one, two) = (producer(env), producer(env));
    one.begin_transaction().unwrap();
    two.begin_transaction().unwrap();
    for number in 0..10 {
        env.send_texts(&one, (&topic, 0), &[&format!("one-{number}")]).unwrap();
        env.send_texts(&two, (&topic, 0), &[&format!("two-{number}")]).unwrap();
    }
    two.commit_transaction(PATIENCE).unwrap();
    assert_eq!(committed(env, &topic, 1), [""; 0]);
    one.abort_transaction(PATIENCE).unwrap();
    let wanted: Vec<_> = (0..10).map(|number| format!("two-{number}")).collect();
    eventually("the second's records", || committed(env, &topic, 1) == wanted);
    assert_eq!(uncommitted(env, &topic, 1).len(), 20);
}

fn last_stable_offset(env: &Env) {
    let topic = env.topic(1, &[]);
    env.fill(&topic, 0, &["a", "b"]);
    let producer = producer(env);
    producer.begin_transaction().unwrap();
    env.send_texts(&producer, (&topic, 0), &["c"]).unwrap();
    env.fill(&topic, 0, &["d"]);
    let consumer = env.consumer("none", &[("isolation.level", "read_committed")]);
    let other = env.consumer("none", &[("isolation.level", "read_uncommitted")]);
    assert_eq!(consumer.fetch_watermarks(&topic, 0, PATIENCE).unwrap(), (0, 2));
    assert_eq!(other.fetch_watermarks(&topic, 0, PATIENCE).unwrap(), (0, 4));
    consumer.assign(&all_of(&topic, 1, Offset::Beginning)).unwrap();
    assert_eq!(read(&consumer, 2), ["a", "b"]);
    assert!(consumer.poll(Duration::from_millis(500)).is_none(), "a record behind an open transaction");
    producer.commit_transaction(PATIENCE).unwrap();
    assert_eq!(read(&consumer, 2), ["c", "d"]);
    eventually("the end behind the marker", || consumer.fetch_watermarks(&topic, 0, PATIENCE).unwrap().1 == 5);
}

/// What a producer gets that goes on with its transaction.
fn go_on(env: &Env, producer: &FutureProducer, topic: &str) -> KafkaResult<()> {
    env.send_texts(producer, (topic, 0), &["late"])?;
    producer.commit_transaction(PATIENCE)
}

fn fencing(env: &Env) {
    let (topic, id) = (env.topic(1, &[]), env.name());
    let old = env.transactional(&id, &[]).unwrap();
    old.begin_transaction().unwrap();
    env.send_texts(&old, (&topic, 0), &["old"]).unwrap();
    let young = env.transactional(&id, &[]).unwrap();
    let error = code(go_on(env, &old, &topic));
    let fenced = [Code::Fenced, Code::ProducerFenced, Code::InvalidProducerEpoch, Code::PurgeQueue];
    assert!(error.is_some_and(|error| fenced.contains(&error)), "the older producer is fenced, not {error:?}");
    let fatal = old.client().fatal_error().map(|(code, _)| code);
    assert!(fatal.is_some_and(|code| fenced.contains(&code)), "the older producer is done, not {fatal:?}");
    young.begin_transaction().unwrap();
    env.send_texts(&young, (&topic, 0), &["young"]).unwrap();
    young.commit_transaction(PATIENCE).unwrap();
    eventually("the younger's record", || committed(env, &topic, 1) == ["young"]);
}

fn timeout(env: &Env) {
    let topic = env.topic(1, &[]);
    let producer = env.transactional(&env.name(), &[("transaction.timeout.ms", "1000")]).unwrap();
    producer.begin_transaction().unwrap();
    env.send_texts(&producer, (&topic, 0), &["forgotten"]).unwrap();
    env.fill(&topic, 0, &["plain"]);
    eventually("the broker's abort", || committed(env, &topic, 1) == ["plain"]);
    assert!(go_on(env, &producer, &topic).is_err(), "the producer is told");
    assert_eq!(committed(env, &topic, 1), ["plain"]);
}

fn timeout_limit(env: &Env) {
    let made = env.transactional(&env.name(), &[("transaction.timeout.ms", "3600000")]);
    assert_eq!(code(made.map(drop)), Some(Code::InvalidTransactionTimeout));
}

/// Sends the offset of partition 0 in the producer's transaction.
fn send_offset(producer: &FutureProducer, consumer: &BaseConsumer, (topic, next): (&str, i64)) {
    let list = all_of(topic, 1, Offset::Offset(next));
    producer.send_offsets_to_transaction(&list, &consumer.group_metadata().unwrap(), PATIENCE).unwrap();
}

/// The committed offset of partition 0.
fn committed_offset(consumer: &BaseConsumer, topic: &str) -> Offset {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    consumer.committed_offsets(list, PATIENCE).unwrap().elements()[0].offset()
}

fn offsets(env: &Env) {
    let source = env.topic(1, &[]);
    env.fill(&source, 0, &["a", "b", "c"]);
    let (consumer, producer) = (env.consumer(&env.name(), &[]), producer(env));
    consumer.subscribe(&[&source]).unwrap();
    read(&consumer, 3);
    for (next, is_good, wanted) in
        [(1, false, Offset::Invalid), (2, true, Offset::Offset(2)), (3, false, Offset::Offset(2))]
    {
        producer.begin_transaction().unwrap();
        send_offset(&producer, &consumer, (&source, next));
        if is_good {
            producer.commit_transaction(PATIENCE).unwrap();
        } else {
            producer.abort_transaction(PATIENCE).unwrap();
        }
        assert_eq!(committed_offset(&consumer, &source), wanted, "after sending {next}");
    }
}

/// Copies with one transaction for each batch, every third of which aborts, until the source's end, or until the
/// last of `turns`, whose transaction stays open. Whether the end was reached.
fn pump(env: &Env, from: &str, to: &str, (group, turns): (&str, usize)) -> bool {
    let producer = env.transactional(&format!("{group}-pump"), &[]).unwrap();
    let consumer = env.consumer(group, &[]);
    let end = consumer.fetch_watermarks(from, 0, PATIENCE).unwrap().1;
    consumer.subscribe(&[from]).unwrap();
    eventually("the assignment", || {
        consumer.poll(Duration::from_millis(100));
        consumer.assignment().unwrap().count() == 1
    });
    let mut next = committed_offset(&consumer, from).to_raw().map_or(0, |offset| offset.max(0));
    for turn in 0..turns {
        if next == end {
            return true;
        }
        consumer.seek(from, 0, Offset::Offset(next), PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        let mut moved = next;
        while moved < end.min(next + 20) {
            let Some(message) = consumer.poll(PATIENCE) else { panic!("no record at {moved}") };
            let message = message.unwrap();
            let text = value(&message);
            env.send(&producer, FutureRecord::to(to).partition(0).payload(text.as_str())).unwrap();
            moved = message.offset() + 1;
        }
        if turn == turns - 1 {
            return false;
        }
        send_offset(&producer, &consumer, (from, moved));
        if turn % 3 == 1 {
            producer.abort_transaction(PATIENCE).unwrap();
        } else {
            producer.commit_transaction(PATIENCE).unwrap();
            next = moved;
        }
    }
    false
}

fn read_process_write(env: &Env) {
    let (source, target, group) = (env.topic(1, &[]), env.topic(1, &[]), env.name());
    let texts = numbers(0..300);
    env.fill(&source, 0, &strs(&texts));
    assert!(!pump(env, &source, &target, (&group, 6)), "the first ends early");
    assert!(pump(env, &source, &target, (&group, 100)), "the second at the end");
    eventually("every record once", || committed(env, &target, 1).len() >= texts.len());
    assert_eq!(committed(env, &target, 1), texts);
}

fn many_topics(env: &Env) {
    let topics: Vec<_> = (0..3).map(|_| env.topic(2, &[])).collect();
    let producer = producer(env);
    for turn in 0..6 {
        producer.begin_transaction().unwrap();
        for topic in &topics {
            env.send_texts(&producer, (topic, 0), &[&turn.to_string()]).unwrap();
            env.send_texts(&producer, (topic, 1), &[&turn.to_string()]).unwrap();
        }
        if turn % 2 == 0 {
            producer.commit_transaction(PATIENCE).unwrap();
        } else {
            producer.abort_transaction(PATIENCE).unwrap();
        }
    }
    for topic in &topics {
        eventually("every other turn", || committed(env, topic, 2) == ["0", "2", "4", "0", "2", "4"]);
    }
}

fn restart(env: &Env) {
    let (topic, id) = (env.topic(1, &[]), env.name());
    for turn in 0..5 {
        let producer = env.transactional(&id, &[]).unwrap();
        producer.begin_transaction().unwrap();
        env.send_texts(&producer, (&topic, 0), &[&turn.to_string()]).unwrap();
        producer.commit_transaction(PATIENCE).unwrap();
    }
    eventually("all five", || committed(env, &topic, 1) == ["0", "1", "2", "3", "4"]);
}
