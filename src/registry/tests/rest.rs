//! The REST side: bodies, parameters, lists.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use actix_web::{
    App,
    http::Method,
    middleware::from_fn,
    test::{TestRequest, call_service, init_service},
    web::Data,
};
use serde_json::{Value, json};

use super::{A, B_DEFAULT, B_REQUIRED, Topic, call, schema};
use crate::{
    http::{bodies::BodyRules, hosts::HostRule},
    registry::{
        ClusterIds, Registry,
        rest::{body_rules, in_asked_type, routes, server_with},
        server,
    },
};

/// A registry and short ways to ask it.
struct Client(Registry);

impl Client {
    fn new() -> Self {
        Self(Topic::default().open())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        call(&self.0, Method::GET, path, Value::Null).await
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        call(&self.0, Method::POST, path, body.clone()).await
    }

    async fn put(&self, path: &str, body: Value) -> (u16, Value) {
        call(&self.0, Method::PUT, path, body).await
    }

    async fn delete(&self, path: &str) -> (u16, Value) {
        call(&self.0, Method::DELETE, path, Value::Null).await
    }

    async fn register(&self, subject: &str, fields: &str) -> Value {
        let (status, body) =
            self.post(&format!("/subjects/{subject}/versions"), &json!({"schema": schema(fields)})).await;
        assert_eq!(status, 200, "{body}");
        body["id"].clone()
    }
}

#[actix_web::test]
async fn a_schema_is_registered_looked_up_and_served() {
    let client = Client::new();
    let body = json!({"schema": schema(A)});
    assert_eq!(client.post("/subjects/s-value/versions", &body).await, (200, json!({"id": 1})));
    assert_eq!(client.post("/subjects/s-value/versions?normalize=True", &body).await, (200, json!({"id": 1})));
    let version = json!({"subject": "s-value", "id": 1, "version": 1, "schema": schema(A)});
    assert_eq!(client.post("/subjects/s-value", &body).await, (200, version.clone()));
    let parsed: Value = serde_json::from_str(&schema(A)).unwrap();
    let cases = [
        ("/", json!({})),
        ("/subjects", json!(["s-value"])),
        ("/subjects/s-value/versions", json!([1])),
        ("/subjects/s-value/versions/latest", version.clone()),
        ("/subjects/s-value/versions/-1", version.clone()),
        ("/subjects/s-value/versions/1", version.clone()),
        ("/subjects/:.:s-value/versions/1", version.clone()),
        ("/subjects/s-value/versions/1/schema", parsed.clone()),
        ("/subjects/s-value/versions/1/referencedby", json!([])),
        ("/schemas", json!([version])),
        ("/schemas/ids/1", json!({"schema": schema(A)})),
        ("/schemas/ids/1?fetchMaxId=true", json!({"schema": schema(A), "maxId": 1})),
        ("/schemas/ids/1?subject=s-value", json!({"schema": schema(A), "subject": "s-value", "version": 1})),
        ("/schemas/ids/1?subject=other", json!({"schema": schema(A)})),
        ("/schemas/ids/1/schema", parsed),
        ("/schemas/ids/1/versions", json!([{"subject": "s-value", "version": 1}])),
        ("/schemas/ids/1/subjects", json!(["s-value"])),
        ("/schemas/ids/1/subjects?subject=other", json!([])),
        ("/schemas/types", json!(["AVRO", "JSON", "PROTOBUF"])),
        ("/contexts", json!(["."])),
        ("/v1/metadata/version", json!({"version": env!("CARGO_PKG_VERSION"), "commitId": ""})),
    ];
    for (path, wanted) in cases {
        assert_eq!(client.get(path).await, (200, wanted), "{path}");
    }
    assert_eq!(client.get("/v1/metadata/id").await.1["scope"]["path"], json!([]));
}

#[actix_web::test]
async fn references_and_other_types_are_kept_and_shown() {
    let client = Client::new();
    client.register("r", A).await;
    let references = json!([{"name": "R", "subject": "r", "version": 1}]);
    let body = json!({"schema": r#"["null","R"]"#, "references": references});
    assert_eq!(client.post("/subjects/u/versions", &body).await, (200, json!({"id": 2})));
    let shown = client.get("/subjects/u/versions/1").await.1;
    assert_eq!((&shown["references"], &shown["schema"]), (&references, &json!(r#"["null","R"]"#)));
    let resolved = client.get("/schemas/ids/2?format=resolved").await.1;
    assert_eq!(resolved["schema"], json!(format!(r#"["null",{}]"#, schema(A))));
    assert_eq!(client.get("/subjects/r/versions/1/referencedby").await, (200, json!([2])));
    let proto = json!({"schemaType": "PROTOBUF", "schema": "message A {}", "metadata": {"properties": {"owner": "x"}}});
    assert_eq!(client.post("/subjects/p/versions", &proto).await, (200, json!({"id": 3})));
    let shown = client.get("/schemas/ids/3").await.1;
    assert_eq!(shown, proto);
}

#[actix_web::test]
async fn lists_are_filtered_and_cut_into_pages() {
    let client = Client::new();
    for subject in ["a-key", "a-value", "b-value"] {
        client.register(subject, A).await;
    }
    client.register("a-value", &format!("{A},{B_DEFAULT}")).await;
    client.delete("/subjects/b-value").await;
    client.delete("/subjects/a-value/versions/1").await;
    let cases = [
        ("/subjects", json!(["a-key", "a-value"])),
        ("/subjects?deleted=true", json!(["a-key", "a-value", "b-value"])),
        ("/subjects?deletedOnly=true", json!(["b-value"])),
        ("/subjects?subjectPrefix=a-v", json!(["a-value"])),
        ("/subjects?subjectPrefix=:*:a-k", json!(["a-key"])),
        ("/subjects?deleted=true&offset=1&limit=1", json!(["a-value"])),
        ("/subjects?offset=5", json!([])),
        ("/subjects?limit=0", json!(["a-key", "a-value"])),
        ("/subjects/a-value/versions", json!([2])),
        ("/subjects/a-value/versions?deleted=true", json!([1, 2])),
        ("/subjects/a-value/versions?deletedOnly=true", json!([1])),
        ("/subjects/a-value/versions?deleted=true&limit=1", json!([1])),
        ("/subjects/b-value/versions?deletedOnly=true", json!([1])),
        ("/schemas/ids/1/subjects", json!(["a-key"])),
        ("/schemas/ids/1/subjects?deleted=true", json!(["a-key", "a-value", "b-value"])),
    ];
    for (path, wanted) in cases {
        assert_eq!(client.get(path).await, (200, wanted), "{path}");
    }
    let schemas = |body: Value| -> Vec<(String, u64)> {
        let pair = |entry: &Value| (entry["subject"].as_str().unwrap().to_owned(), entry["version"].as_u64().unwrap());
        body.as_array().unwrap().iter().map(pair).collect()
    };
    let latest = client.get("/schemas?latestOnly=true&deleted=true&subjectPrefix=a-v").await.1;
    assert_eq!(schemas(latest), [("a-value".to_owned(), 2)]);
    assert_eq!(schemas(client.get("/schemas?deleted=true").await.1).len(), 4);
    assert_eq!(client.get("/subjects/b-value/versions/1?deleted=true").await.1["deleted"], true);
}

#[actix_web::test]
async fn levels_are_set_inherited_and_taken_away() {
    let client = Client::new();
    assert_eq!(client.get("/config").await, (200, json!({"compatibilityLevel": "BACKWARD"})));
    assert_eq!(client.put("/config", json!({"compatibility": "full"})).await, (200, json!({"compatibility": "FULL"})));
    let own = json!({"compatibility": "BACKWARD_TRANSITIVE", "normalize": true});
    assert_eq!(client.get("/config/s?defaultToGlobal=true").await.1, json!({"compatibilityLevel": "FULL"}));
    assert_eq!(client.put("/config/s", own.clone()).await, (200, own));
    let shown = json!({"compatibilityLevel": "BACKWARD_TRANSITIVE", "normalize": true});
    assert_eq!(client.get("/config/s").await, (200, shown.clone()));
    assert_eq!(client.delete("/config/s").await, (200, shown));
    assert_eq!(client.put("/config/s", json!({"normalize": true})).await, (200, json!({"normalize": true})));
    let merged = json!({"compatibilityLevel": "FULL", "normalize": true});
    assert_eq!(client.get("/config/s?defaultToGlobal=true").await.1, merged);
    assert_eq!(client.delete("/config").await, (200, json!({"compatibilityLevel": "FULL"})));
    assert_eq!(client.get("/config").await, (200, json!({"compatibilityLevel": "BACKWARD"})));
}

#[actix_web::test]
async fn modes_are_set_inherited_and_taken_away() {
    let client = Client::new();
    assert_eq!(client.get("/mode").await, (200, json!({"mode": "READWRITE"})));
    assert_eq!(client.put("/mode", json!({"mode": "readonly"})).await, (200, json!({"mode": "READONLY"})));
    assert_eq!(client.get("/mode/s?defaultToGlobal=true").await, (200, json!({"mode": "READONLY"})));
    assert_eq!(client.put("/mode/s", json!({"mode": "IMPORT"})).await, (200, json!({"mode": "IMPORT"})));
    assert_eq!(client.get("/mode/s").await, (200, json!({"mode": "IMPORT"})));
    let import = json!({"schema": schema(A), "id": 9, "version": 4});
    assert_eq!(client.post("/subjects/s/versions", &import).await, (200, json!({"id": 9})));
    assert_eq!(client.get("/subjects/s/versions").await, (200, json!([4])));
    assert_eq!(client.delete("/mode/s").await, (200, json!({"mode": "IMPORT"})));
    assert_eq!(client.delete("/mode").await, (200, json!({"mode": "READONLY"})));
    assert_eq!(client.get("/mode/s?defaultToGlobal=true").await, (200, json!({"mode": "READWRITE"})));
}

#[actix_web::test]
async fn a_schema_is_compared_with_one_version_or_with_those_that_count() {
    let client = Client::new();
    client.register("s", A).await;
    let (good, bad) = (json!({"schema": schema(A)}), json!({"schema": schema(&format!("{A},{B_REQUIRED}"))}));
    let fits = json!({"is_compatible": true});
    assert_eq!(client.post("/compatibility/subjects/s/versions", &good).await, (200, fits.clone()));
    assert_eq!(client.post("/compatibility/subjects/s/versions/latest", &good).await, (200, fits.clone()));
    assert_eq!(client.post("/compatibility/subjects/none/versions/latest", &good).await, (200, fits));
    for path in ["/compatibility/subjects/s/versions/1", "/compatibility/subjects/s/versions"] {
        assert_eq!(client.post(path, &bad).await, (200, json!({"is_compatible": false})), "{path}");
        let told = client.post(&format!("{path}?verbose=true"), &bad).await.1;
        assert!(told["messages"][0].as_str().unwrap().contains("'b'"), "{told}");
    }
    let unread = client.post("/compatibility/subjects/s/versions?verbose=true", &json!({"schema": "{"})).await;
    assert_eq!((unread.0, &unread.1["is_compatible"]), (200, &json!(false)));
    let (status, conflict) = client.post("/subjects/s/versions", &bad).await;
    assert_eq!((status, &conflict["error_code"]), (409, &json!(409)));
}

#[actix_web::test]
async fn deletions_answer_what_they_deleted() {
    let client = Client::new();
    client.register("s", A).await;
    client.register("s", &format!("{A},{B_DEFAULT}")).await;
    assert_eq!(client.delete("/subjects/s/versions/latest").await, (200, json!(2)));
    assert_eq!(client.delete("/subjects/s/versions/2?permanent=true").await, (200, json!(2)));
    assert_eq!(client.delete("/subjects/s").await, (200, json!([1])));
    let body = json!({"schema": schema(A)});
    assert_eq!(client.post("/subjects/s?deleted=true", &body).await.1["version"], 1);
    assert_eq!(client.delete("/subjects/s?permanent=true").await, (200, json!([1])));
    assert_eq!(client.get("/subjects?deleted=true").await, (200, json!([])));
}

#[actix_web::test]
async fn answers_have_the_type_that_the_client_takes() {
    let app = App::new().wrap(from_fn(in_asked_type)).app_data(Data::new(Topic::default().open()));
    let app = init_service(app.configure(routes)).await;
    let v1 = "application/vnd.schemaregistry.v1+json";
    let cases = [
        ("", v1),
        ("*/*", v1),
        ("application/json, application/vnd.schemaregistry.v1+json;q=0.9", v1),
        ("application/vnd.schemaregistry+json", "application/vnd.schemaregistry+json"),
        ("application/json", "application/json"),
    ];
    for (accept, wanted) in cases {
        for path in ["/subjects", "/nothing"] {
            let request = TestRequest::with_uri(path).insert_header(("accept", accept)).to_request();
            let response = call_service(&app, request).await;
            assert_eq!(response.headers().get("content-type").unwrap(), wanted, "{path}: {accept}");
        }
    }
}

#[actix_web::test]
async fn the_server_answers_foreign_hosts_neither_reads_nor_changes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = server(Topic::default().open(), ClusterIds::default(), listener, HostRule::default(), 64).unwrap();
    let handle = server.handle();
    let client = async move {
        let ask = move |host: &str, line: &str| {
            let mut stream = TcpStream::connect(address).unwrap();
            let body = json!({"schema": schema(A)}).to_string();
            let length = body.len();
            let head =
                format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        #[expect(clippy::disallowed_methods, reason = "a test waits for it")]
        let answers = actix_web::web::block(move || {
            let own = format!("localhost:{}", address.port());
            let ask_both = |host: &str| [ask(host, "POST /subjects/s/versions"), ask(host, "GET /subjects")];
            [ask_both("evil.example"), ask_both("localhost"), ask_both(&own)]
        });
        let answers = answers.await.unwrap();
        handle.stop(true).await;
        answers
    };
    let (served, [foreign, other_port, own]) = futures_util::future::join(server, client).await;
    served.unwrap();
    for answer in foreign.iter().chain(&other_port) {
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    }
    let [registered, subjects] = own;
    assert!(registered.starts_with("HTTP/1.1 200") && registered.ends_with(r#"{"id":1}"#), "{registered}");
    assert!(subjects.starts_with("HTTP/1.1 200") && subjects.ends_with(r#"["s"]"#), "{subjects}");
}

#[actix_web::test]
async fn a_body_that_stops_is_answered_408_in_the_protocols_form() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let bodies = BodyRules { progress: Duration::from_millis(30), ..body_rules() };
    let open = (Topic::default().open(), ClusterIds::default());
    let server = server_with(open, listener, HostRule::default(), 64, bodies).unwrap();
    let handle = server.handle();
    let client = async move {
        #[expect(clippy::disallowed_methods, reason = "a test waits for it")]
        let answer = actix_web::web::block(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            let head = format!("POST /subjects/s/versions HTTP/1.1\r\nHost: {address}\r\nContent-Length: 100\r\n\r\n");
            stream.write_all(format!("{head}{{").as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        let answer = answer.await.unwrap();
        handle.stop(true).await;
        answer
    };
    let (served, answer) = futures_util::future::join(server, client).await;
    served.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("application/vnd.schemaregistry") && answer.contains(r#""error_code":408"#), "{answer}");
}
