//! The page at `/metrics`: gathered when it is asked for, from counters that their owners keep anyway.
//!
//! Names follow Prometheus' rules: prefix `streamward_`, base units, `_total` for counters. Labels are actor paths, topics
//! and partitions, never keys of records.

use std::sync::atomic::Ordering;

use prometheus::{
    CounterVec, Encoder, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    core::Collector,
};
use streamward_kit::{ExitReason, Runtime};
use streamward_pipeline::live::LiveHub;

use super::{
    broker::Embedded,
    lag::figures::Lag,
    operations::{LiveOperations, PipelineView},
};

/// Every metric with its help text; the order is that of the page.
pub const NAMES: &[(&str, &str)] = &[
    ("streamward_actor_restarts_total", "Restarts of an actor."),
    ("streamward_actor_exits_total", "Ends of an actor's incarnations by reason."),
    ("streamward_actor_panics_total", "Panics of an actor."),
    ("streamward_actor_generation", "Number of an actor's current or last incarnation."),
    (
        "streamward_actor_restarts_in_window",
        "Restarts that count towards an intensity: of a supervisor's children, or a leaf's own.",
    ),
    ("streamward_actor_processed_total", "Records that an actor finished."),
    ("streamward_actor_state", "1 for the state that an actor is in."),
    ("streamward_actor_inbox_depth", "Messages that wait in an actor's inbox."),
    ("streamward_actor_inbox_capacity", "Messages that an actor's inbox holds."),
    ("streamward_actor_inbox_blocked_seconds_total", "Time that senders were blocked by a full inbox."),
    ("streamward_actor_inbox_oldest_seconds", "Age of the oldest message in an actor's inbox or hand."),
    ("streamward_actor_in_hand_seconds", "Time that an actor has had the same message in hand."),
    ("streamward_actor_waiting_seconds", "Time that an actor has waited for what it waits for now."),
    ("streamward_actor_step_seconds", "Time with one message in hand, over the last one to two minutes."),
    (
        "streamward_actor_queue_seconds",
        "Time that messages waited in an actor's inbox, over the last one to two minutes.",
    ),
    ("streamward_actor_zombies", "Fenced incarnations that still hold a thread."),
    ("streamward_consumer_lag_records", "Offsets that a reader could get and that are not stored."),
    ("streamward_consumer_lag_seconds", "Age of the newest stored record while there are newer ones."),
    (
        "streamward_consumer_open_transaction_records",
        "Offsets of open transactions and behind them, which no reader of committed records can get yet.",
    ),
    ("streamward_position", "Stored position of a partition."),
    ("streamward_partition_stopped", "1 for a partition that stands still until somebody mends the cause."),
    (
        "streamward_standing_still",
        "1 for whatever does not progress although it should; GET /health/ready has the reason.",
    ),
    ("streamward_records_total", "Records of a pipeline by what became of them: stored, dead or filtered."),
    (
        "streamward_late_records_total",
        "Records that came too late for a window, or whose window had begun before its step was there.",
    ),
    ("streamward_ahead_records_total", "Records too far ahead of their log timestamp to count in rules and windows."),
    ("streamward_windows_full_total", "Records whose group found no room in the state of a window."),
    ("streamward_alert_transitions_total", "Alerts that fired or resolved."),
    ("streamward_refused_keys_total", "Records that a full rule could not judge."),
    ("streamward_live_subscribers", "WebSocket sessions of a stream."),
    ("streamward_live_frames_total", "Frames published to a stream's sessions."),
    ("streamward_live_dropped_total", "Frames left out for slow sessions."),
    ("streamward_broker_connections", "Connections of the embedded broker."),
    ("streamward_broker_refused_connections_total", "Connections closed at once, above a limit."),
    ("streamward_broker_failed_authentications_total", "Authentications that failed."),
    (
        "streamward_broker_damaged_offsets",
        "Offsets of a partition that the embedded broker lost to damage of its files.",
    ),
    ("streamward_process_resident_memory_bytes", "Resident memory of the process."),
    ("streamward_process_cpu_seconds_total", "CPU time of the process."),
];

struct Page {
    registry: Registry,
}

impl Page {
    fn opts(name: &str) -> Opts {
        let help = NAMES.iter().find(|(known, _)| *known == name).map_or("", |(_, help)| help);
        Opts::new(name, help)
    }

    fn add<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> Option<C> {
        let collector = made.ok()?;
        self.registry.register(Box::new(collector.clone())).ok()?;
        Some(collector)
    }

    fn counters(&self, name: &str, labels: &[&str]) -> Option<IntCounterVec> {
        self.add(IntCounterVec::new(Self::opts(name), labels))
    }

    fn gauges(&self, name: &str, labels: &[&str]) -> Option<IntGaugeVec> {
        self.add(IntGaugeVec::new(Self::opts(name), labels))
    }

    fn seconds_total(&self, name: &str, labels: &[&str]) -> Option<CounterVec> {
        self.add(CounterVec::new(Self::opts(name), labels))
    }

    fn seconds(&self, name: &str, labels: &[&str]) -> Option<GaugeVec> {
        self.add(GaugeVec::new(Self::opts(name), labels))
    }
}

/// The page as text.
pub fn text(operations: &LiveOperations, lags: &[Lag]) -> String {
    let page = Page { registry: Registry::new() };
    // Registration fails only for a name used twice, which a test of the page would show.
    let _all_registered = actors(&page, &operations.runtime)
        .and_then(|()| partitions(&page, lags, &operations.pipelines))
        .and_then(|()| standing_still(&page, operations))
        .and_then(|()| sessions(&page, &operations.live))
        .and_then(|()| broker(&page, operations.broker.as_deref()))
        .and_then(|()| process(&page));
    let mut text = Vec::new();
    match TextEncoder::new().encode(&page.registry.gather(), &mut text) {
        Ok(()) => String::from_utf8(text).unwrap_or_default(),
        Err(error) => format!("# {error}\n"),
    }
}

fn actors(page: &Page, runtime: &Runtime) -> Option<()> {
    let restarts = page.counters("streamward_actor_restarts_total", &["actor"])?;
    let exits = page.counters("streamward_actor_exits_total", &["actor", "reason"])?;
    let panics = page.counters("streamward_actor_panics_total", &["actor"])?;
    let generation = page.gauges("streamward_actor_generation", &["actor"])?;
    let in_window = page.gauges("streamward_actor_restarts_in_window", &["actor"])?;
    let processed = page.counters("streamward_actor_processed_total", &["actor"])?;
    let state = page.gauges("streamward_actor_state", &["actor", "state"])?;
    let depth = page.gauges("streamward_actor_inbox_depth", &["actor"])?;
    let capacity = page.gauges("streamward_actor_inbox_capacity", &["actor"])?;
    let blocked = page.seconds_total("streamward_actor_inbox_blocked_seconds_total", &["actor"])?;
    let oldest = page.seconds("streamward_actor_inbox_oldest_seconds", &["actor"])?;
    let in_hand = page.seconds("streamward_actor_in_hand_seconds", &["actor"])?;
    let waiting = page.seconds("streamward_actor_waiting_seconds", &["actor", "on"])?;
    let steps = page.seconds("streamward_actor_step_seconds", &["actor", "at"])?;
    let queueing = page.seconds("streamward_actor_queue_seconds", &["actor", "at"])?;
    let zombies = page.gauges("streamward_actor_zombies", &["actor"])?;
    for figures in runtime.metrics().iter().filter(|figures| !figures.path.as_str().starts_with("edge/sessions/")) {
        let actor = figures.path.as_str();
        restarts.with_label_values(&[actor]).inc_by(figures.restarts_total);
        panics.with_label_values(&[actor]).inc_by(figures.panics_total);
        for (reason, count) in &figures.exits_total {
            exits.with_label_values(&[actor, &name_of(reason)]).inc_by(*count);
        }
        generation.with_label_values(&[actor]).set(to_i64(figures.generation));
        in_window.with_label_values(&[actor]).set(to_i64(figures.restarts_in_window));
        processed.with_label_values(&[actor]).inc_by(figures.processed_total);
        zombies.with_label_values(&[actor]).set(to_i64(figures.zombies));
        state.with_label_values(&[actor, figures.state.as_str()]).set(1);
        if let Some(wait) = &figures.waiting_on {
            waiting.with_label_values(&[actor, wait.on]).set(wait.for_ms as f64 / 1000.0);
        }
        in_hand.with_label_values(&[actor]).set(figures.in_hand_ms as f64 / 1000.0);
        for (times, page) in [(figures.step_us, &steps), (figures.queue_us, &queueing)] {
            let Some(times) = times else { continue };
            page.with_label_values(&[actor, "p50"]).set(times.p50 as f64 / 1e6);
            page.with_label_values(&[actor, "p99"]).set(times.p99 as f64 / 1e6);
        }
        if let Some(inbox) = &figures.inbox {
            depth.with_label_values(&[actor]).set(to_i64(inbox.depth));
            capacity.with_label_values(&[actor]).set(to_i64(inbox.capacity));
            blocked.with_label_values(&[actor]).inc_by(inbox.blocked_ms as f64 / 1000.0);
            oldest.with_label_values(&[actor]).set(inbox.oldest_ms as f64 / 1000.0);
        }
    }
    Some(())
}

fn partitions(page: &Page, lags: &[Lag], pipelines: &[PipelineView]) -> Option<()> {
    let records = page.gauges("streamward_consumer_lag_records", &["topic", "partition"])?;
    let seconds = page.seconds("streamward_consumer_lag_seconds", &["topic", "partition"])?;
    let hidden = page.gauges("streamward_consumer_open_transaction_records", &["topic", "partition"])?;
    for lag in lags {
        let partition = lag.partition.to_string();
        records.with_label_values(&[&*lag.topic, &partition]).set(lag.records);
        seconds.with_label_values(&[&*lag.topic, &partition]).set(lag.seconds);
        hidden.with_label_values(&[&*lag.topic, &partition]).set(lag.in_transactions);
    }
    let stopped = page.gauges("streamward_partition_stopped", &["pipeline", "topic", "partition"])?;
    let position = page.gauges("streamward_position", &["pipeline", "topic", "partition"])?;
    let records = page.counters("streamward_records_total", &["pipeline", "outcome"])?;
    let late = page.counters("streamward_late_records_total", &["pipeline"])?;
    let ahead = page.counters("streamward_ahead_records_total", &["pipeline"])?;
    let full = page.counters("streamward_windows_full_total", &["pipeline"])?;
    let alerts = page.counters("streamward_alert_transitions_total", &["pipeline"])?;
    let refused = page.counters("streamward_refused_keys_total", &["pipeline"])?;
    for pipeline in pipelines {
        let totals = pipeline.slots.totals();
        let outcomes = [("stored", &totals.stored), ("dead", &totals.dead), ("filtered", &totals.filtered)];
        for (outcome, total) in outcomes {
            records.with_label_values(&[&*pipeline.name, outcome]).inc_by(total.load(Ordering::Relaxed));
        }
        late.with_label_values(&[&*pipeline.name]).inc_by(totals.late.load(Ordering::Relaxed));
        ahead.with_label_values(&[&*pipeline.name]).inc_by(totals.ahead.load(Ordering::Relaxed));
        full.with_label_values(&[&*pipeline.name]).inc_by(totals.without_room.load(Ordering::Relaxed));
        alerts.with_label_values(&[&*pipeline.name]).inc_by(totals.alerts.load(Ordering::Relaxed));
        refused.with_label_values(&[&*pipeline.name]).inc_by(totals.refused_keys.load(Ordering::Relaxed));
        for (partition, _) in pipeline.slots.standing_still() {
            stopped.with_label_values(&[&*pipeline.name, &*pipeline.topic, &partition.to_string()]).set(1);
        }
        for slot in pipeline.slots.all() {
            let partition = slot.key.partition.to_string();
            position.with_label_values(&[&*pipeline.name, &*pipeline.topic, &partition]).set(slot.committed());
        }
    }
    Some(())
}

fn standing_still(page: &Page, operations: &LiveOperations) -> Option<()> {
    let labels = ["cause", "actor", "pipeline", "topic", "partition"];
    let standing = page.gauges("streamward_standing_still", &labels)?;
    for finding in operations.findings.all().iter() {
        let place = &finding.place;
        let (pipeline, topic) = (place.pipeline.as_deref().unwrap_or(""), place.topic.as_deref().unwrap_or(""));
        let partition = place.partition.map(|partition| partition.to_string()).unwrap_or_default();
        standing.with_label_values(&[place.cause.as_str(), &place.actor, pipeline, topic, &partition]).set(1);
    }
    Some(())
}

fn sessions(page: &Page, live: &LiveHub) -> Option<()> {
    let subscribers = page.gauges("streamward_live_subscribers", &["stream"])?;
    let frames = page.counters("streamward_live_frames_total", &["stream"])?;
    let dropped = page.counters("streamward_live_dropped_total", &["stream"])?;
    for (stream, counts) in live.counts() {
        subscribers.with_label_values(&[&stream]).set(to_i64(counts.subscribers));
        frames.with_label_values(&[&stream]).inc_by(counts.published);
        dropped.with_label_values(&[&stream]).inc_by(counts.dropped);
    }
    Some(())
}

fn broker(page: &Page, embedded: Option<&Embedded>) -> Option<()> {
    let Some(embedded) = embedded else { return Some(()) };
    let stats = embedded.broker().stats();
    let connections = page.add(IntGauge::with_opts(Page::opts("streamward_broker_connections")))?;
    connections.set(to_i64(stats.connections));
    let totals = [
        ("streamward_broker_refused_connections_total", stats.refused_connections),
        ("streamward_broker_failed_authentications_total", stats.failed_authentications),
    ];
    for (name, total) in totals {
        page.add(IntCounter::with_opts(Page::opts(name)))?.inc_by(total);
    }
    let damaged = page.gauges("streamward_broker_damaged_offsets", &["topic", "partition"])?;
    for lost in embedded.broker().damage() {
        let partition = lost.partition.to_string();
        damaged.with_label_values(&[&*lost.topic, &partition]).add(lost.last_offset - lost.first_offset + 1);
    }
    Some(())
}

fn process(page: &Page) -> Option<()> {
    let memory = page.add(IntGauge::with_opts(Page::opts("streamward_process_resident_memory_bytes")))?;
    memory.set(to_i64(crate::process::Process::this().resident_bytes()));
    let cpu = page.add(prometheus::Counter::with_opts(Page::opts("streamward_process_cpu_seconds_total")))?;
    cpu.inc_by(crate::process::Process::this().cpu_time().as_secs_f64());
    Some(())
}

/// The word that a reason has in JSON.
fn name_of(reason: &ExitReason) -> String {
    serde_json::to_value(reason).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn to_i64(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}
