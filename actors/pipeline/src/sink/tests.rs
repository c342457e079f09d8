//! A sink whose storage refuses outputs: what becomes of their partitions and of the others.

use parking_lot::Mutex;
use streamward_core::batch::RawBatch;
use streamward_kit::{Capacity, ChildPolicy, ChildSpec, Placement, Runtime, SupervisorSpec, TreeNode};

use super::*;
use crate::{
    lane,
    logs::LogIdentity,
    slot::{self, Slots},
    store::{Assignment, BoxFuture, PartitionKey, Start},
};

/// What storage answers to one attempt.
type Answer = Result<Vec<Outcome>, StoreError>;

/// Storage with prepared answers; the last one is given again and again.
struct Prepared {
    answers: Vec<fn() -> Answer>,
    attempts: Mutex<Vec<Vec<i32>>>,
}

impl SinkStore for Prepared {
    fn assign<'a>(&'a self, _: &'a PartitionKey, _: &'a LogIdentity) -> BoxFuture<'a, Result<Assignment, StoreError>> {
        Box::pin(async { panic!("a sink assigns nothing") })
    }

    fn start_at<'a>(&'a self, _: &'a PartitionKey, _: Start) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { panic!("a sink moves no position by itself") })
    }

    fn commit<'a>(&'a self, pending: &'a [Arc<Pending>]) -> BoxFuture<'a, Result<Vec<Outcome>, StoreError>> {
        let mut attempts = self.attempts.lock();
        let answer = self.answers[attempts.len().min(self.answers.len() - 1)];
        attempts.push(pending.iter().map(|pending| pending.key.partition).collect());
        Box::pin(async move { answer() })
    }
}

/// What a sink has left when its inbox is empty.
struct Left {
    slots: Slots,
    sink: TreeNode,
    attempts: Vec<Vec<i32>>,
}

impl Left {
    fn committed(&self) -> Vec<i64> {
        self.slots.all().iter().map(|slot| slot.committed()).collect()
    }

    fn refused(&self) -> Vec<i32> {
        self.slots.standing_still().into_keys().collect()
    }
}

/// An output of `records` orders from 0 on, as its lane issues it.
fn store(slot: &Arc<PartitionSlot>, records: usize) -> Arc<Store> {
    let mut batch = RawBatch::with_capacity("orders".into(), slot.key.partition, 1000);
    for offset in 0..records {
        let value = format!(r#"{{"id": "{offset}", "at": 1700000000000}}"#);
        batch.push(i64::try_from(offset).unwrap(), 0, None, Some(value.as_bytes()));
    }
    let stage = lane::tests::stage(|_| {});
    let mut state = slot.take_over(1).snapshot;
    let end = i64::try_from(records).unwrap();
    let input = stage.decode(&mut stage.decoder(), &batch, 0..end, &[]);
    let output = stage.run(&mut state, &input, 0).unwrap();
    let key = slot.key.clone();
    let pending = Pending { key, epoch: slot.epoch, log: slot.log, output, raw: Some(Arc::new(batch)) };
    Arc::new(Store { slot: slot.clone(), pending: Arc::new(pending) })
}

/// Lets a supervised sink store outputs of five records of these partitions, all in one transaction.
async fn stored(partitions: &[i32], answers: &[fn() -> Answer]) -> Left {
    let slots = Slots::default();
    let reader = slots.begin_reading();
    let inbox: Inbox<Arc<Store>> = Inbox::weighted("outputs", Capacity { items: 64, weight: usize::MAX }, |_| 1);
    for partition in partitions {
        let slot =
            slots.get(*partition).unwrap_or_else(|| slots.assign(reader, slot::tests::start(*partition)).unwrap());
        inbox.outlet().send(store(&slot, 5)).await.unwrap_or_else(|_| panic!("closed"));
    }
    let store = Arc::new(Prepared { answers: answers.to_vec(), attempts: Mutex::default() });
    let limits = CommitLimits { max_rows: 1, max_rows_busy: 10_000, max_delay: Duration::ZERO };
    let shared = Arc::new(SinkShared { inbox: inbox.clone(), store: store.clone(), limits, observer: None });
    let sink = ChildSpec::role("sink", "sink", move |scope| run(scope, shared.clone()))
        .inbox(&inbox)
        .placement(Placement::pool("sinks"))
        .policy(ChildPolicy::permanent());
    let runtime = Runtime::start(SupervisorSpec::new("root").child(sink)).unwrap();
    inbox.drained().await;
    let sink = runtime.snapshot().find("sink").unwrap().clone();
    runtime.shutdown(Vec::new()).await;
    let attempts = store.attempts.lock().clone();
    Left { slots, sink, attempts }
}

fn on_a_system(partitions: &[i32], answers: &[fn() -> Answer]) -> Left {
    actix_rt::System::new().block_on(stored(partitions, answers))
}

#[test]
fn an_output_that_is_refused_stops_its_partition_and_no_other() {
    let left = on_a_system(
        &[0, 1, 2],
        &[|| {
            let refused = Outcome::Refused("the row of offset 3 exists already".into());
            Ok(vec![Outcome::Committed, refused, Outcome::Committed])
        }],
    );
    assert_eq!((left.committed(), left.refused()), (vec![5, 0, 5], vec![1]));
    let why = left.slots.stopped().unwrap();
    for part in [
        "partition 1 of topic orders stands still at offset 0",
        "the row of offset 3 exists already",
        "restart pipelines/orders/source",
    ] {
        assert!(why.contains(part), "{why}");
    }
    assert_eq!((left.sink.restarts, left.attempts.len()), (0, 1), "nothing is tried again");
    assert_eq!(left.slots.lost(), None, "nor assigned again");
    assert!(left.slots.get(1).unwrap().is_revoked() && !left.slots.get(0).unwrap().is_revoked());
}

#[test]
fn outputs_behind_a_refused_one_leave_its_reason_as_it_is() {
    let left = on_a_system(
        &[1, 1, 0],
        &[|| Ok(vec![Outcome::Refused("first".into()), Outcome::Refused("second".into()), Outcome::Committed])],
    );
    let why = left.slots.stopped().unwrap();
    assert!(why.contains("first") && !why.contains("second"), "{why}");
    assert_eq!(left.committed(), [5, 0]);
}

#[test]
fn a_protocol_fault_of_the_whole_transaction_stops_its_partitions_instead_of_looping() {
    let left = on_a_system(&[0, 1], &[|| Err(StoreError::Protocol("no such table".to_owned()))]);
    assert_eq!((left.refused(), left.attempts.len(), left.sink.restarts), (vec![0, 1], 1, 0));
}

#[test]
fn storage_that_is_unavailable_is_asked_again_and_stops_nothing() {
    let left = on_a_system(
        &[0],
        &[
            || Err(StoreError::Unavailable("busy".to_owned())),
            || Err(StoreError::Unavailable("busy".to_owned())),
            || Ok(vec![Outcome::Committed]),
        ],
    );
    assert_eq!((left.committed(), left.refused(), left.attempts.len()), (vec![5], vec![], 3));
}

#[test]
fn rows_that_became_dead_letters_on_the_way_are_counted_as_dead() {
    let left = on_a_system(&[0], &[|| Ok(vec![Outcome::CommittedWithout(2)])]);
    let totals = left.slots.totals();
    let count = |total: &std::sync::atomic::AtomicU64| total.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((count(&totals.stored), count(&totals.dead), left.committed()), (3, 2, vec![5]));
}
