//! What a lane does while its sink is full, while it tries records, and when it is to end.

use parking_lot::Mutex;
use streamward_core::{encode::push_frame, partition::PartitionState};
use streamward_kit::{
    ActorPath, ActorState, ChildPolicy, ChildSpec, Command, Phase, PhaseAction, Placement, Runtime, SupervisorSpec,
    TreeNode,
};

use super::{
    duties::{Cluster, Silent, parts, supervised, work},
    tests::{counts, stage, stage_of},
    *,
};
use crate::{
    fakes::{Gate, in_virtual_time, on_a_system},
    logs::tests::OneTopic,
    slot::{self, SlotStart},
};

fn path() -> ActorPath {
    ActorPath::parse("lane").unwrap()
}

fn look(runtime: &Runtime) -> TreeNode {
    runtime.snapshot().find("lane").unwrap().clone()
}

fn waits_for(runtime: &Runtime, what: &str) -> bool {
    look(runtime).waiting_on.is_some_and(|waiting| waiting.on == what)
}

async fn send(parts: &LaneShared, work: Work) {
    parts.inbox.outlet().send(work).await.unwrap_or_else(|_| panic!("closed"));
}

#[test]
fn records_of_another_log_leave_the_inbox_at_once() {
    let (mut parts, slot, _sink) = parts(0, stage(|_| {}));
    parts.logs = Arc::new(OneTopic::named("second"));
    let parts = Arc::new(parts);
    on_a_system(async {
        let runtime = supervised(&parts);
        send(&parts, work(&slot, 0..6)).await;
        parts.inbox.drained().await;
        runtime.shutdown(Vec::new()).await;
    });
    let figures = parts.inbox.figures();
    assert_eq!((figures.committed, figures.returned), (1, 0));
}

/// Batches of three and of six orders for a sink that has room for one output. The lane, when it waits for room.
async fn waiting(parts: &Arc<LaneShared>, slot: &Arc<PartitionSlot>) -> Runtime {
    let runtime = supervised(parts);
    send(parts, work(slot, 0..3)).await;
    send(parts, work(slot, 3..9)).await;
    while !waits_for(&runtime, "sink") {
        tokio::task::yield_now().await;
    }
    assert_eq!(slot.processed(), 3);
    runtime
}

#[test]
fn a_lane_whose_sink_is_full_goes_on_when_there_is_room() {
    let (mut parts, slot, _) = parts(0, stage(|_| {}));
    let sink: Inbox<Arc<Store>> = Inbox::new("outputs", 1);
    parts.sink = sink.outlet();
    let parts = Arc::new(parts);
    let lane = on_a_system(async {
        let runtime = waiting(&parts, &slot).await;
        let outputs = sink.clone();
        let reader = ChildSpec::role("sink", "sink", move |scope| {
            let outputs = outputs.clone();
            async move {
                while let Some(output) = outputs.recv(&scope).await {
                    output.commit();
                }
                Ok(())
            }
        });
        let readers = Runtime::start(SupervisorSpec::new("root").child(reader)).unwrap();
        parts.inbox.drained().await;
        let lane = look(&runtime);
        runtime.shutdown(Vec::new()).await;
        readers.shutdown(Vec::new()).await;
        lane
    });
    assert_eq!((slot.processed(), lane.restarts, parts.inbox.figures().returned), (9, 0, 0));
}

#[test]
fn a_lane_that_is_to_end_while_its_sink_is_full_leaves_its_batch() {
    let (mut parts, slot, _) = parts(0, stage(|_| {}));
    let sink: Inbox<Arc<Store>> = Inbox::new("outputs", 1);
    parts.sink = sink.outlet();
    let parts = Arc::new(parts);
    let exit = on_a_system(async {
        let runtime = waiting(&parts, &slot).await;
        runtime.shutdown(Vec::new()).await;
        look(&runtime).last_exit.unwrap()
    });
    assert_eq!(exit.message, "stopped while the sink is full");
    let figures = parts.inbox.figures();
    assert_eq!((figures.committed, figures.depth + figures.in_hand, slot.processed()), (1, 1, 3));
}

/// A clock at which the minute of the orders is over.
struct Later;

impl Clock for Later {
    fn now_ms(&self) -> i64 {
        super::tests::ORDERED_MS + 60_000
    }
}

#[test]
fn windows_that_the_clock_closes_while_the_sink_is_full_are_issued_when_there_is_room() {
    let (mut parts, _, _) = parts(0, stage_of(counts()));
    let state = PartitionState::new(&parts.stage.spec.plan, "orders".into(), 0);
    let slot = parts.slots.assign(parts.slots.begin_reading(), SlotStart { state, ..slot::tests::start(0) }).unwrap();
    let sink: Inbox<Arc<Store>> = Inbox::new("outputs", 1);
    (parts.sink, parts.clock, parts.settings.idle_after) = (sink.outlet(), Arc::new(Later), Duration::ZERO);
    let parts = Arc::new(parts);
    let (hear, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let reader = ChildSpec::role("sink", "sink", move |scope| {
        let (outputs, hear) = (sink.clone(), hear.clone());
        async move {
            while let Some(output) = outputs.recv(&scope).await {
                let _ = hear.send(output.pending.output.windows.len());
                output.commit();
            }
            Ok(())
        }
    });
    let windows = in_virtual_time(async {
        let runtime = supervised(&parts);
        send(&parts, work(&slot, 0..6)).await;
        parts.inbox.drained().await;
        slot.fetched(6, true);
        while !waits_for(&runtime, "sink") {
            tokio::time::advance(TICK / 4).await;
        }
        let readers = Runtime::start(SupervisorSpec::new("root").child(reader)).unwrap();
        let windows = [heard.recv().await.unwrap(), heard.recv().await.unwrap()];
        runtime.shutdown(Vec::new()).await;
        readers.shutdown(Vec::new()).await;
        windows
    });
    assert_eq!(windows, [0, 6]);
}

#[test]
fn a_lane_that_has_a_successor_issues_no_checkpoint_when_it_ends() {
    let (parts, slot, sink) = parts(0, stage(|_| {}));
    let parts = Arc::new(parts);
    on_a_system(async {
        let runtime = supervised(&parts);
        send(&parts, work(&slot, 0..6)).await;
        parts.inbox.drained().await;
        slot.take_over(99);
        runtime.shutdown(Vec::new()).await;
        assert_eq!(look(&runtime).last_exit.map(|exit| exit.message).as_deref(), Some(""));
    });
    assert_eq!((sink.figures().depth, slot.checkpointed()), (1, -1));
}

/// A slot that an incarnation before left with a record whose schema is to be looked up.
fn with_a_record_to_look_up(slot: &PartitionSlot) {
    let (mut batch, mut value) = (RawBatch::with_capacity("orders".into(), 0, 100), Vec::new());
    push_frame(9, &mut value);
    batch.push(0, 0, None, Some(&value));
    let state = slot.take_over(0).snapshot;
    let done = Since { batch: Arc::new(batch), start: 0, end: 1, dead: Arc::from([]) };
    assert_eq!(slot.issue(0, done, &state, || true), Issued::Yes);
}

#[test]
fn a_state_is_not_rebuilt_without_the_schemas_that_its_records_need() {
    let (mut parts, slot, sink) = parts(0, stage(|_| {}));
    with_a_record_to_look_up(&slot);
    parts.schemas = Arc::new(Silent);
    let parts = Arc::new(parts);
    let exit = on_a_system(async {
        let runtime = supervised(&parts);
        send(&parts, work(&slot, 1..6)).await;
        while !waits_for(&runtime, "registry") && slot.processed() == 1 {
            tokio::task::yield_now().await;
        }
        runtime.shutdown(Vec::new()).await;
        look(&runtime).last_exit.unwrap()
    });
    assert_eq!((slot.processed(), sink.figures().depth, exit.message.as_str()), (1, 0, ""));
}

/// How often the cluster is asked, and what is processed, where a lane that has asked three times is to end in these
/// phases; how many batches went back to the inbox, and how long that takes.
fn ended(phases: Vec<Phase>) -> (usize, i64, u64, Duration) {
    let (mut parts, slot, _sink) = parts(0, stage(|_| {}));
    let cluster = Arc::new(Cluster { from: 4, asked: Mutex::default() });
    parts.logs = cluster.clone();
    let parts = Arc::new(parts);
    let took = in_virtual_time(async {
        let runtime = supervised(&parts);
        send(&parts, work(&slot, 0..6)).await;
        while cluster.asked.lock().len() < 3 {
            tokio::time::advance(FIRST_PAUSE / 4).await;
        }
        let since = tokio::time::Instant::now();
        runtime.shutdown(phases).await;
        since.elapsed()
    });
    let asked = cluster.asked.lock().len();
    (asked, slot.processed(), parts.inbox.figures().returned, took)
}

#[test]
fn a_lane_that_waits_for_the_cluster_ends_at_once_when_it_is_to_and_not_while_it_drains() {
    let (asked, processed, _, took) = ended(Vec::new());
    assert_eq!((asked, processed), (3, 0));
    assert!(took < 2 * FIRST_PAUSE, "it would ask again in {:?}", 4 * FIRST_PAUSE);
    let drain = Phase::new("lanes", &["lane"], PhaseAction::Drain, Duration::from_secs(3_600));
    let (asked, processed, returned, _) = ended(vec![drain]);
    assert_eq!((asked, processed, returned), (5, 6, 0), "what is queued is finished");
}

/// Offsets of records that were tried alone, as a lane tries six records from which nobody came back; it is held at
/// offset 3 until it is `told` what to do.
fn tried(policy: ChildPolicy, told: impl AsyncFnOnce(&Runtime, &Gate)) -> Vec<i64> {
    let (gate, tried) = (Arc::new(Gate::default()), Arc::new(Mutex::new(Vec::new())));
    let (passes, tries) = (gate.clone(), tried.clone());
    let (parts, slot, _sink) = parts(
        0,
        stage(move |input| {
            if let [alone] = input.offsets[..] {
                tries.lock().push(alone);
                if alone == 3 {
                    passes.pass();
                }
            }
        }),
    );
    parts.trials.of_log(0, slot.log);
    parts.trials.begin(0, &(0..6));
    let (inbox, parts) = (parts.inbox.clone(), Arc::new(parts));
    let of_lane = parts.clone();
    let lane = ChildSpec::role("lane", "lane", move |scope| run(scope, of_lane.clone())).inbox(&inbox);
    let lane = lane.placement(Placement::pool("lanes")).policy(policy);
    on_a_system(async {
        let runtime = Runtime::start(SupervisorSpec::new("root").child(lane)).unwrap();
        send(&parts, work(&slot, 0..6)).await;
        gate.held().await;
        told(&runtime, &gate).await;
    });
    let tried = tried.lock();
    tried.clone()
}

#[test]
fn a_lane_that_is_to_end_tries_no_more_records_and_has_only_one_in_hand() {
    let tried = tried(ChildPolicy::permanent(), async |runtime, gate| {
        assert_eq!(&*look(runtime).in_hand.unwrap().label, "a record by itself");
        let opens = async {
            runtime.until(|| look(runtime).state == ActorState::Stopping).await;
            gate.open();
        };
        futures_util::future::join(runtime.shutdown(Vec::new()), opens).await;
    });
    assert_eq!(tried, [0, 0, 1, 1, 2, 2, 3, 3], "each one also on the spare state");
}

#[test]
fn an_incarnation_that_was_given_up_over_a_record_tries_no_other_when_it_wakes_up() {
    let policy = ChildPolicy::permanent().stuck_after(Duration::from_secs(3_600));
    let tried = tried(policy, async |runtime, gate| {
        // Its successor waits until the end.
        runtime.command(&path(), Command::Pause).await.unwrap();
        runtime.set_policy(&path(), policy.stuck_after(Duration::from_millis(50))).await.unwrap();
        runtime.until(|| look(runtime).generation == 2 && look(runtime).zombies == 1).await;
        runtime.set_policy(&path(), policy).await.unwrap();
        gate.open();
        runtime.until(|| look(runtime).zombies == 0).await;
        runtime.shutdown(Vec::new()).await;
    });
    assert_eq!(tried, [0, 0, 1, 1, 2, 2, 3, 3]);
}

#[test]
fn other_actors_of_the_thread_have_their_turn_while_many_records_are_tried() {
    let tries = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counts = tries.clone();
    let (parts, slot, _sink) = parts(
        0,
        stage(move |input| {
            if input.offsets.len() == 1 {
                counts.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        }),
    );
    parts.trials.of_log(0, slot.log);
    parts.trials.begin(0, &(0..70));
    let parts = Arc::new(parts);
    let turns = in_virtual_time(async {
        let runtime = supervised(&parts);
        send(&parts, work(&slot, 0..70)).await;
        let mut turns = Vec::new();
        while slot.processed() == 0 {
            tokio::task::yield_now().await;
            turns.push(tries.load(std::sync::atomic::Ordering::SeqCst));
        }
        runtime.shutdown(Vec::new()).await;
        turns.retain(|tries| *tries > 0);
        turns.dedup();
        turns
    });
    assert_eq!(turns, [2 * (YIELD_EVERY - 1), 2 * (2 * YIELD_EVERY - 1), 140], "each is tried on two states");
}
