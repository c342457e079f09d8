//! Supervisors below supervisors, and children that come and go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use streamward_kit::{
    ActorState, Backoff, ChildPolicy, ChildSpec, Command, CommandError, ExitReason, Failure, Intensity, Outcome,
    Placement, Scope, SpecError, Strategy, SupervisorSpec,
};

use crate::support::{eager, idle, path, root, start, wait, wait_node};

fn ticker(count: &Arc<AtomicU64>) -> ChildSpec {
    let count = Arc::clone(count);
    ChildSpec::role("ticker", "ticker", move |scope: Scope| {
        let count = Arc::clone(&count);
        async move {
            while !scope.sleep(Duration::from_millis(1)).await {
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }
    })
    .placement(Placement::pool("calm"))
}

fn crasher() -> ChildSpec {
    ChildSpec::role("crasher", "crasher", |_| async {
        tokio::task::yield_now().await;
        Err(Failure::new("always"))
    })
    .policy(eager())
}

/// otp#1287: a subtree that crash-loops must not use up what another one has.
#[actix_rt::test]
async fn a_crash_looping_subtree_leaves_its_sibling_alone() {
    let count = Arc::new(AtomicU64::new(0));
    let wild = SupervisorSpec::new("wild").intensity(Intensity { max_restarts: 5, within: Duration::from_secs(60) });
    let backoff = Backoff { min: Duration::from_millis(5), max: Duration::from_millis(10), ..Backoff::default() };
    let wild = ChildSpec::supervisor(wild.child(idle("mate")).child(crasher()));
    let wild = wild.policy(ChildPolicy::permanent().backoff(backoff));
    let calm = ChildSpec::supervisor(SupervisorSpec::new("calm").child(ticker(&count)));
    let pipelines = SupervisorSpec::new("pipelines")
        .intensity(Intensity { max_restarts: 100_000, within: Duration::from_secs(60) });
    let pipelines = pipelines.child(wild).child(calm);
    let runtime = start(root().child(ChildSpec::supervisor(pipelines)).child(idle("edge")));
    let node = wait_node(&runtime, "pipelines/wild", "it escalated often", |node| node.generation >= 10).await;
    assert_eq!(node.last_exit.unwrap().reason, ExitReason::Escalated);
    let before = count.load(Ordering::Relaxed);
    wait(&runtime, "the sibling goes on", |_| count.load(Ordering::Relaxed) > before + 20).await;
    let tree = runtime.snapshot();
    assert_eq!(tree.find("pipelines/calm/ticker").unwrap().generation, 1);
    assert_eq!(tree.find("edge").unwrap().generation, 1);
    assert!(
        tree.find("pipelines/wild/mate").unwrap().generation >= 9,
        "it was stopped and started with its supervisor"
    );
}

/// OTP: beyond the intensity all children are ended, then the supervisor, and its parent is told.
#[actix_rt::test]
async fn escalation_climbs_to_the_root_when_every_level_has_had_enough() {
    let none = Intensity { max_restarts: 0, within: Duration::from_secs(60) };
    let inner = ChildSpec::supervisor(SupervisorSpec::new("inner").intensity(none).child(crasher()));
    let runtime = start(root().intensity(none).child(idle("first")).child(inner));
    let Outcome::Escalated(report) = runtime.run().await else { panic!("it must escalate") };
    assert!(report.message.contains("inner"));
    assert_eq!(runtime.snapshot().find("first").unwrap().state, ActorState::Stopped);
}

#[actix_rt::test]
async fn one_for_all_restarts_the_siblings_of_a_failed_child() {
    let spec =
        root().strategy(Strategy::OneForAll).intensity(Intensity { max_restarts: 1, within: Duration::from_secs(60) });
    let runtime = start(spec.child(idle("first")).child(crasher()).child(idle("last")));
    assert!(matches!(runtime.run().await, Outcome::Escalated(_)));
    let generations: Vec<u64> = runtime.snapshot().children.iter().map(|node| node.generation).collect();
    assert_eq!(generations, [2, 2, 2]);
}

#[actix_rt::test]
async fn dynamic_children_come_and_go_within_a_bound() {
    let sessions = ChildSpec::supervisor(SupervisorSpec::new("sessions").max_children(2));
    let runtime = start(root().child(sessions));
    let handle = runtime.supervisor(path("sessions"));
    let session = |id: &str| idle(id).policy(ChildPolicy::temporary());
    assert_eq!(handle.start_child(session("a")).await, Ok(path("sessions/a")));
    assert_eq!(handle.start_child(session("a")).await, Err(CommandError::Exists(path("sessions/a"))));
    handle.start_child(session("b")).await.unwrap();
    let full = CommandError::Full { path: path("sessions"), most: 2 };
    assert_eq!(handle.start_child(session("c")).await, Err(full));
    handle.stop_child("a").await.unwrap();
    wait(&runtime, "a left", |tree| tree.find("sessions/a").is_none()).await;
    handle.start_child(session("c")).await.unwrap();
    assert_eq!(runtime.snapshot().find("sessions").unwrap().children.len(), 2);
}

/// OTP: a temporary child is never restarted.
#[actix_rt::test]
async fn a_temporary_child_that_ends_or_panics_leaves_the_tree_and_is_not_missed() {
    let runtime = start(root().child(ChildSpec::supervisor(SupervisorSpec::new("sessions"))));
    let handle = runtime.supervisor(path("sessions"));
    for id in ["ends", "panics"] {
        let session = ChildSpec::role(id, "session", move |_| async move {
            tokio::task::yield_now().await;
            assert_eq!(id, "ends");
            Ok(())
        });
        handle.start_child(session.policy(ChildPolicy::temporary())).await.unwrap();
    }
    wait(&runtime, "both left", |tree| tree.find("sessions").unwrap().children.is_empty()).await;
    assert_eq!(runtime.snapshot().find("sessions").unwrap().restarts_in_window, 0);
}

/// kameo: a child that asks its parent for something does not wait for ever.
#[actix_rt::test]
async fn a_child_may_ask_its_own_supervisor_to_restart() {
    let runtime = start(root().child(ChildSpec::supervisor(SupervisorSpec::new("sup"))));
    let asking = runtime.clone();
    let child = ChildSpec::role("asker", "asker", move |scope: Scope| {
        let runtime = asking.clone();
        async move {
            runtime.command(&path("sup"), Command::Restart).await.map_err(Failure::new)?;
            scope.stopping().await;
            Ok(())
        }
    });
    runtime.supervisor(path("sup")).start_child(child).await.unwrap();
    let node =
        wait_node(&runtime, "sup", "restarted", |node| node.generation == 2 && node.state == ActorState::Running).await;
    assert!(node.children.is_empty(), "dynamic children do not outlive a restart of their supervisor");
}

#[actix_rt::test]
async fn an_id_used_twice_is_refused_before_anything_starts() {
    let error = streamward_kit::Runtime::start(root().child(idle("a")).child(idle("a"))).err();
    assert!(matches!(error, Some(SpecError::Path(_))), "{error:?}");
}
