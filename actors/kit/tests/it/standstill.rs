//! Roles that are alive and do nothing, and what the tree tells of those that do something.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use streamward_kit::{ActorPath, ChildSpec, ExitReason, Inbox, Progress, SupervisorSpec};

use crate::support::{Log, eager, numbers, reader, root, start, wait_node};

const LIMIT: Duration = Duration::from_secs(3);

/// A role that sleeps before its inbox in its first life and reads it in the second; `wait` marks the sleep or not.
fn sleeper(inbox: &Inbox<u64>, wait: Option<&'static str>) -> ChildSpec {
    let source = inbox.clone();
    let child = ChildSpec::role("sleeper", "sleeper", move |scope| {
        let inbox = source.clone();
        async move {
            if scope.generation() == 1 {
                let _wait = wait.map(|wait| scope.waiting_on(wait));
                scope.stopping().await;
            }
            while let Some(number) = inbox.recv(&scope).await {
                number.commit();
                scope.progress(1);
            }
            Ok(())
        }
    });
    child.inbox(inbox).policy(eager().no_progress_after(LIMIT))
}

#[actix_rt::test]
async fn a_role_that_sleeps_before_waiting_messages_is_replaced() {
    tokio::time::pause();
    let runtime = start(root().child(sleeper(&numbers(3), None)));
    let node = wait_node(&runtime, "sleeper", "a second life has read them", |node| node.processed == 3).await;
    let exit = node.last_exit.unwrap();
    assert_eq!((exit.reason, node.generation), (ExitReason::NoProgress, 2));
    assert!(exit.message.starts_with("3 pending, nothing done for "), "{}", exit.message);
}

#[actix_rt::test]
async fn a_marked_wait_is_no_standstill_and_neither_is_an_empty_inbox() {
    tokio::time::pause();
    let (full, empty) = (numbers(3), Inbox::<u64>::new("numbers", 4));
    let groups = [("marked", sleeper(&full, Some("a database"))), ("empty", sleeper(&empty, None))];
    let tree = groups
        .into_iter()
        .fold(root(), |tree, (id, child)| tree.child(ChildSpec::supervisor(SupervisorSpec::new(id).child(child))));
    let runtime = start(tree);
    tokio::time::sleep(10 * LIMIT).await;
    for path in ["marked/sleeper", "empty/sleeper"] {
        assert_eq!(runtime.snapshot().find(path).unwrap().generation, 1, "{path}");
    }
}

#[actix_rt::test]
async fn a_probe_finds_a_lag_that_grows_while_the_position_stands() {
    tokio::time::pause();
    let lag = Arc::new(AtomicU64::new(5));
    let seen = Arc::clone(&lag);
    let follower = ChildSpec::thread("follower", "source", |scope| {
        let _wait = scope.waiting_on("log");
        while !scope.stopping_within(Duration::from_millis(20)) {}
        Ok(())
    });
    let follower = follower
        .policy(eager().no_progress_after(LIMIT))
        .progress(move || Some(Progress { done: 7, pending: seen.load(Ordering::Relaxed) }));
    let runtime = start(root().child(follower));
    tokio::time::sleep(10 * LIMIT).await;
    assert_eq!(runtime.snapshot().find("follower").unwrap().generation, 1, "a lag that does not grow");
    lag.store(6, Ordering::Relaxed);
    let node = wait_node(&runtime, "follower", "it was replaced", |node| node.generation == 2).await;
    assert_eq!(node.last_exit.unwrap().reason, ExitReason::NoProgress);
}

#[actix_rt::test]
async fn the_tree_shows_who_waits_for_whom_and_how_long_things_take() {
    let (slow, log) = (Inbox::<u64>::new("numbers", 1), Log::default());
    let outlet = slow.outlet();
    let sender = ChildSpec::role("sender", "sender", move |scope| {
        let outlet = outlet.clone();
        async move {
            let _wait = scope.waiting_on_inbox("room", &outlet);
            for number in 0..3 {
                outlet.send(number).await?;
            }
            scope.stopping().await;
            Ok(())
        }
    });
    let runtime = start(root().child(reader(&slow, &log, |_, _| Ok(()))).child(sender));
    let sender = wait_node(&runtime, "sender", "it waits", |node| node.waiting_on.is_some()).await;
    assert_eq!(sender.waiting_on.unwrap().actor, Some(ActorPath::parse("reader").unwrap()));
    let reader = wait_node(&runtime, "reader", "all are read", |node| node.processed == 3).await;
    let (step, queue) = (reader.step_us.unwrap(), reader.queue_us.unwrap());
    assert_eq!((step.count, queue.count), (3, 3));
    assert!(step.p50 <= step.p99 && reader.rate_per_s.is_some());
}
