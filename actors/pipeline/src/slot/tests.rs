//! Who may issue for a partition, and what a slot forgets.

use streamward_core::{partition::CheckpointScope, watermark::NO_WATERMARK};

use super::*;
use crate::lane::tests::{plan, six_orders, stage};

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

#[test]
fn what_a_client_that_has_a_successor_says_changes_nothing() {
    let slots = Slots::default();
    let older = slots.begin_reading();
    let before = slots.assign(older, start(0)).unwrap();
    let newer = slots.begin_reading();
    assert!(before.is_revoked() && slots.all().is_empty(), "it begins anew");
    assert!(slots.assign(older, start(0)).is_none() && slots.get(0).is_none());
    let slot = slots.assign(newer, start(0)).unwrap();
    slots.revoke(older, 0);
    slots.stop(older, 1, "a gap".to_owned());
    let second = LogIdentity { topic_id: "second".to_owned(), ..slot.identity.clone() };
    slots.reads(older, &second);
    assert!(!slot.is_revoked() && slots.get(0).is_some());
    assert_eq!((slots.stopped(), slots.reads_another_log(&slot.identity)), (None, false));
    assert!(slots.of_reader(older, 0).is_none() && slots.of_reader(newer, 0).is_some());
    slots.revoke(newer, 0);
    assert!(slot.is_revoked() && slots.get(0).is_none());
}

#[test]
fn a_partition_that_is_assigned_again_ends_the_assignment_before_and_stands_still_no_longer() {
    let slots = Slots::default();
    let reader = slots.begin_reading();
    let before = slots.assign(reader, start(0)).unwrap();
    slots.stop(reader, 0, "a gap".to_owned());
    let slot = slots.assign(reader, start(0)).unwrap();
    assert!(before.is_revoked() && !slot.is_revoked());
    assert_eq!((slots.stopped(), slots.lost()), (None, None));
}

#[test]
fn the_log_that_a_client_reads_is_the_first_one_that_it_names() {
    let slots = Slots::default();
    let reader = slots.begin_reading();
    let first = start(0).identity;
    let second = LogIdentity { topic_id: "second".to_owned(), ..first.clone() };
    assert!(!slots.reads_another_log(&first), "none yet");
    slots.reads(reader, &first);
    slots.reads(reader, &second);
    assert_eq!((slots.reads_another_log(&first), slots.reads_another_log(&second)), (false, true));
    slots.begin_reading();
    assert!(!slots.reads_another_log(&second), "the next client has named none");
}

#[test]
fn the_stored_position_does_not_go_back() {
    let slots = Slots::default();
    let slot = slots.assign(slots.begin_reading(), start(0)).unwrap();
    let upto = |end| Output::empty("orders".into(), 0, end, plan().schema().arrow.clone());
    for (end, committed) in [(5, 5), (3, 5), (6, 6)] {
        slot.commit(&upto(end), 0);
        assert_eq!((slot.committed(), slots.committed_positions()), (committed, vec![(0, committed)]));
    }
}

#[test]
fn a_partition_is_caught_up_once_all_that_its_log_holds_is_processed() {
    let slots = Slots::default();
    let slot = slots.assign(slots.begin_reading(), start(0)).unwrap();
    let state = slot.take_over(1).snapshot;
    assert!(!slot.is_caught_up(), "nothing says yet that the log is empty");
    slot.fetched(5, true);
    assert!(!slot.is_caught_up(), "a lane has it still");
    slot.issue(1, five(0), &state, || true);
    assert!(slot.is_caught_up());
    slot.fetched(10, false);
    slot.issue(1, five(5), &state, || true);
    assert!(!slot.is_caught_up(), "there is more");
    slot.reached_end();
    assert!(slot.is_caught_up());
}

#[test]
fn the_batches_kept_for_a_rebuild_are_bounded_and_a_snapshot_takes_their_place() {
    let slots = Slots::default();
    let slot = slots.assign(slots.begin_reading(), start(0)).unwrap();
    let mut state = slot.take_over(1).snapshot;
    let input = stage(|_| {});
    let orders = input.decode(&mut input.decoder(), &six_orders(), 0..6, &[]);
    input.run(&mut state, &orders, 0).unwrap();
    let kept = |slot: &PartitionSlot| {
        let rebuild = slot.take_over(1);
        (rebuild.since.len(), rebuild.snapshot.covered())
    };
    let most = i64::try_from(MAX_SINCE_BATCHES).unwrap();
    for n in 0..most {
        assert_eq!(kept(&slot), (usize::try_from(n).unwrap(), None));
        slot.issue(1, five(5 * n), &state, || true);
    }
    assert_eq!(kept(&slot), (0, Some(6)));
    let mut large = RawBatch::with_capacity("orders".into(), 0, 0);
    large.push(5 * most, 0, None, Some(&vec![0; MAX_SINCE_BYTES]));
    slot.issue(1, Since { batch: Arc::new(large), ..five(5 * most) }, &state, || true);
    assert_eq!(kept(&slot).0, 0);
    slot.issue(1, five(5 * most + 5), &state, || true);
    assert_eq!(kept(&slot).0, 1, "the next snapshot is due when as much has gathered again");
}

#[test]
fn a_partition_is_stored_to_the_end_of_its_log_once_its_last_records_are() {
    let slots = Slots::default();
    let slot = slots.assign(slots.begin_reading(), start(0)).unwrap();
    let state = slot.take_over(1).snapshot;
    slot.end().told(8, 8, 8);
    slot.fetched(5, false);
    assert_eq!(slot.read_to(), 5, "there is more");
    slot.fetched(5, true);
    slot.issue(1, five(0), &state, || true);
    assert_eq!((slot.is_caught_up(), slot.read_to(), slot.stored_to()), (true, 8, 0), "they are on their way");
    slot.commit(&Output::empty("orders".into(), 0, 5, plan().schema().arrow.clone()), 0);
    assert_eq!(slot.stored_to(), 8, "the last offsets hold no record");
}

#[test]
fn the_newest_log_timestamp_is_that_of_the_last_record() {
    let slots = Slots::default();
    let slot = slots.assign(slots.begin_reading(), start(0)).unwrap();
    let state = slot.take_over(1).snapshot;
    let mut batch = RawBatch::with_capacity("orders".into(), 0, 0);
    (0..5).for_each(|offset| batch.push(offset, 100 + offset, None, None));
    assert_eq!(slot.newest_log_timestamp_ms(), 0);
    slot.issue(1, Since { batch: Arc::new(batch), ..five(0) }, &state, || true);
    assert_eq!(slot.newest_log_timestamp_ms(), 104);
    slot.issue(1, five(5), &state, || true);
    assert_eq!(slot.newest_log_timestamp_ms(), 104, "a batch without records says nothing");
}

#[test]
fn the_checkpoint_that_a_slot_begins_with_covers_what_is_not_read_again() {
    let (slots, plan) = (Slots::default(), plan());
    let reader = slots.begin_reading();
    let bare = slots.assign(reader, SlotStart { emit_from: 9, fetch_from: 6, ..start(0) }).unwrap();
    assert_eq!(bare.checkpointed(), -1, "there is none");
    let chunks = bare.take_over(1).snapshot.checkpoint(CheckpointScope::Full);
    let state = PartitionState::restore(&plan, "orders".into(), 0, &chunks, NO_WATERMARK).unwrap();
    let slot = slots.assign(reader, SlotStart { emit_from: 9, fetch_from: 6, state, ..start(0) }).unwrap();
    assert_eq!(slot.checkpointed(), 6);
}

#[test]
fn a_group_that_dealt_no_partition_to_this_process_has_dealt_all_the_same() {
    let slots = Slots::default();
    assert!(!slots.was_assigned());
    slots.note_assignment();
    assert!(slots.was_assigned());
}

#[test]
fn an_older_checkpoint_that_is_noted_late_does_not_take_the_place_of_a_newer_one() {
    let slots = Slots::default();
    let slot = slots.assign(slots.begin_reading(), start(0)).unwrap();
    for (noted, newest) in [(6, 6), (3, 6), (9, 9)] {
        slot.note_checkpoint(noted);
        assert_eq!(slot.checkpointed(), newest);
    }
}

#[test]
fn a_tick_empties_what_is_kept_for_a_rebuild_so_that_the_next_snapshot_waits_again() {
    let slots = Slots::default();
    let slot = slots.assign(slots.begin_reading(), start(0)).unwrap();
    let state = slot.take_over(1).snapshot;
    let large = |offset: i64| {
        let mut batch = RawBatch::with_capacity("orders".into(), 0, 0);
        batch.push(offset, 0, None, Some(&vec![0; MAX_SINCE_BYTES / 2]));
        slot.issue(1, Since { batch: Arc::new(batch), ..five(offset) }, &state, || true);
        slot.take_over(1).since.len()
    };
    assert_eq!(large(0), 1);
    assert_eq!(slot.issue_tick(1, &state, || true), Issued::Yes);
    assert_eq!([large(5), large(10)], [1, 0]);
}

#[test]
fn the_state_of_a_tick_is_what_the_next_incarnation_begins_with() {
    let slots = Slots::default();
    let slot = slots.assign(slots.begin_reading(), start(0)).unwrap();
    let mut state = slot.take_over(1).snapshot;
    let stage = stage(|_| {});
    let orders = stage.decode(&mut stage.decoder(), &six_orders(), 0..6, &[]);
    stage.run(&mut state, &orders, 0).unwrap();
    assert_eq!(slot.take_over(1).snapshot.covered(), None);
    slot.issue_tick(1, &state, || true);
    assert_eq!(slot.take_over(2).snapshot.covered(), Some(6));
}
