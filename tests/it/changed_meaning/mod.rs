//! A configuration that changes between two starts: what is stored keeps its meaning, or the start is refused with the
//! change, the rows concerned and the way.

mod behind_a_kill;

use std::fs;

use serde_json::{Value, json};
use sqlx::Row;

use crate::support::{
    server::{Node, Server},
    wait,
};

/// A minute of the past; windows do not close by the wall clock here.
const MINUTE: i64 = 1_767_225_600_000;
const SCHEMA: &str = r#"{"type": "record", "name": "Order", "fields": [
    {"name": "who", "type": "string"}, {"name": "shop", "type": "string", "default": "s"},
    {"name": "value", "type": "double"}, {"name": "weight", "type": "double", "default": 1.0},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "sent_at", "type": {"type": "long", "logicalType": "timestamp-millis"}, "default": 0}]}"#;
const WINDOW: &str = "{ name: minutes, tumbling: 60s, allowed_lateness: 10m, group_by: [shop], select: { n: count(*), mean: avg(value) } }";
const RULE: &str = "{ name: high, when: value > 1000 }";
const PLAIN: &str = "{ from: orders }";

/// The configuration with a stream `orders`, and one pipeline.
fn config(stream: &str, pipeline: &str, body: &str) -> String {
    format!(
        "streams:\n  orders: {{ schema: order.avsc, key: who, event_time: at, partitions: 1, out_of_orderness: 0s, \
         idle_after: 1h{stream} }}\npipelines:\n  {pipeline}: {body}\n"
    )
}

/// A pipeline of these steps.
fn steps(steps: &[&str]) -> String {
    format!("{{ from: orders, steps: [{}] }}", steps.join(", "))
}

fn window(text: &str) -> String {
    format!("{{ window: {text} }}")
}

fn written(node: Node, config: &str) -> Node {
    fs::write(node.path("config.yaml"), config).unwrap();
    node
}

async fn start(config: &str) -> Server {
    let node = written(Node::new(), config);
    fs::write(node.path("order.avsc"), SCHEMA).unwrap();
    node.start().await
}

/// Posts orders at these seconds of the minute, and waits until so many are stored in all.
async fn post(server: &Server, seconds: &[i64], stored: i64) {
    let order = |second: &i64| {
        let value =
            json!({ "who": "w", "shop": format!("s{}", second % 2), "value": 1.0, "at": MINUTE + second * 1_000 });
        json!({ "key": "w", "value": value })
    };
    let records: Vec<Value> = seconds.iter().map(order).collect();
    let (status, answer) = server.http.post("/api/v1/streams/orders/records", &json!({ "records": records })).await;
    assert_eq!(status, 202, "{answer}");
    wait::until("every order is stored", async || wait::is(server.database().count("orders").await, &stored)).await;
}

/// Start, group and count of each row of the window, in seconds of the minute.
async fn windows(server: &Server, table: &str) -> Vec<(i64, String, i64)> {
    let rows = server.database().rows(&format!("SELECT window_start, shop, n FROM {table} ORDER BY 1, 2")).await;
    rows.iter().map(|row| ((row.get::<i64, _>(0) - MINUTE) / 1_000, row.get(1), row.get(2))).collect()
}

async fn windows_are(server: &Server, wanted: &[(i64, &str, i64)]) {
    let wanted: Vec<_> = wanted.iter().map(|(start, shop, n)| (*start, (*shop).to_owned(), *n)).collect();
    wait::until("the windows are those", async || wait::is(windows(server, "minutes").await, &wanted)).await;
}

/// Ends the server, changes its configuration, and asserts that `check` and a start refuse it with these words and that
/// the configuration of before starts as if nothing had been.
async fn refused(server: Server, before: &str, now: &str, words: &[&str]) -> Server {
    let (_, node) = server.terminate().await;
    let node = written(node, now);
    for command in ["check", "run"] {
        let output = node.command(&[command]).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{command}: {said} without {words:?}");
    }
    let server = written(node, before).start().await;
    server.verify();
    server
}

#[actix_rt::test]
async fn a_window_of_that_name_that_means_something_else_is_refused() {
    let before = config("", "orders", &steps(&[&window(WINDOW)]));
    let mut server = start(&before).await;
    post(&server, &[1, 2, 3, 61], 4).await;
    windows_are(&server, &[(0, "s0", 1), (0, "s1", 2)]).await;
    let changes = [
        (WINDOW.replace("60s", "5m"), "lasts 1m, and is to last 5m", "tumbling"),
        (WINDOW.replace("[shop]", "[]"), "groups by `shop` (string), and is to take nothing", "group_by"),
        (WINDOW.replace("[shop]", "[shop, who]"), "take `shop` (string), `who` (string)", "group_by"),
        (WINDOW.replace("n: count(*)", "n: count(*), top: max(value)"), "max(value)", "select"),
        (WINDOW.replace("avg(value)", "avg(weight)"), "avg(weight) (double)", "select"),
    ];
    for (changed, word, key) in &changes {
        let now = config("", "orders", &steps(&[&window(changed)]));
        let words = ["window minutes", "2 rows", "another name", "--allow window/minutes"];
        let place = format!("pipelines.orders.steps.0.window.{key}: ");
        server = refused(server, &before, &now, &[&words[..], &[word, &place]].concat()).await;
    }
    // The open window is still whole.
    post(&server, &[62, 121], 6).await;
    windows_are(&server, &[(0, "s0", 1), (0, "s1", 2), (60, "s0", 1), (60, "s1", 1)]).await;
}

#[actix_rt::test]
async fn an_allowed_change_of_a_window_keeps_the_rows_of_before_and_begins_with_the_next_window() {
    let server = start(&config("", "orders", &steps(&[&window(WINDOW)]))).await;
    post(&server, &[1, 2, 3, 61], 4).await;
    windows_are(&server, &[(0, "s0", 1), (0, "s1", 2)]).await;
    let (_, node) = server.terminate().await;
    let changed = WINDOW.replace("60s", "2m").replace("n: count(*)", "n: count(*), top: max(value)");
    let node = written(node, &config("", "orders", &steps(&[&window(&changed)])));
    let output = node.command(&["check", "--allow", "window/minutes", "--allow", "window/others"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("there is no such change") && said.contains("window/minutes"), "{said}");
    let open = "window minutes: 1 open window from 2026-01-01T00:01:00.000Z to 2026-01-01T00:02:00.000Z";
    assert!(said.contains(open) && said.contains("it means something else from now on"), "{said}");
    let server = node.allow("window/minutes").start().await;
    assert_eq!(windows(&server, "sw_kept_minutes_1").await, [(0, "s0".to_owned(), 1), (0, "s1".to_owned(), 2)]);
    // The window of 0 to 120 s began before: a row of it would be a part.
    post(&server, &[62, 63, 121, 122, 241], 9).await;
    windows_are(&server, &[(120, "s0", 1), (120, "s1", 1)]).await;
    // No window takes the table that is kept, and the same command line once more has nothing left to allow.
    let (_, node) = server.terminate().await;
    let now = config("", "orders", &steps(&[&window(&changed)]));
    let node = written(node, &now.replace("name: minutes", "name: sw_kept_minutes_1"));
    let output = node.command(&["check"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("pipelines.orders.steps.0.window.name: the product has a table"), "{said}");
    let server = written(node, &now).start().await;
    post(&server, &[242, 361], 11).await;
    windows_are(&server, &[(120, "s0", 1), (120, "s1", 1), (240, "s0", 1), (240, "s1", 1)]).await;
    server.verify();
}

#[actix_rt::test]
async fn a_table_that_holds_rows_of_something_else_is_not_taken_over() {
    let before = config("", "orders", &steps(&[&window(WINDOW)]));
    let server = start(&before).await;
    post(&server, &[1, 2, 3, 61], 4).await;
    windows_are(&server, &[(0, "s0", 1), (0, "s1", 2)]).await;
    let other = "\n  others: { schema: order.avsc, key: who, event_time: at, table: minutes }\npipelines:";
    let now = config("", "orders", PLAIN).replace("\npipelines:", other);
    let words = ["streams.others.table: stream others", "rows of window minutes", "2 rows", "another name"];
    let server = refused(server, &before, &now, &words).await;
    let named = config("", "orders", &steps(&[&window(&WINDOW.replace("name: minutes", "name: orders"))]));
    let now = named
        .replace("schema: order.avsc", "table: elsewhere, schema: order.avsc")
        .replace("streams:\n  orders", "streams:\n  others")
        .replace("from: orders", "from: others");
    let words = ["pipelines.orders.steps.0.window.name: window orders", "rows of stream orders", "4 rows"];
    refused(server, &before, &now, &words).await;
}

#[actix_rt::test]
async fn settings_of_a_topic_that_are_not_those_of_the_configuration_are_said_and_not_applied() {
    let before = config("", "orders", PLAIN);
    let mut node = written(Node::new(), &before);
    fs::write(node.path("order.avsc"), SCHEMA).unwrap();
    let warning = async |server: &Server| server.http.get("/api/v1/streams").await["streams"][0]["warning"].clone();
    let server = node.start().await;
    post(&server, &[1], 1).await;
    assert_eq!(warning(&server).await, Value::Null);
    (_, node) = server.terminate().await;
    let now = before.replace("partitions: 1", "partitions: 3, retention: { age: 1d }");
    let node = written(node, &now);
    let words =
        ["streams.orders.partitions: 3 by the configuration, and topic orders has 1", "set partitions: 1", "keys move"];
    let check = node.command(&["check"]).output().unwrap();
    let said = String::from_utf8(check.stderr).unwrap();
    assert!(check.status.success() && words.iter().all(|word| said.contains(word)), "{said}");
    let server = node.start().await;
    let log = fs::read_to_string(server.node().path("log")).unwrap();
    let retention = "retention.ms is 604800000 (7d), and would be 86400000 (1d)";
    assert!(words.iter().all(|word| log.contains(word)) && log.contains(retention), "{log}");
    wait::until("the API says so", async || {
        let said = warning(&server).await;
        if words.iter().all(|word| said.to_string().contains(word)) { Ok(()) } else { Err(said.to_string()) }
    })
    .await;
    let url = format!("http://{}", server.http.address());
    let alter =
        server.node().command(&["topics", "alter", "orders", "--partitions", "3", "--url", &url]).output().unwrap();
    assert!(alter.status.success(), "{}", String::from_utf8_lossy(&alter.stderr));
    wait::until("nothing differs", async || wait::is(warning(&server).await, &Value::Null)).await;
}

#[actix_rt::test]
async fn another_way_to_write_the_same_window_keeps_its_state() {
    let server = start(&config("", "orders", &steps(&[&window(WINDOW)]))).await;
    post(&server, &[1, 2, 3], 3).await;
    let (_, node) = server.terminate().await;
    let same = WINDOW.replace("avg(value)", "AVG( \"value\" )").replace("60s", "1m").replace("10m", "20m");
    let server = written(node, &config("", "orders", &steps(&[&window(&same)]))).start().await;
    post(&server, &[4, 61], 5).await;
    windows_are(&server, &[(0, "s0", 2), (0, "s1", 2)]).await;
}

#[actix_rt::test]
async fn a_step_that_is_new_or_comes_back_begins_with_the_next_window() {
    let with = config("", "orders", &steps(&[&window(WINDOW), &format!("{{ rule: {RULE} }}")]));
    let without = config("", "orders", PLAIN);
    let server = start(&with).await;
    post(&server, &[1, 2, 61, 62], 4).await;
    windows_are(&server, &[(0, "s0", 1), (0, "s1", 1)]).await;
    let (_, node) = server.terminate().await;
    let node = written(node, &without);
    let said = String::from_utf8(node.command(&["check"]).output().unwrap().stderr).unwrap();
    let open = "window minutes: 1 open window from 2026-01-01T00:01:00.000Z to 2026-01-01T00:02:00.000Z";
    assert!(said.contains(open) && said.contains("pipeline orders does not have it any more"), "{said}");
    let server = node.start().await;
    let log = fs::read_to_string(server.node().path("log")).unwrap();
    assert!(log.contains(open) && log.contains("WARN"), "{log}");
    post(&server, &[63, 121], 6).await;
    let (_, node) = server.terminate().await;
    let server = written(node, &with).start().await;
    // The windows of 60 and of 120 s miss records of the time without the step.
    post(&server, &[122, 181, 182], 9).await;
    post(&server, &[241], 10).await;
    windows_are(&server, &[(0, "s0", 1), (0, "s1", 1), (180, "s0", 1), (180, "s1", 1)]).await;
    let missed = server.database().number("SELECT count(*) FROM sw_late WHERE why = 'begun'").await;
    assert_eq!(missed, 1);
    server.verify();
}

#[actix_rt::test]
async fn a_renamed_pipeline_goes_on_where_it_was() {
    let body = steps(&[&window(WINDOW)]);
    let server = start(&config("", "orders", &body)).await;
    post(&server, &[1, 2, 3], 3).await;
    let (_, node) = server.terminate().await;
    let server = written(node, &config("", "renamed", &body)).start().await;
    post(&server, &[4, 61], 5).await;
    windows_are(&server, &[(0, "s0", 2), (0, "s1", 2)]).await;
    server.verify();
    assert_eq!(server.http.get("/health/ready").await["status"], "ready");
}

#[actix_rt::test]
async fn another_topic_is_another_log_of_the_same_table() {
    let body = steps(&[&window(WINDOW)]);
    let before = config("", "orders", &body);
    let server = start(&before).await;
    post(&server, &[1, 2, 3, 61], 4).await;
    let (_, node) = server.terminate().await;
    let server = written(node, &config(", topic: elsewhere", "orders", &body)).start().await;
    let stored = async || server.http.get("/api/v1/streams").await["streams"][0]["stored"].clone();
    assert_eq!(stored().await, 4, "rows of the topic of before are in the table");
    post(&server, &[1, 2, 61], 7).await;
    assert_eq!(stored().await, 7);
    assert_eq!(server.http.get("/api/v1/streams/orders/latest").await["total"], 7);
    server.verify();
    // And back, to the log of before.
    let (_, node) = server.terminate().await;
    let server = written(node, &before).start().await;
    post(&server, &[62, 121], 9).await;
    server.verify();
    let rows = server.database().number("SELECT count(*) FROM minutes WHERE window_start = 1767225600000").await;
    assert_eq!(rows, 4, "each log has rows of its own");
}

#[actix_rt::test]
async fn tables_keys_times_and_measures_that_change_are_refused() {
    let before = config("", "orders", PLAIN);
    let mut server = start(&before).await;
    post(&server, &[1, 2], 2).await;
    let changed = |from: &str, to: &str| before.replace(from, to);
    let changes = [
        (config(", table: others", "orders", PLAIN), ["table orders", "set streams.orders.table: orders"]),
        (changed("key: who", "key: shop"), ["keys come from column who", "set streams.orders.key: who"]),
        (
            changed("event_time: at", "event_time: sent_at"),
            ["times come from column at", "set streams.orders.event_time: at"],
        ),
        (config(", measure: weight", "orders", PLAIN), ["sums per minute", "--allow measure/orders"]),
        (before.replace("orders", "others"), ["stream others", "name the stream orders"]),
    ];
    for (now, words) in changes {
        server = refused(server, &before, &now, &[&words[..], &["2 rows"]].concat()).await;
    }
    post(&server, &[3], 3).await;
}

#[actix_rt::test]
async fn a_columns_name_stays_when_another_field_of_that_name_appears() {
    let nested = |fields: &[&str]| {
        let field = |name: &&str| {
            format!(
                r#"{{"name": "{name}", "default": {{"code": "x"}}, "type":
                    {{"type": "record", "name": "{name}_type", "fields": [{{"name": "code", "type": "string", "default": "x"}}]}}}}"#
            )
        };
        let fields: Vec<String> = fields.iter().map(field).collect();
        SCHEMA.replace(r#""fields": ["#, &format!(r#""fields": [{},"#, fields.join(",")))
    };
    let config =
        config("", "orders", &steps(&["{ window: { name: minutes, group_by: [shop], select: { n: count(code) } } }"]));
    let node = written(Node::new(), &config);
    fs::write(node.path("order.avsc"), nested(&["origin"])).unwrap();
    let server = node.start().await;
    post(&server, &[1, 2], 2).await;
    let (_, node) = server.terminate().await;
    fs::write(node.path("order.avsc"), nested(&["destination", "origin"])).unwrap();
    let check = node.command(&["check"]).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    let server = node.start().await;
    post(&server, &[3, 61], 4).await;
    let rows = server.database().rows("SELECT code, destination_code FROM orders ORDER BY id").await;
    let seen: Vec<(Option<String>, Option<String>)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let (x, none) = (Some("x".to_owned()), None);
    let (old, new) = ((x.clone(), none), (x.clone(), x.clone()));
    assert_eq!(seen, [old.clone(), old, new.clone(), new]);
    windows_are(&server, &[(0, "s0", 1), (0, "s1", 2)]).await;
    server.verify();
}

#[actix_rt::test]
async fn behind_a_gap_no_fuller_row_is_replaced_by_a_poorer_one() {
    let config = config(", on_gap: earliest", "orders", &steps(&[&window(WINDOW)]));
    let server = start(&config).await;
    post(&server, &[1, 2, 3, 61, 62], 5).await;
    windows_are(&server, &[(0, "s0", 1), (0, "s1", 2)]).await;
    let path = "/api/v1/supervision/pipelines/orders/source";
    assert_eq!(server.http.post(&format!("{path}/pause"), &Value::Null).await.0, 200);
    wait::until("the source holds", async || {
        let source = server.http.actor("pipelines/orders/source").await?;
        wait::is(source["waiting_on"]["on"].clone(), &json!("resume"))
    })
    .await;
    let order = |second: i64| json!({ "who": "w", "shop": "s1", "value": 1.0, "at": MINUTE + second * 1_000 });
    for second in [5, 63, 64] {
        assert_eq!(server.http.post("/api/v1/streams/orders/records", &order(second)).await.0, 202);
    }
    crate::support::kafka::delete_records(server.kafka(), "orders", (0, 7)).await;
    for command in ["restart", "resume"] {
        assert_eq!(server.http.post(&format!("{path}/{command}"), &Value::Null).await.0, 200);
    }
    // Of the window of 60 s a record is lost: nobody can say how many it had.
    post(&server, &[6, 65, 121, 122], 10).await;
    post(&server, &[181], 11).await;
    windows_are(&server, &[(0, "s0", 1), (0, "s1", 2), (120, "s0", 1), (120, "s1", 1)]).await;
    let streams = server.http.get("/api/v1/streams").await;
    assert_eq!(streams["streams"][0]["in_gaps"], 2, "{streams:#}");
    server.verify();
}

#[actix_rt::test]
async fn what_was_taken_out_means_the_same_when_it_comes_back_or_is_refused() {
    let with = |text: &str| config("", "orders", &steps(&[&window(text)]));
    let server = start(&with(WINDOW)).await;
    post(&server, &[1, 2, 61], 3).await;
    windows_are(&server, &[(0, "s0", 1), (0, "s1", 1)]).await;
    let without = config("", "orders", PLAIN);
    let (_, node) = server.terminate().await;
    let server = written(node, &without).start().await;
    post(&server, &[62], 4).await;
    let server =
        refused(server, &without, &with(&WINDOW.replace("60s", "5m")), &["window minutes", "is to last 5m"]).await;
    windows_are(&server, &[(0, "s0", 1), (0, "s1", 1)]).await;
}

#[actix_rt::test]
async fn a_pipeline_that_is_to_store_another_stream_is_refused_with_the_way_to_read_all_of_it() {
    let rule = "steps: [{ rule: { name: any, when: value > 0 } }]";
    let before = config("", "orders", &format!("{{ from: orders, {rule} }}"));
    let server = start(&before).await;
    post(&server, &[1, 2], 2).await;
    let renamed = |pipeline: &str| {
        let stream = "schema: order.avsc, key: who, event_time: at, topic: orders, table: others, out_of_orderness: 0s";
        format!("streams:\n  others: {{ {stream} }}\npipelines:\n  {pipeline}: {{ from: others, {rule} }}\n")
    };
    let words = ["pipeline orders", "stream others", "a name that no pipeline had"];
    let server = refused(server, &before, &renamed("orders"), &words).await;
    let (_, node) = server.terminate().await;
    let server = written(node, &renamed("others")).start().await;
    wait::until("all is stored again", async || wait::is(server.database().count("others").await, &2)).await;
    // The rule of that name says the same of the same record, as an alert of its own.
    let alerts = server.database().number("SELECT count(DISTINCT alert_id) FROM alerts WHERE state = 'firing'").await;
    assert_eq!(alerts, 2);
    server.verify();
}

#[actix_rt::test]
async fn a_log_that_was_cut_behind_a_kill_replaces_no_whole_row() {
    let patient = WINDOW.replace("10m", "1h");
    let text = config("", "orders", &steps(&[&window(&patient)]));
    let node = written(Node::new().set("storage.checkpoint_every", "10m"), &text);
    fs::write(node.path("order.avsc"), SCHEMA).unwrap();
    let server = node.start().await;
    post(&server, &[1, 2, 3, 61, 62], 5).await;
    windows_are(&server, &[(0, "s0", 1), (0, "s1", 2)]).await;
    crate::support::kafka::delete_records(server.kafka(), "orders", (0, 4)).await;
    let server = server.kill().start().await;
    post(&server, &[5, 63, 121, 181], 9).await;
    wait::until("the windows are closed", async || {
        let windows = windows(&server, "minutes").await;
        if windows.iter().any(|(start, ..)| *start == 120) { Ok(()) } else { Err(format!("{windows:?}")) }
    })
    .await;
    assert_eq!(windows(&server, "minutes").await[..2], [(0, "s0".to_owned(), 1), (0, "s1".to_owned(), 2)]);
    assert!(server.database().number("SELECT count(*) FROM sw_late WHERE why = 'begun'").await >= 2);
}
