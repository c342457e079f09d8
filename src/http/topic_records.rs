//! Records of a topic: a page of them as people read them, and one written.

use std::collections::BTreeSet;

use actix_web::{
    HttpResponse,
    web::{self, Data, Path, Payload, ReqData, ServiceConfig},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use streamward_core::{
    decode::avro::{FRAME_BYTES, MAGIC},
    ports::{
        EncodeError, ValueDecoder,
        topics::{Bytes, LogRecord, ReadFrom, RecordPage, RecordQuery, RecordToWrite},
    },
};

use super::{
    Answer, HttpState, Limits,
    access::Caller,
    method_not_allowed,
    params::Params,
    problem::Problem,
    records::{body_fault, read},
    streams::MAX_LIMIT,
    time_text,
    topics::{field_fault, object},
};

const DEFAULT_LIMIT: u32 = 50;
/// Most headers that a record is written with.
const MAX_HEADERS: usize = 100;
/// Most memory that the decoded keys and values of a page take, about; the rest is shown undecoded.
const MAX_DECODED_BYTES: usize = 32 << 20;
/// About what one JSON value takes in memory besides its text.
const VALUE_BYTES: usize = 32;

pub fn routes(config: &mut ServiceConfig) {
    config.service(
        web::resource("/api/v1/topics/{topic}/records")
            .route(web::get().to(records))
            .route(web::head().to(records))
            .route(web::post().to(produce))
            .default_service(web::to(|| async { method_not_allowed("GET, HEAD, POST") })),
    );
}

/// Records of a topic, decoded; newest first, or oldest first from an offset or a time. No offset is committed and no
/// group joined. One request looks at 20,000 records at most and says in `scanned` how far it looked.
#[utoipa::path(get, path = "/api/v1/topics/{topic}/records", tag = "topics",
    params(
        ("topic" = String, Path, description = "Name of the topic"),
        ("partition" = Option<i32>, Query, minimum = 0, description = "Only this partition; needed above 100 partitions"),
        ("order" = Option<String>, Query, description = "What comes first, default newest"),
        ("offset" = Option<i64>, Query, minimum = 0, description = "From this offset on, oldest first"),
        ("time" = Option<String>, Query, description = "From this time on, oldest first; RFC 3339 or milliseconds since 1970"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "Most records, default 50. Keys and values are shown up to 128 KiB, up to 4 MiB with a limit of 1; a page ends after 8 MiB"),
        ("key" = Option<String>, Query, description = "Only records with this key"),
        ("contains" = Option<String>, Query, description = "Only records whose key, value or a header's value has these bytes in it"),
        ("cursor" = Option<String>, Query, description = "The `next` or `previous` of another page"),
    ),
    responses(
        (status = 200, description = "A page of records", body = ref("#/components/schemas/TopicRecords")),
        (status = 404, description = "No such topic or partition"),
        (status = 422, description = "A parameter is wrong"),
        (status = 503, description = "The broker does not deliver"),
    ))]
pub async fn records(state: Data<HttpState>, topic: Path<String>, mut params: Params) -> Answer {
    let query = query(topic.into_inner(), &mut params)?;
    params.finish()?;
    let page = state.topics.records(query).await?;
    look_up(&page, &*state.decoder).await;
    let mut decoding = Decoding { decoder: &*state.decoder, left: MAX_DECODED_BYTES };
    let mut shown = Vec::with_capacity(page.records.len());
    for record in &page.records {
        shown.push(decoding.shown(record).await);
    }
    Ok(HttpResponse::Ok().json(body(&page, &shown)))
}

fn query(topic: String, params: &mut Params) -> Result<RecordQuery, Problem> {
    let order = params.one_of("order", &["newest", "oldest"]);
    let (offset, time_ms, cursor) = (params.number("offset"), params.time_ms("time"), params.text("cursor"));
    let partition = params.number("partition").map(|number| i32::try_from(number).unwrap_or(i32::MAX));
    let from = match (offset, time_ms, cursor) {
        (None, None, None) if order.as_deref() == Some("oldest") => ReadFrom::Oldest,
        (None, None, None) => ReadFrom::Newest,
        (Some(offset), None, None) => ReadFrom::Offset(offset),
        (None, Some(time_ms), None) => ReadFrom::TimeMs(time_ms),
        (None, None, Some(cursor)) => ReadFrom::Cursor(cursor),
        _ => return Err(body_fault("value_error", "offset, time and cursor exclude each other".to_owned(), None)),
    };
    let bytes = |text: Option<String>| text.filter(|text| !text.is_empty()).map(String::into_bytes);
    Ok(RecordQuery {
        topic,
        partition,
        from,
        limit: params.integer("limit", DEFAULT_LIMIT, 1..=MAX_LIMIT),
        key: bytes(params.text("key")),
        contains: bytes(params.text("contains")),
    })
}

fn body(page: &RecordPage, records: &[Value]) -> Value {
    let range = |(partition, from, to): &(i32, i64, i64)| json!({ "partition": partition, "from": from, "to": to });
    let ranges: Vec<Value> = page.scan.ranges.iter().map(range).collect();
    json!({
        "total": page.total, "count": records.len(), "next": page.next, "previous": page.previous,
        "scanned": { "records": page.scan.records, "complete": page.scan.is_complete, "partitions": ranges },
        "records": records,
    })
}

/// Has the decoder ask for all schemas of a page at once, so that decoding waits for none. A frame alone names one.
async fn look_up(page: &RecordPage, decoder: &dyn ValueDecoder) {
    let contents = page.records.iter().flat_map(|record| [&record.key, &record.value]).flatten();
    let whole = contents.filter(|bytes| !bytes.is_cut());
    let frames: BTreeSet<&[u8; FRAME_BYTES]> =
        whole.filter_map(|bytes| bytes.held.first_chunk()).filter(|frame| frame[0] == MAGIC).collect();
    join_all(frames.into_iter().map(|frame| decoder.decode(frame))).await;
}

/// Decodes the records of a page, one after the other.
struct Decoding<'a> {
    decoder: &'a dyn ValueDecoder,
    /// Bytes of memory that further keys and values may take.
    left: usize,
}

impl Decoding<'_> {
    async fn shown(&mut self, record: &LogRecord) -> Value {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, |bytes| bytes.length);
        json!({
            "partition": record.partition, "offset": record.offset,
            "timestamp": record.timestamp_ms.map(time_text),
            "key": self.content(record.key.as_ref()).await,
            "value": self.content(record.value.as_ref()).await,
            "headers": record.headers.iter().map(header).collect::<Vec<_>>(),
            "size": length(&record.key) + length(&record.value),
        })
    }

    /// Bytes as people read them best: decoded, as JSON, as text, else as base64.
    async fn content(&mut self, bytes: Option<&Bytes>) -> Value {
        let Some(bytes) = bytes else { return Value::Null };
        let decoded = if bytes.is_cut() { None } else { self.decoded(&bytes.held).await };
        let mut shown = match (decoded, bytes.held.first_chunk()) {
            (Some(data), Some([MAGIC, a, b, c, d])) => {
                json!({ "format": "avro", "data": data, "schema_id": u32::from_be_bytes([*a, *b, *c, *d]) })
            }
            (Some(data), _) => json!({ "format": "json", "data": data }),
            (None, _) => match readable(bytes) {
                Some(text) => json!({ "format": "text", "data": text }),
                None => json!({ "format": "base64", "data": STANDARD.encode(&bytes.held) }),
            },
        };
        shown["bytes"] = bytes.length.into();
        shown["truncated"] = bytes.is_cut().into();
        shown
    }

    /// None also where the page's memory is used up.
    async fn decoded(&mut self, bytes: &[u8]) -> Option<Value> {
        if self.left == 0 {
            return None;
        }
        let data = self.decoder.decode(bytes).await?;
        self.left = self.left.saturating_sub(memory(&data));
        Some(data)
    }
}

/// About how many bytes a value takes in memory.
fn memory(value: &Value) -> usize {
    let inside: usize = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(memory).sum(),
        Value::Object(fields) => fields.iter().map(|(name, field)| name.len() + memory(field)).sum(),
    };
    VALUE_BYTES + inside
}

/// The text of bytes that are one; a character that the cut has hit is left out.
fn readable(bytes: &Bytes) -> Option<&str> {
    let text = match std::str::from_utf8(&bytes.held) {
        Ok(text) => text,
        Err(error) if bytes.is_cut() && error.error_len().is_none() => {
            std::str::from_utf8(&bytes.held[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let is_text = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    text.chars().all(is_text).then_some(text)
}

/// `name` always shows something; `name_base64` has the bytes where it cannot show them all.
fn header((name, value): &(Vec<u8>, Option<Vec<u8>>)) -> Value {
    let shown = String::from_utf8_lossy(name);
    let mut header = match value.as_ref().map(|value| (std::str::from_utf8(value), value)) {
        None => json!({ "name": shown, "value": null }),
        Some((Ok(text), _)) => json!({ "name": shown, "value": text }),
        Some((Err(_), value)) => json!({ "name": shown, "value_base64": STANDARD.encode(value) }),
    };
    if shown.as_bytes() != name.as_slice() {
        header["name_base64"] = STANDARD.encode(name).into();
    }
    header
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record<'a> {
    #[serde(default)]
    partition: Option<i32>,
    #[serde(default, borrow)]
    key: Option<&'a RawValue>,
    #[serde(default, borrow)]
    value: Option<&'a RawValue>,
    #[serde(default)]
    headers: Vec<Header>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    name: String,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    value_base64: Option<String>,
}

/// One of these.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content<'a> {
    #[serde(default)]
    text: Option<String>,
    #[serde(default, borrow)]
    json: Option<&'a RawValue>,
    #[serde(default)]
    base64: Option<String>,
    /// With `json`: encode it by this subject's latest schema.
    #[serde(default)]
    subject: Option<String>,
}

/// Writes one record and waits for the broker's acknowledgement.
#[utoipa::path(post, path = "/api/v1/topics/{topic}/records", tag = "topics",
    params(("topic" = String, Path, description = "Name of the topic")),
    request_body(content = ref("#/components/schemas/NewRecord"), description = "The record", content_type = "application/json"),
    responses(
        (status = 201, description = "The broker has it", body = ref("#/components/schemas/Placed")),
        (status = 404, description = "No such topic or partition"),
        (status = 409, description = "The topic does not take such a record"),
        (status = 413, description = "The body is too large"),
        (status = 422, description = "The body is wrong, or does not fit the schema"),
    ))]
pub async fn produce(
    state: Data<HttpState>,
    limits: Data<Limits>,
    topic: Path<String>,
    caller: ReqData<Caller>,
    payload: Payload,
) -> Answer {
    let body = read(payload, limits.body_bytes).await?;
    let record: Record<'_> = object(&body)?;
    if record.headers.len() > MAX_HEADERS {
        return Err(field_fault("headers", format!("a record has at most {MAX_HEADERS} headers here")));
    }
    let headers = record.headers.into_iter().map(header_bytes).collect::<Result<_, Problem>>()?;
    let written = RecordToWrite {
        partition: record.partition,
        key: bytes("key", record.key, &state).await?,
        value: bytes("value", record.value, &state).await?,
        headers,
    };
    let placed = state.topics.produce(topic.clone(), written).await?;
    let (partition, offset) = (placed.partition, placed.offset);
    tracing::info!(who = caller.name, topic = topic.as_str(), partition, offset, "record written");
    Ok(HttpResponse::Created().json(placed))
}

fn header_bytes(header: Header) -> Result<(String, Option<Vec<u8>>), Problem> {
    let value = match (header.value, header.value_base64) {
        (text, None) => text.map(String::into_bytes),
        (None, Some(base64)) => Some(decoded_base64("headers", &base64)?),
        (Some(_), Some(_)) => {
            return Err(field_fault("headers", format!("{} has a value and a value_base64: give one", header.name)));
        }
    };
    Ok((header.name, value))
}

fn decoded_base64(field: &str, text: &str) -> Result<Vec<u8>, Problem> {
    STANDARD.decode(text).map_err(|error| field_fault(field, format!("this is no base64: {error}")))
}

async fn bytes(field: &'static str, given: Option<&RawValue>, state: &HttpState) -> Result<Option<Vec<u8>>, Problem> {
    let Some(given) = given else { return Ok(None) };
    let wrong = || field_fault(field, "give a text, null, or an object with one of text, json and base64".to_owned());
    match given.get().as_bytes().first() {
        Some(b'n') => return Ok(None),
        Some(b'"') => {
            let text: String = serde_json::from_str(given.get()).map_err(|_| wrong())?;
            return Ok(Some(text.into_bytes()));
        }
        _ => {}
    }
    let content: Content<'_> = serde_json::from_str(given.get()).map_err(|_| wrong())?;
    match (content.text, content.json, content.base64, content.subject) {
        (Some(text), None, None, None) => Ok(Some(text.into_bytes())),
        (None, None, Some(base64), None) => Ok(Some(decoded_base64(field, &base64)?)),
        (None, Some(json), None, None) => Ok(Some(json.get().as_bytes().to_vec())),
        (None, Some(json), None, Some(subject)) => {
            let encoded = state.encoder.encode(&subject, json.get().as_bytes()).await;
            Ok(Some(encoded.map_err(|error| encode_problem(field, error))?))
        }
        _ => Err(wrong()),
    }
}

fn encode_problem(field: &str, error: EncodeError) -> Problem {
    let text = error.to_string();
    match error {
        EncodeError::UnknownSubject(_) | EncodeError::Invalid(_) => field_fault(field, text),
        EncodeError::Unavailable(reason) => {
            tracing::warn!(reason, "the registry did not answer");
            Problem::unavailable(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use streamward_core::ports::Decoded;

    use super::*;

    struct Json;

    impl ValueDecoder for Json {
        fn decode<'a>(&'a self, value: &'a [u8]) -> Decoded<'a> {
            Box::pin(std::future::ready(serde_json::from_slice(value).ok()))
        }
    }

    #[actix_web::test]
    async fn what_a_page_has_no_memory_for_is_shown_undecoded() {
        let bytes = |held: &[u8]| Bytes { held: held.to_vec(), length: held.len() as u64 };
        let mut decoding = Decoding { decoder: &Json, left: memory(&json!([1, 2])) + 1 };
        let mut formats = Vec::new();
        for _ in 0..3 {
            let shown = decoding.content(Some(&bytes(b"[1, 2]"))).await;
            formats.push((shown["format"].clone(), shown["data"].clone()));
        }
        let (decoded, text) = ((json!("json"), json!([1, 2])), (json!("text"), json!("[1, 2]")));
        assert_eq!(formats, [decoded.clone(), decoded, text]);
    }

    #[test]
    fn memory_counts_every_value_and_its_text() {
        assert_eq!(memory(&json!({"ab": ["cde", null]})), 4 * VALUE_BYTES + 5);
    }
}
