//! The reads against a generated file, and proof by query plan that each walks an index.

mod fixture;
mod plans;

use std::time::Duration;

use serde_json::json;
use sqlx::Executor;
use streamward_core::{
    ports::{
        AlertQuery, Counting, DeadLetterQuery, Page, PageRequest, ReadError, ReadStore, Row, RowQuery, StatsQuery,
        WindowQuery,
    },
    reading::walk::SCAN_LIMIT,
};

use super::ReadSettings;
use fixture::{Fixture, READINGS, START_MS};

/// After all readings.
const NOW_MS: i64 = START_MS + 100 * READINGS;

fn page(limit: u32) -> PageRequest {
    PageRequest { limit, cursor: None, counting: Counting::Bounded }
}

fn query(filters: &[(&str, &str)], limit: u32) -> RowQuery {
    let filters = filters.iter().map(|(column, text)| (column.to_string(), text.to_string()));
    RowQuery {
        stream: "sensors".to_owned(),
        key: None,
        filters: filters.collect(),
        nulls: Vec::new(),
        now_ms: None,
        page: page(limit),
    }
}

fn values(page: &Page<Row>, column: &str) -> Vec<serde_json::Value> {
    page.items.iter().map(|row| row[column].clone()).collect()
}

#[tokio::test]
async fn latest_are_the_newest_by_event_time_with_all_columns() {
    let fixture = Fixture::new().await;
    let page = fixture.reads.latest(query(&[], 2)).await.unwrap();
    let newest = READINGS - 1;
    assert_eq!(
        serde_json::Value::Object(page.items[0].clone()),
        json!({
            "id": ((newest % 4) << 42) | (newest / 4), "sensor_id": "sensor_009", "sensor_type": "humidity",
            "value": 99.0, "timestamp": "2025-01-01T00:33:19.900Z", "location": "zone_4", "anomaly": false,
            "battery_level": 50, "signal_strength": -40, "created_at": "2025-01-01T00:33:19.920Z",
        })
    );
    assert_eq!(values(&page, "timestamp")[1], "2025-01-01T00:33:19.800Z");
    assert_eq!((page.total, page.total_is_estimate), (20_000, true));
}

#[tokio::test]
async fn filters_narrow_and_values_that_never_occur_give_an_empty_list() {
    let fixture = Fixture::new().await;
    let by_sensor = fixture.reads.latest(query(&[("sensor_id", "sensor_003")], 5)).await.unwrap();
    assert!(values(&by_sensor, "sensor_id").iter().all(|id| id == "sensor_003"));
    assert_eq!((by_sensor.items.len(), by_sensor.total, by_sensor.total_is_estimate), (5, 2_000, false));
    let by_key = RowQuery { key: Some("sensor_003".to_owned()), ..query(&[], 5) };
    assert_eq!(fixture.reads.latest(by_key).await.unwrap(), by_sensor);
    let both = [("sensor_type", "temperature"), ("sensor_id", "sensor_003")];
    let by_both = fixture.reads.latest(query(&both, 3)).await.unwrap();
    assert_eq!(values(&by_both, "value"), [json!(83.0), json!(63.0), json!(43.0)]);
    assert_eq!(values(&by_both, "sensor_type")[0], "temperature");
    let level = values(&by_both, "battery_level")[0].as_i64().unwrap().to_string();
    for name in ["battery_level", "metadata.battery_level", "Battery_Level"] {
        let with_level = |text| query(&[&both[..], &[(name, text)]].concat(), 3);
        assert_eq!(fixture.reads.latest(with_level(&level)).await.unwrap().items, by_both.items, "{name}");
        assert!(fixture.reads.latest(with_level("-7")).await.unwrap().items.is_empty(), "{name}");
    }
    for (column, text) in [("sensor_type", "x"), ("battery_level", "high"), ("sensor_id", "'")] {
        let none = fixture.reads.latest(query(&[(column, text)], 5)).await.unwrap();
        assert!(none.items.is_empty(), "{column} {text}");
    }
    let wrong = fixture.reads.latest(query(&[("nothing", "x")], 5)).await;
    assert!(matches!(wrong, Err(ReadError::BadFilter { field, .. }) if field == "nothing"));
}

#[tokio::test]
async fn a_time_is_found_by_the_text_that_rows_show_and_by_its_milliseconds() {
    let mut fixture = Fixture::new().await;
    let year_9999 = streamward_core::schema::instant::MAX_MS;
    fixture.write(&format!("UPDATE sensor_readings SET timestamp = {year_9999} WHERE id = 0")).await;
    let shown = "9999-12-31T23:59:59.999Z";
    for text in ["2025-01-01T00:33:19.900Z", "2025-01-01T01:33:19.9+01:00", "1735691599900", shown] {
        let page = fixture.reads.latest(query(&[("timestamp", text)], 5)).await.unwrap();
        let expected = if text == shown { shown } else { "2025-01-01T00:33:19.900Z" };
        assert_eq!(values(&page, "timestamp"), [expected], "{text}");
    }
    let none = fixture.reads.latest(query(&[("timestamp", "2025-13-01T00:00:00Z")], 5)).await.unwrap();
    assert!(none.items.is_empty());
}

#[tokio::test]
async fn following_the_cursors_visits_every_row_once_in_order() {
    let fixture = Fixture::new().await;
    let mut query = query(&[("sensor_id", "sensor_003")], 300);
    let mut seen = Vec::new();
    loop {
        let page = fixture.reads.latest(query.clone()).await.unwrap();
        seen.extend(values(&page, "timestamp"));
        query.page.cursor = page.next;
        if query.page.cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 2_000);
    assert!(seen.is_sorted_by(|newer, older| newer.as_str() > older.as_str()));
}

#[tokio::test]
async fn a_rare_match_is_found_by_following_cursors_of_empty_pages() {
    let mut fixture = Fixture::new().await;
    fixture.write("UPDATE sensor_readings SET location = 'attic' WHERE timestamp = 1735689600000").await;
    let mut query = query(&[("location", "attic")], 5);
    let mut pages = 0;
    let found = loop {
        let page = fixture.reads.latest(query.clone()).await.unwrap();
        pages += 1;
        if !page.items.is_empty() {
            break page;
        }
        assert!(page.total_is_estimate);
        query.page.cursor = Some(page.next.expect("the scan goes on"));
    };
    assert_eq!(values(&found, "sensor_id"), ["sensor_000"]);
    assert_eq!(pages, READINGS / i64::from(SCAN_LIMIT));
}

#[tokio::test]
async fn the_total_of_a_filtered_list_counts_what_matches_whatever_the_page() {
    let mut fixture = Fixture::new().await;
    let newest = "(SELECT timestamp FROM sensor_readings ORDER BY timestamp DESC LIMIT 1 OFFSET";
    fixture.write(&format!("UPDATE sensor_readings SET location = 'attic' WHERE timestamp > {newest} 700)")).await;
    let mut query = query(&[("location", "attic")], 1);
    for _ in 0..3 {
        let page = fixture.reads.latest(query.clone()).await.unwrap();
        assert_eq!((page.items.len(), page.total, page.total_is_estimate), (1, 700, true), "more rows may match");
        query.page.cursor = page.next;
    }
    fixture.write(&format!("DELETE FROM sensor_readings WHERE timestamp <= {newest} 900)")).await;
    let page = fixture.reads.latest(query.clone()).await.unwrap();
    assert_eq!((page.items.len(), page.total, page.total_is_estimate), (1, 700, false));
}

#[tokio::test]
async fn anomalies_are_the_labelled_rows_newest_first() {
    let fixture = Fixture::new().await;
    let page = fixture.reads.anomalies(query(&[], 3)).await.unwrap();
    assert!(values(&page, "anomaly").iter().all(|label| label == true));
    assert_eq!(values(&page, "timestamp")[0], "2025-01-01T00:33:18.000Z");
    assert_eq!((page.total, page.total_is_estimate), (1_000, false));
    let cold = fixture.reads.anomalies(query(&[("sensor_type", "humidity")], 3)).await.unwrap();
    assert!(cold.items.is_empty() && cold.next.is_none(), "anomalies are temperatures here");
    let unlabelled = RowQuery { stream: "series".to_owned(), ..query(&[], 3) };
    assert!(fixture.reads.anomalies(unlabelled).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn stats_cover_whole_minutes_of_event_time() {
    let fixture = Fixture::new().await;
    let now_ms = START_MS + 30 * 60_000 + 30_000;
    let stats = |minutes| StatsQuery { stream: "sensors".to_owned(), minutes, now_ms };
    let last = fixture.reads.stats(stats(1)).await.unwrap();
    assert_eq!(last.from_ms, START_MS + 29 * 60_000);
    let first = 29 * 600;
    assert_eq!(last.records, u64::try_from(READINGS - first).unwrap());
    assert_eq!(last.anomalies, 130);
    assert_eq!(last.active_keys, 9);
    assert_eq!(last.mean, Some(49.5));
    let all = fixture.reads.stats(stats(1440)).await.unwrap();
    assert_eq!((all.records, all.active_keys), (20_000, 10));
    let series = StatsQuery { stream: "series".to_owned(), ..stats(60) };
    let none = fixture.reads.stats(series).await.unwrap();
    assert_eq!((none.records, none.mean), (0, None));
}

#[tokio::test]
async fn a_mean_is_that_of_the_records_that_have_a_measure() {
    let mut fixture = Fixture::new().await;
    let stats = StatsQuery { stream: "sensors".to_owned(), minutes: 1, now_ms: NOW_MS };
    for (minute, expected) in [("4, 10.0, 0, 1", (4, Some(10.0), false)), ("3, 0.0, 0, 0", (3, None, false))] {
        let clear = "DELETE FROM sw_minutes; INSERT INTO sw_minutes (stream, minute, partition, count, sum, anomalies, measured)";
        fixture.write(&format!("{clear} VALUES ('sensors', {}, 0, {minute})", NOW_MS / 60_000 * 60_000)).await;
        let told = fixture.reads.stats(stats.clone()).await.unwrap();
        assert_eq!((told.records, told.mean, told.overflows), expected);
    }
}

#[tokio::test]
async fn windows_are_newest_first_and_filtered_by_time_and_group() {
    let fixture = Fixture::new().await;
    let query = WindowQuery {
        stream: "sensors".to_owned(),
        window: None,
        from_ms: Some(START_MS + 5 * 60_000),
        to_ms: Some(START_MS + 8 * 60_000),
        group: vec![("sensor_id".to_owned(), "sensor_002".to_owned())],
        nulls: Vec::new(),
        page: page(2),
    };
    let first = fixture.reads.windows(query.clone()).await.unwrap();
    assert_eq!(values(&first, "avg_value"), [json!(72.0), json!(62.0)]);
    assert_eq!(values(&first, "window_start")[0], "2025-01-01T00:07:00.000Z");
    assert_eq!(values(&first, "count")[0], 60);
    let rest = PageRequest { cursor: first.next, ..page(2) };
    let rest = fixture.reads.windows(WindowQuery { page: rest, ..query.clone() }).await.unwrap();
    assert_eq!((values(&rest, "avg_value"), rest.next), (vec![json!(52.0)], None));
    let unknown = WindowQuery { window: Some("nothing".to_owned()), ..query.clone() };
    assert_eq!(fixture.reads.windows(unknown).await, Err(ReadError::UnknownWindow("nothing".to_owned())));
    let series = WindowQuery { stream: "series".to_owned(), ..query };
    assert_eq!(fixture.reads.windows(series).await, Err(ReadError::WindowNotNamed(String::new())));
}

#[tokio::test]
async fn alerts_show_the_newest_transition_of_each() {
    let fixture = Fixture::new().await;
    let any = AlertQuery { state: None, severity: None, rule: None, page: page(100) };
    let all = fixture.reads.alerts(any.clone()).await.unwrap();
    assert_eq!(all.items.len(), 20);
    assert_eq!(all.items[0]["state"], "firing");
    assert_eq!(all.items[0]["record"], json!({"value": 81.5}));
    let firing = AlertQuery { state: Some("firing".to_owned()), ..any.clone() };
    assert_eq!(fixture.reads.alerts(firing).await.unwrap().items.len(), 1);
    let narrow = AlertQuery { severity: Some("critical".to_owned()), rule: Some("rule_0".to_owned()), ..any };
    let narrow = fixture.reads.alerts(narrow).await.unwrap();
    assert_eq!(values(&narrow, "alert_id"), ["a18", "a12", "a6", "a0"]);
}

#[tokio::test]
async fn an_alert_shows_what_fired_and_what_resolved_it_apart() {
    let mut fixture = Fixture::new().await;
    fixture
        .write(
            "UPDATE alerts SET record = '{\"value\": 20.5}', message = 'value > 80 no longer holds for sensor_001' \
             WHERE alert_id = 'a18' AND n = 1; \
             UPDATE alerts SET message = 'value > 80 holds for sensor_001' WHERE alert_id = 'a18' AND n = 0; \
             UPDATE alerts SET \"offset\" = 32, message = 'resolved by the server: gone' WHERE alert_id = 'a16' AND n = 1",
        )
        .await;
    let any = AlertQuery { state: None, severity: None, rule: None, page: page(100) };
    let all = fixture.reads.alerts(any).await.unwrap();
    let [firing, resolved, _, ended, ..] = &all.items[..] else { panic!("{all:?}") };
    assert_eq!((&firing["fired"]["offset"], &firing["resolved"]), (&json!(38), &json!(null)));
    assert_eq!(
        (&resolved["fired"], &resolved["resolved"]),
        (
            &json!({"event_time": "2025-01-01T00:00:00.036Z", "created_at": "2025-01-01T00:00:00.036Z", "offset": 36,
                    "message": "value > 80 holds for sensor_001", "record": {"value": 81.5}}),
            &json!({"event_time": "2025-01-01T00:00:00.037Z", "created_at": "2025-01-01T00:00:00.037Z", "offset": 37,
                    "message": "value > 80 no longer holds for sensor_001", "record": {"value": 20.5}, "by": "record"}),
        )
    );
    assert_eq!((&resolved["condition"], &firing["condition"]), (&json!("value > 80"), &json!(null)));
    assert_eq!((&resolved["offset"], &resolved["record"]), (&json!(37), &json!({"value": 20.5})), "the newest");
    assert_eq!(
        ended["resolved"],
        json!({"by": "server", "event_time": null, "created_at": "2025-01-01T00:00:00.033Z", "offset": null,
               "message": "resolved by the server: gone", "record": null})
    );
}

#[tokio::test]
async fn dead_letters_are_cut_in_the_list_and_whole_alone() {
    let fixture = Fixture::new().await;
    let any = DeadLetterQuery { topic: None, partition: None, offset: None, class: None, page: page(100) };
    let all = fixture.reads.dead_letters(any.clone()).await.unwrap();
    assert_eq!((all.items.len(), all.total, all.items[0].id), (30, 30, 30));
    let long = all.items.iter().find(|letter| letter.id == 8).unwrap();
    assert_eq!((long.value.as_ref().unwrap().len(), long.value_length), (4_096, 10_000));
    let whole = fixture.reads.dead_letter(8).await.unwrap().unwrap();
    assert_eq!(whole.value.unwrap().len(), 10_000);
    assert_eq!(whole.headers, json!([{"name": "trace", "value": "AQ=="}]));
    let null = fixture.reads.dead_letter(9).await.unwrap().unwrap();
    assert_eq!((null.value, null.value_length), (None, 0));
    assert_eq!(fixture.reads.dead_letter(99).await, Ok(None));
    let narrow = DeadLetterQuery {
        topic: Some("series-readings".to_owned()),
        class: Some("contract".to_owned()),
        ..any.clone()
    };
    let narrow = fixture.reads.dead_letters(narrow).await.unwrap();
    assert_eq!(narrow.items.iter().map(|letter| letter.id).collect::<Vec<_>>(), [28, 22, 16, 10, 4]);
}

#[tokio::test]
async fn the_dead_letter_of_a_record_is_found_by_its_place() {
    let fixture = Fixture::new().await;
    let ids = async |topic: &str, partition, offset| {
        let topic = Some(topic.to_owned());
        let query = DeadLetterQuery { topic, partition: Some(partition), offset, class: None, page: page(100) };
        let found = fixture.reads.dead_letters(query).await.unwrap();
        found.items.iter().map(|letter| letter.id).collect::<Vec<_>>()
    };
    assert_eq!(ids("series-readings", 0, Some(3)).await, [4]);
    assert_eq!(ids("sensor-readings", 0, Some(3)).await, [0; 0], "another topic's record");
    assert_eq!(ids("series-readings", 1, Some(3)).await, [0; 0], "another partition's record");
    assert_eq!(ids("series-readings", 0, None).await.len(), 10);
}

#[tokio::test]
async fn streams_are_summed_up_from_positions() {
    let fixture = Fixture::new().await;
    let streams = fixture.reads.streams(NOW_MS).await.unwrap();
    assert_eq!((streams[0].stored, streams[0].dead), (20_000, 6));
    assert_eq!(streams[0].newest_event_ms, Some(START_MS + 100 * (READINGS - 1)));
    assert_eq!(streams[0].windows, ["aggregated_metrics"]);
    assert_eq!((streams[1].stored, streams[1].newest_event_ms), (0, None));
    assert_eq!(fixture.reads.positions().await.unwrap().len(), 4);
}

#[tokio::test]
async fn what_is_stored_of_a_stream_counts_the_topics_that_it_had_before() {
    let mut fixture = Fixture::new().await;
    let definitions = json!({"pipelines": {"sensors": {"stream": "sensors"}, "old": {"stream": "sensors"},
        "series": {"stream": "series"}}, "streams": {}});
    fixture.write(&format!("UPDATE sw_definitions SET definitions = '{definitions}'")).await;
    for (sink, topic) in [("sensors", "renamed"), ("old", "older"), ("series", "series-before")] {
        fixture
            .write(&format!(
                "INSERT INTO sw_positions (sink, topic, partition, log, epoch, next_offset, first_offset, retained_from, \
                 stored, dead, filtered, updated_at) VALUES ('{sink}', '{topic}', 0, 1, 1, 700, 0, 100, 700, 2, 3, 0); \
                 INSERT INTO sw_ranges VALUES ('{sink}', '{topic}', 0, 1, 'gap', 5, 9, 0)"
            ))
            .await;
    }
    let streams = fixture.reads.streams(NOW_MS).await.unwrap();
    let counted: Vec<_> =
        streams.iter().map(|stream| (stream.stored, stream.dead, stream.filtered, stream.in_gaps)).collect();
    assert_eq!(counted, [(21_400, 10, 6, 8), (700, 2, 3, 4)]);
    let page = fixture.reads.latest(query(&[], 1)).await.unwrap();
    assert_eq!((page.total, page.total_is_estimate), (21_200, true));
}

#[tokio::test]
async fn what_is_ahead_of_the_present_is_neither_the_newest_nor_in_the_figures() {
    let mut fixture = Fixture::new().await;
    let present = RowQuery { now_ms: Some(NOW_MS), ..query(&[], 300) };
    let by_key = RowQuery { key: Some("sensor_000".to_owned()), ..present.clone() };
    let stats = StatsQuery { stream: "sensors".to_owned(), minutes: 60, now_ms: NOW_MS };
    let told = async |fixture: &Fixture| {
        let mut second = present.clone();
        let first = fixture.reads.latest(present.clone()).await.unwrap();
        second.page.cursor = first.next.clone();
        (
            fixture.reads.streams(NOW_MS).await.unwrap()[0].newest_event_ms,
            fixture.reads.stats(stats.clone()).await.unwrap(),
            fixture.reads.latest(second).await.unwrap().items,
            fixture.reads.latest(by_key.clone()).await.unwrap(),
            fixture.reads.anomalies(present.clone()).await.unwrap(),
            first.items,
        )
    };
    let before = told(&fixture).await;
    let year_2099 = 4_070_908_800_000_i64;
    fixture
        .write(&format!(
            "INSERT INTO sensor_readings SELECT id + (1 << 54), sensor_id, sensor_type, value, {year_2099} + timestamp, \
             location, 1, battery_level, signal_strength, stored_at FROM sensor_readings WHERE sensor_id = 'sensor_000'; \
             INSERT INTO sw_minutes VALUES ('sensors', {year_2099}, 0, 2000, 1.0, 2000, 2000); \
             INSERT INTO sw_keys VALUES ('sensors', 'nobody', {year_2099})"
        ))
        .await;
    assert_eq!(told(&fixture).await, before);
    let all = fixture.reads.latest(query(&[], 1)).await.unwrap();
    assert_eq!(values(&all, "timestamp")[0], "2154-01-02T00:33:19.000Z");
}

#[tokio::test]
async fn unknown_streams_and_foreign_cursors_are_refused() {
    let fixture = Fixture::new().await;
    let unknown = RowQuery { stream: "nothing".to_owned(), ..query(&[], 1) };
    let refused = fixture.reads.latest(unknown).await;
    assert_eq!(refused, Err(ReadError::UnknownStream("nothing".to_owned())));
    let mut foreign = query(&[], 1);
    foreign.page.cursor = Some("WzFd".to_owned());
    assert_eq!(fixture.reads.latest(foreign).await, Err(ReadError::BadCursor));
}

#[tokio::test]
async fn a_statement_over_its_time_is_interrupted_and_its_connection_stays_usable() {
    let fixture = Fixture::new().await;
    let settings = ReadSettings { connections: 1, statement_timeout: Duration::ZERO, ..ReadSettings::default() };
    let hurried = fixture.reopen(settings).await;
    for _ in 0..2 {
        let slow = hurried.latest(query(&[("location", "nowhere")], 1)).await;
        assert_eq!(slow, Err(ReadError::Timeout));
    }
    assert_eq!(hurried.dead_letter(99).await, Ok(None), "a short one ends before the first look at the clock");
}

#[tokio::test]
async fn nothing_can_be_written_through_the_reading_side() {
    let fixture = Fixture::new().await;
    let pool = fixture.reads.pool.read().clone();
    let refused = pool.execute("DELETE FROM alerts").await;
    assert!(refused.is_err());
}
