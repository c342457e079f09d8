//! Query plans: no list sorts, none scans a table, before and after the planner has statistics.

use sqlx::{Row as _, SqliteConnection};
use streamward_core::{
    ports::{AlertQuery, DeadLetterQuery, RowQuery, WindowQuery},
    reading::{
        cursor::Bind,
        walk::{self, Condition},
    },
};

use super::{
    super::{
        super::{facts as written, orphans, outbox, retention::facts as retention},
        SqliteReads,
        facts::{alert_scan, dead_letter_scan, first_sql},
        rows::{self, ACTIVE_KEYS_SQL, GAPS_SQL, STATS_SQL},
        scan::Scan,
        windows,
    },
    fixture::{self, Fixture},
    page,
};

async fn plan(connection: &mut SqliteConnection, scan: &Scan, after: Option<&[Bind]>) -> String {
    let select = scan.rows_sql(after, 10).into_sql();
    explain(connection, select.as_str()).await
}

async fn explain(connection: &mut SqliteConnection, sql: &str) -> String {
    let sql = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
    let rows = sqlx::query(sql).fetch_all(connection).await.expect("a plan");
    rows.iter().map(|row| row.get::<String, _>("detail")).collect::<Vec<_>>().join("\n")
}

fn expect(plan: &str, index: &str) {
    assert!(plan.contains(index), "{index} is not used:\n{plan}");
    assert!(!plan.contains("TEMP B-TREE"), "it sorts:\n{plan}");
    let table_scan = plan.lines().any(|line| line.starts_with("SCAN ") && !line.contains("USING"));
    assert!(!table_scan || plan.contains("CO-ROUTINE"), "it scans a table:\n{plan}");
}

fn filters(columns: &[(&str, &str)]) -> Vec<Condition> {
    let texts: Vec<_> = columns.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
    let query = RowQuery {
        stream: "sensors".to_owned(),
        key: None,
        filters: texts,
        nulls: Vec::new(),
        now_ms: None,
        page: page(1),
    };
    walk::conditions(&fixture::sensors(), &query).expect("known columns").expect("possible values")
}

async fn check_all(connection: &mut SqliteConnection) {
    let table = fixture::sensors();
    let after = [Bind::Moment(fixture::START_MS), Bind::Integer(5)];
    for after in [None, Some(after.as_slice())] {
        let present = || Some(walk::present(&table, fixture::START_MS));
        let latest = |columns: &[(&str, &str)]| Scan(walk::latest(&table, filters(columns)).from(present()));
        let all = plan(connection, &latest(&[]), after).await;
        expect(&all, "INDEX sensor_readings_timestamp");
        let by_sensor = plan(connection, &latest(&[("sensor_id", "s")]), after).await;
        expect(&by_sensor, "INDEX sensor_readings_sensor_id (sensor_id=?");
        let by_type = plan(connection, &latest(&[("sensor_type", "s")]), after).await;
        expect(&by_type, "INDEX sensor_readings_sensor_type (sensor_type=?");
        let both = latest(&[("sensor_type", "t"), ("sensor_id", "s")]);
        let both = plan(connection, &both, after).await;
        expect(&both, "INDEX sensor_readings_sensor_id (sensor_id=?");
        let anomalies = Scan(walk::anomalies(&table, 5, Vec::new()).from(present()));
        expect(&plan(connection, &anomalies, after).await, "INDEX sensor_readings_anomaly");
        let anomalies = Scan(walk::anomalies(&table, 5, filters(&[("sensor_type", "t")])).from(present()));
        expect(&plan(connection, &anomalies, after).await, "INDEX sensor_readings_anomaly");
    }
    expect(&explain(connection, GAPS_SQL).await, "sw_ranges_gaps (topic=?)");
    expect(&explain(connection, STATS_SQL).await, "PRIMARY KEY (stream=? AND minute>? AND minute<?)");
    expect(
        &explain(connection, ACTIVE_KEYS_SQL).await,
        "COVERING INDEX sw_keys_last_seen (stream=? AND last_seen>? AND last_seen<?)",
    );
    let newest = explain(connection, &rows::newest_sql(&table)).await;
    expect(&newest, "COVERING INDEX sensor_readings_timestamp");
}

#[tokio::test]
async fn stream_reads_walk_an_index() {
    let mut fixture = Fixture::new().await;
    check_all(&mut fixture.writer).await;
    fixture.write("ANALYZE").await;
    check_all(&mut fixture.writer).await;
}

#[tokio::test]
async fn alerts_and_dead_letters_walk_an_index() {
    let mut fixture = Fixture::new().await;
    let text = |given: bool| given.then(|| "x".to_owned());
    let alerts = |state, severity, rule| {
        alert_scan(&AlertQuery { state: text(state), severity: text(severity), rule: text(rule), page: page(1) })
    };
    let letters = |topic, class, place: Option<i64>| {
        let (partition, offset) = (place, place);
        dead_letter_scan(&DeadLetterQuery { topic: text(topic), partition, offset, class: text(class), page: page(1) })
    };
    let cases = [
        (alerts(false, false, false), "INDEX alerts_latest"),
        (alerts(true, false, false), "INDEX alerts_state"),
        (alerts(true, true, false), "INDEX alerts_severity"),
        (alerts(true, true, true), "INDEX alerts_rule"),
        (letters(true, true, None), "INDEX dead_letters_topic"),
        (letters(true, true, Some(1)), "INDEX dead_letters_place (topic=? AND partition=? AND offset=?"),
        (letters(false, true, Some(1)), "INDEX dead_letters_class"),
    ];
    for (scan, index) in cases {
        for after in [None, Some([Bind::Integer(5)].as_slice())] {
            expect(&plan(&mut fixture.writer, &scan, after).await, index);
        }
    }
    let first = first_sql(&[1, 2]).into_sql();
    expect(&explain(&mut fixture.writer, first.as_str()).await, "INTEGER PRIMARY KEY (rowid=?)");
    let all = plan(&mut fixture.writer, &letters(false, false, None), None).await;
    assert_eq!(all, "SCAN dead_letters", "backwards over the row ids, up to the limit");
}

#[tokio::test]
async fn writes_of_alerts_and_reads_of_the_outbox_walk_an_index() {
    let mut fixture = Fixture::new().await;
    let by_id = "INDEX sqlite_autoindex_alerts_1 (alert_id=?";
    let cases = [
        (written::SUPERSEDE, by_id),
        (written::IS_KNOWN, by_id),
        (orphans::FIRING, "INDEX alerts_state (state=? AND opened>?"),
        (orphans::END, "INTEGER PRIMARY KEY (rowid=?"),
        (orphans::RESOLVE, "INTEGER PRIMARY KEY (rowid=?"),
        (outbox::ALERTS, "PRIMARY KEY (kind=? AND sink=?"),
        (outbox::DEAD_LETTERS, "PRIMARY KEY (kind=? AND sink=?"),
        (outbox::SENT, "PRIMARY KEY (kind=? AND sink=? AND fact=?"),
        (retention::RESOLVED_ALERTS, "INDEX alerts_resolved (created_at<?"),
        (retention::OLD_LATE_NOTES, "INDEX sw_late_created_at (created_at<?"),
    ];
    for statistics in ["", "ANALYZE"] {
        fixture.write(statistics).await;
        for (sql, index) in cases {
            expect(&explain(&mut fixture.writer, sql).await, index);
        }
        let letters = explain(&mut fixture.writer, retention::OLDEST_LETTERS).await;
        assert!(letters.starts_with("SCAN d\n"), "over the row ids, up to the limit:\n{letters}");
        expect(letters.trim_start_matches("SCAN d\n"), "PRIMARY KEY (kind=? AND sink=? AND fact=?");
    }
}

#[tokio::test]
async fn windows_walk_by_their_start() {
    let mut fixture = Fixture::new().await;
    let query = WindowQuery {
        stream: "sensors".to_owned(),
        window: None,
        from_ms: Some(1),
        to_ms: None,
        group: vec![("sensor_id".to_owned(), "s".to_owned())],
        nulls: Vec::new(),
        page: page(1),
    };
    let scan = windows::scan(&fixture::window(), &query).expect("known group").expect("possible");
    let plan = plan(&mut fixture.writer, &scan, None).await;
    expect(&plan, "INDEX sw_start_aggregated_metrics (window_start>?)");
}

#[tokio::test]
async fn ten_readers_at_once_share_the_pool() {
    use streamward_core::ports::ReadStore;
    let fixture = Fixture::new().await;
    let reads: &SqliteReads = &fixture.reads;
    let all = (0..10).map(|_| reads.latest(super::query(&[], 10)));
    let pages = futures_util::future::join_all(all).await;
    let lengths: Vec<_> = pages.into_iter().map(|page| page.map(|page| page.items.len())).collect();
    assert_eq!(lengths, vec![Ok(10); 10]);
}
