//! Ending in order.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use streamward_kit::{ActorState, ChildSpec, Command, Outcome, Phase, PhaseAction, Placement, Scope, SupervisorSpec};

use crate::support::{LIMIT, Log, eager, idle, numbers, path, reader, root, start, wait};

const SHORT: Duration = Duration::from_millis(50);

fn noted(id: &'static str, order: &Arc<Mutex<Vec<&'static str>>>) -> ChildSpec {
    let order = Arc::clone(order);
    ChildSpec::role(id, "noted", move |scope: Scope| {
        let order = Arc::clone(&order);
        async move {
            scope.stopping().await;
            order.lock().push(id);
            Ok(())
        }
    })
}

/// OTP: children end in the reverse of their start order; Akka's coordinated shutdown: named phases come first.
#[actix_rt::test]
async fn phases_come_first_and_the_rest_ends_in_reverse() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let pipelines = SupervisorSpec::new("pipelines").child(noted("sink", &order)).child(noted("source", &order));
    let spec =
        root().child(noted("storage", &order)).child(ChildSpec::supervisor(pipelines)).child(noted("http", &order));
    let runtime = start(spec);
    wait(&runtime, "all run", |tree| tree.iter().all(|node| node.state == ActorState::Running)).await;
    let sources = Phase::new("sources", &["pipelines/source"], PhaseAction::Stop, LIMIT);
    let report = runtime.shutdown(vec![sources]).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(*order.lock(), ["source", "http", "sink", "storage"]);
    assert_eq!(runtime.run().await, Outcome::Stopped);
}

/// Alpakka's `DrainingControl`: stop, drain, commit, then end.
#[actix_rt::test]
async fn a_drain_phase_empties_the_queue_before_the_end() {
    let (inbox, log) = (numbers(500), Log::default());
    let runtime = start(root().child(reader(&inbox, &log, |_, _| Ok(()))));
    let report = runtime.shutdown(vec![Phase::new("lanes", &["*"], PhaseAction::Drain, LIMIT)]).await;
    assert!(report.is_clean());
    assert_eq!(*log.lock(), (1..=500).collect::<Vec<_>>());
}

/// quickwit's kill: whoever does not end in time is aborted, and named.
#[actix_rt::test]
async fn a_missed_deadline_names_the_actor_and_the_others_end_in_peace() {
    let deaf = ChildSpec::role("deaf", "deaf", |_| std::future::pending());
    let runtime = start(root().child(deaf.policy(eager()).placement(Placement::Dedicated)).child(idle("good")));
    wait(&runtime, "all run", |tree| tree.iter().all(|node| node.state == ActorState::Running)).await;
    let report = runtime.shutdown(vec![Phase::new("lanes", &["/"], PhaseAction::Drain, SHORT)]).await;
    assert_eq!(report.phases[0].missed, [path("deaf")]);
    assert!(report.missed_stop.is_empty());
    assert_eq!(runtime.snapshot().find("deaf").unwrap().state, ActorState::Stopped);
}

#[actix_rt::test]
async fn an_actor_that_ignores_its_stop_is_aborted_and_named() {
    let deaf = ChildSpec::role("deaf", "deaf", |_| std::future::pending());
    let runtime = start(root().child(deaf.policy(eager().stop_within(SHORT))));
    let report = runtime.shutdown(Vec::new()).await;
    assert_eq!(report.missed_stop, [path("deaf")]);
}

#[actix_rt::test]
async fn a_paused_actor_can_still_be_shut_down() {
    let holding = ChildSpec::role("holding", "holding", |scope: Scope| async move {
        scope.pause_point().await;
        scope.stopping().await;
        Ok(())
    });
    let runtime = start(root().child(holding.policy(eager())));
    runtime.command(&path("holding"), Command::Pause).await.unwrap();
    runtime.command(&path("holding"), Command::Restart).await.unwrap();
    assert!(runtime.shutdown(Vec::new()).await.is_clean());
}
