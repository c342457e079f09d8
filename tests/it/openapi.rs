//! What the OpenAPI document promises, held against the answers of a running server.

use serde_json::{Value, json};

use crate::support::{
    server::{Node, Server},
    wait::{self, at_least},
};

/// The document of a server, and what was asked of it.
struct Contract {
    document: Value,
    asked: usize,
}

impl Contract {
    /// Asks, and holds status and body against what the document says of the operation.
    async fn ask(&mut self, server: &Server, (method, path): (&str, &str), address: &str, body: Option<&Value>) -> u16 {
        let (status, answer) = server.http.ask(&method.to_ascii_uppercase(), address, body).await;
        let known = &self.document["paths"][path][method]["responses"][status.to_string()];
        assert!(known.is_object(), "{method} {address}: {status} is not in the document: {answer}");
        let contents = known["content"].as_object().and_then(|contents| contents.values().next());
        if let Some(schema) = contents.map(|content| content["schema"].clone()).filter(|schema| !schema.is_null()) {
            let faults = self.faults(&schema, &answer);
            assert!(faults.is_empty(), "{method} {address}: {status}: {faults:?} in {answer}");
        }
        self.asked += 1;
        status
    }

    /// What of a value is not as its shape says.
    fn faults(&self, shape: &Value, value: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        self.look(shape, value, "", &mut faults);
        faults
    }

    /// The words of JSON Schema that the document uses; any other makes the test fail.
    fn look(&self, shape: &Value, value: &Value, place: &str, faults: &mut Vec<String>) {
        for (word, said) in shape.as_object().unwrap() {
            match word.as_str() {
                "$ref" => {
                    let name = said.as_str().unwrap().rsplit('/').next().unwrap();
                    let shape = &self.document["components"]["schemas"][name];
                    assert!(shape.is_object(), "there is no shape {name}");
                    self.look(shape, value, place, faults);
                }
                "type" if !is_of(said, value) => faults.push(format!("{place}: {value} is not of type {said}")),
                "enum" if !said.as_array().unwrap().contains(value) => {
                    faults.push(format!("{place}: {value} is not in {said}"))
                }
                "minimum" if value.as_f64() < said.as_f64() && value.is_number() => {
                    faults.push(format!("{place}: {value} is below {said}"))
                }
                "oneOf" | "anyOf" => {
                    let fitting =
                        said.as_array().unwrap().iter().filter(|shape| self.faults(shape, value).is_empty()).count();
                    if fitting == 0 || (word == "oneOf" && fitting > 1) {
                        faults.push(format!("{place}: {fitting} of {said} fit {value}"));
                    }
                }
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.look(said, item, &format!("{place}/{index}"), faults);
                    }
                }
                "required" => {
                    let names = said.as_array().unwrap().iter().filter_map(Value::as_str);
                    let missing = names.filter(|name| value.is_object() && value.get(name).is_none());
                    faults.extend(missing.map(|name| format!("{place}: {name} is missing")));
                }
                "properties" => {
                    for (name, shape) in said.as_object().unwrap() {
                        if let Some(field) = value.get(name) {
                            self.look(shape, field, &format!("{place}/{name}"), faults);
                        }
                    }
                }
                "additionalProperties" if *said == json!(false) => {
                    let names = value.as_object().into_iter().flat_map(|fields| fields.keys());
                    let unknown = names.filter(|name| shape["properties"].get(name).is_none());
                    faults.extend(unknown.map(|name| format!("{place}: {name} is not known")));
                }
                "type" | "enum" | "minimum" | "additionalProperties" => {}
                // Of requests, or words for readers.
                "maximum" | "minLength" | "maxLength" | "pattern" | "minItems" | "maxItems" | "minProperties"
                | "propertyNames" | "format" | "default" | "contentEncoding" | "description" => {}
                unknown => panic!("{unknown} is not looked at here"),
            }
        }
    }
}

/// Whether a value is of a type, or of one of several.
fn is_of(types: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        unknown => panic!("{unknown} is no type"),
    };
    types.as_str().map_or_else(|| types.as_array().unwrap().iter().filter_map(Value::as_str).any(is), is)
}

/// A path with things in it that exist, or that do not.
fn filled(path: &str, exists: bool) -> String {
    let names = [
        ("{stream}", "sensors"),
        ("{topic}", "sensor-readings"),
        ("{group}", "streamward-sensors"),
        ("{id}", "1"),
        ("{path}", "pipelines/sensors/sink"),
        ("{command}", "inject"),
    ];
    names.iter().fold(path.to_owned(), |path, (name, real)| path.replace(name, if exists { real } else { "404" }))
}

/// A server that has stored readings, alerts or not, a dead letter and a closed window.
async fn server_with_data() -> Server {
    let server = Node::new().with_simulators().start().await;
    let (status, answer) =
        server.http.post("/api/v1/topics/sensor-readings/records", &json!({ "key": "k", "value": "no reading" })).await;
    assert_eq!(status, 201, "{answer}");
    wait::until("there are readings and a dead letter", async || {
        let letters = server.http.try_get("/api/v1/dead-letters").await?;
        at_least(letters["count"].as_u64().unwrap_or(0), &1)?;
        let records = server.http.try_get("/api/v1/streams/sensors/latest").await?;
        at_least(records["count"].as_u64().unwrap_or(0), &1)
    })
    .await;
    server
}

#[actix_rt::test]
async fn every_answer_to_a_get_is_as_the_document_says() {
    let server = server_with_data().await;
    let mut contract = Contract { document: server.http.get("/openapi.json").await, asked: 0 };
    let operations = contract.document["paths"].as_object().unwrap().clone();
    for (path, methods) in &operations {
        // Its text is for Prometheus, and a WebSocket has its own tests.
        if methods["get"].is_null() || path == "/metrics" || path.starts_with("/ws/") {
            continue;
        }
        let status = contract.ask(&server, ("get", path), &filled(path, true), None).await;
        assert_eq!(status, 200, "{path}");
        let parameters = methods["get"]["parameters"].as_array().into_iter().flatten();
        for parameter in parameters.filter(|parameter| parameter["in"] == "query") {
            let name = parameter["name"].as_str().unwrap();
            for value in ["", "null", "-1", "99999999999999999999"] {
                contract.ask(&server, ("get", path), &format!("{}?{name}={value}", filled(path, true)), None).await;
            }
        }
        if path.contains('{') {
            let status = contract.ask(&server, ("get", path), &filled(path, false), None).await;
            assert_eq!(status, 404, "{path}");
        }
    }
    assert!(contract.asked > 100, "{}", contract.asked);
}

#[actix_rt::test]
async fn what_a_parameter_may_be_is_taken_and_anything_else_is_not() {
    let server = server_with_data().await;
    let mut contract = Contract { document: server.http.get("/openapi.json").await, asked: 0 };
    let operations = contract.document["paths"].as_object().unwrap().clone();
    let mut words = 0;
    for (path, methods) in operations.iter().filter(|(_, methods)| methods["get"].is_object()) {
        for parameter in methods["get"]["parameters"].as_array().into_iter().flatten() {
            let (name, schema) = (parameter["name"].as_str().unwrap(), &parameter["schema"]);
            let Some(allowed) = schema["enum"].as_array() else { continue };
            for value in allowed {
                let address = format!("{}?{name}={}", filled(path, true), value.as_str().unwrap());
                assert_eq!(contract.ask(&server, ("get", path), &address, None).await, 200, "{address}");
                words += 1;
            }
            let address = format!("{}?{name}=something", filled(path, true));
            assert_eq!(contract.ask(&server, ("get", path), &address, None).await, 422, "{address}");
        }
    }
    assert_eq!(words, 8, "two states, four classes, two orders");
}

#[actix_rt::test]
async fn bodies_as_the_document_has_them_are_taken_and_their_answers_are_as_it_says() {
    let server = server_with_data().await;
    let mut contract = Contract { document: server.http.get("/openapi.json").await, asked: 0 };
    let reading = json!({
        "sensor_id": "s", "sensor_type": "humidity", "value": 1.5, "timestamp": "2026-01-01T00:00:00Z", "location": "l",
        "metadata": { "battery_level": 1, "signal_strength": -1 }
    });
    let node = "/api/v1/supervision/{path}";
    let cases = [
        ("post", "/api/v1/streams/{stream}/records", "AppendRecords", reading.clone(), 202),
        ("post", "/api/v1/streams/{stream}/records", "AppendRecords", json!([reading]), 202),
        (
            "post",
            "/api/v1/streams/{stream}/records",
            "AppendRecords",
            json!({ "records": [{ "value": reading }] }),
            202,
        ),
        ("post", "/api/v1/topics", "NewTopic", json!({ "name": "made", "configs": { "retention.ms": 60_000 } }), 201),
        ("patch", "/api/v1/topics/{topic}", "TopicChange", json!({ "configs": { "retention.ms": null } }), 200),
        (
            "post",
            "/api/v1/topics/{topic}/records",
            "NewRecord",
            json!({ "value": { "json": [1] }, "partition": 0 }),
            201,
        ),
        ("post", "/api/v1/groups/{group}/offsets", "MoveGroup", json!({ "topic": "made", "to": "earliest" }), 409),
        ("patch", &format!("{node}/policy"), "Policy", json!({ "stop_within": "7s" }), 200),
        ("post", &format!("{node}/{{command}}"), "Fault", json!({ "fault": "panic" }), 403),
        ("post", &format!("{node}/drill"), "Drill", json!({ "fault": "panic", "within_ms": 5 }), 403),
    ];
    for (method, path, shape, body, wanted) in &cases {
        let operation = &contract.document["paths"][path][method];
        let of_body = operation["requestBody"]["content"]["application/json"]["schema"].clone();
        assert_eq!(of_body["$ref"], format!("#/components/schemas/{shape}"), "{method} {path}");
        let faults = contract.faults(&of_body, body);
        assert!(faults.is_empty(), "{method} {path}: {faults:?}");
        let status = contract.ask(&server, (method, path), &filled(path, true), Some(body)).await;
        assert_eq!(status, *wanted, "{method} {path}");
        let wrong = json!("no object");
        assert!(!contract.faults(&of_body, &wrong).is_empty(), "{shape} takes anything");
        let status = contract.ask(&server, (method, path), &filled(path, true), Some(&wrong)).await;
        assert!([403, 409, 422].contains(&status), "{method} {path}: {status}");
    }
}
