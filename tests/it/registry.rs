//! Schemas at the start, over the command line, shared between processes, and at a registry outside.

use std::{fs, process::Output};

use serde_json::{Value, json};
use streamward_core::{
    encode,
    schema::{Scalar, StreamSchema},
};

use crate::support::{
    http::Http,
    kafka::{Outgoing, Producer},
    readings::TOPIC,
    server::{Node, Server},
    wait::{self, is},
};

pub(crate) const SCHEMA: &str = include_str!("../../schemas/sensor_reading.avsc");
pub(crate) const SUBJECT: &str = "sensor-readings-value";

/// The sensors' schema with a field more.
pub(crate) fn wider(field: &Value) -> String {
    let mut schema: Value = serde_json::from_str(SCHEMA).unwrap();
    schema["fields"].as_array_mut().unwrap().push(field.clone());
    schema.to_string()
}

pub(crate) fn exit(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[actix_rt::test]
async fn an_incompatible_schema_stops_the_start_with_the_reason() {
    let (_, node) = Node::new().start().await.terminate().await;
    fs::create_dir(node.path("schemas")).unwrap();
    let required = wider(&json!({"name": "altitude", "type": "int"}));
    fs::write(node.path("schemas/sensor_reading.avsc"), required).unwrap();
    fs::write(node.path("config.yaml"), "").unwrap();
    let listen = |key: &str| format!("{key}=127.0.0.1:0");
    let keys = ["http.listen", "kafka.embedded.listen", "registry.embedded.listen"].map(listen);
    let sets = keys.iter().flat_map(|set| ["--set", set]);
    let (code, said) = exit(&node.command(&["run"]).args(sets).output().unwrap());
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("stream sensors") && said.contains("'altitude'") && said.contains("version 1"), "{said}");
    fs::remove_file(node.path("config.yaml")).unwrap();
    fs::remove_dir_all(node.path("schemas")).unwrap();
    let server = node.start().await;
    assert_eq!(Http::new(&server.registry).get(&format!("/subjects/{SUBJECT}/versions")).await, json!([1]));
}

#[actix_rt::test]
async fn the_registry_answers_to_the_allowed_hosts_of_http() {
    let server = Node::new().set("http.allowed_hosts", "[streams.example]").start().await;
    let url = format!("http://{}/subjects/s/versions", server.registry);
    let client = awc::Client::default();
    for (host, wanted) in [("streams.example:8081", 200), ("elsewhere.example", 403)] {
        let request = client.post(&url).insert_header(("Host", host));
        let mut answer = request.send_json(&json!({"schema": "\"string\""})).await.unwrap();
        let body = String::from_utf8(answer.body().await.unwrap().to_vec()).unwrap();
        assert_eq!(answer.status().as_u16(), wanted, "{host}: {body}");
        assert_eq!(body.contains("http.allowed_hosts"), wanted == 403, "{body}");
    }
}

#[actix_rt::test]
async fn two_processes_on_one_kafka_share_their_schemas() {
    let first = Node::new().start().await;
    let second = Node::new().set("kafka.bootstrap", first.kafka()).set("kafka.consumer_group", "second").start().await;
    let (one, other) = (Http::new(&first.registry), Http::new(&second.registry));
    let latest = format!("/subjects/{SUBJECT}/versions/latest");
    assert_eq!(one.get(&latest).await, other.get(&latest).await);
    let (status, registered) = other.post("/subjects/s/versions", &json!({"schema": "\"string\""})).await;
    assert_eq!(status, 200, "{registered}");
    let path = format!("/schemas/ids/{}", registered["id"]);
    let seen = wait::until("the other process sees it", async || one.try_get(&path).await).await;
    assert_eq!(seen, json!({"schema": "\"string\""}));
    let (_, again) = one.post("/subjects/t/versions", &json!({"schema": "\"string\""})).await;
    assert_eq!(again, registered);
}

/// A reading in Confluent framing, written with the sensors' schema or with one that has `altitude` more.
pub(crate) fn framed(schema: &str, id: u64, sensor: &str) -> Vec<u8> {
    let schema = StreamSchema::parse(schema).unwrap();
    let text = |text: &str| Scalar::Text(text.to_owned());
    let mut row = vec![
        text(sensor),
        text("temperature"),
        Scalar::Number(20.5),
        Scalar::Integer(1_740_830_400_000),
        text("hall"),
        Scalar::Boolean(false),
        Scalar::Integer(90),
        Scalar::Integer(70),
    ];
    row.resize(schema.fields.len(), Scalar::Integer(3));
    let mut bytes = Vec::new();
    encode::push_frame(u32::try_from(id).unwrap(), &mut bytes);
    encode::encode_avro(&schema, &row, &mut bytes).unwrap();
    bytes
}

pub(crate) fn send(server: &Server, id: u64, value: &[u8]) {
    let producer = Producer::connect(server.kafka());
    producer.send(TOPIC, &Outgoing { id, key: Some(b"one partition"), value: Some(value), ..Outgoing::default() });
    producer.finish();
}

#[actix_rt::test]
async fn records_are_decoded_by_a_registry_outside_and_wait_while_it_is_silent() {
    let registry = Node::new().start().await;
    let address = registry.registry.clone();
    let server = Node::new().set("registry.url", &format!("http://{address}")).start().await;
    assert_eq!(server.registry, format!("http://{address}"));
    let http = Http::new(&address);
    let id = http.get(&format!("/subjects/{SUBJECT}/versions/latest")).await["id"].as_u64().unwrap();
    send(&server, 0, &framed(SCHEMA, id, "known"));
    let database = server.database();
    wait::until("the first record is stored", async || is(database.count("sensor_readings").await, &1)).await;

    let more = wider(&json!({"name": "altitude", "type": "int", "default": 0}));
    let (status, registered) = http.post(&format!("/subjects/{SUBJECT}/versions"), &json!({"schema": more})).await;
    assert_eq!(status, 200, "{registered}");
    let node = registry.kill();
    send(&server, 1, &framed(&more, registered["id"].as_u64().unwrap(), "waits"));
    wait::until("the lane says what it waits for", async || {
        let lane = server.http.actor("pipelines/sensors/lane").await?;
        let text = lane.to_string();
        if text.contains("the registry does not answer") { Ok(()) } else { Err(text) }
    })
    .await;
    assert_eq!(database.count("dead_letters").await, 0);
    assert_eq!(database.count("sensor_readings").await, 1);

    let registry = node.set("registry.embedded.listen", &address).start().await;
    wait::until("the second record is stored", async || is(database.count("sensor_readings").await, &2)).await;
    send(&server, 2, &framed(SCHEMA, 999, "unknown"));
    wait::until("the unknown id is a dead letter", async || is(database.count("dead_letters").await, &1)).await;
    assert_eq!(database.count("sensor_readings").await, 2);
    let restarts = server.http.actor("pipelines/sensors/lane").await.unwrap()["restarts"].clone();
    assert_eq!(restarts, 0);
    drop(registry);
}

#[actix_rt::test]
async fn a_dead_letter_counts_in_no_window_after_a_kill_though_its_schema_is_registered_by_then() {
    let node = Node::new().set("storage.checkpoint_every", "1h").set("streams.sensors.idle_after", "1h");
    let server = node.start().await;
    let http = Http::new(&server.registry);
    let id = http.get(&format!("/subjects/{SUBJECT}/versions/latest")).await["id"].as_u64().unwrap();
    let (status, probe) = http.post("/subjects/probe/versions", &json!({"schema": "\"string\""})).await;
    assert_eq!(status, 200, "{probe}");
    let next = probe["id"].as_u64().unwrap() + 1;
    let more = wider(&json!({"name": "altitude", "type": "int", "default": 0}));
    send(&server, 0, &framed(&more, next, "sensor"));
    let database = server.database();
    wait::until("the unknown id is a dead letter", async || is(database.count("dead_letters").await, &1)).await;
    let (status, registered) = http.post(&format!("/subjects/{SUBJECT}/versions"), &json!({"schema": more})).await;
    assert_eq!((status, registered["id"].as_u64()), (200, Some(next)), "{registered}");
    send(&server, 1, &framed(SCHEMA, id, "sensor"));
    wait::until("the second record is stored", async || is(database.count("sensor_readings").await, &1)).await;

    let server = server.kill().start().await;
    send(&server, 2, &framed(SCHEMA, id, "sensor"));
    let hour_later = r#"{"sensor_id": "other", "sensor_type": "temperature", "value": 1, "timestamp": 1740834000000,
        "location": "hall", "anomaly": false, "metadata": {"battery_level": 9, "signal_strength": -9}}"#;
    send(&server, 3, hour_later.as_bytes());
    let counted = "SELECT coalesce(max(count), 0) FROM aggregated_metrics WHERE sensor_id = 'sensor'";
    wait::until("the window has closed", async || match database.number(counted).await {
        0 => Err("it is open".to_owned()),
        _ => Ok(()),
    })
    .await;
    assert_eq!((database.number(counted).await, database.count("sensor_readings").await), (2, 3));
}

#[actix_rt::test]
async fn schemas_are_handled_on_the_command_line() {
    let server = Node::new().start().await;
    let node = server.node();
    let url = format!("http://{}", server.registry);
    let run = |arguments: &[&str]| {
        let all = [&["schema"], arguments, &["--url", &url]].concat();
        exit(&node.command(&all).output().unwrap())
    };
    let done = |arguments: &[&str], wanted: &str| {
        let (code, said) = run(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
        assert!(said.contains(wanted), "{arguments:?}: {wanted} is not in\n{said}");
    };
    let record = |fields: &str| format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#);
    fs::write(node.path("r.avsc"), record(r#"{"name":"a","type":"int"}"#)).unwrap();
    fs::write(node.path("bad.avsc"), record(r#"{"name":"b","type":"int"}"#)).unwrap();
    fs::write(node.path("user.avsc"), r#"["null","R"]"#).unwrap();
    fs::write(node.path("m.proto"), "message M {}").unwrap();
    done(&["check", "r.avsc", "--subject", "r"], "may be registered");
    done(&["register", "r.avsc", "--subject", "r"], "r has the id");
    done(&["register", "user.avsc", "--subject", "u", "--reference", "R=r:1"], "u has the id");
    done(&["register", "m.proto", "--subject", "m"], "m has the id");
    done(&["list"], SUBJECT);
    done(&["show", "m"], "schemaType: PROTOBUF");
    done(&["show", "u", "--version", "1"], "references: [{");
    done(&["show", "--id", "1", "--json"], "\"schema\":");
    let (code, reasons) = run(&["check", "bad.avsc", "--subject", "r"]);
    assert_eq!(code, Some(1), "{reasons}");
    assert!(reasons.contains("'b'"), "{reasons}");
    let (code, refused) = run(&["register", "bad.avsc", "--subject", "r"]);
    assert!(code == Some(4) && !refused.contains("/subjects/"), "{refused}");
    done(&["config", "r", "--level", "none", "--mode", "readwrite"], "level: NONE");
    done(&["register", "bad.avsc", "--subject", "r"], "r has the id");
    done(&["config", "r", "--reset"], "level: BACKWARD");
    done(&["config"], "mode: READWRITE");
    done(&["delete", "r", "--version", "2"], "deleted");
    done(&["delete", "r", "--version", "2", "--permanent"], "for ever");
    let (_, listed) = run(&["list", "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let r = listed.as_array().unwrap().iter().find(|row| row["subject"] == "r").unwrap();
    assert_eq!((&r["versions"], &r["level"]), (&json!([1]), &json!("BACKWARD")));
    let (code, gone) = exit(&node.command(&["schema", "list", "--url", "http://127.0.0.1:1"]).output().unwrap());
    assert_eq!(code, Some(3));
    assert!(gone.contains("--url"), "{gone}");
}
