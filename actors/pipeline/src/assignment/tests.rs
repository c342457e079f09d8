//! Where a partition begins that the group hands over: by what storage knows and by what the log still holds.

use streamward_core::{
    output::{Output, StateChunk},
    partition::{CheckpointScope, Decisions},
    steps::{Size, StepSpec, rule::RuleSpec, window::WindowSpec},
    watermark::NO_WATERMARK,
};

use super::*;
use crate::{
    fakes::Storage,
    lane::tests::{ORDERED_MS, counts, orders, plan, plan_of, six_orders, stage, stage_of},
    logs::tests::OneTopic,
    slot::{self, Issued, PartitionSlot, Since},
    store::Checkpoint,
};

/// What storage knows of a partition whose epoch was 6 and whose log has the number 3.
pub(super) fn known(position: Option<i64>, checkpoint: Option<i64>) -> Assignment {
    let checkpoint = checkpoint.map(|next_offset| {
        let (stage, mut state) = (stage(|_| {}), PartitionState::new(&plan(), "orders".into(), 0));
        let input = stage.decode(&mut stage.decoder(), &six_orders(), 0..next_offset, &[]);
        stage.run(&mut state, &input, 0).unwrap();
        Checkpoint { next_offset, chunks: state.checkpoint(CheckpointScope::Full) }
    });
    let decisions = Decisions::default();
    Assignment { epoch: 7, log: 3, position, first_offset: 5, checkpoint, newest_event_ms: NO_WATERMARK, decisions }
}

/// What became of an assignment.
struct Assigned {
    slots: Arc<Slots>,
    fetch_from: Option<i64>,
    starts: Vec<Start>,
    /// Logs whose alerts were ended.
    begun: Vec<i64>,
}

impl Assigned {
    fn slot(&self) -> Arc<PartitionSlot> {
        self.slots.get(0).unwrap()
    }

    /// Where outputs begin, and the watermark of the state that they begin with.
    fn begins(&self) -> (i64, Option<i64>) {
        let slot = self.slot();
        let state = slot.take_over(1).snapshot;
        (slot.emit_from, state.covered().map(|_| state.watermark_ms()))
    }

    /// Position and gap that storage was told.
    fn told(&self) -> Vec<(i64, Option<std::ops::Range<i64>>)> {
        self.starts.iter().map(|start| (start.position, start.gap.clone())).collect()
    }
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// Of orders, with this storage.
pub(super) fn assigner(store: Arc<Storage>, on_gap: OnGap, runtime: &tokio::runtime::Runtime) -> Assigner {
    Assigner {
        sink: "orders".into(),
        topic: "orders".into(),
        plan: plan(),
        slots: Arc::default(),
        store,
        logs: Arc::new(OneTopic::named("first")),
        on_gap,
        runtime: runtime.handle().clone(),
    }
}

/// Assigns partition 0, whose log holds `low..high`.
fn assigned(known: Assignment, on_gap: OnGap, (low, high): (i64, i64)) -> Assigned {
    let store = Arc::new(Storage { assignment: Some(known), ..Storage::default() });
    let runtime = runtime();
    let assigner = assigner(store.clone(), on_gap, &runtime);
    let (slots, log) = (assigner.slots.clone(), assigner.log().unwrap());
    let fetch_from = assigner.assigned(slots.begin_reading(), 0, (&log, LogBounds { low, high })).unwrap();
    let (starts, begun) = (store.starts.lock().clone(), store.begun.lock().clone());
    Assigned { slots, fetch_from, starts, begun }
}

#[test]
fn a_partition_goes_on_at_its_checkpoint_and_emits_from_its_position_on() {
    let assigned = assigned(known(Some(8), Some(6)), OnGap::Fail, (5, 20));
    assert_eq!((assigned.fetch_from, assigned.begins(), assigned.told()), (Some(6), (8, Some(ORDERED_MS)), vec![]));
    let slot = assigned.slot();
    assert_eq!((slot.epoch, slot.log, slot.next_fetch(), slot.committed()), (7, 3, 6, 8));
}

#[test]
fn behind_a_checkpoint_that_the_log_no_longer_reaches_windows_and_rules_begin_anew() {
    let at_the_beginning = assigned(known(Some(8), Some(6)), OnGap::Fail, (6, 20));
    assert_eq!((at_the_beginning.fetch_from, at_the_beginning.begins()), (Some(6), (8, Some(ORDERED_MS))));
    let below_it = assigned(known(Some(8), Some(6)), OnGap::Fail, (7, 20));
    assert_eq!((below_it.fetch_from, below_it.begins(), below_it.told()), (Some(7), (8, None), vec![]));
}

#[test]
fn a_position_without_a_checkpoint_is_replayed_from_the_beginning_of_the_log() {
    let assigned = assigned(known(Some(8), None), OnGap::Fail, (5, 20));
    assert_eq!((assigned.fetch_from, assigned.begins(), assigned.told()), (Some(5), (8, None), vec![]));
}

#[test]
fn a_log_that_was_never_read_begins_at_its_oldest_record_and_storage_is_told() {
    let assigned = assigned(known(None, None), OnGap::Fail, (5, 20));
    assert_eq!((assigned.fetch_from, assigned.begins()), (Some(5), (5, None)));
    assert_eq!(assigned.told(), [(5, None)]);
    assert_eq!((assigned.starts[0].epoch, assigned.starts[0].log), (7, 3));
}

#[test]
fn a_position_outside_the_log_stops_the_partition_or_skips_the_gap_as_configured() {
    for (position, gap) in [(4, 4..5), (21, 5..5)] {
        let stopped = assigned(known(Some(position), Some(2)), OnGap::Fail, (5, 20));
        assert_eq!((stopped.fetch_from, stopped.told()), (None, vec![]));
        let why = stopped.slots.stopped().unwrap();
        assert!(stopped.slots.get(0).is_none());
        let outside = format!("position {position} is outside the log [5, 20): records are gone; ");
        assert_eq!(why, format!("topic orders partition 0: {outside}set on_gap: earliest to go on without them"));
        let skipped = assigned(known(Some(position), Some(2)), OnGap::Earliest, (5, 20));
        assert_eq!((skipped.fetch_from, skipped.begins()), (Some(5), (5, None)));
        assert_eq!((skipped.told(), skipped.slots.stopped()), (vec![(5, Some(gap))], None));
    }
    for position in [5, 20] {
        let within = assigned(known(Some(position), None), OnGap::Fail, (5, 20));
        assert_eq!((within.begins().0, within.slots.stopped()), (position, None));
    }
}

#[test]
fn a_client_that_has_a_successor_does_not_even_ask_storage_which_would_fence_the_newer_one() {
    let store = Arc::new(Storage::default());
    let runtime = runtime();
    let assigner = assigner(store, OnGap::Fail, &runtime);
    let older = assigner.slots.begin_reading();
    assigner.slots.begin_reading();
    let log = assigner.log().unwrap();
    let refused = assigner.assigned(older, 0, (&log, LogBounds { low: 0, high: 9 })).unwrap_err();
    assert_eq!(refused.to_string(), "partition 0 belongs to a newer client");
    assert!(assigner.slots.get(0).is_none());
}

/// What `plan` makes of order 20 of a partition that was assigned.
fn processed(plan: Arc<PipelinePlan>, known: Assignment, on_gap: OnGap) -> Output {
    let store = Arc::new(Storage { assignment: Some(known), ..Storage::default() });
    let runtime = runtime();
    let assigner = Assigner { plan: plan.clone(), ..assigner(store, on_gap, &runtime) };
    let (log, bounds) = (assigner.log().unwrap(), LogBounds { low: 5, high: 20 });
    assigner.assigned(assigner.slots.begin_reading(), 0, (&log, bounds)).unwrap();
    let (stage, mut state) = (stage_of(plan), assigner.slots.get(0).unwrap().take_over(1).snapshot);
    let input = stage.decode(&mut stage.decoder(), &orders(20..21), 20..21, &[]);
    stage.run(&mut state, &input, 20).unwrap()
}

/// A pipeline with a rule that fires at any order.
fn fires() -> Arc<PipelinePlan> {
    plan_of(vec![any()])
}

fn any() -> StepSpec {
    StepSpec::Rule(RuleSpec {
        name: "any".to_owned(),
        when: "id <> ''".to_owned(),
        severity: "info".to_owned(),
        hold_for: Duration::ZERO,
        cooldown: Duration::ZERO,
        resolve_after: None,
    })
}

#[test]
fn alerts_of_a_log_that_was_made_anew_are_others_wherever_it_begins() {
    let plan = fires();
    let ids = |log: i64| {
        let of = |position, checkpoint| {
            let known = Assignment { log, ..known(position, checkpoint) };
            processed(plan.clone(), known, OnGap::Earliest).alerts.remove(0).alert_id
        };
        [of(None, None), of(Some(8), None), of(Some(8), Some(6)), of(Some(8), Some(4)), of(Some(4), Some(4))]
    };
    let (third, fourth) = (ids(3), ids(4));
    assert!(third.iter().all(|id| *id == third[0]) && fourth.iter().all(|id| *id == fourth[0]), "{third:?} {fourth:?}");
    assert_ne!(third[0], fourth[0]);
}

#[test]
fn windows_of_a_log_that_was_never_read_begin_with_its_first_record_however_new_the_stream_is() {
    let late = |position| Assignment { newest_event_ms: ORDERED_MS + 600_000, ..known(position, None) };
    let missed = |position| processed(counts(), late(position), OnGap::Earliest).missed.len();
    assert_eq!((missed(None), missed(Some(4))), (0, 1), "behind a gap they begin anew");
}

#[test]
fn decisions_on_records_that_come_again_come_with_them_and_not_across_a_gap() {
    let decided = |position| {
        let decisions = Decisions::new(6..8, Vec::new(), std::iter::once(7..8).collect());
        let known = Assignment { decisions, ..known(Some(position), Some(6)) };
        let assigned = assigned(known, OnGap::Earliest, (5, 20));
        assigned.slot().take_over(1).snapshot.decided().map(Decisions::known)
    };
    assert_eq!(decided(8), Some(6..8));
    assert_eq!(decided(21), None, "the log is not the one that they are about");
}

#[test]
fn a_topic_that_was_made_anew_since_its_partition_was_assigned_is_another_log() {
    let assigned = assigned(known(Some(8), None), OnGap::Fail, (5, 20));
    let of = |topic| assigned.slots.reads_another_log(&OneTopic::named(topic).0.into_inner().unwrap());
    assert_eq!([of("first"), of("second")], [false, true]);
}

#[test]
fn a_partition_is_revoked_after_a_wait_for_what_was_issued() {
    let runtime = runtime();
    let assigner = assigner(Arc::default(), OnGap::Fail, &runtime);
    let revoked = |has_issued: bool| {
        let reader = assigner.slots.begin_reading();
        let slot = assigner.slots.assign(reader, slot::tests::start(0)).unwrap();
        if has_issued {
            let state = slot.take_over(1).snapshot;
            let done = Since { batch: six_orders(), start: 0, end: 6, dead: Arc::from([]) };
            assert_eq!(slot.issue(1, done, &state, || true), Issued::Yes);
        }
        let since = std::time::Instant::now();
        assigner.revoked(reader, 0);
        assert!(slot.is_revoked() && assigner.slots.get(0).is_none());
        since.elapsed()
    };
    assert!(revoked(true) >= REVOKE_WAIT, "nobody stores it");
    revoked(false);
}

/// Groups and keys that a partition with this position begins with, of six in a checkpoint in which a step that is gone
/// also has its part.
fn kept(plan: Arc<PipelinePlan>, position: i64) -> (usize, usize) {
    kept_of(&plan.clone(), plan, position)
}

/// The same of a checkpoint of the plan `before`.
fn kept_of(before: &Arc<PipelinePlan>, plan: Arc<PipelinePlan>, position: i64) -> (usize, usize) {
    let (stage, mut state) = (stage_of(before.clone()), PartitionState::new(before, "orders".into(), 0));
    let input = stage.decode(&mut stage.decoder(), &six_orders(), 0..6, &[]);
    stage.run(&mut state, &input, 0).unwrap();
    let mut chunks = state.checkpoint(CheckpointScope::Full);
    chunks.insert(0, StateChunk { name: "rule/gone".into(), bytes: chunks[0].bytes.clone() });
    let checkpoint = Some(Checkpoint { next_offset: position.min(6), chunks });
    let known = Assignment { checkpoint, ..known(Some(position), None) };
    let store = Arc::new(Storage { assignment: Some(known), ..Storage::default() });
    let runtime = runtime();
    let assigner = Assigner { plan, ..assigner(store, OnGap::Earliest, &runtime) };
    let (log, bounds) = (assigner.log().unwrap(), LogBounds { low: 5, high: 20 });
    assigner.assigned(assigner.slots.begin_reading(), 0, (&log, bounds)).unwrap();
    let Size { groups, keys } = assigner.slots.get(0).unwrap().take_over(1).snapshot.size();
    (groups, keys)
}

#[test]
fn state_of_a_step_that_is_gone_takes_no_other_along() {
    assert_eq!(kept(counts(), 8), (6, 0));
}

#[test]
fn a_window_with_other_settings_is_new_and_takes_no_other_step_along() {
    let plan = |seconds| {
        let window = WindowSpec {
            name: "counts".to_owned(),
            size: Duration::from_secs(seconds),
            allowed_lateness: Duration::ZERO,
            group_by: vec!["id".to_owned()],
            select: vec![("n".to_owned(), "count(*)".to_owned())],
        };
        plan_of(vec![StepSpec::Window(window), any()])
    };
    assert_eq!(kept(plan(60), 8), (6, 6));
    assert_eq!(kept_of(&plan(60), plan(300), 8), (0, 6));
}

#[test]
fn behind_a_gap_rules_go_on_with_what_they_knew() {
    assert_eq!(kept(fires(), 8), (0, 6));
    assert_eq!(kept(fires(), 4), (0, 6));
    assert_eq!(kept(counts(), 4), (0, 0), "nobody knows what windows miss");
}

#[test]
fn alerts_are_ended_where_records_are_gone_that_rules_would_have_to_judge_again() {
    let begun = |position, checkpoint, on_gap, low| assigned(known(position, checkpoint), on_gap, (low, 20)).begun;
    assert_eq!(begun(Some(8), Some(6), OnGap::Fail, 6), [0; 0], "all of them are there");
    assert_eq!(begun(Some(8), Some(6), OnGap::Fail, 7), [3]);
    assert_eq!(begun(Some(8), None, OnGap::Fail, 6), [3], "also from the beginning");
    assert_eq!(begun(Some(8), None, OnGap::Fail, 5), [0; 0], "it was read from there");
    assert_eq!(begun(Some(4), Some(3), OnGap::Earliest, 5), [3]);
    assert_eq!(begun(Some(4), Some(4), OnGap::Earliest, 5), [0; 0], "what was judged is known: rules go on");
}

#[test]
fn behind_such_a_gap_rules_judge_nothing_below_the_position() {
    let plan = fires();
    let store = Arc::new(Storage { assignment: Some(known(Some(8), Some(3))), ..Storage::default() });
    let runtime = runtime();
    let assigner = Assigner { plan: plan.clone(), ..assigner(store, OnGap::Fail, &runtime) };
    let (log, bounds) = (assigner.log().unwrap(), LogBounds { low: 5, high: 20 });
    assert_eq!(assigner.assigned(assigner.slots.begin_reading(), 0, (&log, bounds)).unwrap(), Some(5));
    let (stage, mut state) = (stage_of(plan), assigner.slots.get(0).unwrap().take_over(1).snapshot);
    let input = stage.decode(&mut stage.decoder(), &orders(5..10), 5..10, &[]);
    let told: Vec<i64> = stage.run(&mut state, &input, 8).unwrap().alerts.iter().map(|alert| alert.offset).collect();
    assert_eq!(told, [8, 9]);
}

#[test]
fn behind_such_a_gap_of_what_a_checkpoint_knows_only_the_watermark_goes_on() {
    let plan = fires();
    let (stage, mut state) = (stage_of(plan.clone()), PartitionState::new(&plan, "orders".into(), 0));
    let input = stage.decode(&mut stage.decoder(), &orders(0..3), 0..3, &[]);
    stage.run(&mut state, &input, 0).unwrap();
    assert_eq!((state.size(), state.watermark_ms()), (Size { groups: 0, keys: 3 }, ORDERED_MS));
    let checkpoint = Some(Checkpoint { next_offset: 3, chunks: state.checkpoint(CheckpointScope::Full) });
    let known = Assignment { checkpoint, ..known(Some(8), None) };
    let store = Arc::new(Storage { assignment: Some(known), ..Storage::default() });
    let runtime = runtime();
    let assigner = Assigner { plan, ..assigner(store, OnGap::Fail, &runtime) };
    let (log, bounds) = (assigner.log().unwrap(), LogBounds { low: 5, high: 20 });
    assigner.assigned(assigner.slots.begin_reading(), 0, (&log, bounds)).unwrap();
    let state = assigner.slots.get(0).unwrap().take_over(1).snapshot;
    assert_eq!(
        (state.size(), state.watermark_ms()),
        (Size::default(), ORDERED_MS),
        "nobody knows which keys fire still"
    );
}
