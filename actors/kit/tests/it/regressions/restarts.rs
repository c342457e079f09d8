//! How incarnations end and begin, and what is told about it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use streamward_kit::{
    ActorState, ChildSpec, Command, CommandError, Culprit, EventKind, ExitReason, Failure, Fault, FaultKind, Placement,
    Runtime, Scope, SupervisorSpec,
};

use crate::support::{Log, eager, idle, numbers, path, reader, root, start, wait, wait_node};

const STUCK_AFTER: Duration = Duration::from_millis(60);

fn ends(runtime: &Runtime, of: &str) -> Vec<ExitReason> {
    let reason = |kind: &EventKind| if let EventKind::Exit { exit } = kind { Some(exit.reason) } else { None };
    let events = runtime.events();
    events.iter().filter(|event| event.path.as_str() == of).filter_map(|event| reason(&event.kind)).collect()
}

/// quickwit: a supervisor that looks once per heartbeat answers a crash late. Here an end is an event of its own.
#[actix_rt::test]
async fn a_crash_is_answered_at_once_not_at_the_next_look() {
    tokio::time::pause();
    let starts = Arc::new(Mutex::new(Vec::new()));
    let times = Arc::clone(&starts);
    let child = ChildSpec::role("role", "role", move |scope: Scope| {
        let times = Arc::clone(&times);
        async move {
            times.lock().push(tokio::time::Instant::now());
            tokio::task::yield_now().await;
            assert!(scope.generation() > 3, "three times");
            scope.stopping().await;
            Ok(())
        }
    });
    let runtime = start(root().child(child.policy(eager())));
    wait_node(&runtime, "role", "it came back", |node| node.generation == 4 && node.state == ActorState::Running).await;
    let starts = starts.lock();
    assert!(starts.windows(2).all(|pair| pair[0] == pair[1]), "no time has passed on the virtual clock: {starts:?}");
}

/// quickwit's supervisor counts panics, errors and kills; here each end is told with its reason and counted.
#[actix_rt::test]
async fn each_kind_of_end_is_told_and_counted() {
    let (inbox, log) = (numbers(0), Log::default());
    let runtime = start(root().child(reader(&inbox, &log, |_, _| Ok(())).policy(eager().stuck_after(STUCK_AFTER))));
    for kind in [FaultKind::Panic, FaultKind::Error, FaultKind::Stall(60_000)] {
        runtime.command(&path("reader"), Command::Inject(Fault::new(kind, 1))).await.unwrap();
    }
    inbox.outlet().try_send(1).unwrap();
    wait_node(&runtime, "reader", "read after all", |node| node.processed == 1).await;
    assert_eq!(ends(&runtime, "reader"), [ExitReason::Panic, ExitReason::Error, ExitReason::Stuck]);
    let figures = runtime.metrics();
    let reader = figures.iter().find(|figures| figures.path == path("reader")).unwrap();
    assert_eq!((reader.restarts_total, reader.panics_total), (3, 1));
    assert_eq!(runtime.snapshot().restarts_in_window, 3);
}

/// actix#158, #204: `Supervisor` does not catch panics. Nor does the hook see one that is passed on from elsewhere.
#[actix_rt::test]
async fn a_panic_passed_on_from_elsewhere_is_caught_and_charged_too() {
    let (inbox, log, charged) = (numbers(6), Log::default(), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&charged);
    let child = reader(&inbox, &log, move |_, number| {
        seen.lock().push((**number, number.attempt()));
        match (**number, number.attempt()) {
            (2, 0) => panic!("its own"),
            (3 | 5, 0) => std::panic::resume_unwind(Box::new("from elsewhere")),
            _ => Ok(()),
        }
    });
    let runtime = start(root().child(child));
    let node = wait_node(&runtime, "reader", "all read", |node| node.processed == 6).await;
    assert_eq!(*log.lock(), (1..=6).collect::<Vec<_>>());
    assert_eq!(node.last_exit.unwrap().message, "from elsewhere");
    let charged: Vec<_> = charged.lock().iter().filter(|(_, attempt)| *attempt > 0).copied().collect();
    assert_eq!(charged, [(2, 1), (3, 1), (5, 1)], "each of them once");
    let figures = runtime.metrics();
    assert_eq!(figures.iter().find(|figures| figures.path == path("reader")).unwrap().panics_total, 3);
}

/// actix#157: panics in lifecycle methods; factories that panic in a new arbiter, where nobody is told.
#[actix_rt::test]
async fn a_start_that_panics_is_told_and_tried_again_wherever_it_runs() {
    for placement in [Placement::Main, Placement::pool("data"), Placement::Dedicated] {
        let child = ChildSpec::role("fragile", "fragile", |scope: Scope| {
            assert!(scope.generation() > 1, "in the factory");
            async move {
                assert!(scope.generation() > 2, "before the first wait");
                scope.stopping().await;
                Ok(())
            }
        });
        let runtime = start(root().child(child.policy(eager()).placement(placement.clone())));
        let running = |node: &streamward_kit::TreeNode| node.generation == 3 && node.state == ActorState::Running;
        let node = wait_node(&runtime, "fragile", "the third start", running).await;
        assert_eq!(node.last_exit.unwrap().message, "before the first wait", "{placement:?}");
        assert_eq!(ends(&runtime, "fragile")[0], ExitReason::StartFailed);
        runtime.shutdown(Vec::new()).await;
    }
}

/// actix `SyncArbiter`: a thread that panics is gone for good, and the pool dies in silence. Here it always comes back.
#[actix_rt::test]
async fn a_thread_that_keeps_panicking_always_comes_back() {
    let (inbox, log) = (numbers(9), Log::default());
    let (source, committed) = (inbox.clone(), Arc::clone(&log));
    let child = ChildSpec::thread("trainer", "trainer", move |scope| {
        while !scope.is_stopping() {
            let Some(number) = source.recv_blocking(&scope, Duration::from_millis(50)) else { continue };
            assert!(number.attempt() > 0, "each number once");
            committed.lock().push(*number);
            number.commit();
        }
        Ok(())
    });
    let runtime = start(root().child(child.policy(eager())));
    inbox.drained().await;
    assert_eq!(*log.lock(), (1..=9).collect::<Vec<_>>());
    let running = |node: &streamward_kit::TreeNode| node.generation == 10 && node.state == ActorState::Running;
    wait_node(&runtime, "trainer", "it came back nine times", running).await;
    assert_eq!(ends(&runtime, "trainer"), [ExitReason::Panic; 9]);
}

/// actix: `arbiter.stop()` drops the actors with their queued work. Here they move to a fresh one, work and all.
#[actix_rt::test]
async fn an_arbiter_that_ends_takes_nothing_with_it() {
    let (inbox, log, once) = (numbers(0), Log::default(), Arc::new(AtomicBool::new(false)));
    let child = reader(&inbox, &log, move |_, number| {
        if **number == 4 && !once.swap(true, Ordering::SeqCst) {
            actix_rt::Arbiter::current().stop();
        }
        Ok(())
    });
    let neighbour = idle("neighbour").placement(Placement::pool("data"));
    let runtime = start(root().child(child).child(neighbour));
    wait(&runtime, "both run", |tree| tree.children.iter().all(|node| node.state == ActorState::Running)).await;
    (1..=11).for_each(|number| inbox.outlet().try_send(number).unwrap());
    wait(&runtime, "all are read", |_| log.lock().len() == 11).await;
    assert_eq!(*log.lock(), (1..=11).collect::<Vec<_>>());
    for id in ["reader", "neighbour"] {
        wait_node(&runtime, id, "it lives on", |node| node.generation == 2 && node.state == ActorState::Running).await;
        assert_eq!(ends(&runtime, id), [ExitReason::Killed]);
    }
}

/// Panics once when it is dropped.
struct Bomb(Arc<AtomicBool>);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(self.0.swap(true, Ordering::SeqCst) || std::thread::panicking(), "while cleaning up");
    }
}

/// actix: `stopped()` and destructors that panic took the actor, or the process, with them.
#[actix_rt::test]
async fn an_end_that_panics_is_an_end_like_any_other() {
    for abrupt in [false, true] {
        let gone_off = Arc::new(AtomicBool::new(false));
        let bomb = Arc::clone(&gone_off);
        let child = ChildSpec::role("role", "role", move |scope: Scope| {
            let bomb = Arc::clone(&bomb);
            async move {
                let _bomb = Bomb(bomb);
                scope.stopping().await;
                Ok(())
            }
        });
        let policy = if abrupt { eager().stop_within(Duration::ZERO) } else { eager() };
        let runtime = start(root().child(child.policy(policy).placement(Placement::pool("data"))));
        wait_node(&runtime, "role", "it runs", |node| node.state == ActorState::Running).await;
        runtime.command(&path("role"), Command::Restart).await.unwrap();
        let running = |node: &streamward_kit::TreeNode| node.generation == 2 && node.state == ActorState::Running;
        let node = wait_node(&runtime, "role", "it came back", running).await;
        let exit = node.last_exit.unwrap();
        assert_eq!((exit.reason, exit.message.as_str()), (ExitReason::Panic, "while cleaning up"), "abrupt: {abrupt}");
        assert!(runtime.shutdown(Vec::new()).await.is_clean());
    }
}

/// kameo: a child that asked its parent for something while that one stopped waited for ever.
#[actix_rt::test]
async fn a_child_may_ask_its_supervisor_while_both_stop() {
    let answers = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&answers);
    let sup = SupervisorSpec::new("sup").child(idle("first"));
    let runtime = start(root().child(ChildSpec::supervisor(sup)));
    let asking = runtime.clone();
    let child = ChildSpec::role("asker", "asker", move |scope: Scope| {
        let (runtime, answers) = (asking.clone(), Arc::clone(&noted));
        async move {
            scope.stopping().await;
            let sup = runtime.supervisor(path("sup"));
            let started = sup.start_child(idle("late")).await.map(|_| ());
            let restarted = runtime.command(&path("sup"), Command::Restart).await;
            let stopped = sup.stop_child("first").await;
            answers.lock().extend([started, restarted, stopped]);
            Ok(())
        }
    });
    runtime.supervisor(path("sup")).start_child(child).await.unwrap();
    wait_node(&runtime, "sup/asker", "it runs", |node| node.state == ActorState::Running).await;
    assert!(runtime.shutdown(Vec::new()).await.is_clean());
    let not_running = |path| Err(CommandError::NotRunning(path));
    assert_eq!(*answers.lock(), [not_running(path("sup")), not_running(streamward_kit::ActorPath::root()), Ok(())]);
    assert_eq!(runtime.snapshot().find("sup").unwrap().state, ActorState::Stopped, "and it did not come back");
}

/// kameo#392, #377: a handle from before a restart commanded the task of before. Here a path means whoever lives there.
#[actix_rt::test]
async fn a_handle_from_before_a_restart_commands_the_present_incarnation() {
    let (inbox, log) = (numbers(0), Log::default());
    let runtime = start(root().child(reader(&inbox, &log, |_, _| Ok(()))));
    let (before, outlet) = (runtime.clone(), inbox.outlet());
    for generation in 1..=3 {
        wait_node(&runtime, "reader", "it runs", |node| {
            node.generation == generation && node.state == ActorState::Running
        })
        .await;
        before.command(&path("reader"), Command::Restart).await.unwrap();
    }
    wait_node(&runtime, "reader", "the fourth runs", |node| node.generation == 4 && node.state == ActorState::Running)
        .await;
    before.command(&path("reader"), Command::Inject(Fault::new(FaultKind::Error, 1))).await.unwrap();
    outlet.try_send(1).unwrap();
    wait_node(&runtime, "reader", "the fault struck the present one", |node| node.generation == 5).await;
    before.command(&path("reader"), Command::Drain).await.unwrap();
    wait_node(&runtime, "reader", "down", |node| node.state == ActorState::Stopped).await;
    assert_eq!(*log.lock(), [1]);
}

/// Bastion#87: the message that killed an actor must be told. Here the report names the record, however it failed.
#[actix_rt::test]
async fn the_report_names_the_record_in_hand_however_it_failed() {
    let record = |offset| Culprit { topic: Arc::from("readings"), partition: 2, offset };
    let attempts = Arc::new(AtomicUsize::new(0));
    let child = ChildSpec::role("lane", "lane", move |scope: Scope| {
        let attempt = attempts.fetch_add(1, Ordering::SeqCst);
        async move {
            tokio::task::yield_now().await;
            let offset = i64::try_from(attempt).map_err(Failure::from)?;
            let _batch = scope.in_hand("a batch");
            let _record = scope.in_hand_record("a record", record(offset));
            match attempt {
                0 => panic!("poison"),
                1 => return Err(Failure::new("cannot be read").with_culprit(record(offset))),
                2 => std::future::pending().await,
                _ => {}
            }
            drop((_batch, _record));
            scope.stopping().await;
            Ok(())
        }
    });
    let runtime = start(root().child(child.policy(eager().stuck_after(STUCK_AFTER))));
    wait_node(&runtime, "lane", "the fourth", |node| node.generation == 4 && node.state == ActorState::Running).await;
    let culprits: Vec<_> = runtime
        .events()
        .into_iter()
        .filter_map(|event| if let EventKind::Exit { exit } = event.kind { Some(exit) } else { None })
        .map(|exit| (exit.reason, exit.culprit.map(|culprit| culprit.to_string())))
        .collect();
    let named = |offset: i64| Some(format!("readings/2@{offset}"));
    assert_eq!(culprits, [(ExitReason::Panic, named(0)), (ExitReason::Error, named(1)), (ExitReason::Stuck, named(2))]);
}
