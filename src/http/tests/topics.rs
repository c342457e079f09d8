//! Topics, their records and consumer groups.

use serde_json::{Value, json};

use super::{
    client::{Reply, Running},
    rest::is_problem,
};

const RECORDS: &str = "/api/v1/topics/orders/records";

fn change(server: &Running, method: &str, path: &str, body: &str) -> Reply {
    server.call(method, path, &[("Content-Type", "application/json")], body)
}

#[test]
fn the_list_says_who_uses_a_topic_and_how_much_is_in_it() {
    let server = Running::start();
    let list = server.get("/api/v1/topics?limit=3&cursor=a").json();
    assert_eq!(server.fake.asked(), "topics Some(\"a\") 3");
    assert_eq!((&list["total"], &list["count"], &list["next"]), (&json!(3), &json!(3), &Value::Null));
    let topics = list["topics"].as_array().unwrap();
    let fields = |name: &str| topics.iter().map(|topic| topic[name].clone()).collect::<Vec<_>>();
    assert_eq!(fields("stream"), [Value::Null, json!("shop"), Value::Null]);
    assert_eq!(fields("used_by"), [json!("schemas"), json!("stream shop"), Value::Null]);
    assert_eq!(fields("internal"), [true, false, false]);
    assert_eq!(topics[1]["records"], 7);
    assert_eq!(topics[1]["partitions"], json!([{"partition": 0, "log_start": 2, "log_end": 9, "records": 7}]));
    assert_eq!((&topics[1]["bytes"], &topics[1]["cleanup_policy"]), (&json!(700), &json!("delete")));
}

#[test]
fn a_topic_has_configs_and_groups_with_their_lag() {
    let server = Running::start();
    let topic = server.get("/api/v1/topics/orders").json();
    assert_eq!(topic["partitions"][0]["leader"], 1);
    assert_eq!(topic["configs"][0]["own"], true);
    assert_eq!((&topic["groups"][0]["group"], &topic["groups"][0]["lag"]), (&json!("billing"), &json!(6)));
    assert_eq!(topic["groups"][0]["members"][0]["client_id"], "m");
    assert_eq!(server.get("/api/v1/groups").json()["groups"][0]["state"], "Stable");
    assert_eq!(server.get("/api/v1/groups/billing").json()["offsets"][1]["lag"], 2);
    is_problem(&server.get("/api/v1/topics/nothing"), 404);
    is_problem(&server.get("/api/v1/groups/nobody"), 404);
}

#[test]
fn a_broker_that_is_away_or_slow_is_said_without_its_secrets() {
    let server = Running::start();
    let down = server.get("/api/v1/topics/down");
    is_problem(&down, 503);
    assert!(!down.body.contains("10.0.0.1") && down.header("retry-after").is_some(), "{}", down.body);
    let slow = server.get("/api/v1/topics/slow/records");
    is_problem(&slow, 503);
    assert!(slow.body.contains("did not deliver"), "{}", slow.body);
}

#[test]
fn records_are_shown_as_people_read_them_best() {
    let server = Running::start();
    let page = server.get(RECORDS).json();
    assert_eq!((&page["total"], &page["count"]), (&json!(90), &json!(5)));
    assert_eq!((&page["next"], &page["previous"]), (&json!("older_1.4"), &json!("newer_1.9")));
    let scanned = json!({"records": 40, "complete": false, "partitions": [{"partition": 1, "from": 4, "to": 9}]});
    assert_eq!(page["scanned"], scanned);
    let value = |index: usize| page["records"][index]["value"].clone();
    assert_eq!(value(0), json!({"format": "json", "data": {"a": 1.5}, "bytes": 9, "truncated": false}));
    assert_eq!(value(1), json!({"format": "text", "data": "plain text", "bytes": 10, "truncated": false}));
    assert_eq!(value(2), json!({"format": "base64", "data": "AAAAAAkB", "bytes": 6, "truncated": false}));
    assert_eq!(value(3), json!({"format": "text", "data": "text ", "bytes": 900, "truncated": true}));
    assert_eq!(value(4), Value::Null);
    let record = &page["records"][0];
    assert_eq!((&record["key"]["data"], &record["size"]), (&json!("k1"), &json!(11)));
    assert_eq!(record["timestamp"], "2025-01-01T00:00:00.000Z");
    let headers = json!([
        {"name": "a", "value": "text"},
        {"name": "b", "value_base64": "/w=="},
        {"name": "c\u{fffd}\0", "name_base64": "Y/8A", "value": null},
    ]);
    assert_eq!(record["headers"], headers);
}

#[test]
fn the_parameters_of_a_read_reach_the_broker() {
    let server = Running::start();
    let asked = |query: &str| {
        assert_eq!(server.get(&format!("{RECORDS}?{query}")).status, 200, "{query}");
        server.fake.asked()
    };
    assert!(asked("").contains("partition: None, from: Newest, limit: 50, key: None, contains: None"));
    assert!(asked("partition=2&order=oldest&limit=500").contains("partition: Some(2), from: Oldest, limit: 500"));
    assert!(asked("offset=17").contains("from: Offset(17)"));
    assert!(asked("time=2025-01-01T00:00:00Z").contains("from: TimeMs(1735689600000)"));
    assert!(asked("cursor=newer_1.9&key=a&contains=b").contains("Cursor(\"newer_1.9\"), limit: 50, key: Some([97])"));
    for wrong in ["limit=501", "limit=0", "offset=-1", "partition=x", "time=soon", "order=random", "offset=1&time=2"] {
        is_problem(&server.get(&format!("{RECORDS}?{wrong}")), 422);
    }
}

#[test]
fn a_record_is_written_as_text_json_base64_or_by_a_schema() {
    let server = Running::start();
    let written = |body: Value| {
        let reply = server.post(RECORDS, &body.to_string());
        assert_eq!((reply.status, reply.json()), (201, json!({"partition": 1, "offset": 7})), "{body}");
        server.fake.asked()
    };
    let text = written(json!({"key": "k", "value": "v", "partition": 2, "headers": [{"name": "h", "value": "x"}]}));
    assert_eq!(
        text,
        "RecordToWrite { partition: Some(2), key: Some([107]), value: Some([118]), headers: [(\"h\", Some([120]))] }"
    );
    assert!(written(json!({"key": "k", "value": null})).contains("value: None"));
    assert!(written(json!({"value": {"base64": "/w=="}})).contains("value: Some([255])"));
    assert!(server.post(RECORDS, r#"{"value": {"json": 1.50}}"#).status == 201);
    assert!(server.fake.asked().contains(&format!("{:?}", b"1.50")), "{}", server.fake.asked());
    let framed = written(json!({"value": {"json": 7, "subject": "orders-value"}}));
    assert!(framed.contains(&format!("{:?}", b"framed:7")), "{framed}");
}

#[test]
fn a_wrong_record_is_refused_with_the_reason() {
    let server = Running::start();
    let bodies = [
        "[]",
        "{",
        r#"{"valeu": "v"}"#,
        r#"{"value": 7}"#,
        r#"{"value": {"text": "a", "base64": "/w=="}}"#,
        r#"{"value": {"base64": "?"}}"#,
        r#"{"value": {"json": 7, "subject": "unknown"}}"#,
        r#"{"headers": [{"name": "a", "value": "x", "value_base64": "/w=="}]}"#,
    ];
    for body in bodies {
        is_problem(&server.post(RECORDS, body), 422);
    }
    is_problem(&server.post(RECORDS, r#"{"value": {"json": 7, "subject": "down"}}"#), 503);
    is_problem(&server.post("/api/v1/topics/nothing/records", "{}"), 404);
}

#[test]
fn a_topic_has_as_many_partitions_as_the_broker_allows_wherever_that_is_said() {
    let server = Running::start();
    let most = streamward_broker::MAX_PARTITIONS_PER_TOPIC;
    let create =
        |partitions: i32| server.post("/api/v1/topics", &json!({"name": "a", "partitions": partitions}).to_string());
    assert_eq!(create(most).status, 201);
    let refused = create(most + 1);
    is_problem(&refused, 422);
    assert_eq!(refused.json()["detail"][0]["msg"], format!("a topic has 1 to {most} partitions"));
    let document: serde_json::Value = serde_json::from_str(&crate::http::openapi::document()).unwrap();
    for body in ["NewTopic", "TopicChange"] {
        let shape = &document["components"]["schemas"][body]["properties"]["partitions"];
        assert_eq!((&shape["minimum"], &shape["maximum"]), (&json!(1), &json!(most)), "{body}: {shape}");
    }
}

#[test]
fn a_topic_is_created_altered_and_deleted() {
    let server = Running::start();
    let body =
        json!({"name": "new.one", "partitions": 3, "configs": {"retention.ms": 1000, "cleanup.policy": "compact"}});
    assert_eq!(server.post("/api/v1/topics", &body.to_string()).status, 201);
    let wanted = "create NewTopic { name: \"new.one\", partitions: Some(3), \
                  configs: [(\"cleanup.policy\", \"compact\"), (\"retention.ms\", \"1000\")] }";
    assert_eq!(server.fake.asked(), wanted);
    let open = server.post("/api/v1/topics", r#"{"name": "named.in.the.configuration"}"#);
    assert_eq!((open.status, &open.json()["partitions"]), (201, &json!(4)), "as many as it got");
    is_problem(&server.post("/api/v1/topics", r#"{"name": "orders"}"#), 409);
    let wrong = [
        r#"{"name": "a b"}"#,
        r#"{"name": ".."}"#,
        r#"{"name": "a", "partitions": 0}"#,
        r#"{"name": "a", "partitions": 1025}"#,
        r#"{"name": "a", "configs": {"x": []}}"#,
        r#"{"name": "a", "replicas": 3}"#,
    ];
    for body in wrong {
        is_problem(&server.post("/api/v1/topics", body), 422);
    }
    let altered =
        change(&server, "PATCH", "/api/v1/topics/orders", r#"{"partitions": 4, "configs": {"a": null, "b": true}}"#);
    assert_eq!((altered.status, &altered.json()["topic"]), (200, &json!("orders")));
    let wanted = "alter orders TopicChange { partitions: Some(4), configs: [(\"a\", None), (\"b\", Some(\"true\"))] }";
    assert_eq!(server.fake.asked(), wanted);
    is_problem(&change(&server, "PATCH", "/api/v1/topics/orders", "{}"), 422);
    assert_eq!(change(&server, "DELETE", "/api/v1/topics/orders?force=true", "").status, 204);
    assert_eq!(server.fake.asked(), "delete orders Forced");
    is_problem(&change(&server, "DELETE", "/api/v1/topics/used", ""), 409);
    assert_eq!(server.fake.asked(), "delete used Guarded");
    assert_eq!(change(&server, "PUT", "/api/v1/topics/orders", "").header("allow"), Some("GET, HEAD, PATCH, DELETE"));
}

#[test]
fn a_group_is_moved_to_a_bound_a_time_or_offsets() {
    let server = Running::start();
    let moved = |body: &str| {
        let reply = server.post("/api/v1/groups/billing/offsets", body);
        assert_eq!((reply.status, &reply.json()["offsets"][0]["offset"]), (200, &json!(5)), "{body}");
        server.fake.asked()
    };
    assert_eq!(moved(r#"{"topic": "orders", "to": "earliest"}"#), "reset billing orders Earliest");
    let time = moved(r#"{"topic": "orders", "to": "2025-01-01T00:00:00Z"}"#);
    assert_eq!(time, "reset billing orders TimeMs(1735689600000)");
    let last = moved(r#"{"topic": "orders", "to": "9999-12-31T23:59:59.999Z"}"#);
    assert_eq!(last, "reset billing orders TimeMs(253402300799999)");
    let offsets = moved(r#"{"topic": "orders", "offsets": {"0": 3, "2": 9}}"#);
    assert_eq!(offsets, "reset billing orders Offsets([(0, 3), (2, 9)])");
    for wrong in [r#"{"topic": "orders"}"#, r#"{"topic": "orders", "to": "soon"}"#, r#"{"to": "latest"}"#] {
        is_problem(&server.post("/api/v1/groups/billing/offsets", wrong), 422);
    }
}
