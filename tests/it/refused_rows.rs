//! Rows that the database refuses, and promises that it sees broken: nothing loops, and the others go on.

use serde_json::Value;

use crate::support::{
    kafka::Producer,
    readings::{self, Readings},
    server::{Node, Server},
    wait,
};

async fn altered(server: &Server, sql: &str) {
    let file = server.node().data().join("streamward.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file).busy_timeout(wait::PATIENCE);
    let mut connection = <sqlx::SqliteConnection as sqlx::Connection>::connect_with(&options).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
}

async fn restarts(server: &Server) -> i64 {
    let pipeline = server.http.actor("pipelines/sensors").await.unwrap();
    pipeline["children"].as_array().unwrap().iter().map(|child| child["restarts"].as_i64().unwrap()).sum()
}

#[actix::test]
async fn a_refused_row_becomes_a_dead_letter_and_a_broken_promise_stops_its_partition_alone() {
    let server = Node::new().start().await;
    let producer = Producer::connect(server.kafka());
    let mut sent = Readings::new();
    let dead = refused_rows_become_dead_letters(&server, &producer, &mut sent).await;
    a_broken_promise_stops_its_partition_alone(&server, &producer, &mut sent).await;
    let stored = readings::stored(&server.database()).await.len();
    assert_eq!(i64::try_from(stored).unwrap(), 800 - dead);
    server.verify();
}

/// Sends 400 readings past a trigger that refuses some; says how many.
async fn refused_rows_become_dead_letters(server: &Server, producer: &Producer, sent: &mut Readings) -> i64 {
    altered(
        server,
        "CREATE TRIGGER no_tens BEFORE INSERT ON sensor_readings WHEN NEW.offset % 10 = 3 \
         BEGIN SELECT RAISE(ABORT, 'no threes here'); END",
    )
    .await;
    sent.send(producer, 400);
    server.database().wait_for_all("sensors", &producer.finish()).await;
    let dead = server.database().number("SELECT count(*) FROM dead_letters WHERE class = 'permanent'").await;
    assert!(dead > 30, "{dead} of 400");
    assert_eq!(server.database().count("sensor_readings").await + dead, 400);
    let report = server.verify();
    assert_eq!((report["stored"].as_i64(), report["dead"].as_i64()), (Some(400 - dead), Some(dead)));
    let metric = async |outcome: &str| {
        let name = format!("streamward_records_total{{outcome=\"{outcome}\",pipeline=\"sensors\"}}");
        server.http.metric(&name).await.unwrap()
    };
    assert_eq!((metric("dead").await as i64, metric("stored").await as i64), (dead, 400 - dead));
    let minutes = server.database().number("SELECT sum(count) FROM sw_minutes WHERE stream = 'sensors'").await;
    assert_eq!(minutes, 400 - dead);
    let letters = server.http.get("/api/v1/dead-letters?class=permanent&limit=1").await;
    assert_eq!(letters["dead_letters"][0]["stage"], "sql");
    assert!(letters["dead_letters"][0]["reason"].as_str().unwrap().contains("no threes here"), "{letters}");

    dead
}

/// Puts a row of the future of partition 0 into the table: what the position protocol promises cannot happen.
async fn a_broken_promise_stops_its_partition_alone(server: &Server, producer: &Producer, sent: &mut Readings) {
    let next = server.database().positions("sensors").await[0];
    altered(
        server,
        &format!(
            "DROP TRIGGER no_tens; INSERT INTO sensor_readings (id, sensor_id, sensor_type, value, timestamp, anomaly, \
             location, battery_level, signal_strength, stored_at) SELECT (id & ~4398046511103) | {}, sensor_id, \
             sensor_type, value, timestamp, anomaly, location, battery_level, signal_strength, stored_at \
             FROM sensor_readings WHERE partition = 0 LIMIT 1",
            next + 5
        ),
    )
    .await;
    let before = restarts(server).await;
    sent.send(producer, 400);
    let acked = producer.finish();
    let end =
        |partition: i32| acked.iter().filter(|acked| acked.partition == partition).map(|acked| acked.offset + 1).max();
    wait::until("the other partitions are stored", async || {
        let positions = server.database().positions("sensors").await;
        let done =
            (1..).zip(&positions[1..]).all(|(partition, position)| end(partition).is_none_or(|end| end == *position));
        if done { Ok(()) } else { Err(format!("{positions:?}")) }
    })
    .await;
    let why = wait::until("readiness names the partition", async || {
        let ready = server.http.get("/health/ready").await;
        ready["degraded"][0].as_str().map(str::to_owned).ok_or_else(|| ready.to_string())
    });
    let why = why.await;
    assert!(why.contains("partition 0") && why.contains("exists already") && why.contains("restart"), "{why}");
    let stopped = "streamward_partition_stopped{partition=\"0\",pipeline=\"sensors\",topic=\"sensor-readings\"}";
    assert!((server.http.metric(stopped).await.unwrap() - 1.0).abs() < f64::EPSILON);
    let source = wait::until("the tree shows it", async || {
        let source = server.http.actor("pipelines/sensors/source").await?;
        if source.to_string().contains("stands still") { Ok(source) } else { Err(source.to_string()) }
    });
    source.await;
    assert_eq!(restarts(server).await, before, "nothing is restarted for it");
    assert!(server.database().positions("sensors").await[0] <= next + 5);

    // The cause is mended, and the operator restarts the source.
    altered(server, &format!("DELETE FROM sensor_readings WHERE partition = 0 AND offset = {}", next + 5)).await;
    let path = "/api/v1/supervision/pipelines/sensors/source/restart";
    let (status, answer) = server.http.post(path, &Value::Null).await;
    assert_eq!(status, 200, "{answer}");
    server.database().wait_for_all("sensors", &acked).await;
    wait::until("nothing stands still", async || {
        wait::is(server.http.get("/health/ready").await["status"].clone(), &Value::from("ready"))
    })
    .await;
}
