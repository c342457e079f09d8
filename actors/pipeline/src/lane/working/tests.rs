//! What a lane does for a partition of which no record comes.

use std::time::Duration;

use streamward_core::{
    output::{DeadLetter, ErrorClass},
    partition::{CheckpointScope, begin_at},
    watermark::NO_WATERMARK,
};
use streamward_kit::{ChildSpec, Inbox, Runtime, SupervisorSpec};

use super::*;
use crate::{
    lane::{
        self,
        tests::{counts, first_reader, orders, shared, stage_of},
    },
    logs::tests::OneTopic,
    messages::Store,
    ports::Clock,
    slot::{self, Issued, Since, SlotStart, Slots},
};

/// End of the minute of the orders.
const END_MS: i64 = 1_700_000_040_000;

/// A clock that the minute of the orders has passed.
struct Later;

impl Clock for Later {
    fn now_ms(&self) -> i64 {
        END_MS
    }
}

/// The state after six orders of one minute.
fn counted(plan: &Arc<PipelinePlan>) -> PartitionState {
    let (stage, batch) = (stage_of(plan.clone()), orders(0..6));
    let mut state = PartitionState::new(plan, "orders".into(), 0);
    let input = stage.decode(&mut stage.decoder(), &batch, 0..6, &[]);
    stage.run(&mut state, &input, 0).unwrap();
    state
}

/// As a process finds the partition that stored these six orders and this checkpoint of them.
fn restored(plan: &Arc<PipelinePlan>) -> SlotStart {
    let chunks = counted(plan).checkpoint(CheckpointScope::Full);
    let state = PartitionState::restore(plan, "orders".into(), 0, &chunks, NO_WATERMARK).unwrap();
    SlotStart { emit_from: 6, fetch_from: 6, state, ..slot::tests::start(0) }
}

fn settings(idle_after: Duration, checkpoint_every: Duration) -> LaneSettings {
    LaneSettings { idle_after, checkpoint_every }
}

/// The first output of a lane that gets no record of a partition which is at the end of its log.
async fn first_output(plan: Arc<PipelinePlan>, start: SlotStart, settings: LaneSettings) -> Arc<Store> {
    first_output_of(plan, vec![start], (settings, (0, 1))).await
}

/// The same of several partitions; `index` says which of the lanes it is.
async fn first_output_of(
    plan: Arc<PipelinePlan>,
    starts: Vec<SlotStart>,
    (settings, index): (LaneSettings, (usize, usize)),
) -> Arc<Store> {
    let slots = Arc::new(Slots::default());
    let reader = slots.begin_reading();
    for start in starts {
        slots.assign(reader, start).unwrap().reached_end();
    }
    let sink: Inbox<Arc<Store>> = Inbox::new("outputs", 4);
    let mut parts = shared(stage_of(plan), slots, Arc::new(OneTopic::named("first")), &sink);
    (parts.settings, parts.index, parts.clock) = (settings, index, Arc::new(Later));
    let (reader, hear) = first_reader(&sink);
    let parts = Arc::new(parts);
    let inbox = parts.inbox.clone();
    let lane = ChildSpec::role("lane", "lane", move |scope| lane::run(scope, parts.clone())).inbox(&inbox);
    let runtime = Runtime::start(SupervisorSpec::new("root").child(reader).child(lane)).unwrap();
    let output = hear.await.unwrap();
    runtime.shutdown(Vec::new()).await;
    output
}

#[test]
fn a_window_restored_from_a_checkpoint_closes_by_the_clock_without_another_record() {
    let plan = counts();
    let start = restored(&plan);
    let output = first_output(plan, start, settings(Duration::ZERO, Duration::MAX));
    let store = actix_rt::System::new().block_on(output);
    let output = &store.pending.output;
    assert_eq!((output.windows.len(), output.start, output.end), (6, 6, 6));
    assert!(!output.checkpoint.is_empty(), "replay never crosses what the clock decided");
}

#[test]
fn a_lane_that_restarts_at_rest_closes_the_windows_of_its_slot_by_the_clock() {
    let plan = counts();
    let start = SlotStart { fetch_from: 6, emit_from: 6, state: counted(&plan), ..slot::tests::start(0) };
    let output = first_output(plan, start, settings(Duration::ZERO, Duration::MAX));
    let store = actix_rt::System::new().block_on(output);
    assert_eq!(store.pending.output.windows.len(), 6);
}

#[test]
fn a_partition_whose_log_was_compacted_up_to_the_stored_position_closes_its_windows_at_it() {
    let plan = counts();
    let start = SlotStart { emit_from: 9, ..restored(&plan) };
    let output = first_output(plan, start, settings(Duration::ZERO, Duration::MAX));
    let store = actix_rt::System::new().block_on(output);
    assert_eq!((store.pending.output.windows.len(), store.pending.output.start), (6, 9));
}

fn working(start: SlotStart) -> Working {
    let slots = Slots::default();
    let state = start.state.clone();
    let slot = slots.assign(slots.begin_reading(), start).unwrap();
    slot.reached_end();
    Working::new(slot, state)
}

#[test]
fn a_checkpoint_that_is_due_is_written_at_rest_and_only_once() {
    let plan = counts();
    let (covered, settings) = (restored(&plan), settings(Duration::MAX, Duration::ZERO));
    assert!(working(covered).due(&plan, &settings, i64::MAX, false).is_none(), "the stored one covers everything");
    let mut uncovered = working(SlotStart { emit_from: 6, fetch_from: 6, ..slot::tests::start(0) });
    uncovered.state = counted(&plan);
    let output = uncovered.due(&plan, &settings, i64::MAX, false).expect("no checkpoint covers the orders");
    assert!(!output.checkpoint.is_empty());
    uncovered.slot.note_checkpoint(output.end);
    assert!(uncovered.due(&plan, &settings, i64::MAX, false).is_none());
}

#[test]
fn windows_are_looked_at_again_when_the_next_one_ends_or_a_record_comes() {
    let plan = counts();
    let mut working = working(restored(&plan));
    let settings = settings(Duration::ZERO, Duration::MAX);
    assert!(working.due(&plan, &settings, END_MS - 1, false).is_none());
    assert_eq!(working.emits_at_ms, Some(END_MS));
    assert!(working.due(&plan, &settings, END_MS, false).is_some());
    assert!(working.due(&plan, &settings, END_MS, false).is_none());
    assert_eq!(working.emits_at_ms, Some(i64::MAX), "there is nothing left to emit");
    let mut output = working.state.checkpoint_output(&plan, 6).unwrap();
    working.after_batch(&settings, &mut output);
    assert_eq!(working.emits_at_ms, None);
}

fn letter(offset: i64) -> DeadLetter {
    DeadLetter {
        offset,
        log_timestamp_ms: 0,
        class: ErrorClass::Decode,
        reason: String::new(),
        stage: String::new(),
        key: None,
        value: None,
        headers: Vec::new(),
    }
}

#[test]
fn a_checkpoint_is_due_when_replay_would_have_to_remember_much() {
    let (plan, settings) = (counts(), settings(Duration::MAX, Duration::MAX));
    let mut working = working(SlotStart { emit_from: 0, fetch_from: 0, ..slot::tests::start(0) });
    working.state = counted(&plan);
    let mut issue = |ahead: usize, dead: usize| {
        let mut output = Output::empty("orders".into(), 0, 6, plan.schema().arrow.clone());
        output.ahead = vec![5; ahead];
        output.dead = vec![letter(5); dead];
        working.after_batch(&settings, &mut output);
        !output.checkpoint.is_empty()
    };
    assert_eq!([issue(MAX_DECISIONS - 1, 0), issue(1, 0), issue(1, 0)], [false, true, false]);
    assert_eq!([issue(MAX_DECISIONS - 2, 0), issue(0, 1), issue(0, 0)], [false, true, false]);
}

#[test]
fn a_checkpoint_is_due_with_the_first_output_of_a_partition_in_which_a_step_begins() {
    let (plan, settings) = (counts(), settings(Duration::MAX, Duration::MAX));
    let start = begin_at(6, None).unwrap();
    let state = PartitionState::restore(&plan, "orders".into(), 0, &[start], 0).unwrap();
    let mut working = working(SlotStart { emit_from: 6, fetch_from: 6, state, ..slot::tests::start(0) });
    let mut carries = |end: i64| {
        let mut output = Output::empty("orders".into(), 0, end, plan.schema().arrow.clone());
        working.after_batch(&settings, &mut output);
        !output.checkpoint.is_empty()
    };
    assert_eq!([carries(6), carries(7), carries(8)], [false, true, false], "nothing is stored below the position");
}

#[tokio::test(start_paused = true)]
async fn a_partition_is_at_rest_from_its_last_record_on() {
    let (plan, moment) = (counts(), Duration::from_secs(6));
    let mut working = working(restored(&plan));
    let settings = settings(Duration::from_secs(10), Duration::MAX);
    let is_due = |working: &mut Working| working.due(&plan, &settings, END_MS, false).is_some();
    assert!(!is_due(&mut working));
    tokio::time::advance(moment).await;
    let mut output = Output::empty("orders".into(), 0, 6, plan.schema().arrow.clone());
    working.after_batch(&settings, &mut output);
    assert!(!is_due(&mut working));
    tokio::time::advance(moment).await;
    assert!(!is_due(&mut working), "a record came meanwhile");
    tokio::time::advance(moment).await;
    assert!(is_due(&mut working));
}

#[test]
fn a_lane_emits_windows_of_its_own_partitions_alone() {
    let plan = counts();
    let starts = [0, 1].map(|partition| {
        let mut start = restored(&plan);
        start.key.partition = partition;
        start
    });
    let output = first_output_of(plan, starts.into(), (settings(Duration::ZERO, Duration::MAX), (1, 2)));
    let store = actix_rt::System::new().block_on(output);
    assert_eq!((store.pending.key.partition, store.pending.output.windows.len()), (1, 6));
}

#[test]
fn windows_that_the_clock_closes_are_emitted_also_when_a_checkpoint_is_due() {
    let plan = counts();
    let mut working = working(SlotStart { emit_from: 6, fetch_from: 6, ..slot::tests::start(0) });
    working.state = counted(&plan);
    let output = working.due(&plan, &settings(Duration::ZERO, Duration::ZERO), END_MS, false).unwrap();
    assert_eq!((output.windows.len(), output.checkpoint.is_empty()), (6, false));
}

#[test]
fn a_partition_that_has_more_to_read_is_not_at_rest() {
    let plan = counts();
    let mut working = working(restored(&plan));
    let settings = settings(Duration::ZERO, Duration::MAX);
    working.slot.fetched(6, false);
    assert!(working.due(&plan, &settings, END_MS, false).is_none());
    working.slot.reached_end();
    assert!(working.due(&plan, &settings, END_MS, false).is_some());
}

/// Lets a slot have processed five records more, none of which is stored yet.
fn goes_on(working: &Working) {
    let (start, end) = (working.slot.processed(), working.slot.processed() + 5);
    working.slot.take_over(1);
    let done = Since { batch: orders(start..end), start, end, dead: Arc::from([]) };
    assert_eq!(working.slot.issue(1, done, &working.state, || true), Issued::Yes);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_is_due_when_the_last_one_is_that_old_however_often_it_is_looked_for() {
    let (plan, second) = (counts(), Duration::from_secs(1));
    let mut working = working(SlotStart { emit_from: 6, fetch_from: 6, ..slot::tests::start(0) });
    working.state = counted(&plan);
    let settings = settings(Duration::MAX, 3 * second);
    let mut due = Vec::new();
    for _ in 0..8 {
        goes_on(&working);
        let output = working.due(&plan, &settings, i64::MAX, false);
        due.push(output.is_some());
        if output.is_some() {
            working.slot.note_checkpoint(working.slot.processed());
        }
        tokio::time::advance(second).await;
    }
    assert_eq!(due, [false, false, false, true, false, false, true, false]);
}

#[test]
fn a_checkpoint_covers_what_is_processed_though_it_is_not_stored_yet() {
    let plan = counts();
    let mut working = working(restored(&plan));
    working.state = counted(&plan);
    goes_on(&working);
    assert_eq!((working.slot.committed(), working.slot.checkpointed(), working.slot.processed()), (6, 6, 11));
    assert!(working.due(&plan, &settings(Duration::MAX, Duration::ZERO), i64::MAX, false).is_some());
}

#[test]
fn decisions_that_a_checkpoint_of_a_tick_covers_do_not_make_the_next_one_due() {
    let (plan, settings) = (counts(), settings(Duration::MAX, Duration::MAX));
    let mut working = working(SlotStart { emit_from: 0, fetch_from: 6, ..slot::tests::start(0) });
    working.state = counted(&plan);
    let after = |working: &mut Working, decisions| {
        let mut output = Output::empty("orders".into(), 0, 6, plan.schema().arrow.clone());
        output.ahead = vec![5; decisions];
        working.after_batch(&settings, &mut output);
        !output.checkpoint.is_empty()
    };
    assert!(!after(&mut working, MAX_DECISIONS - 1));
    assert!(working.due(&plan, &settings, i64::MAX, true).is_some());
    assert_eq!([after(&mut working, MAX_DECISIONS - 1), after(&mut working, 1)], [false, true]);
}

#[test]
fn no_checkpoint_goes_with_a_batch_that_issues_nothing() {
    let (plan, settings) = (counts(), settings(Duration::MAX, Duration::ZERO));
    let mut working = working(SlotStart { emit_from: 6, fetch_from: 0, ..slot::tests::start(0) });
    working.state = counted(&plan);
    let mut checkpoint = |end| {
        let mut output = Output::empty("orders".into(), 0, end, plan.schema().arrow.clone());
        working.after_batch(&settings, &mut output);
        !output.checkpoint.is_empty()
    };
    assert_eq!([checkpoint(5), checkpoint(6), checkpoint(7)], [false, false, true]);
}
