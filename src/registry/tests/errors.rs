//! The protocol's error codes, by request.

use actix_web::http::Method;
use serde_json::{Value, json};

use super::{A, B_DEFAULT, Fault, Topic, avro, call, schema};
use crate::registry::{Permanent, Registry};

const Z_REQUIRED: &str = r#"{"name":"z","type":"int"}"#;

/// Subjects: `s` with two versions, the first deleted; `gone` deleted; `user` refers to `gone`'s neighbour `used`.
fn registry() -> Registry {
    let registry = Topic::default().open();
    registry.register("s", &avro(A)).unwrap();
    registry.register("s", &avro(&format!("{A},{B_DEFAULT}"))).unwrap();
    registry.delete_version("s", "1".parse().unwrap(), Permanent(false)).unwrap();
    registry.register("gone", &avro(A)).unwrap();
    registry.delete_subject("gone", Permanent(false)).unwrap();
    registry.register("used", &avro(A)).unwrap();
    registry
}

#[actix_web::test]
async fn what_is_not_there_or_does_not_work_is_said_with_what_to_do() {
    let topic = Topic::default();
    let registry = topic.open();
    let (_, unknown) = call(&registry, Method::GET, "/subjects/x/versions", Value::Null).await;
    let said = unknown["message"].as_str().unwrap();
    assert!(said.starts_with("Subject 'x' not found.") && said.contains("GET /subjects?deleted=true"), "{said}");
    topic.fail(Fault::Down);
    let (status, down) = call(&registry, Method::POST, "/subjects/x/versions", json!({"schema": schema(A)})).await;
    let said = down["message"].as_str().unwrap();
    assert!(status == 500 && said.contains("down. ") && said.contains("GET /health/ready"), "{said}");
}

#[actix_web::test]
async fn errors_have_the_protocols_codes() {
    let registry = registry();
    let good = json!({"schema": schema("")});
    let user = json!({"schema": "[\"null\",\"R\"]", "references": [{"name": "R", "subject": "used", "version": 1}]});
    assert_eq!(call(&registry, Method::POST, "/subjects/user/versions", user).await.0, 200);
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    let cases = [
        (&get, "/nothing", Value::Null, 404),
        (&put, "/subjects", Value::Null, 405),
        (&get, "/subjects?offset=x", Value::Null, 400),
        (&get, "/subjects/x/versions", Value::Null, 40401),
        (&get, "/subjects/gone/versions", Value::Null, 40401),
        (&get, "/subjects/x/versions/1", Value::Null, 40401),
        (&get, "/subjects/gone/versions/latest", Value::Null, 40401),
        (&post, "/subjects/x", good.clone(), 40401),
        (&delete, "/subjects/x", Value::Null, 40401),
        (&delete, "/subjects/x/versions/1", Value::Null, 40401),
        (&delete, "/config/x", Value::Null, 40401),
        (&delete, "/mode/x", Value::Null, 40401),
        (&get, "/subjects/s/versions/1", Value::Null, 40402),
        (&get, "/subjects/s/versions/9", Value::Null, 40402),
        (&get, "/subjects/s/versions/9/referencedby", Value::Null, 40402),
        (&delete, "/subjects/s/versions/9", Value::Null, 40402),
        (&post, "/compatibility/subjects/s/versions/9", good.clone(), 40402),
        (&post, "/subjects/s", good.clone(), 40403),
        (&get, "/schemas/ids/9", Value::Null, 40403),
        (&get, "/schemas/ids/x", Value::Null, 40403),
        (&get, "/schemas/ids/9/versions", Value::Null, 40403),
        (&delete, "/subjects/gone", Value::Null, 40404),
        (&delete, "/subjects/s?permanent=true", Value::Null, 40405),
        (&delete, "/subjects/s/versions/1", Value::Null, 40406),
        (&delete, "/subjects/s/versions/2?permanent=true", Value::Null, 40407),
        (&get, "/config/s", Value::Null, 40408),
        (&get, "/mode/s", Value::Null, 40409),
        (&post, "/subjects/s/versions", json!({"schema": schema(Z_REQUIRED)}), 409),
        (&post, "/subjects/s/versions", json!({"schema": "{\"type\": \"nothing\"}"}), 42201),
        (&post, "/subjects/s/versions", json!({"schema": ""}), 42201),
        (&post, "/subjects/s/versions", json!({"schema": 7}), 42201),
        (&post, "/subjects/s/versions", json!({"schema": "\"int\"", "schemaType": "XML"}), 42201),
        (&post, "/subjects/s/versions", json!({"schema": "\"int\"", "references": [{}]}), 42201),
        (
            &post,
            "/subjects/s/versions",
            json!({"schema": "\"int\"", "references": [{"name": "x", "subject": "x", "version": 1}]}),
            42201,
        ),
        (&get, "/subjects/s/versions/0", Value::Null, 42202),
        (&get, "/subjects/s/versions/x", Value::Null, 42202),
        (&get, "/subjects/s/versions/2147483648", Value::Null, 42202),
        (&put, "/config", json!({"compatibility": "SOME"}), 42203),
        (&put, "/config", json!({"compatibilityGroup": "x"}), 422),
        (&put, "/mode", json!({"mode": "SOME"}), 42204),
        (&put, "/mode", json!({"mode": "IMPORT"}), 42205),
        (&post, "/subjects/t/versions", json!({"schema": schema(A), "id": 5}), 42205),
        (&delete, "/subjects/used", Value::Null, 42206),
        (&delete, "/subjects/used/versions/1", Value::Null, 42206),
        (&post, "/subjects/used/versions", json!({"schema": schema(A), "id": 5}), 42207),
        (&post, "/subjects/:.other:s/versions", good.clone(), 42208),
        (&post, "/subjects/s/versions", json!({"schema": "x".repeat(super::super::MAX_SCHEMA_BYTES + 1)}), 42209),
        (&post, "/subjects/s/versions", json!({"schema": "x".repeat(3 * super::super::MAX_SCHEMA_BYTES)}), 42209),
    ];
    for (method, path, body, code) in cases {
        let (status, answer) = call(&registry, method.clone(), path, body).await;
        let wanted = if code > 999 { code / 100 } else { code };
        assert_eq!((u32::from(status), &answer["error_code"]), (wanted, &json!(code)), "{method} {path}: {answer}");
        assert!(answer["message"].is_string());
    }
}

#[actix_web::test]
async fn a_fixed_that_is_larger_than_an_int_can_say_is_no_schema_wherever_it_is() {
    let registry = registry();
    let (largest, beyond) = (u64::from(i32::MAX.unsigned_abs()), [1 << 31, 1 << 32, 1_u64 << 63, u64::MAX]);
    let fixed = |size: u64, more: &str| format!(r#"{{"type":"fixed","name":"F","size":{size}{more}}}"#);
    let decimal = |size| fixed(size, r#","logicalType":"decimal","precision":4,"scale":2"#);
    let field = |size| schema(&format!(r#"{{"name":"a","type":["null",{}]}}"#, fixed(size, "")));
    let places: [&dyn Fn(u64) -> String; 3] = [&|size| fixed(size, ""), &decimal, &field];
    for (number, place) in places.into_iter().enumerate() {
        let path = format!("/subjects/fixed-{number}/versions");
        for size in beyond {
            let (status, answer) = call(&registry, Method::POST, &path, json!({"schema": place(size)})).await;
            assert_eq!((status, &answer["error_code"]), (422, &json!(42201)), "{}: {answer}", place(size));
        }
        let (status, answer) = call(&registry, Method::POST, &path, json!({"schema": place(largest)})).await;
        assert_eq!(status, 200, "{}: {answer}", place(largest));
    }
}
