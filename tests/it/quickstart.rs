//! A newcomer's first minute: the built-in configuration with its simulators.

use crate::support::{
    server::Node,
    wait::{self, at_least},
};

#[actix_rt::test]
async fn a_first_start_stores_readings_and_pushes_frames() {
    let server = Node::new().with_simulators().start().await;
    let mut socket = server.http.socket("/ws/sensors").await;
    let rows = async || server.http.get("/api/v1/sensors/stats").await["total_messages"].as_u64().unwrap();
    let first = wait::until("rows are there", async || at_least(rows().await, &1)).await;
    wait::until("rows rise", async || at_least(rows().await, &(first + 20))).await;
    let frame = socket.next_record().await;
    assert_eq!(frame["type"], "sensor_reading");
    assert!(frame["data"]["sensor_id"].as_str().unwrap().starts_with("sensor_"), "{frame}");
    assert!(socket.next_record().await["received_at"].is_string());
}

#[actix_rt::test]
async fn a_start_prints_where_everything_answers() {
    let server = Node::new().start().await;
    let printed = wait::until("the last line is printed", async || {
        let printed = server.printed();
        if printed.contains("\nready\n") { Ok(printed) } else { Err(printed) }
    });
    let printed = printed.await;
    for address in [server.http.address(), server.kafka(), &server.registry] {
        assert!(printed.contains(address), "{address} is not in\n{printed}");
    }
    assert_eq!(server.http.get("/health/ready").await["ready"], true);
    assert_eq!(server.http.get("/").await["status"], "healthy");
}

#[actix_rt::test]
async fn sigterm_under_load_ends_with_success_and_leaves_an_exact_folder() {
    let node = Node::new().with_simulators().set("simulators.sensors.speed", "200");
    let server = node.start().await;
    let database = server.database();
    wait::until("the load has begun", async || at_least(database.count("sensor_readings").await, &3_000)).await;
    let (status, node) = server.terminate().await;
    assert_eq!(status.code(), Some(0));
    let report = node.verify();
    assert!(report["stored"].as_u64().unwrap() >= 3_000, "{report:#}");
    let again = node.start().await;
    let before = report["stored"].as_i64().unwrap();
    wait::until("the next start goes on", async || {
        at_least(again.database().count("sensor_readings").await, &(before + 500))
    })
    .await;
}
