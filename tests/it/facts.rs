//! From a posted record to what users see of it: rows, alerts, refusals.

use serde_json::{Value, json};

use crate::support::{
    kafka::read_all,
    server::{Node, Server},
    wait::{self, is},
};

const RECORDS: &str = "/api/v1/streams/sensors/records";

fn reading(sensor: &str, value: f64, second: u32) -> Value {
    json!({
        "sensor_id": sensor, "sensor_type": "temperature", "value": value, "location": "zone_1",
        "timestamp": format!("2025-03-01T12:00:{second:02}Z"),
        "metadata": { "battery_level": 90, "signal_strength": -40 },
    })
}

async fn alerts(server: &Server) -> Result<Vec<Value>, String> {
    let body = server.http.try_get("/api/v1/alerts").await?;
    Ok(body["alerts"].as_array().cloned().unwrap_or_default())
}

#[actix_rt::test]
async fn a_posted_record_is_stored_at_the_place_that_the_answer_names() {
    let server = Node::new().start().await;
    let (status, answer) = server.http.post(RECORDS, &reading("sensor_a", 21.5, 0)).await;
    assert_eq!((status, &answer["count"]), (202, &1.into()), "{answer}");
    let rows = wait::until("it is stored", async || {
        let latest = server.http.try_get("/api/v1/sensors/latest?sensor_id=sensor_a").await?;
        is(latest["count"].as_u64(), &Some(1)).map(|_| latest["readings"].clone())
    });
    let row = rows.await[0].clone();
    assert_eq!((&row["value"], &row["timestamp"]), (&21.5.into(), &"2025-03-01T12:00:00.000Z".into()));
    assert_eq!((&row["battery_level"], &row["anomaly"]), (&90.into(), &false.into()));
    let place = &answer["records"][0];
    let sql = format!(
        "SELECT count(*) FROM sensor_readings WHERE \"partition\" = {} AND \"offset\" = {}",
        place["partition"], place["offset"]
    );
    assert_eq!(server.database().number(&sql).await, 1, "{place}");
}

#[actix_rt::test]
async fn a_request_with_one_wrong_record_appends_none() {
    let server = Node::new().start().await;
    let mut wrong = reading("sensor_a", 21.5, 1);
    wrong["metadata"]["battery_level"] = "full".into();
    let (status, answer) = server.http.post(RECORDS, &json!([reading("sensor_a", 21.5, 0), wrong])).await;
    assert_eq!(status, 422, "{answer}");
    assert!(answer["detail"].to_string().contains("battery_level"), "{answer}");
    let (status, answer) = server.http.post(RECORDS, &reading("sensor_b", 21.5, 2)).await;
    assert_eq!((status, &answer["records"][0]["offset"]), (202, &0.into()), "{answer}");
    wait::until("the next request is stored", async || is(server.database().count("sensor_readings").await, &1)).await;
    assert_eq!(server.database().count("dead_letters").await, 0);
}

#[actix_rt::test]
async fn a_rule_fires_once_is_announced_and_resolves() {
    let server = Node::new().start().await;
    let records = [(20.0, 0), (90.0, 1), (91.0, 2)].map(|(value, second)| reading("sensor_hot", value, second));
    assert_eq!(server.http.post(RECORDS, &json!(records)).await.0, 202);
    let fired = wait::until("the rule fires", async || {
        let alerts = alerts(&server).await?;
        is(alerts.len(), &1).map(|_| alerts[0].clone())
    });
    let fired = fired.await;
    assert_eq!((&fired["rule"], &fired["key"]), (&"temperature_max".into(), &"sensor_hot".into()), "{fired}");
    assert_eq!((&fired["state"], &fired["severity"]), (&"firing".into(), &"critical".into()), "{fired}");
    assert_eq!(fired["event_time"], "2025-03-01T12:00:01.000Z", "{fired}");
    assert_eq!(fired["condition"], "sensor_type = 'temperature' AND value > 80", "{fired}");
    assert_eq!((&fired["fired"]["record"]["value"], &fired["resolved"]), (&90.0.into(), &Value::Null), "{fired}");

    assert_eq!(server.http.post(RECORDS, &reading("sensor_hot", 20.0, 3)).await.0, 202);
    wait::until("it resolves", async || {
        let alerts = alerts(&server).await?;
        is(
            alerts.iter().map(|alert| alert["state"].as_str().unwrap_or_default()).collect::<Vec<_>>(),
            &vec!["resolved"],
        )
        .map(drop)
    })
    .await;
    let resolved = alerts(&server).await.unwrap().remove(0);
    assert_eq!(resolved["fired"], fired["fired"], "the record that fired stays: {resolved}");
    let end = &resolved["resolved"];
    assert_eq!((&end["record"]["value"], &end["by"]), (&20.0.into(), &"record".into()), "{resolved}");
    assert_eq!(end["event_time"], "2025-03-01T12:00:03.000Z", "{resolved}");
    let database = server.database();
    wait::until("both are announced", async || is(database.count("sw_outbox").await, &0)).await;
    let announced: Vec<Value> = read_all(server.kafka(), "system-alerts")
        .iter()
        .map(|message| serde_json::from_slice(message.value.as_ref().unwrap()).unwrap())
        .collect();
    let states: Vec<&str> = announced.iter().map(|alert| alert["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["firing", "resolved"], "{announced:?}");
    assert_eq!(announced[0]["alert_id"], announced[1]["alert_id"]);
}

/// States of all transitions on the topic of announcements.
fn announced(server: &Server) -> Vec<String> {
    let messages = read_all(server.kafka(), "system-alerts");
    let alerts = messages.iter().map(|message| serde_json::from_slice(message.value.as_ref().unwrap()).unwrap());
    alerts.map(|alert: Value| alert["state"].as_str().unwrap().to_owned()).collect()
}

#[actix_rt::test]
async fn an_alert_is_resolved_and_announced_when_its_rule_leaves_the_configuration() {
    let server = Node::new().start().await;
    assert_eq!(server.http.post(RECORDS, &reading("sensor_hot", 90.0, 1)).await.0, 202);
    wait::until("the rule fires", async || is(alerts(&server).await?.len(), &1).map(drop)).await;
    let (status, node) = server.terminate().await;
    assert!(status.success(), "{status}");
    let server = node.set("pipelines.sensors.steps", "[]").start().await;
    let alert = alerts(&server).await.unwrap().remove(0);
    assert_eq!((&alert["state"], &alert["n"], &alert["key"]), (&"resolved".into(), &1.into(), &"sensor_hot".into()));
    let message = "resolved by the server: rule temperature_max is not configured any more";
    assert_eq!(alert["message"], message, "{alert}");
    let (end, fired) = (&alert["resolved"], &alert["fired"]["record"]);
    assert_eq!(
        (&end["by"], &end["record"], &fired["value"]),
        (&"server".into(), &Value::Null, &90.0.into()),
        "{alert}"
    );
    wait::until("it is announced", async || is(announced(&server), &vec!["firing".to_owned(), "resolved".to_owned()]))
        .await;
}

#[actix_rt::test]
async fn windows_of_a_stream_can_be_asked_for() {
    let server = Node::new().set("streams.sensors.idle_after", "1s").start().await;
    let records = [(10.0, 0), (20.0, 30), (60.0, 59)].map(|(value, second)| reading("sensor_w", value, second));
    assert_eq!(server.http.post(RECORDS, &json!(records)).await.0, 202);
    let windows = wait::until("its window is closed", async || {
        let body = server.http.try_get("/api/v1/streams/sensors/windows?sensor_id=sensor_w").await?;
        is(body["count"].as_u64(), &Some(1)).map(|_| body["windows"].clone())
    });
    let window = windows.await[0].clone();
    let figures =
        ["avg_value", "min_value", "max_value", "count", "std_value"].map(|name| window[name].as_f64().unwrap());
    assert_eq!(figures[..4], [30.0, 10.0, 60.0, 3.0], "{window}");
    assert!((figures[4] - 700_f64.sqrt()).abs() < 1e-9, "{window}");
    assert_eq!(window["window_start"], "2025-03-01T12:00:00.000Z", "{window}");
}

#[actix_rt::test]
async fn schema_ids_survive_a_kill() {
    let server = Node::new().start().await;
    let latest = "/subjects/sensor-readings-value/versions/latest";
    let before = crate::support::http::Http::new(&server.registry).get(latest).await;
    let server = server.kill().start().await;
    assert_eq!(crate::support::http::Http::new(&server.registry).get(latest).await, before);
}
