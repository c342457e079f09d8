//! What large records take of memory while nothing takes them off.

use std::fs;

use serde_json::json;

use crate::support::{
    kafka::{Outgoing, Producer},
    server::Node,
    wait::{self, is},
};

const SCHEMA: &str = r#"{"type": "record", "name": "Fact", "fields": [
    {"name": "who", "type": "string"},
    {"name": "text", "type": "string"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#;

const CONFIG: &str = "
streams:
  facts: { schema: fact.avsc, key: who, event_time: at, partitions: 1, max_record: 2MiB }
pipelines:
  facts: { from: facts }
";

const RECORDS: u64 = 300;
const RECORD_BYTES: usize = 1_000_000;
/// Above what the process takes at rest: all records, once as bytes and once as rows, would be 600 MB.
const MOST_BYTES: u64 = 200_000_000;

#[actix::test]
async fn large_records_wait_in_the_log_and_not_in_memory_while_the_sink_is_paused() {
    let node = Node::new();
    fs::write(node.path("config.yaml"), CONFIG).unwrap();
    fs::write(node.path("fact.avsc"), SCHEMA).unwrap();
    let server = node.start().await;
    let at_rest = server.peak_memory();
    let command = async |command: &str| {
        let path = format!("/api/v1/supervision/pipelines/facts/sink/{command}");
        let (status, answer) = server.http.post(&path, &json!({})).await;
        assert!(status < 300, "{answer}");
    };
    command("pause").await;
    let producer = Producer::connect(server.kafka());
    let text = "x".repeat(RECORD_BYTES);
    for id in 0..RECORDS {
        let fact = json!({ "who": "w", "text": text, "at": 1_740_830_400_000_u64 + id }).to_string();
        producer.send("facts", &Outgoing { id, value: Some(fact.as_bytes()), ..Outgoing::default() });
    }
    producer.finish();
    wait::until("the sink has all that it takes", async || {
        let sink = server.http.actor("pipelines/facts/sink").await?;
        let inbox = &sink["inbox"];
        let (held, most) = (inbox["weight"].as_u64().unwrap(), inbox["weight_capacity"].as_u64().unwrap());
        if held > most / 2 { Ok(()) } else { Err(inbox.to_string()) }
    })
    .await;
    command("resume").await;
    let database = server.database();
    wait::until("every record is stored", async || is(database.count("facts").await, &RECORDS.cast_signed())).await;
    let taken = server.peak_memory() - at_rest;
    eprintln!("{RECORDS} records of {RECORD_BYTES} bytes: {} MB more than at rest", taken / 1_000_000);
    assert!(taken < MOST_BYTES, "{taken} bytes more than at rest");
}
