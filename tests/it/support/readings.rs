//! Sensor readings with a number of their own, found again in the stored rows.

use std::collections::BTreeSet;

use sqlx::Row;
use streamward::simulators::load::{LoadGenerator, SeqField};

use super::{
    database::Database,
    kafka::{Outgoing, Producer},
};

pub const TOPIC: &str = "sensor-readings";
/// First event time, in milliseconds since 1970.
pub const FIRST_EVENT_MS: i64 = 1_735_689_600_000;
/// Keys that the readings are spread over.
const KEYS: u32 = 50;

/// Sends numbered readings.
pub struct Readings {
    generator: LoadGenerator,
    key: Vec<u8>,
    value: Vec<u8>,
    next: u64,
}

impl Readings {
    pub fn new() -> Self {
        let generator = LoadGenerator::new(7, KEYS).with_seq_in(SeqField::Location);
        Self { generator, key: Vec::new(), value: Vec::new(), next: 0 }
    }

    /// Number of the next reading.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Sends `count` readings, 10 ms of event time apart.
    pub fn send(&mut self, producer: &Producer, count: u64) {
        for _ in 0..count {
            let id = self.next;
            self.next += 1;
            self.generator.fill_key(&mut self.key, id);
            self.generator.fill(&mut self.value, id, FIRST_EVENT_MS + i64::try_from(id).unwrap() * 10);
            let (key, value) = (Some(&self.key[..]), Some(&self.value[..]));
            producer.send(TOPIC, &Outgoing { id, key, value, ..Outgoing::default() });
        }
    }

    /// Sends one record that is no reading; it takes a number, too, and its value is returned.
    pub fn send_bad(&mut self, producer: &Producer) -> Vec<u8> {
        let id = self.next;
        self.next += 1;
        let value = format!("{{\"sensor_id\": \"bad_{id}\", ").into_bytes();
        let key = format!("bad_{id}").into_bytes();
        producer.send(TOPIC, &Outgoing { id, key: Some(&key), value: Some(&value), ..Outgoing::default() });
        value
    }
}

/// Numbers of the stored readings; asserts that none is stored twice.
pub async fn stored(database: &Database) -> BTreeSet<u64> {
    let rows = database.rows("SELECT location FROM sensor_readings").await;
    let numbers: BTreeSet<u64> =
        rows.iter().map(|row| LoadGenerator::seq_of_location(row.get(0)).expect("a numbered reading")).collect();
    assert_eq!(numbers.len(), rows.len(), "a reading is stored twice");
    numbers
}
