//! A relay whose target takes some facts and others not.

use streamward_kit::{ActorPath, ChildPolicy, ChildSpec, Command, Fault, FaultKind, Runtime, SupervisorSpec, TreeNode};

use super::*;
use crate::fakes::{Entries, Taker, in_virtual_time, on_a_system};

/// What a relay has done by the time that its outbox is empty.
struct Done {
    /// Ids of each page that the target got.
    pages: Vec<Vec<i64>>,
    /// Ids of each removal from the outbox.
    removed: Vec<Vec<i64>>,
    undeliverable: Vec<(i64, String)>,
}

/// Lets a supervised relay empty an outbox; the target answers like this to the first pages.
fn relayed(entries: Entries, answers: Vec<Vec<Result<(), TargetError>>>) -> Done {
    let (outbox, target) =
        (Arc::new(entries), Taker { answers: parking_lot::Mutex::new(answers.into()), ..Taker::default() });
    let target = Arc::new(target);
    let shared = Arc::new(RelayShared { kind: FactKind::Alert, outbox: outbox.clone(), target: target.clone() });
    on_a_system(async {
        let relay = ChildSpec::role("relay", "relay", move |scope| run(scope, shared.clone()));
        let runtime = Runtime::start(SupervisorSpec::new("root").child(relay)).unwrap();
        outbox.emptied().await;
        runtime.shutdown(Vec::new()).await;
    });
    let (pages, removed) = (target.pages.lock().clone(), outbox.removed.lock().clone());
    let undeliverable = outbox.undeliverable.lock().clone();
    Done { pages, removed, undeliverable }
}

fn unavailable() -> Result<(), TargetError> {
    Err(TargetError::Unavailable("no leader".to_owned()))
}

#[test]
fn a_fact_that_the_target_could_not_take_stays_in_the_outbox_and_is_sent_again() {
    let done = relayed(Entries::of(1..=2), vec![vec![Ok(()), unavailable()], vec![unavailable()]]);
    assert_eq!(done.pages, [vec![1, 2], vec![2], vec![2]]);
    assert_eq!(done.removed, [vec![1], vec![], vec![2]], "it leaves once the target has it");
    assert_eq!(done.undeliverable, []);
}

#[test]
fn a_fact_that_the_target_refuses_is_noted_and_holds_up_nothing_behind_it() {
    let refused = Err(TargetError::Refused("too large".to_owned()));
    let done = relayed(Entries::of(1..=3), vec![vec![Ok(()), refused, Ok(())]]);
    assert_eq!((done.pages, done.removed), (vec![vec![1, 2, 3]], vec![vec![1, 2, 3]]));
    assert_eq!(done.undeliverable, [(2, "too large".to_owned())]);
}

#[test]
fn facts_are_sent_again_where_the_outbox_did_not_hear_that_the_target_has_them() {
    let entries = Entries::of(1..=2);
    *entries.refusals.lock() = 1;
    let done = relayed(entries, Vec::new());
    assert_eq!((done.pages, done.removed), (vec![vec![1, 2], vec![1, 2]], vec![vec![1, 2]]));
}

#[test]
fn a_target_that_is_down_for_a_while_is_asked_again_at_waits_that_grow_step_by_step() {
    let down = || vec![unavailable()];
    let done = relayed(Entries::of([1]), vec![down(), down(), down(), down()]);
    assert_eq!((done.pages.len(), done.removed.last()), (5, Some(&vec![1])));
}

#[test]
fn entries_that_came_without_a_notice_are_found_all_the_same() {
    let outbox = Arc::new(Entries::of([]));
    let target = Arc::new(Taker::default());
    let shared = Arc::new(RelayShared { kind: FactKind::Alert, outbox: outbox.clone(), target: target.clone() });
    on_a_system(async {
        let relay = ChildSpec::role("relay", "relay", move |scope| run(scope, shared.clone()));
        let runtime = Runtime::start(SupervisorSpec::new("root").child(relay)).unwrap();
        let waits_for = || runtime.snapshot().find("relay").and_then(|relay| relay.waiting_on.clone());
        while waits_for().is_none_or(|waiting| waiting.on != "outbox") {
            tokio::task::yield_now().await;
        }
        outbox.left.send_replace(Entries::of([1]).left.borrow().clone());
        outbox.emptied().await;
        runtime.shutdown(Vec::new()).await;
    });
    assert_eq!(*target.pages.lock(), [[1]]);
}

/// Lets a relay empty an outbox of one fact twice; the target answers like this to the first pages. The relay while it
/// waits for more, and what the target got.
async fn emptied_twice(answers: Vec<Vec<Result<(), TargetError>>>) -> ([TreeNode; 2], Arc<Taker>) {
    let outbox = Arc::new(Entries::of([]));
    let target = Arc::new(Taker { answers: parking_lot::Mutex::new(answers.into()), ..Taker::default() });
    let shared = Arc::new(RelayShared { kind: FactKind::Alert, outbox: outbox.clone(), target: target.clone() });
    let relay = ChildSpec::role("relay", "relay", move |scope| run(scope, shared.clone()));
    let runtime = Runtime::start(SupervisorSpec::new("root").child(relay)).unwrap();
    let look = || runtime.snapshot().find("relay").cloned();
    let is_at_rest = |relay: &TreeNode| relay.waiting_on.as_ref().is_some_and(|waiting| waiting.on == "outbox");
    let mut at_rest = Vec::new();
    for id in [1, 2] {
        outbox.left.send_replace(Entries::of([id]).left.borrow().clone());
        outbox.emptied().await;
        while at_rest.len() < id as usize {
            tokio::task::yield_now().await;
            at_rest.extend(look().filter(is_at_rest));
        }
    }
    runtime.shutdown(Vec::new()).await;
    (at_rest.try_into().unwrap(), target)
}

#[test]
fn a_target_that_was_down_before_is_asked_again_as_soon_as_the_first_time() {
    let down = || vec![unavailable()];
    let answers = vec![down(), down(), down(), vec![Ok(())], down()];
    let (_, target) = in_virtual_time(emptied_twice(answers));
    let moments = target.moments.borrow();
    let waits: Vec<Duration> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(*target.pages.lock(), [[1], [1], [1], [1], [2], [2]]);
    assert!(waits[2] >= 4 * RETRY_FIRST && waits[4] < 2 * RETRY_FIRST, "{waits:?}");
}

#[test]
fn a_relay_whose_target_is_back_does_not_say_any_more_that_it_is_gone() {
    let (at_rest, target) = in_virtual_time(emptied_twice(vec![vec![unavailable()]]));
    assert_eq!(*target.pages.lock(), [[1], [1], [2]]);
    assert_eq!(at_rest.map(|relay| relay.note), [None, None]);
}

#[test]
fn a_relay_whose_target_is_down_says_why_and_ends_at_once_when_it_is_to() {
    let down = || vec![unavailable()];
    let (outbox, target) = (Arc::new(Entries::of([1])), Arc::new(Taker::default()));
    target.answers.lock().extend([down(), down(), down(), down()]);
    let shared = Arc::new(RelayShared { kind: FactKind::Alert, outbox, target: target.clone() });
    in_virtual_time(async {
        let relay = ChildSpec::role("relay", "relay", move |scope| run(scope, shared.clone()));
        let runtime = Runtime::start(SupervisorSpec::new("root").child(relay)).unwrap();
        target.moments.subscribe().wait_for(|moments| moments.len() == 4).await.unwrap();
        assert_eq!(runtime.snapshot().find("relay").unwrap().note.as_deref(), Some("no leader"));
        let since = tokio::time::Instant::now();
        runtime.shutdown(Vec::new()).await;
        assert!(since.elapsed() < 8 * RETRY_FIRST, "it would be asked again in {:?}", 8 * RETRY_FIRST);
    });
    assert_eq!(target.pages.lock().len(), 4);
}

#[test]
fn a_fact_that_the_target_refuses_stays_until_that_is_noted() {
    let refused = || vec![Err(TargetError::Refused("too large".to_owned()))];
    let entries = Entries::of([1]);
    *entries.refusals.lock() = 1;
    let done = relayed(entries, vec![refused(), refused()]);
    assert_eq!((done.pages, done.removed), (vec![vec![1], vec![1]], vec![vec![1]]));
    assert_eq!(done.undeliverable, [(1, "too large".to_owned())]);
}

#[test]
fn an_outbox_that_is_busy_is_left_alone_for_a_while_and_a_notice_is_followed_at_once() {
    let (outbox, target) = (Arc::new(Entries::of([1])), Arc::new(Taker::default()));
    *outbox.refusals.lock() = 1;
    let shared = Arc::new(RelayShared { kind: FactKind::Alert, outbox: outbox.clone(), target: target.clone() });
    in_virtual_time(async {
        let relay = ChildSpec::role("relay", "relay", move |scope| run(scope, shared.clone()));
        let runtime = Runtime::start(SupervisorSpec::new("root").child(relay)).unwrap();
        outbox.emptied().await;
        let moments = target.moments.borrow().clone();
        assert!(moments[1] - moments[0] >= RETRY_FIRST);
        tokio::time::advance(LOOK_EVERY / 2).await;
        let since = tokio::time::Instant::now();
        outbox.left.send_replace(Entries::of([2]).left.borrow().clone());
        outbox.grown.notify_one();
        outbox.emptied().await;
        assert!(since.elapsed() < LOOK_EVERY / 4, "{:?}", since.elapsed());
        runtime.shutdown(Vec::new()).await;
    });
}

#[test]
fn a_relay_that_is_held_or_faulty_sends_nothing() {
    let (outbox, target) = (Arc::new(Entries::of([])), Arc::new(Taker::default()));
    let shared = Arc::new(RelayShared { kind: FactKind::Alert, outbox: outbox.clone(), target: target.clone() });
    let path = ActorPath::parse("relay").unwrap();
    let exit = on_a_system(async {
        let relay = ChildSpec::role("relay", "relay", move |scope| run(scope, shared.clone()));
        let runtime =
            Runtime::start(SupervisorSpec::new("root").child(relay.policy(ChildPolicy::permanent()))).unwrap();
        runtime.command(&path, Command::Pause).await.unwrap();
        let waits_for = || runtime.snapshot().find("relay").and_then(|relay| relay.waiting_on.clone());
        while waits_for().is_none_or(|waiting| waiting.on != "resume") {
            tokio::task::yield_now().await;
        }
        outbox.left.send_replace(Entries::of([1]).left.borrow().clone());
        let fault = Fault { kind: FaultKind::Error, times: 1, point: Some("relay".to_owned()) };
        runtime.command(&path, Command::Inject(fault)).await.unwrap();
        assert_eq!(*target.pages.lock(), [[0_i64; 0]; 0], "it is held");
        runtime.command(&path, Command::Resume).await.unwrap();
        outbox.emptied().await;
        let exit = runtime.snapshot().find("relay").unwrap().last_exit.clone();
        runtime.shutdown(Vec::new()).await;
        exit
    });
    assert_eq!(exit.map(|exit| exit.message).as_deref(), Some("injected error at relay"));
    assert_eq!(*target.pages.lock(), [[1]]);
}

#[test]
fn a_target_that_stays_down_is_asked_at_waits_that_double_up_to_a_bound() {
    let (outbox, target) = (Arc::new(Entries::of([1])), Arc::new(Taker::default()));
    target.answers.lock().extend((0..9).map(|_| vec![unavailable()]));
    let shared = Arc::new(RelayShared { kind: FactKind::Alert, outbox: outbox.clone(), target: target.clone() });
    in_virtual_time(async {
        let relay = ChildSpec::role("relay", "relay", move |scope| run(scope, shared.clone()));
        let runtime = Runtime::start(SupervisorSpec::new("root").child(relay)).unwrap();
        outbox.emptied().await;
        runtime.shutdown(Vec::new()).await;
    });
    let moments = target.moments.borrow();
    let waits = moments.windows(2).map(|pair| (pair[1] - pair[0]).as_millis() / RETRY_FIRST.as_millis());
    assert_eq!(waits.collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 64, 100, 100]);
}
