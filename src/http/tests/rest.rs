//! Routes, parameters, bodies and errors.

use serde_json::{Value, json};
use streamward_core::schema::instant;

use super::{
    super::HttpSettings,
    client::{Reply, Running},
    fake::Fake,
};

pub fn is_problem(reply: &Reply, status: u16) {
    assert_eq!(reply.status, status, "{}", reply.body);
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    assert_eq!(reply.json()["status"], status);
    assert!(reply.json()["title"].is_string() && !reply.json()["detail"].is_null());
}

#[test]
fn the_root_is_health_for_programs_and_the_console_for_browsers() {
    let server = Running::start();
    let health = server.get("/").json();
    assert_eq!((&health["status"], &health["service"]), (&json!("healthy"), &json!("streaming-api")));
    assert!(health["timestamp"].as_str().unwrap().ends_with('Z'));
    let page = server.call("GET", "/", &[("Accept", "text/html,*/*")], "");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
}

#[test]
fn the_reference_routes_have_its_defaults_and_bodies() {
    let server = Running::start();
    let latest = server.get("/api/v1/sensors/latest").json();
    assert_eq!((&latest["count"], &latest["readings"][0]["id"]), (&json!(1), &json!(7)));
    assert!(server.fake.asked().contains("limit: 10"), "{}", server.fake.asked());
    server.get("/api/v1/sensors/latest?sensor_id=a%20b&sensor_type=humidity&limit=100&no_1=1&location=x&no_2=2");
    let asked = server.fake.asked();
    let filters = r#"filters: [("sensor_id", "a b"), ("sensor_type", "humidity"), ("location", "x")]"#;
    assert!(asked.contains(filters), "columns filter, other parameters are ignored: {asked}");
    let anomalies = server.get("/api/v1/sensors/anomalies").json();
    assert_eq!(anomalies["anomalies"][0]["id"], 7);
    assert!(server.fake.asked().contains("limit: 20"));
    let stats = server.get("/api/v1/sensors/stats").json();
    assert_eq!(server.fake.asked(), "stats sensors 60");
    assert_eq!(stats["total_messages"], 250);
    assert_eq!(stats["messages_per_second"], 2.5);
    assert_eq!((&stats["active_sensors"], &stats["anomaly_count"]), (&json!(10), &json!(3)));
    assert_eq!(stats["avg_value"], 21.46);
}

#[test]
fn each_bad_parameter_gives_the_detail_that_fastapi_gives() {
    let server = Running::start();
    let int = "Input should be a valid integer, unable to parse string as an integer";
    let at_most = |n: u32| format!("Input should be less than or equal to {n}");
    let at_least = |n: u32| format!("Input should be greater than or equal to {n}");
    let cases = [
        ("/api/v1/sensors/latest?limit=101", "less_than_equal", "limit", at_most(100), "101", json!({"le": 100})),
        ("/api/v1/sensors/latest?limit=0", "greater_than_equal", "limit", at_least(1), "0", json!({"ge": 1})),
        ("/api/v1/sensors/latest?limit=-1", "greater_than_equal", "limit", at_least(1), "-1", json!({"ge": 1})),
        ("/api/v1/sensors/latest?limit=abc", "int_parsing", "limit", int.to_owned(), "abc", Value::Null),
        ("/api/v1/sensors/anomalies?limit=101", "less_than_equal", "limit", at_most(100), "101", json!({"le": 100})),
        (
            "/api/v1/sensors/stats?time_window_minutes=0",
            "greater_than_equal",
            "time_window_minutes",
            at_least(1),
            "0",
            json!({"ge": 1}),
        ),
        (
            "/api/v1/sensors/stats?time_window_minutes=1441",
            "less_than_equal",
            "time_window_minutes",
            at_most(1440),
            "1441",
            json!({"le": 1440}),
        ),
        (
            "/api/v1/streams/sensors/latest?limit=501",
            "less_than_equal",
            "limit",
            at_most(500),
            "501",
            json!({"le": 500}),
        ),
        (
            "/api/v1/streams/sensors/windows?from=noon",
            "datetime_parsing",
            "from",
            "Input should be a valid datetime".to_owned(),
            "noon",
            Value::Null,
        ),
        (
            "/api/v1/alerts?state=on",
            "enum",
            "state",
            "Input should be 'firing' or 'resolved'".to_owned(),
            "on",
            json!({"expected": "'firing' or 'resolved'"}),
        ),
        (
            "/api/v1/events?after=-1",
            "int_parsing",
            "after",
            "Input should be a whole number from 0 on".to_owned(),
            "-1",
            Value::Null,
        ),
    ];
    for (path, kind, name, msg, input, ctx) in cases {
        let reply = server.get(path);
        is_problem(&reply, 422);
        let mut expected = json!({"type": kind, "loc": ["query", name], "msg": msg, "input": input});
        if !ctx.is_null() {
            expected["ctx"] = ctx;
        }
        assert_eq!(reply.json()["detail"], json!([expected]), "{path}");
    }
}

#[test]
fn a_filter_by_a_word_that_there_is_not_is_refused_with_those_that_there_are() {
    let server = Running::start();
    for (path, words) in [
        ("/api/v1/alerts?severity=hot", "'info' or 'warning' or 'critical'"),
        ("/api/v1/alerts?state=on", "'firing' or 'resolved'"),
        ("/api/v1/dead-letters?class=bad", "'decode' or 'contract' or 'permanent' or 'poison'"),
    ] {
        let reply = server.get(path);
        is_problem(&reply, 422);
        assert_eq!(reply.json()["detail"][0]["msg"], format!("Input should be {words}"), "{path}");
    }
}

#[test]
fn all_faults_of_a_request_are_reported_at_once() {
    let server = Running::start();
    let reply = server.get("/api/v1/alerts?state=on&limit=0");
    assert_eq!(reply.json()["detail"].as_array().unwrap().len(), 2);
}

#[test]
fn a_parameter_that_stats_do_not_have_is_refused_with_those_that_they_have() {
    let server = Running::start();
    let reply = server.get("/api/v1/streams/sensors/stats?minutes=5");
    is_problem(&reply, 422);
    let fault = &reply.json()["detail"][0];
    assert_eq!((&fault["loc"], &fault["input"]), (&json!(["query", "minutes"]), &json!("5")));
    assert_eq!(fault["msg"], "there is no parameter minutes; there is time_window_minutes");
    assert_eq!(server.get("/api/v1/sensors/stats?minutes=5").status, 200, "the replaced API ignored it");
}

#[test]
fn lists_have_totals_counts_and_cursors() {
    let server = Running::start();
    let cases = [
        ("/api/v1/streams/sensors/latest?key=k&cursor=abc", "records"),
        ("/api/v1/streams/sensors/anomalies", "anomalies"),
        ("/api/v1/streams/sensors/windows?from=2025-01-01T00:00:00&to=1735689600000&sensor_id=s", "windows"),
        ("/api/v1/alerts?state=firing&severity=critical&rule=r", "alerts"),
        ("/api/v1/dead-letters?topic=t&partition=2&offset=7&class=contract", "dead_letters"),
    ];
    let mut asked = Vec::new();
    for (path, plural) in cases {
        let body = server.get(path).json();
        assert_eq!(
            (&body["total"], &body["total_is_estimate"], &body["next"]),
            (&json!(12), &json!(true), &json!("more"))
        );
        assert_eq!(body["count"], body[plural].as_array().unwrap().len());
        asked.push(server.fake.asked());
    }
    assert!(asked[0].contains(r#"key: Some("k"), filters: []"#) && asked[0].contains(r#"cursor: Some("abc")"#));
    assert!(asked[2].contains(r#"from_ms: Some(1735689600000), to_ms: Some(1735689600000)"#), "{}", asked[2]);
    assert!(asked[2].contains(r#"group: [("sensor_id", "s")]"#));
    assert!(asked[3].contains(r#"state: Some("firing"), severity: Some("critical"), rule: Some("r")"#));
    assert!(asked[4].contains(r#"topic: Some("t"), partition: Some(2), offset: Some(7)"#), "{}", asked[4]);
    for (path, plural) in [("/api/v1/lag", "lag"), ("/api/v1/streams", "streams")] {
        let body = server.get(path).json();
        assert_eq!((&body["total"], &body["count"], &body["next"]), (&json!(1), &json!(1), &Value::Null));
        assert!(body[plural].is_array());
    }
    let stream = &server.get("/api/v1/streams").json()["streams"][0];
    assert_eq!((&stream["name"], &stream["key"]), (&json!("sensors"), &json!("sensor_id")));
    assert_eq!(stream["newest"], "2025-01-01T00:00:00.000Z");
    assert_eq!([&stream["ahead"], &stream["late"], &stream["full"]], [2, 3, 0]);
    assert_eq!(stream["warning"], "no pipeline reads it; its topic has 3 partitions");
}

#[test]
fn every_time_that_is_shown_is_text_and_may_be_asked_for() {
    let server = Running::start();
    for ms in [instant::MIN_MS, -1, 0, instant::MAX_MS] {
        let shown = super::super::time_text(ms);
        let text = shown.as_str().unwrap();
        assert_eq!(instant::parse(text), Some(ms));
        server.get(&format!("/api/v1/streams/sensors/windows?from={text}&to={text}"));
        let asked = server.fake.asked();
        assert!(asked.contains(&format!("from_ms: Some({ms}), to_ms: Some({ms})")), "{text}: {asked}");
    }
}

#[test]
fn dead_letters_show_bytes_text_and_what_can_be_decoded() {
    let server = Running::start();
    let letters = server.get("/api/v1/dead-letters").json();
    let (readable, binary) = (&letters["dead_letters"][0], &letters["dead_letters"][1]);
    assert_eq!(readable["value_text"], r#"{"value": "x"}"#);
    assert_eq!((&readable["decoded"]["value"], &readable["key_text"]), (&json!("x"), &json!("k")));
    assert_eq!((&binary["value_base64"], &binary["value_text"]), (&json!("AP8="), &Value::Null));
    assert_eq!(server.get("/api/v1/dead-letters/1").json()["value_text"], "{}");
    is_problem(&server.get("/api/v1/dead-letters/2"), 404);
    is_problem(&server.get("/api/v1/dead-letters/x"), 404);
}

#[test]
fn unknown_routes_streams_and_methods_are_problems() {
    let server = Running::start();
    let unknown = server.get("/api/v1/nothing");
    is_problem(&unknown, 404);
    assert_eq!(unknown.json()["detail"], "Not Found");
    is_problem(&server.get("/api/v1/streams/nothing/latest"), 404);
    is_problem(&server.get("/api/v1/streams/nothing/stats"), 404);
    let wrong = server.post("/api/v1/sensors/latest", "");
    is_problem(&wrong, 405);
    assert_eq!(wrong.header("allow"), Some("GET, HEAD"));
    is_problem(&server.get("/api/v1/streams/sensors/records"), 405);
    let head = server.call("HEAD", "/api/v1/sensors/latest", &[], "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[test]
fn a_storage_fault_is_503_without_its_words() {
    let server = Running::start();
    for stream in ["broken", "slow"] {
        let reply = server.get(&format!("/api/v1/streams/{stream}/latest"));
        is_problem(&reply, 503);
        assert!(reply.header("retry-after").is_some());
        assert!(!reply.body.contains("SELECT"));
    }
}

#[test]
fn records_are_accepted_with_their_places() {
    let server = Running::start();
    let path = "/api/v1/streams/sensors/records";
    let reply = server.post(path, r#"[{"value": 1}, {"value": 2}]"#);
    assert_eq!(reply.status, 202);
    let places = json!({"count": 2, "records": [{"partition": 1, "offset": 0}, {"partition": 1, "offset": 1}],
                        "warning": "no pipeline reads it"});
    assert_eq!(reply.json(), places);
    let misspelt = server.post(path, r#"{"value": 1, "valeu": 2}"#);
    assert_eq!((misspelt.status, &misspelt.json()["ignored_fields"]), (202, &json!(["valeu"])));
    let bad = server.post(path, r#"[{"value": 1}, {}]"#);
    is_problem(&bad, 422);
    assert_eq!(bad.json()["detail"][0]["loc"], json!(["body", 1, "value"]));
    assert_eq!(bad.json()["detail"][0]["msg"], "it is missing");
    assert_eq!(bad.json()["detail"][0]["input"], "x");
    for body in ["{", "[]", "7"] {
        is_problem(&server.post(path, body), 422);
    }
    is_problem(&server.post("/api/v1/streams/nothing/records", "{\"a\":1}"), 404);
    is_problem(&server.call("POST", path, &[("Content-Type", "text/plain")], "{}"), 415);
}

#[test]
fn a_broker_that_refuses_gives_503_and_says_which_records_it_took() {
    let server = Running::start();
    let reply = server.post("/api/v1/streams/full/records", r#"[{"a": 1}, {"a": 2}]"#);
    is_problem(&reply, 503);
    assert_eq!(reply.header("retry-after"), Some("7"));
    assert_eq!(reply.json()["records"], json!([{"partition": 1, "offset": 3}, null]));
    assert!(!reply.body.contains("10.0.0.1"));
}

#[test]
fn bodies_and_lists_over_their_limit_are_refused() {
    let settings = HttpSettings { body_limit: 100, records_limit: 2, ..HttpSettings::default() };
    let server = Running::with(settings);
    let path = "/api/v1/streams/sensors/records";
    is_problem(&server.post(path, &format!("[{}]", " ".repeat(200))), 413);
    let many = server.post(path, "[1, 2, 3]");
    is_problem(&many, 422);
    assert_eq!(many.json()["detail"][0]["type"], "too_long");
}

#[test]
fn commands_reach_the_node_of_a_path_with_slashes() {
    let server = Running::start();
    let base = "/api/v1/supervision/root";
    assert_eq!(server.post(&format!("{base}/pipelines/sensors/lane-0/restart"), "").status, 200);
    assert_eq!(server.fake.asked(), "anonymous: root/pipelines/sensors/lane-0 Restart");
    let inject = |path: &str, body: &str| server.post(&format!("{base}/{path}/inject"), body);
    assert_eq!(inject("lane", r#"{"fault": "stall", "times": 2, "millis": 50}"#).status, 200);
    assert!(server.fake.asked().contains("fault: Stall, times: 2, millis: 50"));
    assert_eq!(inject("lane", r#"{"fault": "panic"}"#).status, 200);
    assert!(server.fake.asked().contains("fault: Panic, times: 1"));
    is_problem(&inject("sink", r#"{"fault": "panic"}"#), 403);
    is_problem(&inject("lane", r#"{"fault": "flood"}"#), 422);
    is_problem(&inject("lane", r#"{"fault": "panic", "times": 0}"#), 422);
    is_problem(&server.post(&format!("{base}/nobody/pause"), ""), 404);
    is_problem(&server.post(&format!("{base}/broker/pause"), ""), 409);
    is_problem(&server.post(&format!("{base}/lane/explode"), ""), 404);
    assert_eq!(server.get("/api/v1/supervision/tree").json()["path"], "root");
    for query in ["events?after=4&limit=9", "events?cursor=4&limit=9", "supervision/events?after=4&limit=9"] {
        let events = server.get(&format!("/api/v1/{query}")).json();
        assert_eq!(
            (&events["events"][0]["seq"], &events["next"], &events["total"]),
            (&5.into(), &"5".into(), &3.into())
        );
        assert_eq!(server.fake.asked(), "events 4 9");
    }
}

#[test]
fn a_drill_is_watched_for_as_long_as_asked() {
    let server = Running::start();
    let drill = |body: &str| server.post("/api/v1/supervision/pipelines/lane/drill", body);
    assert_eq!(drill(r#"{"fault": "panic"}"#).json()["recovered_after_ms"], 3);
    assert_eq!(server.fake.asked(), "anonymous: pipelines/lane drill Panic 30s");
    assert_eq!(drill(r#"{"fault": "stall", "millis": 70, "within_ms": 500}"#).status, 200);
    assert!(server.fake.asked().ends_with("drill Stall 500ms"));
    is_problem(&drill(r#"{"fault": "panic", "within_ms": 0}"#), 422);
    is_problem(&drill(r#"{"fault": "panic", "times": 0}"#), 422);
    is_problem(&drill(r#"{"fault": "flood"}"#), 422);
}

#[test]
fn a_policy_is_changed_key_by_key() {
    let server = Running::start();
    let path = "/api/v1/supervision/pipelines/sink/policy";
    let patch = |body: &str| server.call("PATCH", path, &[], body);
    assert_eq!(patch(r#"{"restart": "transient"}"#).status, 200);
    assert_eq!(server.fake.asked(), r#"anonymous: pipelines/sink {"restart":"transient"}"#);
    let refused = patch(r#"{"backoff": {"factor": 0}}"#);
    is_problem(&refused, 422);
    assert_eq!(refused.json()["detail"][0]["loc"], json!(["body", "backoff", "factor"]));
    is_problem(&patch("[]"), 422);
    is_problem(&server.get(path), 405);
}

#[test]
fn health_and_metrics_answer() {
    let server = Running::start();
    assert_eq!(server.get("/health/live").status, 200);
    let degraded = server.get("/health/ready");
    assert_eq!((degraded.status, &degraded.json()["status"]), (200, &json!("degraded")));
    assert_eq!(degraded.json()["degraded"], json!(["partition 3 stands still"]));
    assert_eq!(degraded.json()["standing_still"], json!([{"cause": "gap"}]));
    assert_eq!(server.get("/api/v1/standing-still").json()["standing_still"], json!([{"cause": "gap"}]));
    let strict = server.get("/health/ready?strict=true");
    assert_eq!((strict.status, &strict.json()["ready"]), (503, &json!(true)));
    assert_eq!(server.get("/health/ready?strict=false").status, 200);
    is_problem(&server.get("/health/ready?strict=yes"), 422);
    assert!(server.get("/metrics").body.starts_with("streamward_"));
    let waiting = Running::with_fake(HttpSettings::default(), Fake::default());
    let reply = waiting.get("/health/ready");
    assert_eq!((reply.status, &reply.json()["reasons"][0]), (503, &json!("sensors is not assigned yet")));
}

#[test]
fn the_document_is_openapi_31_and_every_get_of_it_has_a_handler() {
    let server = Running::start();
    let document = server.get("/openapi.json").json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(
        document.to_string(),
        serde_json::from_str::<Value>(&super::super::openapi_document()).unwrap().to_string()
    );
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 20, "{}", paths.len());
    for (path, methods) in paths {
        let real = path
            .replace("{stream}", "sensors")
            .replace("{id}", "1")
            .replace("{path}", "root")
            .replace("{command}", "pause")
            .replace("{topic}", "orders")
            .replace("{group}", "billing");
        let (method, body) = match path.rsplit('/').next() {
            _ if methods["get"].is_object() => ("GET", ""),
            Some("policy") => ("PATCH", "{}"),
            Some("drill") => ("POST", r#"{"fault": "panic"}"#),
            Some("offsets") => ("POST", r#"{"topic": "orders", "to": "latest"}"#),
            _ => ("POST", r#"[{"a": 1}]"#),
        };
        let reply = server.call(method, &real, &[], body);
        assert!([200, 202, 426].contains(&reply.status), "{path}: {} {}", reply.status, reply.body);
    }
}

#[test]
fn the_document_names_the_statuses_that_come_of_hosts_tokens_and_bodies() {
    let document = Running::start().get("/openapi.json").json();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let of_body: &[&str] = if ["post", "patch"].contains(&method.as_str()) {
                &["400", "408", "409", "413", "415", "422"]
            } else {
                &[]
            };
            for status in ["401", "403", "404", "503"].iter().chain(of_body) {
                let answer = &operation["responses"][status];
                assert!(answer["description"].is_string(), "{method} {path}: {status}");
                assert!(answer["content"].is_object(), "{method} {path}: the body of {status}");
            }
            assert!(operation.get("parameters").is_none_or(Value::is_array), "{method} {path}");
        }
    }
    let append = &document["paths"]["/api/v1/streams/{stream}/records"]["post"]["responses"];
    assert!(append["422"]["description"].as_str().unwrap().contains("schema"), "a route's own words stay");
}

#[test]
fn the_documentation_page_needs_no_network() {
    let server = Running::start();
    assert_eq!(server.get("/docs").header("location"), Some("/docs/"));
    let page = server.get("/docs/");
    assert_eq!(page.status, 200);
    assert!(!page.body.contains("https://"), "{}", page.body);
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'self'"));
    assert!(server.get("/docs/swagger-initializer.js").body.contains("/openapi.json"));
    assert_eq!(server.get("/docs/swagger-ui.css").status, 200);
}

#[test]
fn the_console_has_tags_and_a_strict_policy() {
    let server = Running::start();
    let page = server.get("/console/index.html");
    assert_eq!((page.status, server.get("/console/").status, server.get("/console").status), (200, 200, 200));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'self'"));
    let tag = page.header("etag").unwrap();
    assert_eq!(server.call("GET", "/console/index.html", &[("If-None-Match", tag)], "").status, 304);
    for path in ["/console/nothing.js", "/console/../mod.rs", "/console/..%2fmod.rs", "/console/%2e%2e/mod.rs"] {
        is_problem(&server.get(path), 404);
    }
}
