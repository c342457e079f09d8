//! What supervision costs: the same stages called in a loop, and as supervised actors.
//!
//! ```text
//! cargo run --release -p streamward-pipeline --example supervision_cost [rounds] [records of a batch]
//! ```
//!
//! Sensor readings, JSON or Avro, in batches of 1,000 (a pipeline's default is 4,096): decode, filter, one window, three
//! rules, output, a store that only counts. The same log is read record by record through the same client in three ways, in turn:
//!
//! - `loop`: one thread calls the stages; nothing survives a failure;
//! - `loop + slot`: the same, and what a new incarnation would need is kept ([`PartitionSlot::issue`]);
//! - `actors`: source, lane and sink as in the product, each with its thread, under a [`Runtime`].
//!
//! Reported is the CPU time of the whole process per record, so waiting does not count and helping threads do.

use std::{
    error::Error,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use rustix::time::{ClockId, clock_gettime};
use streamward_core::{
    batch::RawBatch,
    decode::{DecodeLimits, Format},
    encode::{JsonShape, encode_avro, encode_json_scalars, push_frame},
    partition::{PartitionState, PipelinePlan, PipelineSpec, StepSpec},
    rule::RuleSpec,
    schema::{Scalar, StreamSchema},
    window::{Limits, WindowSpec},
};
use streamward_kit::{Capacity, ChildSpec, Inbox, Placement, Runtime, SupervisorSpec};
use streamward_pipeline::{
    lane::{self, LaneSettings, LaneShared},
    live::{LiveChannel, LiveHub},
    messages::{Store, Work},
    ports::{Clock, SchemaSource},
    sink::{self, CommitLimits, CommitObserver, SinkShared},
    slot::{Issued, PartitionSlot, Since, SlotStart, Slots},
    source::{self, BatchLimits, LogClient, Polled, RecordView, SourceError, SourceShared},
    steps::{Stage, StageSpec},
    store::{Assignment, BoxFuture, LogIdentity, Outcome, PartitionKey, Pending, SinkStore, Start, StoreError},
};
use tokio::sync::Notify;

const SENSORS: &str = include_str!("../../../schemas/sensor_reading.avsc");
const TOPIC: &str = "sensor-readings";
/// Records of a round; about: it ends with a whole batch.
const RECORDS: usize = 400_000;
const BATCH: usize = 1_000;
const ROUNDS: usize = 11;
const WAYS: [&str; 3] = ["loop", "loop + slot", "actors"];
/// Time of the first record.
const FIRST_MS: i64 = 1_700_000_000_000;
const HOUR: Duration = Duration::from_secs(3_600);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let argument = |place, default| std::env::args().nth(place).map_or(Ok(default), |text| text.parse());
    let (rounds, batch) = (argument(1, ROUNDS)?, argument(2, BATCH)?);
    say(format_args!("batches of {batch}, {rounds} rounds of each way; load average {}", load_average()));
    actix_rt::System::new().block_on(async {
        for avro in [false, true] {
            compare(&Bench::new(avro, batch)?, rounds).await?;
        }
        say(format_args!("load average {}", load_average()));
        Ok(())
    })
}

async fn compare(bench: &Bench, rounds: usize) -> Result<()> {
    let mut found: [Vec<Round>; 3] = Default::default();
    // The first round of each warms up.
    for round in 0..=rounds {
        let taken = [bench.in_a_loop(false)?, bench.in_a_loop(true)?, bench.as_actors().await?];
        if taken.iter().any(|way| way.counted != taken[0].counted) {
            return Err(format!("not the same work: {taken:?}").into());
        }
        if round > 0 {
            found.iter_mut().zip(taken).for_each(|(all, one)| all.push(one));
        }
    }
    let counted = found[0][0].counted;
    say(format_args!(
        "\n{}: {} rows, {} window rows, {} alerts a round",
        bench.name, counted[0], counted[1], counted[2]
    ));
    let cpu = |rounds: &[Round]| rounds.iter().map(|round| round.cpu_ns).collect::<Vec<_>>();
    let best = |rounds: &[Round]| cpu(rounds).into_iter().fold(f64::MAX, f64::min);
    let (base, base_best) = (median(cpu(&found[0])), best(&found[0]));
    for (way, rounds) in WAYS.iter().zip(&found) {
        let pairs = rounds.iter().zip(&found[0]).map(|(round, first)| round.cpu_ns / first.cpu_ns);
        let (cpu_ns, best_ns, paired) = (median(cpu(rounds)), best(rounds), median(pairs.collect()));
        let wall_ns = median(rounds.iter().map(|round| round.wall_ns).collect());
        say(format_args!(
            "{way:<12} {cpu_ns:>7.1} ns CPU a record, best {best_ns:>7.1}; of the loop: {:.3}, round by round {paired:.3}, \
             best to best {:.3}; {:>8.0} records/s",
            cpu_ns / base,
            best_ns / base_best,
            1e9 / wall_ns
        ));
    }
    Ok(())
}

/// What one round took, per record, and what it brought about.
#[derive(Debug, Clone, Copy)]
struct Round {
    cpu_ns: f64,
    wall_ns: f64,
    counted: [u64; 3],
}

struct Watch {
    cpu: Duration,
    wall: Instant,
}

impl Watch {
    fn start() -> Self {
        Self { cpu: cpu_time(), wall: Instant::now() }
    }

    fn stop(&self, store: &NullStore, records: usize) -> Round {
        let per_record = |time: Duration| time.as_nanos() as f64 / records as f64;
        let counted = [&store.rows, &store.windows, &store.alerts].map(|count| count.load(Ordering::Relaxed));
        Round { cpu_ns: per_record(cpu_time() - self.cpu), wall_ns: per_record(self.wall.elapsed()), counted }
    }
}

/// CPU time of all threads of this process.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

#[expect(clippy::print_stdout, reason = "the report is what this example is for")]
fn say(line: std::fmt::Arguments<'_>) {
    println!("{line}");
}

/// The stream, the steps, and the log of one format.
struct Bench {
    name: &'static str,
    batch: usize,
    schema: Arc<StreamSchema>,
    plan: Arc<PipelinePlan>,
    log: Arc<Vec<Vec<u8>>>,
    live: LiveChannel,
}

impl Bench {
    fn new(avro: bool, batch: usize) -> Result<Self> {
        let schema = Arc::new(StreamSchema::parse(SENSORS)?);
        let plan =
            Arc::new(PipelinePlan::compile(&pipeline(), schema.clone()).map_err(|errors| format!("{errors:?}"))?);
        let log: Vec<_> =
            (0..RECORDS - RECORDS % batch).map(|index| record(&schema, index, avro)).collect::<Result<_>>()?;
        let name = if avro { "Avro" } else { "JSON" };
        Ok(Self { name, batch, schema, plan, log: Arc::new(log), live: LiveHub::default().channel(TOPIC) })
    }

    fn stage(&self) -> Stage {
        let stage = Stage::new(StageSpec {
            schema: self.schema.clone(),
            plan: self.plan.clone(),
            format: Format::default(),
            limits: DecodeLimits::default(),
            key_column: 0,
            frame_kind: "reading".to_owned(),
        });
        stage.learn(&mut stage.decoder(), 1, Some(Arc::from(SENSORS)));
        stage
    }

    /// Slots with the one partition assigned, from the beginning of the log.
    fn slots(&self) -> (Arc<Slots>, Arc<PartitionSlot>) {
        let slots = Arc::new(Slots::default());
        let key = PartitionKey { sink: Arc::from("bench"), topic: Arc::from(TOPIC), partition: 0 };
        let state = PartitionState::new(&self.plan, Arc::from(TOPIC), 0);
        let slot = slots.assign(SlotStart { key, epoch: 1, log: 1, emit_from: 0, fetch_from: 0, state });
        (slots, slot)
    }

    /// One thread, one call after the other.
    fn in_a_loop(&self, keeps: bool) -> Result<Round> {
        let (stage, store, clock) = (self.stage(), NullStore::default(), SystemClock);
        let (_slots, slot) = self.slots();
        let mut state = slot.take_over(1).snapshot;
        let mut decoder = stage.decoder();
        let mut client = Replay { log: self.log.clone(), next: 0 };
        let topic: Arc<str> = Arc::from(TOPIC);
        let fresh = |bytes| RawBatch::with_capacity(topic.clone(), 0, bytes);
        let mut room_bytes = 64 << 10;
        let mut open = fresh(room_bytes);
        let watch = Watch::start();
        while slot.committed() < client.log.len() as i64 {
            client.poll(Duration::ZERO, &mut |polled| {
                if let Polled::Record { record, .. } = polled {
                    open.push(record.offset, record.log_timestamp_ms, record.key, record.value);
                    (record.headers)(&mut |name, value| open.push_header(name, value));
                }
            })?;
            if open.len() < self.batch {
                continue;
            }
            room_bytes = room_bytes.max(open.bytes());
            let batch = Arc::new(std::mem::replace(&mut open, fresh(room_bytes)));
            let (start, end) = (slot.next_fetch(), batch.next_offset().ok_or("an empty batch")?);
            slot.fetched(end, false);
            if !decoder.unresolved_ids(&batch).is_empty() {
                return Err("a schema is missing".into());
            }
            let input = stage.decode(&mut decoder, &batch, start..end, &[]);
            let output = stage.run(&mut state, &input, 0)?;
            if self.live.has_subscribers() {
                streamward_pipeline::steps::publish(&self.live, &stage, &output, clock.now_ms());
            }
            let done = Since { batch, start, end, poison: Arc::from([]) };
            if keeps && slot.issue(1, done, &state, || true) != Issued::Yes {
                return Err("the slot is somebody else's".into());
            }
            let pending = [Arc::new(Pending { key: slot.key.clone(), epoch: 1, log: 1, output })];
            store.commit(&pending).now_or_never().ok_or("the store waits")??;
            slot.commit(&pending[0].output);
        }
        Ok(watch.stop(&store, self.log.len()))
    }

    /// Source, lane and sink as the product starts them.
    async fn as_actors(&self) -> Result<Round> {
        let (slots, slot) = self.slots();
        let capacity = Capacity { items: 64, weight: 4 << 20 };
        let lane_inbox: Inbox<Work> = Inbox::weighted("batches", capacity, |work| work.batch.bytes());
        let capacity = Capacity { items: 64, weight: 16_384 };
        let sink_inbox: Inbox<Arc<Store>> =
            Inbox::weighted("outputs", capacity, |store| store.pending.output.offsets.len());
        let store = Arc::new(NullStore::default());
        let done = Arc::new(Done { end: self.log.len() as i64, reached: Notify::new() });
        let sink = Arc::new(SinkShared {
            inbox: sink_inbox.clone(),
            store: store.clone(),
            limits: CommitLimits { max_rows: 1_000, max_rows_busy: 16_384, max_delay: Duration::from_millis(20) },
            observer: Some(done.clone()),
        });
        let lane = Arc::new(LaneShared {
            stage: self.stage(),
            slots: slots.clone(),
            inbox: lane_inbox.clone(),
            sink: sink_inbox.outlet(),
            live: self.live.clone(),
            schemas: Arc::new(NoRegistry),
            clock: Arc::new(SystemClock),
            settings: LaneSettings { idle_after: HOUR, checkpoint_every: HOUR },
            index: (0, 1),
        });
        let source = Arc::new(SourceShared {
            topic: Arc::from(TOPIC),
            slots,
            limits: BatchLimits { max_records: self.batch, max_bytes: 4 << 20, max_delay: Duration::from_millis(20) },
            lanes: vec![lane_inbox.outlet()],
            held_back: Default::default(),
        });
        let log = self.log.clone();
        let pipeline = SupervisorSpec::new("pipeline")
            .child(
                ChildSpec::role("sink", "sink", move |scope| sink::run(scope, sink.clone()))
                    .inbox(&sink_inbox)
                    .placement(Placement::pool("sinks")),
            )
            .child(
                ChildSpec::role("lane", "lane", move |scope| lane::run(scope, lane.clone()))
                    .inbox(&lane_inbox)
                    .placement(Placement::pool("lanes")),
            )
            .child(ChildSpec::thread("source", "source", move |scope| {
                let mut client = Replay { log: log.clone(), next: 0 };
                source::run(&scope, &source, &mut client)
            }));
        let watch = Watch::start();
        let runtime = Runtime::start(SupervisorSpec::new("root").child(ChildSpec::supervisor(pipeline)))?;
        done.reached.notified().await;
        let round = watch.stop(&store, self.log.len());
        if !runtime.shutdown(Vec::new()).await.is_clean() || slot.committed() != self.log.len() as i64 {
            return Err("the actors did not end well".into());
        }
        Ok(round)
    }
}

/// Tells when the last record was committed.
struct Done {
    end: i64,
    reached: Notify,
}

impl CommitObserver for Done {
    fn committed(&self, pending: &[Arc<Pending>]) {
        if pending.last().is_some_and(|last| last.output.end == self.end) {
            self.reached.notify_one();
        }
    }
}

/// A client that reads a log in memory, one record per poll as the real one does.
struct Replay {
    log: Arc<Vec<Vec<u8>>>,
    next: usize,
}

impl LogClient for Replay {
    fn poll(&mut self, timeout: Duration, visit: &mut dyn FnMut(Polled<'_>)) -> std::result::Result<(), SourceError> {
        let Some(value) = self.log.get(self.next) else {
            std::thread::sleep(timeout);
            visit(Polled::Nothing);
            return Ok(());
        };
        let offset = self.next as i64;
        self.next += 1;
        let log_timestamp_ms = FIRST_MS + offset * 2;
        let record = RecordView { offset, log_timestamp_ms, key: None, value: Some(value), headers: &|_| () };
        visit(Polled::Record { partition: 0, record });
        Ok(())
    }

    fn pause(&mut self, _: &[i32]) {}

    fn resume(&mut self, _: &[i32]) {}

    fn commit(&mut self, _: &[(i32, i64)]) {}
}

/// A store that counts what it is given.
#[derive(Default)]
struct NullStore {
    rows: AtomicU64,
    windows: AtomicU64,
    alerts: AtomicU64,
}

impl SinkStore for NullStore {
    fn assign<'a>(
        &'a self,
        _: &'a PartitionKey,
        _: &'a LogIdentity,
    ) -> BoxFuture<'a, std::result::Result<Assignment, StoreError>> {
        Box::pin(async { Ok(Assignment { epoch: 1, log: 1, position: Some(0), checkpoint: None }) })
    }

    fn start_at<'a>(&'a self, _: &'a PartitionKey, _: Start) -> BoxFuture<'a, std::result::Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn commit<'a>(
        &'a self,
        pending: &'a [Arc<Pending>],
    ) -> BoxFuture<'a, std::result::Result<Vec<Outcome>, StoreError>> {
        let add = |count: &AtomicU64, more: usize| count.fetch_add(more as u64, Ordering::Relaxed);
        for Pending { output, .. } in pending.iter().map(|pending| &**pending) {
            add(&self.rows, output.rows.num_rows());
            add(&self.windows, output.windows.len());
            add(&self.alerts, output.alerts.len());
        }
        Box::pin(async move { Ok(vec![Outcome::Committed; pending.len()]) })
    }
}

struct NoRegistry;

impl SchemaSource for NoRegistry {
    fn schemas<'a>(&'a self, _: &'a [u32]) -> BoxFuture<'a, std::result::Result<Vec<Option<Arc<str>>>, String>> {
        Box::pin(async { Err("there is none".to_owned()) })
    }
}

struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

/// One reading per 2 ms from 1,000 sensors in turn; one in 503 is hot.
fn record(schema: &StreamSchema, index: usize, avro: bool) -> Result<Vec<u8>> {
    let sensor = (index * 7_919) % 1_000;
    let value = if index.is_multiple_of(503) { 95.0 } else { 20.0 + (index % 97) as f64 / 10.0 };
    let row = [
        Scalar::Text(format!("sensor-{sensor:04}")),
        Scalar::Text(["temperature", "humidity", "pressure"][sensor % 3].to_owned()),
        Scalar::Number(value),
        Scalar::Integer(FIRST_MS + i64::try_from(index)? * 2),
        Scalar::Text("hall 1".to_owned()),
        Scalar::Boolean(index.is_multiple_of(503)),
        Scalar::Integer(80),
        Scalar::Integer(-60),
    ];
    let mut out = Vec::new();
    if avro {
        push_frame(1, &mut out);
        encode_avro(schema, &row, &mut out)?;
    } else {
        encode_json_scalars(&row, schema, JsonShape::Nested, &mut out);
    }
    Ok(out)
}

fn pipeline() -> PipelineSpec {
    let select = [
        ("avg_value", "avg(value)"),
        ("min_value", "min(value)"),
        ("max_value", "max(value)"),
        ("count", "count(*)"),
        ("std_value", "stddev(value)"),
    ];
    let window = WindowSpec {
        name: "aggregated_metrics".to_owned(),
        size: Duration::from_secs(60),
        allowed_lateness: Duration::from_secs(30),
        group_by: vec!["sensor_id".to_owned(), "sensor_type".to_owned()],
        select: select.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
    };
    let rule = |name: &str, when: &str| {
        StepSpec::Rule(RuleSpec {
            name: name.to_owned(),
            when: when.to_owned(),
            severity: "critical".to_owned(),
            hold_for: Duration::ZERO,
            cooldown: Duration::from_secs(300),
            resolve_after: None,
        })
    };
    PipelineSpec {
        event_time: "timestamp".to_owned(),
        key: "sensor_id".to_owned(),
        out_of_orderness: Duration::from_secs(5),
        max_ahead: None,
        measure: Some("value".to_owned()),
        anomaly: Some("anomaly".to_owned()),
        limits: Limits::default(),
        steps: vec![
            StepSpec::Filter("value > -1000".to_owned()),
            StepSpec::Window(window),
            rule("temperature_max", "sensor_type = 'temperature' AND value > 80"),
            rule("humidity_max", "sensor_type = 'humidity' AND value > 99"),
            rule("battery_low", "battery_level < 10"),
        ],
    }
}
