//! Every kind of field on its whole way: as JSON and as Avro into the log, into the database, and out of it in rows of the API
//! and live frames. Nothing of a value gets lost, least of all at its ends.

use std::{collections::BTreeMap, fs};

use serde_json::{Value, json};
use sqlx::Row;
use streamward_core::{
    encode,
    schema::{Decimal, Scalar, StreamSchema},
};

use crate::support::{
    http::Http,
    kafka::{Outgoing, Producer},
    server::{Node, Server},
    wait,
};

/// A column and its Avro type; each may be null.
const KINDS: [(&str, &str); 12] = [
    ("flag", r#""boolean""#),
    ("small", r#""int""#),
    ("whole", r#""long""#),
    ("narrow", r#""float""#),
    ("wide", r#""double""#),
    ("words", r#""string""#),
    ("symbol", r#"{"type": "enum", "name": "Symbol", "symbols": ["a", "b"]}"#),
    ("seen_at", r#"{"type": "long", "logicalType": "timestamp-millis"}"#),
    ("price", r#"{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}"#),
    ("count", r#"{"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 0}"#),
    ("share", r#"{"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 38}"#),
    (
        "money",
        r#"{"type": "fixed", "name": "Money", "size": 16, "logicalType": "decimal", "precision": 38, "scale": 2}"#,
    ),
];

/// Stands for a cell that `quote()` does not show as it is.
const UNPRINTABLE: &str = "unprintable";

/// A value of one column in each of its forms.
struct Case {
    column: &'static str,
    /// In a JSON record.
    json: &'static str,
    scalar: Scalar,
    /// In SQLite, as `quote()` shows it.
    sqlite: String,
    /// In rows of the API and in live frames.
    shown: Value,
}

fn case(column: &'static str, json: &'static str, scalar: Scalar, sqlite: &str, shown: Value) -> Case {
    Case { column, json, scalar, sqlite: sqlite.to_owned(), shown }
}

fn decimal(column: &'static str, json: &'static str, unscaled: i128, scale: u8) -> Case {
    let value = Decimal { unscaled, scale };
    case(column, json, Scalar::Decimal(value), &format!("'{value}'"), value.to_string().into())
}

fn cases() -> Vec<Case> {
    const MOST: i128 = 99_999_999_999_999_999_999_999_999_999_999_999_999;
    let (odd, odd_text) = (r#""\u0000 \"'\\ \uD83C\uDF21 温""#, "\0 \"'\\ \u{1F321} 温");
    let whole = |column, json, value: i64| case(column, json, Scalar::Integer(value), json, json!(value));
    vec![
        case("flag", "true", Scalar::Boolean(true), "1", json!(true)),
        case("flag", "false", Scalar::Boolean(false), "0", json!(false)),
        case("flag", "null", Scalar::Null, "NULL", Value::Null),
        whole("small", "-2147483648", i64::from(i32::MIN)),
        whole("small", "2147483647", i64::from(i32::MAX)),
        whole("whole", "-9223372036854775808", i64::MIN),
        whole("whole", "9223372036854775807", i64::MAX),
        case("narrow", "0.5", Scalar::Number(0.5), "0.5", json!(0.5)),
        case(
            "wide",
            "1099511627776.5",
            Scalar::Number(1_099_511_627_776.5),
            "1099511627776.5",
            json!(1_099_511_627_776.5),
        ),
        case("wide", "-1.7976931348623157e308", Scalar::Number(f64::MIN), UNPRINTABLE, json!(f64::MIN)),
        case("words", "\"\"", Scalar::Text(String::new()), "''", json!("")),
        case("words", "\"null\"", Scalar::Text("null".to_owned()), "'null'", json!("null")),
        case("words", odd, Scalar::Text(odd_text.to_owned()), UNPRINTABLE, json!(odd_text)),
        case("symbol", "\"b\"", Scalar::Text("b".to_owned()), "'b'", json!("b")),
        case(
            "seen_at",
            "\"2024-02-29T23:59:59.999Z\"",
            Scalar::Integer(1_709_251_199_999),
            "1709251199999",
            json!("2024-02-29T23:59:59.999Z"),
        ),
        decimal("price", "12.5", 1_250, 2),
        decimal("price", "\"-0.01\"", -1, 2),
        decimal("price", "9999999.99", 999_999_999, 2),
        decimal("price", "0", 0, 2),
        case("price", "null", Scalar::Null, "NULL", Value::Null),
        decimal("count", "99999999999999999999999999999999999999", MOST, 0),
        decimal("count", "-99999999999999999999999999999999999999", -MOST, 0),
        decimal("count", "1e37", 10_i128.pow(37), 0),
        decimal("share", "0.99999999999999999999999999999999999999", MOST, 38),
        decimal("share", "-1e-38", -1, 38),
        decimal("money", "-999999999999999999999999999999999999.99", -MOST, 2),
        decimal("money", "123456789012345678.90", 12_345_678_901_234_567_890, 2),
    ]
}

fn schema() -> String {
    let column =
        |(name, kind): &(&str, &str)| format!(r#"{{"name": "{name}", "type": ["null", {kind}], "default": null}}"#);
    let columns: Vec<String> = KINDS.iter().map(column).collect();
    format!(
        r#"{{"type": "record", "name": "Sample", "fields": [{{"name": "name", "type": "string"}},
        {{"name": "at", "type": {{"type": "long", "logicalType": "timestamp-millis"}}}}, {}]}}"#,
        columns.join(",")
    )
}

fn node() -> Node {
    let node = Node::new();
    let config = "streams:\n  samples: { schema: sample.avsc, key: name, event_time: at, partitions: 1 }\n\
                  pipelines:\n  samples: { from: samples }\n";
    fs::write(node.path("sample.avsc"), schema()).unwrap();
    fs::write(node.path("config.yaml"), config).unwrap();
    node
}

fn now_ms() -> i64 {
    i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}

/// Names of the two records of a case.
fn names(place: usize) -> [String; 2] {
    [format!("json {place}"), format!("avro {place}")]
}

async fn send(server: &Server, cases: &[Case]) {
    let latest = Http::new(&server.registry).get("/subjects/samples-value/versions/latest").await;
    let id = u32::try_from(latest["id"].as_u64().unwrap()).unwrap();
    let schema = StreamSchema::parse(&schema()).unwrap();
    let producer = Producer::connect(server.kafka());
    for (place, case) in cases.iter().enumerate() {
        let [of_json, of_avro] = names(place);
        let json = format!(r#"{{"name": "{of_json}", "at": {}, "{}": {}}}"#, now_ms(), case.column, case.json);
        let mut row = vec![Scalar::Null; schema.fields.len()];
        row[0] = Scalar::Text(of_avro);
        row[1] = Scalar::Integer(now_ms());
        row[schema.column_index(case.column).unwrap()] = case.scalar.clone();
        let mut avro = Vec::new();
        encode::push_frame(id, &mut avro);
        encode::encode_avro(&schema, &row, &mut avro).unwrap();
        for value in [json.as_bytes(), &avro] {
            let key = Some(b"k".as_slice());
            producer.send("samples", &Outgoing { key, value: Some(value), ..Outgoing::default() });
        }
    }
    producer.finish();
}

/// Walks all kinds through a server; `stored` reads a cell of its database, and `form` is what a case has there.
async fn walk(server: &Server, stored: impl AsyncFn(&str, &str) -> String, form: impl Fn(&Case) -> &str) {
    let cases = cases();
    let mut socket = server.http.socket("/ws/samples").await;
    send(server, &cases).await;
    let mut frames = BTreeMap::new();
    while frames.len() < 2 * cases.len() {
        let frame = socket.next_record().await["data"].take();
        frames.insert(frame["name"].as_str().unwrap().to_owned(), frame);
    }
    for (place, case) in cases.iter().enumerate() {
        for name in names(place) {
            let what = format!("{name}: {} {}", case.column, case.json);
            assert_eq!(frames[&name][case.column], case.shown, "frame of {what}");
            let path = format!("/api/v1/streams/samples/latest?name={}", name.replace(' ', "%20"));
            let rows = wait::until("the row is stored", async || {
                let rows = server.http.try_get(&path).await?;
                wait::is(rows["count"].as_u64(), &Some(1)).map(|_| rows["records"].clone())
            });
            assert_eq!(rows.await[0][case.column], case.shown, "row of {what}");
            if form(case) != UNPRINTABLE {
                assert_eq!(stored(case.column, &name).await, form(case), "cell of {what}");
            }
        }
    }
    let found = server.http.get("/api/v1/streams/samples/latest?price=12.500").await;
    assert_eq!(found["count"], 2, "a filter by value, however it is written: {found}");
}

#[actix_rt::test]
async fn every_kind_of_field_comes_back_as_it_was_sent() {
    let server = node().start().await;
    let stored = async |column: &str, name: &str| {
        let sql = format!("SELECT quote(\"{column}\") FROM samples WHERE name = '{name}'");
        server.database().rows(&sql).await[0].get::<String, _>(0)
    };
    walk(&server, stored, |case| &case.sqlite).await;
    assert_eq!(server.database().count("dead_letters").await, 0);
    server.verify();
}
