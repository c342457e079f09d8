//! What an operator can do, and what the tree shows of it.

use std::{
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use streamward_kit::{
    ActorState, ChildPolicy, ChildSpec, Command, CommandError, EventKind, Failure, Fault, FaultKind, Placement,
    Restart, Scope, SupervisorSpec, TreeNode,
};

use crate::support::{LIMIT, Log, idle, numbers, path, reader, root, start, wait, wait_node};

#[actix_rt::test]
async fn a_paused_actor_holds_over_a_restart_until_it_is_resumed() {
    let (inbox, log) = (numbers(0), Log::default());
    let runtime = start(root().child(reader(&inbox, &log, |_, _| Ok(()))));
    wait_node(&runtime, "reader", "running", |node| node.state == ActorState::Running).await;
    runtime.command(&path("reader"), Command::Pause).await.unwrap();
    (1..=5).for_each(|number| inbox.outlet().try_send(number).unwrap());
    let node = wait_node(&runtime, "reader", "it holds", |node| node.waiting_on.is_some()).await;
    assert_eq!((node.state, node.waiting_on.unwrap().on), (ActorState::Paused, "resume"));
    runtime.command(&path("reader"), Command::Restart).await.unwrap();
    let node =
        wait_node(&runtime, "reader", "it holds again", |node| node.generation == 2 && node.waiting_on.is_some()).await;
    assert_eq!((node.processed, node.inbox.unwrap().depth), (0, 5));
    runtime.command(&path("reader"), Command::Resume).await.unwrap();
    inbox.drained().await;
    wait_node(&runtime, "reader", "it runs", |node| node.state == ActorState::Running && node.processed == 5).await;
}

#[actix_rt::test]
async fn a_note_from_outside_shows_a_node_as_degraded_over_restarts_until_it_is_taken_back() {
    let (inbox, log) = (numbers(0), Log::default());
    let runtime = start(root().child(reader(&inbox, &log, |_, _| Ok(()))));
    wait_node(&runtime, "reader", "running", |node| node.state == ActorState::Running).await;
    let seen = runtime.events().last().unwrap().seq;
    for noted in [path("reader"), path("/")] {
        runtime.note(&noted, Some("stands still"));
        runtime.note(&noted, Some("stands still"));
    }
    runtime.note(&path("nobody"), Some("is not there"));
    runtime.command(&path("reader"), Command::Restart).await.unwrap();
    let is_noted = |node: &TreeNode| node.note.as_deref() == Some("stands still");
    wait_node(&runtime, "reader", "it is degraded", |node| {
        node.generation == 2 && node.state == ActorState::Degraded && is_noted(node)
    })
    .await;
    assert!(is_noted(&runtime.snapshot()));
    runtime.note(&path("reader"), None);
    wait_node(&runtime, "reader", "it runs", |node| node.state == ActorState::Running && node.note.is_none()).await;
    let noted = runtime.events_since(seen).into_iter().filter_map(|event| match event.kind {
        EventKind::Noted { note } => Some((event.path, note.as_deref().map(str::to_owned))),
        _ => None,
    });
    let said = || Some("stands still".to_owned());
    assert_eq!(noted.collect::<Vec<_>>(), [(path("reader"), said()), (path("/"), said()), (path("reader"), None)]);
}

/// ractor's draining; kameo#377: an explicit stop is final, also for a permanent child.
#[actix_rt::test]
async fn a_drained_actor_finishes_its_queue_and_stays_down_until_restarted() {
    let (inbox, log) = (numbers(200), Log::default());
    let runtime = start(root().child(reader(&inbox, &log, |_, _| Ok(()))));
    runtime.command(&path("/"), Command::Drain).await.unwrap();
    wait_node(&runtime, "reader", "it rests", |node| node.state == ActorState::Stopped).await;
    assert_eq!(log.lock().len(), 200);
    inbox.outlet().try_send(201).unwrap();
    runtime.command(&path("reader"), Command::Restart).await.unwrap();
    inbox.drained().await;
    wait_node(&runtime, "reader", "it runs", |node| node.state == ActorState::Running).await;
}

/// ractor's draining, with a failure in between.
#[actix_rt::test]
async fn an_actor_that_fails_while_draining_still_finishes_its_queue() {
    let (inbox, log) = (numbers(0), Log::default());
    let runtime = start(root().child(reader(&inbox, &log, |_, _| Ok(()))));
    runtime.command(&path("reader"), Command::Inject(Fault::new(FaultKind::Panic, 3))).await.unwrap();
    (1..=50).for_each(|number| inbox.outlet().try_send(number).unwrap());
    runtime.command(&path("reader"), Command::Drain).await.unwrap();
    wait_node(&runtime, "reader", "it rests", |node| node.state == ActorState::Stopped).await;
    assert_eq!(*log.lock(), (1..=50).collect::<Vec<_>>());
}

/// actix `ctx.wait`: a stage that waits for the next one answers no control message. Here it does.
#[actix_rt::test]
async fn control_messages_are_answered_while_the_role_waits_and_under_flood() {
    let (inbox, log) = (numbers(1_000), Log::default());
    let runtime =
        start(root().child(reader(&inbox, &log, |_, _| Ok(()))).child(idle("idle").placement(Placement::Dedicated)));
    wait(&runtime, "both run", |tree| tree.children.iter().all(|node| node.state == ActorState::Running)).await;
    let node = runtime.describe(&path("idle"), LIMIT).await.unwrap();
    assert_eq!((node.path, node.generation), (path("idle"), 1));
    let node = runtime.describe(&path("reader"), LIMIT).await.unwrap();
    assert_eq!(&*node.kind, "reader");
}

#[actix_rt::test]
async fn a_wrong_command_says_why() {
    let runtime = start(root().child(idle("a")).child(ChildSpec::supervisor(SupervisorSpec::new("sup"))));
    let inject = || Command::Inject(Fault::new(FaultKind::Panic, 1));
    assert_eq!(runtime.command(&path("b"), Command::Restart).await, Err(CommandError::UnknownPath(path("b"))));
    assert_eq!(runtime.command(&path("sup"), inject()).await, Err(CommandError::NotALeaf(path("sup"))));
    assert_eq!(runtime.command(&path("/"), Command::Restart).await, Err(CommandError::IsRoot));
    let none = Command::Inject(Fault::new(FaultKind::Panic, 0));
    assert_eq!(runtime.command(&path("a"), none).await, Err(CommandError::TooManyFaults));
    runtime.shutdown(Vec::new()).await;
    assert_eq!(runtime.command(&path("a"), Command::Restart).await, Err(CommandError::Ended));
}

/// elfo: a policy changed at run time counts.
#[actix_rt::test]
async fn a_new_policy_counts_from_the_next_failure() {
    let fail = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&fail);
    let child = ChildSpec::role("role", "role", move |scope: Scope| {
        let asked = Arc::clone(&asked);
        async move {
            while !asked.load(Ordering::SeqCst) {
                if scope.sleep(Duration::from_millis(1)).await {
                    return Ok(());
                }
            }
            Err(Failure::new("asked to"))
        }
    });
    let runtime = start(root().child(child));
    let policy = ChildPolicy { restart: Restart::Temporary, ..ChildPolicy::default() };
    runtime.set_policy(&path("role"), policy).await.unwrap();
    fail.store(true, Ordering::SeqCst);
    let node = wait_node(&runtime, "role", "down", |node| node.state == ActorState::Failed).await;
    assert_eq!((node.generation, node.policy), (1, policy));
}

#[actix_rt::test]
async fn a_degraded_actor_says_why_and_the_tree_is_plain_json() {
    let child = ChildSpec::role("sink", "sink", |scope: Scope| async move {
        scope.set_state_note("database refused the connection");
        scope.stopping().await;
        Ok(())
    });
    let runtime = start(root().child(child));
    wait_node(&runtime, "sink", "degraded", |node| node.state == ActorState::Degraded).await;
    let json = serde_json::to_value(runtime.snapshot()).unwrap();
    let sink = &json["children"][0];
    assert_eq!(sink["path"], "sink");
    assert_eq!(sink["state"], "degraded");
    assert_eq!(sink["note"], "database refused the connection");
    assert_eq!(sink["policy"]["backoff"]["min"], "100ms");
    assert_eq!(json["strategy"], "one-for-one");
    let figures = runtime.metrics();
    assert_eq!(figures.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["/", "sink"]);
    let mut events = runtime.subscribe();
    runtime.command(&path("sink"), Command::Restart).await.unwrap();
    let event = serde_json::to_value(events.recv().await.unwrap()).unwrap();
    assert_eq!((event["kind"].as_str(), event["state"].as_str()), (Some("state"), Some("stopping")));
}
