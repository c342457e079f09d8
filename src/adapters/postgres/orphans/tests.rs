use super::*;
use crate::adapters::postgres::scratch::{Scratch, layout, with_database};

const STATES: &str = "SELECT alert_id || ' ' || state FROM alerts WHERE latest ORDER BY 1";
const STATE: &str = "INSERT INTO sw_checkpoints VALUES ('orders', 'orders', 0, 'rule/hot', 0, 4, '', now()), \
     ('orders', 'orders', 0, 'watermark', 0, 4, '', now())";

async fn resolve_with(scratch: &mut Scratch, change: impl FnOnce(&mut Layout)) -> u64 {
    let mut layout = layout();
    change(&mut layout);
    resolve_unconfigured(&mut scratch.connection, &layout).await.unwrap()
}

#[actix_rt::test]
async fn an_alert_that_nobody_judges_is_resolved_with_the_reason_announced_and_its_state_begins_afresh() {
    type Change = fn(&mut Layout);
    let cases: [(&str, Change, &str); 3] = [
        ("no_rule", |layout| layout.rules.clear(), "rule hot is not configured"),
        ("no_sink", |layout| layout.sinks.clear(), "pipeline orders is not configured"),
        ("no_topic", |layout| layout.streams[0].topic = "elsewhere".into(), "does not read topic orders"),
    ];
    for (name, change, reason) in cases {
        with_database(name, async |scratch| {
            scratch.position(0, 9).await;
            scratch.run(STATE).await;
            for (id, n, state) in [("a", 0, "firing"), ("ended", 0, "firing"), ("ended", 1, "resolved")] {
                scratch.alert(id, (n, state), 0).await;
            }
            assert_eq!(resolve_with(scratch, |_| ()).await, 0);
            assert_eq!(scratch.texts(STATES).await, ["a firing", "ended resolved"]);
            assert_eq!(resolve_with(scratch, change).await, 1);
            assert_eq!(scratch.texts(STATES).await, ["a resolved", "ended resolved"]);
            let message = scratch.texts("SELECT message FROM alerts WHERE id = 4 AND n = 1 AND opened = 1").await;
            assert!(message[0].contains(reason), "{message:?}");
            assert_eq!(scratch.count("SELECT count(*) FROM sw_outbox WHERE kind = 'alert' AND fact = 4").await, 1);
            let bytes = format!("SELECT sum({}) FROM alerts", Kind::Alert.bytes_sql());
            let counted = "SELECT bytes FROM sw_facts WHERE kind = 'alert'";
            assert_eq!(scratch.count(counted).await, scratch.count(&bytes).await);
            let kept: Vec<Vec<u8>> = sqlx::query_scalar("SELECT bytes FROM sw_checkpoints WHERE chunk = 'rule/hot'")
                .fetch_all(&mut scratch.connection)
                .await
                .unwrap();
            let afresh = streamward_core::steps::rule::rule_from("hot", 9).bytes;
            assert_eq!(kept, [afresh], "at the position, not where records are read again");
        })
        .await;
    }
}

#[actix_rt::test]
async fn more_alerts_than_a_transaction_takes_are_resolved_and_numbers_ascend() {
    with_database("many", async |scratch| {
        scratch.position(0, 9).await;
        scratch
            .run(
                "INSERT INTO alerts SELECT i, 'a' || i, 0, CASE i % 2 WHEN 0 THEN 'gone' ELSE 'hot' END, 'orders', 'k', 'w', \
                 'firing', 'm', '{}', now(), 'orders', 0, 7, now(), true, NULL, 'orders', 0, i FROM generate_series(1, 3000) i; \
                 UPDATE sw_facts SET next_id = 3001 WHERE kind = 'alert'",
            )
            .await;
        assert_eq!(resolve_with(scratch, |_| ()).await, 1_500);
        let firing = "SELECT count(*) FROM alerts WHERE latest AND state = 'firing'";
        assert_eq!(scratch.count(firing).await, 1_500);
        assert_eq!(scratch.count("SELECT max(id) FROM alerts").await, 4_500);
        let ordered = "SELECT count(*) FROM (SELECT opened, lag(opened) OVER (ORDER BY id) AS b FROM alerts WHERE n = 1) o \
                       WHERE opened <= b";
        assert_eq!(scratch.count(ordered).await, 0, "in the order in which they fired");
    })
    .await;
}

#[actix_rt::test]
async fn alerts_of_other_logs_and_of_a_partition_that_begins_anew_are_resolved_and_no_others() {
    with_database("logs", async |scratch| {
        scratch.position(1, 9).await;
        scratch.alert("earlier", (0, "firing"), 0).await;
        scratch.alert("present", (0, "firing"), 1).await;
        let of_others = resolve_other_logs(&mut scratch.connection, ("orders", "orders"), 1).await.unwrap();
        assert_eq!(
            (of_others, scratch.texts(STATES).await),
            (1, vec!["earlier resolved".to_owned(), "present firing".to_owned()])
        );
        let key = |partition| PartitionKey { sink: "orders".into(), topic: "orders".into(), partition };
        assert_eq!(resolve_partition(&mut scratch.connection, &key(1), 1).await.unwrap(), 0);
        assert_eq!(resolve_partition(&mut scratch.connection, &key(0), 1).await.unwrap(), 1);
        assert_eq!(scratch.texts(STATES).await, ["earlier resolved", "present resolved"]);
    })
    .await;
}
