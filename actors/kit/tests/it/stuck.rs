//! Roles that do not fail but stop moving.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use parking_lot::Mutex;
use streamward_kit::{ActorState, ChildSpec, Command, ExitReason, Fault, FaultKind, Placement, Runtime, Scope};

use crate::support::{Log, eager, idle, numbers, path, reader, root, start, wait, wait_node};

const STUCK_AFTER: Duration = Duration::from_millis(60);

/// Blocks its thread until the test lets go; remembers whether its late commit counted.
struct Trap {
    gate: Mutex<Option<Receiver<()>>>,
    late_commit: Mutex<Option<bool>>,
    done: AtomicBool,
}

/// quickwit's frozen actor, ractor's dead-man's switch: a stuck worker is replaced, and cannot do harm when it wakes.
#[actix_rt::test]
async fn a_blocked_role_is_fenced_and_replaced_and_its_late_commit_is_refused() {
    let (inbox, log) = (numbers(10), Log::default());
    let (open, gate) = channel();
    let trap =
        Arc::new(Trap { gate: Mutex::new(Some(gate)), late_commit: Mutex::default(), done: AtomicBool::new(false) });
    let inner = Arc::clone(&trap);
    let child = reader(&inbox, &log, move |scope, number| {
        let gate = if **number == 4 { inner.gate.lock().take() } else { None };
        if let Some(gate) = gate {
            gate.recv().unwrap();
            assert!(scope.is_fenced());
            *inner.late_commit.lock() = Some(number.commit());
            inner.done.store(true, Ordering::SeqCst);
        }
        assert!(**number != 4 || number.attempt() == 1, "the culprit is charged once");
        Ok(())
    });
    let bystander = idle("bystander").placement(Placement::pool("data"));
    let runtime = start(root().child(child.policy(eager().stuck_after(STUCK_AFTER))).child(bystander));
    wait_node(&runtime, "reader", "the others are read", |node| node.processed == 10).await;
    let tree = runtime.snapshot();
    let node = tree.find("reader").unwrap();
    assert_eq!((node.generation, node.zombies), (2, 1));
    assert_eq!(node.last_exit.as_ref().unwrap().reason, ExitReason::Stuck);
    assert_eq!(*log.lock(), (1..=10).collect::<Vec<_>>());
    // Its neighbour on the blocked arbiter moved with it, unblamed.
    wait_node(&runtime, "bystander", "it moved", |node| node.generation == 2 && node.state == ActorState::Running)
        .await;
    assert_eq!(runtime.snapshot().restarts_in_window, 1);
    open.send(()).unwrap();
    wait(&runtime, "the zombie woke", |_| trap.done.load(Ordering::SeqCst)).await;
    assert_eq!(*trap.late_commit.lock(), Some(false));
    wait_node(&runtime, "reader", "the zombie is gone", |node| node.zombies == 0).await;
    assert_eq!(log.lock().len(), 10);
}

/// quickwit's frozen actor, where it can be aborted.
#[actix_rt::test]
async fn a_stalled_role_is_replaced_and_leaves_nothing_behind() {
    let (inbox, log) = (numbers(0), Log::default());
    let child = reader(&inbox, &log, |_, number| {
        assert_eq!(number.attempt(), 0, "a drill is never charged");
        Ok(())
    });
    let runtime = start(root().child(child.policy(eager().stuck_after(STUCK_AFTER))));
    runtime.command(&path("reader"), Command::Inject(Fault::new(FaultKind::Stall(60_000), 1))).await.unwrap();
    (1..=10).for_each(|number| inbox.outlet().try_send(number).unwrap());
    let node = wait_node(&runtime, "reader", "all read", |node| node.processed == 10).await;
    assert_eq!(node.generation, 2);
    let exit = node.last_exit.unwrap();
    assert_eq!((exit.reason, exit.injected), (ExitReason::Stuck, true));
    assert_eq!(*log.lock(), (1..=10).collect::<Vec<_>>());
    wait_node(&runtime, "reader", "nothing is left behind", |node| node.zombies == 0).await;
}

/// Runs a test in virtual time, which goes on once everything waits.
fn in_virtual_time(test: impl Future<Output = ()>) {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    actix_rt::System::with_tokio_rt(runtime).block_on(test);
}

/// A role that has a batch in hand, waits for a database, and works on the batch for a while after that.
fn patient(waits: Duration, works: Duration, done: &Arc<AtomicBool>) -> ChildSpec {
    let done = Arc::clone(done);
    let child = ChildSpec::role("patient", "patient", move |scope: Scope| {
        let done = Arc::clone(&done);
        async move {
            let hand = scope.in_hand("batch");
            let wait = scope.waiting_on("database");
            tokio::time::sleep(waits).await;
            drop(wait);
            tokio::time::sleep(works).await;
            drop(hand);
            done.store(true, Ordering::SeqCst);
            scope.stopping().await;
            Ok(())
        }
    });
    child.policy(eager().stuck_after(STUCK_AFTER))
}

/// quickwit's `protect_zone`: a marked wait is not taken for a stall.
#[test]
fn a_legitimate_wait_is_not_stuck() {
    in_virtual_time(async {
        let done = Arc::default();
        let runtime = start(root().child(patient(STUCK_AFTER * 3, STUCK_AFTER - Duration::from_millis(1), &done)));
        let node = wait_node(&runtime, "patient", "it waits", |node| node.waiting_on.is_some()).await;
        assert_eq!(node.waiting_on.unwrap().on, "database");
        let node = wait_node(&runtime, "patient", "it is done", |_| done.load(Ordering::SeqCst)).await;
        assert_eq!(node.generation, 1);
    });
}

#[test]
fn the_time_beside_a_legitimate_wait_counts() {
    in_virtual_time(async {
        let done = Arc::default();
        let runtime = start(root().child(patient(STUCK_AFTER * 3, STUCK_AFTER * 2, &done)));
        let node = wait_node(&runtime, "patient", "it is replaced", |node| node.generation == 2).await;
        assert_eq!(node.last_exit.unwrap().reason, ExitReason::Stuck);
        assert!(!done.load(Ordering::SeqCst));
    });
}

/// Waits until an actor has had so many lives, for an hour of virtual time at most.
async fn lives(runtime: &Runtime, path: &str, count: u64) {
    let mut changes = runtime.subscribe();
    let lived = async {
        while runtime.snapshot().find(path).is_none_or(|node| node.generation < count) {
            changes.recv().await.expect("an event");
        }
    };
    tokio::time::timeout(Duration::from_secs(3_600), lived).await.expect("it is replaced");
}

/// The watchdog looks when somebody may be stuck, and not all the time.
#[test]
fn a_message_is_seen_to_be_stuck_when_its_time_is_up_whenever_it_was_taken_in_hand() {
    let (limit, looks_after) = (Duration::from_secs(30), Duration::from_millis(41));
    for (begins, waits) in [(0, 0), (1, 0), (1_499, 0), (29_990, 0), (700, 45_000)]
        .map(|(begins, waits)| (Duration::from_millis(begins), Duration::from_millis(waits)))
    {
        in_virtual_time(async {
            let child = ChildSpec::role("late", "late", move |scope: Scope| async move {
                tokio::time::sleep(begins).await;
                let _hand = scope.in_hand("batch");
                let wait = scope.waiting_on("database");
                tokio::time::sleep(waits).await;
                drop(wait);
                std::future::pending::<()>().await;
                Ok(())
            });
            let begun = tokio::time::Instant::now();
            let runtime = start(root().child(child.policy(eager().stuck_after(limit))));
            lives(&runtime, "late", 2).await;
            let seen_after = begun.elapsed() - begins - waits;
            assert!(seen_after >= limit && seen_after < limit + looks_after, "{begins:?} {waits:?}: {seen_after:?}");
        });
    }
}

#[test]
fn a_fault_strikes_a_role_that_waits_for_something_else_as_soon_as_it_is_armed() {
    in_virtual_time(async {
        let child = ChildSpec::role("server", "server", |scope: Scope| async move {
            tokio::select! {
                failure = scope.struck("serve") => Err(failure),
                () = scope.stopping() => Ok(()),
            }
        });
        let runtime = start(root().child(child.policy(eager())));
        wait_node(&runtime, "server", "it runs", |node| node.state == ActorState::Running).await;
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        let begun = tokio::time::Instant::now();
        let fault = |point: &str| Fault { kind: FaultKind::Error, times: 1, point: Some(point.to_owned()) };
        for point in ["elsewhere", "serve", "serve"] {
            runtime.command(&path("server"), Command::Inject(fault(point))).await.unwrap();
        }
        lives(&runtime, "server", 3).await;
        assert!(begun.elapsed() < Duration::from_millis(10), "{:?}", begun.elapsed());
        let node = runtime.snapshot().find("server").unwrap().clone();
        assert_eq!((node.generation, node.last_exit.map(|exit| exit.reason)), (3, Some(ExitReason::Error)));
    });
}

/// ractor's dead-man's switch, for a thread.
#[actix_rt::test]
async fn a_stuck_thread_is_left_behind_and_replaced() {
    let (open, gate) = channel::<()>();
    let gate = Mutex::new(Some(gate));
    let child = ChildSpec::thread("trainer", "trainer", move |scope| {
        let first = gate.lock().take();
        if let Some(gate) = first {
            let _hand = scope.in_hand("model");
            gate.recv().expect("the test lets go");
            assert!(scope.is_fenced());
        }
        while !scope.stopping_within(Duration::from_secs(1)) {}
        Ok(())
    });
    let runtime = start(root().child(child.policy(eager().stuck_after(STUCK_AFTER))));
    let running = |node: &streamward_kit::TreeNode| node.generation == 2 && node.state == ActorState::Running;
    let node = wait_node(&runtime, "trainer", "replaced", running).await;
    assert_eq!(node.zombies, 1);
    assert!(node.last_exit.unwrap().message.starts_with("model in hand for"));
    open.send(()).unwrap();
    wait_node(&runtime, "trainer", "the zombie is gone", |node| node.zombies == 0).await;
}
