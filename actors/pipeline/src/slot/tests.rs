//! Who may issue for a partition, and what a slot forgets.

use super::*;
use crate::lane::tests::plan;

/// Where partition `partition` of orders begins.
pub(crate) fn start(partition: i32) -> SlotStart {
    let key = PartitionKey { sink: "orders".into(), topic: "orders".into(), partition };
    let state = PartitionState::new(&plan(), "orders".into(), partition);
    SlotStart {
        key,
        epoch: 1,
        log: 1,
        identity: LogIdentity { cluster_id: "cluster".to_owned(), topic_id: "first".to_owned() },
        emit_from: 0,
        fetch_from: 0,
        state,
    }
}

#[test]
fn an_older_incarnation_that_wakes_up_does_not_take_the_slot_back() {
    let slots = Slots::default();
    let slot = slots.assign(slots.begin_reading(), start(0)).unwrap();
    slot.take_over(2);
    let state = slot.take_over(1).snapshot;
    assert_eq!(slot.issue(1, five(0), &state, || panic!("not issued")), Issued::Fenced);
    assert_eq!(slot.issue(2, five(0), &state, || true), Issued::Yes);
}

#[test]
fn a_new_client_forgets_which_partitions_stood_still() {
    let slots = Slots::default();
    slots.stop(slots.begin_reading(), 0, "a gap".to_owned());
    assert_eq!(slots.stopped().as_deref(), Some("a gap"));
    slots.begin_reading();
    assert_eq!(slots.stopped(), None);
}

/// Five records from `start` on.
fn five(start: i64) -> Since {
    let batch = Arc::new(RawBatch::with_capacity("orders".into(), 0, 0));
    Since { batch, start, end: start + 5, dead: Arc::from([]) }
}

#[test]
fn a_batch_that_does_not_follow_what_was_processed_is_not_issued() {
    let slots = Slots::default();
    let slot = slots.assign(slots.begin_reading(), start(0)).unwrap();
    let state = slot.take_over(1).snapshot;
    let refused = |done| slot.issue(1, done, &state, || panic!("not issued"));
    assert_eq!((refused(five(3)), slot.processed()), (Issued::Fenced, 0), "a hole");
    assert_eq!((slot.issue(1, five(0), &state, || true), slot.processed()), (Issued::Yes, 5));
    assert_eq!(
        (refused(five(0)), refused(five(4)), slot.processed()),
        (Issued::Fenced, Issued::Fenced, 5),
        "once more"
    );
    slot.revoke();
    assert_eq!((refused(five(5)), slot.processed()), (Issued::Fenced, 5), "of another owner");
}

#[test]
fn a_tick_of_an_older_incarnation_neither_issues_nor_replaces_the_snapshot() {
    let slots = Slots::default();
    let slot = slots.assign(slots.begin_reading(), start(0)).unwrap();
    let state = slot.take_over(1).snapshot;
    slot.take_over(2);
    assert_eq!(slot.issue(2, five(0), &state, || true), Issued::Yes);
    let tick = |generation, issues: bool| slot.issue_tick(generation, &state, || issues);
    assert_eq!(slot.issue_tick(1, &state, || panic!("not issued")), Issued::Fenced);
    assert_eq!(slot.take_over(2).since.len(), 1, "what the newest incarnation has processed is still known");
    assert_eq!((tick(2, false), slot.take_over(2).since.len()), (Issued::Full, 1));
    assert_eq!((tick(2, true), slot.take_over(2).since.len()), (Issued::Yes, 0));
    slot.revoke();
    assert_eq!(slot.issue_tick(2, &state, || panic!("not issued")), Issued::Fenced);
}

#[test]
fn a_batch_for_which_the_sink_has_no_room_leaves_the_slot_as_it_was() {
    let slots = Slots::default();
    let slot = slots.assign(slots.begin_reading(), start(0)).unwrap();
    let state = slot.take_over(1).snapshot;
    assert_eq!(slot.issue(1, five(0), &state, || false), Issued::Full);
    assert_eq!((slot.processed(), slot.take_over(1).since.len()), (0, 0));
}
