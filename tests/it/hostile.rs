//! Batches that are broken inside, sent as they are to a topic that a pipeline reads, and damage of the broker's files: the
//! server lives, every record that was taken is stored or dead, and what is lost is told.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
    error::RDKafkaErrorCode,
};
use serde_json::Value;
use streamward_broker::fuzzing::{choices, mutant};

use crate::support::{
    kafka::{Acked, Producer},
    number,
    readings::{Readings, TOPIC, stored},
    server::{Node, Server},
    wait::{self, PATIENCE},
};

/// Batches that are sent; `STREAMWARD_MUTANTS` names another number.
const MUTANTS: u64 = if cfg!(feature = "crash-tests") { 2_000 } else { 300 };
/// Batches after which a good record must be stored; `STREAMWARD_BETWEEN` names another number.
const BETWEEN: u64 = 50;
const PARTITIONS: u64 = 4;
/// Corrupt, too large, duplicate or gap in the sequence, fenced, wrong time, unknown codec, no transaction, invalid.
const REFUSALS: [i16; 8] = [2, 10, 32, 45, 47, 48, 76, 87];

/// A connection that sends batches as they are.
struct Raw(TcpStream);

impl Raw {
    fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// The broker's code for a batch, by a Produce of version 7 for one partition.
    fn produce(&mut self, topic: &str, partition: i32, batch: &[u8]) -> i16 {
        let text = |text: &str| [&i16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
        let int = |value: usize| i32::try_from(value).unwrap().to_be_bytes();
        let request = [
            &[0, 0, 0, 7][..],
            &1_i32.to_be_bytes(),
            &text("mutants"),
            // No transaction, all replicas, a time-out, one topic, one partition.
            &(-1_i16).to_be_bytes(),
            &(-1_i16).to_be_bytes(),
            &10_000_i32.to_be_bytes(),
            &int(1),
            &text(topic),
            &int(1),
            &partition.to_be_bytes(),
            &int(batch.len()),
            batch,
        ]
        .concat();
        self.0.write_all(&int(request.len())).unwrap();
        self.0.write_all(&request).unwrap();
        let mut length = [0; 4];
        self.0.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
        self.0.read_exact(&mut answer).unwrap();
        // Correlation id, count of topics, name, count of partitions, index.
        let at = 4 + 4 + 2 + topic.len() + 4 + 4;
        i16::from_be_bytes([answer[at], answer[at + 1]])
    }
}

/// Records that a batch says it has.
fn count(batch: &[u8]) -> u64 {
    u64::from(u32::from_be_bytes([batch[57], batch[58], batch[59], batch[60]]))
}

fn total(report: &Value, field: &str) -> u64 {
    report[field].as_u64().unwrap()
}

#[actix_rt::test]
async fn no_batch_stops_a_pipeline_and_each_record_that_is_taken_is_accounted_for() {
    let (mutants, between) = (number("STREAMWARD_MUTANTS", MUTANTS), number("STREAMWARD_BETWEEN", BETWEEN));
    let server = Node::new().start().await;
    let (producer, mut readings) = (Producer::connect(server.kafka()), Readings::new());
    let mut raw = Raw::connect(server.kafka());
    let (mut taken, mut slowest) = (0, Duration::ZERO);
    for seed in 0..mutants {
        let batch = mutant(&choices(seed));
        let partition = i32::try_from(seed % PARTITIONS).unwrap();
        match raw.produce(TOPIC, partition, &batch) {
            0 => taken += count(&batch),
            code => assert!(REFUSALS.contains(&code), "seed {seed}: {code}"),
        }
        if seed % between == between - 1 {
            readings.send(&producer, 1);
            let (acked, sent_at) = (producer.finish().len(), Instant::now());
            wait_for_rows(&server, acked).await;
            slowest = slowest.max(sent_at.elapsed());
        }
    }
    eprintln!("{taken} records of {mutants} batches were taken; a good record was stored after {slowest:?} at most");
    assert!(taken > mutants / 10, "{taken} of {mutants}");
    let acked = producer.finish();
    let sent = acked.len() as u64;
    wait::until("all records that were taken are stored or dead", async || {
        let (rows, dead) =
            (server.database().count("sensor_readings").await, server.database().count("dead_letters").await);
        wait::is(u64::try_from(rows + dead).unwrap(), &(sent + taken))
    })
    .await;
    assert_eq!(stored(&server.database()).await.len() as u64, sent);
    let page = server.http.get(&format!("/api/v1/topics/{TOPIC}/records?limit=100")).await;
    assert!(!page["records"].as_array().unwrap().is_empty());
    let report = server.verify();
    assert_eq!((total(&report, "records"), total(&report, "pending")), (sent + taken, 0), "{report:#}");
    let (status, node) = server.terminate().await;
    assert_eq!(status.code(), Some(0));
    assert_eq!(total(&node.verify(), "records"), sent + taken, "as other clients see it");
}

#[actix_rt::test]
async fn nobody_else_becomes_a_member_of_a_pipelines_group() {
    let server = Node::new().start().await;
    let (producer, mut readings) = (Producer::connect(server.kafka()), Readings::new());
    let join = |group: &str| {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", server.kafka()).set("group.id", group).set("auto.offset.reset", "earliest");
        let stranger: BaseConsumer =
            config.set("partition.assignment.strategy", "cooperative-sticky").create().unwrap();
        stranger.subscribe(&[TOPIC]).unwrap();
        stranger
    };
    let stranger = join("streamward-sensors");
    let refused = wait::until("the stranger is told", async || match stranger.poll(Duration::from_millis(50)) {
        Some(Err(error)) => Ok(error.rdkafka_error_code()),
        other => Err(format!("{:?}", other.is_some())),
    });
    assert_eq!(refused.await, Some(RDKafkaErrorCode::GroupAuthorizationFailed));
    let reader = join("readers");
    readings.send(&producer, 100);
    wait_for_rows(&server, producer.finish().len()).await;
    wait::until("another group reads the topic", async || {
        reader.poll(Duration::from_millis(50)).map(drop).ok_or_else(|| "nothing".to_owned())
    })
    .await;
    server.verify();
}

async fn wait_for_rows(server: &Server, count: usize) {
    wait::until("every acknowledged reading is stored", async || {
        wait::is(server.database().count("sensor_readings").await, &i64::try_from(count).unwrap())
    })
    .await;
}

/// The first log of a topic that holds something.
fn segment(node: &Node, topic: &str) -> PathBuf {
    let mut folders = vec![node.data().join("broker/topics")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "log") && holds_something(&path, topic) {
                found.push(path);
            }
        }
    }
    found.sort();
    found.swap_remove(0)
}

fn holds_something(path: &Path, topic: &str) -> bool {
    path.to_string_lossy().contains(&format!("/{topic}.")) && path.metadata().unwrap().len() > 0
}

#[actix_rt::test]
async fn damage_in_the_middle_of_a_log_is_told_and_the_pipeline_goes_on_behind_it() {
    let node = Node::new();
    let server = node.start().await;
    let (producer, mut readings) = (Producer::connect(server.kafka()), Readings::new());
    for _ in 0..20 {
        readings.send(&producer, 20);
        wait_for_rows(&server, producer.finish().len()).await;
    }
    let acked: Vec<Acked> = producer.finish();
    drop(producer);
    let (status, node) = server.terminate().await;
    assert_eq!(status.code(), Some(0));
    let path = segment(&node, TOPIC);
    let mut content = fs::read(&path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&path, content).unwrap();

    let server = node.start().await;
    let metrics = server.http.try_text("/metrics").await.unwrap();
    let line = metrics.lines().find(|line| line.starts_with("streamward_broker_damaged_offsets{")).unwrap();
    let lost: u64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
    assert!((1..400).contains(&lost), "{line}");
    let producer = Producer::connect(server.kafka());
    readings.send(&producer, 100);
    let more = producer.finish();
    assert!(more.iter().all(|new| acked.iter().all(|old| (old.partition, old.offset) != (new.partition, new.offset))));
    wait_for_rows(&server, acked.len() + more.len()).await;
    assert_eq!(stored(&server.database()).await.len(), 500, "what was stored before stays");
    let report = server.verify();
    let damaged = report["partitions"].as_array().unwrap().iter().map(|partition| total(partition, "damaged"));
    assert_eq!(damaged.sum::<u64>(), lost, "{report:#}");
}
