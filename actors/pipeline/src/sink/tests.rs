//! A sink whose storage refuses outputs, and one that ends between two steps: what becomes of the partitions.

use streamward_core::batch::RawBatch;
use streamward_kit::{
    ActorPath, Capacity, ChildPolicy, ChildSpec, Command, Fault, FaultKind, Placement, Runtime, SupervisorSpec,
    TreeNode,
};

use super::*;
use crate::{
    fakes::{self, Answer, Storage},
    lane,
    slot::{self, Reader, Slots},
};

/// How long a small transaction waits for more rows: longer than any test.
pub(super) const MAX_DELAY: Duration = Duration::from_secs(3_600);

/// What a sink has left when its inbox is empty.
pub(super) struct Left {
    pub(super) slots: Slots,
    pub(super) sink: TreeNode,
    pub(super) attempts: Vec<Vec<i32>>,
}

impl Left {
    pub(super) fn committed(&self) -> Vec<i64> {
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
    let pending =
        Pending { key, epoch: slot.epoch, log: slot.log, output, beside: Vec::new(), raw: Some(Arc::new(batch)) };
    Arc::new(Store { slot: slot.clone(), pending: Arc::new(pending) })
}

/// A supervised sink, and what it works with.
pub(super) struct Rig {
    pub(super) slots: Slots,
    reader: Reader,
    pub(super) inbox: Inbox<Arc<Store>>,
    pub(super) store: Arc<Storage>,
    pub(super) observer: Option<Arc<dyn CommitObserver>>,
}

impl Rig {
    pub(super) fn new(answers: &[fn() -> Answer]) -> Self {
        let inbox: Inbox<Arc<Store>> = Inbox::weighted("outputs", Capacity { items: 64, weight: usize::MAX }, |_| 1);
        let store = Arc::new(Storage { answers: answers.to_vec(), ..Storage::default() });
        let slots = Slots::default();
        let reader = slots.begin_reading();
        Self { slots, reader, inbox, store, observer: None }
    }

    /// Puts outputs of five records of these partitions into the inbox.
    pub(super) fn send(&self, partitions: &[i32]) {
        for partition in partitions {
            let known = self.slots.get(*partition);
            let slot = known.or_else(|| self.slots.assign(self.reader, slot::tests::start(*partition)));
            self.inbox.outlet().try_send(store(&slot.unwrap(), 5)).unwrap_or_else(|_| panic!("no room"));
        }
    }

    /// Starts the sink; it waits for `max_rows` rows before it commits.
    pub(super) fn start(&self, max_rows: usize) -> Runtime {
        self.start_with(max_rows, 10_000)
    }

    /// The same; it takes no more than `max_rows_busy` and one output.
    fn start_with(&self, max_rows: usize, max_rows_busy: usize) -> Runtime {
        let sink = self.sink(max_rows, max_rows_busy).placement(Placement::pool("sinks"));
        Runtime::start(SupervisorSpec::new("root").child(sink)).unwrap()
    }

    pub(super) fn sink(&self, max_rows: usize, max_rows_busy: usize) -> ChildSpec {
        let limits = CommitLimits { max_rows, max_rows_busy, max_delay: MAX_DELAY };
        let (inbox, store, observer) = (self.inbox.clone(), self.store.clone(), self.observer.clone());
        let shared = Arc::new(SinkShared { inbox, store, limits, observer });
        ChildSpec::role("sink", "sink", move |scope| run(scope, shared.clone()))
            .inbox(&self.inbox)
            .policy(ChildPolicy::permanent())
    }

    /// What is left once the inbox is empty.
    pub(super) async fn finish(self, runtime: Runtime) -> Left {
        self.inbox.drained().await;
        let sink = runtime.snapshot().find("sink").unwrap().clone();
        runtime.shutdown(Vec::new()).await;
        let attempts = self.store.attempts.lock().clone();
        Left { slots: self.slots, sink, attempts }
    }
}

/// Lets a supervised sink store outputs of five records of these partitions, all in one transaction.
fn stored(partitions: &[i32], answers: &[fn() -> Answer]) -> Left {
    fakes::on_a_system(async {
        let rig = Rig::new(answers);
        rig.send(partitions);
        let runtime = rig.start(1);
        rig.finish(runtime).await
    })
}

#[test]
fn an_output_that_is_refused_stops_its_partition_and_no_other() {
    let left = stored(
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
    let left = stored(
        &[1, 1, 0],
        &[|| Ok(vec![Outcome::Refused("first".into()), Outcome::Refused("second".into()), Outcome::Committed])],
    );
    let why = left.slots.stopped().unwrap();
    assert!(why.contains("first") && !why.contains("second"), "{why}");
    assert_eq!(left.committed(), [5, 0]);
}

#[test]
fn a_protocol_fault_of_the_whole_transaction_stops_its_partitions_instead_of_looping() {
    let left = stored(&[0, 1], &[|| Err(StoreError::Protocol("no such table".to_owned()))]);
    assert_eq!((left.refused(), left.attempts.len(), left.sink.restarts), (vec![0, 1], 1, 0));
}

#[test]
fn storage_that_is_unavailable_is_asked_again_and_stops_nothing() {
    let left = stored(
        &[0],
        &[
            || Err(StoreError::Unavailable("busy".to_owned())),
            || Err(StoreError::Unavailable("busy".to_owned())),
            || Ok(vec![Outcome::Committed]),
        ],
    );
    assert_eq!((left.committed(), left.refused(), left.attempts.len()), (vec![5], vec![], 3));
    assert_eq!((left.sink.note, left.sink.restarts), (None, 0), "nothing is wrong any more");
}

#[test]
fn rows_that_became_dead_letters_on_the_way_are_counted_as_dead() {
    let left = stored(&[0], &[|| Ok(vec![Outcome::CommittedWithout(2)])]);
    let totals = left.slots.totals();
    let count = |total: &std::sync::atomic::AtomicU64| total.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((count(&totals.stored), count(&totals.dead), left.committed()), (3, 2, vec![5]));
    assert_eq!(left.sink.processed, 5, "all of them are done");
}

#[test]
fn an_output_whose_partition_has_another_owner_ends_the_assignment_and_no_other() {
    let left = stored(&[0, 1], &[|| Ok(vec![Outcome::Stale, Outcome::Committed])]);
    assert_eq!((left.committed(), left.refused()), (vec![0, 5], vec![]));
    assert_eq!(left.slots.lost(), Some(0), "its source assigns it again");
    assert!(left.slots.get(0).unwrap().is_revoked() && !left.slots.get(1).unwrap().is_revoked());
    assert_eq!((left.sink.restarts, left.attempts.len()), (0, 1));
}

#[test]
fn outputs_stay_in_the_inbox_until_they_are_stored() {
    let ends = || panic!("the first attempt ends the sink");
    let left = stored(&[0, 1], &[ends, || Ok(vec![Outcome::Committed, Outcome::Committed])]);
    assert_eq!((left.attempts, left.sink.restarts), (vec![vec![0, 1], vec![0, 1]], 1));
    assert_eq!(left.slots.all().iter().map(|slot| slot.committed()).collect::<Vec<_>>(), [5, 5]);
}

#[test]
fn an_output_whose_commit_the_lost_incarnation_did_not_settle_is_settled_by_the_next() {
    let answers: [fn() -> Answer; 2] = [|| Ok(vec![Outcome::Committed]), || Ok(vec![Outcome::AlreadyCommitted])];
    let left = fakes::on_a_system(async {
        let rig = Rig::new(&answers);
        let runtime = rig.start(1);
        let fault = Fault { kind: FaultKind::Panic, times: 1, point: Some("after_commit".to_owned()) };
        runtime.command(&ActorPath::parse("sink").unwrap(), Command::Inject(fault)).await.unwrap();
        rig.send(&[0]);
        rig.finish(runtime).await
    });
    assert_eq!((left.committed(), left.attempts.len(), left.sink.restarts), (vec![5], 2, 1));
    let stored = left.slots.totals().stored.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(stored, 5, "counted once");
}

#[test]
fn an_output_that_was_taken_back_meanwhile_is_not_stored_by_whoever_had_it() {
    let left = fakes::on_a_system(async {
        let rig = Rig::new(&[|| Ok(vec![Outcome::Committed, Outcome::Committed])]);
        let runtime = rig.start(10);
        rig.send(&[0]);
        while rig.inbox.figures().in_hand == 0 {
            tokio::task::yield_now().await;
        }
        // It goes back to the inbox, and comes again as the second of the same transaction.
        assert_eq!(rig.inbox.rewind(), 1);
        while rig.inbox.figures().returned < 2 && rig.store.attempts.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(*rig.store.attempts.lock(), [[0; 0]; 0], "it is left out, and so is all that came with it");
        rig.send(&[1]);
        rig.finish(runtime).await
    });
    assert_eq!((left.attempts, left.sink.restarts), (vec![vec![0, 1]], 0));
}

#[test]
fn a_transaction_takes_what_is_there_up_to_its_limit() {
    let stored = |max_rows_busy| {
        fakes::on_a_system(async {
            let rig = Rig::new(&[|| Ok(vec![Outcome::Committed; 5])]);
            rig.send(&[0, 1, 2, 3, 4]);
            let runtime = rig.start_with(1, max_rows_busy);
            rig.finish(runtime).await.attempts
        })
    };
    assert_eq!(stored(10_000), [[0, 1, 2, 3, 4]]);
    assert_eq!(stored(10), [vec![0, 1], vec![2, 3], vec![4]]);
    assert_eq!(stored(11), [vec![0, 1, 2], vec![3, 4]]);
}

#[test]
fn a_transaction_of_as_many_rows_as_it_is_worth_waits_for_no_more() {
    let left = fakes::on_a_system(async {
        let rig = Rig::new(&[|| Ok(vec![Outcome::Committed; 2])]);
        rig.send(&[0, 1]);
        let runtime = rig.start(10);
        rig.finish(runtime).await
    });
    assert_eq!((left.attempts, left.sink.processed), (vec![vec![0, 1]], 10), "the rows are its progress");
}

#[test]
fn a_sink_whose_storage_is_unavailable_ends_when_it_must_and_its_outputs_stay() {
    let (exit, figures) = fakes::on_a_system(async {
        let rig = Rig::new(&[|| Err(StoreError::Unavailable("busy".to_owned()))]);
        let runtime = rig.start(1);
        rig.send(&[0]);
        while rig.store.attempts.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        runtime.shutdown(Vec::new()).await;
        (runtime.snapshot().find("sink").unwrap().last_exit.clone().unwrap(), rig.inbox.figures())
    });
    assert_eq!(exit.message, "stopped while storage is unavailable: busy");
    assert_eq!((figures.committed, figures.depth + figures.in_hand), (0, 1));
}

#[test]
fn a_small_transaction_waits_for_more_from_when_its_first_output_was_sent() {
    let waited = |sent_before: Duration| {
        fakes::in_virtual_time(async {
            let rig = Rig::new(&[|| Ok(vec![Outcome::Committed])]);
            rig.send(&[0]);
            tokio::time::advance(sent_before).await;
            let since = tokio::time::Instant::now();
            let runtime = Runtime::start(SupervisorSpec::new("root").child(rig.sink(10, 10_000))).unwrap();
            rig.inbox.drained().await;
            let waited = since.elapsed();
            runtime.shutdown(Vec::new()).await;
            waited.as_secs()
        })
    };
    assert_eq!([waited(Duration::ZERO), waited(MAX_DELAY / 2), waited(MAX_DELAY)], [3_600, 1_800, 0]);
}

#[test]
fn outputs_that_come_now_and_then_are_stored_at_once_and_of_others_a_transaction_follows_the_one_before() {
    let waited = fakes::in_virtual_time(async {
        let rig = Rig::new(&[|| Ok(vec![Outcome::Committed])]);
        let runtime = Runtime::start(SupervisorSpec::new("root").child(rig.sink(10, 10_000))).unwrap();
        let mut waited = Vec::new();
        for (partition, pause) in [(0, Duration::ZERO), (1, MAX_DELAY * 2), (2, MAX_DELAY / 4)] {
            tokio::time::sleep(pause).await;
            rig.send(&[partition]);
            let since = tokio::time::Instant::now();
            rig.inbox.drained().await;
            waited.push(since.elapsed());
        }
        runtime.shutdown(Vec::new()).await;
        waited
    });
    assert_eq!(waited.iter().map(Duration::as_secs).collect::<Vec<_>>(), [3_600, 0, 2_700]);
    assert!(waited[1] >= FEW, "what comes with it has time: {waited:?}");
}

#[test]
fn storage_that_stays_unavailable_is_asked_at_waits_that_grow() {
    let busy = || Err(StoreError::Unavailable("busy".to_owned()));
    let waited = fakes::in_virtual_time(async {
        let rig = Rig::new(&[busy, busy, busy, || Ok(vec![Outcome::Committed])]);
        rig.send(&[0]);
        let since = tokio::time::Instant::now();
        let runtime = Runtime::start(SupervisorSpec::new("root").child(rig.sink(1, 10_000))).unwrap();
        rig.inbox.drained().await;
        let waited = since.elapsed();
        runtime.shutdown(Vec::new()).await;
        waited
    });
    assert_eq!(waited.as_millis() / RETRY_FIRST.as_millis(), 1 + 2 + 4, "{waited:?}");
}
