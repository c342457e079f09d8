//! HTTP against clients that mean no good: nonsense in addresses, more connections than there are descriptors.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::{Value, json};

use crate::support::{
    server::{Node, Server},
    wait,
};

/// The status of one request on a connection of its own; none where the connection ends without one.
fn status(address: &str, method: &str, path: &str, body: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(wait::PATIENCE)).unwrap();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    let request = format!("{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
    // A server that refuses the connection may end it before all is written, and may reset it behind its answer.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
}

/// Bodies that would do something if the address were sound.
fn body_for(path: &str) -> &'static str {
    match path.rsplit('/').next() {
        Some("offsets") => r#"{"topic": "sensor-readings", "to": "latest"}"#,
        Some("policy") => r#"{"restart": "transient"}"#,
        Some("drill" | "{command}") => r#"{"fault": "panic"}"#,
        _ if path == "/api/v1/topics/{topic}" => r#"{"partitions": 5}"#,
        _ => r#"{"key": "k", "value": "v"}"#,
    }
}

#[actix_rt::test]
async fn nonsense_in_an_address_is_the_callers_fault_on_every_route() {
    let server = Node::new().start().await;
    let address = server.http.address().to_owned();
    let document = server.http.get("/openapi.json").await;
    let long = "n".repeat(300);
    let nonsense = [
        "%00",
        "a%00b",
        "%ff",
        "%ff%00",
        &long,
        "..",
        "%2e%2e",
        "%2f",
        "%0d%0a",
        "-1",
        "9999999999999999999999",
        "%F0%9F%92%A9",
        "'--",
    ];
    let mut asked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let Some(start) = path.find('{') else { continue };
        for method in methods.as_object().unwrap().keys().map(|method| method.to_ascii_uppercase()) {
            for word in nonsense {
                let filled = path[start..].split('/').map(|part| if part.starts_with('{') { word } else { part });
                let real = format!("{}{}", &path[..start], filled.collect::<Vec<_>>().join("/"));
                let status = status(&address, &method, &real, body_for(path)).unwrap();
                assert!((300..500).contains(&status), "{method} {real}: {status}");
                if word.contains("%00") {
                    assert_eq!(status, 404, "{method} {real}");
                }
                asked += 1;
            }
        }
    }
    assert!(asked > 200, "{asked}");
    let tree = server.http.get("/api/v1/supervision/tree").await;
    assert!(tree["children"].as_array().is_some_and(|children| !children.is_empty()), "the server is as it was");
}

#[actix_rt::test]
async fn with_few_descriptors_idle_connections_keep_nobody_from_an_answer() {
    let server = Node::new().open_files(256).start().await;
    let address = server.http.address().to_owned();
    let said = std::fs::read_to_string(server.node().path("log")).unwrap();
    assert!(said.contains("the limit of open files allows few connections"), "{said}");
    let held: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(&address).unwrap()).collect();
    for _ in 0..50 {
        let status = status(&address, "GET", "/health/live", "");
        assert!(matches!(status, Some(200 | 503)), "every new client is served or told: {status:?}");
    }
    drop(held);
    wait::until("there is room again", async || match status(&address, "GET", "/health/ready", "") {
        Some(200) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let body = r#"{"sensor_id": "s", "sensor_type": "temperature"}"#;
    assert_eq!(status(&address, "POST", "/api/v1/streams/sensors/records", body), Some(422));
    let metrics: Value = server.http.get("/api/v1/streams").await;
    assert!(metrics["streams"].is_array());
}

/// More topics than a broker takes beside the limit of 256 files.
const TOPICS: usize = 1_000;

#[actix_rt::test]
async fn with_few_descriptors_topics_are_refused_before_the_server_has_none_left() {
    let server = Node::new().open_files(256).start().await;
    let create = async |number: usize| {
        let topic = json!({ "name": format!("t{number}"), "partitions": 1 });
        server.http.post("/api/v1/topics", &topic).await
    };
    let mut made = 0;
    let refusal = loop {
        let (status, answer) = create(made).await;
        match status {
            200..300 => made += 1,
            409 => break answer,
            _ => panic!("{made} topics: {status}: {answer}"),
        }
        assert!(made < TOPICS, "no topic is refused");
    };
    eprintln!("{made} topics, then: {refusal}");
    assert!(made > 3, "{made}");
    let reason = refusal.to_string();
    assert!(reason.contains("limit of open files") && reason.contains("ulimit -n"), "{reason}");
    let (_, answer) = server.http.ask("PATCH", "/api/v1/topics/t0", Some(&json!({ "partitions": 50 }))).await;
    assert!(answer.to_string().contains("limit of open files"), "{answer}");
    assert_answers_beside_idle_connections(&server).await;
    let (status, answer) = server.http.ask("DELETE", "/api/v1/topics/t0", None).await;
    assert!(status < 300, "{answer}");
    let (status, answer) = create(made).await;
    assert!(status < 300, "a topic that goes makes room: {answer}");
}

/// Holds more connections than there are files, and asserts that everybody is answered meanwhile and served afterwards.
async fn assert_answers_beside_idle_connections(server: &Server) {
    let address = server.http.address();
    let held: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(address).unwrap()).collect();
    for _ in 0..20 {
        let status = status(address, "GET", "/health/live", "");
        assert!(matches!(status, Some(200 | 503)), "every new client is served or told: {status:?}");
    }
    drop(held);
    wait::until("there is room again", async || match status(address, "GET", "/health/ready", "") {
        Some(200) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[actix_rt::test]
async fn topics_from_times_of_more_descriptors_leave_room_for_connections_or_the_start_says_how_many_are_needed() {
    let server = Node::new().start().await;
    let create = async |server: &Server, name: &str, partitions: u32| {
        let topic = json!({ "name": name, "partitions": partitions });
        let (status, answer) = server.http.post("/api/v1/topics", &topic).await;
        assert!(status < 300, "{answer}");
    };
    create(&server, "some", 40).await;
    let (_, node) = server.terminate().await;
    let server = node.open_files(256).start().await;
    assert_answers_beside_idle_connections(&server).await;
    let (_, node) = server.terminate().await;
    let server = node.open_files(4_096).start().await;
    create(&server, "more", 30).await;
    let (_, node) = server.terminate().await;
    let (code, said) = node.open_files(256).ends_in_time().await;
    assert_eq!(code, Some(2), "{said}");
    let words = ["the limit of open files is 256", "the server needs 306 at least", "ulimit -n"];
    assert!(words.iter().all(|words| said.contains(words)), "{said}");
}
