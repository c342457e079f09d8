use super::*;
use crate::adapters::postgres::ddl;
use crate::adapters::postgres::scratch::{layout, with_database};

fn busy(probed: Result<(), Trouble>) -> String {
    match probed {
        Err(Trouble::Busy(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[actix_rt::test]
async fn a_probe_says_why_no_write_is_taken_and_leaves_the_connection_as_it_was() {
    with_database("probe", async |scratch| {
        let (within, mut other) = (Duration::from_millis(50), scratch.another().await);
        probe(&mut scratch.connection, within).await.unwrap();
        let mut holder = other.begin().await.unwrap();
        sqlx::query("LOCK TABLE sw_positions IN EXCLUSIVE MODE").execute(&mut *holder).await.unwrap();
        let why = busy(probe(&mut scratch.connection, Duration::from_millis(50)).await);
        assert!(why.contains("55P03") && why.contains("pg_locks"), "{why}");
        holder.rollback().await.unwrap();
        probe(&mut scratch.connection, Duration::from_secs(5)).await.unwrap();
        scratch.run("SET default_transaction_read_only = on").await;
        let why = busy(probe(&mut scratch.connection, within).await);
        assert!(why.contains("read-only") && why.contains("default_transaction_read_only"), "{why}");
    })
    .await;
}

#[test]
fn states_that_somebody_can_do_something_about_come_with_what() {
    for (code, word) in [("53100", "disk"), ("53300", "max_connections"), ("28P01", "password"), ("25006", "primary")] {
        assert!(advice_on(code).is_some_and(|advice| advice.contains(word)), "{code}");
    }
    assert_eq!(advice_on("XX000"), None);
}

#[actix_rt::test]
async fn the_newest_positions_are_those_of_the_log_that_was_read_last() {
    with_database("newest", async |scratch| {
        scratch.position(0, 99).await;
        scratch.position(1, 7).await;
        let newest = newest_positions(&mut scratch.connection, ("orders", "orders")).await.unwrap();
        assert_eq!(newest, [(0, 7)]);
        note_action(&mut scratch.connection, ("me", "stop"), ("lane", "a\0b")).await.unwrap();
        assert_eq!(scratch.texts("SELECT detail FROM sw_audit").await, ["a\u{fffd}b"]);
    })
    .await;
}

#[actix_rt::test]
async fn partitions_of_the_present_day_and_the_next_are_made_once() {
    with_database("upkeep_days", async |scratch| {
        let layout = layout();
        for table in &layout.streams {
            ddl::create_stream_table(&mut scratch.connection, table).await.unwrap();
        }
        let days = "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent WHERE c.relkind = 'p'";
        let before = scratch.count(days).await;
        let first = make_days(&mut scratch.connection, &layout).await.unwrap();
        assert_eq!(first.next, NextUpkeep::In(LOOK_EVERY));
        assert_eq!(scratch.count(days).await - before, i64::try_from(first.done).unwrap());
        assert_eq!(make_days(&mut scratch.connection, &layout).await.unwrap().done, 0);
    })
    .await;
}
