//! An open-loop load generator: an idempotent producer on a thread of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    adapters::kafka::{KafkaSettings, producer::BulkProducer},
    clock::now_ms,
    simulators::load::{LoadGenerator, SeqField},
};

/// Sleep while nothing is due: the generator must not take the CPU that it measures.
const PAUSE: Duration = Duration::from_millis(1);
/// Records made between two looks at the clock.
const SLICE: u64 = 200;

/// What to send.
#[derive(Debug, Clone)]
pub struct LoadSettings {
    pub topic: String,
    pub seed: u64,
    pub keys: u32,
    /// Records per second; `None` sends as fast as the broker takes them.
    pub rate: Option<f64>,
    /// How long to send.
    pub duration: Duration,
    /// How many to send at most.
    pub max_records: u64,
    /// Id of the first record: loads into one stream keep theirs apart.
    pub first: u64,
    /// Event times begin here and end now; `None` is the time at which each record is meant to be sent.
    pub history: Option<Duration>,
}

/// What was sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    pub records: u64,
    /// Acknowledged by the broker.
    pub acknowledged: u64,
    pub seconds: f64,
}

/// Counters of a running load.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    pub sent: Arc<AtomicU64>,
    pub stop: Arc<AtomicBool>,
}

/// Sends until the time or the count is up, then waits for all acknowledgements.
///
/// # Errors
/// If the broker does not take records any more.
pub fn run(kafka: &KafkaSettings, settings: &LoadSettings, progress: &Progress) -> Result<Sent, String> {
    let producer = BulkProducer::create(kafka, "streamward-load").map_err(|error| error.to_string())?;
    let mut generator = LoadGenerator::new(settings.seed, settings.keys).with_seq_in(SeqField::Location);
    let (mut key, mut value) = (Vec::new(), Vec::new());
    let (started, started_ms) = (Instant::now(), now_ms());
    let mut index = 0;
    while index < settings.max_records && !progress.stop.load(Ordering::Relaxed) {
        let elapsed = started.elapsed();
        if elapsed >= settings.duration {
            break;
        }
        let due = match settings.rate {
            Some(rate) => (elapsed.as_secs_f64() * rate) as u64,
            None => index + SLICE,
        };
        if due <= index {
            producer.poll(Duration::ZERO);
            std::thread::sleep(PAUSE);
            continue;
        }
        for record in index..due.min(settings.max_records) {
            let (event_ms, id) = (event_time(settings, record, started_ms), settings.first + record);
            generator.fill_key(&mut key, id);
            generator.fill(&mut value, id, event_ms);
            producer.send(&settings.topic, &key, &value)?;
        }
        index = due.min(settings.max_records);
        progress.sent.store(index, Ordering::Relaxed);
    }
    producer.flush(Duration::from_secs(60))?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(Sent { records: index, acknowledged: producer.acknowledged(), seconds })
}

fn event_time(settings: &LoadSettings, record: u64, started_ms: i64) -> i64 {
    match (settings.history, settings.rate) {
        (Some(history), _) => {
            let span = history.as_millis() as f64;
            let share = record as f64 / settings.max_records.max(1) as f64;
            started_ms - span as i64 + (span * share) as i64
        }
        (None, Some(rate)) => started_ms + (record as f64 * 1000.0 / rate) as i64,
        (None, None) => now_ms(),
    }
}
