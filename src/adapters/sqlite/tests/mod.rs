//! The position protocol, on a real SQLite file.

mod decisions;
mod facts;
mod files;
mod numbers;
mod schema;

use std::{path::Path, sync::Arc};

use arrow_array::RecordBatch;
use futures_util::FutureExt as _;
use sqlx::{Row, SqliteConnection};
use streamward_core::{
    batch::RawBatch,
    decode::Decoder,
    output::{AlertState, AlertTransition, DeadLetter, ErrorClass, Output, StateChunk},
    stats::MinuteDelta,
    watermark::NO_WATERMARK,
};
use streamward_pipeline::{
    logs::LogIdentity,
    relay::{FactKind, Outbox},
    store::{Assignment, Outcome, PartitionKey, Pending, SinkStore, Start},
};

use super::{SqlStore, SqliteSettings};
use crate::{
    config::Sources,
    plan::{self, Plan},
};

pub(super) fn plan() -> Plan {
    plan::load(&Sources::default()).unwrap().1
}

pub(super) async fn open(folder: &Path) -> SqlStore {
    SqlStore::open(&folder.join("test.db"), &SqliteSettings::default(), plan().layout()).await.unwrap()
}

pub(super) fn key(partition: i32) -> PartitionKey {
    PartitionKey { sink: "sensors".into(), topic: "sensor-readings".into(), partition }
}

fn log(topic_id: &str) -> LogIdentity {
    LogIdentity { cluster_id: "cluster".to_owned(), topic_id: topic_id.to_owned() }
}

/// Takes the partition over and begins at 0 if it is new.
pub(super) async fn assign(store: &SqlStore, partition: i32) -> Assignment {
    assign_of(store, partition, "first").await
}

/// Likewise, of a log.
pub(super) async fn assign_of(store: &SqlStore, partition: i32, topic_id: &str) -> Assignment {
    let assignment = store.assign(&key(partition), &log(topic_id)).await.unwrap();
    if assignment.position.is_none() {
        let start = Start { epoch: assignment.epoch, log: assignment.log, position: 0, gap: None };
        store.start_at(&key(partition), start).await.unwrap();
    }
    assignment
}

/// Records of these offsets, each with a header.
pub(super) fn raw(offsets: &[i64]) -> RawBatch {
    let plan = plan();
    let stream = plan.stream("sensors").unwrap();
    let mut batch = RawBatch::with_capacity(stream.topic.clone(), 0, 4096);
    for offset in offsets {
        let value = format!(
            r#"{{"sensor_id":"s{offset}","sensor_type":"humidity","value":{offset}.5,"timestamp":{},"location":"zone_1","anomaly":false,"metadata":{{"battery_level":50,"signal_strength":-40}}}}"#,
            1_700_000_000_000_i64 + offset
        );
        batch.push(*offset, 0, None, Some(value.as_bytes()));
        batch.push_header(b"\xff", Some(b"v"));
    }
    batch
}

pub(super) fn rows(offsets: &[i64]) -> RecordBatch {
    let plan = plan();
    let stream = plan.stream("sensors").unwrap();
    let batch = raw(offsets);
    let decoded = Decoder::new(stream.schema.clone(), stream.limits).decode(&batch, 0..batch.len());
    assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
    decoded.batch
}

pub(super) fn output(partition: i32, start: i64, end: i64) -> Output {
    let offsets: Vec<i64> = (start..end).collect();
    let rows = rows(&offsets);
    let empty = Output::empty("sensor-readings".into(), partition, end, rows.schema());
    Output { start, offsets, rows, ..empty }
}

pub(super) fn letter(offset: i64) -> DeadLetter {
    DeadLetter {
        offset,
        log_timestamp_ms: 7,
        class: ErrorClass::Decode,
        reason: "not JSON".to_owned(),
        stage: "decode".to_owned(),
        key: Some(vec![0, 255]),
        value: Some(b"{".to_vec()),
        headers: vec![(b"trace".to_vec(), None)],
    }
}

/// A transition of an alert of the built-in rule `temperature_max`.
pub(super) fn transition(alert_id: &str, n: i64, state: AlertState) -> AlertTransition {
    AlertTransition {
        alert_id: alert_id.to_owned(),
        n,
        rule: "temperature_max".into(),
        severity: "critical".into(),
        state,
        key: Some("s1".to_owned()),
        record: serde_json::json!({"value": 81.0}),
        message: "hot".to_owned(),
        event_time_ms: 5,
        offset: n,
    }
}

pub(super) fn pending(assignment: &Assignment, output: Output) -> Arc<Pending> {
    let key = key(output.partition);
    Arc::new(Pending { key, epoch: assignment.epoch, log: assignment.log, output, beside: Vec::new(), raw: None })
}

pub(super) async fn count(folder: &Path, sql: &'static str) -> i64 {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.join("test.db"));
    let mut connection = <SqliteConnection as sqlx::Connection>::connect_with(&options).await.unwrap();
    sqlx::query(sql).fetch_one(&mut connection).await.unwrap().get(0)
}

#[actix::test]
async fn rows_and_position_move_together() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    let outputs = [pending(&owner, output(0, 0, 3)), pending(&owner, output(0, 3, 5))];
    assert_eq!(store.commit(&outputs).await.unwrap(), [Outcome::Committed, Outcome::Committed]);
    assert_eq!(count(folder.path(), "SELECT count(*) FROM sensor_readings").await, 5);
    assert_eq!(assign(&store, 0).await.position, Some(5));
}

#[actix::test]
async fn an_older_owner_writes_nothing_and_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let (zombie, other) = (assign(&store, 0).await, assign(&store, 1).await);
    let _owner = assign(&store, 0).await;
    let outputs = [pending(&zombie, output(0, 0, 3)), pending(&other, output(1, 0, 2))];
    assert_eq!(store.commit(&outputs).await.unwrap(), [Outcome::Stale, Outcome::Committed]);
    assert_eq!(count(folder.path(), "SELECT count(*) FROM sensor_readings").await, 2);
}

#[actix::test]
async fn an_output_that_was_committed_before_is_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    store.commit(&[pending(&owner, output(0, 0, 3))]).await.unwrap();
    let again = [pending(&owner, output(0, 0, 3)), pending(&owner, output(0, 3, 4))];
    assert_eq!(store.commit(&again).await.unwrap(), [Outcome::AlreadyCommitted, Outcome::Committed]);
    assert_eq!(count(folder.path(), "SELECT count(*) FROM sensor_readings").await, 4);
}

#[actix::test]
async fn an_output_behind_a_hole_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    assert_eq!(store.commit(&[pending(&owner, output(0, 2, 4))]).await.unwrap(), [Outcome::Stale]);
    assert_eq!(count(folder.path(), "SELECT count(*) FROM sensor_readings").await, 0);
}

#[actix::test]
async fn a_topic_created_again_starts_at_its_beginning_beside_the_old_rows() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    store.commit(&[pending(&owner, output(0, 0, 3))]).await.unwrap();
    let again = store.assign(&key(0), &log("second")).await.unwrap();
    assert_eq!((again.position, again.log), (None, owner.log + 1));
    let start = Start { epoch: again.epoch, log: again.log, position: 0, gap: None };
    store.start_at(&key(0), start).await.unwrap();
    assert_eq!(store.commit(&[pending(&again, output(0, 0, 3))]).await.unwrap(), [Outcome::Committed]);
    assert_eq!(count(folder.path(), "SELECT count(*) FROM sensor_readings").await, 6);
}

#[actix::test]
async fn the_newest_checkpoint_comes_back_with_its_position() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    let with_state = |start, end, chunks: &[(&str, u8)]| {
        let mut output = output(0, start, end);
        let chunk = |(name, byte): &(&str, u8)| StateChunk { name: (*name).into(), bytes: vec![*byte] };
        output.checkpoint = chunks.iter().map(chunk).collect();
        pending(&owner, output)
    };
    store.commit(&[with_state(0, 2, &[("a", 1), ("b", 1)]), with_state(2, 3, &[("b", 2)])]).await.unwrap();
    store.commit(&[pending(&owner, output(0, 3, 4))]).await.unwrap();
    let checkpoint = assign(&store, 0).await.checkpoint.unwrap();
    assert_eq!(checkpoint.next_offset, 3);
    let chunks: Vec<_> = checkpoint.chunks.iter().map(|chunk| (&*chunk.name, chunk.bytes[0])).collect();
    assert_eq!(chunks, [("a", 1), ("b", 2)]);
}

#[actix::test]
async fn facts_wait_in_the_outbox_in_commit_order_until_they_are_sent() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
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
    assert_eq!(count(folder.path(), "SELECT count(*) FROM dead_letters").await, 3);
}

#[actix::test]
async fn only_the_newest_transition_of_an_alert_is_its_state() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    let mut output = output(0, 0, 2);
    output.alerts = vec![transition("a", 0, AlertState::Firing), transition("a", 1, AlertState::Resolved)];
    store.commit(&[pending(&owner, output)]).await.unwrap();
    assert_eq!(count(folder.path(), "SELECT count(*) FROM alerts").await, 2);
    assert_eq!(count(folder.path(), "SELECT count(*) FROM alerts WHERE latest = 1 AND state = 'resolved'").await, 1);
}

#[actix::test]
async fn the_newest_time_of_a_key_is_the_latest_of_all_outputs_and_processes() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path()).await;
    let newest = "SELECT last_seen FROM sw_keys WHERE \"key\" = 'k'";
    for (start, times) in [(0, [180_000, 60_000]), (2, [120_000, 0]), (4, [60_000, 240_000])] {
        let owner = assign(&store, 0).await;
        let seen = |(offset, time): (i64, i64)| {
            let seen = vec![("k".to_owned(), time)];
            pending(&owner, Output { end: offset + 1, seen, ..output(0, offset, offset) })
        };
        let outputs: Vec<_> = (start..).zip(times).map(seen).collect();
        assert_eq!(store.commit(&outputs).await.unwrap(), [Outcome::Committed, Outcome::Committed]);
        let expected = if start < 4 { 180_000 } else { 240_000 };
        assert_eq!(count(folder.path(), newest).await, expected, "from {start} on");
        store = open(folder.path()).await;
    }
}

#[actix::test]
async fn an_owner_learns_the_newest_event_time_of_its_partition_also_when_the_keys_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let first = assign(&store, 0).await;
    assert_eq!((first.newest_event_ms, assign(&store, 1).await.newest_event_ms), (NO_WATERMARK, NO_WATERMARK));
    let owner = assign(&store, 0).await;
    for (offset, newest_event_ms) in [(0, 61_234), (1, 7), (2, NO_WATERMARK)] {
        let seen = vec![("k".to_owned(), 1)];
        let output = Output { end: offset + 1, newest_event_ms, seen, ..output(0, offset, offset) };
        assert_eq!(store.commit(&[pending(&owner, output)]).await.unwrap(), [Outcome::Committed]);
    }
    assert_eq!(assign(&store, 0).await.newest_event_ms, 61_234);
    assert_eq!(assign(&store, 1).await.newest_event_ms, NO_WATERMARK, "another partition has seen nothing");
    // An earlier version has not kept it: the keys, which it kept to the minute, are as good.
    let database = rusqlite::Connection::open(folder.path().join("test.db")).unwrap();
    database.execute_batch("UPDATE sw_positions SET newest_event = NULL").unwrap();
    assert_eq!(assign(&store, 0).await.newest_event_ms, 59_999);
    database.execute_batch("DELETE FROM sw_keys").unwrap();
    assert_eq!(assign(&store, 0).await.newest_event_ms, 59_999);
}

#[actix::test]
async fn a_commit_whose_caller_went_away_is_done_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    let outputs = [pending(&owner, output(0, 0, 500))];
    {
        let _busy = store.shared.writer.lock();
        assert!(store.commit(&outputs).now_or_never().is_none(), "a commit waits for the writer");
    }
    let again = store.commit(&outputs).await.unwrap();
    assert!(matches!(again[..], [Outcome::Committed | Outcome::AlreadyCommitted]), "{again:?}");
    assert_eq!(count(folder.path(), "SELECT count(*) FROM sensor_readings").await, 500);
}

#[actix::test]
async fn a_topic_made_anew_has_positions_and_rows_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let first = assign(&store, 0).await;
    let with_letter = |start, end| Output { dead: vec![letter(end - 1)], ..output(0, start, end) };
    store.commit(&[pending(&first, with_letter(0, 3))]).await.unwrap();
    let second = assign_of(&store, 0, "second").await;
    assert_eq!((second.position, second.log, second.epoch), (None, first.log + 1, first.epoch + 1));
    // What was on its way for the first log is still stored under it.
    let outputs = [pending(&first, with_letter(3, 5)), pending(&second, with_letter(0, 3))];
    assert_eq!(store.commit(&outputs).await.unwrap(), [Outcome::Committed, Outcome::Committed]);
    assert_eq!(count(folder.path(), "SELECT count(*) FROM sensor_readings").await, 8);
    assert_eq!(assign_of(&store, 0, "second").await.position, Some(3));
    assert_eq!(assign(&store, 0).await.position, Some(5), "the first log is known again where it is read again");
    let facts = store.facts(FactKind::DeadLetter).await.unwrap();
    let ids = facts.iter().flat_map(|fact| &fact.headers).filter(|(name, _)| name == b"x-dlq-id");
    let ids: std::collections::BTreeSet<_> = ids.map(|(_, id)| id.clone()).collect();
    assert_eq!(ids.len(), 3, "two of them are of the same offset of two logs");
}

#[actix::test]
async fn a_log_whose_id_was_unknown_is_recognised_once_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let before = assign_of(&store, 0, "").await;
    store.commit(&[pending(&before, output(0, 0, 3))]).await.unwrap();
    let told = assign_of(&store, 0, "first").await;
    assert_eq!((told.log, told.position), (before.log, Some(3)));
    let anew = assign_of(&store, 0, "second").await;
    assert_eq!((anew.log, anew.position), (before.log + 1, None));
}

#[actix::test]
async fn an_owner_that_was_replaced_writes_nothing_whatever_log_was_read_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let zombie = assign(&store, 0).await;
    let _other_log = assign_of(&store, 0, "second").await;
    let owner = assign(&store, 0).await;
    assert!(owner.epoch > zombie.epoch + 1);
    let outputs = [pending(&zombie, output(0, 0, 3))];
    assert_eq!(store.commit(&outputs).await.unwrap(), [Outcome::Stale]);
}

#[actix::test]
async fn an_owner_that_was_replaced_sets_no_position() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let zombie = assign(&store, 0).await;
    store.commit(&[pending(&zombie, output(0, 0, 3))]).await.unwrap();
    assign(&store, 0).await;
    let start = Start { epoch: zombie.epoch, log: zombie.log, position: 9, gap: None };
    store.start_at(&key(0), start).await.unwrap();
    assert_eq!(assign(&store, 0).await.position, Some(3));
}

#[actix::test]
async fn state_is_kept_behind_a_gap_and_forgotten_where_the_log_ends_before_the_position() {
    for (position, gap, kept) in [(5, Some(3..5), Some(3)), (1, Some(1..1), None), (1, None, None)] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).await;
        let owner = assign(&store, 0).await;
        let checkpoint = vec![StateChunk { name: "watermark".into(), bytes: vec![1] }];
        store.commit(&[pending(&owner, Output { checkpoint, ..output(0, 0, 3) })]).await.unwrap();
        let start = Start { epoch: owner.epoch, log: owner.log, position, gap: gap.clone() };
        store.start_at(&key(0), start).await.unwrap();
        let next = assign(&store, 0).await;
        let checkpoint = next.checkpoint.map(|checkpoint| checkpoint.next_offset);
        assert_eq!((next.position, checkpoint), (Some(position), kept), "{gap:?}");
    }
}

#[actix::test]
async fn a_log_gets_a_number_that_the_table_has_of_no_other_topic() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    assign(&store, 0).await;
    assert_eq!(assign_of(&store, 0, "second").await.log, 1);
    // Another pipeline has read a topic that this one reads from now on, when it was made anew.
    let of = |sink: &str| PartitionKey { sink: sink.into(), topic: "elsewhere".into(), partition: 0 };
    assert_eq!(store.assign(&of("series"), &log("a")).await.unwrap().log, 0);
    assert_eq!(store.assign(&of("sensors"), &log("b")).await.unwrap().log, 2);
}

#[actix::test]
async fn figures_of_a_minute_add_up_over_outputs_and_transactions() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    let of_minute = |offset: i64| {
        let minute = MinuteDelta { count: 4, sum: 2.5, anomalies: 1, measured: 3, ..MinuteDelta::new(60_000) };
        pending(&owner, Output { end: offset + 1, minutes: vec![minute], ..output(0, offset, offset) })
    };
    store.commit(&[of_minute(0), of_minute(1)]).await.unwrap();
    store.commit(&[of_minute(2)]).await.unwrap();
    for (column, total) in [("count", 12), ("measured", 9), ("anomalies", 3), ("sum * 2", 15)] {
        let file = rusqlite::Connection::open(folder.path().join("test.db")).unwrap();
        let sql = format!("SELECT CAST({column} AS INTEGER) FROM sw_minutes WHERE minute = 60000");
        assert_eq!(file.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap(), total, "{column}");
    }
}
