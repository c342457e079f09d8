//! Appending records: validated against the stream's schema, answered after the broker's acknowledgement.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::{Bytes, BytesMut, Data, Path, Payload, ServiceConfig},
};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use streamward_core::ports::{Appended, NewRecord};

use super::{
    Answer, HttpState, Limits, post,
    problem::{FieldFault, Problem},
};

pub fn routes(config: &mut ServiceConfig) {
    config.service(post("/api/v1/streams/{stream}/records", append));
}

/// Appends records: one JSON object, an array of them, or `{"records": [{"key", "value"}]}`.
#[utoipa::path(post, path = "/api/v1/streams/{stream}/records", tag = "streams",
    params(("stream" = String, Path, description = "Name of the stream")),
    request_body(content = ref("#/components/schemas/AppendRecords"), description = "The records", content_type = "application/json"),
    responses(
        (status = 202, description = "The broker has them", body = ref("#/components/schemas/Appended")),
        (status = 404, description = "No such stream"),
        (status = 413, description = "The body is too large"),
        (status = 422, description = "A record does not fit the schema; none was appended"),
        (status = 503, description = "The broker does not take records; see Retry-After and `records`"),
    ))]
pub async fn append(
    state: Data<HttpState>,
    limits: Data<Limits>,
    stream: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Answer {
    check_content_type(&request)?;
    let body = read(payload, limits.body_bytes).await?;
    let records = records(&body)?;
    if records.len() > limits.records {
        let msg = format!("List should have at most {} items", limits.records);
        return Err(body_fault("too_long", msg, Some(json!({"max_length": limits.records}))));
    }
    if records.is_empty() {
        return Err(body_fault(
            "too_short",
            "List should have at least 1 item".to_owned(),
            Some(json!({"min_length": 1})),
        ));
    }
    let Appended { placed, ignored_fields } = state.ingest.append(&stream, records).await?;
    let mut body = json!({"count": placed.len(), "records": placed});
    if !ignored_fields.is_empty() {
        body["ignored_fields"] = ignored_fields.into();
    }
    if let Some(warning) = state.ingest.warning(&stream) {
        body["warning"] = warning.into();
    }
    Ok(HttpResponse::Accepted().json(body))
}

fn check_content_type(request: &HttpRequest) -> Result<(), Problem> {
    let Some(given) = request.headers().get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let essence = given.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || essence.ends_with("+json") {
        return Ok(());
    }
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be application/json"))
}

/// Reads a body of at most `limit` bytes.
pub async fn read(mut payload: Payload, limit: usize) -> Result<Bytes, Problem> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
        if body.len() + chunk.len() > limit {
            let detail = format!("the body is over {limit} bytes");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow)]
    records: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<'a> {
    #[serde(default)]
    key: Option<String>,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// The records of a body. Each value stays the text that the client wrote.
fn records(body: &[u8]) -> Result<Vec<NewRecord>, Problem> {
    let whole: &RawValue = serde_json::from_slice(body).map_err(|error| {
        let place = json!({"error": error.to_string()});
        body_fault("json_invalid", "JSON decode error".to_owned(), Some(place))
    })?;
    let plain = |value: &RawValue| NewRecord { key: None, value: value.get().as_bytes().to_vec() };
    match whole.get().as_bytes().first() {
        Some(b'[') => {
            let values: Vec<&RawValue> = serde_json::from_str(whole.get()).map_err(|_| not_records())?;
            Ok(values.into_iter().map(plain).collect())
        }
        Some(b'{') => Ok(match serde_json::from_str::<Envelope<'_>>(whole.get()) {
            Ok(envelope) => {
                let record = |entry: Entry<'_>| NewRecord { key: entry.key, ..plain(entry.value) };
                envelope.records.into_iter().map(record).collect()
            }
            Err(_) => vec![plain(whole)],
        }),
        _ => Err(not_records()),
    }
}

fn not_records() -> Problem {
    let msg = "Input should be an object, a list of objects or an object with records".to_owned();
    body_fault("type_error", msg, None)
}

/// A body as JSON of a known shape.
pub fn json_of<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| body_fault("json_invalid", error.to_string(), None))
}

/// 422 about a body as a whole.
pub fn body_fault(kind: &'static str, msg: String, ctx: Option<Value>) -> Problem {
    Problem::unprocessable(&[FieldFault { kind, loc: vec!["body".into()], msg, input: Value::Null, ctx }])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(body: &str) -> Vec<(Option<String>, String)> {
        let records = records(body.as_bytes()).unwrap().into_iter();
        records.map(|record| (record.key, String::from_utf8(record.value).unwrap())).collect()
    }

    #[test]
    fn an_object_a_list_and_an_envelope_are_understood_and_texts_stay_as_written() {
        assert_eq!(texts(r#" {"value": 1.50} "#), [(None, r#"{"value": 1.50}"#.to_owned())]);
        assert_eq!(texts(r#"[{"a":1},  7]"#), [(None, r#"{"a":1}"#.to_owned()), (None, "7".to_owned())]);
        let keyed = r#"{"records":[{"key":"k","value":{"a":1e3}},{"value":null}]}"#;
        assert_eq!(texts(keyed), [(Some("k".to_owned()), r#"{"a":1e3}"#.to_owned()), (None, "null".to_owned())]);
    }

    #[test]
    fn a_record_that_has_a_field_named_records_is_a_record() {
        let text = r#"{"records": 3, "other": 1}"#;
        assert_eq!(texts(text), [(None, text.to_owned())]);
    }

    #[test]
    fn what_is_no_json_or_no_record_is_refused() {
        for body in ["", "{", "[1,]", "7", "\"x\"", "{} {}"] {
            assert!(records(body.as_bytes()).is_err(), "{body}");
        }
    }
}
