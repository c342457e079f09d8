//! Alerts and dead letters: their places in lists, their way out, who resolves them, and what one costs.

use rusqlite::{Connection, StatementStatus};
use streamward_core::{
    output::{Missed, MissedRecord},
    ports::{AlertQuery, Counting, PageRequest, ReadStore},
    steps::rule::rule_from,
};
use streamward_pipeline::relay::Fact;

use super::*;
use crate::adapters::sqlite::{
    Layout,
    facts::{INSERT_ALERT, SUPERSEDE},
    outbox,
    read::{ReadSettings, SqliteReads},
};

fn file(folder: &Path) -> Connection {
    Connection::open(folder.join("test.db")).unwrap()
}

async fn commit(store: &SqlStore, outputs: &[Arc<Pending>]) {
    assert_eq!(store.commit(outputs).await.unwrap(), vec![Outcome::Committed; outputs.len()]);
}

/// Stores transitions as an output without rows that begins at an offset.
async fn raise(store: &SqlStore, owner: &Assignment, start: i64, alerts: Vec<AlertTransition>) {
    commit(store, &[pending(owner, Output { end: start + 1, alerts, ..output(0, start, start) })]).await;
}

fn fires(alert_id: &str) -> AlertTransition {
    transition(alert_id, 0, AlertState::Firing)
}

fn resolves(alert_id: &str) -> AlertTransition {
    transition(alert_id, 1, AlertState::Resolved)
}

/// State and message of the newest transition of each alert.
fn newest(folder: &Path) -> Vec<(String, String, String)> {
    let file = file(folder);
    let mut select =
        file.prepare("SELECT alert_id, state, message FROM alerts WHERE latest = 1 ORDER BY alert_id").unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn text(fact: &Fact) -> serde_json::Value {
    serde_json::from_slice(fact.value.as_deref().unwrap()).unwrap()
}

#[actix::test]
async fn a_walk_over_the_alerts_meets_each_one_once_whatever_fires_and_resolves_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    let ids: Vec<String> = (0..10).map(|id| format!("alert {id}")).collect();
    raise(&store, &owner, 0, ids.iter().map(|id| fires(id)).collect()).await;
    let plan = plan();
    let file = folder.path().join("test.db");
    let reads = SqliteReads::open(&file, plan.layout().streams, plan.layout().windows, ReadSettings::default());
    let reads = reads.await.unwrap();
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

/// Stores a dead letter of the other pipeline.
async fn dead_letter_of_series(store: &SqlStore) {
    let quiet = PartitionKey { sink: "series".into(), topic: "series-readings".into(), partition: 0 };
    let assignment = store.assign(&quiet, &log("first")).await.unwrap();
    let start = Start { epoch: assignment.epoch, log: assignment.log, position: 0, gap: None };
    store.start_at(&quiet, start).await.unwrap();
    let output = Output { end: 1, dead: vec![letter(0)], ..output(0, 0, 0) };
    let single =
        Pending { key: quiet, epoch: assignment.epoch, log: assignment.log, output, beside: Vec::new(), raw: None };
    commit(store, &[Arc::new(single)]).await;
}

#[actix::test]
async fn a_pipeline_with_a_long_queue_leaves_the_others_their_part_of_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    let dead = (0..2_000).map(letter).collect();
    commit(&store, &[pending(&owner, Output { end: 2_000, dead, ..output(0, 0, 0) })]).await;
    dead_letter_of_series(&store).await;
    let sinks = store.facts(FactKind::DeadLetter).await.unwrap().into_iter().map(|fact| fact.entry.sink);
    let sinks: Vec<String> = sinks.collect();
    assert_eq!(sinks.iter().filter(|sink| *sink == "series").count(), 1);
    assert_eq!(sinks.len(), 251);
}

#[actix::test]
async fn pipelines_share_the_bytes_of_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    let dead = (0..5).map(|offset| DeadLetter { value: Some(vec![0; 1_500_000]), ..letter(offset) }).collect();
    commit(&store, &[pending(&owner, Output { end: 5, dead, ..output(0, 0, 0) })]).await;
    assert_eq!(store.facts(FactKind::DeadLetter).await.unwrap().len(), 3);
    dead_letter_of_series(&store).await;
    let facts = store.facts(FactKind::DeadLetter).await.unwrap();
    let of_series = facts.iter().filter(|fact| fact.entry.sink == "series").count();
    assert_eq!((facts.len() - of_series, of_series), (2, 1));
}

#[actix::test]
async fn a_page_of_the_outbox_is_bounded_in_bytes_and_has_one_fact_at_least() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
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

#[actix::test]
async fn transitions_of_a_rules_key_are_of_one_order_and_dead_letters_of_none() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
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

/// Opens a database in which the alert `a` of the built-in rule fires, with another layout.
async fn reopened(folder: &Path, change: impl FnOnce(&mut Layout)) -> SqlStore {
    let store = open(folder).await;
    let owner = assign(&store, 0).await;
    let state = vec![StateChunk { name: "rule/temperature_max".into(), bytes: vec![1] }];
    let alerts = vec![fires("a"), fires("ended"), resolves("ended")];
    commit(&store, &[pending(&owner, Output { end: 1, alerts, checkpoint: state, ..output(0, 0, 0) })]).await;
    drop(store);
    let mut layout = plan().layout();
    change(&mut layout);
    SqlStore::open(&folder.join("test.db"), &SqliteSettings::default(), layout).await.unwrap()
}

#[actix::test]
async fn an_alert_whose_rule_pipeline_or_topic_left_the_configuration_is_resolved_at_start() {
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
        let folder = tempfile::tempdir().unwrap();
        let store = reopened(folder.path(), change).await;
        let [(_, state, message), (_, _, ended)] = &newest(folder.path())[..] else { panic!("two alerts") };
        assert_eq!((state.as_str(), ended.as_str()), ("resolved", "hot"));
        assert!(message.contains(reason), "{message}");
        let facts = store.facts(FactKind::Alert).await.unwrap();
        assert_eq!(facts.len(), 4, "{reason}");
        let last = text(&facts[3]);
        assert_eq!((&last["state"], &last["n"], &last["alert_id"]), (&"resolved".into(), &1.into(), &"a".into()));
        assert_eq!(last["message"], message.as_str());
        let chunks = "SELECT count(*) FROM sw_checkpoints WHERE bytes = x'01'";
        assert_eq!(count(folder.path(), chunks).await, 0, "the rule begins afresh where it comes back");
        let database = rusqlite::Connection::open(folder.path().join("test.db")).unwrap();
        let kept: Vec<u8> = database.query_row("SELECT bytes FROM sw_checkpoints", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, rule_from("temperature_max", 1).bytes, "at the position, not where records are read again");
    }
}

#[actix::test]
async fn an_alert_whose_rule_is_configured_goes_on_firing_after_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = reopened(folder.path(), |_| ()).await;
    let [(_, state, _), _] = &newest(folder.path())[..] else { panic!("two alerts") };
    assert_eq!((state.as_str(), store.facts(FactKind::Alert).await.unwrap().len()), ("firing", 3));
    assert_eq!(count(folder.path(), "SELECT count(*) FROM sw_checkpoints").await, 1);
}

#[actix::test]
async fn more_alerts_than_a_transaction_takes_are_resolved_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    let of = |id: i64| AlertTransition {
        rule: if id % 2 == 0 { "gone" } else { "temperature_max" }.into(),
        ..fires(&id.to_string())
    };
    raise(&store, &owner, 0, (0..3_000).map(of).collect()).await;
    drop(store);
    drop(open(folder.path()).await);
    let firing = "SELECT count(*) FROM alerts WHERE latest = 1 AND state = 'firing'";
    assert_eq!(count(folder.path(), firing).await, 1_500);
    assert_eq!(count(folder.path(), "SELECT count(*) FROM alerts WHERE rule = 'gone' AND latest = 1").await, 1_500);
}

#[actix::test]
async fn alerts_of_a_log_that_was_replaced_are_resolved_when_the_new_one_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let (first, other) = (assign(&store, 0).await, assign(&store, 1).await);
    raise(&store, &first, 0, vec![fires("a")]).await;
    commit(&store, &[pending(&other, Output { end: 1, alerts: vec![fires("b")], ..output(1, 0, 0) })]).await;
    let second = assign_of(&store, 0, "second").await;
    let [(_, a, message), (_, b, _)] = &newest(folder.path())[..] else { panic!("two alerts") };
    assert_eq!((a.as_str(), b.as_str()), ("resolved", "resolved"), "also of a partition that the new one may not have");
    assert!(message.contains("topic sensor-readings was made anew"), "{message}");
    raise(&store, &second, 0, vec![fires("c")]).await;
    // What was on its way of the first log is stored, and nobody is left to resolve its alerts.
    raise(&store, &first, 1, vec![resolves("a"), fires("d"), fires("e"), resolves("e")]).await;
    let states: Vec<_> = newest(folder.path()).into_iter().map(|(id, state, _)| id + " " + &state).collect();
    assert_eq!(states, ["a resolved", "b resolved", "c firing", "d resolved", "e resolved"]);
    assert_eq!(count(folder.path(), "SELECT count(*) FROM alerts WHERE alert_id = 'a'").await, 2);
    assert_eq!(count(folder.path(), "SELECT count(*) FROM alerts WHERE alert_id = 'e'").await, 2);
}

#[actix::test]
async fn alerts_of_the_log_that_is_read_go_on_firing_when_it_is_assigned_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    assign(&store, 0).await;
    let second = assign_of(&store, 0, "second").await;
    raise(&store, &second, 0, vec![fires("a")]).await;
    assign_of(&store, 0, "second").await;
    let [(_, state, _)] = &newest(folder.path())[..] else { panic!("one alert") };
    assert_eq!(state, "firing", "its log is the topic's, whatever logs were before it");
}

#[actix::test]
async fn alerts_of_another_pipeline_that_still_reads_the_earlier_log_go_on_firing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    assign(&store, 0).await;
    let key = PartitionKey { sink: "series".into(), ..key(0) };
    let other = store.assign(&key, &log("first")).await.unwrap();
    let start = Start { epoch: other.epoch, log: other.log, position: 0, gap: None };
    store.start_at(&key, start).await.unwrap();
    let output = Output { end: 1, alerts: vec![fires("a")], ..output(0, 0, 0) };
    let raised =
        Pending { key: key.clone(), epoch: other.epoch, log: other.log, output, beside: Vec::new(), raw: None };
    commit(&store, &[Arc::new(raised)]).await;
    assign_of(&store, 0, "second").await;
    assert_eq!(newest(folder.path())[0].1, "firing");
    store.assign(&key, &log("second")).await.unwrap();
    assert_eq!(newest(folder.path())[0].1, "resolved");
}

#[actix::test]
async fn a_database_of_an_earlier_version_keeps_its_alerts_outbox_and_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let file = rusqlite::Connection::open(folder.path().join("test.db")).unwrap();
    for migration in 1..=7 {
        let name =
            std::fs::read_dir("src/adapters/sqlite/migrations/sqlite").unwrap().map(|entry| entry.unwrap().path());
        let mut name = name.filter(|path| path.to_str().unwrap().contains(&format!("/{migration:04}_")));
        file.execute_batch(&std::fs::read_to_string(name.next().unwrap()).unwrap()).unwrap();
    }
    file.execute_batch(EARLIER).unwrap();
    file.execute_batch(include_str!("../migrations/0008_facts.sql")).unwrap();
    let rows = |sql: &str| -> Vec<String> {
        let mut select = file.prepare(sql).unwrap();
        select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let alerts = rows("SELECT concat_ws(' ', alert_id, n, latest, sink, log, opened) FROM alerts ORDER BY id");
    assert_eq!(alerts, ["a 0 0 sensors 0 3", "b 0 1 sensors 1 4", "a 1 1 sensors 0 3"]);
    assert_eq!(
        rows("SELECT concat_ws(' ', kind, sink, fact) FROM sw_outbox"),
        ["alert sensors 5", "dead_letter sensors 9"]
    );
    let numbers = rows("SELECT concat_ws(' ', kind, next_id, bytes > 0) FROM sw_facts ORDER BY kind");
    assert_eq!(numbers, ["alert 6 1", "dead_letter 10 1", "late 1 0"]);
    assert_eq!(rows("SELECT concat_ws(' ', first_offset, next_offset, stored_at > 0) FROM sw_ranges"), ["0 5 1"]);
}

const EARLIER: &str = "
INSERT INTO sw_logs VALUES ('t', 0, 'c', 'one', 10), ('t', 1, 'c', 'two', 100);
INSERT INTO sw_positions (sink, topic, partition, log, epoch, next_offset, first_offset, retained_from, outbox_seq, updated_at)
VALUES ('sensors', 't', 0, 1, 1, 0, 0, 0, 3, 0);
INSERT INTO alerts (id, alert_id, n, rule, stream, \"key\", severity, state, message, record, event_time, topic, partition,
                    \"offset\", created_at, latest)
VALUES (3, 'a', 0, 'r', 's', 'k', 'critical', 'firing', 'm', '{}', 0, 't', 0, 0, 50, 0),
       (4, 'b', 0, 'r', 's', 'k', 'critical', 'firing', 'm', '{}', 0, 't', 0, 1, 150, 1),
       (5, 'a', 1, 'r', 's', 'k', 'critical', 'resolved', 'm', '{}', 0, 't', 0, 2, 60, 1);
INSERT INTO dead_letters (id, sink, topic, partition, log, \"offset\", stage, class, reason, headers, log_timestamp, created_at)
VALUES (9, 'sensors', 't', 0, 1, 0, 'decode', 'decode', '', x'', 0, 0);
INSERT INTO sw_outbox VALUES ('sensors', 't', 0, 1, 0, 'alert', 5), ('sensors', 't', 0, 1, 1, 'dead_letter', 9);
INSERT INTO sw_ranges VALUES ('sensors', 't', 0, 1, 'filtered', 0, 5);";

/// Steps of SQLite's machine that the writes of an alert take, where so many alerts fire already.
async fn steps_of_a_transition(firing: i64) -> i32 {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    let mut start = 0;
    for chunk in (0..firing).collect::<Vec<_>>().chunks(2_000) {
        raise(&store, &owner, start, chunk.iter().map(|id| fires(&format!("{id:x}"))).collect()).await;
        start += 1;
    }
    let statements = || {
        let writer = store.shared.writer.lock();
        let steps = [SUPERSEDE, INSERT_ALERT, outbox::ALERTS, outbox::SENT].map(|sql| {
            let statement = writer.connection.prepare_cached(sql).unwrap();
            statement.get_status(StatementStatus::VmStep)
        });
        steps.iter().sum::<i32>()
    };
    let before = statements();
    raise(&store, &owner, start, vec![resolves(&format!("{:x}", firing / 2)), fires("new")]).await;
    let facts = store.facts(FactKind::Alert).await.unwrap();
    store.sent(FactKind::Alert, &[facts[0].entry.clone()]).await.unwrap();
    statements() - before
}

#[actix::test]
async fn what_a_transition_costs_does_not_depend_on_how_many_alerts_fire() {
    let (few, many) = (steps_of_a_transition(600).await, steps_of_a_transition(20_000).await);
    assert_eq!(few, many);
    assert!(few > 100, "the statements were counted: {few}");
}

#[actix::test]
async fn an_alert_that_is_sent_leaves_the_dead_letter_of_the_same_number_in_the_outbox_and_the_reverse() {
    for (sent, left) in [(FactKind::Alert, FactKind::DeadLetter), (FactKind::DeadLetter, FactKind::Alert)] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).await;
        let owner = assign(&store, 0).await;
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

#[actix::test]
async fn the_end_of_an_alert_whose_beginning_is_no_longer_stored_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    raise(&store, &owner, 0, vec![resolves("a")]).await;
    assert_eq!(newest(folder.path()), [("a".to_owned(), "resolved".to_owned(), "hot".to_owned())]);
}

#[actix::test]
async fn a_refusal_of_the_target_is_noted_on_the_fact_that_was_refused() {
    for (kind, noted) in [(FactKind::Alert, (1, 0)), (FactKind::DeadLetter, (0, 1))] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).await;
        let owner = assign(&store, 0).await;
        let both = Output { end: 1, dead: vec![letter(0)], alerts: vec![fires("a")], ..output(0, 0, 0) };
        commit(&store, &[pending(&owner, both)]).await;
        store.undeliverable(kind, 1, "too large").await.unwrap();
        let alerts = count(folder.path(), "SELECT count(*) FROM alerts WHERE undeliverable = 'too large'").await;
        let letters = count(folder.path(), "SELECT count(*) FROM dead_letters WHERE undeliverable = 'too large'").await;
        assert_eq!((alerts, letters), noted, "{kind:?}");
    }
}

#[actix::test]
async fn a_record_that_missed_a_window_counts_as_late_also_where_the_window_had_begun_before_its_step() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
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
    let totals = "SELECT late, \"full\" FROM sw_positions";
    let counted = file(folder.path()).query_row(totals, [], |row| Ok((row.get(0)?, row.get(1)?)));
    assert_eq!(counted.unwrap(), (3_i64, 4_i64));
}
