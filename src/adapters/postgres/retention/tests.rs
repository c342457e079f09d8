//! What leaves, what stays, and in which order.

use super::*;
use crate::adapters::postgres::scratch::{Scratch, layout, with_database};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const ROWS: &str = "SELECT count(*) FROM orders";
const LETTERS: &str = "SELECT count(*) FROM dead_letters";
const FLOOR: &str = "SELECT retained_from FROM sw_positions WHERE log = 0";

fn by_age(age: Duration) -> RetentionPolicy {
    RetentionPolicy { age: Some(age), size_bytes: None }
}

async fn step(scratch: &mut Scratch, policy: &RetentionPolicy) -> Retained {
    retain(&mut scratch.connection, &layout(), policy).await.unwrap()
}

/// Removes what may leave; returns the bytes over the limit that nothing could be removed for.
async fn retain_all(scratch: &mut Scratch, policy: &RetentionPolicy) -> u64 {
    loop {
        let retained = step(scratch, policy).await;
        if retained.is_done() {
            return retained.stuck_bytes;
        }
    }
}

async fn used(scratch: &mut Scratch) -> u64 {
    sizes::used(&mut scratch.connection, &layout()).await.unwrap().total
}

async fn announce(scratch: &mut Scratch) {
    scratch.run("DELETE FROM sw_outbox").await;
}

#[actix_rt::test]
async fn a_day_that_is_over_and_too_old_leaves_as_a_whole_with_the_floor_raised() {
    with_database("days", async |scratch| {
        scratch.make_tables().await;
        scratch.store(0, 0..1_000, DAY * 2).await;
        scratch.store(0, 1_000..1_500, DAY).await;
        scratch.store(0, 1_500..1_600, Duration::ZERO).await;
        scratch.position(3, 44).await;
        retain_all(scratch, &by_age(DAY * 3)).await;
        assert_eq!(scratch.count(ROWS).await, 1_600, "its last rows may be younger");
        // The day before yesterday ended a day and some hours ago; yesterday, some hours ago.
        let stream = (&layout(), 0);
        let days = days::days_of(&mut scratch.connection, "orders").await.unwrap();
        assert_eq!(
            days.iter().map(|day| day.table.as_str()).collect::<Vec<_>>(),
            ["orders_d2", "orders_d1", "orders_d0"]
        );
        assert_eq!(days::drop_day(&mut scratch.connection, stream, &days[0]).await.unwrap(), Some(1_000));
        assert_eq!((scratch.count(ROWS).await, scratch.count(FLOOR).await), (600, 1_000));
        assert_eq!(scratch.count("SELECT retained_from FROM sw_positions WHERE log = 3").await, 0);
        assert_eq!(scratch.count("SELECT count(*) FROM pg_class WHERE relname = 'orders_d2'").await, 0);
    })
    .await;
}

#[actix_rt::test]
async fn a_day_that_somebody_reads_stays_for_the_next_call_with_its_floor() {
    with_database("read_day", async |scratch| {
        use sqlx::Connection as _;
        scratch.make_tables().await;
        scratch.store(0, 0..10, DAY * 2).await;
        let mut other = scratch.another().await;
        let mut reader = other.begin().await.unwrap();
        sqlx::query("SELECT count(*) FROM orders").execute(&mut *reader).await.unwrap();
        let day = days::days_of(&mut scratch.connection, "orders").await.unwrap().remove(0);
        assert_eq!(days::drop_day(&mut scratch.connection, (&layout(), 0), &day).await.unwrap(), None);
        assert_eq!((scratch.count(ROWS).await, scratch.count(FLOOR).await), (10, 0));
        reader.rollback().await.unwrap();
        assert_eq!(days::drop_day(&mut scratch.connection, (&layout(), 0), &day).await.unwrap(), Some(10));
        assert_eq!(scratch.count(FLOOR).await, 10);
    })
    .await;
}

#[actix_rt::test]
async fn an_age_under_two_days_is_kept_to_the_row_and_a_longer_one_to_the_day() {
    with_database("rows", async |scratch| {
        scratch.make_tables().await;
        scratch.store(0, 0..7_000, HOUR).await;
        scratch.store(1, 0..7, Duration::ZERO).await;
        assert_eq!(step(scratch, &by_age(HOUR / 2)).await.rows, 5_000);
        retain_all(scratch, &by_age(HOUR / 2)).await;
        assert_eq!((scratch.count(ROWS).await, scratch.count(FLOOR).await), (7, 7_000));
        scratch.store(0, 7_000..7_010, HOUR).await;
        scratch.run("UPDATE orders SET stored_at = stored_at - interval '1 hour'").await;
        retain_all(scratch, &by_age(TO_THE_ROW)).await;
        assert_eq!(scratch.count(ROWS).await, 17);
    })
    .await;
}

#[actix_rt::test]
async fn by_size_the_oldest_day_leaves_first_and_then_the_oldest_rows_of_the_day_that_is_not_over() {
    with_database("size", async |scratch| {
        scratch.make_tables().await;
        scratch.store(0, 0..20_000, DAY * 2).await;
        scratch.store(0, 20_000..80_000, Duration::from_secs(1)).await;
        let full = used(scratch).await;
        retain_all(scratch, &RetentionPolicy { age: None, size_bytes: Some(full * 9 / 10) }).await;
        assert_eq!((scratch.count(ROWS).await, scratch.count(FLOOR).await), (60_000, 20_000));
        scratch.store(0, 80_000..100_000, Duration::ZERO).await;
        let limit = used(scratch).await * 2 / 3;
        assert_eq!(retain_all(scratch, &RetentionPolicy { age: None, size_bytes: Some(limit) }).await, 0);
        // It is an estimate from about 500 pages, at each look others: within a quarter of the limit it is the same.
        assert!(used(scratch).await <= limit * 5 / 4);
        let left = scratch.count(ROWS).await;
        assert!((30_000..65_000).contains(&left), "{left} rows are left");
        assert_eq!(scratch.count("SELECT count(*) FROM orders WHERE (id & 4398046511103) >= 80000").await, 20_000);
    })
    .await;
}

#[actix_rt::test]
async fn retention_by_size_ends_though_files_keep_their_size_before_and_after_a_vacuum() {
    with_database("vacuum", async |scratch| {
        scratch.make_tables().await;
        scratch.store(0, 0..60_000, Duration::from_secs(1)).await;
        let limit = used(scratch).await / 2;
        let policy = RetentionPolicy { age: None, size_bytes: Some(limit) };
        retain_all(scratch, &policy).await;
        let left = scratch.count(ROWS).await;
        assert!(left > 15_000, "{left} rows are left");
        assert!(sizes::file_bytes(&mut scratch.connection, &layout()).await.unwrap() > limit);
        scratch.run("VACUUM orders_d0").await;
        retain_all(scratch, &policy).await;
        let after = scratch.count(ROWS).await;
        assert!(after > left * 3 / 4, "{left} rows became {after}");
    })
    .await;
}

#[actix_rt::test]
async fn by_size_no_row_leaves_for_facts_that_must_stay() {
    with_database("stuck", async |scratch| {
        scratch.make_tables().await;
        scratch.store(0, 0..100, Duration::ZERO).await;
        scratch.letters(100..400, 20_000, true).await;
        let policy = RetentionPolicy { age: None, size_bytes: Some(2 << 20) };
        let stuck = retain_all(scratch, &policy).await;
        assert!(stuck > 1 << 20, "{stuck} bytes over the limit cannot leave");
        assert_eq!((scratch.count(ROWS).await, scratch.count(LETTERS).await), (100, 300));
        announce(scratch).await;
        assert_eq!(retain_all(scratch, &policy).await, 0);
        assert_eq!(scratch.count(ROWS).await, 100);
        let left = scratch.count(LETTERS).await;
        assert!((1..200).contains(&left), "{left} dead letters are left");
        assert_eq!(scratch.count("SELECT min(\"offset\") FROM dead_letters").await, 400 - left);
    })
    .await;
}

#[actix_rt::test]
async fn by_age_facts_leave_in_chunks_and_what_waits_in_the_outbox_stays() {
    with_database("chunks", async |scratch| {
        scratch.make_tables().await;
        scratch.position(0, 460).await;
        scratch.letters(0..450, 1, true).await;
        let policy = by_age(Duration::ZERO);
        assert_eq!(step(scratch, &policy).await.rows, 0);
        announce(scratch).await;
        assert_eq!(step(scratch, &policy).await.rows, 250);
        assert_eq!(step(scratch, &policy).await.rows, 200);
        assert_eq!(scratch.count(LETTERS).await, 0);
        scratch.letters(450..460, 600_000, false).await;
        assert_eq!(step(scratch, &policy).await.rows, 2, "a chunk is bounded in bytes");
    })
    .await;
}

#[actix_rt::test]
async fn places_of_dead_letters_that_have_left_stay_until_the_rows_around_them_leave() {
    with_database("places", async |scratch| {
        scratch.make_tables().await;
        scratch.store(0, 0..3, Duration::ZERO).await;
        scratch.letters(3..303, 1, false).await;
        scratch.store(0, 303..305, Duration::ZERO).await;
        scratch.letters(305..310, 1, false).await;
        scratch.run("UPDATE orders SET stored_at = now() + interval '1 minute'").await;
        scratch
            .run("INSERT INTO sw_outbox SELECT 'dead_letter', sink, id FROM dead_letters WHERE \"offset\" = 7")
            .await;
        let ranges =
            "SELECT first_offset || '-' || next_offset FROM sw_ranges WHERE kind = 'removed' ORDER BY first_offset";
        retain_all(scratch, &by_age(Duration::ZERO)).await;
        assert_eq!(scratch.texts(ranges).await, ["3-7", "8-303", "305-310"], "the one between waits in the outbox");
        announce(scratch).await;
        retain_all(scratch, &by_age(Duration::ZERO)).await;
        assert_eq!(scratch.texts(ranges).await, ["3-303", "305-310"]);
        scratch.run("UPDATE orders SET stored_at = now() - interval '1 minute'").await;
        retain_all(scratch, &by_age(Duration::from_secs(1))).await;
        assert_eq!(scratch.count(FLOOR).await, 305);
        assert_eq!(scratch.texts(ranges).await, ["305-310"]);
    })
    .await;
}

#[actix_rt::test]
async fn ranges_that_were_passed_over_leave_by_age_up_to_the_first_row_that_stays() {
    with_database("filtered", async |scratch| {
        scratch.make_tables().await;
        scratch.store(0, 10..11, Duration::ZERO).await;
        scratch.position(0, 20).await;
        for (first, next) in [(0, 10), (11, 20)] {
            scratch
                .run(&format!(
                    "INSERT INTO sw_ranges VALUES ('orders', 'orders', 0, 0, 'filtered', {first}, {next}, now() - interval '1 second')"
                ))
                .await;
        }
        scratch.run("UPDATE orders SET stored_at = now() + interval '1 minute'").await;
        retain_all(scratch, &by_age(Duration::ZERO)).await;
        assert_eq!(scratch.count(FLOOR).await, 10);
        assert_eq!(scratch.count("SELECT min(first_offset) FROM sw_ranges").await, 11);
        scratch.run("DELETE FROM orders").await;
        retain_all(scratch, &by_age(Duration::ZERO)).await;
        assert_eq!((scratch.count(FLOOR).await, scratch.count("SELECT count(*) FROM sw_ranges").await), (20, 0));
    })
    .await;
}

#[actix_rt::test]
async fn an_alert_stays_while_it_fires_and_while_it_waits_to_be_announced() {
    with_database("alerts", async |scratch| {
        scratch.make_tables().await;
        for (id, n, state) in [("fires", 0, "firing"), ("ended", 0, "firing"), ("ended", 1, "resolved")] {
            scratch.alert(id, (n, state), 0).await;
        }
        retain_all(scratch, &by_age(Duration::ZERO)).await;
        assert_eq!(scratch.count("SELECT count(*) FROM alerts").await, 3, "all of them wait in the outbox");
        announce(scratch).await;
        retain_all(scratch, &by_age(Duration::ZERO)).await;
        assert_eq!(scratch.texts("SELECT alert_id FROM alerts").await, ["fires"]);
        assert_eq!(scratch.count("SELECT bytes FROM sw_facts WHERE kind = 'alert'").await, 405);
    })
    .await;
}

#[actix_rt::test]
async fn windows_late_notes_and_figures_from_before_a_time_leave() {
    with_database("figures", async |scratch| {
        scratch.make_tables().await;
        for ago in ["2 hours", "1 minute"] {
            let at = format!("now() - interval '{ago}'");
            scratch
                .run(&format!(
                    "INSERT INTO minutes (window_start, created_at) VALUES ({at}, {at}); \
                     INSERT INTO sw_minutes VALUES ('orders', {at}, 0, 1, 1, 0, 1); \
                     INSERT INTO sw_keys VALUES ('orders', '{ago}', {at}); \
                     INSERT INTO sw_late VALUES ('orders', 'minutes', 'orders', 0, 0, extract(epoch FROM {at})::bigint, \
                     {at}, {at}, {at}, {at}, 'late'); UPDATE sw_facts SET bytes = bytes + 120 WHERE kind = 'late'"
                ))
                .await;
        }
        retain_all(scratch, &by_age(HOUR)).await;
        for table in ["minutes", "sw_minutes", "sw_keys", "sw_late"] {
            assert_eq!(scratch.count(&format!("SELECT count(*) FROM {table}")).await, 1, "{table}");
        }
        assert_eq!(scratch.count("SELECT bytes FROM sw_facts WHERE kind = 'late'").await, 120);
    })
    .await;
}

#[actix_rt::test]
async fn a_day_that_has_just_ended_keeps_its_partition_since_a_commit_may_still_write_into_it() {
    with_database("grace", async |scratch| {
        scratch.make_tables().await;
        for (minutes, left) in [(5, 1), (15, 0)] {
            scratch.run("DROP TABLE IF EXISTS orders_d2, orders_d1, orders_d0").await;
            let sql = format!(
                "DO $$ BEGIN EXECUTE format('CREATE TABLE orders_d1 PARTITION OF orders FOR VALUES FROM (%L) TO (%L)', \
                 now() - interval '1 day', now() - interval '{minutes} minutes'); END $$"
            );
            scratch.run(&sql).await;
            scratch.store(0, 0..10, HOUR).await;
            retain_all(scratch, &by_age(Duration::from_secs(1))).await;
            retain_all(scratch, &RetentionPolicy { age: None, size_bytes: Some(1) }).await;
            assert_eq!(scratch.count(ROWS).await, 0, "its rows leave by themselves");
            let days = "SELECT count(*) FROM pg_class WHERE relispartition AND relkind = 'r'";
            assert_eq!(scratch.count(days).await, left, "{minutes} minutes after its end");
        }
    })
    .await;
}
