//! A lane whose steps have a bug: what becomes of the records.

use std::time::Duration;

use streamward_core::{
    output::ErrorClass,
    partition::{DecodedInput, PipelinePlan, PipelineSpec},
    schema::StreamSchema,
    steps::{
        StepSpec,
        window::{Limits, WindowSpec},
    },
};
use streamward_kit::{
    ActorPath, Capacity, ChildPolicy, ChildSpec, Command, ExitReason, Placement, Runtime, SupervisorSpec, TreeNode,
};
use tokio::sync::oneshot;

use super::*;
use crate::{
    fakes::{Gate, on_a_system},
    live::LiveHub,
    logs::tests::OneTopic,
    poison::Trials,
    slot,
    steps::StageSpec,
    store::BoxFuture,
};

/// Event time and log timestamp of the orders.
pub(crate) const ORDERED_MS: i64 = 1_700_000_000_000;

/// A clock that stands still, and a registry that knows nothing.
pub(crate) struct Fixed;

impl Clock for Fixed {
    fn now_ms(&self) -> i64 {
        ORDERED_MS
    }
}

impl SchemaSource for Fixed {
    fn schemas<'a>(&'a self, ids: &'a [u32]) -> BoxFuture<'a, Result<Vec<Option<Arc<str>>>, String>> {
        Box::pin(async { Ok(vec![None; ids.len()]) })
    }
}

/// Of orders.
pub(crate) const SCHEMA: &str = r#"{"type": "record", "name": "Order", "fields": [
        {"name": "id", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#;

fn schema() -> Arc<StreamSchema> {
    Arc::new(StreamSchema::parse(SCHEMA).unwrap())
}

/// A pipeline of orders without any step.
pub(crate) fn plan() -> Arc<PipelinePlan> {
    plan_of(Vec::new())
}

/// A pipeline of orders.
pub(crate) fn plan_of(steps: Vec<StepSpec>) -> Arc<PipelinePlan> {
    plan_over(&schema(), steps)
}

/// A pipeline of records with `id` and `at`.
pub(crate) fn plan_over(schema: &Arc<StreamSchema>, steps: Vec<StepSpec>) -> Arc<PipelinePlan> {
    let spec = PipelineSpec {
        stream: "orders".into(),
        event_time: "at".to_owned(),
        key: "id".to_owned(),
        out_of_orderness: Duration::ZERO,
        max_ahead: None,
        measure: None,
        anomaly: None,
        limits: Limits::default(),
        store: true,
        steps,
    };
    Arc::new(PipelinePlan::compile(&spec, schema).unwrap())
}

/// Orders per minute and customer.
pub(crate) fn counts() -> Arc<PipelinePlan> {
    plan_of(vec![StepSpec::Window(WindowSpec {
        name: "per_minute".to_owned(),
        size: Duration::from_secs(60),
        allowed_lateness: Duration::ZERO,
        group_by: vec!["id".to_owned()],
        select: vec![("n".to_owned(), "count(*)".to_owned())],
    })])
}

/// A stage of orders with these steps.
pub(crate) fn stage_of(plan: Arc<PipelinePlan>) -> Stage {
    let (format, limits) = Default::default();
    Stage::new(StageSpec { schema: schema(), plan, format, limits, key_column: 0, frame_kind: "order".to_owned() })
}

/// A stage of orders with a step that does this.
pub(crate) fn stage(trap: impl Fn(&DecodedInput) + Send + Sync + 'static) -> Stage {
    let mut stage = stage_of(plan());
    stage.trap = Some(Arc::new(trap));
    stage
}

/// Orders of one moment, at offsets 0 to 5.
pub(crate) fn six_orders() -> Arc<RawBatch> {
    orders(0..6)
}

/// Orders of customers of their own, all at the same time.
pub(crate) fn orders(offsets: std::ops::Range<i64>) -> Arc<RawBatch> {
    let mut batch = RawBatch::with_capacity("orders".into(), 0, 1000);
    for offset in offsets {
        let order = format!(r#"{{"id": "{offset}", "at": {ORDERED_MS}}}"#);
        batch.push(offset, ORDERED_MS, None, Some(order.as_bytes()));
    }
    Arc::new(batch)
}

fn batches() -> Inbox<Work> {
    Inbox::weighted("batches", Capacity { items: 4, weight: 1 << 20 }, |work: &Work| work.batch.bytes())
}

pub(crate) fn shared(stage: Stage, slots: Arc<Slots>, logs: Arc<OneTopic>, sink: &Inbox<Arc<Store>>) -> LaneShared {
    LaneShared {
        stage,
        slots,
        inbox: batches(),
        sink: sink.outlet(),
        live: LiveHub::default().channel("orders"),
        schemas: Arc::new(Fixed),
        logs,
        clock: Arc::new(Fixed),
        settings: LaneSettings { idle_after: Duration::MAX, checkpoint_every: Duration::from_secs(3_600) },
        trials: Trials::default(),
        index: (0, 1),
    }
}

/// A sink that commits the first output of `sink` and hands it on.
pub(crate) fn first_reader(sink: &Inbox<Arc<Store>>) -> (ChildSpec, oneshot::Receiver<Arc<Store>>) {
    let outputs = sink.clone();
    let (heard, hear) = oneshot::channel();
    let heard = std::sync::Mutex::new(Some(heard));
    let reader = ChildSpec::role("sink", "sink", move |scope| {
        let (outputs, heard) = (outputs.clone(), heard.lock().unwrap().take());
        async move {
            if let (Some(output), Some(heard)) = (outputs.recv(&scope).await, heard) {
                drop(heard.send(Arc::clone(&output)));
                output.commit();
            }
            scope.stopping().await;
            Ok(())
        }
    });
    (reader.inbox(sink), hear)
}

/// Lets a supervised lane process one batch of six orders; its output, and the lane afterwards.
async fn processed(
    trap: impl Fn(&DecodedInput) + Send + Sync + 'static,
    policy: ChildPolicy,
) -> (Arc<Store>, TreeNode) {
    let slots = Arc::new(Slots::default());
    let slot = slots.assign(slots.begin_reading(), slot::tests::start(0)).unwrap();
    let sink: Inbox<Arc<Store>> = Inbox::new("outputs", 4);
    let shared = Arc::new(shared(stage(trap), slots, Arc::new(OneTopic::named("first")), &sink));
    let inbox = shared.inbox.clone();
    let lane = ChildSpec::role("lane", "lane", move |scope| run(scope, shared.clone()))
        .inbox(&inbox)
        .placement(Placement::pool("lanes"))
        .policy(policy);
    let (reader, hear) = first_reader(&sink);
    let runtime = Runtime::start(SupervisorSpec::new("root").child(reader).child(lane)).unwrap();
    let work = Work { slot, batch: six_orders(), start: 0, end: 6, read_by: Instant::now() };
    inbox.outlet().send(work).await.unwrap_or_else(|_| panic!("closed"));
    let output = hear.await.unwrap();
    inbox.drained().await;
    let lane = runtime.snapshot().find("lane").unwrap().clone();
    runtime.shutdown(Vec::new()).await;
    (output, lane)
}

fn dead_and_stored(store: &Store) -> (Vec<i64>, Vec<i64>) {
    let output = &store.pending.output;
    (output.dead.iter().map(|letter| letter.offset).collect(), output.offsets.to_vec())
}

/// A step that holds its thread at the record of offset 3.
fn holds_at_3(gate: &Arc<Gate>) -> impl Fn(&DecodedInput) + Send + Sync + 'static {
    let gate = gate.clone();
    move |input| {
        if input.offsets.contains(&3) {
            gate.pass();
        }
    }
}

#[test]
fn a_record_that_panics_becomes_a_dead_letter_and_the_others_are_stored() {
    let trap = |input: &DecodedInput| assert!(!input.offsets.contains(&3), "three is poison");
    let (store, lane) = on_a_system(processed(trap, ChildPolicy::permanent()));
    assert_eq!(dead_and_stored(&store), (vec![3], vec![0, 1, 2, 4, 5]));
    let letter = &store.pending.output.dead[0];
    assert_eq!((letter.class, letter.stage.as_str()), (ErrorClass::Poison, "process"));
    assert!(
        letter.reason.contains("alone: three is poison, at actors/pipeline/src/lane/tests.rs:"),
        "{}",
        letter.reason
    );
    let exit = lane.last_exit.unwrap();
    assert_eq!((exit.reason, exit.culprit.unwrap().offset), (ExitReason::Panic, 3), "the exit names the record");
    assert_eq!(lane.restarts, 1);
}

#[test]
fn a_record_that_holds_its_thread_becomes_a_dead_letter_after_two_stalls() {
    let gate = Arc::new(Gate::default());
    let policy = ChildPolicy::permanent().stuck_after(Duration::from_millis(500));
    let (store, lane) = on_a_system(processed(holds_at_3(&gate), policy));
    gate.open();
    assert_eq!(dead_and_stored(&store), (vec![3], vec![0, 1, 2, 4, 5]));
    assert!(store.pending.output.dead[0].reason.contains("did not end in time"));
    let exit = lane.last_exit.unwrap();
    assert_eq!((exit.reason, exit.culprit.unwrap().offset), (ExitReason::Stuck, 3));
    assert_eq!(lane.restarts, 2);
}

#[test]
fn records_that_panic_only_together_become_dead_letters_in_the_end() {
    let trap = |input: &DecodedInput| assert!(input.offsets.len() < 2, "too many at a time");
    let (store, lane) = on_a_system(processed(trap, ChildPolicy::permanent()));
    assert_eq!(dead_and_stored(&store), (vec![0, 1, 2, 3, 4, 5], vec![]));
    assert!(store.pending.output.dead[0].reason.contains("no record of the batch did alone"));
    assert_eq!(lane.restarts, 4);
}

/// What a lane does with records that were read while the topic was made anew: outputs issued, and the slot.
async fn read_from(now: Option<&str>) -> (usize, Arc<PartitionSlot>) {
    let slots = Arc::new(Slots::default());
    let slot = slots.assign(slots.begin_reading(), slot::tests::start(0)).unwrap();
    let sink: Inbox<Arc<Store>> = Inbox::new("outputs", 4);
    let logs = Arc::new(OneTopic::named("first"));
    if let Some(now) = now {
        *logs.0.lock() = OneTopic::named(now).0.into_inner();
    } else {
        *logs.0.lock() = None;
    }
    let shared = Arc::new(shared(stage(|_| {}), slots, logs, &sink));
    let inbox = shared.inbox.clone();
    let lane = ChildSpec::role("lane", "lane", move |scope| run(scope, shared.clone())).inbox(&inbox);
    let runtime = Runtime::start(SupervisorSpec::new("root").child(lane)).unwrap();
    let work = Work { slot: slot.clone(), batch: six_orders(), start: 0, end: 6, read_by: Instant::now() };
    inbox.outlet().send(work).await.unwrap_or_else(|_| panic!("closed"));
    inbox.drained().await;
    let issued = sink.figures().depth;
    runtime.shutdown(Vec::new()).await;
    (issued, slot)
}

#[test]
fn records_read_while_the_topic_was_made_anew_are_not_processed() {
    let (issued, slot) = on_a_system(read_from(Some("second")));
    assert_eq!((issued, slot.processed(), slot.is_revoked()), (0, 0, true));
}

#[test]
fn records_of_a_topic_that_was_deleted_since_are_processed() {
    let (issued, slot) = on_a_system(read_from(None));
    assert_eq!((issued, slot.processed(), slot.is_revoked()), (1, 6, false));
}

#[test]
fn poison_of_one_log_says_nothing_about_another() {
    let trials = Trials::default();
    trials.of_log(0, 1);
    trials.begin(0, &(0..6));
    assert!(trials.is_suspect(0, &(3..9)));
    trials.of_log(0, 1);
    assert!(trials.is_suspect(0, &(3..9)));
    trials.of_log(0, 2);
    assert!(!trials.is_suspect(0, &(3..9)));
}

/// What a lane has done that was given up while it had a batch in hand, and that went on all the same.
struct Woken {
    /// Whether its successor, before it takes the batch, knows that nobody came back from it.
    is_suspect: bool,
    /// Outputs issued, before and after the successor had the batch.
    issued: [usize; 2],
    /// Position up to which batches were processed before.
    processed: i64,
    /// The lane when the batch has left its inbox.
    lane: TreeNode,
}

async fn woken() -> Woken {
    let slots = Arc::new(Slots::default());
    let slot = slots.assign(slots.begin_reading(), slot::tests::start(0)).unwrap();
    let (gate, sink): (_, Inbox<Arc<Store>>) = (Arc::new(Gate::default()), Inbox::new("outputs", 4));
    let logs = Arc::new(OneTopic::named("first"));
    let mut parts = shared(stage(holds_at_3(&gate)), slots, logs, &sink);
    // No tick is about the partition: its successor takes it over with the batch, and not before.
    parts.index = (1, 2);
    let shared = Arc::new(parts);
    let (inbox, of_lane) = (shared.inbox.clone(), shared.clone());
    let lane = ChildSpec::role("lane", "lane", move |scope| run(scope, of_lane.clone())).inbox(&inbox);
    let policy = ChildPolicy::permanent().stuck_after(Duration::from_secs(3_600));
    let lane = lane.placement(Placement::pool("lanes")).policy(policy);
    let runtime = Runtime::start(SupervisorSpec::new("root").child(lane)).unwrap();
    let look = || runtime.snapshot().find("lane").unwrap().clone();
    let work = Work { slot: slot.clone(), batch: six_orders(), start: 0, end: 6, read_by: Instant::now() };
    inbox.outlet().send(work).await.unwrap_or_else(|_| panic!("closed"));
    gate.held().await;
    // Its successor waits until it may go on.
    let path = ActorPath::parse("lane").unwrap();
    runtime.command(&path, Command::Pause).await.unwrap();
    runtime.set_policy(&path, policy.stuck_after(Duration::from_millis(50))).await.unwrap();
    runtime.until(|| look().generation == 2 && look().zombies == 1).await;
    runtime.set_policy(&path, policy).await.unwrap();
    gate.open();
    runtime.until(|| look().zombies == 0).await;
    let is_suspect = shared.trials.is_suspect(0, &(0..6));
    let (before, processed) = (sink.figures().depth, slot.processed());
    runtime.command(&path, Command::Resume).await.unwrap();
    tokio::select! {
        () = inbox.drained() => {}
        () = runtime.until(|| look().restarts > 1) => {}
    }
    let (lane, after) = (look(), sink.figures().depth);
    runtime.shutdown(Vec::new()).await;
    Woken { is_suspect, issued: [before, after], processed, lane }
}

#[test]
fn an_incarnation_that_was_given_up_does_not_clear_its_batch_of_suspicion() {
    assert!(on_a_system(woken()).is_suspect);
}

#[test]
fn a_batch_that_a_lost_incarnation_has_issued_is_not_processed_again() {
    let woken = on_a_system(woken());
    assert_eq!((woken.processed, woken.issued[1]), (6, woken.issued[0]));
    let exit = woken.lane.last_exit.unwrap();
    assert_eq!((woken.lane.restarts, exit.reason), (1, ExitReason::Stuck), "{}", exit.message);
    assert_eq!(exit.culprit.unwrap().offset, 0, "the batch that it had in hand began there");
}

#[test]
fn a_batch_that_does_not_follow_what_was_processed_ends_the_lane_and_stays_in_its_inbox() {
    let (lane, figures) = on_a_system(async {
        let slots = Arc::new(Slots::default());
        let slot = slots.assign(slots.begin_reading(), slot::tests::start(0)).unwrap();
        let sink: Inbox<Arc<Store>> = Inbox::new("outputs", 4);
        let shared = Arc::new(shared(stage(|_| {}), slots, Arc::new(OneTopic::named("first")), &sink));
        let inbox = shared.inbox.clone();
        let lane = ChildSpec::role("lane", "lane", move |scope| run(scope, shared.clone()));
        let lane = lane.inbox(&inbox).policy(ChildPolicy::permanent());
        let runtime = Runtime::start(SupervisorSpec::new("root").child(lane)).unwrap();
        let look = || runtime.snapshot().find("lane").unwrap().clone();
        let work = Work { slot, batch: six_orders(), start: -1, end: 6, read_by: Instant::now() };
        inbox.outlet().send(work).await.unwrap_or_else(|_| panic!("closed"));
        tokio::select! {
            () = inbox.drained() => {}
            () = runtime.until(|| look().last_exit.is_some()) => {}
        }
        let left = (look(), inbox.figures());
        runtime.shutdown(Vec::new()).await;
        left
    });
    let why = lane.last_exit.map(|exit| (exit.reason, exit.message));
    assert_eq!(why, Some((ExitReason::Error, "records from -1 do not follow what was processed".to_owned())));
    assert_eq!((figures.committed, figures.depth + figures.in_hand), (0, 1), "nothing of it is lost");
}

/// A supervised lane that gets these batches of partition 0, which begins at `emit_from`; before each one the topic is
/// made anew as named. Outputs issued until then and by its end, and the slot.
fn given(emit_from: i64, batches: &[(std::ops::Range<i64>, &str)]) -> ([usize; 2], Arc<PartitionSlot>) {
    on_a_system(async {
        let slots = Arc::new(Slots::default());
        let start = slot::SlotStart { emit_from, ..slot::tests::start(0) };
        let slot = slots.assign(slots.begin_reading(), start).unwrap();
        let (sink, logs): (Inbox<Arc<Store>>, _) = (Inbox::new("outputs", 4), Arc::new(OneTopic::default()));
        let shared = Arc::new(shared(stage(|_| {}), slots, logs.clone(), &sink));
        let inbox = shared.inbox.clone();
        let lane = ChildSpec::role("lane", "lane", move |scope| run(scope, shared.clone())).inbox(&inbox);
        let runtime = Runtime::start(SupervisorSpec::new("root").child(lane)).unwrap();
        for (range, topic) in batches {
            *logs.0.lock() = OneTopic::named(topic).0.into_inner();
            let (start, end, read_by) = (range.start, range.end, Instant::now());
            let work = Work { slot: slot.clone(), batch: orders(range.clone()), start, end, read_by };
            inbox.outlet().send(work).await.unwrap_or_else(|_| panic!("closed"));
            inbox.drained().await;
        }
        let before = sink.figures().depth;
        runtime.shutdown(Vec::new()).await;
        ([before, sink.figures().depth], slot)
    })
}

#[test]
fn what_the_cluster_said_of_a_topic_says_nothing_about_records_that_are_read_later() {
    let (issued, slot) = given(0, &[(0..3, "first"), (3..6, "second")]);
    assert_eq!((issued[0], slot.processed(), slot.is_revoked()), (1, 3, true));
}

#[test]
fn replay_issues_nothing_before_it_has_passed_the_stored_position() {
    let (issued, slot) = given(6, &[(0..3, "first")]);
    assert_eq!((issued, slot.processed()), ([0, 0], 3), "a checkpoint there would skip the records between");
    let (issued, slot) = given(6, &[(0..3, "first"), (3..6, "first")]);
    assert_eq!((issued, slot.processed()), ([0, 1], 6), "one checkpoint, when the lane ends");
    let (issued, _) = given(6, &[(0..7, "first")]);
    assert_eq!(issued[0], 1);
}

#[test]
fn a_partition_that_is_assigned_again_is_worked_on_from_the_state_of_its_new_slot() {
    let (lane, issued) = on_a_system(async {
        let slots = Arc::new(Slots::default());
        let reader = slots.begin_reading();
        let sink: Inbox<Arc<Store>> = Inbox::new("outputs", 4);
        let shared = Arc::new(shared(stage(|_| {}), slots.clone(), Arc::new(OneTopic::named("first")), &sink));
        let inbox = shared.inbox.clone();
        let lane = ChildSpec::role("lane", "lane", move |scope| run(scope, shared.clone())).inbox(&inbox);
        let runtime = Runtime::start(SupervisorSpec::new("root").child(lane)).unwrap();
        for _ in 0..2 {
            let slot = slots.assign(reader, slot::tests::start(0)).unwrap();
            let work = Work { slot, batch: six_orders(), start: 0, end: 6, read_by: Instant::now() };
            inbox.outlet().send(work).await.unwrap_or_else(|_| panic!("closed"));
            inbox.drained().await;
        }
        let left = (runtime.snapshot().find("lane").unwrap().clone(), sink.figures().depth);
        runtime.shutdown(Vec::new()).await;
        left
    });
    assert_eq!((lane.restarts, lane.last_exit.map(|exit| exit.message), issued), (0, None, 2));
}

#[test]
fn a_checkpoint_that_went_with_a_batch_is_not_written_once_more_when_the_lane_ends() {
    let issued = on_a_system(async {
        let slots = Arc::new(Slots::default());
        let slot = slots.assign(slots.begin_reading(), slot::tests::start(0)).unwrap();
        let sink: Inbox<Arc<Store>> = Inbox::new("outputs", 4);
        let mut parts = shared(stage(|_| {}), slots, Arc::new(OneTopic::named("first")), &sink);
        parts.settings.checkpoint_every = Duration::ZERO;
        let (inbox, shared) = (parts.inbox.clone(), Arc::new(parts));
        let lane = ChildSpec::role("lane", "lane", move |scope| run(scope, shared.clone())).inbox(&inbox);
        let runtime = Runtime::start(SupervisorSpec::new("root").child(lane)).unwrap();
        let work = Work { slot: slot.clone(), batch: six_orders(), start: 0, end: 6, read_by: Instant::now() };
        inbox.outlet().send(work).await.unwrap_or_else(|_| panic!("closed"));
        inbox.drained().await;
        assert_eq!(slot.checkpointed(), 6);
        runtime.shutdown(Vec::new()).await;
        sink.figures().depth
    });
    assert_eq!(issued, 1);
}
