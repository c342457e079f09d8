//! What others feel: the rate of one pipeline beside another one in a crash loop, and control messages under a flood.

use std::{fmt, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;
use streamward_kit::{ActorPath, Command, Fault, FaultKind, Runtime};
use tokio::time::Instant;

use super::{SupervisionBench, load, report::Micros};
use crate::bench::{load::Progress, pipeline::load_in_thread, server::BenchServer};

/// The pipeline that fails, its source being struck at every poll.
const FAILING: &str = "pipelines/series/source";
/// The actor that is asked while records flood it.
const ASKED: &str = "pipelines/sensors/lane";
const ASK_EVERY: Duration = Duration::from_millis(10);
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// Pairs of a calm and a crashing measurement.
const ROUNDS: u32 = 4;

/// Rates of the pipeline `sensors` with as many records as it takes.
#[derive(Debug, Clone, Serialize)]
pub struct Neighbours {
    /// Records per second, alone.
    pub calm_per_s: f64,
    /// Records per second while the source of another pipeline crash-loops.
    pub beside_crash_loop_per_s: f64,
    /// Restarts of the crash-looping pipeline meanwhile.
    pub crash_loop_restarts: u64,
    /// How long a lane under flood took to answer a control message.
    pub control_us: Micros,
    #[serde(skip)]
    pub acknowledged: u64,
}

impl fmt::Display for Neighbours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (calm, beside, control) = (self.calm_per_s, self.beside_crash_loop_per_s, &self.control_us);
        writeln!(
            f,
            "beside a crash loop ({} restarts): {beside:.0} records/s, {calm:.0} alone, {:.2} of it",
            self.crash_loop_restarts,
            beside / calm
        )?;
        write!(
            f,
            "control messages under flood: {} answered, p50 {} p99 {} max {} µs",
            control.count, control.p50, control.p99, control.max
        )
    }
}

/// Measures in rounds that take turns; `first` is the id of the first record.
///
/// # Errors
/// If the load fails.
pub async fn measure(server: &BenchServer, bench: &SupervisionBench, first: u64) -> Result<Option<Neighbours>, String> {
    if bench.neighbours.is_zero() {
        return Ok(None);
    }
    let runtime = server.app.runtime();
    let path = |text: &str| ActorPath::parse(text).map_err(|error| error.to_string());
    let (failing, asked) = (path(FAILING)?, path(ASKED)?);
    let restarts = || runtime.node(&failing).map_or(0, |node| node.restarts);
    let (mut calm, mut crashing) = (Flood::default(), Flood::default());
    let (mut answers, mut crash_loop_restarts) = (Histogram::new(3).map_err(|error| error.to_string())?, 0);
    for round in 0..ROUNDS {
        // The first of a pair takes turns: the database grows, and favours neither.
        let calm_first = round % 2 == 0;
        for is_calm in [calm_first, !calm_first] {
            let next = first + calm.records + crashing.records;
            if is_calm {
                calm.add(&flood(server, bench, next, ask(runtime, &asked, &mut answers)).await?);
            } else {
                let before = restarts();
                crashing.add(&flood(server, bench, next, crash_loop(runtime, &failing)).await?);
                crash_loop_restarts += restarts() - before;
            }
        }
    }
    Ok(Some(Neighbours {
        calm_per_s: calm.per_s(),
        beside_crash_loop_per_s: crashing.per_s(),
        crash_loop_restarts,
        control_us: Micros::of(&answers),
        acknowledged: calm.acknowledged + crashing.acknowledged,
    }))
}

/// Records sent as fast as the broker takes them, until all were stored.
#[derive(Debug, Default)]
struct Flood {
    records: u64,
    acknowledged: u64,
    seconds: f64,
}

impl Flood {
    fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.acknowledged += other.acknowledged;
        self.seconds += other.seconds;
    }

    fn per_s(&self) -> f64 {
        self.acknowledged as f64 / self.seconds
    }
}

/// Sends as fast as the broker takes records while `beside` goes on, until all are stored.
async fn flood(
    server: &BenchServer,
    bench: &SupervisionBench,
    first: u64,
    beside: impl Future<Output = ()>,
) -> Result<Flood, String> {
    let settings = load(server, bench, (None, bench.neighbours), first)?;
    let (before, begun) = (server.app.committed("sensors"), Instant::now());
    let sending = async {
        let sent = load_in_thread(server.kafka.clone(), settings, Progress::default()).await?;
        server.caught_up("sensors", before + sent.acknowledged).await?;
        Ok::<_, String>(sent)
    };
    tokio::pin!(sending, beside);
    let sent = tokio::select! {
        sent = &mut sending => sent?,
        () = &mut beside => sending.await?,
    };
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Flood { records: sent.records, acknowledged: sent.acknowledged, seconds })
}

/// Asks an actor through its mailbox, again and again.
async fn ask(runtime: &Runtime, actor: &ActorPath, answers: &mut Histogram<u64>) {
    loop {
        let asked = Instant::now();
        // An actor between two lives does not answer; the time until it does counts.
        while runtime.describe(actor, ANSWERED_WITHIN).await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        answers.saturating_record(u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX));
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Strikes an actor whenever it has come back.
async fn crash_loop(runtime: &Runtime, actor: &ActorPath) {
    loop {
        let armed = runtime.node(actor).map_or(0, |node| node.armed_faults);
        if armed == 0 {
            let strike = Command::Inject(Fault::new(FaultKind::Panic, 1));
            // The next look finds out whether it was taken.
            let _down = runtime.command(actor, strike).await;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
