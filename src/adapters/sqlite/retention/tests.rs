//! What leaves, what stays, and in which order.

use std::{path::Path, sync::Arc, time::Duration};

use streamward_core::{
    output::{AlertState, DeadLetter, Missed, MissedRecord, Output, WindowRow},
    schema::Scalar,
};
use streamward_pipeline::{
    relay::{FactKind, Outbox},
    store::{Assignment, Outcome, Pending, SinkStore},
};

use super::{Retained, RetentionPolicy};
use crate::adapters::sqlite::{
    SqlStore,
    tests::{assign, assign_of, count, letter, open, output, pending, rows, transition},
};

fn by_age() -> RetentionPolicy {
    RetentionPolicy { age: Some(Duration::ZERO), size_bytes: None }
}

fn by_size(bytes: u64) -> RetentionPolicy {
    RetentionPolicy { age: None, size_bytes: Some(bytes) }
}

/// Returns when everything stored so far is from before the present millisecond.
async fn grow_old() {
    let begun = crate::clock::now_ms();
    while crate::clock::now_ms() == begun {
        tokio::task::yield_now().await;
    }
}

/// Removes what may leave; returns the bytes over the limit that nothing could be removed for.
async fn retain(store: &SqlStore, policy: &RetentionPolicy) -> u64 {
    grow_old().await;
    loop {
        let retained = store.retain_chunk(policy).await.unwrap();
        if retained.is_done() {
            return retained.stuck_bytes;
        }
    }
}

async fn commit(store: &SqlStore, outputs: &[Arc<Pending>]) {
    assert_eq!(store.commit(outputs).await.unwrap(), vec![Outcome::Committed; outputs.len()]);
}

async fn announce(store: &SqlStore, kind: FactKind) {
    loop {
        let waiting: Vec<_> = store.facts(kind).await.unwrap().into_iter().map(|fact| fact.entry).collect();
        if waiting.is_empty() {
            return;
        }
        store.sent(kind, &waiting).await.unwrap();
    }
}

/// An output without rows, with dead letters of a length at each of its offsets.
fn letters(owner: &Assignment, start: i64, end: i64, bytes: usize) -> Arc<Pending> {
    let long = |offset| DeadLetter { value: Some(vec![b'x'; bytes]), ..letter(offset) };
    pending(owner, Output { end, dead: (start..end).map(long).collect(), ..output(0, start, start) })
}

async fn number(folder: &Path, sql: &'static str) -> i64 {
    count(folder, sql).await
}

const ROWS: &str = "SELECT count(*) FROM sensor_readings";
const LETTERS: &str = "SELECT count(*) FROM dead_letters";
const RANGES: &str = "SELECT count(*) FROM sw_ranges";

#[actix::test]
async fn by_size_the_oldest_rows_leave_and_the_newest_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    commit(&store, &[pending(&owner, output(0, 0, 6_000))]).await;
    retain(&store, &RetentionPolicy { age: Some(Duration::from_secs(3_600)), size_bytes: None }).await;
    assert_eq!(number(folder.path(), ROWS).await, 6_000);
    let limit = store.used_bytes().await.unwrap() * 2 / 3;
    assert_eq!(retain(&store, &by_size(limit)).await, 0);
    assert!(store.used_bytes().await.unwrap() <= limit);
    let left = number(folder.path(), ROWS).await;
    assert!((1_000..5_000).contains(&left), "{left} rows are left");
    assert_eq!(number(folder.path(), "SELECT min(\"offset\") FROM sensor_readings").await, 6_000 - left);
    assert_eq!(number(folder.path(), "SELECT retained_from FROM sw_positions").await, 6_000 - left);
}

#[actix::test]
async fn by_size_the_rows_that_were_stored_first_leave_whichever_partition_they_are_of() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let (busy, quiet) = (assign(&store, 0).await, assign(&store, 1).await);
    commit(&store, &[pending(&busy, output(0, 0, 6_000))]).await;
    grow_old().await;
    commit(&store, &[pending(&quiet, output(1, 0, 100))]).await;
    let limit = store.used_bytes().await.unwrap() * 2 / 3;
    retain(&store, &by_size(limit)).await;
    assert_eq!(number(folder.path(), "SELECT count(*) FROM sensor_readings WHERE partition = 1").await, 100);
}

#[actix::test]
async fn by_size_partitions_that_were_stored_together_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let (one, other) = (assign(&store, 0).await, assign(&store, 1).await);
    commit(&store, &[pending(&one, output(0, 0, 4_000)), pending(&other, output(1, 0, 4_000))]).await;
    let limit = store.used_bytes().await.unwrap() * 2 / 3;
    retain(&store, &by_size(limit)).await;
    let first = "SELECT min(\"offset\") FROM sensor_readings WHERE partition = ";
    let firsts = [format!("{first}0"), format!("{first}1")];
    let file = rusqlite::Connection::open(folder.path().join("test.db")).unwrap();
    let firsts = firsts.map(|sql| file.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap());
    assert!(firsts[0].abs_diff(firsts[1]) <= 250 && firsts[0] > 500, "{firsts:?}");
}

#[actix::test]
async fn by_size_dead_letters_leave_and_rows_stay_where_dead_letters_hold_the_most() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    commit(&store, &[pending(&owner, output(0, 0, 1_000))]).await;
    commit(&store, &[letters(&owner, 1_000, 1_400, 20_000)]).await;
    announce(&store, FactKind::DeadLetter).await;
    assert_eq!(retain(&store, &by_size(4 << 20)).await, 0);
    assert!(store.used_bytes().await.unwrap() <= 4 << 20);
    assert_eq!(number(folder.path(), ROWS).await, 1_000);
    let left = number(folder.path(), LETTERS).await;
    assert!((100..250).contains(&left), "{left} dead letters are left");
    assert_eq!(number(folder.path(), "SELECT min(\"offset\") FROM dead_letters").await, 1_400 - left);
}

#[actix::test]
async fn by_size_windows_alerts_and_late_notes_leave_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    let columns = store.layout().windows.iter().find(|table| &*table.window == "aggregated_metrics").unwrap();
    let group = vec![Scalar::Text("one of them".to_owned()); columns.group.len()];
    let values = vec![Scalar::Null; columns.values.len()];
    for begin in 0..20 {
        let all = begin * 1_000..(begin + 1) * 1_000;
        let window = |start: i64| WindowRow {
            window: "aggregated_metrics".into(),
            start_ms: start * 60_000,
            end_ms: start * 60_000 + 60_000,
            group: group.clone(),
            values: values.clone(),
            overflow: Vec::new(),
            revision: 0,
        };
        let late = |offset| MissedRecord {
            window: "aggregated_metrics".into(),
            why: Missed::Late,
            offset,
            event_time_ms: 0,
            window_start_ms: 0,
            watermark_ms: 0,
        };
        let alerts = all.clone().flat_map(|key| {
            let alert_id = format!("alert {key}");
            [(0, AlertState::Firing), (1, AlertState::Resolved)].map(|(n, state)| transition(&alert_id, n, state))
        });
        let output = Output {
            end: all.end,
            windows: all.clone().map(window).collect(),
            alerts: alerts.collect(),
            missed: all.clone().map(late).collect(),
            ..output(0, all.start, all.start)
        };
        commit(&store, &[pending(&owner, output)]).await;
    }
    announce(&store, FactKind::Alert).await;
    let figures =
        ["SELECT count(*) FROM aggregated_metrics", "SELECT count(*) FROM alerts", "SELECT count(*) FROM sw_late"];
    let limit = store.used_bytes().await.unwrap() / 4;
    assert_eq!(retain(&store, &by_size(limit)).await, 0);
    assert!(store.used_bytes().await.unwrap() <= limit);
    for (sql, all) in figures.into_iter().zip([20_000, 40_000, 20_000]) {
        let left = number(folder.path(), sql).await;
        assert!(left > 0 && left < all, "{sql}: {left}");
    }
    let halves = "SELECT count(*) FROM (SELECT 1 FROM alerts GROUP BY alert_id HAVING count(*) <> 2)";
    assert_eq!(number(folder.path(), halves).await, 0, "an alert leaves with all its transitions");
}

#[actix::test]
async fn by_size_no_row_leaves_for_facts_that_must_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    commit(&store, &[pending(&owner, output(0, 0, 100)), letters(&owner, 100, 400, 20_000)]).await;
    let stuck = retain(&store, &by_size(2 << 20)).await;
    assert!(stuck > 2 << 20, "{stuck} bytes over the limit cannot leave");
    assert_eq!(number(folder.path(), ROWS).await, 100);
    commit(&store, &[pending(&owner, output(0, 400, 500))]).await;
    retain(&store, &by_size(2 << 20)).await;
    assert_eq!((number(folder.path(), ROWS).await, number(folder.path(), LETTERS).await), (200, 300));
}

#[actix::test]
async fn what_was_filtered_before_rows_that_leave_goes_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    let mut output = output(0, 0, 252);
    output.offsets = (2..252).collect();
    output.rows = rows(&output.offsets);
    (output.end, output.filtered) = (255, vec![0..2, 252..255]);
    commit(&store, &[pending(&owner, output)]).await;
    retain(&store, &by_size(1)).await;
    assert_eq!(number(folder.path(), "SELECT retained_from FROM sw_positions").await, 252);
    assert_eq!(number(folder.path(), "SELECT count(*) FROM sw_ranges WHERE first_offset = 252").await, 1);
    assert_eq!(number(folder.path(), RANGES).await, 1);
}

fn filtered(owner: &Assignment, start: i64, end: i64) -> Arc<Pending> {
    #[expect(clippy::single_range_in_vec_init, reason = "one range of offsets")]
    let filtered = vec![start..end];
    pending(owner, Output { end, filtered, ..output(0, start, start) })
}

#[actix::test]
async fn ranges_that_touch_are_one_and_leave_by_age_where_everything_is_filtered() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    for start in [0, 10, 20] {
        commit(&store, &[filtered(&owner, start, start + 10)]).await;
    }
    assert_eq!(number(folder.path(), "SELECT next_offset FROM sw_ranges WHERE first_offset = 0").await, 30);
    commit(&store, &[letters(&owner, 30, 31, 1), filtered(&owner, 31, 40)]).await;
    assert_eq!(number(folder.path(), RANGES).await, 2, "a dead letter lies between them");
    retain(&store, &by_age()).await;
    assert_eq!(number(folder.path(), RANGES).await, 0);
    assert_eq!(number(folder.path(), "SELECT retained_from FROM sw_positions").await, 40);
    commit(&store, &[filtered(&owner, 40, 50)]).await;
    assert_eq!(number(folder.path(), "SELECT next_offset - first_offset FROM sw_ranges").await, 10);
}

#[actix::test]
async fn ranges_behind_a_row_that_stays_stay_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    let outputs = [filtered(&owner, 0, 10), pending(&owner, output(0, 10, 11)), filtered(&owner, 11, 20)];
    commit(&store, &outputs).await;
    let file = rusqlite::Connection::open(folder.path().join("test.db")).unwrap();
    file.execute("UPDATE sensor_readings SET stored_at = stored_at + 3600000", []).unwrap();
    retain(&store, &by_age()).await;
    assert_eq!(number(folder.path(), "SELECT retained_from FROM sw_positions").await, 10);
    assert_eq!(number(folder.path(), "SELECT first_offset FROM sw_ranges").await, 11);
}

#[actix::test]
async fn by_age_facts_leave_in_chunks_and_what_waits_in_the_outbox_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    commit(&store, &[letters(&owner, 0, 450, 1)]).await;
    grow_old().await;
    assert_eq!(store.retain_chunk(&by_age()).await.unwrap().rows, 0);
    announce(&store, FactKind::DeadLetter).await;
    assert_eq!(store.retain_chunk(&by_age()).await.unwrap().rows, 250);
    assert_eq!(store.retain_chunk(&by_age()).await.unwrap().rows, 200);
    assert_eq!(number(folder.path(), LETTERS).await, 0);
}

#[actix::test]
async fn a_chunk_of_dead_letters_is_bounded_in_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    commit(&store, &[letters(&owner, 0, 10, 600_000)]).await;
    announce(&store, FactKind::DeadLetter).await;
    grow_old().await;
    assert_eq!(store.retain_chunk(&by_age()).await.unwrap().rows, 2);
}

#[actix::test]
async fn an_alert_stays_while_it_fires_and_while_it_waits_to_be_announced() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    let alerts = [
        transition("fires", 0, AlertState::Firing),
        transition("ended", 0, AlertState::Firing),
        transition("ended", 1, AlertState::Resolved),
    ];
    let output = Output { end: 1, alerts: alerts.to_vec(), ..output(0, 0, 0) };
    commit(&store, &[pending(&owner, output)]).await;
    retain(&store, &by_age()).await;
    assert_eq!(number(folder.path(), "SELECT count(*) FROM alerts").await, 3, "all of them wait in the outbox");
    announce(&store, FactKind::Alert).await;
    retain(&store, &by_age()).await;
    assert_eq!(number(folder.path(), "SELECT count(*) FROM alerts WHERE alert_id = 'fires'").await, 1);
    assert_eq!(number(folder.path(), "SELECT count(*) FROM alerts").await, 1);
}

#[actix::test]
async fn many_alerts_that_fire_do_not_keep_resolved_ones_behind_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    let mut alerts: Vec<_> = (0..2_500).map(|key| transition(&key.to_string(), 0, AlertState::Firing)).collect();
    alerts.extend([transition("ended", 0, AlertState::Firing), transition("ended", 1, AlertState::Resolved)]);
    let output = Output { end: 1, alerts, ..output(0, 0, 0) };
    commit(&store, &[pending(&owner, output)]).await;
    announce(&store, FactKind::Alert).await;
    retain(&store, &by_age()).await;
    assert_eq!(number(folder.path(), "SELECT count(*) FROM alerts").await, 2_500);
}

#[actix::test]
async fn numbers_of_facts_that_have_left_are_not_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    let facts = |start: i64, alert: &str| {
        let alerts = vec![transition(alert, 0, AlertState::Firing), transition(alert, 1, AlertState::Resolved)];
        let dead = vec![letter(start), letter(start + 1)];
        pending(&owner, Output { end: start + 2, alerts, dead, ..output(0, start, start) })
    };
    commit(&store, &[facts(0, "one")]).await;
    announce(&store, FactKind::Alert).await;
    announce(&store, FactKind::DeadLetter).await;
    retain(&store, &by_age()).await;
    assert_eq!(
        number(folder.path(), "SELECT (SELECT count(*) FROM alerts) + (SELECT count(*) FROM dead_letters)").await,
        0
    );
    commit(&store, &[facts(2, "two")]).await;
    assert_eq!(number(folder.path(), "SELECT min(id) FROM dead_letters").await, 3);
    assert_eq!(number(folder.path(), "SELECT min(id) FROM alerts").await, 3);
}

#[actix::test]
async fn rows_and_windows_of_an_earlier_log_and_of_a_removed_pipeline_leave_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let first = assign(&store, 0).await;
    commit(&store, &[pending(&first, output(0, 0, 10))]).await;
    let second = assign_of(&store, 0, "second").await;
    commit(&store, &[pending(&second, output(0, 0, 10))]).await;
    let file = rusqlite::Connection::open(folder.path().join("test.db")).unwrap();
    file.execute("UPDATE sw_positions SET sink = 'removed' WHERE log = 1", []).unwrap();
    retain(&store, &by_age()).await;
    assert_eq!(number(folder.path(), ROWS).await, 0);
    assert_eq!(number(folder.path(), "SELECT sum(retained_from) FROM sw_positions").await, 20);
}

#[actix::test]
async fn bytes_of_facts_are_counted_as_they_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    let alerts = vec![transition("one", 0, AlertState::Firing), transition("one", 1, AlertState::Resolved)];
    let dead = vec![letter(0), letter(1)];
    commit(&store, &[pending(&owner, Output { end: 2, alerts, dead, ..output(0, 0, 0) })]).await;
    for (kind, table) in super::Kind::ALL.into_iter().zip(["alerts", "dead_letters", "sw_late"]) {
        let file = rusqlite::Connection::open(folder.path().join("test.db")).unwrap();
        let counted: i64 = crate::adapters::sqlite::ledger::bytes(&file, kind).unwrap();
        let sql = format!("SELECT coalesce(sum({}), 0) FROM {table}", kind.bytes_sql());
        assert_eq!(counted, file.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap(), "{kind:?}");
    }
    announce(&store, FactKind::Alert).await;
    announce(&store, FactKind::DeadLetter).await;
    retain(&store, &by_age()).await;
    assert_eq!(number(folder.path(), "SELECT sum(bytes) FROM sw_facts").await, 0);
}

#[actix::test]
async fn free_pages_are_handed_back_to_the_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    commit(&store, &[pending(&owner, output(0, 0, 4_000))]).await;
    let pages = async || number(folder.path(), "PRAGMA page_count").await;
    let before = pages().await;
    while store.retain_chunk(&by_age()).await.unwrap() != Retained::default() {}
    assert!(pages().await < before / 2, "{before} pages became {}", pages().await);
}

fn removed_ranges(folder: &Path) -> Vec<(i64, i64)> {
    let file = rusqlite::Connection::open(folder.join("test.db")).unwrap();
    let sql = "SELECT first_offset, next_offset FROM sw_ranges WHERE kind = 'removed' ORDER BY first_offset";
    let mut select = file.prepare(sql).unwrap();
    select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
}

#[actix::test]
async fn places_of_dead_letters_that_have_left_stay_until_the_rows_around_them_leave() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    commit(
        &store,
        &[pending(&owner, output(0, 0, 3)), letters(&owner, 3, 303, 1), pending(&owner, output(0, 303, 305))],
    )
    .await;
    commit(&store, &[letters(&owner, 305, 310, 1)]).await;
    let file = rusqlite::Connection::open(folder.path().join("test.db")).unwrap();
    file.execute("DELETE FROM sw_outbox WHERE fact <> 5", []).unwrap();
    file.execute("UPDATE sensor_readings SET stored_at = stored_at + 3600000", []).unwrap();
    retain(&store, &by_age()).await;
    assert_eq!(removed_ranges(folder.path()), [(3, 7), (8, 303), (305, 310)], "the one between waits in the outbox");
    announce(&store, FactKind::DeadLetter).await;
    retain(&store, &by_age()).await;
    assert_eq!(removed_ranges(folder.path()), [(3, 303), (305, 310)]);
    file.execute("UPDATE sensor_readings SET stored_at = 0", []).unwrap();
    retain(&store, &by_age()).await;
    assert_eq!(number(folder.path(), "SELECT retained_from FROM sw_positions").await, 305);
    assert_eq!(removed_ranges(folder.path()), [(305, 310)]);
}
