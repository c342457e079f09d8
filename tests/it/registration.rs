//! Schemas of streams that the registry does not take at the start, and streams whose record has a new name.

use std::fs;

use serde_json::{Value, json};

use crate::{
    registry::{SCHEMA, SUBJECT, exit, framed, send, wider},
    support::{
        http::Http,
        server::{Node, Server},
        wait::{self, is},
    },
};

const REGISTRATION: &str = "platform/registry/registration";

/// Carries out a command on schemas.
fn schema(server: &Server, arguments: &[&str]) {
    let url = format!("http://{}", server.registry);
    let all = [&["schema"], arguments, &["--url", &url]].concat();
    let (code, said) = exit(&server.node().command(&all).output().unwrap());
    assert_eq!(code, Some(0), "{arguments:?}: {said}");
}

/// Holds the actor that registers again what is deleted.
async fn hold_registration(server: &Server) {
    let (status, said) = server.http.post(&format!("/api/v1/supervision/{REGISTRATION}/pause"), &json!({})).await;
    assert_eq!(status, 200, "{said}");
    wait::until("it is held", async || is(server.http.actor(REGISTRATION).await?["state"].clone(), &json!("paused")))
        .await;
}

/// Puts the stream's schema beside a configuration of defaults.
fn write_schema(node: &Node, schema: &str) {
    fs::create_dir_all(node.path("schemas")).unwrap();
    fs::write(node.path("schemas/sensor_reading.avsc"), schema).unwrap();
    fs::write(node.path("config.yaml"), "").unwrap();
}

pub(crate) async fn id_of(registry: &str) -> u64 {
    let latest = Http::new(registry).get(&format!("/subjects/{SUBJECT}/versions/latest")).await;
    latest["id"].as_u64().unwrap()
}

/// Waits until readiness says that the subject misses its schema.
async fn says_that_it_is_missing(server: &Server) {
    wait::until("readiness says what is missing", async || {
        let ready = server.http.try_get("/health/ready").await?;
        let said = ready["degraded"].as_array().unwrap().iter().filter_map(Value::as_str);
        let mut said = said.filter(|said| said.contains(REGISTRATION) && said.contains(SUBJECT));
        said.next().map(drop).ok_or_else(|| ready.to_string())
    })
    .await;
}

pub(crate) async fn heals(server: &Server) {
    wait::until("nothing is missing any more", async || {
        let ready = server.http.try_get("/health/ready").await?;
        is(ready["status"].clone(), &json!("ready"))
    })
    .await;
}

#[actix_rt::test]
async fn a_stream_whose_types_have_new_names_reads_what_was_written_with_the_old_ones() {
    let server = Node::new().start().await;
    let old = id_of(&server.registry).await;
    send(&server, 0, &framed(SCHEMA, old, "old"));
    wait::until("it is stored", async || is(server.database().count("sensor_readings").await, &1)).await;
    let (_, node) = server.terminate().await;

    let mut renamed: Value = serde_json::from_str(SCHEMA).unwrap();
    renamed["name"] = json!("Reading");
    renamed["namespace"] = json!("org.example");
    renamed["aliases"] = json!(["com.streaming.sensor.SensorReading"]);
    for (field, name) in [(1, "Sort"), (6, "Health")] {
        let kind = &mut renamed["fields"][field]["type"];
        kind["aliases"] = json!([format!("com.streaming.sensor.{}", kind["name"].as_str().unwrap())]);
        kind["name"] = json!(name);
    }
    let renamed = renamed.to_string();
    write_schema(&node, &renamed);
    // A table is called after the record unless it has a name of its own.
    let server = node.set("streams.sensors.table", "sensor_readings").start().await;
    let new = id_of(&server.registry).await;
    assert!(new > old, "it has an id of its own");
    for (at, id, schema) in [(1, old, SCHEMA), (2, new, &*renamed)] {
        send(&server, at, &framed(schema, id, "after"));
    }
    let database = server.database();
    wait::until("all are stored", async || is(database.count("sensor_readings").await, &3)).await;
    let read = "SELECT count(*) FROM sensor_readings WHERE sensor_type = 'temperature' AND battery_level = 90";
    assert_eq!((database.number(read).await, database.count("dead_letters").await), (3, 0));
}

#[actix_rt::test]
async fn a_subject_that_was_deleted_in_a_read_only_registry_stops_no_start_and_comes_back() {
    for flags in [&[][..], &["--permanent"]] {
        let server = Node::new().start().await;
        let id = id_of(&server.registry).await;
        hold_registration(&server).await;
        schema(&server, &["delete", SUBJECT]);
        if !flags.is_empty() {
            schema(&server, &[&["delete", SUBJECT], flags].concat());
        }
        schema(&server, &["config", "--mode", "readonly"]);
        let (_, node) = server.terminate().await;

        let server = node.start().await;
        says_that_it_is_missing(&server).await;
        let log = fs::read_to_string(server.node().path("log")).unwrap();
        assert!(log.contains(&format!("subject {SUBJECT} does not have the schema of stream sensors")), "{log}");
        assert!(log.contains("read-only mode") && log.contains("--mode readwrite"), "{log}");
        let database = server.database();
        send(&server, 0, &framed(SCHEMA, id, "meanwhile"));
        // A version that is deleted softly still has its id.
        let table = if flags.is_empty() { "sensor_readings" } else { "dead_letters" };
        wait::until("the record is dealt with", async || is(database.count(table).await, &1)).await;

        schema(&server, &["config", "--mode", "readwrite"]);
        heals(&server).await;
        let id = id_of(&server.registry).await;
        send(&server, 1, &framed(SCHEMA, id, "afterwards"));
        let stored = if flags.is_empty() { 2 } else { 1 };
        wait::until("it is stored", async || is(database.count("sensor_readings").await, &stored)).await;
    }
}

#[actix_rt::test]
async fn a_schema_that_nobody_knows_stops_the_start_where_the_registry_is_read_only() {
    let server = Node::new().start().await;
    schema(&server, &["config", "--mode", "readonly"]);
    let (_, node) = server.terminate().await;
    write_schema(&node, &wider(&json!({"name": "altitude", "type": "int", "default": 0})));
    let (code, said) = node.ends();
    assert!(code == Some(2) && said.contains(SUBJECT) && said.contains("read-only mode"), "{said}");
    assert!(said.contains("the embedded registry") && said.contains("--mode readwrite"), "{said}");
}

#[actix_rt::test]
async fn a_simulator_waits_for_an_id_and_writes_once_the_registry_takes_its_schema() {
    let server = Node::new().with_simulators().set("simulators.sensors.format", "avro").start().await;
    hold_registration(&server).await;
    schema(&server, &["delete", SUBJECT]);
    schema(&server, &["delete", SUBJECT, "--permanent"]);
    schema(&server, &["config", "--mode", "readonly"]);
    let (_, node) = server.terminate().await;
    let server = node.start().await;
    wait::until("the simulator waits", async || {
        let waits = server.http.actor("simulators/sensors").await?["waiting_on"]["on"].clone();
        is(waits, &json!("registry"))
    })
    .await;
    let database = server.database();
    let before = database.count("sensor_readings").await;
    schema(&server, &["config", "--mode", "readwrite"]);
    wait::until("it writes", async || match database.count("sensor_readings").await {
        now if now > before => Ok(()),
        now => Err(format!("{now} rows")),
    })
    .await;
}

#[actix_rt::test]
async fn a_subject_that_is_deleted_while_the_server_runs_is_named_and_registered_again() {
    let outside = Node::new().start().await;
    let inside = Node::new().start().await;
    let asks = Node::new().set("registry.url", &format!("http://{}", outside.registry)).start().await;
    // The registry's own server would register it again, too.
    hold_registration(&outside).await;
    for (registry, server) in [(&inside, &inside), (&outside, &asks)] {
        let before = id_of(&registry.registry).await;
        hold_registration(server).await;
        schema(registry, &["delete", SUBJECT]);
        schema(registry, &["delete", SUBJECT, "--permanent"]);
        let (status, said) = server.http.post(&format!("/api/v1/supervision/{REGISTRATION}/resume"), &json!({})).await;
        assert_eq!(status, 200, "{said}");
        let after = wait::until("it is registered again", async || {
            let latest = Http::new(&registry.registry).try_get(&format!("/subjects/{SUBJECT}/versions/latest")).await?;
            Ok(latest["id"].as_u64().unwrap())
        })
        .await;
        says_that_it_is_missing(server).await;
        let log = fs::read_to_string(server.node().path("log")).unwrap();
        assert!(log.contains("did not have the schema of stream sensors any more"), "{log}");
        send(server, 0, &framed(SCHEMA, after, "afterwards"));
        let database = server.database();
        wait::until("it is stored", async || is(database.count("sensor_readings").await, &1)).await;
        assert!(after > before, "{after} was given before");
    }
}

#[actix_rt::test]
async fn a_registry_outside_that_is_down_stops_no_start_of_a_stream_that_ran_before() {
    let registry = Node::new().start().await;
    let address = registry.registry.clone();
    let server = Node::new().set("registry.url", &format!("http://{address}")).start().await;
    let id = id_of(&address).await;
    let (_, node) = server.terminate().await;
    let down = registry.kill();

    let server = node.start().await;
    says_that_it_is_missing(&server).await;
    send(&server, 0, &framed(SCHEMA, id, "waits"));
    wait::until("the lane says what it waits for", async || {
        let text = server.http.actor("pipelines/sensors/lane").await?.to_string();
        if text.contains("the registry does not answer") { Ok(()) } else { Err(text) }
    })
    .await;
    let database = server.database();
    assert_eq!((database.count("dead_letters").await, database.count("sensor_readings").await), (0, 0));

    let registry = down.set("registry.embedded.listen", &address).start().await;
    heals(&server).await;
    wait::until("the record is stored", async || is(database.count("sensor_readings").await, &1)).await;
    drop(registry);
}
