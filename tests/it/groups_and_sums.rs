//! What a stream's own schema brings into windows and figures: groups that are null, sums that no float holds, a key that
//! is missing and one that is empty; and a stream that no pipeline reads.

use std::fs;

use serde_json::{Value, json};

use crate::support::{
    server::{Node, run},
    wait,
};

const SCHEMA: &str = r#"{"type": "record", "name": "Fact", "fields": [
    {"name": "who", "type": ["null", "string"], "default": null},
    {"name": "kind", "type": ["null", {"type": "enum", "name": "Kind", "symbols": ["a", "b"]}], "default": null},
    {"name": "level", "type": ["null", "int"], "default": null},
    {"name": "created_at", "type": ["null", "string"], "default": null},
    {"name": "value", "type": "double"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#;

const CONFIG: &str = "\
streams:
  facts: { schema: fact.avsc, key: who, event_time: at, partitions: 1, out_of_orderness: 0s }
  unread: { schema: fact.avsc, key: who, event_time: at, partitions: 1, table: unread }
pipelines:
  facts:
    from: facts
    steps:
      - window: { name: totals, tumbling: 60s, allowed_lateness: 10m, group_by: [kind, level], select: { total: sum(value), n: count(*) } }
      - rule: { name: high, when: value > 1000, severity: warning }
";

fn node() -> Node {
    let node = Node::new();
    fs::write(node.path("config.yaml"), CONFIG).unwrap();
    fs::write(node.path("fact.avsc"), SCHEMA).unwrap();
    node
}

/// A record a number of seconds into a minute of the present.
fn fact(minute_ms: i64, second: i64, more: &Value) -> Value {
    let mut fact = json!({ "who": "w", "value": 1.0, "at": minute_ms + second * 1_000 });
    fact.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "key": fact["who"], "value": fact })
}

#[actix::test]
async fn nulls_and_extremes_are_stored_counted_and_told() {
    let server = node().start().await;
    let now_ms = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let start = now_ms / 60_000 * 60_000 - 300_000;
    let fact = |second: i64, more: Value| fact(start, second, &more);
    let records = [
        fact(0, json!({ "value": 1.7e308, "kind": "a", "level": 1 })),
        fact(1, json!({ "value": 1.7e308, "kind": "a", "level": 1 })),
        fact(2, json!({ "value": -1.7e308, "kind": "a", "level": 1 })),
        fact(3, json!({ "value": -1.7e308, "kind": "a", "level": 1 })),
        fact(4, json!({ "kind": "a" })),
        fact(5, json!({ "level": 0 })),
        fact(6, json!({})),
        fact(7, json!({ "created_at": "long ago" })),
        fact(8, json!({ "who": null, "value": 2000 })),
        fact(9, json!({ "who": "", "value": 2000 })),
        // It closes the window; the one after it revises a group that is null.
        fact(70, json!({ "kind": "b" })),
        fact(10, json!({})),
        fact(71, json!({ "kind": "b", "value": 1.7e308 })),
        fact(72, json!({ "kind": "b", "value": 1.7e308 })),
        fact(150, json!({ "kind": "b" })),
    ];
    for record in &records {
        let (status, answer) = server.http.post("/api/v1/streams/facts/records", &json!({ "records": [record] })).await;
        assert_eq!((status, answer.get("warning")), (202, None), "{answer}");
    }
    wait::until("every record is stored", async || match server.database().count("facts").await {
        15 => Ok(()),
        other => Err(format!("{other} rows")),
    })
    .await;
    let windows =
        async |query: &str| server.http.get(&format!("/api/v1/streams/facts/windows?{query}")).await["windows"].clone();
    let null = wait::until("the group of nulls is revised", async || {
        let found = windows("is_null=kind,level").await;
        if found[0]["n"] == 5 { Ok(found) } else { Err(found.to_string()) }
    });
    let null = null.await;
    assert_eq!((null.as_array().unwrap().len(), &null[0]["kind"], &null[0]["revision"]), (1, &Value::Null, &json!(1)));
    let overflow = windows("kind=a&level=1").await;
    assert_eq!(
        (&overflow[0]["total"], &overflow[0]["overflow"], &overflow[0]["n"]),
        (&Value::Null, &json!(["total"]), &json!(4))
    );
    assert_eq!(windows("is_null=level&kind=a").await[0]["n"], 1);
    assert_eq!(windows("is_null=kind&level=0").await[0]["n"], 1);
    let stats = server.http.get("/api/v1/streams/facts/stats").await;
    assert_eq!((&stats["avg_measure"], &stats["overflow"]), (&Value::Null, &json!(["avg_measure"])), "{stats}");
    let latest = server.http.get("/api/v1/streams/facts/latest?limit=20").await;
    let own = latest["records"].as_array().unwrap().iter().filter(|row| row["created_at"] == "long ago").count();
    assert_eq!(own, 1, "the record's own, not ours: {latest}");
    let keyless = server.http.get("/api/v1/streams/facts/latest?is_null=who").await;
    let empty = server.http.get("/api/v1/streams/facts/latest?who=").await;
    assert_eq!((keyless["count"].as_i64(), empty["count"].as_i64()), (Some(1), Some(1)), "{keyless} {empty}");
    let alerts = server.http.get("/api/v1/alerts?rule=high").await;
    let mut keys: Vec<String> =
        alerts["alerts"].as_array().unwrap().iter().map(|alert| alert["key"].to_string()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["\"\"", "\"w\"", "null"], "one alert of each key, also of none");
    assert_eq!(server.http.actor("pipelines/facts/sink").await.unwrap()["restarts"], 0);

    let warning = |answer: &Value| answer["warning"].as_str().is_some_and(|text| text.contains("no pipeline reads it"));
    let (status, answer) = server.http.post("/api/v1/streams/unread/records", &fact(0, json!({}))["value"]).await;
    assert!(status == 202 && warning(&answer), "{answer}");
    let streams = server.http.get("/api/v1/streams").await["streams"].clone();
    assert_eq!(streams.as_array().unwrap().iter().filter(|stream| warning(stream)).count(), 1, "{streams}");
    server.verify();
}

#[actix::test]
async fn a_second_server_on_the_same_database_is_refused_and_verify_is_not() {
    let server = node().start().await;
    let database = server.node().data().join("streamward.db");
    let link = server.node().path("link.db");
    std::os::unix::fs::symlink(&database, &link).unwrap();
    for name in [&database, &link] {
        let other = node();
        let mut second = other.command(&["run", "--no-simulators"]);
        second.arg("--set").arg(format!("storage.sqlite.path={}", name.display()));
        for listener in ["http.listen", "registry.embedded.listen", "kafka.embedded.listen"] {
            second.arg("--set").arg(format!("{listener}=127.0.0.1:0"));
        }
        let refused = second.output().unwrap();
        let complaint = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{complaint}");
        assert!(complaint.contains("streamward.db.lock") && complaint.contains("is in use by process"), "{complaint}");
    }
    server.verify();
    let (status, node) = server.terminate().await;
    assert!(status.success());
    node.start().await.verify();
}

#[test]
fn check_warns_of_a_stream_that_no_pipeline_reads_and_refuses_what_is_no_database_file() {
    let node = node();
    let (code, _, complaint) = run(&node, &["check"]);
    assert_eq!(code, Some(0));
    assert!(complaint.contains("warning: streams.unread: no pipeline reads it"), "{complaint}");
    for path in [":memory:", "file:x?mode=memory", ".", "folder/"] {
        let (code, _, complaint) = run(&node, &["check", "--set", &format!("storage.sqlite.path={path}")]);
        assert!(code == Some(2) && complaint.contains("storage.sqlite.path"), "{path}: {code:?} {complaint}");
    }
}
