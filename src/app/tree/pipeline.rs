//! The actors of one pipeline: source, lane and sink, and the inboxes between them.

use std::sync::{Arc, atomic::AtomicUsize};

use streamward_kit::{Capacity, ChildSpec, Inbox, Placement, SupervisorSpec};
use streamward_pipeline::{
    assignment::{Assigner, OnGap},
    lane::{self, LaneSettings, LaneShared},
    messages::{Store, Work},
    poison::Trials,
    sink::{self, CommitLimits, SinkShared},
    slot::Slots,
    source::{self, BatchLimits, SourceShared},
    steps::{Stage, StageSpec},
};

use super::{Builder, SINKS};
use crate::{
    adapters::kafka::{
        members::Member,
        source::{KeptSource, SourceSettings},
    },
    app::{AppError, kafka_clients, operations::PipelineView, supervision::intensity},
    clock::SystemClock,
    config,
    plan::PipelineSetup,
};

/// Batches that wait for a lane.
const LANE_INBOX_BATCHES: usize = 64;
/// Bytes of batches that wait for a lane.
const LANE_INBOX_BYTES: usize = 4 << 20;
/// Outputs that wait for a sink.
const SINK_INBOX_OUTPUTS: usize = 64;
/// Bytes of rows and of the records that they came from, in outputs that wait for a sink.
const SINK_INBOX_BYTES: usize = 16 << 20;
/// Arbiter that lanes share.
const LANES: &str = "lanes";
impl Builder<'_> {
    pub(super) fn pipeline(&self, setup: &PipelineSetup) -> Result<(SupervisorSpec, PipelineView), AppError> {
        let stream = &self.parts.plan.streams[setup.stream];
        let slots = Arc::new(Slots::default());
        let lane_capacity = Capacity { items: LANE_INBOX_BATCHES, weight: LANE_INBOX_BYTES };
        let lane_inbox: Inbox<Work> = Inbox::weighted("batches", lane_capacity, |work| work.batch.footprint());
        let sink_capacity = Capacity { items: SINK_INBOX_OUTPUTS, weight: SINK_INBOX_BYTES };
        let sink_inbox: Inbox<Arc<Store>> = Inbox::weighted("outputs", sink_capacity, |store| store.bytes());
        let member = self.member(setup);
        let config = &self.parts.config.supervision;
        let limits = setup.config.supervision.as_ref().unwrap_or(&config.pipelines);
        let supervisor = SupervisorSpec::new(&*setup.name)
            .intensity(intensity(limits))
            .child(self.sink(&sink_inbox))
            .child(self.lanes(setup, &slots, &lane_inbox, &sink_inbox))
            .child(self.source(setup, &slots, &lane_inbox, &member));
        let view = PipelineView {
            name: setup.name.clone(),
            stream: stream.name.clone(),
            topic: stream.topic.clone(),
            slots,
            member,
        };
        Ok((supervisor, view))
    }

    fn sink(&self, inbox: &Inbox<Arc<Store>>) -> ChildSpec {
        let commit = &self.parts.config.storage.commit;
        let shared = Arc::new(SinkShared {
            inbox: inbox.clone(),
            store: self.store.clone(),
            limits: CommitLimits {
                max_rows: usize::try_from(commit.max_rows).unwrap_or(usize::MAX),
                max_rows_busy: usize::try_from(commit.max_rows_busy).unwrap_or(usize::MAX),
                max_delay: commit.max_delay.into(),
            },
            observer: self.parts.observer.clone(),
        });
        ChildSpec::role("sink", "sink", move |scope| sink::run(scope, shared.clone()))
            .inbox(inbox)
            .placement(Placement::pool(SINKS))
            .policy(self.policy())
    }

    fn lanes(
        &self,
        setup: &PipelineSetup,
        slots: &Arc<Slots>,
        inbox: &Inbox<Work>,
        sink: &Inbox<Arc<Store>>,
    ) -> ChildSpec {
        let stream = &self.parts.plan.streams[setup.stream];
        let shared = Arc::new(LaneShared {
            stage: Stage::new(StageSpec {
                schema: stream.schema.clone(),
                plan: setup.plan.clone(),
                format: stream.format,
                limits: stream.limits,
                key_column: stream.table.key,
                frame_kind: streamward_pipeline::live::frame_kind(&stream.table.table).to_owned(),
            }),
            slots: slots.clone(),
            inbox: inbox.clone(),
            sink: sink.outlet(),
            live: self.live.channel(&stream.name),
            schemas: self.schemas.clone(),
            logs: self.logs.clone(),
            clock: Arc::new(SystemClock),
            settings: LaneSettings {
                idle_after: stream.config.idle_after.into(),
                checkpoint_every: self.parts.config.storage.checkpoint_every.into(),
            },
            trials: Trials::default(),
            index: (0, 1),
        });
        ChildSpec::role("lane", "lane", move |scope| lane::run(scope, shared.clone()))
            .inbox(inbox)
            .placement(Placement::pool(LANES))
            .policy(self.policy())
    }

    fn member(&self, setup: &PipelineSetup) -> Arc<Member> {
        Arc::new(Member {
            pipeline: setup.name.clone(),
            group: kafka_clients::group(&self.parts.config, &setup.name),
            node_id: self.parts.folder.id().to_owned(),
            known: self.known.clone(),
        })
    }

    fn source(
        &self,
        setup: &PipelineSetup,
        slots: &Arc<Slots>,
        inbox: &Inbox<Work>,
        member: &Arc<Member>,
    ) -> ChildSpec {
        let stream = &self.parts.plan.streams[setup.stream];
        let batch = &setup.config.batch;
        let shared = Arc::new(SourceShared {
            topic: stream.topic.clone(),
            slots: slots.clone(),
            logs: self.logs.clone(),
            clock: Arc::new(SystemClock),
            limits: BatchLimits {
                max_records: usize::try_from(batch.max_records).unwrap_or(usize::MAX),
                max_bytes: batch.max_bytes.as_usize(),
                max_delay: batch.max_delay.into(),
            },
            lanes: vec![inbox.outlet()],
            held_back: AtomicUsize::new(0),
        });
        let (watched, ends) = (shared.clone(), self.ends.clone());
        let progress = move || watched.progress(|partition| ends.bounds(&watched.topic, partition).map(|log| log.end));
        let settings = Arc::new(SourceSettings {
            kafka: self.parts.kafka.clone(),
            member: member.clone(),
            assigner: Arc::new(Assigner {
                sink: setup.name.clone(),
                topic: stream.topic.clone(),
                plan: setup.plan.clone(),
                slots: slots.clone(),
                store: self.store.clone(),
                logs: self.logs.clone(),
                on_gap: match stream.config.on_gap {
                    config::OnGap::Fail => OnGap::Fail,
                    config::OnGap::Earliest => OnGap::Earliest,
                },
                runtime: tokio::runtime::Handle::current(),
            }),
        });
        let kept = KeptSource::default();
        ChildSpec::thread("source", "source", move |scope| {
            let poll = || {
                kept.lend((&settings, &shared), &scope, |client, gather| source::run(&scope, gather, client))?
                    .transpose()
            };
            while poll()? == Some(source::Ended::OtherLog) {}
            Ok(())
        })
        .progress(progress)
        .policy(self.policy())
    }
}
