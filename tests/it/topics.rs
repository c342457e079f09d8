//! Topics of the broker: looked at and changed through REST and the command line.

use std::process::Output;

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{
    kafka::{Outgoing, Producer},
    server::{Node, Server},
    wait,
};

const ORDER: &str = r#"{"type": "record", "name": "Order", "fields": [
    {"name": "id", "type": "string"}, {"name": "amount", "type": "double"}]}"#;

/// Runs `streamward topics …`; answers exit code, output and complaint.
fn topics(server: &Server, arguments: &[&str]) -> (Option<i32>, String, String) {
    let url = format!("http://{}", server.http.address());
    let command = [&["topics"][..], arguments, &["--url", &url]].concat();
    let Output { status, stdout, stderr } = server.node().command(&command).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A command that succeeds; its output.
fn done(server: &Server, arguments: &[&str]) -> String {
    let (code, output, complaint) = topics(server, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {output}{complaint}");
    output
}

async fn created(server: &Server, name: &str, partitions: u32) {
    let body = json!({"name": name, "partitions": partitions});
    assert_eq!(server.http.post("/api/v1/topics", &body).await.0, 201);
}

async fn written(server: &Server, topic: &str, record: Value) {
    let (status, body) = server.http.post(&format!("/api/v1/topics/{topic}/records"), &record).await;
    assert_eq!(status, 201, "{record}: {body}");
}

fn values(page: &Value) -> Vec<(String, Value)> {
    let value =
        |record: &Value| (record["value"]["format"].as_str().unwrap().to_owned(), record["value"]["data"].clone());
    page["records"].as_array().unwrap().iter().map(value).collect()
}

#[actix_rt::test]
async fn avro_json_text_and_garbage_are_browsed_as_what_they_are() {
    let server = Node::new().start().await;
    created(&server, "orders", 1).await;
    let client = awc::Client::default();
    let url = format!("http://{}/subjects/orders-value/versions", server.registry);
    let registered = client.post(url).send_json(&json!({ "schema": ORDER })).await.unwrap();
    assert!(registered.status().is_success(), "{}", registered.status());
    let order = json!({"id": "o-1", "amount": 9.5});
    written(&server, "orders", json!({"key": "o-1", "value": {"json": order, "subject": "orders-value"}})).await;
    written(&server, "orders", json!({"key": "o-2", "value": {"json": {"free": true}}})).await;
    written(&server, "orders", json!({"key": "o-3", "value": "some words"})).await;
    written(&server, "orders", json!({"key": "o-4", "value": {"base64": "AAAAAP///w=="}})).await;
    let page = server.http.get("/api/v1/topics/orders/records?order=oldest").await;
    let wanted = [
        ("avro".to_owned(), order.clone()),
        ("json".to_owned(), json!({"free": true})),
        ("text".to_owned(), json!("some words")),
        ("base64".to_owned(), json!("AAAAAP///w==")),
    ];
    assert_eq!(values(&page), wanted);
    let by_key = server.http.get("/api/v1/topics/orders/records?key=o-1").await;
    assert_eq!(values(&by_key), wanted[..1]);
    let wrong = json!({"value": {"json": {"id": 5}, "subject": "orders-value"}});
    let (status, problem) = server.http.post("/api/v1/topics/orders/records", &wrong).await;
    assert_eq!(status, 422, "{problem}");
    let lines = done(&server, &["tail", "orders", "--from", "earliest", "--json"]);
    let shown: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(shown.iter().map(|record| record["value"]["data"].clone()).collect::<Vec<_>>()[0], order);
    let last = done(&server, &["tail", "orders", "--from", "-2"]);
    assert!(last.lines().next().unwrap().ends_with("0/2  o-3  some words"), "{last}");
    assert_eq!(last.lines().count(), 2, "{last}");
    let filtered = done(&server, &["tail", "orders", "--from", "earliest", "--contains", "words"]);
    assert_eq!(filtered.lines().count(), 1, "{filtered}");
}

#[actix_rt::test]
async fn a_topic_that_is_made_again_by_the_advice_is_as_the_configuration_says() {
    let node = Node::new().set("streams.series.retention.age", "3d").set("streams.series.partitions", "2");
    let server = node.start().await;
    done(&server, &["delete", "series-readings", "--force"]);
    let advice = wait::until("the missing topic is named", async || {
        let findings = server.http.get("/api/v1/standing-still").await;
        let finding = findings["standing_still"].as_array().unwrap().iter().find(|one| one["cause"] == "topic_gone");
        finding.map(|one| one["way_out"].as_str().unwrap().to_owned()).ok_or_else(|| findings.to_string())
    });
    let advice = advice.await;
    let command = advice.split("streamward topics ").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    let made = done(&server, &command.split(' ').collect::<Vec<_>>());
    assert_eq!(made, "created series-readings with 2 partitions\n", "{advice}");
    let described = done(&server, &["describe", "series-readings"]);
    assert!(described.contains("259200000") && described.contains("LogAppendTime"), "{described}");
    done(&server, &["delete", "_schemas", "--force"]);
    wait::until("the registry has made its topic again", async || {
        let made = server.http.try_get("/api/v1/topics/_schemas").await?;
        if made["bytes"].as_u64() > Some(0) { Ok(()) } else { Err(made.to_string()) }
    })
    .await;
    let log = server.node().path("log");
    let node = server.terminate().await.1;
    std::fs::remove_file(&log).unwrap();
    let server = node.start().await;
    let log = std::fs::read_to_string(log).unwrap();
    assert!(!log.contains("series-readings: ") && !log.contains("it was made with"), "the start is content: {log}");
    drop(server);
}

#[actix_rt::test]
async fn the_command_line_creates_alters_lists_and_deletes() {
    let server = Node::new().start().await;
    done(&server, &["create", "orders", "--partitions", "2", "--config", "retention.ms=60000"]);
    let (code, _, complaint) = topics(&server, &["create", "orders"]);
    assert_eq!((code, complaint.as_str()), (Some(4), "streamward: there is a topic named orders already\n"));
    let (_, _, complaint) = topics(&server, &["create", "orders", "--verbose"]);
    assert!(complaint.contains("/api/v1/topics answered 409"), "{complaint}");
    let altered =
        ["alter", "orders", "--partitions", "3", "--config", "retention.bytes=5000", "--default", "retention.ms"];
    let described = done(&server, &altered);
    assert!(described.contains("retention.bytes  5000") && !described.contains("retention.ms"), "{described}");
    let (code, _, complaint) = topics(&server, &["alter", "orders", "--config", "retention.ms=abc"]);
    assert!(code == Some(4) && complaint.contains("retention.ms: 'abc' is not a whole number"), "{complaint}");
    let list: Value = serde_json::from_str(&done(&server, &["list", "--json"])).unwrap();
    let find = |name: &str| list.as_array().unwrap().iter().find(|topic| topic["topic"] == name).unwrap().clone();
    assert_eq!(find("orders")["partitions"].as_array().unwrap().len(), 3);
    assert_eq!(find("sensor-readings")["used_by"], "stream sensors");
    assert_eq!(find("_schemas")["used_by"], "schemas");
    assert!(find("_schemas")["bytes"].as_u64() > Some(0));
    let (code, _, complaint) = topics(&server, &["delete", "sensor-readings"]);
    assert_eq!(code, Some(4));
    assert!(complaint.contains("the stream sensors reads it"), "{complaint}");
    done(&server, &["delete", "orders"]);
    let (code, _, complaint) = topics(&server, &["describe", "orders"]);
    assert_eq!((code, complaint.as_str()), (Some(4), "streamward: there is no topic named orders\n"));
}

/// A cluster answers that a topic is made, or has more partitions, before each of them has a leader.
#[actix_rt::test]
async fn a_topic_grows_as_soon_as_it_is_made() {
    let server = Node::somewhere().set("kafka.consumer_group", "grows").start().await;
    for number in 0..5 {
        let name = format!("grows-{}-{number}", std::process::id());
        done(&server, &["create", &name, "--partitions", "1"]);
        done(&server, &["alter", &name, "--partitions", "4"]);
    }
}

#[test]
fn a_server_that_is_away_is_said_with_what_to_do() {
    let command = ["topics", "list", "--url", "127.0.0.1:1"];
    let Output { status, stderr, .. } = Node::new().command(&command).output().unwrap();
    let wanted = "streamward: 127.0.0.1:1 does not answer: connection refused; is the server running? give its address \
                  with --url\n";
    assert_eq!((status.code(), String::from_utf8(stderr).unwrap().as_str()), (Some(3), wanted));
}

#[actix_rt::test]
async fn pages_lead_through_a_topic_with_several_partitions() {
    let server = Node::new().start().await;
    created(&server, "orders", 3).await;
    let producer = Producer::connect(server.kafka());
    for id in 0..50 {
        let key = format!("key-{id}");
        producer.send("orders", &Outgoing { id, key: Some(key.as_bytes()), value: Some(b"x"), ..Outgoing::default() });
    }
    assert_eq!(producer.finish().len(), 50);
    let (mut seen, mut place) = (Vec::new(), "order=newest".to_owned());
    loop {
        let page = server.http.get(&format!("/api/v1/topics/orders/records?limit=7&{place}")).await;
        assert_eq!(page["total"], 50);
        let records = page["records"].as_array().unwrap();
        seen.extend(records.iter().map(|record| record["key"]["data"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => place = format!("cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 50);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 50, "a record came twice, so another one not at all");
}

#[actix_rt::test]
async fn the_groups_of_the_pipelines_show_their_lag_and_are_not_moved_while_they_run() {
    let server = Node::new().start().await;
    let group = wait::until("the pipeline's group has members", async || {
        let topic = server.http.try_get("/api/v1/groups").await?;
        let groups = topic["groups"].as_array().unwrap();
        let found = groups.iter().find(|group| group["members"].as_array().is_some_and(|members| !members.is_empty()));
        found.map(|group| group["group"].as_str().unwrap().to_owned()).ok_or_else(|| topic.to_string())
    });
    let group = group.await;
    let reset = json!({"topic": "sensor-readings", "to": "earliest"});
    let (status, problem) = server.http.post(&format!("/api/v1/groups/{group}/offsets"), &reset).await;
    assert_eq!(status, 409, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("members: stop them first"), "{problem}");
    let readings = server.http.get("/api/v1/topics/sensor-readings").await;
    assert!(readings["configs"].as_array().unwrap().iter().any(|config| config["own"] == true), "{readings}");
}

#[actix_rt::test]
async fn a_topic_that_streamward_uses_is_deleted_by_force_alone() {
    let server = Node::new().start().await;
    let client = awc::Client::default();
    let delete = |force: bool| {
        let url = format!("http://{}/api/v1/topics/system-alerts?force={force}", server.http.address());
        client.request(Method::DELETE, url).send()
    };
    assert_eq!(delete(false).await.unwrap().status(), 409);
    assert_eq!(delete(true).await.unwrap().status(), 204);
}
