//! The embedded broker's disk is full, or its files are deleted, while the server runs.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::support::{
    kafka::Producer,
    readings::{Readings, stored},
    server::{Node, Server},
    wait,
};

async fn causes(server: &Server) -> Result<Vec<Value>, String> {
    let all = server.http.try_get("/api/v1/standing-still").await?;
    Ok(all["standing_still"].as_array().unwrap().clone())
}

async fn named(server: &Server) -> Value {
    let finding = wait::until("it is named", async || {
        let all = causes(server).await?;
        all.iter().find(|finding| finding["cause"] == "broker_storage").cloned().ok_or_else(|| format!("{all:?}"))
    });
    let finding = finding.await;
    assert_eq!(finding["actor"], "platform/broker");
    let ready = server.http.get("/health/ready").await;
    assert_eq!(ready["status"], "degraded", "{ready}");
    let metrics = server.http.try_text("/metrics").await.unwrap();
    let is_sample = |line: &str| line.starts_with("streamward_standing_still{") && line.contains("\"broker_storage\"");
    assert!(metrics.lines().any(is_sample), "{metrics}");
    finding
}

/// Sets the size that the server's files may grow to.
fn limit(server: &Server, bytes: &str) {
    let (pid, size) = (server.pid().to_string(), format!("--fsize={bytes}:unlimited"));
    assert!(Command::new("prlimit").args(["--pid", &pid, &size]).status().unwrap().success());
}

#[actix_rt::test]
async fn a_full_disk_is_named_until_there_is_room_and_nothing_acknowledged_is_lost() {
    let server = Node::new().start().await;
    let (producer, mut readings) = (Producer::connect(server.kafka()), Readings::new());
    readings.send(&producer, 500);
    producer.finish();
    // Room for the small file that asks, and for no more records.
    limit(&server, "70000");
    readings.send(&producer, 5_000);
    let finding = named(&server).await;
    assert!(finding["reason"].as_str().unwrap().contains("File too large"), "{finding}");
    assert!(finding["way_out"].as_str().unwrap().contains("room"), "{finding}");
    limit(&server, "unlimited");
    let acked = producer.finish();
    assert_eq!(acked.len(), 5_500);
    server.database().wait_for_all("sensors", &acked).await;
    assert_eq!(stored(&server.database()).await.len(), 5_500);
    wait::until("nothing stands still", async || wait::is(causes(&server).await?, &Vec::new())).await;
    server.verify();
}

#[actix_rt::test]
async fn a_broker_whose_folder_was_deleted_acknowledges_nothing_more_and_what_it_had_is_stored() {
    let server = Node::new().start().await;
    let (producer, mut readings) = (Producer::connect(server.kafka()), Readings::new());
    readings.send(&producer, 500);
    let acked = producer.finish();
    fs::remove_dir_all(server.node().data().join("broker")).unwrap();
    let finding = named(&server).await;
    assert!(finding["reason"].as_str().unwrap().contains("deleted"), "{finding}");
    assert!(finding["way_out"].as_str().unwrap().contains("restart the server"), "{finding}");
    server.database().wait_for_all("sensors", &acked).await;
    let reading = json!({
        "sensor_id": "a", "sensor_type": "humidity", "value": 1.0, "timestamp": "2026-01-01T00:00:00Z",
        "location": "zone_1", "metadata": { "battery_level": 90, "signal_strength": -40 },
    });
    let (status, answer) = server.http.post("/api/v1/streams/sensors/records", &reading).await;
    assert_eq!(status, 503, "{answer}");
}
