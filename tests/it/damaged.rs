//! A database that is damaged, or whose files are deleted, while the server runs or before it starts.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
};

use serde_json::Value;

use crate::support::{
    kafka::{Acked, Producer},
    readings::{Readings, stored},
    server::{Node, Server, run},
    wait,
};

/// Enough that rows lie in the second half of the file.
const RECORDS: u64 = 5_000;

/// A server whose database holds rows of an earlier run, and what was acknowledged then.
async fn with_rows() -> (Server, Vec<Acked>, Readings) {
    let server = Node::new().start().await;
    let (producer, mut readings) = (Producer::connect(server.kafka()), Readings::new());
    readings.send(&producer, RECORDS);
    let acked = producer.finish();
    server.database().wait_for_all("sensors", &acked).await;
    let (_, node) = server.terminate().await;
    (node.start().await, acked, readings)
}

fn harm(node: &Node, how: &str) {
    let file = File::options().write(true).open(node.data().join("streamward.db")).unwrap();
    let length = file.metadata().unwrap().len();
    let noise = |from: u64, to: u64| file.write_all_at(&vec![0xa5; usize::try_from(to - from).unwrap()], from).unwrap();
    match how {
        "half" => file.set_len(length / 2).unwrap(),
        "pages" => noise(length / 2, length),
        _ => noise(0, length),
    }
}

async fn named(server: &Server, cause: &str) -> Value {
    wait::until("it is named", async || {
        let all = server.http.try_get("/api/v1/standing-still").await?;
        let found = all["standing_still"].as_array().unwrap().iter().find(|finding| finding["cause"] == cause).cloned();
        found.ok_or_else(|| all.to_string())
    })
    .await
}

#[actix_rt::test]
async fn damage_is_named_while_the_server_runs_and_another_database_is_filled_from_the_log() {
    for how in ["half", "pages", "all"] {
        let (server, acked, _) = with_rows().await;
        harm(server.node(), how);
        let finding = named(&server, "damaged").await;
        assert!(finding["way_out"].as_str().unwrap().contains("aside"), "{finding}");
        let ready = server.http.get("/health/ready").await;
        assert_eq!((&ready["status"], &ready["standing_still"][0]["cause"]), (&"degraded".into(), &"damaged".into()));
        let metrics = server.http.try_text("/metrics").await.unwrap();
        assert!(
            metrics.lines().any(|line| line.starts_with("streamward_standing_still{") && line.contains("\"damaged\""))
        );
        let (code, said, complaint) = run(server.node(), &["verify", "--bootstrap", server.kafka()]);
        let told = said + &complaint;
        assert!(code == Some(2) && told.contains("is damaged") && !told.contains("panicked"), "{how}: {code:?} {told}");
        let node = server.kill();
        harm(&node, how);
        let (code, said, complaint) = run(
            &node,
            &[
                "run",
                "--no-simulators",
                "--set",
                "http.listen=127.0.0.1:0",
                "--set",
                "kafka.embedded.listen=127.0.0.1:0",
                "--set",
                "registry.embedded.listen=127.0.0.1:0",
            ],
        );
        assert!(
            code == Some(2) && complaint.contains("is damaged") && complaint.contains("aside"),
            "{how}: {code:?} {said}{complaint}"
        );
        assert!(!complaint.contains("panicked"), "{complaint}");
        for file in ["streamward.db", "streamward.db-wal", "streamward.db-shm"] {
            let _may_not_be_there = fs::rename(node.data().join(file), node.path(file));
        }
        let server = node.start().await;
        server.database().wait_for_all("sensors", &acked).await;
        assert_eq!(server.database().count("sensor_readings").await, i64::try_from(RECORDS).unwrap());
        server.verify();
    }
}

#[actix_rt::test]
async fn damage_that_was_there_before_the_start_is_told_by_verify_and_by_the_start() {
    let (server, ..) = with_rows().await;
    let (_, node) = server.terminate().await;
    harm(&node, "all");
    let (code, said, complaint) = run(&node, &["verify"]);
    assert!(code == Some(2) && complaint.contains("is damaged") && complaint.contains("aside"), "{said}{complaint}");
}

/// Waits until the watch has told, in the tree's events, that it opened the database anew.
async fn opened_anew(server: &Server, words: &str) {
    wait::until("it was opened anew", async || {
        let events = server.http.try_get("/api/v1/events?limit=500").await?;
        let is_told = |event: &Value| event["note"].as_str().is_some_and(|note| note.contains(words));
        if events["events"].as_array().unwrap().iter().any(is_told) { Ok(()) } else { Err(events.to_string()) }
    })
    .await;
}

async fn log_was_seen(server: &Server) {
    let looks = async || server.http.actor("ops/standstill").await.map(|watch| watch["processed"].as_i64().unwrap());
    wait::until("the log was seen", async || wait::at_least(looks().await?, &2)).await;
}

#[actix_rt::test]
async fn nothing_is_lost_when_the_write_ahead_log_is_deleted_under_load() {
    let (server, mut acked, mut readings) = with_rows().await;
    let producer = Producer::connect(server.kafka());
    log_was_seen(&server).await;
    fs::remove_file(server.node().data().join("streamward.db-wal")).unwrap();
    readings.send(&producer, 2_000);
    acked.extend(producer.finish());
    opened_anew(&server, "opened anew, and nothing is lost").await;
    readings.send(&producer, 1_000);
    acked.extend(producer.finish());
    server.database().wait_for_all("sensors", &acked).await;
    let node = server.kill();
    let server = node.start().await;
    server.database().wait_for_all("sensors", &acked).await;
    assert_eq!(stored(&server.database()).await.len() as u64, RECORDS + 3_000);
    server.verify();
}

#[actix_rt::test]
async fn what_a_deleted_log_held_is_read_again_where_another_program_has_begun_its_own() {
    let (server, mut acked, mut readings) = with_rows().await;
    let producer = Producer::connect(server.kafka());
    readings.send(&producer, 1_000);
    acked.extend(producer.finish());
    server.database().wait_for_all("sensors", &acked).await;
    log_was_seen(&server).await;
    let log = server.node().data().join("streamward.db-wal");
    fs::write(log.with_extension("new"), b"somebody else's").unwrap();
    fs::rename(log.with_extension("new"), &log).unwrap();
    opened_anew(&server, "is read from the log again").await;
    server.database().wait_for_all("sensors", &acked).await;
    readings.send(&producer, 1_000);
    acked.extend(producer.finish());
    server.database().wait_for_all("sensors", &acked).await;
    assert_eq!(stored(&server.database()).await.len() as u64, RECORDS + 2_000);
    server.verify();
}

#[actix_rt::test]
async fn a_database_that_was_deleted_is_one_finding() {
    let (server, _, mut readings) = with_rows().await;
    fs::remove_file(server.node().data().join("streamward.db")).unwrap();
    let producer = Producer::connect(server.kafka());
    let finding = named(&server, "storage").await;
    assert!(finding["reason"].as_str().unwrap().contains("was deleted"), "{finding}");
    wait::until("the sink has met it", async || {
        readings.send(&producer, 100);
        let sink = server.http.actor("pipelines/sensors/sink").await?;
        if sink["note"].to_string().contains("was deleted") { Ok(()) } else { Err(sink.to_string()) }
    })
    .await;
    // Long enough that partitions would count as standing still by themselves.
    let looks = async || server.http.actor("ops/standstill").await.map(|watch| watch["processed"].as_i64().unwrap());
    let long = looks().await.unwrap() + 8;
    wait::until("it was looked at for a while", async || wait::at_least(looks().await?, &long)).await;
    let found = server.http.get("/api/v1/standing-still").await;
    let found = found["standing_still"].as_array().unwrap();
    assert_eq!(found.len(), 1, "{found:#?}");
    let lag = server.http.get("/api/v1/lag").await;
    assert!(lag.to_string().contains("was deleted"), "each partition names it: {lag}");
}
