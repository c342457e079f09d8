//! `streamward replay` of a recorded series beside the simulators.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{
    server::Node,
    wait::{self, at_least, is},
};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/ambient_temperature.csv");
const RECORDS: i64 = 7_267;
/// The first labelled window of the series' anomalies (`examples/README.md`).
const FAILURE: (&str, &str) = ("2013-12-15T07", "2013-12-30T09");

/// Hours of event time that the file has records in.
fn hours() -> usize {
    let text = std::fs::read_to_string(FILE).unwrap();
    text.lines().skip(1).map(|line| line[..13].to_owned()).collect::<BTreeSet<String>>().len()
}

#[actix_rt::test]
async fn a_replayed_series_is_stored_whole_its_windows_close_and_its_rule_fires() {
    let server = Node::new().with_simulators().set("streams.series.idle_after", "1s").start().await;
    let arguments = ["replay", FILE, "--speed", "max", "--json", "--bootstrap", server.kafka()];
    let output = server.node().command(&arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let sent: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&sent["acknowledged"], &sent["skipped"]), (&RECORDS.into(), &0.into()));

    let database = server.database();
    wait::until("all are stored", async || is(database.count("series_readings").await, &RECORDS)).await;
    wait::until("all windows are closed", async || {
        is(database.number("SELECT coalesce(sum(count), 0) FROM series_hours").await, &RECORDS)
    })
    .await;
    let windows = database.number("SELECT count(DISTINCT window_start) FROM series_hours").await;
    assert_eq!(usize::try_from(windows), Ok(hours()));
    let sensors = async || database.count("sensor_readings").await;
    let before = sensors().await;
    wait::until("the simulators go on", async || at_least(sensors().await, &(before + 20))).await;
    server.verify();

    let alerts = server.http.get("/api/v1/alerts?rule=ambient_temperature_max").await;
    let alerts = alerts["alerts"].as_array().unwrap();
    assert!(!alerts.is_empty(), "the rule did not fire");
    for alert in alerts {
        let at = alert["event_time"].as_str().unwrap();
        assert!((FAILURE.0..FAILURE.1).contains(&&at[..13]), "{alert}");
    }
}

/// Readings of a series at these seconds, as a CSV file of the node's.
fn series(node: &Node, seconds: &[u32]) -> String {
    let path = node.path("readings.csv");
    let line =
        |second: &u32| format!("2025-03-01 {:02}:{:02}:{:02},1.5\n", second / 3_600, second / 60 % 60, second % 60);
    std::fs::write(&path, format!("timestamp,value\n{}", seconds.iter().map(line).collect::<String>())).unwrap();
    path.display().to_string()
}

#[actix_rt::test]
async fn a_paced_replay_sends_what_is_due_and_an_interrupt_loses_nothing_that_it_reports() {
    let server = Node::new().start().await;
    let file = series(server.node(), &[0, 100, 200, 36_000]);
    let arguments = ["replay", &file, "--speed", "100x", "--json", "--bootstrap", server.kafka()];
    let mut command = server.node().command(&arguments);
    let mut replay = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    // The last one is due in six minutes.
    wait::until("what is due is stored", async || is(server.database().count("series_readings").await, &3)).await;
    assert_eq!(replay.try_wait().unwrap(), None);
    let pid = replay.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = replay.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["acknowledged"]), (Some(130), &3.into()), "{report}");
    assert_eq!(report["interrupted"], true);
    let database = server.database();
    assert_eq!(database.count("series_readings").await, 3);
    let mut times = BTreeSet::new();
    for partition in 0..database.positions("series").await.len() {
        let page = server.http.get(&format!("/api/v1/topics/series-readings/records?partition={partition}")).await;
        times.extend(page["records"].as_array().unwrap().iter().map(|record| record["timestamp"].to_string()));
    }
    assert!(times.len() > 1, "records that are due two seconds apart have log times of their own: {times:?}");
}

#[actix_rt::test]
async fn a_replay_that_is_interrupted_with_records_in_flight_says_how_many_are_in_the_log() {
    const MANY: i64 = 200_000;
    let server = Node::new().start().await;
    let file = series(server.node(), &(0..200_000).collect::<Vec<u32>>());
    let mut command = server.node().command(&["replay", &file, "--speed", "max", "--bootstrap", server.kafka()]);
    let replay = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let database = server.database();
    wait::until("some are stored", async || at_least(database.count("series_readings").await, &1)).await;
    assert!(std::process::Command::new("kill").args(["-INT", &replay.id().to_string()]).status().unwrap().success());
    let output = replay.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.ends_with(": interrupted\n"), "{said}");
    let acknowledged: i64 = said.split(' ').next().unwrap().parse().unwrap();
    assert!((1..MANY).contains(&acknowledged), "{said}");
    wait::until("what the replay reports is stored", async || {
        is(database.count("series_readings").await, &acknowledged)
    })
    .await;
    let report = server.verify();
    assert_eq!(report["pending"], 0, "{report}");
    assert_eq!(database.count("series_readings").await, acknowledged);
}

#[actix_rt::test]
async fn a_replay_to_a_broker_that_is_away_says_which_and_why() {
    let node = Node::new();
    let file = series(&node, &[0]);
    let output = node.command(&["replay", &file, "--bootstrap", "127.0.0.1:1"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(["127.0.0.1:1", "refused"].iter().all(|word| said.contains(word)), "{said}");
}

#[actix_rt::test]
async fn a_record_that_the_stream_does_not_take_is_refused_with_its_line_and_field_before_it_is_sent() {
    let server = Node::new().start().await;
    let path = server.node().path("readings.csv");
    let head = "sensor_id,sensor_type,value,timestamp,location,anomaly,metadata.battery_level,metadata.signal_strength";
    let line = |battery: &str, kind: &str| format!("s,{kind},1,2025-03-01,hall,false,{battery},-9\n");
    let bad = ["5.5", "3000000000"].map(|battery| line(battery, "humidity")).concat() + &line("5", "colour");
    std::fs::write(&path, format!("{head}\n{}{bad}", line("5.0", "humidity"))).unwrap();
    let file = path.display().to_string();
    let replay = |more: &[&str]| {
        let arguments =
            ["replay", &file, "--stream", "sensors", "--speed", "max", "--json", "--bootstrap", server.kafka()];
        let output = server.node().command(&[&arguments, more].concat()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, _, complaint) = replay(&[]);
    assert!(code == Some(2) && complaint.contains("readings.csv:3: column `metadata.battery_level`"), "{complaint}");
    assert!(complaint.contains("; 1 record before it is in the topic of stream sensors already"), "{complaint}");
    let (code, report, complaint) = replay(&["--skip-bad"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((code, &report["acknowledged"], &report["skipped"]), (Some(0), &1.into(), &3.into()), "{complaint}");
    wait::until("the good ones are stored", async || at_least(server.database().count("sensor_readings").await, &1))
        .await;
    server.verify();
    assert_eq!(server.database().count("dead_letters").await, 0);
}

#[actix_rt::test]
async fn a_fast_replay_that_is_shifted_to_now_ends_at_the_present_and_nothing_is_ahead() {
    let server = Node::new().start().await;
    let file = server.node().path("day.csv");
    std::fs::write(&file, "timestamp,value,site\n2025-03-01 00:00:00,1,a\n2025-03-02 00:00:00,2,a\n").unwrap();
    let file = file.display().to_string();
    let replay = ["replay", &file, "--speed", "max", "--shift-to", "now", "--bootstrap", server.kafka()];
    let before_ms = now_ms();
    let output = server.node().command(&replay).output().unwrap();
    let after_ms = now_ms();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("2 records of ") && said.contains("left out: site (in 2 records)"), "{said}");
    wait::until("both are stored", async || is(server.database().count("series_readings").await, &2)).await;
    let newest = server.database().number("SELECT max(timestamp) FROM series_readings").await;
    assert!((before_ms..=after_ms).contains(&newest), "{before_ms} <= {newest} <= {after_ms}");
    let oldest = server.database().number("SELECT min(timestamp) FROM series_readings").await;
    assert_eq!(newest - oldest, 86_400_000);
    let streams = server.http.get("/api/v1/streams").await;
    let series = streams["streams"].as_array().unwrap().iter().find(|stream| stream["name"] == "series").unwrap();
    assert_eq!(series["ahead"].as_u64(), Some(0), "{series}");
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
