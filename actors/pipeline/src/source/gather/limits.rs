//! When a batch is full, how long gathering waits, and what becomes of a batch whose client fails.

use std::panic::{AssertUnwindSafe, catch_unwind};

use streamward_kit::Inbox;

use super::{
    tests::{Valves, record, shared, supervised, with_delay},
    *,
};
use crate::{slot, source::SourceError};

/// A client that fails.
struct Broken;

impl LogClient for Broken {
    fn poll(&mut self, _: Duration, _: &mut dyn FnMut(Polled<'_>)) -> Result<(), SourceError> {
        Err(SourceError::Client("the broker is gone".to_owned()))
    }

    fn pause(&mut self, _: &[i32]) {
        panic!("a client with a bug");
    }

    fn resume(&mut self, _: &[i32]) {}

    fn commit(&mut self, _: &[(i32, i64)]) {}
}

#[test]
fn a_client_that_fails_ends_the_incarnation() {
    let shared = shared();
    let reader = shared.slots.begin_reading();
    let failure = Gather::new(shared, reader).poll(&mut Broken).unwrap_err();
    assert_eq!(failure.message, "the broker is gone");
}

#[test]
fn a_new_client_has_no_partition_that_waits_for_room() {
    let shared = shared();
    shared.held_back.store(2, Ordering::Relaxed);
    let reader = shared.slots.begin_reading();
    let _gather = Gather::new(shared.clone(), reader);
    assert_eq!(shared.held_back.load(Ordering::Relaxed), 0);
}

/// A client with one record of partition 3, which notes how long it may wait.
struct Patient(Vec<Duration>);

impl LogClient for Patient {
    fn poll(&mut self, timeout: Duration, visit: &mut dyn FnMut(Polled<'_>)) -> Result<(), SourceError> {
        self.0.push(timeout);
        visit(match self.0.len() {
            1 => Polled::Record { partition: 3, record: record(0) },
            _ => Polled::Nothing,
        });
        Ok(())
    }

    fn pause(&mut self, _: &[i32]) {}

    fn resume(&mut self, _: &[i32]) {}

    fn commit(&mut self, _: &[(i32, i64)]) {}
}

#[test]
fn only_the_first_record_is_waited_for_the_others_are_taken_if_they_are_there() {
    let shared = shared();
    let reader = shared.slots.begin_reading();
    shared.slots.assign(reader, slot::tests::start(3)).unwrap();
    let mut client = Patient(Vec::new());
    Gather::new(shared, reader).poll(&mut client).unwrap();
    assert_eq!(client.0[..2], [POLL_TIMEOUT, Duration::ZERO]);
}

#[test]
fn a_batch_of_exactly_its_limit_of_bytes_is_full_and_goes_to_its_lane() {
    supervised(|scope| {
        let lane: Inbox<Work> = Inbox::new("lane", 4);
        let shared = with_delay(&[&lane], Duration::from_secs(3_600));
        let reader = shared.slots.begin_reading();
        shared.slots.assign(reader, slot::tests::start(3)).unwrap();
        let mut gather = Gather::new(shared, reader);
        gather.delay = Duration::from_secs(3_600);
        let bytes = |offset, bytes: &'static [u8]| RecordView { value: Some(bytes), ..record(offset) };
        assert!(!gather.push(3, &bytes(0, &[0; 999])));
        gather.hand_over(scope, &mut Valves::default());
        assert_eq!(lane.figures().accepted, 0, "there is room for one more byte");
        assert!(gather.push(3, &bytes(1, &[0; 1])));
        gather.hand_over(scope, &mut Valves::default());
        assert_eq!(lane.figures().accepted, 1);
    });
}

#[test]
fn a_panic_while_a_batch_is_handed_over_has_spoilt_it_and_no_other_does() {
    supervised(|scope| {
        let lane: Inbox<Work> = Inbox::new("lane", 1);
        let shared = with_delay(&[&lane], Duration::ZERO);
        let reader = shared.slots.begin_reading();
        shared.slots.assign(reader, slot::tests::start(3)).unwrap();
        let mut gather = Gather::new(shared, reader);
        gather.delay = Duration::ZERO;
        gather.push(3, &record(0));
        gather.hand_over(scope, &mut Broken);
        assert_eq!((lane.figures().accepted, gather.touched), (1, None), "a lane has it");
        gather.push(3, &record(1));
        let handed_over = catch_unwind(AssertUnwindSafe(|| gather.hand_over(scope, &mut Broken)));
        assert!(handed_over.is_err(), "its client is to pause the partition");
        assert_eq!((gather.resume(), gather.open.len(), gather.blocked.len()), (Some(3), 0, 0));
    });
}

#[test]
fn the_oldest_batch_says_how_long_gathering_waits() {
    let shared = shared();
    let reader = shared.slots.begin_reading();
    let mut gather = Gather::new(shared.clone(), reader);
    gather.delay = Duration::from_nanos(1);
    for partition in [3, 4] {
        shared.slots.assign(reader, slot::tests::start(partition)).unwrap();
        gather.push(partition, &record(0));
    }
    for partition in [3, 4] {
        let since = gather.open[&partition].since;
        gather.open.get_mut(&partition).unwrap().since = since + Duration::from_secs(3_600);
        assert_eq!(gather.time_left(), Duration::ZERO, "the other one than {partition} is due");
        gather.open.get_mut(&partition).unwrap().since = since;
    }
}

#[test]
fn records_that_come_now_and_then_do_not_wait_and_of_others_a_batch_follows_the_one_before_after_the_delay() {
    let (shared, delay) = (shared(), Duration::from_millis(100));
    let reader = shared.slots.begin_reading();
    shared.slots.assign(reader, slot::tests::start(3)).unwrap();
    let mut gather = Gather::new(shared, reader);
    gather.delay = delay;
    gather.push(3, &record(0));
    let handed_at = gather.open[&3].since;
    let due_after = |gather: &mut Gather, age: Duration| {
        let since = handed_at + age;
        gather.open.get_mut(&3).unwrap().since = since;
        gather.due_at(3, &gather.open[&3]) - since
    };
    let alone = [Duration::ZERO, delay].map(|age| due_after(&mut gather, age));
    assert_eq!(alone, [delay; 2], "there is none before");
    gather.handed_at.insert(3, handed_at);
    let ages = [Duration::ZERO, delay * 3 / 4, delay - FIRST_DELAY / 2, delay, delay * 9];
    let due = ages.map(|age| due_after(&mut gather, age));
    assert_eq!(due, [delay, delay / 4, FIRST_DELAY, FIRST_DELAY, FIRST_DELAY]);
    gather.delay = FIRST_DELAY / 2;
    assert_eq!(gather.due_at(3, &gather.open[&3]) - gather.open[&3].since, gather.delay, "it is never older");
}

#[test]
fn a_partition_that_storage_takes_again_flows_again_also_beside_others() {
    let shared = shared();
    let reader = shared.slots.begin_reading();
    let [_, slot] = [4, 3].map(|partition| shared.slots.assign(reader, slot::tests::start(partition)).unwrap());
    let (mut gather, mut valves) = (Gather::new(shared.clone(), reader), Valves::default());
    slot.refuse("its row exists already".into());
    gather.rest(&mut valves);
    shared.slots.assign(reader, slot::tests::start(3)).unwrap();
    gather.rest(&mut valves);
    assert_eq!(valves.0, ["pause [3]", "resume [3]"]);
}
