use super::*;
use crate::adapters::postgres::scratch::{Scratch, with_database};

async fn facts(scratch: &mut Scratch, kind: FactKind) -> Vec<Fact> {
    page(&mut scratch.connection, kind).await.unwrap()
}

#[actix_rt::test]
async fn a_page_is_bounded_in_bytes_in_commit_order_and_has_one_fact_at_least() {
    with_database("page", async |scratch| {
        scratch.letters(0..10, 1_500_000, true).await;
        scratch.letters(10..11, 9_000_000, true).await;
        scratch.letters(11..12, 1, true).await;
        let (mut pages, mut numbers) = (Vec::new(), Vec::new());
        loop {
            let facts = facts(scratch, FactKind::DeadLetter).await;
            if facts.is_empty() {
                break;
            }
            pages.push(facts.len());
            let entries: Vec<_> = facts.into_iter().map(|fact| fact.entry).collect();
            numbers.extend(entries.iter().map(|entry| entry.fact));
            sent(&mut scratch.connection, FactKind::DeadLetter, &entries).await.unwrap();
        }
        assert_eq!(pages, [3, 3, 3, 2, 1]);
        assert_eq!(numbers, (1..=12).collect::<Vec<_>>());
    })
    .await;
}

#[actix_rt::test]
async fn a_pipeline_with_a_long_queue_leaves_the_others_their_part_of_a_page() {
    with_database("parts", async |scratch| {
        scratch.letters(0..1_000, 1, true).await;
        scratch.letters(1_000..1_001, 1, false).await;
        scratch.run("INSERT INTO sw_outbox VALUES ('dead_letter', 'series', 1001)").await;
        let sinks: Vec<String> =
            facts(scratch, FactKind::DeadLetter).await.into_iter().map(|fact| fact.entry.sink).collect();
        assert_eq!((sinks.len(), sinks.iter().filter(|sink| *sink == "series").count()), (251, 1));
    })
    .await;
}

#[actix_rt::test]
async fn facts_say_what_was_stored_and_those_of_one_kind_leave_the_others() {
    with_database("kinds", async |scratch| {
        scratch.alert("a", (0, "firing"), 0).await;
        scratch.letters(5..6, 1, true).await;
        let alert = facts(scratch, FactKind::Alert).await.remove(0);
        let json: serde_json::Value = serde_json::from_slice(alert.value.as_deref().unwrap()).unwrap();
        assert_eq!((&json["alert_id"], &json["state"], &json["offset"]), (&"a".into(), &"firing".into(), &7.into()));
        assert!(json["created_at"].as_str().unwrap().starts_with("20"), "{json}");
        let letter = facts(scratch, FactKind::DeadLetter).await.remove(0);
        let id = letter.headers.iter().find(|(name, _)| name == b"x-dlq-id").unwrap().1.clone().unwrap();
        assert_eq!(String::from_utf8(id).unwrap(), "orders/orders/0/5");
        assert_eq!((alert.entry.fact, letter.entry.fact), (1, 1));
        sent(&mut scratch.connection, FactKind::Alert, &[alert.entry]).await.unwrap();
        assert_eq!(facts(scratch, FactKind::Alert).await.len(), 0);
        assert_eq!(facts(scratch, FactKind::DeadLetter).await.len(), 1);
        undeliverable(&mut scratch.connection, FactKind::DeadLetter, (1, "too\0long")).await.unwrap();
        assert_eq!(scratch.texts("SELECT undeliverable FROM dead_letters").await, ["too\u{fffd}long"]);
        assert_eq!(scratch.count("SELECT count(*) FROM alerts WHERE undeliverable IS NOT NULL").await, 0);
    })
    .await;
}
