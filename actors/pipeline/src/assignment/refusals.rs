//! When a partition is not taken over, or not given back at once.

use streamward_core::{
    output::{Output, StateChunk},
    partition::{CheckpointScope, Decisions},
    watermark::NO_WATERMARK,
};

use super::{
    tests::{assigner, known, runtime},
    *,
};
use crate::{
    fakes::{LIMIT, Storage},
    lane::tests::{plan, six_orders},
    slot::{self, Issued, Since},
    store::{Checkpoint, StoreError},
};

/// What becomes of partition 4, whose log holds `low..20`, with this storage.
fn taken_over(store: &Arc<Storage>, on_gap: OnGap, low: i64) -> Result<Option<i64>, SourceError> {
    let runtime = runtime();
    let assigner = Assigner { sink: "counts".into(), ..assigner(store.clone(), on_gap, &runtime) };
    let (log, reader) = (assigner.log().unwrap(), assigner.slots.begin_reading());
    let fetch_from = assigner.assigned(reader, 4, (&log, LogBounds { low, high: 20 }));
    let slot = assigner.slots.get(4);
    assert_eq!(slot.is_some(), matches!(fetch_from, Ok(Some(_))), "a partition is taken over as a whole or not at all");
    assert!(slot.is_none_or(|slot| (&*slot.key.sink, &*slot.key.topic, slot.key.partition) == ("counts", "orders", 4)));
    fetch_from
}

#[test]
fn a_partition_is_not_taken_over_while_storage_is_busy_and_is_when_it_no_longer_is() {
    for question in ["assign", "begin_rules", "start_at"] {
        let storage = |is_busy_at| {
            let assignment = Some(known(Some(4), Some(3)));
            Arc::new(Storage { assignment, is_busy_at, ..Storage::default() })
        };
        let refused = taken_over(&storage(question), OnGap::Earliest, 5).unwrap_err();
        assert!(matches!(refused, SourceError::Store(StoreError::Unavailable(_))), "{question}: {refused}");
        assert_eq!(taken_over(&storage(""), OnGap::Earliest, 5).unwrap(), Some(5));
    }
}

#[test]
fn storage_is_asked_about_a_partition_by_its_pipeline_and_its_topic() {
    let store = Arc::new(Storage { assignment: Some(known(Some(4), Some(3))), ..Storage::default() });
    taken_over(&store, OnGap::Earliest, 5).unwrap();
    let key = PartitionKey { sink: "counts".into(), topic: "orders".into(), partition: 4 };
    let asked = ["assign", "begin_rules", "start_at"].map(|question| (question, key.clone()));
    assert_eq!(*store.asked.lock(), asked);
}

/// Why a partition with this state, of a checkpoint at its position, is not taken over; none if it is.
fn damage(change: impl Fn(&mut Vec<StateChunk>), on_gap: OnGap, position: i64) -> Option<String> {
    let mut chunks = PartitionState::new(&plan(), "orders".into(), 4).checkpoint(CheckpointScope::Full);
    change(&mut chunks);
    let checkpoint = Some(Checkpoint { next_offset: position, chunks });
    let (newest_event_ms, decisions) = (NO_WATERMARK, Decisions::default());
    let known = Assignment { checkpoint, newest_event_ms, decisions, ..known(Some(position), None) };
    let store = Arc::new(Storage { assignment: Some(known), ..Storage::default() });
    taken_over(&store, on_gap, 5).err().map(|error| error.to_string())
}

#[test]
fn a_partition_whose_state_is_damaged_is_not_taken_over_within_its_log_or_behind_a_gap() {
    for (on_gap, position) in [(OnGap::Fail, 8), (OnGap::Earliest, 4)] {
        assert_eq!(damage(|_| (), on_gap, position), None);
        let cut_off = damage(|chunks| chunks[0].bytes.truncate(3), on_gap, position).unwrap();
        assert_eq!(cut_off, "restore the state of partition 4: the state chunk 'watermark' is damaged: it is cut off");
        let newer = damage(|chunks| chunks[0].bytes[0] = 99, on_gap, position).unwrap();
        assert!(newer.contains("'watermark' has version 99"), "{newer}");
        let without = damage(|chunks| chunks[0].name = "window/gone".into(), OnGap::Fail, 8).unwrap();
        assert!(without.contains("no chunk 'watermark'"), "{without}");
    }
}

#[test]
fn a_client_that_gets_a_successor_while_it_asks_storage_has_no_partition() {
    let store = Arc::new(Storage { assignment: Some(known(Some(8), Some(6))), ..Storage::default() });
    let runtime = runtime();
    let assigner = assigner(store.clone(), OnGap::Fail, &runtime);
    let (slots, log, reader) = (assigner.slots.clone(), assigner.log().unwrap(), assigner.slots.begin_reading());
    *store.meanwhile.lock() = Some(Box::new(move || _ = slots.begin_reading()));
    let refused = assigner.assigned(reader, 0, (&log, LogBounds { low: 5, high: 20 })).unwrap_err();
    assert_eq!(refused.to_string(), "partition 0 belongs to a newer client");
    assert!(assigner.slots.get(0).is_none());
}

#[test]
fn a_topic_that_does_not_exist_is_no_log() {
    let runtime = runtime();
    let logs = Arc::new(crate::logs::tests::OneTopic::default());
    let assigner = Assigner { logs, ..assigner(Arc::default(), OnGap::Fail, &runtime) };
    assert_eq!(assigner.log().unwrap_err().to_string(), "topic orders does not exist");
}

/// Whether giving back a partition of which six orders were issued waits no longer once `then` was done to it.
fn is_given_back(at_most: Duration, then: impl FnOnce(&PartitionSlot)) -> bool {
    let slots = Slots::default();
    let slot = slots.assign(slots.begin_reading(), slot::tests::start(0)).unwrap();
    let state = slot.take_over(1).snapshot;
    let done = Since { batch: six_orders(), start: 0, end: 6, dead: Arc::from([]) };
    assert_eq!(slot.issue(1, done, &state, || true), Issued::Yes);
    then(&slot);
    is_settled(&slot, at_most)
}

#[test]
fn giving_a_partition_back_waits_for_nothing_that_is_stored_or_that_another_owner_has() {
    let upto = |end| Output::empty("orders".into(), 0, end, plan().schema().arrow.clone());
    assert!(is_given_back(LIMIT, |slot| slot.commit(&upto(6), 0)));
    assert!(is_given_back(LIMIT, PartitionSlot::revoke));
    assert!(!is_given_back(Duration::ZERO, |slot| slot.commit(&upto(5), 0)), "one record is on its way");
}
