//! `streamward verify` finds what is missing or too much, and says where.

use serde_json::Value;

use crate::support::{
    kafka::{Acked, Producer},
    readings::{Readings, TOPIC},
    server::{Node, run},
    wait,
};

/// A stopped node with 1,000 stored readings, and their places.
async fn stopped() -> (Node, Vec<Acked>) {
    let server = Node::new().start().await;
    let (producer, mut readings) = (Producer::connect(server.kafka()), Readings::new());
    readings.send(&producer, 1_000);
    let acked = producer.finish();
    server.database().wait_for_all("sensors", &acked).await;
    let (status, node) = server.terminate().await;
    assert_eq!(status.code(), Some(0));
    (node, acked)
}

/// The report about a partition that differs, from a command that says so with exit code 1.
fn difference(node: &Node, partition: i32) -> Value {
    let output = node.command(&["verify", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], false);
    let partitions = report["partitions"].as_array().unwrap();
    let found = partitions.iter().find(|each| each["topic"] == TOPIC && each["partition"] == partition);
    found.unwrap().clone()
}

#[actix_rt::test]
async fn verify_names_the_offset_of_a_lost_row() {
    let (node, acked) = stopped().await;
    node.verify();
    let Acked { partition, offset, .. } = acked[500];
    let row = format!("\"partition\" = {partition} AND \"offset\" = {offset}");
    node.database().rows(&format!("DELETE FROM sensor_readings WHERE {row}")).await;
    let found = difference(&node, partition);
    assert_eq!(found["missing"]["offsets"], serde_json::json!([offset]), "{found}");
    assert_eq!((&found["twice"]["count"], &found["unknown"]["count"]), (&0.into(), &0.into()));
}

#[actix_rt::test]
async fn verify_names_the_offset_of_a_row_without_a_record() {
    let (node, acked) = stopped().await;
    let end = acked.iter().filter(|record| record.partition == 0).map(|record| record.offset + 1).max().unwrap();
    let database = node.database();
    let sql = "INSERT INTO sensor_readings SELECT max(id) + 1, sensor_id, sensor_type, value, timestamp, location, \
               anomaly, battery_level, signal_strength, stored_at FROM sensor_readings WHERE \"partition\" = 0";
    database.rows(sql).await;
    database.rows("UPDATE sw_positions SET next_offset = next_offset + 1 WHERE topic = 'sensor-readings'").await;
    let found = difference(&node, 0);
    assert_eq!(found["unknown"]["offsets"], serde_json::json!([end]), "{found}");
}

#[actix_rt::test]
async fn rows_whose_records_were_compacted_away_are_told_and_are_no_difference() {
    let server = Node::new().start().await;
    for setting in ["cleanup.policy=compact", "segment.bytes=16384", "min.cleanable.dirty.ratio=0.01"] {
        let url = format!("http://{}", server.http.address());
        let (code, _, complaint) = run(server.node(), &["topics", "alter", TOPIC, "--config", setting, "--url", &url]);
        assert_eq!(code, Some(0), "{complaint}");
    }
    let (producer, mut readings) = (Producer::connect(server.kafka()), Readings::new());
    readings.send(&producer, 5_000);
    server.database().wait_for_all("sensors", &producer.finish()).await;
    let report = wait::until("records have left the log", async || {
        // Sealed segments alone are compacted.
        readings.send(&producer, 100);
        server.database().wait_for_all("sensors", &producer.finish()).await;
        let report = server.verify();
        if report["records"].as_u64() < Some(4_000) { Ok(report) } else { Err(report["records"].to_string()) }
    });
    let report = report.await;
    let sum = |field: &str| {
        let partitions = report["partitions"].as_array().unwrap().iter();
        partitions.map(|partition| partition[field].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(sum("records"), sum("stored") - sum("compacted"), "{report:#}");
    let (status, node) = server.terminate().await;
    assert!(status.success(), "{status}");
    node.verify();
}

#[test]
fn a_folder_without_a_database_is_named_and_left_as_it_is() {
    let node = Node::new();
    let (code, _, complaint) = run(&node, &["verify"]);
    assert!(code == Some(2) && complaint.contains("there is no database "), "{complaint}");
    assert!(!node.data().join("lock").exists(), "nothing was begun there");
}
