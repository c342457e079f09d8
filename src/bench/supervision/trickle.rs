//! A few records beside the load: some for the other pipeline, some that cannot be decoded, each with a number.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    adapters::kafka::producer::BulkProducer,
    bench::{in_thread, server::BenchServer},
    clock::now_ms,
};

/// Wait between two rounds; each sends one record to `series`.
const EVERY: Duration = Duration::from_millis(20);
/// Every so manieth round sends a poisonous record to `sensors` as well.
const POISON_EVERY: u64 = 25;
const FLUSH_WITHIN: Duration = Duration::from_secs(60);

/// What the broker has.
pub struct Sent {
    rounds: u64,
}

impl Sent {
    /// Records sent to `series`.
    pub fn series(&self) -> u64 {
        self.rounds
    }

    /// Poisonous records sent to `sensors`.
    pub fn poison(&self) -> u64 {
        self.rounds.div_ceil(POISON_EVERY)
    }

    /// Their values.
    pub fn poison_values(&self) -> impl Iterator<Item = Vec<u8>> {
        (0..self.rounds).step_by(POISON_EVERY as usize).map(poison)
    }
}

fn poison(round: u64) -> Vec<u8> {
    format!(r#"{{"poison":{round}"#).into_bytes()
}

/// Sends from a thread of its own until `stop` is set, and waits until all are acknowledged.
///
/// # Errors
/// If the broker does not take them.
pub async fn send(server: &BenchServer, stop: Arc<AtomicBool>) -> Result<Sent, String> {
    let topic = |name: &str| {
        let stream = server.plan.stream(name).ok_or_else(|| format!("the configuration has no stream {name}"))?;
        Ok::<_, String>(stream.topic.to_string())
    };
    let (sensors, series, kafka) = (topic("sensors")?, topic("series")?, server.kafka.clone());
    let send = move || {
        let producer = BulkProducer::create(&kafka, "streamward-trickle").map_err(|error| error.to_string())?;
        let mut rounds = 0;
        while !stop.load(Ordering::Relaxed) {
            let key = format!("series_{}", rounds % 10);
            let value = format!(r#"{{"series":"{key}","timestamp":{},"value":{rounds}}}"#, now_ms());
            producer.send(&series, key.as_bytes(), value.as_bytes())?;
            if rounds % POISON_EVERY == 0 {
                producer.send(&sensors, key.as_bytes(), &poison(rounds))?;
            }
            rounds += 1;
            producer.poll(Duration::ZERO);
            std::thread::sleep(EVERY);
        }
        producer.flush(FLUSH_WITHIN)?;
        Ok(Sent { rounds })
    };
    in_thread("trickle", send).await
}
