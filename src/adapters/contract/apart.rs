//! What the database refuses.

use std::sync::Arc;

use streamward_pipeline::store::{Assignment, Outcome, Store};

use super::{contract, fixture::*, scratch::Scratch};

/// A database that refuses rows with such values, with two partitions.
async fn opened(scratch: &Scratch, values: &str) -> (Arc<dyn Store>, Assignment, Assignment) {
    let store = scratch.open().await.store;
    let owners = (assign(&*store, 0).await, assign(&*store, 1).await);
    scratch.refuse(values).await;
    (store, owners.0, owners.1)
}

async fn a_row_that_the_database_refuses_is_a_dead_letter_and_the_others_are_stored(scratch: Scratch) {
    let (store, owner, other) = opened(&scratch, "= 3.5").await;
    let mut first = Arc::into_inner(issued(&owner, 0, (0, 6))).unwrap();
    (first.output.end, first.output.dead) = (7, vec![letter(6)]);
    let outputs = [Arc::new(first), issued(&owner, 0, (7, 9)), issued(&other, 1, (10, 12))];
    let beside = [Outcome::CommittedWithout(1), Outcome::Committed, Outcome::Stale];
    assert_eq!(store.commit(&outputs).await.unwrap(), beside);
    let counted = async |sql: &str| scratch.count(sql).await;
    assert_eq!(counted("SELECT count(*) FROM sensor_readings").await, 7);
    assert_eq!(counted("SELECT count(*) FROM sensor_readings WHERE value = 3.5").await, 0);
    let letter = "SELECT count(*) FROM dead_letters WHERE \"offset\" = 3 AND class = 'permanent' AND stage = 'sql'";
    assert_eq!(counted(letter).await, 1);
    let bytes = scratch.bytes("SELECT value FROM dead_letters WHERE \"offset\" = 3").await;
    assert_eq!(bytes, [raw(&[3]).get(0).value().unwrap()], "the record's own bytes");
    assert_eq!(counted("SELECT stored * 100 + dead FROM sw_positions WHERE partition = 0").await, 702);
    assert_eq!(counted("SELECT next_offset FROM sw_positions WHERE partition = 0").await, 9);
    assert_eq!(counted("SELECT sum(count) FROM sw_minutes").await, 7, "the figures are those of the rows");
    assert_eq!(counted("SELECT count(*) FROM sw_keys WHERE \"key\" = 's3'").await, 0);
    assert_eq!(counted("SELECT count(*) FROM sw_outbox").await, 2);
    let again = store.commit(&outputs[..2]).await.unwrap();
    assert_eq!(again, [Outcome::CommittedWithout(1), Outcome::AlreadyCommitted], "recognised with what it lost");
}

async fn refused_rows_are_found_wherever_they_are_among_others(scratch: Scratch) {
    let (store, owner, _) = opened(&scratch, "IN (0.5, 7.5, 8.5, 99.5)").await;
    let outcomes = store.commit(&[issued(&owner, 0, (0, 50)), issued(&owner, 0, (50, 100))]).await.unwrap();
    assert_eq!(outcomes, [Outcome::CommittedWithout(3), Outcome::CommittedWithout(1)]);
    assert_eq!(scratch.count("SELECT count(*) FROM sensor_readings").await, 96);
    assert_eq!(scratch.count("SELECT sum(\"offset\") FROM dead_letters").await, 7 + 8 + 99);
}

async fn a_batch_of_which_every_row_is_refused_is_all_dead_letters(scratch: Scratch) {
    let (store, owner, other) = opened(&scratch, ">= 1000").await;
    let outputs = [issued(&owner, 0, (0, 3_000)), issued(&other, 1, (0, 10))];
    let outcomes = store.commit(&outputs).await.unwrap();
    assert_eq!(outcomes, [Outcome::CommittedWithout(2_000), Outcome::Committed]);
    assert_eq!(scratch.count("SELECT count(*) FROM dead_letters").await, 2_000);
    assert_eq!(scratch.count("SELECT count(*) FROM sensor_readings").await, 1_010);
}

async fn facts_that_exist_already_refuse_their_output_alone(scratch: Scratch) {
    let (store, owner, other) = opened(&scratch, "= -1").await;
    scratch.run("INSERT INTO sw_outbox VALUES ('dead_letter', 'sensors', 1)").await;
    let mut first = Arc::into_inner(issued(&owner, 0, (0, 5))).unwrap();
    (first.output.end, first.output.dead) = (6, vec![letter(5)]);
    let outcomes = store.commit(&[Arc::new(first), issued(&other, 1, (0, 3))]).await.unwrap();
    assert!(matches!(&outcomes[..], [Outcome::Refused(_), Outcome::Committed]), "{outcomes:?}");
    assert_eq!(scratch.count("SELECT count(*) FROM sensor_readings").await, 3);
}

async fn what_fails_for_every_row_makes_no_dead_letters(scratch: Scratch) {
    let (store, owner, other) = opened(&scratch, "= -1").await;
    scratch.run("ALTER TABLE sensor_readings RENAME TO elsewhere").await;
    let outcomes = store.commit(&[issued(&owner, 0, (0, 5)), pending(&other, output(1, 0, 0))]).await.unwrap();
    assert!(matches!(&outcomes[..], [Outcome::Refused(_), Outcome::Committed]), "{outcomes:?}");
    assert_eq!(scratch.count("SELECT count(*) FROM dead_letters").await, 0);
}

async fn later_outputs_of_a_partition_are_refused_with_the_one_that_is(scratch: Scratch) {
    let (store, owner, _) = opened(&scratch, "= -1").await;
    scratch.run("INSERT INTO sw_outbox VALUES ('dead_letter', 'sensors', 1)").await;
    let mut second = Arc::into_inner(issued(&owner, 0, (2, 4))).unwrap();
    (second.output.end, second.output.dead) = (5, vec![letter(4)]);
    let outputs = [issued(&owner, 0, (0, 2)), Arc::new(second), issued(&owner, 0, (5, 7))];
    let outcomes = store.commit(&outputs).await.unwrap();
    let is_right = matches!(&outcomes[..], [Outcome::Committed, Outcome::Refused(_), Outcome::Refused(_)]);
    assert!(is_right, "{outcomes:?}");
    assert_eq!(scratch.count("SELECT next_offset FROM sw_positions WHERE partition = 0").await, 2);
}

contract! {
    a_row_that_the_database_refuses_is_a_dead_letter_and_the_others_are_stored,
    refused_rows_are_found_wherever_they_are_among_others,
    a_batch_of_which_every_row_is_refused_is_all_dead_letters,
    facts_that_exist_already_refuse_their_output_alone,
    what_fails_for_every_row_makes_no_dead_letters,
    later_outputs_of_a_partition_are_refused_with_the_one_that_is,
}
