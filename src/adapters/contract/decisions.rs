//! What storage keeps of decisions, and for how long.

use std::sync::Arc;

use futures_util::FutureExt as _;
use streamward_core::{
    output::{DeadLetter, Output, StateChunk, ranges},
    partition::Decisions,
};
use streamward_pipeline::{
    relay::FactKind,
    store::{Checkpoint, Outcome, Start},
};

use super::{contract, fixture::*, scratch::Scratch};

/// An output of ten offsets: the first two and the fifth are dead, the fourth is ahead.
fn decided(start: i64) -> Output {
    let mut output = output(0, start, start + 10);
    output.dead = [start, start + 1, start + 4].map(letter).to_vec();
    let stays: Vec<i64> = output.offsets.iter().copied().filter(|o| ![0, 1, 4].contains(&(o - start))).collect();
    output.rows = rows(&stays);
    (output.offsets, output.ahead) = (stays, vec![start + 3]);
    output
}

fn with_checkpoint(output: Output) -> Output {
    Output { checkpoint: vec![StateChunk { name: "watermark".into(), bytes: vec![1] }], ..output }
}

async fn decisions_behind_the_checkpoint_come_with_the_next_assignment(scratch: Scratch) {
    let store = scratch.open().await.store;
    let owner = assign(&*store, 0).await;
    assert_eq!(owner.decisions, Decisions::default());
    let outputs = [0, 10].map(|start| pending(&owner, decided(start)));
    store.commit(&outputs).await.unwrap();
    let (dead, ahead) = (vec![0..2, 4..5, 10..12, 14..15], vec![3..4, 13..14]);
    assert_eq!(assign(&*store, 0).await.decisions, Decisions::new(0..20, dead, ahead));
    assert_eq!(assign(&*store, 1).await.decisions, Decisions::default(), "another partition");
}

async fn a_checkpoint_forgets_the_decisions_that_it_covers_and_no_later_ones(scratch: Scratch) {
    let store = scratch.open().await.store;
    let owner = assign(&*store, 0).await;
    // One transaction, in which the checkpoint is not the last.
    let outputs = [decided(0), with_checkpoint(decided(10)), decided(20)].map(|output| pending(&owner, output));
    store.commit(&outputs).await.unwrap();
    let next = assign(&*store, 0).await;
    assert!(matches!(next.checkpoint, Some(Checkpoint { next_offset: 20, .. })), "{next:?}");
    assert_eq!(next.decisions, Decisions::new(20..30, vec![20..22, 24..25], ranges([23])));
    assert_eq!(scratch.count("SELECT count(*) FROM sw_decisions").await, 3);
}

async fn a_row_that_the_database_refused_was_processed_and_counts_in_replay_as_it_did(scratch: Scratch) {
    let store = scratch.open().await.store;
    let owner = assign(&*store, 0).await;
    scratch.refuse("= 3.5").await;
    let mut output = Arc::into_inner(pending(&owner, output(0, 0, 6))).unwrap();
    output.raw = Some(Arc::new(raw(&output.output.offsets)));
    let outcomes = store.commit(&[Arc::new(output)]).await.unwrap();
    assert_eq!(outcomes, [Outcome::CommittedWithout(1)]);
    assert_eq!(assign(&*store, 0).await.decisions, Decisions::new(0..6, Vec::new(), Vec::new()));
}

async fn a_late_output_of_an_earlier_log_leaves_the_state_of_the_newer_one_as_it_is(scratch: Scratch) {
    let store = scratch.open().await.store;
    let earlier = assign(&*store, 0).await;
    let newer = assign_of(&*store, 0, "second").await;
    let outputs = [(&newer, 5), (&earlier, 3)].map(|(of, end)| pending(of, with_checkpoint(output(0, 0, end))));
    assert_eq!(store.commit(&outputs).await.unwrap(), [Outcome::Committed, Outcome::Committed]);
    let next = assign_of(&*store, 0, "second").await;
    assert!(matches!(next.checkpoint, Some(Checkpoint { next_offset: 5, .. })), "{next:?}");
}

async fn partitions_keep_their_checkpoints_whichever_of_them_was_assigned_more_often(scratch: Scratch) {
    let store = scratch.open().await.store;
    let first = assign(&*store, 0).await;
    assign(&*store, 1).await;
    let second = assign(&*store, 1).await;
    assert!(second.epoch > first.epoch);
    let outputs = [(&first, 0, 3), (&second, 1, 5)]
        .map(|(owner, partition, end)| pending(owner, with_checkpoint(output(partition, 0, end))));
    assert_eq!(store.commit(&outputs).await.unwrap(), [Outcome::Committed, Outcome::Committed]);
    for (partition, end) in [(0, 3), (1, 5)] {
        let covered = assign(&*store, partition).await.checkpoint.map(|checkpoint| checkpoint.next_offset);
        assert_eq!(covered, Some(end), "partition {partition}");
    }
}

async fn the_newest_event_of_outputs_of_one_transaction_is_that_of_all_of_them(scratch: Scratch) {
    let store = scratch.open().await.store;
    let owner = assign(&*store, 0).await;
    let outputs = [(0, 7), (1, 9), (2, 8)].map(|(offset, newest_event_ms)| {
        pending(&owner, Output { end: offset + 1, newest_event_ms, ..output(0, offset, offset) })
    });
    store.commit(&outputs).await.unwrap();
    assert_eq!(assign(&*store, 0).await.newest_event_ms, 9);
}

async fn an_output_that_is_recognised_is_not_told_of_rows_that_were_refused_in_an_earlier_log(scratch: Scratch) {
    let store = scratch.open().await.store;
    let refused = DeadLetter { stage: "sql".to_owned(), ..letter(2) };
    store
        .commit(&[pending(&assign(&*store, 0).await, Output { dead: vec![refused], ..output(0, 0, 3) })])
        .await
        .unwrap();
    let newer = assign_of(&*store, 0, "second").await;
    for outcome in [Outcome::Committed, Outcome::AlreadyCommitted] {
        assert_eq!(store.commit(&[pending(&newer, output(0, 0, 3))]).await.unwrap(), [outcome]);
    }
}

async fn decisions_of_an_earlier_log_do_not_come_with_an_assignment_of_the_newer_one(scratch: Scratch) {
    let store = scratch.open().await.store;
    let earlier = assign(&*store, 0).await;
    store.commit(&[pending(&earlier, decided(0))]).await.unwrap();
    let newer = assign_of(&*store, 0, "second").await;
    store.commit(&[pending(&newer, output(0, 0, 10))]).await.unwrap();
    let next = assign_of(&*store, 0, "second").await;
    assert_eq!(next.decisions, Decisions::new(0..10, Vec::new(), Vec::new()));
}

async fn a_partition_that_begins_anew_forgets_its_own_checkpoint_and_no_other(scratch: Scratch) {
    let store = scratch.open().await.store;
    let (first, second) = (assign(&*store, 0).await, assign(&*store, 1).await);
    let outputs =
        [(&first, 0), (&second, 1)].map(|(owner, partition)| pending(owner, with_checkpoint(output(partition, 0, 3))));
    store.commit(&outputs).await.unwrap();
    let start = Start { epoch: first.epoch, log: first.log, position: 0, gap: None };
    store.start_at(&key(0), start).await.unwrap();
    let is_kept = [assign(&*store, 0).await, assign(&*store, 1).await].map(|owner| owner.checkpoint.is_some());
    assert_eq!(is_kept, [false, true]);
}

async fn facts_are_announced_though_the_last_output_of_their_transaction_has_none(scratch: Scratch) {
    let store = scratch.open().await.store;
    let (first, second) = (assign(&*store, 0).await, assign(&*store, 1).await);
    let with_letter = Output { dead: vec![letter(2)], ..output(0, 0, 3) };
    store.commit(&[pending(&first, with_letter), pending(&second, output(1, 0, 3))]).await.unwrap();
    assert!(store.changed(FactKind::DeadLetter).now_or_never().is_some(), "the relay looks at once");
}

contract! {
    decisions_behind_the_checkpoint_come_with_the_next_assignment,
    a_checkpoint_forgets_the_decisions_that_it_covers_and_no_later_ones,
    a_row_that_the_database_refused_was_processed_and_counts_in_replay_as_it_did,
    a_late_output_of_an_earlier_log_leaves_the_state_of_the_newer_one_as_it_is,
    partitions_keep_their_checkpoints_whichever_of_them_was_assigned_more_often,
    the_newest_event_of_outputs_of_one_transaction_is_that_of_all_of_them,
    an_output_that_is_recognised_is_not_told_of_rows_that_were_refused_in_an_earlier_log,
    decisions_of_an_earlier_log_do_not_come_with_an_assignment_of_the_newer_one,
    a_partition_that_begins_anew_forgets_its_own_checkpoint_and_no_other,
    facts_are_announced_though_the_last_output_of_their_transaction_has_none,
}
