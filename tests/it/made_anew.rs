//! A topic that is deleted and made anew is another log: each incarnation is read from its beginning and stored once.
//!
//! `STREAMWARD_ROUNDS` and `STREAMWARD_SEED` set the length and the course of the long run. With `STREAMWARD_KAFKA` (the
//! address of an Apache Kafka) the tests use that cluster instead of the embedded broker.

use std::collections::BTreeSet;

use serde_json::json;
use sqlx::Row;
use streamward_core::corpus::SplitMix64;

use crate::support::{
    kafka::{Outgoing, Producer, make_anew},
    number,
    server::{Node, Server, exact, outside},
    wait::{self, at_least, is},
};

const TOPIC: &str = "sensor-readings";
const FIRST_EVENT_MS: u64 = 1_735_689_600_000;
/// Readings between two looks at the server.
const SIZES: [u64; 5] = [5, 20, 21, 200, 3_000];

/// Numbered readings of one sensor; each is hot, so that the first of an incarnation raises an alert.
struct Readings {
    next: u64,
}

impl Readings {
    /// Sends that many to all partitions in turn, and returns once all are acknowledged.
    fn send(&mut self, bootstrap: &str, count: u64) {
        let producer = Producer::connect(bootstrap);
        for id in self.next..self.next + count {
            let value = json!({
                "sensor_id": "boiler", "sensor_type": "temperature", "value": 99.5, "location": format!("zone_{id}"),
                "timestamp": FIRST_EVENT_MS + id, "metadata": { "battery_level": 90, "signal_strength": -40 },
            });
            let (key, value) = (id.to_string(), value.to_string());
            let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
            producer.send(TOPIC, &Outgoing { id, key, value, ..Outgoing::default() });
        }
        self.next += count;
        assert_eq!(producer.finish().len() as u64, count);
    }
}

/// Waits until all readings sent so far are stored, each once.
async fn all_stored(server: &Server, sent: u64) {
    let database = server.database();
    wait::until("all readings are stored", async || {
        let rows = database.rows("SELECT location FROM sensor_readings").await;
        let numbers: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(numbers.len(), rows.len(), "a reading is stored twice");
        is(numbers.len() as u64, &sent)
    })
    .await;
}

/// Ends the server in the way that `how` says, and starts it again.
async fn restarted(server: Server, how: usize) -> Server {
    if how == 0 {
        return server.kill().start().await;
    }
    let (status, node) = server.terminate().await;
    assert!(status.success(), "{status}");
    node.start().await
}

async fn rounds(count: u64, seed: u64) -> Server {
    eprintln!("seed {seed}, {count} rounds");
    let mut random = SplitMix64::new(seed);
    let mut readings = Readings { next: 0 };
    if let Some(kafka) = outside() {
        // Whatever an earlier run left.
        make_anew(&kafka, TOPIC, 4).await;
    }
    let mut server = Node::somewhere().start().await;
    let mut incarnations = 1;
    readings.send(server.kafka(), 20);
    for round in 0..count {
        all_stored(&server, readings.next).await;
        let partitions = [1, 2, 4, 6][random.below(4)];
        let restarts = random.below(4);
        let (kafka, sizes) = (server.kafka().to_owned(), [SIZES[random.below(5)], SIZES[random.below(5)]]);
        eprintln!("round {round}: {partitions} partitions, {sizes:?} readings, {restarts} restarts");
        make_anew(&kafka, TOPIC, partitions).await;
        incarnations += 1;
        readings.send(&kafka, sizes[0]);
        for _ in 0..restarts {
            server = restarted(server, random.below(2)).await;
        }
        readings.send(server.kafka(), sizes[1]);
    }
    all_stored(&server, readings.next).await;
    let fired = "SELECT count(DISTINCT alert_id) FROM alerts WHERE state = 'firing'";
    wait::until("each incarnation has raised its alerts", async || {
        let alerts = server.database().number(fired).await;
        if alerts >= incarnations { Ok(()) } else { Err(format!("{alerts} of {incarnations}")) }
    })
    .await;
    server
}

#[actix_rt::test]
async fn every_incarnation_of_a_topic_is_stored_once_whatever_its_size_and_partitions() {
    let server = rounds(number("STREAMWARD_ROUNDS", 4), number("STREAMWARD_SEED", 3)).await;
    server.verify();
    wait::until("the server is ready", async || server.http.try_get("/health/ready").await).await;
}

#[actix_rt::test]
async fn a_topic_made_anew_with_ever_fewer_partitions_ends_no_incarnation() {
    let server = Node::new().start().await;
    let mut readings = Readings { next: 0 };
    for partitions in [5, 4, 3, 1, 2] {
        make_anew(server.kafka(), TOPIC, partitions).await;
        readings.send(server.kafka(), 20);
        all_stored(&server, readings.next).await;
        let source = server.http.actor("pipelines/sensors/source").await.unwrap();
        assert_eq!((&source["restarts"], &source["zombies"]), (&json!(0), &json!(0)), "{source}");
    }
    server.verify();
}

/// A server whose embedded broker is the outside cluster of another one, and that other one's node.
async fn cluster_and_node() -> (Server, Node) {
    let cluster = Node::new().start().await;
    (cluster, Node::new().set("kafka.consumer_group", "other"))
}

async fn stopped(server: Server) -> Node {
    let (status, node) = server.terminate().await;
    assert!(status.success(), "{status}");
    node
}

#[actix_rt::test]
async fn a_topic_of_an_outside_cluster_made_anew_while_the_server_is_stopped_is_read_from_its_beginning() {
    let (cluster, node) = cluster_and_node().await;
    let kafka = cluster.kafka().to_owned();
    let mut readings = Readings { next: 0 };
    let mut node = node.set("kafka.bootstrap", &kafka);
    for (partitions, count) in [(4, 20), (2, 200), (6, 200), (1, 5)] {
        make_anew(&kafka, TOPIC, partitions).await;
        readings.send(&kafka, count);
        let verify = || exact(&node.command(&["verify", "--json", "--bootstrap", &kafka]).output().unwrap());
        if node.database_exists() {
            let report = verify();
            assert_eq!(report["pending"], count, "what was never read is not exact in silence: {report:#}");
        }
        let server = node.start().await;
        all_stored(&server, readings.next).await;
        node = stopped(server).await;
        let report = exact(&node.command(&["verify", "--json", "--bootstrap", &kafka]).output().unwrap());
        assert_eq!((&report["stored"], &report["pending"]), (&count.into(), &0.into()), "{report:#}");
    }
}

#[actix_rt::test]
async fn a_data_folder_that_moves_to_an_outside_cluster_and_back_reads_each_log_once() {
    let (cluster, node) = cluster_and_node().await;
    let outside = cluster.kafka().to_owned();
    let mut readings = Readings { next: 0 };
    let mut server = node.start().await;
    readings.send(server.kafka(), 20);
    for round in 0..2 {
        all_stored(&server, readings.next).await;
        let node = stopped(server).await.set("kafka.bootstrap", &outside);
        readings.send(&outside, 25 + round);
        server = node.start().await;
        all_stored(&server, readings.next).await;
        server = stopped(server).await.come_home().start().await;
        readings.send(server.kafka(), 10);
    }
    all_stored(&server, readings.next).await;
    let rules = "SELECT count(*) FROM (SELECT alert_id FROM alerts WHERE n = 0 GROUP BY alert_id HAVING count(*) > 1)";
    assert_eq!(server.database().number(rules).await, 0);
    stopped(server).await.verify();
}

#[actix_rt::test]
async fn simulators_and_posted_records_go_on_after_their_topic_was_made_anew() {
    let server = Node::new().with_simulators().start().await;
    let database = server.database();
    for _ in 0..3 {
        let before = database.count("sensor_readings").await;
        wait::until("the simulator's readings are stored", async || {
            let now = database.count("sensor_readings").await;
            if now >= before + 30 { Ok(()) } else { Err(format!("{now} of {before} + 30")) }
        })
        .await;
        make_anew(server.kafka(), TOPIC, 3).await;
        let reading = json!({
            "sensor_id": "posted", "sensor_type": "humidity", "value": 50.0, "location": "zone_1",
            "timestamp": "2025-03-01T12:00:00Z", "metadata": { "battery_level": 90, "signal_strength": -40 },
        });
        // A client may learn of the new topic a moment later: then it is told to try again.
        wait::until("a posted reading is taken", async || {
            let (status, body) = server.http.post("/api/v1/streams/sensors/records", &reading).await;
            if status == 202 { Ok(()) } else { Err(format!("{status}: {body}")) }
        })
        .await;
    }
    let posted = "SELECT count(*) FROM sensor_readings WHERE sensor_id = 'posted'";
    wait::until("the posted readings are stored", async || at_least(database.number(posted).await, &3)).await;
    stopped(server).await.verify();
}
