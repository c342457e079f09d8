//! Records: produced, read back, found by time, bounded in size, removed by age.

use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message;
use rdkafka::producer::FutureRecord;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::support::{PATIENCE, Server, eventually, next};

#[test]
fn records_of_every_codec_come_back_as_they_were_sent() {
    let server = Server::start();
    let payloads: Vec<String> = (0..500).map(|i| format!("{i}{}", "x".repeat(50))).collect();
    let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let producer = server.producer(&[("compression.type", codec), ("linger.ms", "5")]);
        let offsets = server.send(&producer, (codec, 0), &payloads);
        assert_eq!(offsets, (0..500).collect::<Vec<i64>>(), "{codec}");
        assert_eq!(server.read(codec, 0), payloads, "{codec}");
    }
}

#[test]
fn acknowledgement_by_nobody_and_by_the_leader_both_store() {
    let server = Server::start();
    for acks in ["0", "1"] {
        let topic = format!("acks-{acks}");
        let producer = server.producer(&[("acks", acks)]);
        server.send(&producer, (&topic, 0), &["a", "b"]);
        eventually("both records", || (server.read(&topic, 0) == ["a", "b"]).then_some(()));
    }
}

#[test]
fn a_reader_that_waits_is_woken_by_an_append() {
    let server = Server::start();
    server.broker.ensure_topic("t", 1, &[]).unwrap();
    // The wait alone would take longer than this test has patience.
    let consumer = server.consumer("g", &[("fetch.wait.max.ms", "120000"), ("socket.timeout.ms", "130000")]);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("t", 0, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    assert!(consumer.poll(Duration::from_millis(500)).is_none());
    let producer = server.producer(&[("linger.ms", "0")]);
    server.send(&producer, ("t", 0), &["now"]);
    let message = next(&consumer);
    assert_eq!(message.payload(), Some(&b"now"[..]));
}

#[test]
fn offsets_are_found_by_time() {
    let server = Server::start();
    let producer = server.producer(&[("linger.ms", "50")]);
    let send = |timestamp: i64| {
        let record = FutureRecord::<(), str>::to("t").payload("x").timestamp(timestamp);
        producer.send_result(record).map_err(|e| e.0).unwrap()
    };
    let sent: Vec<_> = (1..=10).map(|i| send(i * 1_000)).collect();
    for future in sent {
        server.runtime.block_on(future).unwrap().unwrap();
    }
    let consumer = server.consumer("g", &[]);
    let at = |timestamp: i64| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("t", 0, Offset::Offset(timestamp)).unwrap();
        let found = consumer.offsets_for_times(list, PATIENCE).unwrap();
        found.elements()[0].offset()
    };
    assert_eq!(at(0), Offset::Offset(0));
    assert_eq!(at(3_000), Offset::Offset(2));
    assert_eq!(at(3_001), Offset::Offset(3));
    assert_eq!(at(10_001), Offset::End);
    assert_eq!(consumer.fetch_watermarks("t", 0, PATIENCE).unwrap(), (0, 10));
}

#[test]
fn a_record_above_the_topics_limit_is_refused() {
    let server = Server::start();
    let limit = [("max.message.bytes", "1000")];
    server.broker.ensure_topic("small", 1, &limit).unwrap();
    let producer = server.producer(&[]);
    let payload = "x".repeat(2_000);
    let record = FutureRecord::<(), str>::to("small").payload(&payload);
    let sent = producer.send_result(record).map_err(|e| e.0).unwrap();
    let (error, _) = server.runtime.block_on(sent).unwrap().unwrap_err();
    assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::MessageSizeTooLarge));
    assert_eq!(server.send(&producer, ("small", 0), &["fits"]), [0]);
}

#[test]
fn a_topic_can_stamp_records_with_the_time_of_append() {
    let server = Server::start();
    let stamped = [("message.timestamp.type", "LogAppendTime")];
    server.broker.ensure_topic("t", 1, &stamped).unwrap();
    let producer = server.producer(&[("compression.type", "lz4")]);
    let record = FutureRecord::<(), str>::to("t").payload("x").timestamp(5);
    let sent = producer.send_result(record).map_err(|e| e.0).unwrap();
    server.runtime.block_on(sent).unwrap().unwrap();
    let consumer = server.consumer("g", &[("check.crcs", "true")]);
    consumer.subscribe(&["t"]).unwrap();
    let message = next(&consumer);
    match message.timestamp() {
        rdkafka::Timestamp::LogAppendTime(ms) => assert!(ms > 1_000_000),
        other => panic!("{other:?}"),
    }
}

#[test]
fn readers_pass_over_many_small_segments() {
    let server = Server::start_with(|c| c.segment_bytes = 4_096);
    let producer = server.producer(&[("linger.ms", "0"), ("batch.num.messages", "5")]);
    let payloads: Vec<String> = (0..600).map(|i| format!("{i:0100}")).collect();
    let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
    server.send(&producer, ("t", 0), &payloads);
    assert_eq!(server.read("t", 0), payloads);
    for from in [1, 299, 599] {
        let tail = server.read_from("t", 0, Offset::Offset(from));
        assert_eq!(tail.first().unwrap().0, from);
        assert_eq!(tail.len() as i64, 600 - from);
    }
}

#[test]
fn old_segments_go_by_size() {
    let server = Server::start_with(|c| c.segment_bytes = 4_096);
    let bounded = [("retention.bytes", "10000")];
    server.broker.ensure_topic("t", 1, &bounded).unwrap();
    let producer = server.producer(&[("batch.num.messages", "5")]);
    let payload = "x".repeat(100);
    server.send(&producer, ("t", 0), &vec![payload.as_str(); 600]);
    let consumer = server.consumer("g", &[]);
    let low = eventually("the low watermark moves", || {
        let (low, high) = consumer.fetch_watermarks("t", 0, PATIENCE).unwrap();
        assert_eq!(high, 600);
        (low > 0 && server.broker.stats().log_bytes < 14_096).then_some(low)
    });
    let kept = server.read("t", 0).len() as i64;
    assert_eq!(kept, 600 - low);
}
