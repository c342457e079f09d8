//! The two ways: one call after the other, and source, lane and sink under a supervisor as the server starts them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use streamward_core::{batch::RawBatch, partition::PartitionState};
use streamward_kit::{Capacity, ChildSpec, Inbox, Placement, Runtime, SupervisorSpec};
use streamward_pipeline::{
    lane::{self, LaneSettings, LaneShared},
    live::{LiveChannel, LiveHub, frame_kind},
    logs::{LogIdentity, Logs, Told},
    messages::{Store, Work},
    poison::Trials,
    ports::SchemaSource,
    sink::{self, CommitLimits, CommitObserver, SinkShared},
    slot::{Issued, PartitionSlot, Reader, Since, SlotStart, Slots},
    source::{self, BatchLimits, Gather, LogClient as _, Polled, SourceShared},
    steps::{Stage, StageSpec},
    store::{BoxFuture, PartitionKey, Pending, SinkStore, Start},
};
use tokio::sync::Notify;

use super::log::{MemoryClient, MemoryLog};
use crate::{
    clock::SystemClock,
    plan::{PipelineSetup, Plan, StreamSetup},
};

const PIPELINE: &str = "sensors";
const BATCH_BYTES: usize = 4 << 20;
const DELAY: Duration = Duration::from_millis(20);
/// Neither checkpoints nor idle windows come up in a round.
const NEVER: Duration = Duration::from_secs(3_600);

/// The stages with one partition assigned, from the beginning of the log.
pub struct Stages {
    stream: StreamSetup,
    pipeline: PipelineSetup,
    store: Arc<dyn SinkStore>,
    log: Arc<MemoryLog>,
    batch: usize,
    slots: Arc<Slots>,
    reader: Reader,
    slot: Arc<PartitionSlot>,
    live: LiveChannel,
}

impl Stages {
    pub async fn new(
        plan: &Plan,
        store: Arc<dyn SinkStore>,
        log: Arc<MemoryLog>,
        batch: usize,
    ) -> Result<Self, String> {
        let pipeline = plan.pipelines.iter().find(|pipeline| &*pipeline.name == PIPELINE);
        let pipeline = pipeline.ok_or("the configuration has no pipeline sensors")?.clone();
        let stream = plan.streams[pipeline.stream].clone();
        let key = PartitionKey { sink: pipeline.name.clone(), topic: stream.topic.clone(), partition: 0 };
        let identity = OneLog.identity();
        let assigned = store.assign(&key, &identity).await.map_err(|error| error.to_string())?;
        let start = Start { epoch: assigned.epoch, log: assigned.log, position: 0, gap: None };
        store.start_at(&key, start).await.map_err(|error| error.to_string())?;
        let state = PartitionState::new(&pipeline.plan, stream.topic.clone(), 0);
        let slots = Arc::new(Slots::default());
        let (epoch, log_number) = (assigned.epoch, assigned.log);
        let begin = SlotStart { key, epoch, log: log_number, identity, emit_from: 0, fetch_from: 0, state };
        let reader = slots.begin_reading();
        let slot = slots.assign(reader, begin).ok_or("another client reads")?;
        let live = LiveHub::default().channel(&stream.name);
        Ok(Self { stream, pipeline, store, log, batch, slots, reader, slot, live })
    }

    fn end(&self) -> i64 {
        self.log.len() as i64
    }

    fn stage(&self) -> Stage {
        Stage::new(StageSpec {
            schema: self.stream.schema.clone(),
            plan: self.pipeline.plan.clone(),
            format: self.stream.format,
            limits: self.stream.limits,
            key_column: self.stream.table.key,
            frame_kind: frame_kind(&self.stream.table.table).to_owned(),
        })
    }

    fn client(&self) -> MemoryClient {
        MemoryClient { log: self.log.clone(), next: 0 }
    }

    /// One call after the other. What a new incarnation would need is kept as the lane keeps it: that is the
    /// pipeline's, not the supervisor's.
    pub async fn directly(&self) -> Result<(), String> {
        let (stage, slot, mut client) = (self.stage(), &self.slot, self.client());
        let (mut state, mut decoder) = (slot.take_over(1).snapshot, stage.decoder());
        let mut room_bytes = 64 << 10;
        while slot.committed() < self.end() {
            let mut open = RawBatch::with_capacity(self.stream.topic.clone(), 0, room_bytes);
            while open.len() < self.batch {
                let push = &mut |polled: Polled<'_>| {
                    if let Polled::Record { record, .. } = polled {
                        open.push(record.offset, record.log_timestamp_ms, record.key, record.value);
                        (record.headers)(&mut |name, value| open.push_header(name, value));
                    }
                };
                client.poll(Duration::ZERO, push).map_err(|error| error.to_string())?;
            }
            room_bytes = room_bytes.max(open.bytes());
            let batch = Arc::new(open);
            let (start, end) = (slot.next_fetch(), batch.next_offset().unwrap_or(0));
            slot.fetched(end, false);
            let input = stage.decode(&mut decoder, &batch, start..end, &[]);
            let output = stage.run(&mut state, &input, 0).map_err(|error| error.to_string())?;
            let done = Since { batch, start, end, dead: Arc::from([]) };
            if slot.issue(1, done, &state, || true) != Issued::Yes {
                return Err("the slot is somebody else's".to_owned());
            }
            let pending = [Arc::new(Pending {
                key: slot.key.clone(),
                epoch: slot.epoch,
                log: slot.log,
                output,
                beside: Vec::new(),
                raw: None,
            })];
            self.store.commit(&pending).await.map_err(|error| error.to_string())?;
            slot.commit(&pending[0].output, 0);
        }
        Ok(())
    }

    /// Source, lane and sink as the server starts them; each output is a transaction, as above.
    pub async fn as_actors(&self) -> Result<(), String> {
        let capacity = Capacity { items: 64, weight: BATCH_BYTES };
        let batches: Inbox<Work> = Inbox::weighted("batches", capacity, |work| work.batch.bytes());
        let capacity = Capacity { items: 64, weight: 16_384 };
        let outputs: Inbox<Arc<Store>> =
            Inbox::weighted("outputs", capacity, |store| store.pending.output.offsets.len());
        let done = Arc::new(Done { end: self.end(), reached: Notify::new() });
        let pipeline = SupervisorSpec::new(PIPELINE)
            .child(self.sink(&outputs, done.clone()))
            .child(self.lane(&batches, &outputs))
            .child(self.source(&batches));
        let spec = SupervisorSpec::new("root").child(ChildSpec::supervisor(pipeline));
        let runtime = Runtime::start(spec).map_err(|error| error.to_string())?;
        done.reached.notified().await;
        if !runtime.shutdown(Vec::new()).await.is_clean() || self.slot.committed() != self.end() {
            return Err("the actors did not end well".to_owned());
        }
        Ok(())
    }

    fn sink(&self, outputs: &Inbox<Arc<Store>>, done: Arc<Done>) -> ChildSpec {
        let shared = Arc::new(SinkShared {
            inbox: outputs.clone(),
            store: self.store.clone(),
            limits: CommitLimits { max_rows: self.batch, max_rows_busy: self.batch, max_delay: DELAY },
            observer: Some(done),
        });
        let sink = ChildSpec::role("sink", "sink", move |scope| sink::run(scope, shared.clone()));
        sink.inbox(outputs).placement(Placement::pool("sinks"))
    }

    fn lane(&self, batches: &Inbox<Work>, outputs: &Inbox<Arc<Store>>) -> ChildSpec {
        let shared = Arc::new(LaneShared {
            stage: self.stage(),
            slots: self.slots.clone(),
            inbox: batches.clone(),
            sink: outputs.outlet(),
            live: self.live.clone(),
            schemas: Arc::new(NoRegistry),
            logs: Arc::new(OneLog),
            clock: Arc::new(SystemClock),
            settings: LaneSettings { idle_after: NEVER, checkpoint_every: NEVER },
            trials: Trials::default(),
            index: (0, 1),
        });
        let lane = ChildSpec::role("lane", "lane", move |scope| lane::run(scope, shared.clone()));
        lane.inbox(batches).placement(Placement::pool("lanes"))
    }

    fn source(&self, batches: &Inbox<Work>) -> ChildSpec {
        let shared = Arc::new(SourceShared {
            topic: self.stream.topic.clone(),
            slots: self.slots.clone(),
            logs: Arc::new(OneLog),
            limits: BatchLimits { max_records: self.batch, max_bytes: BATCH_BYTES, max_delay: DELAY },
            lanes: vec![batches.outlet()],
            held_back: Default::default(),
            clock: Arc::new(SystemClock),
        });
        let (log, reader) = (self.log.clone(), self.reader);
        ChildSpec::thread("source", "source", move |scope| {
            let mut client = MemoryClient { log: log.clone(), next: 0 };
            source::run(&scope, &mut Gather::new(shared.clone(), reader), &mut client).map(|_| ())
        })
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

/// The log in memory is never made anew.
struct OneLog;

impl OneLog {
    fn identity(&self) -> LogIdentity {
        LogIdentity { cluster_id: "cost".to_owned(), topic_id: String::new() }
    }
}

impl Logs for OneLog {
    fn ask<'a>(&'a self, _: &'a Arc<str>) -> BoxFuture<'a, Result<Told, String>> {
        let asked_at = Instant::now();
        Box::pin(async move { Ok(Told { log: Some(self.identity()), asked_at }) })
    }

    fn last_told(&self, _: &Arc<str>) -> Option<LogIdentity> {
        Some(self.identity())
    }
}

/// Plain JSON needs no registry.
struct NoRegistry;

impl SchemaSource for NoRegistry {
    fn schemas<'a>(&'a self, _: &'a [u32]) -> BoxFuture<'a, Result<Vec<Option<Arc<str>>>, String>> {
        Box::pin(async { Err("there is none".to_owned()) })
    }
}
