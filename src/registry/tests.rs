//! The registry in process, over REST, and after a crash.

use std::{
    fs::{self, OpenOptions},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use actix_web::{
    App,
    http::Method,
    test::{TestRequest, call_service, init_service, read_body},
    web::Data,
};
use serde_json::{Value, json};
use streamward_core::ports::ValueDecoder;
use tempfile::TempDir;

use super::{Level, Registry, RegistryError, Which, rest};
use crate::http::access::HostRule;

fn schema(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#)
}

const A: &str = r#"{"name":"a","type":"string"}"#;
const B_REQUIRED: &str = r#"{"name":"b","type":"int"}"#;
const B_DEFAULT: &str = r#"{"name":"b","type":"int","default":0}"#;

fn fresh() -> (TempDir, Registry) {
    let folder = tempfile::tempdir().expect("a temp folder");
    let registry = Registry::open(folder.path()).expect("a new registry");
    (folder, registry)
}

#[test]
fn the_same_schema_has_one_id_whatever_its_spacing_and_subject() {
    let (_folder, registry) = fresh();
    let id = registry.register("s-value", &schema(A)).unwrap();
    assert_eq!(id, 1);
    let spaced = r#" { "name": "R", "fields": [ {"type": "string", "name": "a"} ], "type": "record" } "#;
    assert_eq!(registry.register("s-value", spaced).unwrap(), 1);
    assert_eq!(registry.versions("s-value").unwrap(), [1]);
    assert_eq!(registry.register("other", spaced).unwrap(), 1);
    assert_eq!(&*registry.schema_by_id(1).unwrap(), schema(A));
    assert_eq!(registry.schema_by_id(2), None);
    assert_eq!(registry.uses(1).unwrap().len(), 2);
}

#[test]
fn schemas_that_differ_in_a_default_or_a_logical_type_are_different() {
    let (_folder, registry) = fresh();
    registry.set_level(None, Level::None).unwrap();
    let time = r#"{"name":"a","type":{"type":"long","logicalType":"timestamp-millis"}}"#;
    let number = r#"{"name":"a","type":"long"}"#;
    let default = r#"{"name":"a","type":"long","default":3}"#;
    let ids = [time, number, default].map(|field| registry.register("s", &schema(field)).unwrap());
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!(registry.versions("s").unwrap(), [1, 2, 3]);
}

#[test]
fn ids_versions_and_levels_survive_a_restart() {
    let (folder, registry) = fresh();
    registry.register("a", &schema(A)).unwrap();
    registry.register("b", &schema(B_REQUIRED)).unwrap();
    registry.set_level(Some("a"), Level::Full).unwrap();
    drop(registry);
    let again = Registry::open(folder.path()).unwrap();
    assert_eq!(again.subjects(), ["a", "b"]);
    assert_eq!(again.version("b", Which::Latest).unwrap().id, 2);
    assert_eq!((again.level(Some("a")), again.level(None)), (Some(Level::Full), Some(Level::Backward)));
    assert_eq!(again.register("c", &schema("")).unwrap(), 3);
}

#[test]
fn a_torn_tail_is_dropped_at_every_length_and_its_id_given_anew() {
    let (folder, registry) = fresh();
    registry.register("a", &schema(A)).unwrap();
    let file = folder.path().join("schemas.jsonl");
    let whole = fs::read(&file).unwrap();
    registry.register("b", &schema(B_REQUIRED)).unwrap();
    let both = fs::read(&file).unwrap();
    for length in whole.len()..both.len() {
        fs::write(&file, &both[..length]).unwrap();
        let again = Registry::open(folder.path()).unwrap();
        assert_eq!(again.subjects(), ["a"], "cut at {length}");
        assert_eq!(fs::read(&file).unwrap(), whole);
        assert_eq!(again.register("b", &schema(B_DEFAULT)).unwrap(), 2);
    }
}

#[test]
fn damage_before_the_end_is_reported_and_nothing_is_cut() {
    let (folder, registry) = fresh();
    registry.register("a", &schema(A)).unwrap();
    registry.register("b", &schema(B_REQUIRED)).unwrap();
    let file = folder.path().join("schemas.jsonl");
    let mut bytes = fs::read(&file).unwrap();
    bytes[20] ^= 1;
    OpenOptions::new().write(true).open(&file).unwrap().write_all(&bytes).unwrap();
    assert!(matches!(Registry::open(folder.path()), Err(RegistryError::Damaged(_))));
    assert_eq!(fs::read(&file).unwrap(), bytes);
}

#[test]
fn each_level_asks_what_it_should() {
    let (optional, required) = (schema(&format!("{A},{B_DEFAULT}")), schema(&format!("{A},{B_REQUIRED}")));
    let cases = [
        (Level::Backward, schema(A), &optional, true),
        (Level::Backward, schema(A), &required, false),
        (Level::Backward, required.clone(), &schema(A), true),
        (Level::Forward, required.clone(), &schema(A), false),
        (Level::Forward, schema(A), &required, true),
        (Level::Full, schema(A), &optional, true),
        (Level::Full, schema(A), &required, false),
        (Level::None, schema(A), &schema(r#"{"name":"a","type":"int"}"#), true),
        (Level::Backward, schema(A), &schema(r#"{"name":"a","type":["null","string"]}"#), true),
        (Level::Backward, schema(r#"{"name":"a","type":"int"}"#), &schema(r#"{"name":"a","type":"long"}"#), true),
        (Level::Backward, schema(r#"{"name":"a","type":"long"}"#), &schema(r#"{"name":"a","type":"int"}"#), false),
    ];
    for (level, old, new, fits) in cases {
        let (_folder, registry) = fresh();
        registry.set_level(Some("s"), level).unwrap();
        registry.register("s", &old).unwrap();
        let registered = registry.register("s", new);
        assert_eq!(registered.is_ok(), fits, "{level:?}: {old} then {new}: {registered:?}");
    }
}

#[test]
fn transitive_levels_look_at_every_version() {
    let chain = [schema(A), schema(&format!("{A},{B_DEFAULT}")), schema(&format!("{A},{B_REQUIRED}"))];
    for (level, fits) in [(Level::Backward, true), (Level::BackwardTransitive, false)] {
        let (_folder, registry) = fresh();
        registry.set_level(None, level).unwrap();
        registry.register("s", &chain[0]).unwrap();
        registry.register("s", &chain[1]).unwrap();
        assert_eq!(registry.register("s", &chain[2]).is_ok(), fits, "{level:?}");
    }
}

#[test]
fn values_are_decoded_by_their_id_or_as_json() {
    let (_folder, registry) = fresh();
    registry.register("s", &schema(A)).unwrap();
    let framed = [0, 0, 0, 0, 1, 4, b'h', b'i'];
    assert_eq!(registry.decode(&framed), Some(json!({"a": "hi"})));
    assert_eq!(registry.decode(br#"{"x":1}"#), Some(json!({"x": 1})));
    for unreadable in [&framed[..7], &[0, 0, 0, 0, 1, 2, 104, 7], &framed[..3], &[0, 0, 0, 0, 9, 4, 1, 1], b"", b"{"] {
        assert_eq!(registry.decode(unreadable), None, "{unreadable:?}");
    }
}

async fn call(registry: &Registry, method: Method, path: &str, body: Value) -> (u16, Value) {
    let app = init_service(App::new().app_data(Data::new(registry.clone())).configure(rest::routes)).await;
    let request = TestRequest::with_uri(path).method(method).set_payload(body.to_string());
    let response = call_service(&app, request.to_request()).await;
    let status = response.status();
    let kind = response.headers().get("content-type").expect("every answer has a type");
    assert_eq!(kind, "application/vnd.schemaregistry.v1+json");
    let body = read_body(response).await;
    (status.as_u16(), serde_json::from_slice(&body).unwrap_or(Value::Null))
}

#[actix_web::test]
async fn the_rest_side_speaks_the_confluent_protocol() {
    let (_folder, registry) = fresh();
    let body = json!({"schema": schema(A)});
    let post = |path: &'static str, body: Value| call(&registry, Method::POST, path, body);
    let get = |path: &'static str| call(&registry, Method::GET, path, Value::Null);
    let put = |path: &'static str, body: Value| call(&registry, Method::PUT, path, body);
    assert_eq!(post("/subjects/s-value/versions", body.clone()).await, (200, json!({"id": 1})));
    assert_eq!(post("/subjects/s-value/versions?normalize=False", body.clone()).await, (200, json!({"id": 1})));
    let version = json!({"subject": "s-value", "id": 1, "version": 1, "schema": schema(A)});
    assert_eq!(post("/subjects/s-value", body.clone()).await, (200, version.clone()));
    assert_eq!(get("/subjects").await, (200, json!(["s-value"])));
    assert_eq!(get("/subjects/s-value/versions").await, (200, json!([1])));
    assert_eq!(get("/subjects/s-value/versions/latest").await, (200, version.clone()));
    assert_eq!(get("/subjects/s-value/versions/1").await, (200, version));
    let parsed: Value = serde_json::from_str(&schema(A)).unwrap();
    assert_eq!(get("/subjects/s-value/versions/1/schema").await, (200, parsed.clone()));
    assert_eq!(get("/schemas/ids/1").await, (200, json!({"schema": schema(A)})));
    assert_eq!(get("/schemas/ids/1/schema").await, (200, parsed));
    assert_eq!(get("/schemas/ids/1/versions").await, (200, json!([{"subject": "s-value", "version": 1}])));
    assert_eq!(get("/schemas/ids/1/subjects").await, (200, json!(["s-value"])));
    assert_eq!(get("/schemas/types").await, (200, json!(["AVRO"])));
    assert_eq!(get("/config").await, (200, json!({"compatibilityLevel": "BACKWARD"})));
    assert_eq!(put("/config", json!({"compatibility": "full"})).await, (200, json!({"compatibility": "FULL"})));
    assert_eq!(get("/config/s-value?defaultToGlobal=true").await.1, json!({"compatibilityLevel": "FULL"}));
    let level = json!({"compatibility": "BACKWARD_TRANSITIVE"});
    assert_eq!(put("/config/s-value", level.clone()).await, (200, level));
    assert_eq!(get("/config/s-value").await.1, json!({"compatibilityLevel": "BACKWARD_TRANSITIVE"}));
    let wider = json!({"schema": schema(&format!("{A},{B_REQUIRED}"))});
    let verdict = post("/compatibility/subjects/s-value/versions/latest", wider.clone()).await.1;
    assert_eq!(verdict["is_compatible"], false);
    assert_eq!(post("/compatibility/subjects/s-value/versions", body).await.1["is_compatible"], true);
    let (status, conflict) = post("/subjects/s-value/versions", wider).await;
    assert_eq!((status, &conflict["error_code"]), (409, &json!(409)));
}

#[actix_web::test]
async fn errors_have_the_protocols_codes() {
    let (_folder, registry) = fresh();
    registry.register("s", &schema(A)).unwrap();
    let good = json!({"schema": schema("")});
    let cases = [
        (Method::GET, "/subjects/x/versions", Value::Null, 40401),
        (Method::POST, "/subjects/x", good.clone(), 40401),
        (Method::GET, "/subjects/s/versions/2", Value::Null, 40402),
        (Method::POST, "/compatibility/subjects/s/versions/9", good.clone(), 40402),
        (Method::POST, "/subjects/s", good, 40403),
        (Method::GET, "/schemas/ids/9", Value::Null, 40403),
        (Method::GET, "/schemas/ids/x", Value::Null, 40403),
        (Method::GET, "/config/s", Value::Null, 40408),
        (Method::POST, "/subjects/s/versions", json!({"schema": "{\"type\": \"nothing\"}"}), 42201),
        (Method::POST, "/subjects/s/versions", json!({"schema": 7}), 42201),
        (Method::POST, "/subjects/s/versions", json!({"schema": "\"int\"", "schemaType": "JSON"}), 42201),
        (Method::POST, "/subjects/s/versions", json!({"schema": "\"int\"", "references": [{}]}), 42201),
        (Method::GET, "/subjects/s/versions/0", Value::Null, 42202),
        (Method::GET, "/subjects/s/versions/x", Value::Null, 42202),
        (Method::PUT, "/config", json!({"compatibility": "SOME"}), 42203),
    ];
    for (method, path, body, code) in cases {
        let (status, answer) = call(&registry, method, path, body).await;
        assert_eq!((u32::from(status), &answer["error_code"]), (code / 100, &json!(code)), "{path}: {answer}");
        assert!(answer["message"].is_string());
    }
}

#[actix_web::test]
async fn the_server_refuses_changes_from_foreign_pages() {
    let (_folder, registry) = fresh();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = super::server(registry, listener, HostRule::default()).unwrap();
    let handle = server.handle();
    let client = async move {
        let ask = move |host: &'static str| {
            let mut stream = TcpStream::connect(address).unwrap();
            let body = json!({"schema": schema(A)}).to_string();
            let length = body.len();
            let head = format!(
                "POST /subjects/s/versions HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
            );
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        let answers = actix_web::web::block(move || [ask("evil.example"), ask("localhost")]).await.unwrap();
        handle.stop(true).await;
        answers
    };
    let (served, [foreign, own]) = futures_util::future::join(server, client).await;
    served.unwrap();
    assert!(foreign.starts_with("HTTP/1.1 403"), "{foreign}");
    assert!(own.starts_with("HTTP/1.1 200") && own.ends_with(r#"{"id":1}"#), "{own}");
}
