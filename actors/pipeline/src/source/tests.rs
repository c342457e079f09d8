//! When a source ends by itself.

use std::collections::VecDeque;

use parking_lot::Mutex;
use streamward_core::output::Output;
use streamward_kit::{
    ActorPath, ChildPolicy, ChildSpec, Command, ExitReport, Fault, FaultKind, Inbox, Runtime, SupervisorSpec,
};
use tokio::sync::watch;

use super::*;
use crate::{
    fakes::{Offsets, on_a_system},
    lane::tests::{Fixed, plan},
    logs::tests::OneTopic,
    slot::{self, PartitionSlot, Reader},
};

/// What a source of orders needs that feeds one lane.
fn shared(lane: &Inbox<Work>, logs: &Arc<OneTopic>) -> Arc<SourceShared> {
    Arc::new(SourceShared {
        topic: "orders".into(),
        slots: Arc::default(),
        logs: logs.clone(),
        clock: Arc::new(Fixed),
        limits: BatchLimits { max_records: 10, max_bytes: 1000, max_delay: Duration::from_millis(1) },
        lanes: vec![lane.outlet()],
        held_back: AtomicUsize::new(0),
    })
}

/// How a source of partition 3 ended, whose client has nothing to give. `begin` changes its slot or its topic first.
fn ended(begin: impl Fn(&PartitionSlot, &OneTopic)) -> (Option<Ended>, Option<ExitReport>) {
    let (lane, logs) = (Inbox::new("lane", 1), Arc::new(OneTopic::named("first")));
    let shared = shared(&lane, &logs);
    let reader = shared.slots.begin_reading();
    let slot = shared.slots.assign(reader, slot::tests::start(3)).unwrap();
    shared.slots.reads(reader, &slot.identity);
    begin(&slot, &logs);
    let ended = Arc::new(Mutex::new(None));
    let told = ended.clone();
    let exit = on_a_system(async {
        let source = ChildSpec::thread("source", "source", move |scope| {
            let mut gather = Gather::new(shared.clone(), reader);
            *told.lock() = Some(run(&scope, &mut gather, &mut Offsets(VecDeque::new()))?);
            Ok(())
        });
        let source = source.policy(ChildPolicy::temporary());
        let runtime = Runtime::start(SupervisorSpec::new("root").child(source)).unwrap();
        runtime.until(|| runtime.snapshot().find("source").is_some_and(|source| source.last_exit.is_some())).await;
        let exit = runtime.snapshot().find("source").unwrap().last_exit.clone();
        runtime.shutdown(Vec::new()).await;
        exit
    });
    (ended.lock().take(), exit)
}

#[test]
fn a_partition_that_another_owner_has_taken_over_ends_the_source_so_that_it_is_assigned_again() {
    let (ended, exit) = ended(|slot, _| slot.revoke());
    assert_eq!(ended, None);
    assert_eq!(exit.unwrap().message, "another owner has taken partition 3 over: assign again");
}

#[test]
fn a_topic_that_was_made_anew_ends_the_source_without_a_failure() {
    let (ended, exit) = ended(|_, logs| *logs.0.lock() = OneTopic::named("second").0.into_inner());
    assert_eq!((ended, exit.unwrap().message.as_str()), (Some(Ended::OtherLog), ""));
}

#[test]
fn a_source_that_stands_still_for_a_good_reason_is_not_behind() {
    let shared = shared(&Inbox::new("lane", 1), &Arc::new(OneTopic::named("first")));
    let slot = shared.slots.assign(shared.slots.begin_reading(), slot::tests::start(3)).unwrap();
    let progress = || shared.progress(|_| Some(9)).map(|progress| (progress.done, progress.pending));
    slot.fetched(4, false);
    assert_eq!(progress(), Some((4, 5)));
    shared.held_back.store(1, Ordering::Relaxed);
    assert_eq!(progress(), None, "a lane is full");
    shared.held_back.store(0, Ordering::Relaxed);
    assert_eq!(progress(), Some((4, 5)));
    slot.refuse("its row exists already".into());
    assert_eq!(progress(), None, "storage takes nothing");
}

#[test]
fn a_source_whose_log_has_no_known_end_or_a_lower_one_is_not_behind() {
    let shared = shared(&Inbox::new("lane", 1), &Arc::new(OneTopic::named("first")));
    let slot = shared.slots.assign(shared.slots.begin_reading(), slot::tests::start(3)).unwrap();
    slot.fetched(4, false);
    let pending = |end| shared.progress(|_| end).map(|progress| progress.pending);
    assert_eq!([pending(None), pending(Some(2)), pending(Some(4))], [Some(0); 3]);
}

#[test]
fn a_source_whose_client_fails_ends_with_what_the_client_says() {
    let shared = shared(&Inbox::new("lane", 1), &Arc::new(OneTopic::named("first")));
    let reader = shared.slots.begin_reading();
    let client = Listener { fails: true, ..Listener::default() };
    let why = on_a_system(async {
        let runtime = listens(&client, shared, reader);
        let exit = || runtime.snapshot().find("source").and_then(|source| source.last_exit.clone());
        runtime.until(|| exit().is_some()).await;
        let why = exit().unwrap().message;
        runtime.shutdown(Vec::new()).await;
        why
    });
    assert_eq!(why, "the broker is gone");
}

/// A client with nothing to give that counts polls, and notes how often and what the group was told.
#[derive(Clone, Default)]
struct Listener {
    fails: bool,
    polls: Arc<AtomicUsize>,
    /// How often the group was told.
    times: Arc<AtomicUsize>,
    told: watch::Sender<Vec<(i32, i64)>>,
    /// Partitions that it is to read no more.
    paused: watch::Sender<Vec<i32>>,
}

impl LogClient for Listener {
    fn poll(&mut self, _: Duration, visit: &mut dyn FnMut(Polled<'_>)) -> Result<(), SourceError> {
        self.polls.fetch_add(1, Ordering::AcqRel);
        if self.fails {
            return Err(SourceError::Client("the broker is gone".to_owned()));
        }
        visit(Polled::Nothing);
        Ok(())
    }

    fn pause(&mut self, partitions: &[i32]) {
        self.paused.send_replace(partitions.to_vec());
    }

    fn resume(&mut self, _: &[i32]) {}

    fn commit(&mut self, positions: &[(i32, i64)]) {
        self.times.fetch_add(1, Ordering::AcqRel);
        self.told.send_replace(positions.to_vec());
    }
}

/// A supervised source of this client.
fn listens(client: &Listener, shared: Arc<SourceShared>, reader: Reader) -> Runtime {
    let client = client.clone();
    let source = ChildSpec::thread("source", "source", move |scope| {
        run(&scope, &mut Gather::new(shared.clone(), reader), &mut client.clone()).map(drop)
    });
    Runtime::start(SupervisorSpec::new("root").child(source)).unwrap()
}

#[test]
fn a_source_that_stops_tells_the_group_how_far_its_partitions_are_stored() {
    let shared = shared(&Inbox::new("lane", 1), &Arc::new(OneTopic::named("first")));
    let reader = shared.slots.begin_reading();
    let slot = shared.slots.assign(reader, slot::tests::start(3)).unwrap();
    slot.commit(&Output::empty("orders".into(), 3, 5, plan().schema().arrow.clone()), 0);
    let client = Listener::default();
    on_a_system(async {
        let runtime = listens(&client, shared, reader);
        while client.polls.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        runtime.shutdown(Vec::new()).await;
    });
    assert_eq!(*client.told.borrow(), [(3, 5)]);
}

#[test]
fn a_source_that_is_held_reads_nothing_more_before_it_ends() {
    let shared = shared(&Inbox::new("lane", 1), &Arc::new(OneTopic::named("first")));
    let reader = shared.slots.begin_reading();
    let client = Listener::default();
    let polls = || client.polls.load(Ordering::Acquire);
    let before = on_a_system(async {
        let runtime = listens(&client, shared, reader);
        runtime.command(&ActorPath::parse("source").unwrap(), Command::Pause).await.unwrap();
        let waits_for = || runtime.snapshot().find("source").and_then(|source| source.waiting_on.clone());
        while waits_for().is_none_or(|waiting| waiting.on != "resume") {
            tokio::task::yield_now().await;
        }
        let before = polls();
        runtime.shutdown(Vec::new()).await;
        before
    });
    assert_eq!(polls(), before);
}

#[test]
fn a_source_that_runs_tells_the_group_how_far_its_partitions_are_stored() {
    let shared = shared(&Inbox::new("lane", 1), &Arc::new(OneTopic::named("first")));
    let reader = shared.slots.begin_reading();
    let slot = shared.slots.assign(reader, slot::tests::start(3)).unwrap();
    slot.commit(&Output::empty("orders".into(), 3, 5, plan().schema().arrow.clone()), 0);
    let client = Listener::default();
    on_a_system(async {
        let runtime = listens(&client, shared, reader);
        let told = client.told.subscribe().wait_for(|told| !told.is_empty()).await.unwrap().clone();
        assert_eq!(told, [(3, 5)]);
        runtime.shutdown(Vec::new()).await;
    });
}

#[test]
fn a_fault_on_purpose_ends_the_source_before_it_polls() {
    let shared = shared(&Inbox::new("lane", 1), &Arc::new(OneTopic::named("first")));
    let reader = shared.slots.begin_reading();
    let why = on_a_system(async {
        let runtime = listens(&Listener::default(), shared, reader);
        let fault = Fault { kind: FaultKind::Error, times: 1, point: Some("poll".to_owned()) };
        runtime.command(&ActorPath::parse("source").unwrap(), Command::Inject(fault)).await.unwrap();
        let exit = || runtime.snapshot().find("source").and_then(|source| source.last_exit.clone());
        runtime.until(|| exit().is_some()).await;
        let why = exit().unwrap().message;
        runtime.shutdown(Vec::new()).await;
        why
    });
    assert_eq!(why, "injected error at poll");
}

#[test]
fn records_go_to_their_lane_as_they_come_and_count_as_progress() {
    let lane = Inbox::new("lane", 4);
    let shared = shared(&lane, &Arc::new(OneTopic::named("first")));
    let reader = shared.slots.begin_reading();
    let slot = shared.slots.assign(reader, slot::tests::start(3)).unwrap();
    on_a_system(async {
        let source = ChildSpec::thread("source", "source", move |scope| {
            run(&scope, &mut Gather::new(shared.clone(), reader), &mut Offsets([0, 1].into())).map(drop)
        });
        let runtime = Runtime::start(SupervisorSpec::new("root").child(source)).unwrap();
        while runtime.snapshot().find("source").is_none_or(|source| source.processed < 2) {
            tokio::task::yield_now().await;
        }
        runtime.shutdown(Vec::new()).await;
    });
    assert_eq!(slot.next_fetch(), 2);
    assert!(lane.figures().accepted > 0);
}

#[test]
fn the_group_is_told_of_positions_once_in_a_while_and_not_after_each_poll() {
    let shared = shared(&Inbox::new("lane", 1), &Arc::new(OneTopic::named("first")));
    let reader = shared.slots.begin_reading();
    shared.slots.assign(reader, slot::tests::start(3)).unwrap();
    let (client, since) = (Listener::default(), Instant::now());
    on_a_system(async {
        let runtime = listens(&client, shared, reader);
        while client.times.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        runtime.shutdown(Vec::new()).await;
    });
    let (times, polls) = (client.times.load(Ordering::Acquire), client.polls.load(Ordering::Acquire));
    let at_most = 1 + since.elapsed().as_secs();
    assert!(times as u64 <= at_most, "{times} of at most {at_most}, in {polls} polls");
}

#[test]
fn a_source_that_runs_reads_no_more_of_a_partition_that_storage_refuses_and_says_why() {
    let shared = shared(&Inbox::new("lane", 1), &Arc::new(OneTopic::named("first")));
    let reader = shared.slots.begin_reading();
    let slot = shared.slots.assign(reader, slot::tests::start(3)).unwrap();
    slot.refuse("its row exists already".into());
    let client = Listener::default();
    on_a_system(async {
        let runtime = listens(&client, shared, reader);
        let note = || runtime.snapshot().find("source").and_then(|source| source.note.clone());
        while note().is_none_or(|note| *note != *"its row exists already") {
            tokio::task::yield_now().await;
        }
        runtime.shutdown(Vec::new()).await;
    });
    assert_eq!(*client.paused.borrow(), [3]);
}
