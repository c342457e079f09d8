//! Old rows leave, by age and by size, and what is left still agrees with the log.

use serde_json::{Value, json};

use crate::support::{
    kafka::{Outgoing, Producer},
    readings::{Readings, TOPIC, stored},
    server::{Node, Server, run},
    wait::{self, is},
};

#[actix_rt::test]
async fn rows_leave_when_they_are_old_enough_and_new_ones_are_stored() {
    let node = Node::new().set("storage.retention.age", "2s").set("storage.retention.check_every", "100ms");
    let server = node.start().await;
    let (producer, mut readings, database) = (Producer::connect(server.kafka()), Readings::new(), server.database());
    for _ in 0..2 {
        readings.send(&producer, 2_000);
        database.wait_for_all("sensors", &producer.finish()).await;
        wait::until("all rows have left", async || is(database.count("sensor_readings").await, &0)).await;
        server.verify();
    }
    let streams = server.http.get("/api/v1/streams").await;
    let sensors = streams["streams"].as_array().unwrap().iter().find(|stream| stream["name"] == "sensors");
    assert_eq!(sensors.unwrap()["stored"], 4_000, "{streams}");
}

#[actix_rt::test]
async fn the_oldest_rows_leave_when_the_pages_in_use_are_over_the_limit() {
    const LIMIT: i64 = 2 << 20;
    let node = Node::new().set("storage.retention.size", "2MiB").set("storage.retention.check_every", "100ms");
    let server = node.start().await;
    let (producer, mut readings, database) = (Producer::connect(server.kafka()), Readings::new(), server.database());
    readings.send(&producer, 20_000);
    database.wait_for_all("sensors", &producer.finish()).await;
    let used = "SELECT (p.page_count - f.freelist_count) * s.page_size \
                FROM pragma_page_count() p, pragma_freelist_count() f, pragma_page_size() s";
    wait::until("the pages in use are under the limit", async || {
        let used = database.number(used).await;
        if used <= LIMIT { Ok(()) } else { Err(format!("{used} bytes")) }
    })
    .await;
    let left = stored(&database).await;
    assert!(!left.is_empty() && left.len() < 20_000, "{} rows are left", left.len());
    assert!(left.contains(&19_999), "the newest row has left");
    let first = "SELECT sum(retained_from) FROM sw_positions WHERE sink = 'sensors'";
    assert_eq!(database.number(first).await, 20_000 - left.len() as i64, "the first rows of each partition have left");
    server.verify();
}

/// Sends records that cannot be decoded among readings, and waits until all of them are processed.
async fn send_with_dead(server: &Server, dead: usize, value: &[u8]) {
    let (producer, mut readings) = (Producer::connect(server.kafka()), Readings::new());
    for id in 0..dead {
        readings.send(&producer, 2);
        producer.send(TOPIC, &Outgoing { id: id as u64, value: Some(value), ..Outgoing::default() });
    }
    server.database().wait_for_all("sensors", &producer.finish()).await;
}

/// Recounts beside the server while one fate is taken from the database, and asserts that this one is missing.
async fn misses(server: &Server, sql: &str) {
    let (partition, offset): (i64, i64) = {
        let row = &server.database().rows(sql).await[0];
        (sqlx::Row::get(row, 0), sqlx::Row::get(row, 1))
    };
    let (code, said, complaint) = run(server.node(), &["verify", "--json", "--bootstrap", server.kafka()]);
    assert_eq!(code, Some(1), "{said}{complaint}");
    let report: Value = serde_json::from_str(&said).unwrap();
    let differs = report["partitions"].as_array().unwrap().iter().filter(|each| each["missing"]["count"] != 0);
    let differs: Vec<_> = differs.map(|each| (&each["partition"], &each["missing"]["offsets"])).collect();
    assert_eq!(differs, [(&json!(partition), &json!([offset]))], "{report:#}");
}

#[actix_rt::test]
async fn dead_letters_that_left_by_size_are_accounted_for_and_a_lost_record_is_missing() {
    let node = Node::new().set("storage.retention.size", "4MiB").set("storage.retention.check_every", "100ms");
    let server = node.start().await;
    let database = server.database();
    send_with_dead(&server, 300, &[b'x'; 40_000]).await;
    wait::until("dead letters have left", async || {
        let left = database.count("dead_letters").await;
        if left < 150 { Ok(()) } else { Err(left.to_string()) }
    })
    .await;
    assert_eq!(database.count("sensor_readings").await, 600, "the rows around them stay");
    let report = server.verify();
    let [dead, removed] = ["dead", "removed"].map(|fate| report[fate].as_u64().unwrap());
    assert_eq!(dead + removed, 300, "{report:#}");
    let lost = "DELETE FROM sensor_readings WHERE id = (SELECT max(id) FROM sensor_readings) RETURNING \"partition\", \"offset\"";
    misses(&server, lost).await;
}

#[actix_rt::test]
async fn dead_letters_that_left_by_age_are_accounted_for_and_a_lost_place_is_missing() {
    let node = Node::new().set("storage.retention.age", "1s").set("storage.retention.check_every", "100ms");
    let server = node.start().await;
    send_with_dead(&server, 50, b"{").await;
    let producer = Producer::connect(server.kafka());
    for id in 0..50 {
        producer.send(TOPIC, &Outgoing { id, value: Some(b"{"), ..Outgoing::default() });
    }
    server.database().wait_for_all("sensors", &producer.finish()).await;
    wait::until("all have left", async || is(server.database().count("dead_letters").await, &0)).await;
    let report = server.verify();
    assert!(report["removed"].as_u64() > Some(0), "{report:#}");
    let lost = "UPDATE sw_ranges SET next_offset = next_offset - 1 WHERE kind = 'removed' AND next_offset = \
                (SELECT max(next_offset) FROM sw_ranges WHERE kind = 'removed') RETURNING \"partition\", next_offset";
    misses(&server, lost).await;
}
