//! Names of headers with bytes that are no text: nothing stops at them, and they are kept.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use streamward::adapters::kafka::{
    KafkaSettings,
    producer::{KafkaProducer, Outgoing, Placed},
};

use crate::support::{readings::TOPIC, server::Node, wait};

const GOOD: &str = r#"{"sensor_id":"s","sensor_type":"humidity","value":5.5,"timestamp":1735689600000,"location":"zone_1","anomaly":false,"metadata":{"battery_level":50,"signal_strength":-40}}"#;
/// Names, and whether the value is null.
const NAMES: [(&[u8], bool); 5] =
    [(b"\xff", false), (b"cut\0here", false), (b"cut\0too", true), (b"", false), (b"plain", false)];

fn headers() -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    NAMES.iter().map(|(name, is_null)| (name.to_vec(), (!is_null).then(|| b"v\0\xfe".to_vec()))).collect()
}

fn name_of(header: &Value) -> Vec<u8> {
    match header["name_base64"].as_str() {
        Some(base64) => STANDARD.decode(base64).unwrap(),
        None => header["name"].as_str().unwrap().as_bytes().to_vec(),
    }
}

#[actix::test]
async fn names_of_headers_that_are_no_text_stop_nothing_and_are_kept() {
    let server = Node::new().start().await;
    let settings = KafkaSettings { bootstrap: server.kafka().to_owned(), extra: std::collections::BTreeMap::new() };
    let producer = KafkaProducer::create(&settings, "test").unwrap();
    let mut placed: Vec<Placed> = Vec::new();
    for value in [GOOD, "{not json", GOOD] {
        let (topic, value) = (TOPIC, Some(value.as_bytes()));
        let record = Outgoing { topic, partition: Some(0), key: Some(b"s"), value, headers: headers() };
        placed.push(producer.send(record).await.unwrap());
    }
    server.database().wait_for_places("sensors", placed.iter().map(|place| (place.partition, place.offset))).await;
    let report = server.verify();
    assert_eq!((&report["stored"], &report["dead"]), (&json!(2), &json!(1)));

    let letter = server.http.get("/api/v1/dead-letters").await["dead_letters"][0].clone();
    let expected: Value = headers()
        .iter()
        .map(|(name, value)| {
            json!({"name": STANDARD.encode(name), "value": value.as_ref().map(|value| STANDARD.encode(value))})
        })
        .collect();
    assert_eq!(letter["headers"], expected, "base64 of the names and values");

    let names: Vec<Vec<u8>> = NAMES.iter().map(|(name, _)| name.to_vec()).collect();
    let page = server.http.get(&format!("/api/v1/topics/{TOPIC}/records?partition=0&contains=v")).await;
    for record in page["records"].as_array().unwrap() {
        let shown = record["headers"].as_array().unwrap();
        assert_eq!(shown.iter().map(name_of).collect::<Vec<_>>(), names);
        assert_eq!((&shown[2]["value"], &shown[4]["value_base64"]), (&Value::Null, &json!("dgD+")));
    }
    assert_eq!(page["records"].as_array().unwrap().len(), 3);

    let announced = wait::until("the dead letter is announced", async || {
        let page = server.http.get("/api/v1/topics/dlq-messages/records").await;
        page["records"].get(0).cloned().ok_or_else(|| page.to_string())
    });
    let announced = announced.await;
    let copied: Vec<Vec<u8>> = announced["headers"].as_array().unwrap().iter().map(name_of).collect();
    assert_eq!(copied[..names.len()], names, "{announced}");
    let restarts = server.http.actor("pipelines/sensors/source").await.unwrap()["restarts"].clone();
    assert_eq!(restarts, 0);
}
