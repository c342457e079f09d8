//! What a lane owes everyone around it: the inbox, the live hub, the cluster, the registry, and the next incarnation.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use streamward_core::encode::push_frame;
use streamward_kit::{ActorPath, ChildSpec, Command, Fault, FaultKind, Runtime, SupervisorSpec, TreeNode};

use super::{
    tests::{orders, shared, six_orders, stage},
    *,
};
use crate::{
    fakes::{in_virtual_time, on_a_system},
    live::{LiveEvent, SubscriptionLimits},
    logs::{Told, tests::OneTopic},
    slot::{self, SlotStart},
    store::BoxFuture,
};

/// A lane with a slot for partition 0 that begins to emit there, and its sink.
pub(super) fn parts(emit_from: i64, stage: Stage) -> (LaneShared, Arc<PartitionSlot>, Inbox<Arc<Store>>) {
    let slots = Arc::new(Slots::default());
    let start = SlotStart { emit_from, ..slot::tests::start(0) };
    let slot = slots.assign(slots.begin_reading(), start).unwrap();
    let sink: Inbox<Arc<Store>> = Inbox::new("outputs", 4);
    (shared(stage, slots, Arc::new(OneTopic::named("first")), &sink), slot, sink)
}

/// Orders of a partition.
pub(super) fn work(slot: &Arc<PartitionSlot>, range: std::ops::Range<i64>) -> Work {
    let (start, end) = (range.start, range.end);
    Work { slot: slot.clone(), batch: orders(range), start, end, read_by: Instant::now() }
}

/// A runtime with this lane.
pub(super) fn supervised(parts: &Arc<LaneShared>) -> Runtime {
    let (inbox, parts) = (parts.inbox.clone(), parts.clone());
    let lane = ChildSpec::role("lane", "lane", move |scope| run(scope, parts.clone())).inbox(&inbox);
    Runtime::start(SupervisorSpec::new("root").child(lane)).unwrap()
}

async fn given(parts: &Arc<LaneShared>, works: Vec<Work>) -> TreeNode {
    let runtime = supervised(parts);
    for work in works {
        parts.inbox.outlet().send(work).await.unwrap_or_else(|_| panic!("closed"));
        parts.inbox.drained().await;
    }
    let lane = runtime.snapshot().find("lane").unwrap().clone();
    runtime.shutdown(Vec::new()).await;
    lane
}

/// Lets a lane have these batches, each when the one before has left its inbox; the lane before it ends.
fn had(parts: &Arc<LaneShared>, works: Vec<Work>) -> TreeNode {
    on_a_system(given(parts, works))
}

#[test]
fn records_of_a_batch_count_as_progress_and_leave_the_inbox_at_once() {
    let (parts, slot, _sink) = parts(0, stage(|_| {}));
    let parts = Arc::new(parts);
    let lane = had(&parts, vec![work(&slot, 0..6), work(&slot, 6..9)]);
    let figures = parts.inbox.figures();
    assert_eq!((lane.processed, figures.committed, figures.returned), (9, 2, 0));
    assert!(!parts.trials.is_suspect(0, &(0..9)), "it came back from them");
}

#[test]
fn a_checkpoint_that_a_lane_issues_when_it_ends_is_known_to_the_slot() {
    let (parts, slot, sink) = parts(0, stage(|_| {}));
    had(&Arc::new(parts), vec![work(&slot, 0..6)]);
    assert_eq!((slot.checkpointed(), sink.figures().depth), (6, 2));
}

#[test]
fn a_batch_that_an_earlier_incarnation_has_issued_is_passed_over_without_a_failure() {
    let (parts, slot, sink) = parts(0, stage(|_| {}));
    let state = slot.take_over(0).snapshot;
    let done = Since { batch: six_orders(), start: 0, end: 6, dead: Arc::from([]) };
    assert_eq!(slot.issue(0, done, &state, || true), Issued::Yes);
    let lane = had(&Arc::new(parts), vec![work(&slot, 0..6), work(&slot, 6..9)]);
    assert_eq!((lane.restarts, slot.processed()), (0, 9));
    assert_eq!(sink.figures().depth, 2, "the second batch, and a checkpoint");
}

/// Frames that a subscriber gets of six orders, where outputs begin at `emit_from`; the topic is `now` this one.
fn frames(emit_from: i64, now: &str) -> usize {
    let (mut parts, slot, _sink) = parts(emit_from, stage(|_| {}));
    parts.logs = Arc::new(OneTopic::named(now));
    let mut watches = parts.live.subscribe(SubscriptionLimits::default());
    had(&Arc::new(parts), vec![work(&slot, 0..6)]);
    let events = std::iter::from_fn(|| watches.try_recv());
    events.filter(|event| matches!(event, LiveEvent::Frame(_))).count()
}

#[test]
fn a_subscriber_sees_each_row_and_none_that_is_stored_already_or_of_another_log() {
    assert_eq!([frames(0, "first"), frames(4, "first"), frames(6, "first"), frames(0, "second")], [6, 2, 0, 0]);
}

/// A cluster that answers questions about topics from some question on, and notes when each one came.
pub(super) struct Cluster {
    pub(super) from: usize,
    pub(super) asked: Mutex<Vec<tokio::time::Instant>>,
}

impl Logs for Cluster {
    fn ask<'a>(&'a self, _: &'a Arc<str>) -> BoxFuture<'a, Result<Told, String>> {
        let mut asked = self.asked.lock();
        asked.push(tokio::time::Instant::now());
        let answers = asked.len() > self.from;
        let told = Told { log: Some(slot::tests::start(0).identity), asked_at: Instant::now() };
        Box::pin(async move { if answers { Ok(told) } else { Err("no broker".to_owned()) } })
    }

    fn last_told(&self, _: &Arc<str>) -> Option<LogIdentity> {
        None
    }
}

#[test]
fn the_cluster_is_asked_once_about_all_that_was_read_before_it_answers() {
    let (mut parts, slot, _sink) = parts(0, stage(|_| {}));
    let cluster = Arc::new(Cluster { from: 0, asked: Mutex::default() });
    parts.logs = cluster.clone();
    had(&Arc::new(parts), vec![work(&slot, 0..3), work(&slot, 3..6), work(&slot, 6..9)]);
    assert_eq!((cluster.asked.lock().len(), slot.processed()), (1, 9));
}

/// A cluster whose first answer is that a topic is the first log, as of that moment; it is the second one since.
struct AnswersLate {
    asked_at: Instant,
    asked: AtomicUsize,
}

impl Logs for AnswersLate {
    fn ask<'a>(&'a self, _: &'a Arc<str>) -> BoxFuture<'a, Result<Told, String>> {
        let log = match self.asked.fetch_add(1, Ordering::SeqCst) {
            0 => OneTopic::named("first"),
            _ => OneTopic::named("second"),
        };
        let told = Told { log: log.0.into_inner(), asked_at: self.asked_at };
        Box::pin(async move { Ok(told) })
    }

    fn last_told(&self, _: &Arc<str>) -> Option<LogIdentity> {
        None
    }
}

#[test]
fn an_answer_about_a_topic_says_nothing_about_records_that_were_read_while_it_was_on_its_way() {
    let (mut parts, slot, sink) = parts(0, stage(|_| {}));
    let asked_at = Instant::now();
    parts.logs = Arc::new(AnswersLate { asked_at, asked: AtomicUsize::new(0) });
    let before = Work { read_by: asked_at, ..work(&slot, 0..3) };
    let meanwhile = Work { read_by: asked_at + Duration::from_nanos(1), ..work(&slot, 3..6) };
    had(&Arc::new(parts), vec![before, meanwhile]);
    assert_eq!((sink.figures().depth, slot.processed(), slot.is_revoked()), (1, 3, true));
}

#[test]
fn a_cluster_that_does_not_answer_is_asked_again_at_waits_that_double_up_to_a_bound() {
    let (mut parts, slot, _sink) = parts(0, stage(|_| {}));
    let cluster = Arc::new(Cluster { from: 9, asked: Mutex::default() });
    parts.logs = cluster.clone();
    in_virtual_time(given(&Arc::new(parts), vec![work(&slot, 0..6)]));
    let asked = cluster.asked.lock();
    let waits = asked.windows(2).map(|pair| (pair[1] - pair[0]).as_millis() / FIRST_PAUSE.as_millis());
    assert_eq!(waits.collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 64, 100, 100]);
}

/// A registry that never answers.
pub(super) struct Silent;

impl SchemaSource for Silent {
    fn schemas<'a>(&'a self, _: &'a [u32]) -> BoxFuture<'a, Result<Vec<Option<Arc<str>>>, String>> {
        Box::pin(async { Err("no route".to_owned()) })
    }
}

#[test]
fn records_that_need_no_schema_do_not_wait_for_the_registry() {
    let (mut parts, slot, _sink) = parts(0, stage(|_| {}));
    parts.schemas = Arc::new(Silent);
    had(&Arc::new(parts), vec![work(&slot, 0..6)]);
    assert_eq!(slot.processed(), 6);
}

#[test]
fn records_whose_schema_the_registry_does_not_tell_wait_and_are_left_when_the_lane_ends() {
    let (mut parts, slot, sink) = parts(0, stage(|_| {}));
    parts.schemas = Arc::new(Silent);
    let (mut batch, mut value) = (RawBatch::with_capacity("orders".into(), 0, 100), Vec::new());
    push_frame(9, &mut value);
    batch.push(0, 0, None, Some(&value));
    let work = Work { slot: slot.clone(), batch: Arc::new(batch), start: 0, end: 1, read_by: Instant::now() };
    let parts = Arc::new(parts);
    on_a_system(async {
        let runtime = supervised(&parts);
        parts.inbox.outlet().send(work).await.unwrap_or_else(|_| panic!("closed"));
        let note = || runtime.snapshot().find("lane").and_then(|lane| lane.note.clone());
        while note().is_none_or(|note| *note != *"the registry does not answer: no route: the partition waits") {
            tokio::task::yield_now().await;
        }
        runtime.shutdown(Vec::new()).await;
    });
    let figures = parts.inbox.figures();
    assert_eq!((slot.processed(), sink.figures().depth), (0, 0), "its silence makes no dead letter");
    assert_eq!((figures.committed, figures.depth + figures.in_hand), (0, 1));
}

/// How many records a step sees at a time, where nobody came back from six records of this log.
fn seen(log: i64) -> Vec<usize> {
    let lens = Arc::new(Mutex::new(Vec::new()));
    let sees = lens.clone();
    let (parts, slot, _sink) = parts(0, stage(move |input| sees.lock().push(input.offsets.len())));
    parts.trials.of_log(0, log);
    parts.trials.begin(0, &(0..6));
    had(&Arc::new(parts), vec![work(&slot, 0..6)]);
    lens.lock().clone()
}

#[test]
fn records_from_which_nobody_came_back_are_tried_alone_also_in_a_batch_that_comes_for_the_first_time() {
    let own = slot::tests::start(0).log;
    let seen_of_own = seen(own);
    assert!(seen_of_own.len() > 6 && seen_of_own[..6].iter().all(|records| *records == 1), "{seen_of_own:?}");
    assert_eq!(seen(own + 1), [6], "those were other records");
}

#[test]
fn a_lane_that_lives_on_processes_each_batch_once() {
    let times = Arc::new(AtomicUsize::new(0));
    let counts = times.clone();
    let (parts, slot, _sink) = parts(0, stage(move |_| _ = counts.fetch_add(1, Ordering::SeqCst)));
    had(&Arc::new(parts), vec![work(&slot, 0..3), work(&slot, 3..6), work(&slot, 6..9)]);
    assert_eq!(times.load(Ordering::SeqCst), 3);
}

#[test]
fn a_lane_lets_go_of_a_partition_whose_assignment_is_over() {
    for is_made_anew in [false, true] {
        let (mut parts, slot, _sink) = parts(100, stage(|_| {}));
        let logs = Arc::new(OneTopic::named("first"));
        parts.logs = logs.clone();
        let parts = Arc::new(parts);
        let weak = Arc::downgrade(&slot);
        on_a_system(async {
            let runtime = supervised(&parts);
            for range in [0..6, 6..9] {
                let work = work(&slot, range.clone());
                if range.start > 0 && is_made_anew {
                    *logs.0.lock() = OneTopic::named("second").0.into_inner();
                } else if range.start > 0 {
                    slot.revoke();
                }
                parts.inbox.outlet().send(work).await.unwrap_or_else(|_| panic!("closed"));
                parts.inbox.drained().await;
            }
            drop(slot);
            parts.slots.begin_reading();
            while weak.strong_count() > 0 {
                tokio::task::yield_now().await;
            }
            runtime.shutdown(Vec::new()).await;
        });
    }
}

#[test]
fn a_fault_on_purpose_ends_a_lane_that_has_a_batch_in_hand() {
    let (parts, slot, sink) = parts(0, stage(|_| {}));
    let parts = Arc::new(parts);
    let lane = on_a_system(async {
        let runtime = supervised(&parts);
        let fault = Fault { kind: FaultKind::Error, times: 1, point: Some("process".to_owned()) };
        runtime.command(&ActorPath::parse("lane").unwrap(), Command::Inject(fault)).await.unwrap();
        parts.inbox.outlet().send(work(&slot, 0..6)).await.unwrap_or_else(|_| panic!("closed"));
        parts.inbox.drained().await;
        let lane = runtime.snapshot().find("lane").unwrap().clone();
        runtime.shutdown(Vec::new()).await;
        lane
    });
    assert_eq!(lane.last_exit.map(|exit| exit.message).as_deref(), Some("injected error at process"));
    assert_eq!((lane.restarts, slot.processed(), sink.figures().depth), (1, 6, 2), "the next one has processed it");
}
