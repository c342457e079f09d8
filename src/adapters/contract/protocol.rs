//! The position protocol.

use std::{ops::Range, sync::Arc};

use streamward_core::{
    output::{AlertState, Output, StateChunk},
    stats::MinuteDelta,
    watermark::NO_WATERMARK,
};
use streamward_pipeline::{
    relay::FactKind,
    store::{Assignment, InputRange, Outcome, PartitionKey, Pending, Start},
};

use super::{contract, fixture::*, scratch::Scratch};

async fn rows_and_position_move_together(scratch: Scratch) {
    let store = scratch.open().await.store;
    let owner = assign(&*store, 0).await;
    let outputs = [pending(&owner, output(0, 0, 3)), pending(&owner, output(0, 3, 5))];
    assert_eq!(store.commit(&outputs).await.unwrap(), [Outcome::Committed, Outcome::Committed]);
    assert_eq!(scratch.count("SELECT count(*) FROM sensor_readings").await, 5);
    assert_eq!(assign(&*store, 0).await.position, Some(5));
}

async fn an_older_owner_writes_nothing_and_others_go_on(scratch: Scratch) {
    let store = scratch.open().await.store;
    let (zombie, other) = (assign(&*store, 0).await, assign(&*store, 1).await);
    let _owner = assign(&*store, 0).await;
    let outputs = [pending(&zombie, output(0, 0, 3)), pending(&other, output(1, 0, 2))];
    assert_eq!(store.commit(&outputs).await.unwrap(), [Outcome::Stale, Outcome::Committed]);
    assert_eq!(scratch.count("SELECT count(*) FROM sensor_readings").await, 2);
}

async fn an_output_that_was_committed_before_is_recognised(scratch: Scratch) {
    let store = scratch.open().await.store;
    let owner = assign(&*store, 0).await;
    store.commit(&[pending(&owner, output(0, 0, 3))]).await.unwrap();
    let again = [pending(&owner, output(0, 0, 3)), pending(&owner, output(0, 3, 4))];
    assert_eq!(store.commit(&again).await.unwrap(), [Outcome::AlreadyCommitted, Outcome::Committed]);
    assert_eq!(scratch.count("SELECT count(*) FROM sensor_readings").await, 4);
}

async fn an_output_behind_a_hole_is_refused(scratch: Scratch) {
    let store = scratch.open().await.store;
    let owner = assign(&*store, 0).await;
    assert_eq!(store.commit(&[pending(&owner, output(0, 2, 4))]).await.unwrap(), [Outcome::Stale]);
    assert_eq!(scratch.count("SELECT count(*) FROM sensor_readings").await, 0);
}

async fn a_topic_created_again_starts_at_its_beginning_beside_the_old_rows(scratch: Scratch) {
    let store = scratch.open().await.store;
    let owner = assign(&*store, 0).await;
    store.commit(&[pending(&owner, output(0, 0, 3))]).await.unwrap();
    let again = store.assign(&key(0), &log("second")).await.unwrap();
    assert_eq!((again.position, again.log), (None, owner.log + 1));
    let start = Start { epoch: again.epoch, log: again.log, position: 0, gap: None };
    store.start_at(&key(0), start).await.unwrap();
    assert_eq!(store.commit(&[pending(&again, output(0, 0, 3))]).await.unwrap(), [Outcome::Committed]);
    assert_eq!(scratch.count("SELECT count(*) FROM sensor_readings").await, 6);
}

async fn the_newest_checkpoint_comes_back_with_its_position(scratch: Scratch) {
    let store = scratch.open().await.store;
    let owner = assign(&*store, 0).await;
    let with_state = |start, end, chunks: &[(&str, u8)]| {
        let mut output = output(0, start, end);
        let chunk = |(name, byte): &(&str, u8)| StateChunk { name: (*name).into(), bytes: vec![*byte] };
        output.checkpoint = chunks.iter().map(chunk).collect();
        pending(&owner, output)
    };
    store.commit(&[with_state(0, 2, &[("a", 1), ("b", 1)]), with_state(2, 3, &[("b", 2)])]).await.unwrap();
    store.commit(&[pending(&owner, output(0, 3, 4))]).await.unwrap();
    let checkpoint = assign(&*store, 0).await.checkpoint.unwrap();
    assert_eq!(checkpoint.next_offset, 3);
    let chunks: Vec<_> = checkpoint.chunks.iter().map(|chunk| (&*chunk.name, chunk.bytes[0])).collect();
    assert_eq!(chunks, [("a", 1), ("b", 2)]);
}

async fn facts_wait_in_the_outbox_in_commit_order_until_they_are_sent(scratch: Scratch) {
    let store = scratch.open().await.store;
    let owner = assign(&*store, 0).await;
    let mut first = output(0, 0, 0);
    (first.end, first.dead) = (2, vec![letter(0), letter(1)]);
    let mut second = output(0, 2, 2);
    (second.end, second.dead) = (3, vec![letter(2)]);
    store.commit(&[pending(&owner, first), pending(&owner, second)]).await.unwrap();
    let facts = store.facts(FactKind::DeadLetter).await.unwrap();
    assert_eq!(facts.iter().map(|fact| fact.entry.fact).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((facts[0].key.as_deref(), facts[0].value.as_deref()), (Some(&[0, 255][..]), Some(&b"{"[..])));
    assert_eq!(facts[0].headers[0], (b"trace".to_vec(), None));
    store.sent(FactKind::DeadLetter, &[facts[0].entry.clone(), facts[1].entry.clone()]).await.unwrap();
    assert_eq!(store.facts(FactKind::DeadLetter).await.unwrap().len(), 1);
    assert_eq!(scratch.count("SELECT count(*) FROM dead_letters").await, 3);
}

async fn only_the_newest_transition_of_an_alert_is_its_state(scratch: Scratch) {
    let store = scratch.open().await.store;
    let owner = assign(&*store, 0).await;
    let mut output = output(0, 0, 2);
    output.alerts = vec![transition("a", 0, AlertState::Firing), transition("a", 1, AlertState::Resolved)];
    store.commit(&[pending(&owner, output)]).await.unwrap();
    assert_eq!(scratch.count("SELECT count(*) FROM alerts").await, 2);
    assert_eq!(scratch.count("SELECT count(*) FROM alerts WHERE latest AND state = 'resolved'").await, 1);
}

async fn the_newest_time_of_a_key_is_the_latest_of_all_outputs_and_processes(scratch: Scratch) {
    let mut store = scratch.open().await.store;
    let newest = format!("SELECT {} FROM sw_keys WHERE \"key\" = 'k'", scratch.ms("last_seen"));
    for (start, times) in [(0, [180_000, 60_000]), (2, [120_000, 0]), (4, [60_000, 240_000])] {
        let owner = assign(&*store, 0).await;
        let seen = |(offset, time): (i64, i64)| {
            let seen = vec![("k".to_owned(), time)];
            pending(&owner, Output { end: offset + 1, seen, ..output(0, offset, offset) })
        };
        let outputs: Vec<_> = (start..).zip(times).map(seen).collect();
        assert_eq!(store.commit(&outputs).await.unwrap(), [Outcome::Committed, Outcome::Committed]);
        let expected = if start < 4 { 180_000 } else { 240_000 };
        assert_eq!(scratch.count(&newest).await, expected, "from {start} on");
        store = scratch.open().await.store;
    }
}

async fn an_owner_learns_the_newest_event_time_of_its_partition_also_when_the_keys_are_forgotten(scratch: Scratch) {
    let store = scratch.open().await.store;
    let first = assign(&*store, 0).await;
    assert_eq!((first.newest_event_ms, assign(&*store, 1).await.newest_event_ms), (NO_WATERMARK, NO_WATERMARK));
    let owner = assign(&*store, 0).await;
    for (offset, newest_event_ms) in [(0, 61_234), (1, 7), (2, NO_WATERMARK)] {
        let seen = vec![("k".to_owned(), 1)];
        let output = Output { end: offset + 1, newest_event_ms, seen, ..output(0, offset, offset) };
        assert_eq!(store.commit(&[pending(&owner, output)]).await.unwrap(), [Outcome::Committed]);
    }
    assert_eq!(assign(&*store, 0).await.newest_event_ms, 61_234);
    assert_eq!(assign(&*store, 1).await.newest_event_ms, NO_WATERMARK, "another partition has seen nothing");
}

async fn a_topic_made_anew_has_positions_and_rows_of_its_own(scratch: Scratch) {
    let store = scratch.open().await.store;
    let first = assign(&*store, 0).await;
    let with_letter = |start, end| Output { dead: vec![letter(end - 1)], ..output(0, start, end) };
    store.commit(&[pending(&first, with_letter(0, 3))]).await.unwrap();
    let second = assign_of(&*store, 0, "second").await;
    assert_eq!((second.position, second.log, second.epoch), (None, first.log + 1, first.epoch + 1));
    // What was on its way for the first log is still stored under it.
    let outputs = [pending(&first, with_letter(3, 5)), pending(&second, with_letter(0, 3))];
    assert_eq!(store.commit(&outputs).await.unwrap(), [Outcome::Committed, Outcome::Committed]);
    assert_eq!(scratch.count("SELECT count(*) FROM sensor_readings").await, 8);
    assert_eq!(assign_of(&*store, 0, "second").await.position, Some(3));
    assert_eq!(assign(&*store, 0).await.position, Some(5), "the first log is known again where it is read again");
    let facts = store.facts(FactKind::DeadLetter).await.unwrap();
    let ids = facts.iter().flat_map(|fact| &fact.headers).filter(|(name, _)| name == b"x-dlq-id");
    let ids: std::collections::BTreeSet<_> = ids.map(|(_, id)| id.clone()).collect();
    assert_eq!(ids.len(), 3, "two of them are of the same offset of two logs");
}

async fn a_log_whose_id_was_unknown_is_recognised_once_it_is_told(scratch: Scratch) {
    let store = scratch.open().await.store;
    let before = assign_of(&*store, 0, "").await;
    store.commit(&[pending(&before, output(0, 0, 3))]).await.unwrap();
    let told = assign_of(&*store, 0, "first").await;
    assert_eq!((told.log, told.position), (before.log, Some(3)));
    let anew = assign_of(&*store, 0, "second").await;
    assert_eq!((anew.log, anew.position), (before.log + 1, None));
}

async fn an_owner_that_was_replaced_writes_nothing_whatever_log_was_read_meanwhile(scratch: Scratch) {
    let store = scratch.open().await.store;
    let zombie = assign(&*store, 0).await;
    let _other_log = assign_of(&*store, 0, "second").await;
    let owner = assign(&*store, 0).await;
    assert!(owner.epoch > zombie.epoch + 1);
    let outputs = [pending(&zombie, output(0, 0, 3))];
    assert_eq!(store.commit(&outputs).await.unwrap(), [Outcome::Stale]);
}

async fn an_owner_that_was_replaced_sets_no_position(scratch: Scratch) {
    let store = scratch.open().await.store;
    let zombie = assign(&*store, 0).await;
    store.commit(&[pending(&zombie, output(0, 0, 3))]).await.unwrap();
    assign(&*store, 0).await;
    let start = Start { epoch: zombie.epoch, log: zombie.log, position: 9, gap: None };
    store.start_at(&key(0), start).await.unwrap();
    assert_eq!(assign(&*store, 0).await.position, Some(3));
}

async fn state_is_kept_behind_a_gap_and_forgotten_where_the_log_ends_before_the_position(scratch: Scratch) {
    for (position, gap, kept) in [(5, Some(3..5), Some(3)), (1, Some(1..1), None), (1, None, None)] {
        let scratch = scratch.another().await;
        let store = scratch.open().await.store;
        let owner = assign(&*store, 0).await;
        let checkpoint = vec![StateChunk { name: "watermark".into(), bytes: vec![1] }];
        store.commit(&[pending(&owner, Output { checkpoint, ..output(0, 0, 3) })]).await.unwrap();
        let start = Start { epoch: owner.epoch, log: owner.log, position, gap: gap.clone() };
        store.start_at(&key(0), start).await.unwrap();
        let next = assign(&*store, 0).await;
        let checkpoint = next.checkpoint.map(|checkpoint| checkpoint.next_offset);
        assert_eq!((next.position, checkpoint), (Some(position), kept), "{gap:?}");
    }
}

async fn a_log_gets_a_number_that_the_table_has_of_no_other_topic(scratch: Scratch) {
    let store = scratch.open().await.store;
    assign(&*store, 0).await;
    assert_eq!(assign_of(&*store, 0, "second").await.log, 1);
    // Another pipeline has read a topic that this one reads from now on, when it was made anew.
    let of = |sink: &str| PartitionKey { sink: sink.into(), topic: "elsewhere".into(), partition: 0 };
    assert_eq!(store.assign(&of("series"), &log("a")).await.unwrap().log, 0);
    assert_eq!(store.assign(&of("sensors"), &log("b")).await.unwrap().log, 2);
}

async fn figures_of_a_minute_add_up_over_outputs_and_transactions(scratch: Scratch) {
    let store = scratch.open().await.store;
    let owner = assign(&*store, 0).await;
    let of_minute = |offset: i64| {
        let minute = MinuteDelta { count: 4, sum: 2.5, anomalies: 1, measured: 3, ..MinuteDelta::new(60_000) };
        pending(&owner, Output { end: offset + 1, minutes: vec![minute], ..output(0, offset, offset) })
    };
    store.commit(&[of_minute(0), of_minute(1)]).await.unwrap();
    store.commit(&[of_minute(2)]).await.unwrap();
    for (column, total) in [("count", 12), ("measured", 9), ("anomalies", 3), ("sum * 2", 15)] {
        assert_eq!(scratch.count(&format!("SELECT {column} FROM sw_minutes")).await, total, "{column}");
    }
}

/// An output of one partition that covers records of another, too.
fn with_beside(owner: &Assignment, output: Output, other: (&Assignment, i32, Range<i64>)) -> Arc<Pending> {
    let (assignment, partition, offsets) = other;
    let range = InputRange { key: key(partition), epoch: assignment.epoch, log: assignment.log, offsets };
    let bare = Arc::into_inner(pending(owner, output)).unwrap();
    Arc::new(Pending { beside: vec![range], ..bare })
}

async fn all_ranges_of_an_output_move_together_or_none(scratch: Scratch) {
    let store = scratch.open().await.store;
    let (first, second) = (assign(&*store, 0).await, assign(&*store, 1).await);
    let outputs = [
        with_beside(&first, output(0, 0, 3), (&second, 1, 0..4)),
        pending(&second, output(1, 4, 5)),
        with_beside(&first, output(0, 3, 4), (&second, 1, 5..5)),
        // The other partition is elsewhere by then, and so nothing of it is written.
        with_beside(&first, output(0, 4, 6), (&second, 1, 4..7)),
        pending(&second, output(1, 5, 6)),
    ];
    let outcomes = store.commit(&outputs).await.unwrap();
    let (done, stale) = (Outcome::Committed, Outcome::Stale);
    assert_eq!(outcomes, [done.clone(), done.clone(), done.clone(), stale, done]);
    assert_eq!(scratch.count("SELECT count(*) FROM sensor_readings").await, 6);
    assert_eq!((assign(&*store, 0).await.position, assign(&*store, 1).await.position), (Some(4), Some(6)));
}

async fn an_output_of_which_one_range_has_another_owner_is_stale_as_a_whole(scratch: Scratch) {
    let store = scratch.open().await.store;
    let (first, second) = (assign(&*store, 0).await, assign(&*store, 1).await);
    let _owner = assign(&*store, 1).await;
    let outputs = [with_beside(&first, output(0, 0, 3), (&second, 1, 0..4))];
    assert_eq!(store.commit(&outputs).await.unwrap(), [Outcome::Stale]);
    assert_eq!(scratch.count("SELECT count(*) FROM sensor_readings").await, 0);
    assert_eq!((assign(&*store, 0).await.position, assign(&*store, 1).await.position), (Some(0), Some(0)));
}

async fn an_output_with_several_ranges_that_was_committed_before_is_recognised(scratch: Scratch) {
    let store = scratch.open().await.store;
    let (first, second) = (assign(&*store, 0).await, assign(&*store, 1).await);
    let outputs = [with_beside(&first, output(0, 0, 3), (&second, 1, 0..4))];
    for outcome in [Outcome::Committed, Outcome::AlreadyCommitted] {
        assert_eq!(store.commit(&outputs).await.unwrap(), [outcome]);
    }
    assert_eq!(scratch.count("SELECT count(*) FROM sensor_readings").await, 3);
}

contract! {
    rows_and_position_move_together,
    an_older_owner_writes_nothing_and_others_go_on,
    an_output_that_was_committed_before_is_recognised,
    an_output_behind_a_hole_is_refused,
    a_topic_created_again_starts_at_its_beginning_beside_the_old_rows,
    the_newest_checkpoint_comes_back_with_its_position,
    facts_wait_in_the_outbox_in_commit_order_until_they_are_sent,
    only_the_newest_transition_of_an_alert_is_its_state,
    the_newest_time_of_a_key_is_the_latest_of_all_outputs_and_processes,
    an_owner_learns_the_newest_event_time_of_its_partition_also_when_the_keys_are_forgotten,
    a_topic_made_anew_has_positions_and_rows_of_its_own,
    a_log_whose_id_was_unknown_is_recognised_once_it_is_told,
    an_owner_that_was_replaced_writes_nothing_whatever_log_was_read_meanwhile,
    an_owner_that_was_replaced_sets_no_position,
    state_is_kept_behind_a_gap_and_forgotten_where_the_log_ends_before_the_position,
    a_log_gets_a_number_that_the_table_has_of_no_other_topic,
    figures_of_a_minute_add_up_over_outputs_and_transactions,
    all_ranges_of_an_output_move_together_or_none,
    an_output_of_which_one_range_has_another_owner_is_stale_as_a_whole,
    an_output_with_several_ranges_that_was_committed_before_is_recognised,
}
