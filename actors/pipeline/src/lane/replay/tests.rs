//! What a lane decides of records that it has processed before, or that an earlier process has.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use streamward_core::{
    encode::{encode_avro, push_frame},
    output::Output,
    partition::Decisions,
    schema::{Scalar, StreamSchema},
};
use streamward_kit::{ChildSpec, Inbox, Runtime, SupervisorSpec};

use super::*;
use crate::{
    fakes::on_a_system,
    lane::{
        self, LaneShared,
        tests::{SCHEMA, counts, shared, stage_of},
    },
    logs::tests::OneTopic,
    messages::{Store, Work},
    ports::SchemaSource,
    slot::{self, SlotStart, Slots},
    store::BoxFuture,
};

const AT_MS: i64 = 1_700_000_000_000;
/// Schema id of the third order.
const LATE_ID: u32 = 9;

/// An order in Avro.
fn in_avro(customer: i64, at_ms: i64) -> Vec<u8> {
    let mut value = Vec::new();
    push_frame(LATE_ID, &mut value);
    let row = [Scalar::Text(customer.to_string()), Scalar::Integer(at_ms)];
    encode_avro(&StreamSchema::parse(SCHEMA).unwrap(), &row, &mut value).unwrap();
    value
}

/// Six orders of customers 0 to 5, one of them in Avro, and one of a minute later.
fn seven_orders() -> RawBatch {
    let mut batch = RawBatch::with_capacity("orders".into(), 0, 1000);
    for offset in 0..7 {
        let at = AT_MS + offset / 6 * 60_000;
        let mut value = format!(r#"{{"id": "{offset}", "at": {at}}}"#).into_bytes();
        if offset == 2 {
            value = in_avro(offset, at);
        }
        batch.push(offset, at, None, Some(&value));
    }
    batch
}

fn part(range: std::ops::Range<i64>) -> Arc<RawBatch> {
    let all = seven_orders();
    let mut batch = RawBatch::with_capacity("orders".into(), 0, 1000);
    for record in all.iter().filter(|record| range.contains(&record.offset())) {
        batch.push(record.offset(), record.log_timestamp_ms(), None, record.value());
    }
    Arc::new(batch)
}

/// A registry to which the schema of the third order is registered some day.
#[derive(Default)]
struct Registry {
    knows: AtomicBool,
}

impl SchemaSource for Registry {
    fn schemas<'a>(&'a self, ids: &'a [u32]) -> BoxFuture<'a, Result<Vec<Option<Arc<str>>>, String>> {
        let known = self.knows.load(Ordering::SeqCst).then(|| Arc::from(SCHEMA));
        Box::pin(async move { Ok(vec![known; ids.len()]) })
    }
}

/// Lets a lane process the first six orders and then the seventh; `before` is called between. What it issued for both.
async fn processed(
    (mut parts, sink): (LaneShared, Inbox<Arc<Store>>),
    registry: Arc<Registry>,
    before: impl FnOnce(),
) -> Vec<Arc<Store>> {
    let slot = parts.slots.get(0).unwrap();
    parts.schemas = registry;
    let (parts, count) = (Arc::new(parts), usize::from(slot.emit_from == 0) + 1);
    let inbox = parts.inbox.clone();
    let lane = ChildSpec::role("lane", "lane", move |scope| lane::run(scope, parts.clone())).inbox(&inbox);
    let (hear, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let outputs = sink.clone();
    let reader = ChildSpec::role("sink", "sink", move |scope| {
        let (outputs, hear) = (outputs.clone(), hear.clone());
        async move {
            while let Some(output) = outputs.recv(&scope).await {
                drop(hear.send(Arc::clone(&output)));
                output.commit();
            }
            Ok(())
        }
    });
    let runtime = Runtime::start(SupervisorSpec::new("root").child(reader.inbox(&sink)).child(lane)).unwrap();
    let send = async |start, end| {
        let work = Work { slot: slot.clone(), batch: part(start..end), start, end, read_by: Instant::now() };
        inbox.outlet().send(work).await.unwrap_or_else(|_| panic!("closed"));
        inbox.drained().await;
    };
    send(0, 6).await;
    before();
    send(6, 7).await;
    let mut issued = Vec::new();
    while issued.len() < count {
        issued.extend(heard.recv().await);
    }
    runtime.shutdown(Vec::new()).await;
    issued
}

/// A lane that begins here and counts orders, and its sink.
fn counting(start: SlotStart, trap: Option<fn(&DecodedInput)>) -> (LaneShared, Inbox<Arc<Store>>) {
    let slots = Arc::new(Slots::default());
    slots.assign(slots.begin_reading(), start).unwrap();
    let mut stage = stage_of(counts());
    stage.trap = trap.map(|trap| Arc::new(trap) as _);
    let sink = Inbox::new("outputs", 8);
    (shared(stage, slots, Arc::new(OneTopic::named("first")), &sink), sink)
}

/// Customers with an order in the minute that has closed.
fn customers(output: &Output) -> Vec<Scalar> {
    output.windows.iter().map(|row| row.group[0].clone()).collect()
}

fn texts(texts: &[&str]) -> Vec<Scalar> {
    texts.iter().map(|text| Scalar::Text((*text).to_owned())).collect()
}

#[test]
fn a_record_that_storage_has_as_a_dead_letter_counts_nowhere_though_it_could_be_read_by_now() {
    let decisions = Decisions::new(0..6, vec![2..3, 4..5], Vec::new());
    let state = PartitionState::new(&counts(), "orders".into(), 0).with_decisions(decisions);
    let start = SlotStart { state, emit_from: 6, ..slot::tests::start(0) };
    let registry = Arc::new(Registry { knows: true.into() });
    let issued = actix_rt::System::new().block_on(processed(counting(start, None), registry, || ()));
    let output = &issued[0].pending.output;
    assert_eq!((output.start, output.end, output.dead.len()), (6, 7, 0));
    assert_eq!(customers(output), texts(&["0", "1", "3", "5"]));
}

#[test]
fn a_lane_that_begins_again_decides_as_the_one_before_it() {
    static HAS_PANICKED: AtomicBool = AtomicBool::new(false);
    let trap = |input: &DecodedInput| {
        assert!(!input.offsets.contains(&6) || HAS_PANICKED.swap(true, Ordering::SeqCst), "once");
    };
    let state = PartitionState::new(&counts(), "orders".into(), 0);
    let start = SlotStart { state, ..slot::tests::start(0) };
    let registry = Arc::new(Registry::default());
    let parts = counting(start, Some(trap));
    let register = || registry.knows.store(true, Ordering::SeqCst);
    let issued = actix_rt::System::new().block_on(processed(parts, registry.clone(), register));
    assert!(HAS_PANICKED.load(Ordering::SeqCst));
    let dead: Vec<i64> = issued[0].pending.output.dead.iter().map(|letter| letter.offset).collect();
    assert_eq!(dead, [2], "its schema was unknown then");
    assert_eq!(customers(&issued[1].pending.output), texts(&["0", "1", "3", "4", "5"]));
}

#[test]
fn records_of_which_storage_knows_no_decision_are_processed() {
    let decisions = Decisions::new(2..4, std::iter::once(2..3).collect(), Vec::new());
    let state = PartitionState::new(&counts(), "orders".into(), 0).with_decisions(decisions);
    let aside = set_aside(&state, &seven_orders(), Arc::from([]));
    assert_eq!(aside.iter().map(|poison| poison.offset).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_schema_that_the_registry_did_not_know_is_asked_for_again_after_a_while() {
    let start = SlotStart { state: PartitionState::new(&counts(), "orders".into(), 0), ..slot::tests::start(0) };
    let (mut parts, sink) = counting(start, None);
    let (slot, registry) = (parts.slots.get(0).unwrap(), Arc::new(Registry::default()));
    parts.schemas = registry.clone();
    let (parts, outputs) = (Arc::new(parts), sink.clone());
    let inbox = parts.inbox.clone();
    let lane = ChildSpec::role("lane", "lane", move |scope| lane::run(scope, parts.clone())).inbox(&inbox);
    let (hear, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let reader = ChildSpec::role("sink", "sink", move |scope| {
        let (outputs, hear) = (outputs.clone(), hear.clone());
        async move {
            while let Some(output) = outputs.recv(&scope).await {
                drop(hear.send(Arc::clone(&output)));
                output.commit();
            }
            Ok(())
        }
    });
    on_a_system(async {
        let runtime = Runtime::start(SupervisorSpec::new("root").child(reader.inbox(&sink)).child(lane)).unwrap();
        for start in 0.. {
            let mut batch = RawBatch::with_capacity("orders".into(), 0, 1000);
            batch.push(start, AT_MS, None, Some(&in_avro(2, AT_MS)));
            let (slot, batch, end) = (slot.clone(), Arc::new(batch), start + 1);
            let work = Work { slot, batch, start, end, read_by: Instant::now() };
            inbox.outlet().send(work).await.unwrap_or_else(|_| panic!("closed"));
            let dead = heard.recv().await.unwrap().pending.output.dead.len();
            if start == 0 {
                assert_eq!(dead, 1, "it is unknown");
                registry.knows.store(true, Ordering::SeqCst);
            } else if dead == 0 {
                break;
            }
        }
        assert_eq!(inbox.figures().returned, 0, "what it has learned it uses at once");
        runtime.shutdown(Vec::new()).await;
    });
}

#[test]
fn records_that_are_set_aside_for_two_reasons_are_named_once_and_all_in_their_order() {
    let decisions = Decisions::new(0..6, vec![2..3, 4..5], Vec::new());
    let state = PartitionState::new(&counts(), "orders".into(), 0).with_decisions(decisions);
    let found = [3, 4].map(|offset| Poison { offset, reason: "it panics".into() });
    let aside = set_aside(&state, &seven_orders(), Arc::from(found));
    assert_eq!(aside.iter().map(|poison| poison.offset).collect::<Vec<_>>(), [2, 3, 4]);
}
