//! Panics, errors and ends of a role: it comes back and nothing is lost or reordered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use streamward_kit::{
    ActorState, ChildSpec, Command, Culprit, ExitReason, Failure, Fault, FaultKind, Inbox, Intensity, Outcome,
    Placement, Scope,
};

use crate::support::{Log, eager, idle, numbers, path, reader, root, start, wait, wait_node};

/// kameo#335, #345; actix#158, #204: a panic loses neither the queue nor its order, and is caught in the first place.
#[actix_rt::test]
async fn a_panic_keeps_the_queue_and_its_order_and_charges_the_culprit() {
    let (inbox, log, attempts) = (numbers(100), Log::default(), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&attempts);
    let child = reader(&inbox, &log, move |scope, number| {
        seen.lock().push((**number, number.attempt()));
        let culprit = Culprit { topic: Arc::from("numbers"), partition: 3, offset: 10 };
        let _hand = scope.in_hand_record("number 10", culprit);
        assert!(**number != 10 || number.attempt() > 0, "ten is poison once");
        Ok(())
    });
    let runtime = start(root().child(child));
    let node = wait_node(&runtime, "reader", "all read", |node| node.processed == 100).await;
    assert_eq!(*log.lock(), (1..=100).collect::<Vec<_>>());
    assert_eq!((node.generation, node.restarts), (2, 1));
    let exit = node.last_exit.unwrap();
    assert_eq!(exit.reason, ExitReason::Panic);
    assert_eq!(exit.message, "ten is poison once");
    assert!(exit.location.unwrap().contains("failures.rs"));
    assert_eq!(exit.culprit.unwrap().offset, 10);
    let charged: Vec<_> = attempts.lock().iter().filter(|(_, attempt)| *attempt > 0).copied().collect();
    assert_eq!(charged, [(10, 1)]);
}

/// kameo#345: the queue survives an error and a normal end as well.
#[actix_rt::test]
async fn an_error_and_a_normal_end_keep_the_queue_too() {
    let (inbox, log) = (numbers(30), Log::default());
    let ends = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ends);
    let child = ChildSpec::role("reader", "reader", {
        let (source, log) = (inbox.clone(), Arc::clone(&log));
        move |scope| {
            let (inbox, log, count) = (source.clone(), Arc::clone(&log), Arc::clone(&count));
            async move {
                tokio::task::yield_now().await;
                for _ in 0..10 {
                    let Some(number) = inbox.recv(&scope).await else { return Ok(()) };
                    number.commit();
                    log.lock().push(*number);
                }
                match count.fetch_add(1, Ordering::SeqCst) {
                    0 => Err(Failure::new("enough")),
                    _ => Ok(()),
                }
            }
        }
    });
    let runtime = start(root().child(child.policy(eager())));
    wait(&runtime, "all read", |_| log.lock().len() == 30).await;
    assert_eq!(*log.lock(), (1..=30).collect::<Vec<_>>());
    let exits: Vec<_> = runtime.events().into_iter().filter_map(|event| exit_reason(&event)).take(2).collect();
    assert_eq!(exits, [ExitReason::Error, ExitReason::Normal]);
}

fn exit_reason(event: &streamward_kit::LifecycleEvent) -> Option<ExitReason> {
    match &event.kind {
        streamward_kit::EventKind::Exit { exit } => Some(exit.reason),
        _ => None,
    }
}

/// kameo#364: what still waits when the restarts are spent is not lost; OTP: the others end, then the supervisor.
#[actix_rt::test]
async fn a_spent_budget_escalates_and_still_loses_nothing() {
    let (inbox, log) = (numbers(20), Log::default());
    let child = reader(&inbox, &log, |_, number| {
        assert!(**number != 5, "always");
        Ok(())
    });
    let intensity = Intensity { max_restarts: 3, within: Duration::from_secs(60) };
    let runtime = start(root().intensity(intensity).child(child).child(idle("other")));
    let Outcome::Escalated(report) = runtime.run().await else { panic!("it must escalate") };
    assert!(report.message.contains("reader"), "{}", report.message);
    assert_eq!(inbox.figures().depth, 16, "5 to 20 still wait");
    let tree = runtime.snapshot();
    assert_eq!(tree.state, ActorState::Failed);
    assert_eq!(tree.find("reader").unwrap().generation, 4);
    assert_eq!(tree.find("other").unwrap().state, ActorState::Stopped);
}

/// coerce#33, kameo#392: a reference from before the panic reaches the new incarnation.
#[actix_rt::test]
async fn an_old_reference_reaches_the_new_incarnation() {
    let (inbox, log) = (numbers(0), Log::default());
    let outlet = inbox.outlet();
    let runtime = start(root().child(reader(&inbox, &log, |_, _| Ok(()))));
    runtime.command(&path("reader"), Command::Inject(Fault::new(FaultKind::Panic, 1))).await.unwrap();
    outlet.send(1).await.unwrap();
    wait_node(&runtime, "reader", "second generation", |node| node.generation == 2).await;
    outlet.send(2).await.unwrap();
    wait(&runtime, "both read", |_| log.lock().len() == 2).await;
    assert_eq!(*log.lock(), [1, 2]);
}

/// kameo#229, actix#157: a start that fails is reported like any failure and tried again.
#[actix_rt::test]
async fn a_failing_start_is_reported_and_tried_again() {
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let child = ChildSpec::role("fragile", "fragile", move |scope: Scope| {
        let attempt = count.fetch_add(1, Ordering::SeqCst);
        assert!(attempt != 0, "the factory itself");
        async move {
            if attempt == 1 {
                return Err(Failure::new("no database"));
            }
            scope.stopping().await;
            Ok(())
        }
    });
    let runtime = start(root().child(child.policy(eager())));
    let node = wait_node(&runtime, "fragile", "third try runs", |node| {
        node.generation == 3 && node.state == ActorState::Running
    })
    .await;
    assert_eq!(node.last_exit.unwrap().message, "no database");
    let exits: Vec<_> = runtime.events().iter().filter_map(exit_reason).collect();
    assert_eq!(exits, [ExitReason::StartFailed, ExitReason::StartFailed]);
}

/// Counts how many live at the same time.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(now: &Arc<AtomicUsize>, most: &AtomicUsize) -> Self {
        let alive = now.fetch_add(1, Ordering::SeqCst) + 1;
        most.fetch_max(alive, Ordering::SeqCst);
        Self(Arc::clone(now))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// kameo#387: no start before the incarnation of before has ended.
#[actix_rt::test]
async fn the_old_incarnation_has_ended_before_the_new_one_starts() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counters = (Arc::clone(&now), Arc::clone(&most));
    let child = ChildSpec::role("single", "single", move |scope: Scope| {
        let (now, most) = (Arc::clone(&counters.0), Arc::clone(&counters.1));
        async move {
            let _alive = Alive::new(&now, &most);
            scope.stopping().await;
            // An end that takes its time.
            for _ in 0..5 {
                tokio::task::yield_now().await;
            }
            Ok(())
        }
    });
    let runtime = start(root().child(child.placement(Placement::Dedicated)));
    for generation in 1..=30 {
        wait_node(&runtime, "single", "running", |node| {
            node.generation == generation && node.state == ActorState::Running
        })
        .await;
        runtime.command(&path("single"), Command::Restart).await.unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[actix_rt::test]
async fn ten_injected_panics_are_survived_and_the_eleventh_escalates() {
    let (inbox, log) = (numbers(0), Log::default());
    let runtime = start(root().child(reader(&inbox, &log, |_, number| {
        assert_eq!(number.attempt(), 0, "a drill is never charged");
        Ok(())
    })));
    runtime.command(&path("reader"), Command::Inject(Fault::new(FaultKind::Panic, 10))).await.unwrap();
    (1..=100).for_each(|number| inbox.outlet().try_send(number).unwrap());
    let node = wait_node(&runtime, "reader", "all read", |node| node.processed == 100).await;
    assert_eq!(*log.lock(), (1..=100).collect::<Vec<_>>());
    assert_eq!(node.restarts, 10);
    assert!(node.last_exit.unwrap().injected);
    runtime.command(&path("reader"), Command::Inject(Fault::new(FaultKind::Error, 1))).await.unwrap();
    inbox.outlet().try_send(101).unwrap();
    assert!(matches!(runtime.run().await, Outcome::Escalated(_)));
}

#[actix_rt::test]
async fn a_restart_without_back_off_takes_less_than_20_ms() {
    let inbox: Inbox<Instant> = Inbox::new("panics", 10);
    let log = Arc::new(Mutex::new(Vec::new()));
    let (source, times) = (inbox.clone(), Arc::clone(&log));
    let child = ChildSpec::role("prone", "prone", move |scope| {
        let (inbox, times) = (source.clone(), Arc::clone(&times));
        async move {
            while let Some(sent) = inbox.recv(&scope).await {
                assert!(sent.attempt() > 0, "the first time");
                times.lock().push(sent.elapsed());
                sent.commit();
            }
            Ok(())
        }
    });
    let spec = root().intensity(Intensity { max_restarts: 1_000, ..Intensity::default() });
    let runtime = start(spec.child(child.policy(eager()).placement(Placement::Dedicated)));
    for _ in 0..50 {
        inbox.outlet().send(Instant::now()).await.unwrap();
        inbox.drained().await;
    }
    let mut times = log.lock().clone();
    times.sort_unstable();
    println!("panic to handled again: median {:?}, worst {:?}", times[25], times[49]);
    assert!(times[25] < Duration::from_millis(20), "{times:?}");
    drop(runtime);
}

/// actix `SyncArbiter`: a thread that panics is replaced.
#[actix_rt::test]
async fn a_panicking_thread_comes_back_with_its_queue() {
    let (inbox, log) = (numbers(20), Log::default());
    let (source, committed) = (inbox.clone(), Arc::clone(&log));
    let child = ChildSpec::thread("poller", "poller", move |scope| {
        while !scope.is_stopping() {
            scope.pause_point_blocking();
            let Some(number) = source.recv_blocking(&scope, Duration::from_millis(50)) else { continue };
            assert!(*number != 7 || number.attempt() > 0, "seven");
            committed.lock().push(*number);
            number.commit();
        }
        Ok(())
    });
    let runtime = start(root().child(child.policy(eager()).inbox(&inbox)));
    inbox.drained().await;
    assert_eq!(*log.lock(), (1..=20).collect::<Vec<_>>());
    let node = wait_node(&runtime, "poller", "it came back", |node| node.generation == 2).await;
    assert_eq!(node.last_exit.unwrap().message, "seven");
    assert!(runtime.shutdown(Vec::new()).await.is_clean());
}

/// akka#20597: back-off and the limit of restarts hold together.
#[actix_rt::test]
async fn a_back_off_waits_on_the_virtual_clock() {
    tokio::time::pause();
    let starts = Arc::new(Mutex::new(Vec::new()));
    let times = Arc::clone(&starts);
    let child = ChildSpec::role("loop", "loop", move |_| {
        let times = Arc::clone(&times);
        async move {
            times.lock().push(tokio::time::Instant::now());
            tokio::task::yield_now().await;
            Err(Failure::new("again"))
        }
    });
    let runtime = start(root().intensity(Intensity { max_restarts: 4, ..Intensity::default() }).child(child));
    assert!(matches!(runtime.run().await, Outcome::Escalated(_)));
    let starts = starts.lock();
    let gaps: Vec<u128> = starts.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    assert_eq!(gaps.len(), 4);
    assert!(gaps[0] < 20, "{gaps:?}");
    assert!(
        (50..=120).contains(&gaps[1]) && (100..=220).contains(&gaps[2]) && (200..=420).contains(&gaps[3]),
        "{gaps:?}"
    );
}
