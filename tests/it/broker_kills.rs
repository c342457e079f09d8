//! `kill -9` at random moments while the embedded broker acknowledges: its log loses, doubles and skips nothing.
//!
//! `STREAMWARD_KILLS` sets the number of kills, `STREAMWARD_SEED` repeats a run.

use std::{cell::Cell, time::Duration};

use futures_util::future::join;
use tokio::time::interval;

use crate::{
    kills::kills,
    support::{
        kafka::{Outgoing, Producer, read_all},
        server::Node,
    },
};

const TOPIC: &str = "acknowledged";
const RECORDS_PER_TICK: u64 = 40;
const TICK: Duration = Duration::from_millis(10);

/// Sends 4,000 records a second until `done`; how many.
async fn load(producer: &Producer, done: &Cell<bool>) -> u64 {
    let (mut id, mut ticks) = (0, interval(TICK));
    while !done.get() {
        ticks.tick().await;
        for _ in 0..RECORDS_PER_TICK {
            let value = id.to_string();
            producer.send(TOPIC, &Outgoing { id, value: Some(value.as_bytes()), ..Outgoing::default() });
            id += 1;
        }
    }
    id
}

#[actix_rt::test]
async fn acknowledged_records_survive_kills_once_and_without_a_gap() {
    let server = Node::new().set("kafka.embedded.segment_size", "1MiB").start().await;
    let (producer, done) = (Producer::connect(server.kafka()), Cell::new(false));
    let (sent, server) = join(load(&producer, &done), kills(server, &producer, &done)).await;
    let acked = producer.finish();
    assert_eq!(acked.len() as u64, sent);
    let log = read_all(server.kafka(), TOPIC);
    let ids: Vec<u64> = log
        .iter()
        .map(|record| std::str::from_utf8(record.value.as_ref().unwrap()).unwrap().parse().unwrap())
        .collect();
    for (record, place) in log.iter().zip(0_i64..) {
        assert_eq!(record.offset, place, "offsets are dense within one boot of the machine");
    }
    assert_eq!(ids, (0..sent).collect::<Vec<_>>(), "each record once, in the order in which it was sent");
    for record in acked {
        let place = usize::try_from(record.offset).unwrap();
        // A batch whose first answer got lost is known, but not always where it is.
        assert!(record.offset < 0 || ids[place] == record.id, "{record:?}");
    }
}
