//! The cases: what the clients do, and the figures that come of it.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use serde::Serialize;

use super::{
    BrokerBench, Target,
    raw::{Batch, RawClient},
};
use crate::adapters::kafka::{
    KafkaSettings,
    admin::{TopicSpec, delete_topics, ensure_topics},
    measure::{FROM_END, FROM_START, MeasureError, MeasuredConsumer, MeasuredProducer},
};

/// Partitions of each topic; with four clients each has one.
const PARTITIONS: i32 = 4;
/// Topic that the consumers read.
const FILLED: &str = "bench-filled";
/// That topic is filled for so many times the length of a measurement: four consumers read faster than one producer
/// writes.
const FILL: u32 = 3;
const WARM_UP: &str = "bench-warm-up";
/// Time of each step of the warm-up.
const WARM_UP_SLICE: Duration = Duration::from_millis(500);
/// Different values that are sent in turn.
const VALUES: usize = 1_000;
/// Records of one transaction.
const TXN_RECORDS: usize = 100;
/// Records a second whose way to a consumer is timed.
const PACED_RATE: f64 = 10_000.0;
/// Records that are read before a consumer's time counts.
const FIRST_READ: u64 = 1;
const TIMEOUT: Duration = Duration::from_secs(60);
/// Pause of a paced producer that is ahead of its rate.
const PAUSE: Duration = Duration::from_micros(500);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// A producer's settings.
    Produce(&'static str, &'static [(&'static str, &'static str)]),
    Transactions,
    Consume,
    /// Without a client library.
    RawProduce,
    RawFetch,
    EndToEnd,
}

/// Records and the time that they took.
pub type Taken = (u64, Duration);

const LEADER: Case = Case::Produce("produce acks=1", &[("acks", "1")]);
const ALL: Case = Case::Produce("produce acks=all, idempotent", &[("enable.idempotence", "true")]);
const SMALL_SETTINGS: &[(&str, &str)] = &[("enable.idempotence", "true"), ("batch.size", "16384")];
const SMALL: Case = Case::Produce("produce acks=all, idempotent, 16 KiB batches", SMALL_SETTINGS);
const LZ4: Case =
    Case::Produce("produce acks=all, idempotent, lz4", &[("enable.idempotence", "true"), ("compression.type", "lz4")]);
const GZIP: Case = Case::Produce(
    "produce acks=all, idempotent, gzip",
    &[("enable.idempotence", "true"), ("compression.type", "gzip")],
);
const SNAPPY: Case = Case::Produce(
    "produce acks=all, idempotent, snappy",
    &[("enable.idempotence", "true"), ("compression.type", "snappy")],
);
const ZSTD: Case = Case::Produce(
    "produce acks=all, idempotent, zstd",
    &[("enable.idempotence", "true"), ("compression.type", "zstd")],
);

impl Case {
    /// Every case with its number of clients.
    pub const ALL: [(Self, usize); 19] = [
        (LEADER, 1),
        (LEADER, 4),
        (ALL, 1),
        (ALL, 4),
        (SMALL, 1),
        (SMALL, 4),
        (GZIP, 1),
        (SNAPPY, 1),
        (LZ4, 1),
        (ZSTD, 1),
        (Self::Transactions, 1),
        (Self::Transactions, 4),
        (Self::Consume, 1),
        (Self::Consume, 4),
        (Self::RawProduce, 1),
        (Self::RawProduce, 4),
        (Self::RawFetch, 1),
        (Self::RawFetch, 4),
        (Self::EndToEnd, 1),
    ];

    /// What readers call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Produce(name, _) => name,
            Self::Transactions => "transactions of 100 records",
            Self::Consume => "consume",
            Self::RawProduce => "raw produce, acks=all, 16 KiB batches",
            Self::RawFetch => "raw fetch",
            Self::EndToEnd => "end to end at 10,000/s, acks=all",
        }
    }

    fn topic(self, clients: usize) -> String {
        let name: String = self.name().chars().filter(char::is_ascii_alphanumeric).collect();
        format!("bench-{name}-{clients}")
    }
}

/// The figures of one measurement.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    pub records: u64,
    pub records_per_s: f64,
    pub broker_cpu_us_per_record: Option<f64>,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub max_ms: Option<f64>,
}

/// The figures with the median rate; of latencies those of that measurement.
pub fn median(mut figures: Vec<Figures>) -> Figures {
    let key = |f: &Figures| f.p99_ms.unwrap_or(f.records_per_s);
    figures.sort_by(|a, b| key(a).total_cmp(&key(b)));
    let middle = figures.len() / 2;
    figures.into_iter().nth(middle).unwrap_or_default()
}

/// Makes the topics, fills the one that is read, and warms the broker up.
pub async fn prepare(target: &Target, bench: &BrokerBench) -> Result<(), String> {
    let configs = vec![("file.delete.delay.ms".to_owned(), "1000".to_owned())];
    let spec = |name: String| TopicSpec { name, partitions: PARTITIONS, configs: configs.clone() };
    let mut topics: Vec<TopicSpec> = Case::ALL.iter().map(|(case, clients)| spec(case.topic(*clients))).collect();
    topics.extend([FILLED, WARM_UP].map(|name| spec(name.to_owned())));
    ensure_topics(&target.kafka, &topics).await.map_err(|error| format!("{}: {error}", target.name))?;
    let (kafka, bench) = (target.kafka.clone(), bench.clone());
    in_thread(move || {
        let until = Instant::now() + bench.warm_up;
        let values = values(bench.value_bytes);
        while Instant::now() < until {
            produce(&kafka, WARM_UP, &[], (&values, Instant::now() + WARM_UP_SLICE))?;
            consume(&kafka, (WARM_UP, &[0, 1, 2, 3]), Instant::now() + WARM_UP_SLICE)?;
        }
        produce(&kafka, FILLED, &[], (&values, Instant::now() + bench.duration * FILL)).map(drop)
    })
    .await?;
    delete(target, WARM_UP).await
}

/// Removes what a case has written.
pub async fn clean_up(target: &Target, (case, clients): (Case, usize)) -> Result<(), String> {
    delete(target, &case.topic(clients)).await
}

/// Removes what the consumers read.
pub async fn end(target: &Target) -> Result<(), String> {
    delete(target, FILLED).await
}

async fn delete(target: &Target, topic: &str) -> Result<(), String> {
    delete_topics(&target.kafka, &[topic]).await.map_err(|error| format!("{}: delete {topic}: {error}", target.name))
}

/// Measures one case once.
pub async fn measure(target: &Target, bench: &BrokerBench, (case, clients): (Case, usize)) -> Result<Figures, String> {
    let cpu = target.cpu_time();
    let (kafka, bench) = (target.kafka.clone(), bench.clone());
    let measured = in_thread(move || match case {
        Case::EndToEnd => end_to_end(&kafka, &case.topic(clients), &bench),
        _ => throughput(&kafka, &bench, (case, clients)),
    });
    let mut figures = measured.await.map_err(|error| format!("{}: {}: {error}", target.name, case.name()))?;
    if let (Some(before), Some(after)) = (cpu, target.cpu_time()) {
        let used = after.saturating_sub(before);
        figures.broker_cpu_us_per_record = Some(used.as_secs_f64() * 1e6 / figures.records.max(1) as f64);
    }
    Ok(figures)
}

/// The clients of this crate block, so they have a thread.
#[expect(clippy::disallowed_methods, reason = "whoever measures waits for it, and hears of its panic")]
async fn in_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}

fn throughput(kafka: &KafkaSettings, bench: &BrokerBench, (case, clients): (Case, usize)) -> Result<Figures, String> {
    let values = values(bench.value_bytes);
    let topic = case.topic(clients);
    let batch = if case == Case::RawProduce { Some(small_batch(kafka, &topic, &values)?) } else { None };
    let one = |client: usize| -> Result<Taken, String> {
        let until = Instant::now() + bench.duration;
        let raw = |topic: &str| {
            let partition = i32::try_from(client).unwrap_or(0);
            RawClient::connect(&kafka.bootstrap, topic, partition).map_err(|error| error.to_string())
        };
        match case {
            Case::Produce(_, settings) => produce(kafka, &topic, settings, (&values, until)),
            Case::Transactions => transactions(kafka, &topic, client, (&values, until)),
            Case::Consume => {
                let all: Vec<i32> = (0..PARTITIONS).collect();
                let own = if clients == 1 { &all[..] } else { &all[client..=client] };
                consume(kafka, (FILLED, own), until)
            }
            Case::RawProduce => match &batch {
                Some(batch) => raw(&topic)?.produce(batch, until).map_err(|error| error.to_string()),
                None => Err("no batch to send".to_owned()),
            },
            Case::RawFetch => raw(FILLED)?.fetch(until).map_err(|error| error.to_string()),
            Case::EndToEnd => Err("has a measurement of its own".to_owned()),
        }
    };
    let outcomes: Vec<Result<Taken, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|client| scope.spawn(move || one(client))).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err("a client panicked".to_owned()))).collect()
    });
    let mut figures = Figures::default();
    for outcome in outcomes {
        let (records, taken) = outcome?;
        figures.records += records;
        figures.records_per_s += records as f64 / taken.as_secs_f64();
    }
    Ok(figures)
}

type Load<'a> = (&'a [Vec<u8>], Instant);

/// Sends as fast as the broker takes it.
fn produce(
    kafka: &KafkaSettings,
    topic: &str,
    settings: &[(&str, &str)],
    (values, until): Load<'_>,
) -> Result<Taken, String> {
    let producer = MeasuredProducer::create(kafka, settings).map_err(|error| error.to_string())?;
    let begun = Instant::now();
    while Instant::now() < until {
        for (value, partition) in values.iter().zip((0..PARTITIONS).cycle()) {
            producer.send(topic, Some(partition), value).map_err(|error| error.to_string())?;
        }
        producer.poll();
    }
    let records = producer.finish().map_err(|error| error.to_string())?;
    Ok((records, begun.elapsed()))
}

/// A batch of 16 KiB as librdkafka makes it.
fn small_batch(kafka: &KafkaSettings, topic: &str, values: &[Vec<u8>]) -> Result<Batch, String> {
    produce(kafka, topic, &SMALL_SETTINGS[1..], (values, Instant::now() + Duration::from_millis(100)))?;
    let mut client = RawClient::connect(&kafka.bootstrap, topic, 0).map_err(|error| error.to_string())?;
    client.first_batch().map_err(|error| error.to_string())
}

fn transactions(kafka: &KafkaSettings, topic: &str, client: usize, (values, until): Load<'_>) -> Result<Taken, String> {
    let id = format!("{topic}-{client}");
    let work = || {
        let producer = MeasuredProducer::create(kafka, &[("transactional.id", &id), ("linger.ms", "0")])?;
        let begun = Instant::now();
        let mut values = values.iter().cycle();
        while Instant::now() < until {
            producer.begin()?;
            for (value, partition) in values.by_ref().take(TXN_RECORDS).zip((0..PARTITIONS).cycle()) {
                producer.send(topic, Some(partition), value)?;
            }
            producer.commit()?;
        }
        Ok((producer.finish()?, begun.elapsed()))
    };
    work().map_err(|error: MeasureError| error.to_string())
}

/// Reads from the start for as long as there is time.
fn consume(kafka: &KafkaSettings, (topic, partitions): (&str, &[i32]), until: Instant) -> Result<Taken, String> {
    let work = || {
        let (mut records, mut taken) = (0, Duration::ZERO);
        while Instant::now() < until {
            let consumer = MeasuredConsumer::create(kafka, topic, partitions, FROM_START)?;
            consumer.read(FIRST_READ, Instant::now() + TIMEOUT, |_| {})?;
            let begun = Instant::now();
            records += consumer.read(u64::MAX, until, |_| {})?;
            taken += begun.elapsed();
        }
        Ok((records, taken))
    };
    work().map_err(|error: MeasureError| error.to_string())
}

/// Sends at a steady rate and times each record's way, from when it was meant to be sent to when it was read.
fn end_to_end(kafka: &KafkaSettings, topic: &str, bench: &BrokerBench) -> Result<Figures, String> {
    let origin = Instant::now();
    let total = (bench.duration.as_secs_f64() * PACED_RATE) as u64;
    let consumer = MeasuredConsumer::create(kafka, topic, &[0, 1, 2, 3], FROM_END).map_err(|e| e.to_string())?;
    let settings = [("enable.idempotence", "true"), ("linger.ms", "1")];
    let producer = MeasuredProducer::create(kafka, &settings).map_err(|e| e.to_string())?;
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).map_err(|e| e.to_string())?;
    let micros = |at: Instant| u64::try_from(at.duration_since(origin).as_micros()).unwrap_or(u64::MAX);
    // A consumer at the end finds it with its first answer: the first record is sent until it has come.
    loop {
        producer.send(topic, Some(0), &[0; 8]).map_err(|e| e.to_string())?;
        producer.poll();
        if consumer.read(1, Instant::now() + PAUSE * 200, |_| {}).map_err(|e| e.to_string())? > 0 {
            break;
        }
    }
    let sender = || -> Result<(), String> {
        let begun = Instant::now();
        let mut value = vec![b'x'; bench.value_bytes.max(8)];
        for index in 0..total {
            let due = begun + Duration::from_secs_f64(index as f64 / PACED_RATE);
            while Instant::now() < due {
                producer.poll();
                std::thread::sleep(PAUSE);
            }
            value[..8].copy_from_slice(&micros(due).to_be_bytes());
            let partition = i32::try_from(index % 4).unwrap_or(0);
            producer.send(topic, Some(partition), &value).map_err(|e| e.to_string())?;
        }
        producer.finish().map(drop).map_err(|e| e.to_string())
    };
    let read = std::thread::scope(|scope| {
        let sending = scope.spawn(sender);
        let mut timed = 0;
        let until = Instant::now() + bench.duration + TIMEOUT;
        while timed < total && Instant::now() < until {
            consumer
                .read(total - timed, until.min(Instant::now() + PAUSE * 200), |value| {
                    if let Some(sent) = value.first_chunk::<8>().filter(|_| value.len() > 8) {
                        histogram.saturating_record(micros(Instant::now()).saturating_sub(u64::from_be_bytes(*sent)));
                        timed += 1;
                    }
                })
                .map_err(|e| e.to_string())?;
        }
        sending.join().unwrap_or_else(|_| Err("the producer panicked".to_owned()))?;
        Ok::<_, String>(timed)
    })?;
    if read < total {
        return Err(format!("only {read} of {total} records arrived"));
    }
    let ms = |micros: u64| Some(micros as f64 / 1e3);
    Ok(Figures {
        records: total,
        records_per_s: PACED_RATE,
        p50_ms: ms(histogram.value_at_quantile(0.5)),
        p99_ms: ms(histogram.value_at_quantile(0.99)),
        max_ms: ms(histogram.max()),
        broker_cpu_us_per_record: None,
    })
}

/// Values that compress to about half: hexadecimal digits by chance.
fn values(bytes: usize) -> Vec<Vec<u8>> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let digit = |n: u8| b"0123456789abcdef"[usize::from(n % 16)];
    (0..VALUES).map(|_| (0..bytes).map(|_| digit(random.random())).collect()).collect()
}
