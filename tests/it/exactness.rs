//! Every acknowledged record has one effect: it is stored or a dead letter, once, whatever happens to the process.

use std::collections::BTreeSet;

use sqlx::Row;

use crate::support::{
    database::Database,
    kafka::{Acked, Producer, read_all},
    readings::{Readings, TOPIC, stored},
    server::{Node, Server},
    wait::{self, at_least, is},
};

const PARTS: u64 = 10;
const GOOD_IN_A_PART: u64 = 999;

/// Sends one part: good readings and a bad record among them, which is returned with its number.
fn send_part(readings: &mut Readings, producer: &Producer) -> (u64, Vec<u8>) {
    readings.send(producer, GOOD_IN_A_PART / 2);
    let bad = (readings.next(), readings.send_bad(producer));
    readings.send(producer, GOOD_IN_A_PART.div_ceil(2));
    bad
}

/// Everything that was sent is where it belongs: rows, dead letters, positions, announcements.
async fn assert_exact(server: &Server, acked: &[Acked], bad: &[(u64, Vec<u8>)]) {
    let database = server.database();
    database.wait_for_all("sensors", acked).await;
    assert_eq!(acked.len() as u64, PARTS * (GOOD_IN_A_PART + 1));
    let bad_ids: BTreeSet<u64> = bad.iter().map(|(id, _)| *id).collect();
    let good: BTreeSet<u64> = acked.iter().map(|record| record.id).filter(|id| !bad_ids.contains(id)).collect();
    assert_eq!(stored(&database).await, good);
    assert_dead(&database, acked, bad).await;
    assert_announced(server, bad).await;
    let report = server.verify();
    assert_eq!((&report["stored"], &report["dead"]), (&(good.len()).into(), &bad.len().into()));
    assert_eq!((&report["records"], &report["pending"]), (&acked.len().into(), &0.into()));
}

/// The dead letters are the bad records, byte for byte and at their places.
async fn assert_dead(database: &Database, acked: &[Acked], bad: &[(u64, Vec<u8>)]) {
    let rows = database.rows("SELECT topic, \"partition\", \"offset\", value, class FROM dead_letters").await;
    assert_eq!(rows.len(), bad.len());
    for (id, value) in bad {
        let place = acked.iter().find(|record| record.id == *id).expect("the bad record was acknowledged");
        let row = rows.iter().find(|row| row.get::<Vec<u8>, _>("value") == *value).expect("its bytes are kept");
        assert_eq!((row.get::<i32, _>("partition"), row.get::<i64, _>("offset")), (place.partition, place.offset));
        assert_eq!((row.get::<&str, _>("topic"), row.get::<&str, _>("class")), (TOPIC, "decode"));
    }
}

/// Each dead letter is on `dlq-messages` at least once, with its origin in the headers.
async fn assert_announced(server: &Server, bad: &[(u64, Vec<u8>)]) {
    let database = server.database();
    wait::until("all dead letters are announced", async || is(database.count("sw_outbox").await, &0)).await;
    let messages = read_all(server.kafka(), "dlq-messages");
    let distinct: BTreeSet<&str> = messages.iter().map(|message| message.header("x-dlq-id").unwrap()).collect();
    assert_eq!(distinct.len(), bad.len());
    for (id, value) in bad {
        let message = messages.iter().find(|message| message.value.as_ref() == Some(value)).expect("it is announced");
        assert_eq!(message.key, Some(format!("bad_{id}").into_bytes()));
        assert_eq!(message.header("x-dlq-original-topic"), Some(TOPIC));
        assert_eq!(message.header("x-dlq-class"), Some("decode"));
        assert!(!message.header("x-dlq-reason").unwrap().is_empty());
    }
}

#[actix_rt::test]
async fn ten_thousand_readings_with_ten_bad_ones_are_stored_exactly() {
    let server = Node::new().start().await;
    let (producer, mut readings) = (Producer::connect(server.kafka()), Readings::new());
    let bad: Vec<_> = (0..PARTS).map(|_| send_part(&mut readings, &producer)).collect();
    assert_exact(&server, &producer.finish(), &bad).await;
    let messages = read_all(server.kafka(), "dlq-messages");
    assert_eq!(messages.len(), bad.len(), "without a fault each is announced once");
    let listed = server.http.get("/api/v1/dead-letters").await;
    assert_eq!((&listed["total"], &listed["count"]), (&10.into(), &10.into()));
}

#[actix_rt::test]
async fn a_kill_in_mid_stream_loses_and_doubles_nothing() {
    let server = Node::new().start().await;
    let (producer, mut readings) = (Producer::connect(server.kafka()), Readings::new());
    let mut bad: Vec<_> = (0..PARTS / 2).map(|_| send_part(&mut readings, &producer)).collect();
    let database = server.database();
    wait::until("some are stored", async || at_least(database.count("sensor_readings").await, &500)).await;
    let node = server.kill();
    bad.extend((PARTS / 2..PARTS).map(|_| send_part(&mut readings, &producer)));
    let server = node.start().await;
    assert_exact(&server, &producer.finish(), &bad).await;
}

#[actix_rt::test]
async fn a_panic_in_each_part_of_the_pipeline_in_mid_stream_loses_and_doubles_nothing() {
    let server = Node::new().with_drills().start().await;
    let (producer, mut readings) = (Producer::connect(server.kafka()), Readings::new());
    let mut bad = Vec::new();
    for part in 0..PARTS {
        bad.push(send_part(&mut readings, &producer));
        match part {
            2 => server.http.inject_panics("pipelines/sensors/lane", 1).await,
            4 => server.http.inject_panics("pipelines/sensors/sink", 1).await,
            6 => server.http.inject_panics("pipelines/sensors/source", 1).await,
            8 => server.http.inject_panics("platform/broker", 1).await,
            _ => {}
        }
    }
    assert_exact(&server, &producer.finish(), &bad).await;
    for actor in ["lane", "sink", "source"] {
        let sample = format!("streamward_actor_panics_total{{actor=\"pipelines/sensors/{actor}\"}}");
        assert_eq!(server.http.metric(&sample).await, Ok(1.0));
    }
}
