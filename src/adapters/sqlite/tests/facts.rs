//! What an alert costs, and those of earlier versions.

use rusqlite::StatementStatus;
use streamward_core::output::AlertState;

use super::*;
use crate::adapters::sqlite::{
    facts::{INSERT_ALERT, SUPERSEDE},
    outbox,
};

/// Stores transitions as an output without rows that begins at an offset.
async fn raise(store: &SqlStore, owner: &Assignment, start: i64, alerts: Vec<AlertTransition>) {
    let output = Output { end: start + 1, alerts, ..output(0, start, start) };
    assert_eq!(store.commit(&[pending(owner, output)]).await.unwrap(), [Outcome::Committed]);
}

fn fires(alert_id: &str) -> AlertTransition {
    transition(alert_id, 0, AlertState::Firing)
}

fn resolves(alert_id: &str) -> AlertTransition {
    transition(alert_id, 1, AlertState::Resolved)
}

#[actix::test]
async fn a_database_of_an_earlier_version_keeps_its_alerts_outbox_and_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let file = rusqlite::Connection::open(folder.path().join("test.db")).unwrap();
    for migration in 1..=7 {
        let name = std::fs::read_dir("src/adapters/sqlite/migrations").unwrap().map(|entry| entry.unwrap().path());
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
