//! A Kafka outside that goes away and comes back: what clients are told meanwhile, who goes on by himself, and how a server
//! ends without it. The Kafka is another server's embedded broker.

use futures_util::future::join;
use serde_json::json;

use crate::support::{
    server::{Node, Server},
    wait::{self, is},
};

const RECORDS: &str = "/api/v1/streams/sensors/records";

fn on(cluster: &Server) -> Node {
    Node::new().set("kafka.bootstrap", cluster.kafka()).set("kafka.consumer_group", "app")
}

/// Waits until an actor is in a state.
async fn reaches(server: &Server, actor: &str, state: &str) {
    wait::until(&format!("{actor} is {state}"), async || {
        let node = server.http.actor(actor).await?;
        if node["state"] == state { Ok(()) } else { Err(node.to_string()) }
    })
    .await;
}

#[actix_rt::test]
async fn records_are_refused_with_the_address_of_a_kafka_that_is_away_and_simulators_go_on_once_it_is_back() {
    let cluster = Node::new().start().await;
    let server = on(&cluster).with_simulators().start().await;
    let address = cluster.kafka().to_owned();
    let cluster = cluster.kill();
    let reading = json!({
        "sensor_id": "posted", "sensor_type": "humidity", "value": 50.0, "location": "zone_1",
        "timestamp": "2025-03-01T12:00:00Z", "metadata": { "battery_level": 90, "signal_strength": -40 },
    });
    for _ in 0..2 {
        let (status, answer) = server.http.post(RECORDS, &reading).await;
        let detail = answer["detail"].as_str().unwrap_or_default();
        assert!(status == 503 && detail.contains(&format!("Kafka at {address}")), "{status}: {answer}");
    }
    reaches(&server, "simulators/sensors", "degraded").await;
    let _cluster = cluster.start().await;
    reaches(&server, "simulators/sensors", "running").await;
    wait::until("nothing stands still", async || {
        let standing = server.http.try_get("/api/v1/standing-still").await?;
        is(standing["standing_still"].clone(), &json!([]))
    })
    .await;
    let (status, answer) = server.http.post(RECORDS, &reading).await;
    assert_eq!(status, 202, "{answer}");
}

#[actix_rt::test]
async fn a_server_whose_kafka_is_away_ends_in_order_when_it_is_asked_to() {
    let cluster = Node::new().start().await;
    let server = on(&cluster).with_simulators().start().await;
    let _cluster = cluster.kill();
    reaches(&server, "ops/lag", "degraded").await;
    let (status, node) = server.terminate().await;
    let log = std::fs::read_to_string(node.path("log")).unwrap();
    assert!(status.success() && log.contains("stopped took_ms="), "{status}: {log}");
}

#[actix_rt::test]
async fn a_start_warns_of_a_kafka_that_is_away_and_goes_on_once_it_answers() {
    let cluster = Node::new().start().await;
    let node = on(&cluster).set("kafka.start_timeout", "1h");
    let (log, warning) = (node.path("log"), format!("kafka.bootstrap {} does not answer yet: ", cluster.kafka()));
    let cluster = cluster.kill();
    let comes_back = async {
        wait::until("the start says that Kafka is away", async || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            if said.contains(&warning) { Ok(()) } else { Err(said) }
        })
        .await;
        cluster.start().await
    };
    let (server, _cluster) = join(node.start(), comes_back).await;
    let (status, answer) = server.http.post(RECORDS, &json!({})).await;
    assert_eq!(status, 422, "the stream is there: {answer}");
}
