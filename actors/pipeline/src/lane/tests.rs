//! A lane whose steps have a bug: what becomes of the records.

use std::time::Duration;

use streamward_core::{
    output::ErrorClass,
    partition::{DecodedInput, PipelinePlan, PipelineSpec, StepSpec},
    schema::StreamSchema,
    window::{Limits, WindowSpec},
};
use streamward_kit::{Capacity, ChildPolicy, ChildSpec, ExitReason, Placement, Runtime, SupervisorSpec, TreeNode};

use super::*;
use crate::{live::LiveHub, logs::tests::OneTopic, poison::Trials, slot, steps::StageSpec, store::BoxFuture};

struct Fixed;

impl Clock for Fixed {
    fn now_ms(&self) -> i64 {
        1_700_000_000_000
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
    plan_over(schema(), steps)
}

/// A pipeline of records with `id` and `at`.
pub(crate) fn plan_over(schema: Arc<StreamSchema>, steps: Vec<StepSpec>) -> Arc<PipelinePlan> {
    let spec = PipelineSpec {
        event_time: "at".to_owned(),
        key: "id".to_owned(),
        out_of_orderness: Duration::ZERO,
        max_ahead: None,
        measure: None,
        anomaly: None,
        limits: Limits::default(),
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
pub(crate) fn stage(trap: fn(&DecodedInput)) -> Stage {
    let mut stage = stage_of(plan());
    stage.trap = Some(trap);
    stage
}

fn six_orders() -> Arc<RawBatch> {
    orders(0..6)
}

/// Orders of customers of their own, all at the same time.
pub(crate) fn orders(offsets: std::ops::Range<i64>) -> Arc<RawBatch> {
    let mut batch = RawBatch::with_capacity("orders".into(), 0, 1000);
    for offset in offsets {
        batch.push(
            offset,
            1_700_000_000_000,
            None,
            Some(format!(r#"{{"id": "{offset}", "at": 1700000000000}}"#).as_bytes()),
        );
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

/// Lets a supervised lane process one batch of six orders; its output, and the lane afterwards.
async fn processed(trap: fn(&DecodedInput), policy: ChildPolicy) -> (Arc<Store>, TreeNode) {
    let slots = Arc::new(Slots::default());
    let slot = slots.assign(slots.begin_reading(), slot::tests::start(0)).unwrap();
    let sink: Inbox<Arc<Store>> = Inbox::new("outputs", 4);
    let shared = Arc::new(shared(stage(trap), slots, Arc::new(OneTopic::named("first")), &sink));
    let inbox = shared.inbox.clone();
    let lane = ChildSpec::role("lane", "lane", move |scope| run(scope, shared.clone()))
        .inbox(&inbox)
        .placement(Placement::pool("lanes"))
        .policy(policy);
    let outputs = sink.clone();
    let (heard, hear) = tokio::sync::oneshot::channel();
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
    let runtime = Runtime::start(SupervisorSpec::new("root").child(reader.inbox(&sink)).child(lane)).unwrap();
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

#[test]
fn a_record_that_panics_becomes_a_dead_letter_and_the_others_are_stored() {
    let trap = |input: &DecodedInput| assert!(!input.offsets.contains(&3), "three is poison");
    let (store, lane) = actix_rt::System::new().block_on(processed(trap, ChildPolicy::permanent()));
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
    let trap = |input: &DecodedInput| {
        if input.offsets.contains(&3) {
            std::thread::sleep(Duration::from_secs(1));
        }
    };
    let policy = ChildPolicy::permanent().stuck_after(Duration::from_millis(200));
    let (store, lane) = actix_rt::System::new().block_on(processed(trap, policy));
    assert_eq!(dead_and_stored(&store), (vec![3], vec![0, 1, 2, 4, 5]));
    assert!(store.pending.output.dead[0].reason.contains("did not end in time"));
    let exit = lane.last_exit.unwrap();
    assert_eq!((exit.reason, exit.culprit.unwrap().offset), (ExitReason::Stuck, 3));
    assert_eq!(lane.restarts, 2);
}

#[test]
fn records_that_panic_only_together_become_dead_letters_in_the_end() {
    let trap = |input: &DecodedInput| assert!(input.offsets.len() < 2, "too many at a time");
    let (store, lane) = actix_rt::System::new().block_on(processed(trap, ChildPolicy::permanent()));
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
    let (issued, slot) = actix_rt::System::new().block_on(read_from(Some("second")));
    assert_eq!((issued, slot.processed(), slot.is_revoked()), (0, 0, true));
}

#[test]
fn records_of_a_topic_that_was_deleted_since_are_processed() {
    let (issued, slot) = actix_rt::System::new().block_on(read_from(None));
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
