//! Consumer groups: quick first records, shared partitions, rebalances, static members, the dead.

use std::collections::HashSet;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;

use crate::support::{PATIENCE, Server, next, poll_until};

fn partitions(consumer: &BaseConsumer) -> HashSet<i32> {
    let assignment = consumer.assignment().unwrap();
    assignment.elements().iter().map(|e| e.partition()).collect()
}

/// Whether the consumers hold all partitions, none of them twice.
fn shared(consumers: &[&BaseConsumer], count: usize) -> bool {
    let held: Vec<HashSet<i32>> = consumers.iter().map(|c| partitions(c)).collect();
    let all: HashSet<i32> = held.iter().flatten().copied().collect();
    all.len() == count && held.iter().map(HashSet::len).sum::<usize>() == count && held.iter().all(|h| !h.is_empty())
}

#[test]
fn a_new_group_gets_its_first_record() {
    let server = Server::start();
    let producer = server.producer(&[]);
    server.send(&producer, ("t", 0), &["first"]);
    let consumer = server.consumer("g", &[]);
    consumer.subscribe(&["t"]).unwrap();
    assert_eq!(next(&consumer).payload(), Some(&b"first"[..]));
}

fn three_members_share(strategy: &str) {
    let server = Server::start();
    server.broker.ensure_topic("t", 6, &[]).unwrap();
    let settings =
        [("partition.assignment.strategy", strategy), ("heartbeat.interval.ms", "200"), ("session.timeout.ms", "6000")];
    let consumers: Vec<_> = (0..3).map(|_| server.consumer("g", &settings)).collect();
    let all: Vec<&BaseConsumer> = consumers.iter().collect();
    for consumer in &all {
        consumer.subscribe(&["t"]).unwrap();
    }
    poll_until(&all, "three members share", || shared(&all, 6));
    all[2].unsubscribe();
    let rest = &all[..2];
    poll_until(&all, "two members share", || shared(rest, 6));
}

#[test]
fn three_members_share_partitions_eagerly() {
    three_members_share("range");
}

#[test]
fn three_members_share_partitions_cooperatively() {
    three_members_share("cooperative-sticky");
}

#[test]
fn a_second_member_takes_over_a_part_cooperatively() {
    let server = Server::start();
    server.broker.ensure_topic("t", 4, &[]).unwrap();
    let settings = [("partition.assignment.strategy", "cooperative-sticky"), ("heartbeat.interval.ms", "200")];
    let first = server.consumer("g", &settings);
    first.subscribe(&["t"]).unwrap();
    poll_until(&[&first], "all four", || partitions(&first).len() == 4);
    let before = partitions(&first);
    let second = server.consumer("g", &settings);
    second.subscribe(&["t"]).unwrap();
    let both = [&first, &second];
    poll_until(&both, "two each", || shared(&both, 4) && partitions(&first).len() == 2);
    assert!(partitions(&first).is_subset(&before));
}

#[test]
fn a_member_that_falls_silent_leaves_its_partitions_to_the_others() {
    let server = Server::start();
    server.broker.ensure_topic("t", 2, &[]).unwrap();
    let member = |instance: &str| {
        // A static member that is dropped does not leave: only its session ends it.
        let settings =
            [("group.instance.id", instance), ("heartbeat.interval.ms", "200"), ("session.timeout.ms", "1500")];
        let consumer = server.consumer("g", &settings);
        consumer.subscribe(&["t"]).unwrap();
        consumer
    };
    let (first, dying) = (member("one"), member("two"));
    let both = [&first, &dying];
    poll_until(&both, "one each", || shared(&both, 2));
    drop(dying);
    poll_until(&[&first], "both partitions", || partitions(&first).len() == 2);
}

#[test]
fn a_static_member_comes_back_to_its_partitions_without_a_rebalance() {
    let server = Server::start();
    server.broker.ensure_topic("t", 4, &[]).unwrap();
    let member = |instance: &str| {
        let settings = [
            ("group.instance.id", instance),
            ("heartbeat.interval.ms", "200"),
            ("session.timeout.ms", "20000"),
            ("partition.assignment.strategy", "range"),
        ];
        let consumer = server.consumer("g", &settings);
        consumer.subscribe(&["t"]).unwrap();
        consumer
    };
    let (first, second) = (member("one"), member("two"));
    let both = [&first, &second];
    poll_until(&both, "two each", || shared(&both, 4));
    let (of_first, of_second) = (partitions(&first), partitions(&second));
    drop(second);
    let again = member("two");
    let both = [&first, &again];
    poll_until(&both, "the same again", || {
        assert_eq!(partitions(&first), of_first, "a rebalance took place");
        partitions(&again) == of_second
    });
}

#[test]
fn committed_offsets_and_groups_outlive_a_restart() {
    let server = Server::start();
    let producer = server.producer(&[]);
    server.send(&producer, ("t", 0), &["a", "b", "c"]);
    let consumer = server.consumer("g", &[]);
    consumer.subscribe(&["t"]).unwrap();
    for expected in ["a", "b"] {
        let message = next(&consumer);

        assert_eq!(message.payload(), Some(expected.as_bytes()));
        consumer.commit_message(&message, CommitMode::Sync).unwrap();
    }
    drop(consumer);
    drop(producer);
    let server = server.restart();
    let listed = server.consumer("other", &[]);
    let groups = listed.fetch_group_list(Some("g"), PATIENCE).unwrap();
    assert_eq!(groups.groups()[0].state(), "Empty");
    let consumer = server.consumer("g", &[]);
    consumer.subscribe(&["t"]).unwrap();
    let message = next(&consumer);
    assert_eq!(message.payload(), Some(&b"c"[..]));
}

#[test]
fn many_groups_start_at_a_time() {
    const GROUPS: usize = 20;
    let server = Server::start();
    let producer = server.producer(&[]);
    server.send(&producer, ("t", 0), &["x"]);
    let start = |i| {
        let consumer = server.consumer(&format!("g{i}"), &[]);
        consumer.subscribe(&["t"]).unwrap();
        consumer
    };
    let consumers: Vec<_> = (0..GROUPS).map(start).collect();
    for consumer in &consumers {
        assert_eq!(next(consumer).payload(), Some(&b"x"[..]));
    }
}
