//! What gathering does with records that have no place, and with those that storage refuses.

use std::sync::atomic::AtomicUsize;

use parking_lot::Mutex;
use streamward_kit::{ChildPolicy, ChildSpec, ExitReason, Inbox, Runtime, SupervisorSpec};

use super::*;
use crate::{
    fakes::{Offsets, on_a_system},
    logs::tests::OneTopic,
    ports::Clock,
    source::{BatchLimits, SourceError},
};

/// A client that notes what it is told to pause and to resume.
#[derive(Default)]
pub(super) struct Valves(pub(super) Vec<String>);

impl LogClient for Valves {
    fn poll(&mut self, _: Duration, _: &mut dyn FnMut(Polled<'_>)) -> Result<(), SourceError> {
        Ok(())
    }

    fn pause(&mut self, partitions: &[i32]) {
        self.0.push(format!("pause {partitions:?}"));
    }

    fn resume(&mut self, partitions: &[i32]) {
        self.0.push(format!("resume {partitions:?}"));
    }

    fn commit(&mut self, _: &[(i32, i64)]) {}
}

/// A clock that stands still.
struct Fixed;

impl Clock for Fixed {
    fn now_ms(&self) -> i64 {
        9_000
    }
}

/// A client that has a record of partition 3, always; whose clock has timed it.
struct OneRecord {
    is_broker_time: bool,
}

/// The usual one.
const TIMED_BY_PRODUCER: OneRecord = OneRecord { is_broker_time: false };

impl LogClient for OneRecord {
    fn poll(&mut self, _: Duration, visit: &mut dyn FnMut(Polled<'_>)) -> Result<(), SourceError> {
        let is_broker_time = self.is_broker_time;
        let record =
            RecordView { offset: 0, log_timestamp_ms: 0, is_broker_time, key: None, value: None, headers: &|_| {} };
        visit(Polled::Record { partition: 3, record });
        Ok(())
    }

    fn pause(&mut self, _: &[i32]) {}

    fn resume(&mut self, _: &[i32]) {}

    fn commit(&mut self, _: &[(i32, i64)]) {}
}

pub(super) fn shared() -> Arc<SourceShared> {
    with_lanes(&[&Inbox::new("lane", 1)])
}

fn with_lanes(lanes: &[&Inbox<Work>]) -> Arc<SourceShared> {
    with_delay(lanes, Duration::from_millis(1))
}

/// A source whose batches of less than ten records wait that long.
pub(super) fn with_delay(lanes: &[&Inbox<Work>], max_delay: Duration) -> Arc<SourceShared> {
    Arc::new(SourceShared {
        topic: "orders".into(),
        slots: Arc::default(),
        logs: Arc::new(OneTopic::named("first")),
        clock: Arc::new(Fixed),
        limits: BatchLimits { max_records: 10, max_bytes: 1000, max_delay },
        lanes: lanes.iter().map(|lane| lane.outlet()).collect(),
        held_back: AtomicUsize::new(0),
    })
}

#[test]
fn records_of_a_partition_without_a_slot_end_the_incarnation() {
    let shared = shared();
    let reader = shared.slots.begin_reading();
    let failure = Gather::new(shared, reader).poll(&mut { TIMED_BY_PRODUCER }).unwrap_err();
    assert_eq!(failure.message, "partition 3 is read and not assigned: assign again");
}

#[test]
fn a_partition_that_storage_refuses_is_not_read_until_it_is_assigned_again() {
    let shared = shared();
    let reader = shared.slots.begin_reading();
    let slot = shared.slots.assign(reader, crate::slot::tests::start(3)).unwrap();
    let (mut gather, mut valves) = (Gather::new(shared.clone(), reader), Valves::default());
    slot.refuse("its row exists already".into());
    for _ in 0..2 {
        gather.rest(&mut valves);
    }
    gather.poll(&mut { TIMED_BY_PRODUCER }).unwrap();
    assert!(gather.open.is_empty(), "what the client had at hand is left out");
    assert_eq!(shared.slots.lost(), None, "that is no reason to assign it again");
    shared.slots.assign(reader, crate::slot::tests::start(3)).unwrap();
    assert_eq!(shared.slots.stopped(), None);
    gather.rest(&mut valves);
    assert_eq!(valves.0, ["pause [3]", "resume [3]"]);
}

#[test]
fn records_of_a_client_that_has_a_successor_end_its_incarnation() {
    let shared = shared();
    let late = shared.slots.begin_reading();
    let mut gather = Gather::new(shared.clone(), late);
    let newest = shared.slots.begin_reading();
    let slot = shared.slots.assign(newest, crate::slot::tests::start(3)).unwrap();
    let failure = gather.poll(&mut { TIMED_BY_PRODUCER }).unwrap_err();
    assert_eq!(failure.message, "partition 3 is read and not assigned: assign again");
    gather.mark_end(3);
    assert!(gather.open.is_empty() && !slot.is_caught_up());
}

#[test]
fn a_batch_with_times_of_producers_knows_when_it_was_read() {
    let shared = shared();
    let reader = shared.slots.begin_reading();
    shared.slots.assign(reader, crate::slot::tests::start(3)).unwrap();
    for (is_broker_time, read_at_ms) in [(true, None), (false, Some(9_000))] {
        let mut gather = Gather::new(shared.clone(), reader);
        gather.poll(&mut OneRecord { is_broker_time }).unwrap();
        assert_eq!(gather.open[&3].batch.read_at_ms, read_at_ms);
    }
}

#[test]
fn a_record_that_was_read_before_is_left_out_within_a_batch_and_behind_one() {
    let shared = shared();
    let reader = shared.slots.begin_reading();
    let slot = shared.slots.assign(reader, crate::slot::tests::start(3)).unwrap();
    let gathered = |offsets: &[i64]| {
        let (mut gather, mut client) =
            (Gather::new(shared.clone(), reader), Offsets(offsets.iter().copied().collect()));
        while !client.0.is_empty() {
            gather.poll(&mut client).unwrap();
        }
        let offsets = |open: &Open| open.batch.iter().map(|record| record.offset()).collect();
        gather.open.get(&3).map_or_else(Vec::new, offsets)
    };
    assert_eq!(gathered(&[0, 1, 1, 0, 4, 3, 5]), [0, 1, 4, 5]);
    slot.fetched(6, false);
    assert_eq!(gathered(&[4, 5, 6, 7]), [6, 7], "a lane has those below");
    assert_eq!(gathered(&[4, 5]), [0; 0]);
}

#[test]
fn the_end_of_a_log_is_reached_when_a_lane_has_the_last_batch() {
    let shared = shared();
    let reader = shared.slots.begin_reading();
    let slot = shared.slots.assign(reader, crate::slot::tests::start(3)).unwrap();
    let mut gather = Gather::new(shared, reader);
    gather.poll(&mut { TIMED_BY_PRODUCER }).unwrap();
    gather.mark_end(3);
    assert!(!slot.is_caught_up() && gather.open[&3].at_end, "a record waits in the making");
    gather.open.clear();
    gather.mark_end(3);
    assert!(slot.is_caught_up());
}

/// Runs what needs a scope on a thread under supervision.
pub(super) fn supervised(test: impl FnOnce(&Scope) + Send + 'static) {
    let test = Mutex::new(Some(test));
    let exit = on_a_system(async {
        let thread = ChildSpec::thread("source", "source", move |scope| {
            let test = test.lock().take().expect("it runs once");
            test(&scope);
            Ok(())
        });
        let runtime = Runtime::start(SupervisorSpec::new("root").child(thread.policy(ChildPolicy::temporary())));
        let runtime = runtime.expect("the ids are valid");
        let exit = || runtime.snapshot().find("source").and_then(|source| source.last_exit.clone());
        runtime.until(|| exit().is_some()).await;
        let exit = exit();
        runtime.shutdown(Vec::new()).await;
        exit
    });
    let exit = exit.expect("it has ended");
    assert_eq!(exit.reason, ExitReason::Normal, "{}", exit.message);
}

#[test]
fn a_partition_whose_lane_is_full_rests_until_there_is_room_and_loses_nothing() {
    supervised(|scope| {
        let lane: Inbox<Work> = Inbox::new("lane", 1);
        let shared = with_lanes(&[&lane]);
        let reader = shared.slots.begin_reading();
        let slot = shared.slots.assign(reader, crate::slot::tests::start(3)).unwrap();
        let (mut gather, mut valves) = (Gather::new(shared.clone(), reader), Valves::default());
        let mut gives = |gather: &mut Gather, offsets: &[i64]| {
            let mut client = Offsets(offsets.iter().copied().collect());
            while !client.0.is_empty() {
                gather.poll(&mut client).unwrap();
            }
            gather.mark_end(3);
            gather.hand_over(scope, &mut valves);
            (std::mem::take(&mut valves.0), shared.held_back.load(Ordering::Relaxed), slot.next_fetch())
        };
        let taken = || {
            let work = lane.try_recv(scope).unwrap();
            work.commit();
            (work.start, work.end, work.batch.iter().map(|record| record.offset()).collect::<Vec<_>>())
        };
        assert_eq!(gives(&mut gather, &[0, 1]), (vec![], 0, 2));
        assert_eq!(gives(&mut gather, &[2, 3]), (vec!["pause [3]".to_owned()], 1, 2));
        assert_eq!(gives(&mut gather, &[]), (vec![], 1, 2), "it rests already");
        assert_eq!(taken(), (0, 2, vec![0, 1]));
        assert_eq!(gives(&mut gather, &[]), (vec!["resume [3]".to_owned()], 0, 4));
        assert_eq!(taken(), (2, 4, vec![2, 3]));
    });
}

#[test]
fn a_batch_of_a_partition_that_was_revoked_meanwhile_goes_to_no_lane() {
    supervised(|scope| {
        let lane: Inbox<Work> = Inbox::new("lane", 1);
        let shared = with_lanes(&[&lane]);
        let reader = shared.slots.begin_reading();
        let slot = shared.slots.assign(reader, crate::slot::tests::start(3)).unwrap();
        let mut gather = Gather::new(shared, reader);
        gather.poll(&mut { TIMED_BY_PRODUCER }).unwrap();
        gather.mark_end(3);
        slot.revoke();
        gather.hand_over(scope, &mut Valves::default());
        assert_eq!((lane.figures().accepted, slot.next_fetch(), gather.open.len()), (0, 0, 0));
    });
}

#[test]
fn a_batch_that_a_panic_has_spoilt_is_dropped_and_its_partition_flows_again() {
    let shared = shared();
    let reader = shared.slots.begin_reading();
    shared.slots.assign(reader, crate::slot::tests::start(3)).unwrap();
    let mut gather = Gather::new(shared, reader);
    gather.poll(&mut { TIMED_BY_PRODUCER }).unwrap();
    assert_eq!((gather.resume(), gather.open.len()), (None, 1), "it was not touched then");
    gather.blocked.insert(3);
    gather.touched = Some(3);
    assert_eq!(gather.resume(), Some(3));
    assert!(gather.open.is_empty() && gather.blocked.is_empty() && gather.resume().is_none());
}

#[test]
fn a_partition_that_waits_for_room_in_its_lane_does_not_flow_because_storage_takes_it_again() {
    let shared = shared();
    let reader = shared.slots.begin_reading();
    let slot = shared.slots.assign(reader, crate::slot::tests::start(3)).unwrap();
    let (mut gather, mut valves) = (Gather::new(shared.clone(), reader), Valves::default());
    gather.blocked.insert(3);
    slot.refuse("its row exists already".into());
    gather.rest(&mut valves);
    shared.slots.assign(reader, crate::slot::tests::start(3)).unwrap();
    gather.rest(&mut valves);
    assert_eq!(valves.0, ["pause [3]"]);
}

#[test]
fn a_record_of_a_new_assignment_is_not_added_to_a_batch_of_the_one_before() {
    let shared = shared();
    let reader = shared.slots.begin_reading();
    shared.slots.assign(reader, crate::slot::tests::start(3)).unwrap();
    let mut gather = Gather::new(shared.clone(), reader);
    gather.poll(&mut { TIMED_BY_PRODUCER }).unwrap();
    let slot = shared.slots.assign(reader, crate::slot::tests::start(3)).unwrap();
    gather.poll(&mut { TIMED_BY_PRODUCER }).unwrap();
    let open = &gather.open[&3];
    assert!(Arc::ptr_eq(&open.slot, &slot), "a batch of a revoked assignment goes to no lane");
    assert_eq!(open.batch.len(), 1);
}

#[test]
fn a_record_behind_the_end_of_a_log_says_that_it_goes_on() {
    let shared = shared();
    let reader = shared.slots.begin_reading();
    shared.slots.assign(reader, crate::slot::tests::start(3)).unwrap();
    let mut gather = Gather::new(shared, reader);
    gather.poll(&mut Offsets([0].into())).unwrap();
    gather.mark_end(3);
    assert!(gather.open[&3].at_end);
    gather.poll(&mut Offsets([1].into())).unwrap();
    assert_eq!((gather.open[&3].at_end, gather.open[&3].batch.len()), (false, 2));
}

#[test]
fn a_batch_that_waits_for_room_in_its_lane_does_not_make_the_client_spin() {
    let shared = shared();
    let reader = shared.slots.begin_reading();
    shared.slots.assign(reader, crate::slot::tests::start(3)).unwrap();
    let mut gather = Gather::new(shared, reader);
    gather.poll(&mut { TIMED_BY_PRODUCER }).unwrap();
    assert!(gather.time_left() <= FIRST_DELAY, "it is due soon");
    gather.blocked.insert(3);
    assert_eq!(gather.time_left(), POLL_TIMEOUT);
}

/// A client that has records of 600 bytes of partition 3; the next offset.
struct Large(i64);

impl LogClient for Large {
    fn poll(&mut self, _: Duration, visit: &mut dyn FnMut(Polled<'_>)) -> Result<(), SourceError> {
        let (offset, value) = (self.0, Some(&[0; 600][..]));
        self.0 += 1;
        let record =
            RecordView { offset, log_timestamp_ms: 0, is_broker_time: true, key: None, value, headers: &|_| {} };
        visit(Polled::Record { partition: 3, record });
        Ok(())
    }

    fn pause(&mut self, _: &[i32]) {}

    fn resume(&mut self, _: &[i32]) {}

    fn commit(&mut self, _: &[(i32, i64)]) {}
}

#[test]
fn a_batch_is_full_at_its_limit_of_bytes_however_few_its_records() {
    let shared = shared();
    let reader = shared.slots.begin_reading();
    shared.slots.assign(reader, crate::slot::tests::start(3)).unwrap();
    let (mut gather, mut client) = (Gather::new(shared, reader), Large(0));
    gather.poll(&mut client).unwrap();
    assert_eq!((gather.open[&3].batch.len(), client.0), (2, 2));
}

#[test]
fn the_number_of_a_partition_says_which_lane_gets_its_records() {
    supervised(|scope| {
        let lanes: [Inbox<Work>; 2] = ["even", "odd"].map(|name| Inbox::new(name, 1));
        let shared = with_lanes(&[&lanes[0], &lanes[1]]);
        let reader = shared.slots.begin_reading();
        shared.slots.assign(reader, crate::slot::tests::start(3)).unwrap();
        let mut gather = Gather::new(shared, reader);
        gather.poll(&mut { TIMED_BY_PRODUCER }).unwrap();
        gather.mark_end(3);
        gather.hand_over(scope, &mut Valves::default());
        assert_eq!(lanes.map(|lane| lane.figures().accepted), [0, 1]);
    });
}

/// A record of a broker's time.
pub(super) fn record(offset: i64) -> RecordView<'static> {
    RecordView { offset, log_timestamp_ms: 0, is_broker_time: true, key: None, value: None, headers: &|_| {} }
}

#[test]
fn after_the_first_batch_a_small_one_waits_and_a_full_one_does_not() {
    supervised(|scope| {
        let lane: Inbox<Work> = Inbox::new("lane", 4);
        let shared = with_delay(&[&lane], Duration::from_secs(3_600));
        let reader = shared.slots.begin_reading();
        shared.slots.assign(reader, crate::slot::tests::start(3)).unwrap();
        let mut gather = Gather::new(shared, reader);
        let hands_over = |gather: &mut Gather| {
            gather.hand_over(scope, &mut Valves::default());
            lane.figures().accepted
        };
        gather.push(3, &record(0));
        gather.mark_end(3);
        assert_eq!(hands_over(&mut gather), 1);
        gather.push(3, &record(1));
        assert!(gather.time_left() > FIRST_DELAY, "{:?}", gather.time_left());
        assert_eq!(hands_over(&mut gather), 1, "nine more have room");
        for offset in 2..11 {
            assert_eq!(gather.push(3, &record(offset)), offset == 10);
        }
        assert_eq!(hands_over(&mut gather), 2);
    });
}

#[test]
fn a_partition_whose_lane_has_room_again_does_not_flow_while_storage_refuses_it() {
    supervised(|scope| {
        let lane: Inbox<Work> = Inbox::new("lane", 1);
        let shared = with_lanes(&[&lane]);
        let reader = shared.slots.begin_reading();
        let slot = shared.slots.assign(reader, crate::slot::tests::start(3)).unwrap();
        let (mut gather, mut valves) = (Gather::new(shared, reader), Valves::default());
        for offset in 0..2 {
            gather.push(3, &record(offset));
            gather.mark_end(3);
            gather.hand_over(scope, &mut valves);
        }
        assert_eq!(std::mem::take(&mut valves.0), ["pause [3]"]);
        slot.refuse("its row exists already".into());
        gather.rest(&mut valves);
        gather.hand_over(scope, &mut valves);
        assert_eq!((valves.0, gather.blocked.len(), gather.open.len()), (vec!["pause [3]".to_owned()], 0, 0));
    });
}

#[test]
fn a_panic_in_the_middle_of_a_record_has_spoilt_the_batch() {
    let shared = shared();
    let reader = shared.slots.begin_reading();
    shared.slots.assign(reader, crate::slot::tests::start(3)).unwrap();
    let mut gather = Gather::new(shared, reader);
    gather.delay = Duration::from_secs(3_600);
    gather.push(3, &record(0));
    let panics = RecordView { headers: &|_| panic!("a header that nobody can read"), ..record(1) };
    let pushed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| gather.push(3, &panics)));
    assert!(pushed.is_err());
    assert_eq!((gather.resume(), gather.open.len()), (Some(3), 0));
    gather.push(3, &record(0));
    assert!(gather.time_left() <= FIRST_DELAY, "it has waited long enough");
}
