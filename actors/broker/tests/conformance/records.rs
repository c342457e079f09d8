//! Records: what is written is read, unchanged and in order.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, Timestamp};
use rdkafka::producer::{FutureRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::Case;
use crate::env::{Env, PATIENCE, all_of, an_hour_ago, code, eventually, now_ms, numbers, read, strs};

const DAY_MS: i64 = 86_400_000;

pub const CASES: &[Case] = &[
    ("records/roundtrip", roundtrip),
    ("records/codec-none", |env| compressed(env, "none")),
    ("records/codec-gzip", |env| compressed(env, "gzip")),
    ("records/codec-snappy", |env| compressed(env, "snappy")),
    ("records/codec-lz4", |env| compressed(env, "lz4")),
    ("records/codec-zstd", |env| compressed(env, "zstd")),
    ("records/order", order),
    ("records/keys", keys),
    ("records/large", large),
    ("records/fetch-limits", fetch_limits),
    ("records/acks", acks),
    ("records/idempotent", idempotent),
    ("records/create-time", create_time),
    ("records/log-append-time", log_append_time),
    ("records/timestamp-limits", timestamp_limits),
    ("records/offsets-by-time", offsets_by_time),
    ("records/seek", seek),
    ("records/pause", pause),
    ("records/long-poll", long_poll),
    ("records/many-small", many_small),
    ("records/many-partitions", many_partitions),
    ("records/auto-create", auto_create),
    ("records/out-of-range", out_of_range),
    ("records/compaction", compaction),
    ("records/tombstones", tombstones),
    ("records/compaction-needs-keys", compaction_needs_keys),
    ("records/retention", retention),
];

fn roundtrip(env: &Env) {
    let topic = env.topic(1, &[]);
    let producer = env.producer(&[]);
    let now = now_ms();
    let headers = OwnedHeaders::new().insert(Header { key: "a", value: Some("1") });
    let headers = headers.insert(Header { key: "b", value: None::<&str> }).insert(Header { key: "a", value: Some("") });
    let to = || FutureRecord::<str, str>::to(&topic).partition(0);
    env.send(&producer, to().key("key").payload("value").headers(headers).timestamp(now)).unwrap();
    env.send(&producer, to().payload("value").timestamp(now - 10_000)).unwrap();
    env.send(&producer, to().key("key").timestamp(now + 5_000)).unwrap();
    env.send(&producer, to().key("").payload("").timestamp(now - DAY_MS)).unwrap();

    let found = env.read_all(&topic, 1, &[]);
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
    let parts: Vec<_> = found.iter().map(|m| (text(m.key()), text(m.payload()), m.timestamp())).collect();
    let part = |key: Option<&str>, value: Option<&str>, shift| {
        (key.map(str::to_owned), value.map(str::to_owned), Timestamp::CreateTime(now + shift))
    };
    let wanted = [
        part(Some("key"), Some("value"), 0),
        part(None, Some("value"), -10_000),
        part(Some("key"), None, 5_000),
        part(Some(""), Some(""), -DAY_MS),
    ];
    assert_eq!(parts, wanted);
    let headers: Vec<_> = found[0].headers().unwrap().iter().map(|h| (h.key, h.value)).collect();
    let wanted: Vec<(&str, Option<&[u8]>)> = vec![("a", Some(b"1")), ("b", None), ("a", Some(b""))];
    assert_eq!(headers, wanted);
}

fn compressed(env: &Env, codec: &str) {
    let topic = env.topic(1, &[]);
    let texts: Vec<String> = (0..500).map(|number| format!("{number}-{}", "x".repeat(200))).collect();
    let producer = env.producer(&[("compression.type", codec), ("linger.ms", "20")]);
    let sent: Vec<_> = texts
        .iter()
        .map(|text| producer.send_result(FutureRecord::<str, str>::to(&topic).payload(text)).map_err(|e| e.0).unwrap())
        .collect();
    for delivery in sent {
        env.runtime.block_on(delivery).unwrap().map_err(|e| e.0).unwrap();
    }
    assert_eq!(env.values(&topic, 1, &[]), texts);
}

/// Sends numbers without waiting for each, to partitions in turn, and waits for all.
fn send_numbers(env: &Env, topic: &str, settings: &[(&str, &str)], (count, partitions): (i32, i32)) {
    let producer = env.producer(settings);
    for number in 0..count {
        let text = number.to_string();
        let record = FutureRecord::<str, str>::to(topic).partition(number % partitions).payload(&text);
        drop(producer.send_result(record).map_err(|e| e.0).unwrap());
    }
    producer.flush(PATIENCE).unwrap();
}

fn order(env: &Env) {
    let topic = env.topic(3, &[]);
    send_numbers(env, &topic, &[("linger.ms", "5")], (3000, 3));
    let found = env.read_all(&topic, 3, &[]);
    let places: Vec<_> = found.iter().map(|m| (m.partition(), m.offset(), crate::env::value(m))).collect();
    let wanted: Vec<_> = (0..3)
        .flat_map(|partition| {
            (0..1000).map(move |offset| (partition, offset, (offset * 3 + i64::from(partition)).to_string()))
        })
        .collect();
    assert_eq!(places, wanted);
}

fn keys(env: &Env) {
    let topic = env.topic(5, &[]);
    let producer = env.producer(&[]);
    for number in 0..100 {
        let (key, text) = (format!("key-{}", number % 10), number.to_string());
        env.send(&producer, FutureRecord::to(&topic).key(key.as_str()).payload(text.as_str())).unwrap();
    }
    let found = env.read_all(&topic, 5, &[]);
    for key in 0..10 {
        let name = format!("key-{key}");
        let mine: Vec<_> = found.iter().filter(|m| m.key() == Some(name.as_bytes())).collect();
        assert!(mine.iter().all(|m| m.partition() == mine[0].partition()), "partitions of {name}");
        let values: Vec<_> = mine.iter().map(|m| crate::env::value(*m)).collect();
        assert_eq!(values, (0..10).map(|turn| (turn * 10 + key).to_string()).collect::<Vec<_>>());
    }
}

fn large(env: &Env) {
    let topic = env.topic(1, &[("max.message.bytes", "200000")]);
    let producer = env.producer(&[("message.max.bytes", "4000000")]);
    let send =
        |letter: u8, size| env.send(&producer, FutureRecord::to(&topic).partition(0).payload(&vec![letter; size]));
    send(b'a', 199_000).unwrap();
    assert_eq!(code(send(b'b', 201_000)), Some(Code::MessageSizeTooLarge));
    send(b'c', 199_000).unwrap();
    let first: Vec<_> = env.read_all(&topic, 1, &[]).iter().map(|m| m.payload().unwrap()[0]).collect();
    assert_eq!(first, b"ac");
}

fn fetch_limits(env: &Env) {
    let topic = env.topic(1, &[("max.message.bytes", "2000000")]);
    let producer = env.producer(&[("message.max.bytes", "4000000")]);
    for letter in *b"abc" {
        env.send(&producer, FutureRecord::to(&topic).payload(&vec![letter; 900_000])).unwrap();
    }
    let found = env.read_all(&topic, 1, &[("fetch.message.max.bytes", "1000")]);
    assert_eq!(found.iter().map(|m| m.payload().unwrap().len()).collect::<Vec<_>>(), [900_000; 3]);
}

fn acks(env: &Env) {
    let topic = env.topic(1, &[]);
    let producer = env.producer(&[("acks", "0")]);
    env.send_texts(&producer, (&topic, 0), &["0"]).unwrap();
    eventually("the record without acknowledgement", || env.values(&topic, 1, &[]) == ["0"]);
    for (offset, level) in [(1, "1"), (2, "all")] {
        let producer = env.producer(&[("acks", level)]);
        assert_eq!(env.send_texts(&producer, (&topic, 0), &[level]).unwrap(), [offset]);
    }
    assert_eq!(env.values(&topic, 1, &[]), ["0", "1", "all"]);
}

fn idempotent(env: &Env) {
    let topic = env.topic(1, &[]);
    send_numbers(env, &topic, &[("enable.idempotence", "true"), ("linger.ms", "1")], (3000, 1));
    let found = env.read_all(&topic, 1, &[]);
    assert_eq!(found.iter().map(Message::offset).collect::<Vec<_>>(), (0..3000).collect::<Vec<_>>());
    assert_eq!(found.iter().map(crate::env::value).collect::<Vec<_>>(), numbers(0..3000));
}

fn create_time(env: &Env) {
    let topic = env.topic(1, &[]);
    let time = an_hour_ago();
    env.send(&env.producer(&[]), FutureRecord::to(&topic).payload("x").timestamp(time)).unwrap();
    assert_eq!(env.read_all(&topic, 1, &[])[0].timestamp(), Timestamp::CreateTime(time));
}

fn log_append_time(env: &Env) {
    let topic = env.topic(1, &[("message.timestamp.type", "LogAppendTime")]);
    let before = now_ms();
    env.send(&env.producer(&[]), FutureRecord::to(&topic).payload("x").timestamp(an_hour_ago())).unwrap();
    match env.read_all(&topic, 1, &[])[0].timestamp() {
        Timestamp::LogAppendTime(time) => assert!(time >= before - 1000, "{time} is not the broker's time"),
        other => panic!("{other:?}"),
    }
}

fn timestamp_limits(env: &Env) {
    let day = DAY_MS.to_string();
    let limits = [("message.timestamp.before.max.ms", day.as_str()), ("message.timestamp.after.max.ms", &day)];
    let topic = env.topic(1, &limits);
    let producer = env.producer(&[]);
    let send = |time| env.send(&producer, FutureRecord::to(&topic).payload("x").timestamp(time));
    for shift in [-3 * DAY_MS, 3 * DAY_MS] {
        assert_eq!(code(send(now_ms() + shift)), Some(Code::InvalidTimestamp));
    }
    assert_eq!(send(now_ms()).unwrap(), 0);
}

fn offsets_by_time(env: &Env) {
    let topic = env.topic(1, &[]);
    let (start, producer) = (an_hour_ago(), env.producer(&[]));
    for shift in [0, 10_000, 30_000, 20_000] {
        env.send(&producer, FutureRecord::to(&topic).partition(0).payload("x").timestamp(start + shift)).unwrap();
    }
    let consumer = env.consumer("none", &[]);
    assert_eq!(consumer.fetch_watermarks(&topic, 0, PATIENCE).unwrap(), (0, 4));
    for (shift, wanted) in [(-5, 0), (0, 0), (1, 1), (10_000, 1), (10_001, 2), (25_000, 2), (30_000, 2)] {
        let asked = all_of(&topic, 1, Offset::Offset(start + shift));
        let found = consumer.offsets_for_times(asked, PATIENCE).unwrap();
        assert_eq!(found.elements()[0].offset(), Offset::Offset(wanted), "at +{shift} ms");
    }
    let found = consumer.offsets_for_times(all_of(&topic, 1, Offset::Offset(start + 30_001)), PATIENCE).unwrap();
    assert_eq!(found.elements()[0].offset(), Offset::End);
}

fn seek(env: &Env) {
    let topic = env.topic(1, &[]);
    let texts = numbers(0..100);
    env.fill(&topic, 0, &strs(&texts));
    let consumer = env.consumer("none", &[]);
    consumer.assign(&all_of(&topic, 1, Offset::Offset(90))).unwrap();
    assert_eq!(read(&consumer, 10), texts[90..]);
    consumer.seek(&topic, 0, Offset::Offset(10), PATIENCE).unwrap();
    assert_eq!(read(&consumer, 90), texts[10..]);
    consumer.seek(&topic, 0, Offset::Beginning, PATIENCE).unwrap();
    assert_eq!(read(&consumer, 100), texts);
}

fn pause(env: &Env) {
    let topic = env.topic(2, &[]);
    let consumer = env.consumer("none", &[]);
    consumer.assign(&all_of(&topic, 2, Offset::Beginning)).unwrap();
    let mut quiet = TopicPartitionList::new();
    quiet.add_partition(&topic, 0);
    consumer.pause(&quiet).unwrap();
    env.fill(&topic, 0, &["quiet"]);
    env.fill(&topic, 1, &["a", "b"]);
    assert_eq!(read(&consumer, 2), ["a", "b"]);
    assert!(consumer.poll(Duration::from_millis(500)).is_none(), "a record of a paused partition");
    consumer.resume(&quiet).unwrap();
    assert_eq!(read(&consumer, 1), ["quiet"]);
}

fn long_poll(env: &Env) {
    let topic = env.topic(1, &[]);
    let consumer = env.consumer("none", &[("fetch.wait.max.ms", "20000"), ("socket.timeout.ms", "30000")]);
    consumer.assign(&all_of(&topic, 1, Offset::Beginning)).unwrap();
    assert!(consumer.poll(Duration::from_secs(1)).is_none());
    let sent = Instant::now();
    env.fill(&topic, 0, &["x"]);
    read(&consumer, 1);
    assert!(sent.elapsed() < Duration::from_secs(5), "answered after {:?}", sent.elapsed());
}

fn many_small(env: &Env) {
    let topic = env.topic(1, &[]);
    let texts = numbers(0..1000);
    let producer = env.producer(&[("linger.ms", "0")]);
    let offsets = env.send_texts(&producer, (&topic, 0), &strs(&texts)).unwrap();
    assert_eq!(offsets, (0..1000).collect::<Vec<_>>());
    assert_eq!(env.values(&topic, 1, &[]), texts);
}

fn many_partitions(env: &Env) {
    let topic = env.topic(60, &[]);
    send_numbers(env, &topic, &[], (600, 60));
    let found = env.read_all(&topic, 60, &[]);
    assert_eq!(found.len(), 600);
    assert!(found.iter().all(|m| crate::env::value(m).parse::<i32>().unwrap() % 60 == m.partition()));
}

fn auto_create(env: &Env) {
    let topic = env.name();
    assert_eq!(env.fill(&topic, 0, &["first"]), [0]);
    assert_eq!(env.values(&topic, 1, &[]), ["first"]);
}

fn out_of_range(env: &Env) {
    let topic = env.topic(1, &[]);
    env.fill(&topic, 0, &["a", "b", "c"]);
    let consumer = env.consumer("none", &[("auto.offset.reset", "error")]);
    consumer.assign(&all_of(&topic, 1, Offset::Offset(50))).unwrap();
    let failed = consumer.poll(PATIENCE).unwrap().map(|_| ());
    assert_eq!(code(failed), Some(Code::AutoOffsetReset));
    let consumer = env.consumer("none", &[]);
    consumer.assign(&all_of(&topic, 1, Offset::Offset(50))).unwrap();
    assert_eq!(read(&consumer, 3), ["a", "b", "c"]);
}

fn compacted_topic(env: &Env) -> String {
    let quick = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "200"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("max.compaction.lag.ms", "200"),
        ("delete.retention.ms", "100"),
    ];
    env.topic(1, &quick)
}

/// Keys and values left beside the records that close the segments.
fn compacted(env: &Env, topic: &str) -> Vec<(String, String)> {
    env.send(&env.producer(&[]), FutureRecord::to(topic).partition(0).key("ticker").payload("tick")).unwrap();
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or(b"none").to_vec()).unwrap();
    let left = env.read_all(topic, 1, &[]);
    left.iter().map(|m| (text(m.key()), text(m.payload()))).filter(|(key, _)| key != "ticker").collect()
}

fn compaction(env: &Env) {
    let topic = compacted_topic(env);
    let producer = env.producer(&[("linger.ms", "5")]);
    for number in 0..2000 {
        let (key, text) = (format!("key-{}", number % 20), number.to_string());
        drop(
            producer
                .send_result(FutureRecord::to(&topic).partition(0).key(&key).payload(&text))
                .map_err(|e| e.0)
                .unwrap(),
        );
    }
    producer.flush(PATIENCE).unwrap();
    let wanted: Vec<_> = (1980..2000).map(|n| (format!("key-{}", n % 20), n.to_string())).collect();
    eventually("the newest record of each key", || compacted(env, &topic) == wanted);
}

fn tombstones(env: &Env) {
    let topic = compacted_topic(env);
    let producer = env.producer(&[]);
    let to = || FutureRecord::<str, str>::to(&topic).partition(0);
    env.send(&producer, to().key("stays").payload("kept")).unwrap();
    env.send(&producer, to().key("goes").payload("gone")).unwrap();
    env.send(&producer, to().key("goes")).unwrap();
    let wanted = [("stays".to_owned(), "kept".to_owned())];
    eventually("neither the record nor its tombstone", || compacted(env, &topic) == wanted);
}

fn compaction_needs_keys(env: &Env) {
    let topic = env.topic(1, &[("cleanup.policy", "compact")]);
    let sent = env.send(&env.producer(&[]), FutureRecord::to(&topic).payload("no key"));
    assert_eq!(code(sent), Some(Code::InvalidRecord));
}

fn retention(env: &Env) {
    let topic = env.topic(1, &[("retention.ms", "500"), ("segment.ms", "200")]);
    env.fill(&topic, 0, &["old"]);
    let consumer = env.consumer("none", &[]);
    eventually("the oldest segment is deleted", || {
        env.fill(&topic, 0, &["tick"]);
        consumer.fetch_watermarks(&topic, 0, PATIENCE).unwrap().0 > 0
    });
    assert!(!env.values(&topic, 1, &[]).contains(&"old".to_owned()));
}
