//! A server whose broker knows its users: it works as ever, and strangers get nothing.

use std::time::Duration;

use rdkafka::{ClientConfig, consumer::BaseConsumer, consumer::Consumer, error::KafkaError};

use crate::support::{
    kafka::Producer,
    readings::{Readings, TOPIC},
    server::{Node, exact},
    wait,
};

const USERS: &str = "[{ name: ann, password: pencil }]";
const MECHANISMS: &str = "[PLAIN, SCRAM-SHA-512]";

/// Client settings of the user with a password.
fn ann(password: &str) -> [(&'static str, &str); 4] {
    [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanisms", "PLAIN"),
        ("sasl.username", "ann"),
        ("sasl.password", password),
    ]
}

/// How long a stranger tries.
const TRY: Duration = Duration::from_secs(2);

fn asks_for_metadata(bootstrap: &str, settings: &[(&str, &str)]) -> Result<usize, KafkaError> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "stranger");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    let consumer: BaseConsumer = config.create()?;
    Ok(consumer.fetch_metadata(Some(TOPIC), TRY)?.topics().len())
}

#[actix_rt::test]
async fn pipelines_run_beside_a_broker_that_asks_everyone_for_a_password() {
    let node = Node::new().set("kafka.embedded.auth.users", USERS).set("kafka.embedded.auth.mechanisms", MECHANISMS);
    let server = node.start().await;
    let kafka = server.kafka();
    let mut readings = Readings::new();
    let producer = Producer::connect_with(kafka, &ann("pencil"));
    readings.send(&producer, 1_000);
    server.database().wait_for_all("sensors", &producer.finish()).await;

    assert_eq!(asks_for_metadata(kafka, &ann("pencil")), Ok(1));
    asks_for_metadata(kafka, &ann("eraser")).unwrap_err();
    asks_for_metadata(kafka, &[]).unwrap_err();

    let page = server.http.try_text("/metrics").await.unwrap();
    let failed = page.lines().find_map(|line| line.strip_prefix("streamward_broker_failed_authentications_total "));
    assert!(failed.unwrap().parse::<u32>().unwrap() > 0);

    let users = format!("kafka.embedded.auth.users={USERS}");
    let output = server.node().command(&["verify", "--json", "--bootstrap", kafka, "--set", &users]).output().unwrap();
    assert_eq!(exact(&output)["records"], 1_000);

    let said = wait::until("the failed attempts are in the log", async || {
        let log = std::fs::read_to_string(server.node().path("log")).unwrap();
        if log.contains("authentication failed") { Ok(log) } else { Err(log) }
    })
    .await;
    assert!(!said.contains("pencil") && !said.contains("eraser"), "{said}");
}

#[actix_rt::test]
async fn a_stopped_server_with_users_is_verified_on_its_folder() {
    let node = Node::new().set("kafka.embedded.auth.users", USERS);
    let (_, node) = node.start().await.terminate().await;
    let users = format!("kafka.embedded.auth.users={USERS}");
    exact(&node.command(&["verify", "--json", "--set", &users]).output().unwrap());
}
