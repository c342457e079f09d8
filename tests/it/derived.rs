//! What a pipeline makes of its records, on the real server. Derived columns are in the table, in windows and rules, in the
//! API and in live frames; they are added to a stream that has rows, and changed. Rows are stored, or not.

use std::fs;

use serde_json::{Value, json};
use sqlx::Row;

use crate::support::{
    server::{Node, Server},
    wait,
};

const SCHEMA: &str = r#"{"type": "record", "name": "Sale", "fields": [
    {"name": "shop", "type": "string"}, {"name": "amount", "type": "double"}, {"name": "rate", "type": ["null", "double"]},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#;
const DERIVE: &str = "{ derive: { amount_eur: amount * rate, is_large: amount_eur > 100 } }";
const OTHERS: &str = "{ filter: amount_eur IS NULL OR amount_eur >= 0 }, \
     { window: { name: shop_minutes, tumbling: 60s, group_by: [shop, is_large], select: { total: sum(amount_eur) } } }, \
     { rule: { name: large, when: is_large } }";

fn config(settings: &str, steps: &str) -> String {
    format!(
        "streams:\n  sales: {{ schema: sale.avsc, key: shop, event_time: at, partitions: 1, out_of_orderness: 0s, \
         idle_after: 1h{settings} }}\npipelines:\n  sales: {{ from: sales, steps: [{steps}] }}\n"
    )
}

fn written(node: Node, config: &str) -> Node {
    fs::write(node.path("sale.avsc"), SCHEMA).unwrap();
    fs::write(node.path("config.yaml"), config).unwrap();
    node
}

/// A minute some minutes ago; windows do not close by the wall clock here.
fn minute_ms() -> i64 {
    let now_ms = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    now_ms / 60_000 * 60_000 - 300_000
}

/// Posts sales of this second of a minute, amount and rate, and waits until so many rows are stored in all.
async fn post(server: &Server, sales: &[(i64, f64, Option<f64>)], stored: i64) {
    let minute_ms = minute_ms();
    let sale = |(second, amount, rate): &(i64, f64, Option<f64>)| json!({ "value": { "shop": "s", "amount": amount, "rate": rate, "at": minute_ms + second * 1_000 } });
    let records: Vec<Value> = sales.iter().map(sale).collect();
    let (status, answer) = server.http.post("/api/v1/streams/sales/records", &json!({ "records": records })).await;
    assert_eq!(status, 202, "{answer}");
    wait::until("every sale is stored", async || wait::is(server.database().count("sales").await, &stored)).await;
}

#[actix_rt::test]
async fn a_derived_column_is_one_like_any_other() {
    let settings = ", measure: amount_eur, indexes: [is_large]";
    let server = written(Node::new(), &config(settings, &format!("{DERIVE}, {OTHERS}"))).start().await;
    let mut socket = server.http.socket("/ws/sales").await;
    post(
        &server,
        &[(1, 100.0, Some(1.5)), (2, 10.0, Some(2.0)), (3, 10.0, None), (4, -1.0, Some(1.0)), (61, 0.0, Some(1.0))],
        4,
    )
    .await;
    let rows = server.database().rows("SELECT amount_eur, is_large FROM sales ORDER BY id").await;
    let stored: Vec<(Option<f64>, Option<bool>)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(
        stored,
        [(Some(150.0), Some(true)), (Some(20.0), Some(false)), (None, None), (Some(0.0), Some(false))],
        "what is derived from null is null"
    );
    assert_eq!(socket.next_record().await["data"]["amount_eur"], 150.0);

    let large = server.http.get("/api/v1/streams/sales/latest?is_large=true").await;
    assert_eq!((&large["count"], &large["records"][0]["amount_eur"]), (&json!(1), &json!(150.0)), "{large}");
    let stats = server.http.get("/api/v1/streams/sales/stats").await;
    assert_eq!(stats["avg_measure"], 56.67, "{stats}");
    let alerts = server.http.get("/api/v1/alerts?rule=large").await;
    assert_eq!(alerts["alerts"][0]["fired"]["record"]["amount_eur"], 150.0, "{alerts}");
    let query = "SELECT total FROM shop_minutes WHERE is_large IS NOT NULL ORDER BY total";
    wait::until("the window is closed", async || wait::is(server.database().rows(query).await.len(), &2)).await;
    let totals: Vec<f64> = server.database().rows(query).await.iter().map(|row| row.get(0)).collect();
    assert_eq!(totals, [20.0, 150.0]);
    server.verify();
}

#[actix_rt::test]
async fn a_stream_with_rows_gains_a_derived_column_and_keeps_its_meaning() {
    let server = written(Node::new(), &config("", "")).start().await;
    post(&server, &[(1, 100.0, Some(1.5))], 1).await;
    let (_, node) = server.terminate().await;
    let server = written(node, &config("", DERIVE)).start().await;
    post(&server, &[(2, 10.0, Some(2.0))], 2).await;
    let rows = server.database().rows("SELECT amount_eur FROM sales ORDER BY id").await;
    let stored: Vec<Option<f64>> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(stored, [None, Some(20.0)], "rows of before have none");

    let (_, node) = server.terminate().await;
    let node = written(node, &config("", &DERIVE.replace("amount * rate", "amount / rate")));
    let output = node.command(&["check"]).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    for word in ["amount_eur", "amount * rate", "amount / rate", "2 rows", "pipelines.sales.steps.0.derive.amount_eur"]
    {
        assert!(said.contains(word), "{said} without {word}");
    }
    // Without the step the column stays, and new rows have none.
    let server = written(node, &config("", "")).start().await;
    post(&server, &[(3, 10.0, Some(2.0))], 3).await;
    server.verify();
}

#[actix_rt::test]
async fn a_pipeline_may_store_no_rows_and_begin_to() {
    let unstored = config("", &format!("{DERIVE}, {OTHERS}")).replace("] }\n", "], store: false }\n");
    let server = written(Node::new(), &unstored).start().await;
    let mut socket = server.http.socket("/ws/sales").await;
    post(&server, &[(1, 100.0, Some(1.5)), (2, 10.0, Some(2.0)), (61, 0.0, Some(1.0))], 0).await;
    assert_eq!(socket.next_record().await["data"]["amount_eur"], 150.0);
    let query = "SELECT total FROM shop_minutes ORDER BY total";
    wait::until("the window is closed", async || wait::is(server.database().rows(query).await.len(), &2)).await;
    let alerts = server.http.get("/api/v1/alerts?rule=large").await;
    assert_eq!(alerts["count"], 1, "{alerts}");
    let found = server.verify();
    let filtered = |found: &Value| found.to_string().contains("\"filtered\":3");
    assert!(filtered(&found), "{found}");

    let server = written(server.kill(), &unstored.replace("store: false", "store: true")).start().await;
    post(&server, &[(62, 10.0, Some(2.0))], 1).await;
    server.verify();
}
