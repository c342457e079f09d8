//! Clocks of strangers: event times and log times far in the future or in the past. What honest records make, of the same
//! key, is what they make without them.

use std::{fs, time::UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::{
    kafka::{Outgoing, Producer, make_anew},
    number,
    server::{Node, Server, outside, run},
    wait,
};

const SCHEMA: &str = r#"{"type": "record", "name": "Fact", "fields": [
    {"name": "who", "type": "string"},
    {"name": "value", "type": "double"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#;

const STREAM: &str = "
  NAME: { topic: TEST-NAME, schema: fact.avsc, key: who, event_time: at, measure: value, partitions: 1,
          out_of_orderness: 0s, table: NAME }";

const PIPELINE: &str = "
  NAME:
    from: NAME
    steps:
      - window: { name: totals_NAME, tumbling: 60s, group_by: [who], select: { total: sum(value), n: count(*) } }
      - rule: { name: high_NAME, when: value > 1000, severity: warning }
      - rule: { name: long_NAME, when: value > 1000, for: 30s, severity: critical }";

/// Two streams that are alike: one of honest records, one with strangers among them.
const STREAMS: [&str; 2] = ["alone", "crowd"];

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const YEAR: i64 = 365 * 24 * 60 * MINUTE;
const IN_1900: i64 = -2_208_988_800_000;
const IN_2099: i64 = 4_070_908_800_000;
/// A broker takes log times up to an hour ahead.
const AHEAD: i64 = 50 * MINUTE;
/// Minutes in the future that a key has records of; `STREAMWARD_FUTURE_MINUTES` names another number.
const FUTURE_MINUTES: u64 = 20_000;

fn now_ms() -> i64 {
    i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}

/// A node whose consumer groups and topics have names that begin with the test's.
async fn node(test: &str) -> Node {
    if let Some(kafka) = outside() {
        // Whatever an earlier run left.
        for stream in STREAMS {
            make_anew(&kafka, &format!("{test}-{stream}"), 1).await;
        }
    }
    let node = Node::somewhere().set("kafka.consumer_group", test);
    let each = |text: &str| STREAMS.map(|stream| text.replace("NAME", stream).replace("TEST", test)).concat();
    let config = format!("streams:{}\npipelines:{}\n", each(STREAM), each(PIPELINE));
    fs::write(node.path("config.yaml"), config).unwrap();
    fs::write(node.path("fact.avsc"), SCHEMA).unwrap();
    node
}

/// What one topic is sent.
struct Feed<'a> {
    producer: &'a Producer,
    topic: &'a str,
    sent: u64,
}

impl Feed<'_> {
    fn send(&mut self, (who, value): (&str, f64), at: i64, log_time: i64) {
        let fact = json!({ "who": who, "value": value, "at": at }).to_string();
        self.producer.send(
            self.topic,
            &Outgoing {
                id: self.sent,
                key: Some(who.as_bytes()),
                value: Some(fact.as_bytes()),
                timestamp_ms: Some(log_time),
                ..Outgoing::default()
            },
        );
        self.sent += 1;
    }

    /// Records of the same key whose times are wrong; each would be high if it counted.
    fn strangers(&mut self, who: &str) {
        let now = now_ms();
        for (at, log_time) in [
            (now + YEAR, now),
            (IN_2099, now),
            (IN_1900, now),
            (now + AHEAD, now + AHEAD),
            (now + AHEAD, now),
            (IN_2099, now + AHEAD),
            (IN_1900, now + AHEAD),
            (i64::MAX / 2, now),
            (i64::MIN / 2, now),
        ] {
            self.send((who, 5_000.0), at, log_time);
        }
    }
}

/// Sends the honest records of some seconds since `start` to both streams, and strangers among those of one.
async fn send(server: &Server, start: i64, seconds: std::ops::Range<i64>) {
    let producer = Producer::connect(server.kafka());
    let mut alone = Feed { producer: &producer, topic: "honest-alone", sent: 0 };
    let mut crowd = Feed { producer: &producer, topic: "honest-crowd", sent: 0 };
    for second in seconds.step_by(5) {
        let (at, now) = (start + second * SECOND, now_ms());
        let value = if (60..140).contains(&second) { 2_000.0 } else { 1.0 };
        for who in ["a", "b"] {
            alone.send((who, value), at, now);
            crowd.send((who, value), at, if second % 20 == 0 { now + AHEAD } else { now });
        }
        crowd.strangers("a");
    }
    producer.finish();
    let sent = crowd.sent;
    wait::until("all of them are stored", async || {
        let settled = server.database().number("SELECT stored + dead FROM sw_positions WHERE sink = 'crowd'").await;
        let behind = server.http.get("/api/v1/lag").await["lag"].clone();
        let behind: i64 = behind.as_array().unwrap().iter().map(|lag| lag["lag_records"].as_i64().unwrap()).sum();
        wait::is((settled >= i64::try_from(sent).unwrap(), behind), &(true, 0))
    })
    .await;
}

/// Has the topics of the embedded broker keep the producers' times, as those of Apache Kafka do.
async fn believe_producers(server: &Server) {
    let url = format!("http://{}", server.http.address());
    for stream in STREAMS {
        let (topic, setting) = (format!("honest-{stream}"), "message.timestamp.type=CreateTime");
        let command = ["topics", "alter", &topic, "--config", setting, "--url", &url];
        let (code, _, complaint) = run(server.node(), &command);
        assert_eq!(code, Some(0), "{complaint}");
    }
}

/// All that honest records have made in a stream: windows, alerts, totals, the newest records of each key.
async fn made(server: &Server, stream: &str, start: i64) -> Value {
    let get = async |path: &str| server.http.get(&format!("/api/v1/streams/{stream}/{path}")).await;
    let fields = |rows: &Value, names: &[&str]| -> Vec<Value> {
        let row = |row: &Value| names.iter().map(|name| row[name].clone()).collect::<Vec<_>>().into();
        rows.as_array().unwrap().iter().map(row).collect()
    };
    let windows = get(&format!("windows?from={start}&limit=500")).await;
    let stats = get("stats").await;
    let (by_key, latest) = (get("latest?key=a&limit=30").await, get("latest?limit=60").await);
    let columns = ["who", "value", "at"];
    let mut alerts = Vec::new();
    for rule in ["high", "long"] {
        let sql = format!(
            "SELECT \"key\", state, event_time FROM alerts WHERE rule = '{rule}_{stream}' AND event_time >= {start} ORDER BY id"
        );
        let row = |row: &sqlx::sqlite::SqliteRow| {
            let get = |place| sqlx::Row::get::<String, _>(row, place);
            json!([rule, get(0), get(1), sqlx::Row::get::<i64, _>(row, 2)])
        };
        alerts.extend(server.database().rows(&sql).await.iter().map(row));
    }
    json!({
        "windows": fields(&windows["windows"], &["who", "window_start", "total", "n", "revision"]),
        "alerts": alerts,
        "stats": fields(&json!([stats]), &["total_records", "active_keys", "avg_measure", "anomaly_count"]),
        "latest": [fields(&by_key["records"], &columns), fields(&latest["records"], &columns)],
    })
}

#[actix_rt::test]
async fn records_with_wrong_times_change_nothing_that_honest_ones_make() {
    let server = node("honest").await.start().await;
    believe_producers(&server).await;
    let start = now_ms() / MINUTE * MINUTE - 10 * MINUTE;
    send(&server, start, 0..125).await;
    let server = server.kill().start().await;
    send(&server, start, 125..305).await;
    let alone = made(&server, "alone", start).await;
    assert!(alone["windows"].as_array().unwrap().len() >= 8, "{alone}");
    assert!(alone["alerts"].as_array().unwrap().len() >= 4, "{alone}");
    assert_eq!(made(&server, "crowd", start).await, alone);
    let streams = server.http.get("/api/v1/streams").await;
    let of = |name: &str| streams["streams"].as_array().unwrap().iter().find(|stream| stream["name"] == name).unwrap();
    assert_eq!([&of("alone")["ahead"], &of("alone")["late"]], [0, 0]);
    // Of each group of strangers, those in the future, those of 1900, and those beyond the calendar.
    let crowd = ["ahead", "late", "dead"].map(|figure| &of("crowd")[figure]);
    assert_eq!(crowd, [5 * 61, 2 * 61, 2 * 61], "{streams}");
    let all = server.http.get("/api/v1/streams/crowd/latest?ahead=true&limit=1").await;
    assert_eq!(all["records"][0]["at"], "2099-01-01T00:00:00.000Z", "they are stored, and shown to who asks for them");
    server.verify();
}

#[actix_rt::test]
async fn a_key_with_records_of_ever_more_minutes_in_the_future_takes_no_room_and_is_counted() {
    let server = node("future").await.start().await;
    let minutes = number("STREAMWARD_FUTURE_MINUTES", FUTURE_MINUTES);
    let producer = Producer::connect_with(server.kafka(), &[("queue.buffering.max.messages", "1000000")]);
    let mut feed = Feed { producer: &producer, topic: "future-crowd", sent: 0 };
    let now = now_ms();
    for minute in 0..minutes {
        feed.send(("a", 1.0), now + i64::try_from(minute).unwrap() * MINUTE, now);
    }
    let stored = producer.finish().len() as u64;
    assert_eq!(stored, minutes);
    feed.send(("b", 2.0), now + SECOND, now);
    producer.finish();
    wait::until("the stream goes on", async || {
        let row = server.http.get("/api/v1/streams/crowd/latest?key=b").await;
        wait::is(row["count"].clone(), &json!(1))
    })
    .await;
    let streams = server.http.get("/api/v1/streams").await;
    let crowd = &streams["streams"].as_array().unwrap()[1];
    // Up to ten minutes ahead of their log time, they count.
    assert_eq!((&crowd["name"], &crowd["ahead"]), (&json!("crowd"), &json!(minutes - 11)), "{crowd}");
    let metrics = server.http.try_text("/metrics").await.unwrap();
    let counted = format!("streamward_ahead_records_total{{pipeline=\"crowd\"}} {}", minutes - 11);
    assert!(metrics.contains(&counted), "no {counted}");
    let peak = server.peak_memory();
    eprintln!("{minutes} future minutes: {} MiB at most", peak >> 20);
    assert!(peak < 300 << 20, "{} MiB", peak >> 20);
    server.verify();
}
