//! Old rows leave, by age and by size, and what is left still agrees with the log.

use crate::support::{
    kafka::Producer,
    readings::{Readings, stored},
    server::Node,
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
