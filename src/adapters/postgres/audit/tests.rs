use super::*;
use crate::adapters::postgres::scratch::with_database;

#[actix_rt::test]
async fn a_recount_sees_the_database_as_it_began_until_it_ends_and_writes_nothing() {
    with_database("audit", async |scratch| {
        scratch.make_tables().await;
        scratch.store(1, 0..5, Duration::ZERO).await;
        scratch.letters(5..7, 1, true).await;
        scratch.run("INSERT INTO sw_ranges VALUES ('orders', 'orders', 0, 1, 'filtered', 7, 9, now())").await;
        let mut audit = PostgresAudit::open(&scratch.settings).await.unwrap();
        audit.begin().await.unwrap();
        let position = audit.positions().await.unwrap().remove(0);
        assert_eq!((position.log, position.next_offset), (1, 5));
        scratch.run("DELETE FROM orders; UPDATE sw_positions SET retained_from = 5").await;
        assert_eq!(audit.stored("orders", &position, 1..4).await.unwrap(), [1, 2, 3]);
        assert_eq!(audit.retained_from(&position).await.unwrap(), 0);
        audit.end().await.unwrap();
        assert_eq!(audit.stored("orders", &position, 1..4).await.unwrap(), [0; 0]);
        assert_eq!(audit.retained_from(&position).await.unwrap(), 5);
        let of_first = StoredPosition { log: 0, ..position.clone() };
        assert_eq!(audit.dead(&of_first, 0..6).await.unwrap(), [5]);
        assert_eq!(audit.dead(&position, 0..6).await.unwrap(), [0; 0], "they are of another log");
        #[expect(clippy::single_range_in_vec_init, reason = "one range of offsets")]
        let filtered = [7..9];
        assert_eq!(audit.ranges(&position, RangeKind::Filtered, 8..20).await.unwrap(), filtered);
        assert_eq!(audit.ranges(&position, RangeKind::Gap, 8..20).await.unwrap(), []);
        assert_eq!(audit.alerts().await.unwrap(), (0, 0));
        assert_eq!(audit.dead_values("orders").await.unwrap().len(), 2);
        let refused = sqlx::query("DELETE FROM sw_positions").execute(&mut audit.connection).await.unwrap_err();
        assert!(words(&refused).contains("25006"), "{refused}");
    })
    .await;
}

#[actix_rt::test]
async fn rows_are_counted_by_value_and_by_steps_back_and_logs_are_known_by_their_identity() {
    with_database("recount", async |scratch| {
        scratch.make_tables().await;
        scratch.store(0, 0..4, Duration::ZERO).await;
        scratch
            .run("UPDATE orders SET name = CASE id WHEN 0 THEN 'zone_9' WHEN 1 THEN 'zone_10' ELSE 'zone_2' END")
            .await;
        let mut audit = PostgresAudit::open(&scratch.settings).await.unwrap();
        assert_eq!(audit.count_distinct("orders", "name", 0).await.unwrap(), (4, 3));
        assert_eq!(audit.count_distinct("orders", "name", i64::MAX).await.unwrap(), (0, 0));
        assert_eq!(audit.steps_back("orders", "at", "name", 0).await.unwrap(), 2);
        scratch.run("INSERT INTO sw_logs VALUES ('orders', 3, 'c', 'id', now())").await;
        let log = |id: &str| LogIdentity { cluster_id: "c".to_owned(), topic_id: id.to_owned() };
        assert_eq!(audit.log_number("orders", &log("id")).await.unwrap(), Some(3));
        assert_eq!(audit.log_number("orders", &log("other")).await.unwrap(), None);
    })
    .await;
}
