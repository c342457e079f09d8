//! A panic in any actor: it comes back by itself, the tree and the metrics say so, and nothing else is touched.

use crate::support::{
    kafka::Producer,
    readings::{Readings, stored},
    server::{Node, Server},
    wait::{self, at_least, is},
};

/// Every role of a running server.
const ACTORS: [&str; 15] = [
    "platform/broker",
    "platform/registry/follower",
    "platform/registry/http",
    "platform/registry/registration",
    "pipelines/sensors/sink",
    "pipelines/sensors/lane",
    "pipelines/sensors/source",
    "relays/alerts",
    "relays/dead-letters",
    "edge/http",
    "ops/upkeep",
    "ops/retention",
    "ops/lag",
    "simulators/sensors",
    "pipelines/series/source",
];

async fn panics(server: &Server, actor: &str) -> Result<f64, String> {
    server.http.metric(&format!("streamward_actor_panics_total{{actor=\"{actor}\"}}")).await
}

async fn wait_for_recovery(server: &Server, actor: &str) {
    wait::until(&format!("{actor} has panicked and runs again"), async || {
        let node = server.http.actor(actor).await?;
        is(panics(server, actor).await?, &1.0)?;
        is(node["state"].as_str().unwrap_or_default(), &"running").map_err(|error| format!("{error}: {node}"))?;
        at_least(node["restarts"].as_u64().unwrap_or_default(), &1)?;
        is(node["last_exit"]["reason"].as_str().unwrap_or_default(), &"panic").map(drop)
    })
    .await;
}

#[actix_rt::test]
async fn a_panic_in_any_actor_heals_by_itself_under_load() {
    let node = Node::new().with_simulators().with_drills().set("simulators.sensors.speed", "20");
    let server =
        node.set("storage.retention.check_every", "1s").set("supervision.root.max_restarts", "50").start().await;
    for actor in ACTORS {
        server.http.inject_panics(actor, 1).await;
        wait_for_recovery(&server, actor).await;
    }
    let database = server.database();
    let before = database.count("sensor_readings").await;
    wait::until("rows rise", async || at_least(database.count("sensor_readings").await, &(before + 500))).await;
    let (status, node) = server.terminate().await;
    assert_eq!(status.code(), Some(0));
    node.verify();
}

#[actix_rt::test]
async fn a_panic_in_a_websocket_session_ends_that_session_alone_and_its_client_may_come_back() {
    let server = Node::new().with_simulators().with_drills().start().await;
    let (mut struck, mut other) = (server.http.socket("/ws/sensors").await, server.http.socket("/ws/sensors").await);
    struck.next_record().await;
    server.http.inject_panics("edge/sessions/sensors-1", 1).await;
    struck.closed().await;
    other.next_record().await;
    wait::until("the tree has forgotten the session", async || {
        let sessions = server.http.actor("edge/sessions").await?;
        assert_eq!(sessions["restarts"], 0, "{sessions}");
        is(sessions["children"].as_array().map_or(0, Vec::len), &1).map_err(|error| format!("{error}: {sessions}"))
    })
    .await;
    server.http.socket("/ws/sensors").await.next_record().await;
    other.next_record().await;
}

#[actix_rt::test]
async fn a_restart_of_the_http_server_gives_the_places_of_its_sessions_back() {
    let server = Node::new().with_drills().set("http.websocket.max_sessions", "2").start().await;
    for _ in 0..3 {
        let mut sockets = [server.http.socket("/ws/sensors").await, server.http.socket("/ws/sensors").await];
        server.http.inject_panics("edge/http", 1).await;
        for socket in &mut sockets {
            socket.closed().await;
        }
        wait::until("no session is left", async || {
            let sessions = server.http.actor("edge/sessions").await?;
            is(sessions["children"].as_array().map_or(0, Vec::len), &0).map(drop)
        })
        .await;
    }
}

#[actix_rt::test]
async fn injection_is_refused_unless_drills_are_on() {
    let server = Node::new().start().await;
    let fault = serde_json::json!({ "fault": "panic" });
    let (status, _) = server.http.post("/api/v1/supervision/pipelines/sensors/lane/inject", &fault).await;
    assert_eq!(status, 403);
    assert_eq!(panics(&server, "pipelines/sensors/lane").await, Ok(0.0));
}

#[actix_rt::test]
async fn a_pipeline_that_gives_up_again_and_again_does_not_touch_the_other() {
    let backoff = "supervision.defaults.backoff";
    let node = Node::new().with_drills().set(&format!("{backoff}.min"), "1ms").set(&format!("{backoff}.max"), "10ms");
    let server = node.start().await;
    server.http.inject_panics("pipelines/series/source", 200).await;
    wait::until("pipelines/series has panicked 200 times", async || {
        is(panics(&server, "pipelines/series/source").await?, &200.0)
    })
    .await;
    let restarts = async |path: &str| server.http.actor(path).await.unwrap()["restarts"].as_u64().unwrap();
    assert!(restarts("pipelines/series").await > 20);
    for path in ["/", "pipelines", "pipelines/sensors", "pipelines/sensors/lane", "pipelines/sensors/source"] {
        assert_eq!(restarts(path).await, 0, "{path}");
    }
}

#[actix_rt::test]
async fn ten_panics_in_a_row_escalate_and_the_other_pipeline_keeps_running() {
    let server = Node::new().with_drills().start().await;
    let (producer, mut readings) = (Producer::connect(server.kafka()), Readings::new());
    server.http.inject_panics("pipelines/series/source", 10).await;
    let restarts = async || {
        let pipeline = server.http.actor("pipelines/series").await?;
        at_least(pipeline["restarts"].as_u64().unwrap_or_default(), &1).map_err(|error| format!("{error}: {pipeline}"))
    };
    readings.send(&producer, 1_000);
    wait::until("pipelines/series is restarted as a whole", restarts).await;
    readings.send(&producer, 1_000);
    let acked = producer.finish();
    server.database().wait_for_all("sensors", &acked).await;
    assert_eq!(stored(&server.database()).await.len(), 2_000);
    for actor in ["sink", "lane", "source"] {
        let node = server.http.actor(&format!("pipelines/sensors/{actor}")).await.unwrap();
        assert_eq!((&node["restarts"], &node["generation"]), (&0.into(), &1.into()), "{node}");
    }
    wait::until("pipelines/series reads again", async || {
        let node = server.http.actor("pipelines/series/source").await?;
        is(node["state"].as_str().unwrap_or_default(), &"running").map_err(|error| format!("{error}: {node}"))?;
        is(panics(&server, "pipelines/series/source").await?, &10.0)
    })
    .await;
}

#[actix_rt::test]
async fn a_server_that_is_told_to_stop_stores_its_state_up_to_the_last_record_stored() {
    let server = Node::new().start().await;
    let (producer, mut readings) = (Producer::connect(server.kafka()), Readings::new());
    readings.send(&producer, 20_000);
    let acked = producer.finish();
    wait::until("some records are stored", async || {
        at_least(server.database().positions("sensors").await.iter().sum::<i64>(), &1)
    })
    .await;
    let (status, node) = server.terminate().await;
    assert_eq!(status.code(), Some(0));
    let behind = "SELECT COUNT(*) FROM sw_positions p WHERE next_offset > first_offset AND next_offset IS NOT
                  (SELECT MAX(c.next_offset) FROM sw_checkpoints c WHERE c.sink = p.sink AND c.partition = p.partition)";
    assert_eq!(node.database().number(behind).await, 0, "partitions whose state is older than their position");
    let server = node.start().await;
    server.database().wait_for_all("sensors", &acked).await;
    server.verify();
}

#[actix_rt::test]
async fn a_server_whose_root_gives_up_ends_with_70_and_names_the_actor_that_failed_on_and_on() {
    let backoff = "supervision.defaults.backoff";
    let node = Node::new().with_drills().set(&format!("{backoff}.min"), "1ms").set(&format!("{backoff}.max"), "10ms");
    let server = node.set("supervision.root.max_restarts", "1").set("supervision.root.within", "1h").start().await;
    server.http.inject_panics("ops/lag", 1_000).await;
    let (status, node) = server.ended().await;
    let log = std::fs::read_to_string(node.path("log")).unwrap();
    assert_eq!(status.code(), Some(70), "{log}");
    assert!(log.contains("ops/lag") && log.contains("the supervision tree has ended"), "{log}");
    node.start().await.verify();
}
