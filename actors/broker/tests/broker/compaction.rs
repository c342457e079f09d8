//! Compacted topics as clients see them.

use rdkafka::producer::FutureRecord;
use rdkafka::topic_partition_list::Offset;

use crate::support::{Server, eventually};

const COMPACT: [(&str, &str); 3] =
    [("cleanup.policy", "compact"), ("segment.bytes", "2048"), ("min.cleanable.dirty.ratio", "0.01")];

#[test]
fn a_reader_of_a_compacted_topic_gets_the_newest_of_each_key_also_after_a_crash() {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let server = Server::start();
        server.broker.ensure_topic("t", 1, &COMPACT).unwrap();
        let producer = server.producer(&[("batch.num.messages", "7"), ("compression.type", codec)]);
        let sent: Vec<_> = (0..1_000)
            .map(|i| {
                let (key, value) = (format!("k{}", i % 5), format!("{i:050}"));
                producer.send_result(FutureRecord::to("t").key(&key).payload(&value)).map_err(|e| e.0).unwrap()
            })
            .collect();
        for delivery in sent {
            server.runtime.block_on(delivery).unwrap().map_err(|e| e.0).unwrap();
        }
        let few = eventually("superseded records are gone", || {
            let left = server.read_from("t", 0, Offset::Beginning);
            (left.len() < 200).then_some(left)
        });
        assert!(few.is_sorted());
        let newest = |left: &[(i64, String)]| left[left.len() - 5..].to_vec();
        let expected: Vec<_> = (995..1_000).map(|i| (i, format!("{i:050}"))).collect();
        assert_eq!(newest(&few), expected, "{codec}");
        drop(producer);
        let server = server.restart();
        assert_eq!(newest(&server.read_from("t", 0, Offset::Beginning)), expected);
    }
}

#[test]
fn a_record_without_a_key_is_refused_by_a_compacted_topic() {
    let server = Server::start();
    server.broker.ensure_topic("t", 1, &COMPACT).unwrap();
    let producer = server.producer(&[]);
    let record = FutureRecord::<(), str>::to("t").payload("x");
    let delivery = producer.send_result(record).map_err(|e| e.0).unwrap();
    let refused = server.runtime.block_on(delivery).unwrap().unwrap_err().0;
    assert_eq!(refused.rdkafka_error_code(), Some(rdkafka::error::RDKafkaErrorCode::InvalidRecord));
}
