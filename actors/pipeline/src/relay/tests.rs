//! A relay whose target takes some facts and others not.

use streamward_kit::{ChildSpec, Runtime, SupervisorSpec};

use super::*;
use crate::fakes::{Entries, Taker, on_a_system};

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
        (Arc::new(entries), Taker { answers: parking_lot::Mutex::new(answers.into()), pages: Default::default() });
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
    let target = Arc::new(Taker { answers: Default::default(), pages: Default::default() });
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
