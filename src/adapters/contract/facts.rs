//! Alerts and dead letters: their places in lists, their way out, and who resolves them.

use std::sync::Arc;

use streamward_core::{
    output::{AlertState, AlertTransition, DeadLetter, Missed, MissedRecord, Output, StateChunk},
    ports::{AlertQuery, Counting, PageRequest, Row},
    steps::rule::rule_from,
    table::Layout,
};
use streamward_pipeline::{
    relay::{Fact, FactKind},
    store::{Assignment, Outcome, PartitionKey, Pending, Start, Store},
};

use super::{contract, fixture::*, scratch::Scratch};
use crate::adapters::database::Database;

async fn commit(store: &Arc<dyn Store>, outputs: &[Arc<Pending>]) {
    assert_eq!(store.commit(outputs).await.unwrap(), vec![Outcome::Committed; outputs.len()]);
}

/// Stores transitions as an output without rows that begins at an offset.
async fn raise(store: &Arc<dyn Store>, owner: &Assignment, start: i64, alerts: Vec<AlertTransition>) {
    commit(store, &[pending(owner, Output { end: start + 1, alerts, ..output(0, start, start) })]).await;
}

fn fires(alert_id: &str) -> AlertTransition {
    transition(alert_id, 0, AlertState::Firing)
}

fn resolves(alert_id: &str) -> AlertTransition {
    transition(alert_id, 1, AlertState::Resolved)
}

/// Id, state and message of the newest transition of each alert, by id.
async fn newest(scratch: &Scratch) -> Vec<(String, String, String)> {
    let page = PageRequest { limit: 1_000, cursor: None, counting: Counting::Skip };
    let query = AlertQuery { state: None, severity: None, rule: None, page };
    let alerts = scratch.reads().alerts(query).await.unwrap().items;
    let text = |alert: &Row, name: &str| alert[name].as_str().unwrap().to_owned();
    let mut alerts: Vec<_> =
        alerts.iter().map(|alert| (text(alert, "alert_id"), text(alert, "state"), text(alert, "message"))).collect();
    alerts.sort();
    alerts
}

fn text(fact: &Fact) -> serde_json::Value {
    serde_json::from_slice(fact.value.as_deref().unwrap()).unwrap()
}

/// Stores a dead letter of the other pipeline.
async fn dead_letter_of_series(store: &Arc<dyn Store>) {
    let quiet = PartitionKey { sink: "series".into(), topic: "series-readings".into(), partition: 0 };
    let assignment = store.assign(&quiet, &log("first")).await.unwrap();
    let start = Start { epoch: assignment.epoch, log: assignment.log, position: 0, gap: None };
    store.start_at(&quiet, start).await.unwrap();
    let output = Output { end: 1, dead: vec![letter(0)], ..output(0, 0, 0) };
    let single =
        Pending { key: quiet, epoch: assignment.epoch, log: assignment.log, output, beside: Vec::new(), raw: None };
    commit(store, &[Arc::new(single)]).await;
}

/// Opens a database in which the alert `a` of the built-in rule fires, with another layout.
async fn reopened(scratch: &Scratch, change: impl FnOnce(&mut Layout)) -> Arc<dyn Store> {
    let store = scratch.open().await.store;
    let owner = assign(&*store, 0).await;
    let state = vec![StateChunk { name: "rule/temperature_max".into(), bytes: vec![1] }];
    let alerts = vec![fires("a"), fires("ended"), resolves("ended")];
    commit(&store, &[pending(&owner, Output { end: 1, alerts, checkpoint: state, ..output(0, 0, 0) })]).await;
    drop(store);
    let mut layout = plan().layout();
    change(&mut layout);
    scratch.open_with(layout).await.unwrap().store
}

async fn a_walk_over_the_alerts_meets_each_one_once_whatever_fires_and_resolves_meanwhile(scratch: Scratch) {
    let Database { store, reads } = scratch.open().await;
    let owner = assign(&*store, 0).await;
    let ids: Vec<String> = (0..10).map(|id| format!("alert {id}")).collect();
    raise(&store, &owner, 0, ids.iter().map(|id| fires(id)).collect()).await;
    let page = PageRequest { limit: 3, cursor: None, counting: Counting::Skip };
    let mut query = AlertQuery { state: None, severity: None, rule: None, page };
    let (mut seen, mut turn) = (Vec::new(), 1);
    loop {
        let page = reads.alerts(query.clone()).await.unwrap();
        seen.extend(page.items.iter().map(|alert| alert["alert_id"].as_str().unwrap().to_owned()));
        let Some(next) = page.next else { break };
        query.page.cursor = Some(next);
        let (old, young) = (turn - 1, 10 - turn);
        raise(&store, &owner, turn, vec![resolves(&ids[old as usize]), resolves(&ids[young as usize])]).await;
        raise(&store, &owner, turn + 1, vec![fires(&format!("new {turn}"))]).await;
        turn += 2;
    }
    seen.sort();
    assert_eq!(seen, ids);
}

async fn a_pipeline_with_a_long_queue_leaves_the_others_their_part_of_a_page(scratch: Scratch) {
    let store = scratch.open().await.store;
    let owner = assign(&*store, 0).await;
    let dead = (0..2_000).map(letter).collect();
    commit(&store, &[pending(&owner, Output { end: 2_000, dead, ..output(0, 0, 0) })]).await;
    dead_letter_of_series(&store).await;
    let sinks = store.facts(FactKind::DeadLetter).await.unwrap().into_iter().map(|fact| fact.entry.sink);
    let sinks: Vec<String> = sinks.collect();
    assert_eq!(sinks.iter().filter(|sink| *sink == "series").count(), 1);
    assert_eq!(sinks.len(), 251);
}

async fn pipelines_share_the_bytes_of_a_page(scratch: Scratch) {
    let store = scratch.open().await.store;
    let owner = assign(&*store, 0).await;
    let dead = (0..5).map(|offset| DeadLetter { value: Some(vec![0; 1_500_000]), ..letter(offset) }).collect();
    commit(&store, &[pending(&owner, Output { end: 5, dead, ..output(0, 0, 0) })]).await;
    assert_eq!(store.facts(FactKind::DeadLetter).await.unwrap().len(), 3);
    dead_letter_of_series(&store).await;
    let facts = store.facts(FactKind::DeadLetter).await.unwrap();
    let of_series = facts.iter().filter(|fact| fact.entry.sink == "series").count();
    assert_eq!((facts.len() - of_series, of_series), (2, 1));
}

async fn a_page_of_the_outbox_is_bounded_in_bytes_and_has_one_fact_at_least(scratch: Scratch) {
    let store = scratch.open().await.store;
    let owner = assign(&*store, 0).await;
    let long = |offset, bytes| DeadLetter { value: Some(vec![0; bytes]), ..letter(offset) };
    let dead = (0..10).map(|offset| long(offset, 1_500_000)).chain([long(10, 9_000_000), long(11, 1)]).collect();
    commit(&store, &[pending(&owner, Output { end: 12, dead, ..output(0, 0, 0) })]).await;
    let mut pages = Vec::new();
    loop {
        let facts = store.facts(FactKind::DeadLetter).await.unwrap();
        if facts.is_empty() {
            break;
        }
        pages.push(facts.len());
        let entries: Vec<_> = facts.into_iter().map(|fact| fact.entry).collect();
        store.sent(FactKind::DeadLetter, &entries).await.unwrap();
    }
    assert_eq!(pages, [3, 3, 3, 2, 1]);
}

async fn transitions_of_a_rules_key_are_of_one_order_and_dead_letters_of_none(scratch: Scratch) {
    let store = scratch.open().await.store;
    let owner = assign(&*store, 0).await;
    let of = |id: &str, key: Option<&str>| AlertTransition { key: key.map(str::to_owned), ..fires(id) };
    let alerts = vec![of("a", Some("s1")), of("b", Some("s1")), of("c", Some("s2")), of("d", None), of("e", Some(""))];
    raise(&store, &owner, 0, alerts).await;
    let facts = store.facts(FactKind::Alert).await.unwrap();
    let orders: Vec<_> = facts.iter().map(|fact| fact.in_order.clone().unwrap()).collect();
    assert_eq!(orders[0], orders[1]);
    let different: std::collections::BTreeSet<_> = orders.iter().collect();
    assert_eq!(different.len(), 4, "{orders:?}");
    let dead = vec![letter(1)];
    commit(&store, &[pending(&owner, Output { end: 2, dead, ..output(0, 1, 1) })]).await;
    assert_eq!(store.facts(FactKind::DeadLetter).await.unwrap()[0].in_order, None);
}

async fn an_alert_whose_rule_pipeline_or_topic_left_the_configuration_is_resolved_at_start(scratch: Scratch) {
    type Change = fn(&mut Layout);
    let cases: [(Change, &str); 4] = [
        (
            |layout| layout.rules.retain(|(_, rule)| &**rule != "temperature_max"),
            "rule temperature_max is not configured",
        ),
        (
            |layout| {
                let of_other = |(_, rule): &(Arc<str>, Arc<str>)| (Arc::from("series"), rule.clone());
                layout.rules = layout.rules.iter().map(of_other).collect();
            },
            "rule temperature_max is not configured",
        ),
        (|layout| layout.sinks.retain(|(sink, _)| &**sink != "sensors"), "pipeline sensors is not configured"),
        (|layout| layout.streams[0].topic = "elsewhere".into(), "does not read topic sensor-readings"),
    ];
    for (change, reason) in cases {
        let scratch = scratch.another().await;
        let store = reopened(&scratch, change).await;
        let [(_, state, message), (_, _, ended)] = &newest(&scratch).await[..] else { panic!("two alerts") };
        assert_eq!((state.as_str(), ended.as_str()), ("resolved", "hot"));
        assert!(message.contains(reason), "{message}");
        let facts = store.facts(FactKind::Alert).await.unwrap();
        assert_eq!(facts.len(), 4, "{reason}");
        let last = text(&facts[3]);
        assert_eq!((&last["state"], &last["n"], &last["alert_id"]), (&"resolved".into(), &1.into(), &"a".into()));
        assert_eq!(last["message"], message.as_str());
        let kept = scratch.bytes("SELECT bytes FROM sw_checkpoints").await;
        let afresh = rule_from("temperature_max", 1).bytes;
        assert_eq!(kept, [afresh], "at the position, not where records are read again");
    }
}

async fn an_alert_whose_rule_is_configured_goes_on_firing_after_a_start(scratch: Scratch) {
    let store = reopened(&scratch, |_| ()).await;
    let [(_, state, _), _] = &newest(&scratch).await[..] else { panic!("two alerts") };
    assert_eq!((state.as_str(), store.facts(FactKind::Alert).await.unwrap().len()), ("firing", 3));
    assert_eq!(scratch.count("SELECT count(*) FROM sw_checkpoints").await, 1);
}

async fn more_alerts_than_a_transaction_takes_are_resolved_at_start(scratch: Scratch) {
    let store = scratch.open().await.store;
    let owner = assign(&*store, 0).await;
    let of = |id: i64| AlertTransition {
        rule: if id % 2 == 0 { "gone" } else { "temperature_max" }.into(),
        ..fires(&id.to_string())
    };
    raise(&store, &owner, 0, (0..3_000).map(of).collect()).await;
    drop(store);
    drop(scratch.open().await);
    let firing = "SELECT count(*) FROM alerts WHERE latest AND state = 'firing'";
    assert_eq!(scratch.count(firing).await, 1_500);
    assert_eq!(scratch.count("SELECT count(*) FROM alerts WHERE rule = 'gone' AND latest").await, 1_500);
}

async fn alerts_of_a_log_that_was_replaced_are_resolved_when_the_new_one_is_taken_over(scratch: Scratch) {
    let store = scratch.open().await.store;
    let (first, other) = (assign(&*store, 0).await, assign(&*store, 1).await);
    raise(&store, &first, 0, vec![fires("a")]).await;
    commit(&store, &[pending(&other, Output { end: 1, alerts: vec![fires("b")], ..output(1, 0, 0) })]).await;
    let second = assign_of(&*store, 0, "second").await;
    let [(_, a, message), (_, b, _)] = &newest(&scratch).await[..] else { panic!("two alerts") };
    assert_eq!((a.as_str(), b.as_str()), ("resolved", "resolved"), "also of a partition that the new one may not have");
    assert!(message.contains("topic sensor-readings was made anew"), "{message}");
    raise(&store, &second, 0, vec![fires("c")]).await;
    // What was on its way of the first log is stored, and nobody is left to resolve its alerts.
    raise(&store, &first, 1, vec![resolves("a"), fires("d"), fires("e"), resolves("e")]).await;
    let states: Vec<_> = newest(&scratch).await.into_iter().map(|(id, state, _)| id + " " + &state).collect();
    assert_eq!(states, ["a resolved", "b resolved", "c firing", "d resolved", "e resolved"]);
    assert_eq!(scratch.count("SELECT count(*) FROM alerts WHERE alert_id = 'a'").await, 2);
    assert_eq!(scratch.count("SELECT count(*) FROM alerts WHERE alert_id = 'e'").await, 2);
}

async fn alerts_of_the_log_that_is_read_go_on_firing_when_it_is_assigned_again(scratch: Scratch) {
    let store = scratch.open().await.store;
    assign(&*store, 0).await;
    let second = assign_of(&*store, 0, "second").await;
    raise(&store, &second, 0, vec![fires("a")]).await;
    assign_of(&*store, 0, "second").await;
    let [(_, state, _)] = &newest(&scratch).await[..] else { panic!("one alert") };
    assert_eq!(state, "firing", "its log is the topic's, whatever logs were before it");
}

async fn alerts_of_another_pipeline_that_still_reads_the_earlier_log_go_on_firing(scratch: Scratch) {
    let store = scratch.open().await.store;
    assign(&*store, 0).await;
    let key = PartitionKey { sink: "series".into(), ..key(0) };
    let other = store.assign(&key, &log("first")).await.unwrap();
    let start = Start { epoch: other.epoch, log: other.log, position: 0, gap: None };
    store.start_at(&key, start).await.unwrap();
    let output = Output { end: 1, alerts: vec![fires("a")], ..output(0, 0, 0) };
    let raised =
        Pending { key: key.clone(), epoch: other.epoch, log: other.log, output, beside: Vec::new(), raw: None };
    commit(&store, &[Arc::new(raised)]).await;
    assign_of(&*store, 0, "second").await;
    assert_eq!(newest(&scratch).await[0].1, "firing");
    store.assign(&key, &log("second")).await.unwrap();
    assert_eq!(newest(&scratch).await[0].1, "resolved");
}

async fn an_alert_that_is_sent_leaves_the_dead_letter_of_the_same_number_in_the_outbox_and_the_reverse(
    scratch: Scratch,
) {
    for (sent, left) in [(FactKind::Alert, FactKind::DeadLetter), (FactKind::DeadLetter, FactKind::Alert)] {
        let scratch = scratch.another().await;
        let store = scratch.open().await.store;
        let owner = assign(&*store, 0).await;
        let both = Output { end: 1, dead: vec![letter(0)], alerts: vec![fires("a")], ..output(0, 0, 0) };
        commit(&store, &[pending(&owner, both)]).await;
        let entries = async |kind| -> Vec<_> {
            let facts = store.facts(kind).await.unwrap();
            facts.into_iter().map(|fact| fact.entry).collect()
        };
        let before = (entries(sent).await, entries(left).await);
        assert_eq!((before.0.len(), before.1.len()), (1, 1));
        assert_eq!(before.0[0].fact, before.1[0].fact);
        store.sent(sent, &before.0).await.unwrap();
        assert_eq!((entries(sent).await, entries(left).await), (Vec::new(), before.1), "{sent:?}");
    }
}

async fn the_end_of_an_alert_whose_beginning_is_no_longer_stored_is_stored(scratch: Scratch) {
    let store = scratch.open().await.store;
    let owner = assign(&*store, 0).await;
    raise(&store, &owner, 0, vec![resolves("a")]).await;
    assert_eq!(newest(&scratch).await, [("a".to_owned(), "resolved".to_owned(), "hot".to_owned())]);
}

async fn a_refusal_of_the_target_is_noted_on_the_fact_that_was_refused(scratch: Scratch) {
    for (kind, noted) in [(FactKind::Alert, (1, 0)), (FactKind::DeadLetter, (0, 1))] {
        let scratch = scratch.another().await;
        let store = scratch.open().await.store;
        let owner = assign(&*store, 0).await;
        let both = Output { end: 1, dead: vec![letter(0)], alerts: vec![fires("a")], ..output(0, 0, 0) };
        commit(&store, &[pending(&owner, both)]).await;
        store.undeliverable(kind, 1, "too large").await.unwrap();
        let alerts = scratch.count("SELECT count(*) FROM alerts WHERE undeliverable = 'too large'").await;
        let letters = scratch.count("SELECT count(*) FROM dead_letters WHERE undeliverable = 'too large'").await;
        assert_eq!((alerts, letters), noted, "{kind:?}");
    }
}

async fn a_record_that_missed_a_window_counts_as_late_also_where_the_window_had_begun_before_its_step(
    scratch: Scratch,
) {
    let store = scratch.open().await.store;
    let owner = assign(&*store, 0).await;
    let whys = [Missed::Late, Missed::Begun, Missed::Begun, Missed::Full, Missed::Full, Missed::Full, Missed::Full];
    let missed = (0..).zip(whys).map(|(offset, why)| MissedRecord {
        window: "aggregated_metrics".into(),
        why,
        offset,
        event_time_ms: 0,
        window_start_ms: 0,
        watermark_ms: 0,
    });
    commit(&store, &[pending(&owner, Output { missed: missed.collect(), ..output(0, 0, 7) })]).await;
    assert_eq!(scratch.count("SELECT late * 10 + \"full\" FROM sw_positions").await, 34);
}

contract! {
    a_walk_over_the_alerts_meets_each_one_once_whatever_fires_and_resolves_meanwhile,
    a_pipeline_with_a_long_queue_leaves_the_others_their_part_of_a_page,
    pipelines_share_the_bytes_of_a_page,
    a_page_of_the_outbox_is_bounded_in_bytes_and_has_one_fact_at_least,
    transitions_of_a_rules_key_are_of_one_order_and_dead_letters_of_none,
    an_alert_whose_rule_pipeline_or_topic_left_the_configuration_is_resolved_at_start,
    an_alert_whose_rule_is_configured_goes_on_firing_after_a_start,
    more_alerts_than_a_transaction_takes_are_resolved_at_start,
    alerts_of_a_log_that_was_replaced_are_resolved_when_the_new_one_is_taken_over,
    alerts_of_the_log_that_is_read_go_on_firing_when_it_is_assigned_again,
    alerts_of_another_pipeline_that_still_reads_the_earlier_log_go_on_firing,
    an_alert_that_is_sent_leaves_the_dead_letter_of_the_same_number_in_the_outbox_and_the_reverse,
    the_end_of_an_alert_whose_beginning_is_no_longer_stored_is_stored,
    a_refusal_of_the_target_is_noted_on_the_fact_that_was_refused,
    a_record_that_missed_a_window_counts_as_late_also_where_the_window_had_begun_before_its_step,
}
