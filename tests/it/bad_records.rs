//! Bad records in all kinds: exactly those become dead letters, byte for byte, and their neighbours are stored.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sqlx::{Row, sqlite::SqliteRow};
use streamward_core::{
    corpus::{CorpusOptions, CorpusRecord, Expect, corpus},
    schema::{Scalar, StreamSchema},
};

use crate::support::{
    database::Database,
    kafka::{Outgoing, Producer},
    readings::TOPIC,
    server::{Node, Server},
};

const RECORDS: usize = 6_000;
const SEED: u64 = 20_260_301;
const MAX_RECORD: usize = 64 << 10;
const SCHEMA: &str = include_str!("../../schemas/sensor_reading.avsc");

/// Partition and offset.
type Place = (i32, i64);

async fn records(server: &Server) -> Vec<CorpusRecord> {
    let registry = crate::support::http::Http::new(&server.registry);
    let registered = registry.get(&format!("/subjects/{TOPIC}-value/versions/latest")).await;
    let options = CorpusOptions {
        schema_id: u32::try_from(registered["id"].as_u64().unwrap()).unwrap(),
        unknown_schema_id: 987_654,
        max_record_bytes: Some(MAX_RECORD),
    };
    corpus(SEED, RECORDS, &StreamSchema::parse(SCHEMA).unwrap(), options)
}

fn send_all(server: &Server, records: &[CorpusRecord]) -> BTreeMap<Place, usize> {
    let producer = Producer::connect(server.kafka());
    for (id, record) in (0..).zip(records) {
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        producer.send(TOPIC, &Outgoing { id, key, value, headers: record.headers.clone(), ..Outgoing::default() });
    }
    let acked = producer.finish();
    acked.iter().map(|acked| ((acked.partition, acked.offset), usize::try_from(acked.id).unwrap())).collect()
}

async fn by_place(database: &Database, columns: &str, table: &str) -> BTreeMap<Place, SqliteRow> {
    let rows = database.rows(&format!("SELECT \"partition\", \"offset\", {columns} FROM {table}")).await;
    let count = rows.len();
    let places: BTreeMap<_, _> = rows.into_iter().map(|row| ((row.get(0), row.get(1)), row)).collect();
    assert_eq!(places.len(), count, "a record is in {table} twice");
    places
}

fn stored_values(row: &SqliteRow) -> Vec<Scalar> {
    vec![
        Scalar::Text(row.get("sensor_id")),
        Scalar::Text(row.get("sensor_type")),
        Scalar::Number(row.get("value")),
        Scalar::Integer(row.get("timestamp")),
        Scalar::Text(row.get("location")),
        Scalar::Boolean(row.get("anomaly")),
        Scalar::Integer(row.get("battery_level")),
        Scalar::Integer(row.get("signal_strength")),
    ]
}

fn headers_as_stored(record: &CorpusRecord) -> Value {
    let header = |(name, value): &(String, Option<Vec<u8>>)| json!({ "name": STANDARD.encode(name), "value": value.as_ref().map(|value| STANDARD.encode(value)) });
    record.headers.iter().map(header).collect()
}

fn assert_kept_exactly(row: &SqliteRow, record: &CorpusRecord) {
    let fault = record.fault;
    assert_eq!(row.get::<Option<Vec<u8>>, _>("value"), record.value, "value of: {fault}");
    assert_eq!(row.get::<Option<Vec<u8>>, _>("key"), record.key, "key of: {fault}");
    let headers: Value = serde_json::from_slice(row.get("headers")).unwrap();
    assert_eq!(headers, headers_as_stored(record), "headers of: {fault}");
    let Expect::Bad(class) = &record.expect else { panic!("{fault} is a dead letter") };
    let class = format!("{class:?}").to_lowercase();
    assert_eq!(row.get::<String, _>("class"), class, "class of: {fault}, {}", row.get::<String, _>("reason"));
    assert!(!row.get::<String, _>("reason").is_empty(), "reason of: {fault}");
}

#[actix_rt::test]
async fn exactly_the_bad_records_of_a_mix_are_dead_letters_and_nothing_restarts() {
    let server = Node::new().set("streams.sensors.max_record", "64KiB").start().await;
    let records = records(&server).await;
    let places = send_all(&server, &records);
    let database = server.database();
    let acked: Vec<_> = places.iter().map(|(&(partition, offset), &id)| (partition, offset, id)).collect();
    database.wait_for_places("sensors", acked.iter().map(|&(partition, offset, _)| (partition, offset))).await;

    let columns = "sensor_id, sensor_type, value, timestamp, location, anomaly, battery_level, signal_strength";
    let mut rows = by_place(&database, columns, "sensor_readings").await;
    let mut dead = by_place(&database, "\"key\", value, headers, class, reason", "dead_letters").await;
    for (partition, offset, id) in acked {
        let (record, place) = (&records[id], (partition, offset));
        match &record.expect {
            Expect::Good(values) => {
                let row = rows.remove(&place).unwrap_or_else(|| panic!("not stored: {} {record:?}", record.fault));
                assert_eq!(stored_values(&row), *values, "{}", record.fault);
            }
            Expect::Bad(_) => {
                let row = dead.remove(&place).unwrap_or_else(|| panic!("no dead letter: {} {record:?}", record.fault));
                assert_kept_exactly(&row, record);
            }
        }
    }
    assert_eq!((rows.len(), dead.len()), (0, 0), "more than was sent");
    let bad = records.iter().filter(|record| matches!(record.expect, Expect::Bad(_))).count();
    assert!(bad >= 500, "only {bad} bad records");
    assert_eq!(server.verify()["dead"], bad);
    let page = server.http.try_text("/metrics").await.unwrap();
    let restarts = page.lines().filter(|line| line.starts_with("streamward_actor_restarts_total{"));
    assert_eq!(restarts.filter(|line| !line.ends_with(" 0")).collect::<Vec<_>>(), Vec::<&str>::new());
}

#[actix_rt::test]
async fn a_stream_that_takes_avro_alone_refuses_what_would_be_written_as_json() {
    let server = Node::new().set("streams.series.format", "avro").start().await;
    let reading = json!({ "series": "s", "timestamp": "2025-03-01T12:00:00Z", "value": 1.0 });
    let (status, answer) = server.http.post("/api/v1/streams/series/records", &reading).await;
    assert!(status == 422 && answer.to_string().contains("format: auto"), "{status} {answer}");
    let node = server.node();
    std::fs::write(node.path("a.csv"), "timestamp,value\n2025-03-01 12:00:00,1\n").unwrap();
    let arguments = ["replay", "a.csv", "--set", "streams.series.format=avro", "--bootstrap", server.kafka()];
    let output = node.command(&arguments).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("format: auto"), "{said}");
}
