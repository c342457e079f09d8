//! What the database refuses, on a real SQLite file.

use std::{path::Path, time::Instant};

use streamward_pipeline::store::{Assignment, SinkStore};

use super::{
    super::{
        SqlStore,
        tests::{assign, count, issued, letter, open},
    },
    *,
};

/// Changes the database as its owner may, beside the server.
fn alter(folder: &Path, sql: &str) {
    rusqlite::Connection::open(folder.join("test.db")).unwrap().execute_batch(sql).unwrap();
}

async fn opened(folder: &Path, sql: &str) -> (SqlStore, Assignment, Assignment) {
    let store = open(folder).await;
    let owners = (assign(&store, 0).await, assign(&store, 1).await);
    alter(folder, sql);
    (store, owners.0, owners.1)
}

fn trigger(condition: &str, raise: &str) -> String {
    format!(
        "CREATE TABLE seen_by_trigger (id INTEGER); \
         CREATE TRIGGER t BEFORE INSERT ON sensor_readings WHEN {condition} BEGIN \
         INSERT INTO seen_by_trigger VALUES (NEW.id); SELECT {raise}; END"
    )
}

#[actix::test]
async fn a_row_that_the_database_refuses_is_a_dead_letter_and_the_others_are_stored() {
    let unique = "CREATE UNIQUE INDEX u ON sensor_readings (sensor_type) WHERE value IN (0.5, 3.5)".to_owned();
    let bad = |raise| trigger("NEW.value = 3.5 AND NEW.partition = 0", raise);
    let cases = [
        (unique, "UNIQUE constraint failed"),
        (bad("RAISE(ABORT, 'no threes')"), "no threes"),
        (bad("RAISE(FAIL, 'no threes')"), "no threes"),
        (bad("RAISE(ROLLBACK, 'no threes')"), "no threes"),
        (bad("RAISE(IGNORE)"), "left the row out"),
        (bad("abs(-9223372036854775807 - 1)"), "integer overflow"),
    ];
    for (sql, reason) in cases {
        let folder = tempfile::tempdir().unwrap();
        let (store, owner, other) = opened(folder.path(), &sql).await;
        let mut first = Arc::into_inner(issued(&owner, 0, (0, 6))).unwrap();
        (first.output.end, first.output.dead) = (7, vec![letter(6)]);
        let outputs = [Arc::new(first), issued(&owner, 0, (7, 9)), issued(&other, 1, (10, 12))];
        let beside = [Outcome::CommittedWithout(1), Outcome::Committed, Outcome::Stale];
        assert_eq!(store.commit(&outputs).await.unwrap(), beside, "{sql}");
        let counted = async |sql: &'static str| count(folder.path(), sql).await;
        assert_eq!(counted("SELECT count(*) FROM sensor_readings").await, 7, "{sql}");
        assert_eq!(counted("SELECT count(*) FROM sensor_readings WHERE value = 3.5").await, 0);
        let letter = "SELECT count(*) FROM dead_letters WHERE \"offset\" = 3 AND class = 'permanent' \
                      AND stage = 'sql' AND CAST(value AS TEXT) LIKE '%\"s3\"%' AND headers LIKE '%\"/w==\"%'";
        assert_eq!(counted(letter).await, 1);
        let words = "SELECT instr(reason, 'no threes') + instr(reason, 'UNIQUE constraint failed') \
                     + instr(reason, 'left the row out') + instr(reason, 'integer overflow') > 0 \
                     FROM dead_letters WHERE stage = 'sql'";
        assert_eq!(counted(words).await, 1, "{reason}");
        assert_eq!(counted("SELECT stored * 100 + dead FROM sw_positions WHERE partition = 0").await, 702);
        assert_eq!(counted("SELECT next_offset FROM sw_positions WHERE partition = 0").await, 9);
        assert_eq!(counted("SELECT sum(count) FROM sw_minutes").await, 7, "the figures are those of the rows");
        assert_eq!(counted("SELECT count(*) FROM sw_keys WHERE \"key\" = 's3'").await, 0);
        assert_eq!(counted("SELECT count(*) FROM sw_outbox").await, 2);
        let again = store.commit(&outputs[..2]).await.unwrap();
        assert_eq!(again, [Outcome::CommittedWithout(1), Outcome::AlreadyCommitted], "recognised with what it lost");
    }
}

#[actix::test]
async fn a_batch_of_which_every_row_is_refused_ends_in_time() {
    for raise in ["RAISE(ABORT, 'none')", "RAISE(ROLLBACK, 'none')", "RAISE(IGNORE)"] {
        let folder = tempfile::tempdir().unwrap();
        let (store, owner, other) = opened(folder.path(), &trigger("NEW.partition = 0", raise)).await;
        let outputs = [issued(&owner, 0, (0, 4_096)), issued(&other, 1, (0, 4_096))];
        let begun = Instant::now();
        let outcomes = store.commit(&outputs).await.unwrap();
        assert_eq!(outcomes, [Outcome::CommittedWithout(4_096), Outcome::Committed], "{raise}");
        assert!(begun.elapsed().as_secs() < 20, "{raise}: {:?}", begun.elapsed());
        assert_eq!(count(folder.path(), "SELECT count(*) FROM dead_letters").await, 4_096);
    }
}

#[actix::test]
async fn rows_that_roll_the_transaction_back_for_each_other_stop_their_partition_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let another = "NEW.partition = 0 AND EXISTS (SELECT 1 FROM sensor_readings WHERE partition = 0)";
    let (store, owner, other) = opened(folder.path(), &trigger(another, "RAISE(ROLLBACK, 'one is enough')")).await;
    let few = store.commit(&[issued(&owner, 0, (0, 10)), issued(&other, 1, (0, 10))]).await.unwrap();
    assert_eq!(few, [Outcome::CommittedWithout(9), Outcome::Committed]);
    let many = store.commit(&[issued(&owner, 0, (10, 2_000)), issued(&other, 1, (10, 2_000))]).await.unwrap();
    assert_eq!(many[1], Outcome::Committed);
    // Each of them is refused alone by now.
    assert_eq!(many[0], Outcome::CommittedWithout(1_990));
}

#[actix::test]
async fn a_row_that_exists_already_refuses_its_output_and_the_other_partitions_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (store, owner, other) = opened(folder.path(), "").await;
    store.commit(&[issued(&owner, 0, (0, 5))]).await.unwrap();
    alter(folder.path(), "UPDATE sw_positions SET next_offset = 2 WHERE partition = 0");
    let outputs =
        [issued(&other, 1, (0, 2)), issued(&owner, 0, (2, 9)), issued(&owner, 0, (9, 10)), issued(&other, 1, (2, 4))];
    let outcomes = store.commit(&outputs).await.unwrap();
    let why: Arc<str> = "the row of offset 2 exists already".into();
    let refused = Outcome::Refused(why);
    assert_eq!(outcomes, [Outcome::Committed, refused.clone(), refused, Outcome::Committed]);
    assert_eq!(count(folder.path(), "SELECT count(*) FROM sensor_readings").await, 9);
    assert_eq!(count(folder.path(), "SELECT count(*) FROM dead_letters").await, 0, "it is nothing of the record");
    assert_eq!(count(folder.path(), "SELECT next_offset FROM sw_positions WHERE partition = 0").await, 2);
    assert_eq!(count(folder.path(), "SELECT sum(count) FROM sw_minutes").await, 9);
}

#[actix::test]
async fn outputs_before_a_refused_one_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let (store, owner, _) = opened(folder.path(), "").await;
    let mut twice = Arc::into_inner(issued(&owner, 0, (2, 4))).unwrap();
    twice.output.offsets = vec![2, 2];
    let outcomes = store.commit(&[issued(&owner, 0, (0, 2)), Arc::new(twice)]).await.unwrap();
    assert!(matches!(&outcomes[..], [Outcome::Committed, Outcome::Refused(_)]), "{outcomes:?}");
    assert_eq!(count(folder.path(), "SELECT next_offset FROM sw_positions WHERE partition = 0").await, 2);
}

#[actix::test]
async fn facts_that_exist_already_refuse_their_output_alone() {
    let cases = [
        "INSERT INTO dead_letters (sink, topic, partition, log, \"offset\", stage, class, reason, headers, \
         log_timestamp, created_at) VALUES ('sensors', 'sensor-readings', 0, 0, 5, 'decode', 'decode', '', x'', 0, 0)",
        "INSERT INTO sw_outbox VALUES ('dead_letter', 'sensors', 1)",
        "CREATE TRIGGER t BEFORE INSERT ON dead_letters BEGIN SELECT RAISE(ROLLBACK, 'no letters'); END",
    ];
    for sql in cases {
        let folder = tempfile::tempdir().unwrap();
        let (store, owner, other) = opened(folder.path(), sql).await;
        let mut first = Arc::into_inner(issued(&owner, 0, (0, 5))).unwrap();
        (first.output.end, first.output.dead) = (6, vec![letter(5)]);
        let outcomes = store.commit(&[Arc::new(first), issued(&other, 1, (0, 3))]).await.unwrap();
        assert!(matches!(&outcomes[..], [Outcome::Refused(_), Outcome::Committed]), "{sql}: {outcomes:?}");
        assert_eq!(count(folder.path(), "SELECT count(*) FROM sensor_readings").await, 3, "{sql}");
    }
}

#[actix::test]
async fn what_fails_for_every_row_makes_no_dead_letters() {
    for sql in [
        "CREATE TRIGGER t AFTER INSERT ON sensor_readings BEGIN INSERT INTO gone VALUES (1); END",
        "ALTER TABLE sensor_readings RENAME TO elsewhere",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (store, owner, _) = opened(folder.path(), sql).await;
        let outcomes = store.commit(&[issued(&owner, 0, (0, 5))]).await.unwrap();
        assert!(matches!(&outcomes[..], [Outcome::Refused(_)]), "{sql}: {outcomes:?}");
        assert_eq!(count(folder.path(), "SELECT count(*) FROM dead_letters").await, 0);
    }
}

#[actix::test]
async fn an_unknown_sink_is_refused_and_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (store, owner, other) = opened(
        folder.path(),
        "INSERT INTO sw_positions (sink, topic, partition, log, epoch, next_offset, first_offset, retained_from, updated_at) \
        SELECT 'lost', topic, partition, log, epoch, next_offset, first_offset, retained_from, 0 FROM sw_positions \
        WHERE partition = 0",
    )
    .await;
    let mut lost = Arc::into_inner(issued(&owner, 0, (0, 2))).unwrap();
    lost.key.sink = "lost".into();
    let outcomes = store.commit(&[Arc::new(lost), issued(&other, 1, (0, 2))]).await.unwrap();
    assert_eq!(outcomes, [Outcome::Refused("no sink named lost".into()), Outcome::Committed]);
}
