//! Each way to stand still is named in REST, metrics, the tree, events and `verify`, and no longer once it is mended.

use serde_json::{Value, json};
use sqlx::Connection;

use crate::support::{
    kafka::{Outgoing, Producer, make_anew},
    readings::{Readings, TOPIC},
    server::{Node, Server},
    wait,
};

const COMMANDS: &str = "/api/v1/supervision";

async fn command(server: &Server, actor: &str, command: &str) {
    let (status, answer) = server.http.post(&format!("{COMMANDS}/{actor}/{command}"), &Value::Null).await;
    assert_eq!(status, 200, "{answer}");
}

/// Pauses an actor and waits until it holds.
async fn hold(server: &Server, actor: &str) {
    command(server, actor, "pause").await;
    wait::until("it holds", async || {
        let node = server.http.actor(actor).await?;
        wait::is(node["waiting_on"]["on"].clone(), &json!("resume"))
    })
    .await;
}

/// What `/health/ready` says, whatever its status.
async fn readiness(server: &Server) -> Value {
    let answer = server.http.try_text("/health/ready").await;
    let text = answer.unwrap_or_else(|refusal| refusal);
    serde_json::from_str(&text[text.find('{').unwrap_or(0)..]).unwrap_or_else(|error| panic!("{error}: {text}"))
}

async fn findings(server: &Server) -> Vec<Value> {
    readiness(server).await["standing_still"].as_array().unwrap().clone()
}

fn verify(server: &Server) -> (Option<i32>, String) {
    let output = server.node().command(&["verify", "--bootstrap", server.kafka()]).output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// Waits until the cause is named with these words, and asserts that it is named everywhere.
async fn is_named(server: &Server, cause: &str, words: &[&str]) -> Value {
    let named = wait::until("it is named", async || {
        let all = findings(server).await;
        all.iter().find(|finding| finding["cause"] == cause).cloned().ok_or_else(|| format!("{all:?}"))
    });
    let finding = named.await;
    let text = finding.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{text} without {words:?}");
    assert!(finding["way_out"].as_str().unwrap().len() > 10 && finding["since"].is_string(), "{text}");
    assert_ne!(readiness(server).await["status"], "ready");
    let strict = server.http.try_text("/health/ready?strict=true").await;
    assert!(strict.as_ref().is_err_and(|error| error.contains("503")), "{strict:?}");
    let metrics = server.http.try_text("/metrics").await.unwrap();
    let sample =
        |line: &&str| line.starts_with("streamward_standing_still{") && line.contains(&format!("cause=\"{cause}\""));
    assert_eq!(metrics.lines().find(sample).and_then(|line| line.rsplit(' ').next()), Some("1"), "{metrics}");
    let lag = server.http.get("/api/v1/lag").await;
    let still = lag["lag"].as_array().unwrap().iter().filter(|lag| lag["state"] == "standing_still");
    assert!(still.clone().count() > 0, "{lag:#}");
    if finding["pipeline"].is_string() {
        let node = server.http.actor("pipelines/sensors").await.unwrap();
        assert_eq!(node["state"], "degraded", "{node}");
        let events = server.http.get("/api/v1/events?limit=500").await;
        let is_noted = |event: &Value| event["kind"] == "noted" && event["note"].is_string();
        assert!(events["events"].as_array().unwrap().iter().any(is_noted), "{events:#}");
    }
    finding
}

/// Asserts that `verify` names it as well.
fn verify_names(server: &Server, words: &str) {
    let (code, said) = verify(server);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("STANDS STILL") && said.contains(words), "{said}");
}

/// Waits until nothing stands still, and asserts that `verify` agrees.
async fn is_over(server: &Server) {
    wait::until("nothing stands still", async || {
        let all = findings(server).await;
        if all.is_empty() { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .await;
    let metrics = server.http.try_text("/metrics").await.unwrap();
    assert!(!metrics.contains("streamward_standing_still{"), "{metrics}");
    wait::until("verify agrees", async || match verify(server) {
        (Some(0), said) if said.contains("exact") => Ok(()),
        (_, said) => Err(said),
    })
    .await;
}

#[actix_rt::test]
async fn an_actor_that_is_held_or_down_is_named_until_it_goes_on() {
    let server = Node::new().start().await;
    let producer = Producer::connect(server.kafka());
    let mut readings = Readings::new();
    readings.send(&producer, 100);
    server.database().wait_for_all("sensors", &producer.finish()).await;
    for actor in ["source", "lane", "sink"] {
        let path = format!("pipelines/sensors/{actor}");
        command(&server, &path, "pause").await;
        is_named(&server, "paused", &[&path, "resume"]).await;
        readings.send(&producer, 100);
        producer.finish();
        verify_names(&server, &format!("{path} was paused"));
        command(&server, &path, "resume").await;
        server.database().wait_for_all("sensors", &producer.finish()).await;
        is_over(&server).await;
    }
    command(&server, "pipelines/sensors/lane", "drain").await;
    is_named(&server, "down", &["pipelines/sensors/lane", "restart"]).await;
    for wish in ["resume", "pause", "drain"] {
        let (status, answer) =
            server.http.post(&format!("{COMMANDS}/pipelines/sensors/lane/{wish}"), &Value::Null).await;
        let words = answer["detail"].as_str().unwrap();
        assert!(status == 409 && words.contains("is stopped") && words.contains("restart"), "{status} {answer}");
    }
    readings.send(&producer, 100);
    producer.finish();
    is_named(&server, "processing", &["read and not processed", "pipelines/sensors/lane"]).await;
    command(&server, "pipelines/sensors/lane", "restart").await;
    server.database().wait_for_all("sensors", &producer.finish()).await;
    is_over(&server).await;
}

#[actix_rt::test]
async fn a_database_that_is_locked_is_named_until_it_is_free_also_while_nothing_is_to_be_stored() {
    let server = Node::new().start().await;
    let producer = Producer::connect(server.kafka());
    let mut readings = Readings::new();
    let file = server.node().data().join("streamward.db");
    for with_records in [false, true] {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file).busy_timeout(wait::PATIENCE);
        let mut other = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
        if with_records {
            readings.send(&producer, 100);
            producer.finish();
        }
        is_named(&server, "storage", &["database"]).await;
        verify_names(&server, "does not take writes");
        sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
        other.close().await.unwrap();
        server.database().wait_for_all("sensors", &producer.finish()).await;
        is_over(&server).await;
    }
}

#[actix_rt::test]
async fn a_database_that_was_deleted_is_named_and_a_restart_stores_the_log_again() {
    let server = Node::new().start().await;
    let producer = Producer::connect(server.kafka());
    Readings::new().send(&producer, 100);
    let acked = producer.finish();
    server.database().wait_for_all("sensors", &acked).await;
    for file in ["streamward.db", "streamward.db-wal", "streamward.db-shm"] {
        std::fs::remove_file(server.node().data().join(file)).unwrap();
    }
    is_named(&server, "storage", &["was deleted", "restart"]).await;
    let (code, said) = verify(&server);
    assert!(code != Some(0) && said.contains("was deleted"), "{said}");
    let (_, node) = server.terminate().await;
    let server = node.start().await;
    server.database().wait_for_all("sensors", &acked).await;
    assert_eq!(server.database().count("sensor_readings").await, 100);
    is_over(&server).await;
}

#[actix_rt::test]
async fn a_topic_that_was_deleted_is_named_until_it_is_there_again() {
    let server = Node::new().start().await;
    let producer = Producer::connect(server.kafka());
    Readings::new().send(&producer, 100);
    server.database().wait_for_all("sensors", &producer.finish()).await;
    let output = server.node().command(&["topics", "delete", TOPIC, "--force", "--url"]);
    let output = { output }.arg(format!("http://{}", server.http.address())).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    is_named(&server, "topic_gone", &[TOPIC, "streamward topics create"]).await;
    verify_names(&server, "does not exist");
    let reading = json!({
        "sensor_id": "a", "sensor_type": "humidity", "value": 1.0, "timestamp": "2026-01-01T00:00:00Z",
        "location": "zone_1", "metadata": { "battery_level": 90, "signal_strength": -40 },
    });
    let (status, answer) = server.http.post("/api/v1/streams/sensors/records", &reading).await;
    assert_eq!((status, answer.to_string().contains("does not exist")), (503, true), "{answer}");
    make_anew(server.kafka(), TOPIC, 4).await;
    let producer = Producer::connect(server.kafka());
    Readings::new().send(&producer, 50);
    producer.finish();
    wait::until("all is stored", async || wait::is(server.database().count("sensor_readings").await, &150)).await;
    is_over(&server).await;
}

#[actix_rt::test]
async fn a_gap_in_the_log_is_named_until_the_stream_may_go_on_without_the_records() {
    let server = Node::new().start().await;
    let producer = Producer::connect(server.kafka());
    let mut readings = Readings::new();
    readings.send(&producer, 400);
    let acked = producer.finish();
    server.database().wait_for_all("sensors", &acked).await;
    hold(&server, "pipelines/sensors/source").await;
    readings.send(&producer, 400);
    producer.finish();
    let acked = producer.acked();
    let end = acked.iter().filter(|acked| acked.partition == 0).map(|acked| acked.offset).max().unwrap();
    crate::support::kafka::delete_records(server.kafka(), TOPIC, (0, end)).await;
    // A client of its own: what the one before had fetched already is not asked for again.
    command(&server, "pipelines/sensors/source", "restart").await;
    command(&server, "pipelines/sensors/source", "resume").await;
    let finding = is_named(&server, "gap", &["records are gone", "on_gap: earliest"]).await;
    assert_eq!(finding["partition"], 0);
    verify_names(&server, "the records that came next are gone");
    let lag = server.http.get("/api/v1/lag").await;
    let lag = lag["lag"].as_array().unwrap().iter().find(|lag| lag["partition"] == 0).unwrap().clone();
    assert!(lag["lag_records"].as_i64().unwrap() > 0 && lag["position"].is_i64(), "{lag}");
    let (_, node) = server.terminate().await;
    let server = node.set("streams.sensors.on_gap", "earliest").start().await;
    server.database().wait_for_all("sensors", &acked).await;
    is_over(&server).await;
}

#[actix_rt::test]
async fn a_broker_that_takes_no_connections_is_named_until_it_does() {
    let server = Node::new().with_drills().start().await;
    let drill = json!({ "fault": "broker_drop", "millis": 12_000 });
    let http = crate::support::http::Http::new(server.http.address());
    let drilled = http.post("/api/v1/supervision/platform/broker/drill?within_ms=30000", &drill);
    let (answer, ()) = tokio::join!(drilled, async {
        is_named(&server, "kafka", &["Kafka does not answer", "127.0.0.1:"]).await;
    });
    assert_eq!(answer.0, 200, "{}", answer.1);
    is_over(&server).await;
}

#[actix_rt::test]
async fn partitions_that_the_source_does_not_read_yet_are_named_and_counted_as_lag() {
    let server = Node::new().start().await;
    let producer = Producer::connect(server.kafka());
    Readings::new().send(&producer, 100);
    server.database().wait_for_all("sensors", &producer.finish()).await;
    hold(&server, "pipelines/sensors/source").await;
    let address = format!("http://{}", server.http.address());
    let output = server.node().command(&["topics", "alter", TOPIC, "--partitions", "6", "--url", &address]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let producer = Producer::connect(server.kafka());
    producer.send(TOPIC, &Outgoing { id: 1, value: Some(b"{}"), ..Outgoing::default() });
    Readings::new().send(&producer, 100);
    producer.finish();
    is_named(&server, "unassigned", &["group"]).await;
    let lag = server.http.get("/api/v1/lag").await;
    let of_sensors = lag["lag"].as_array().unwrap().iter().filter(|lag| lag["pipeline"] == "sensors");
    let listed: Vec<i64> = of_sensors.map(|lag| lag["partition"].as_i64().unwrap()).collect();
    assert_eq!(listed, [0, 1, 2, 3, 4, 5]);
    command(&server, "pipelines/sensors/source", "resume").await;
    is_over(&server).await;
}

/// Whoever opens and closes a database file drops all locks that his process holds on it; the next stranger who closes the
/// database then believes that he is the last, and removes its write-ahead log.
#[actix_rt::test]
async fn the_server_keeps_its_locks_on_the_database_however_often_it_looks_at_it() {
    let server = Node::new().start().await;
    let looks = async || server.http.actor("ops/standstill").await.map(|watch| watch["processed"].as_i64().unwrap());
    let before = looks().await.unwrap();
    wait::until("the database was looked at", async || wait::at_least(looks().await?, &(before + 2))).await;
    assert!(server.holds_lock_on(&server.node().data().join("streamward.db")));
}

#[actix_rt::test]
async fn a_watch_that_does_not_look_is_named_itself() {
    let server = Node::new().start().await;
    hold(&server, "ops/standstill").await;
    is_named(&server, "blind", &["ops/standstill", "resume"]).await;
    command(&server, "ops/standstill", "resume").await;
    is_over(&server).await;
}

/// Kafka's own end of a transaction takes an offset and is no record; aborted records are given to nobody (KIP-98).
#[actix_rt::test]
async fn offsets_that_hold_no_record_for_a_reader_are_no_lag() {
    let server = Node::new().start().await;
    let producer = transactions::Producer::connect(server.kafka());
    producer.send(TOPIC, 3, transactions::End::Commit);
    lag_is(&server, 4, (0, 0)).await;
    producer.send(TOPIC, 11, transactions::End::Abort);
    lag_is(&server, 16, (0, 0)).await;
    producer.send(TOPIC, 7, transactions::End::Open);
    lag_is(&server, 16, (0, 7)).await;
    let (code, said) = verify(&server);
    assert!(code == Some(0) && said.contains(", 0 not processed yet"), "{said}");
    assert!(findings(&server).await.is_empty());
}

/// Waits until the log of the sensors' partition 0 ends there, with this lag and so many offsets in open transactions.
async fn lag_is(server: &Server, end: i64, (records, hidden): (i64, i64)) {
    wait::until("the lag is that", async || {
        let lag = server.http.get("/api/v1/lag").await;
        let first = |lag: &&Value| lag["pipeline"] == "sensors" && lag["partition"] == 0;
        let first = lag["lag"].as_array().unwrap().iter().find(first).unwrap();
        let seen = ["log_end", "lag_records", "in_open_transactions"].map(|name| first[name].as_i64().unwrap());
        wait::is(seen, &[end, records, hidden])
    })
    .await;
}

/// A client that writes transactions.
mod transactions {
    use rdkafka::{
        ClientConfig,
        producer::{BaseProducer, BaseRecord, Producer as _},
    };

    use crate::support::wait::PATIENCE;

    pub struct Producer(BaseProducer);

    #[derive(Clone, Copy)]
    pub enum End {
        Commit,
        Abort,
        Open,
    }

    impl Producer {
        pub fn connect(bootstrap: &str) -> Self {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", bootstrap).set("transactional.id", "standing-still");
            let producer: BaseProducer = config.create().unwrap();
            producer.init_transactions(PATIENCE).unwrap();
            Self(producer)
        }

        pub fn send(&self, topic: &str, count: usize, end: End) {
            self.0.begin_transaction().unwrap();
            for _ in 0..count {
                self.0.send(BaseRecord::<[u8], [u8]>::to(topic).partition(0).payload(b"{}")).unwrap();
            }
            // An abort would take back what is not sent yet.
            self.0.flush(PATIENCE).unwrap();
            match end {
                End::Commit => self.0.commit_transaction(PATIENCE).unwrap(),
                End::Abort => self.0.abort_transaction(PATIENCE).unwrap(),
                End::Open => {}
            }
        }
    }
}
