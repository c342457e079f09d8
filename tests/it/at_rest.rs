//! Windows of a partition of which no record comes any more.

use std::fs;

use serde_json::json;

use crate::support::{
    server::{Node, Server},
    wait::{self, is},
};

const SCHEMA: &str = r#"{"type": "record", "name": "Fact", "fields": [
    {"name": "who", "type": "string"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#;

/// Sets how long a partition is at rest before its windows close by the clock.
fn configure(node: &Node, idle_after: &str) {
    let config = format!(
        "streams:\n  facts: {{ schema: fact.avsc, key: who, event_time: at, partitions: 1, idle_after: {idle_after} }}\n\
         pipelines:\n  facts:\n    from: facts\n    steps:\n      \
         - window: {{ name: totals, tumbling: 60s, group_by: [who], select: {{ n: count(*) }} }}\n"
    );
    fs::write(node.path("config.yaml"), config).unwrap();
    fs::write(node.path("fact.avsc"), SCHEMA).unwrap();
}

/// Stores two records of one minute that is over.
async fn store_two(server: &Server) {
    let now_ms = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let at = now_ms / 60_000 * 60_000 - 600_000;
    let record = json!({ "value": { "who": "w", "at": at } });
    let (status, answer) =
        server.http.post("/api/v1/streams/facts/records", &json!({ "records": [record, record] })).await;
    assert_eq!(status, 202, "{answer}");
    let database = server.database();
    wait::until("both records are stored", async || is(database.count("facts").await, &2)).await;
    assert_eq!(database.count("totals").await, 0, "the window is open");
}

async fn closes_without_another_record(node: Node) {
    configure(&node, "1s");
    let server = node.start().await;
    let database = server.database();
    let counted = async || is(database.number("SELECT coalesce(sum(n), 0) FROM totals").await, &2);
    wait::until("the window has closed", counted).await;
}

#[actix::test]
async fn a_window_that_a_stop_interrupts_closes_by_the_clock_after_the_start() {
    let node = Node::new();
    configure(&node, "1h");
    let server = node.start().await;
    store_two(&server).await;
    let (status, node) = server.terminate().await;
    assert!(status.success());
    closes_without_another_record(node).await;
}

#[actix::test]
async fn a_window_that_a_kill_interrupts_closes_by_the_clock_after_the_start() {
    let node = Node::new();
    configure(&node, "1h");
    let server = node.start().await;
    store_two(&server).await;
    closes_without_another_record(server.kill()).await;
}
