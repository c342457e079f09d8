//! Topics of the broker: list, one of them, create, alter, delete.

use std::collections::BTreeMap;

use actix_web::{
    HttpResponse, Resource,
    http::StatusCode,
    web::{self, Data, Path, Payload, ReqData, ServiceConfig},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use streamward_broker::MAX_PARTITIONS_PER_TOPIC;
use streamward_core::ports::topics::{
    Deletion, LogBounds, NewTopic, PartitionDetail, TopicChange, TopicDetail, TopicError, TopicSummary, TopicUse,
};

use super::{
    Answer, HttpState,
    access::Caller,
    groups, list, method_not_allowed,
    params::Params,
    problem::{FieldFault, Problem},
    records::{body_fault, json_of, read},
};

/// A change is one small object.
const MAX_CHANGE_BYTES: usize = 64 << 10;
/// Most topics of a page.
const MAX_LIMIT: u32 = 1_000;
const DEFAULT_LIMIT: u32 = 500;
/// Longest name of a topic, in bytes (KAFKA-4893).
const MAX_NAME: usize = 249;

pub fn routes(config: &mut ServiceConfig) {
    config
        .service(
            read_resource("/api/v1/topics", web::get().to(topics), web::head().to(topics))
                .route(web::post().to(create))
                .default_service(web::to(|| async { method_not_allowed("GET, HEAD, POST") })),
        )
        .service(
            read_resource("/api/v1/topics/{topic}", web::get().to(topic), web::head().to(topic))
                .route(web::patch().to(alter))
                .route(web::delete().to(delete))
                .default_service(web::to(|| async { method_not_allowed("GET, HEAD, PATCH, DELETE") })),
        );
}

fn read_resource(path: &str, get: actix_web::Route, head: actix_web::Route) -> Resource {
    web::resource(path).route(get).route(head)
}

/// Topics of the broker, by name.
#[utoipa::path(get, path = "/api/v1/topics", tag = "topics",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Most topics, default 500"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of topics", body = ref("#/components/schemas/Topics")),
        (status = 422, description = "A parameter is wrong"),
        (status = 503, description = "The broker does not answer"),
    ))]
pub async fn topics(state: Data<HttpState>, mut params: Params) -> Answer {
    let limit = params.integer("limit", DEFAULT_LIMIT, 1..=MAX_LIMIT);
    let after = params.text("cursor");
    params.finish()?;
    Ok(list("topics", state.topics.list(after, limit).await?, |topic| summary(&topic)))
}

/// One topic: partitions, configs, and the groups that read it.
#[utoipa::path(get, path = "/api/v1/topics/{topic}", tag = "topics",
    params(("topic" = String, Path, description = "Name of the topic")),
    responses(
        (status = 200, description = "The topic", body = ref("#/components/schemas/Topic")),
        (status = 404, description = "No such topic"),
        (status = 503, description = "The broker does not answer"),
    ))]
pub async fn topic(state: Data<HttpState>, topic: Path<String>) -> Answer {
    Ok(HttpResponse::Ok().json(detail(&state.topics.describe(topic.into_inner()).await?)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Creation {
    name: String,
    #[serde(default)]
    partitions: Option<u32>,
    #[serde(default)]
    configs: BTreeMap<String, Value>,
}

/// Creates a topic.
#[utoipa::path(post, path = "/api/v1/topics", tag = "topics",
    request_body(content = ref("#/components/schemas/NewTopic"), description = "The topic to make; what is left out is as the configuration has it, for the topics that it names, else 1 partition and the broker's settings", content_type = "application/json"),
    responses(
        (status = 201, description = "The topic", body = ref("#/components/schemas/TopicCreated")),
        (status = 409, description = "There is one of this name, or the broker refuses"),
        (status = 422, description = "Name, partitions or configs are wrong"),
    ))]
pub async fn create(state: Data<HttpState>, caller: ReqData<Caller>, payload: Payload) -> Answer {
    let Creation { name, partitions, configs } = parse(payload).await?;
    check_name(&name)?;
    partitions.map_or(Ok(()), check_partitions)?;
    let text = |(name, value): (String, Value)| Ok((name.clone(), config_text(&name, value)?));
    let configs = configs.into_iter().map(text).collect::<Result<_, Problem>>()?;
    let partitions = state.topics.create(NewTopic { name: name.clone(), partitions, configs }).await?;
    tracing::info!(who = caller.name, topic = name, partitions, "topic created");
    Ok(HttpResponse::Created().json(json!({ "topic": name, "partitions": partitions })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Alteration {
    #[serde(default)]
    partitions: Option<u32>,
    #[serde(default)]
    configs: BTreeMap<String, Value>,
}

/// Adds partitions, sets configs or takes them back to their defaults.
#[utoipa::path(patch, path = "/api/v1/topics/{topic}", tag = "topics",
    params(("topic" = String, Path, description = "Name of the topic")),
    request_body(content = ref("#/components/schemas/TopicChange"), description = "What to change", content_type = "application/json"),
    responses(
        (status = 200, description = "The topic as it is then", body = ref("#/components/schemas/Topic")),
        (status = 404, description = "No such topic"),
        (status = 422, description = "Partitions or configs are wrong"),
    ))]
pub async fn alter(state: Data<HttpState>, topic: Path<String>, caller: ReqData<Caller>, payload: Payload) -> Answer {
    let (topic, Alteration { partitions, configs }) = (topic.into_inner(), parse(payload).await?);
    partitions.map_or(Ok(()), check_partitions)?;
    if partitions.is_none() && configs.is_empty() {
        return Err(body_fault("value_error", "partitions or configs is needed".to_owned(), None));
    }
    let names = configs.keys().cloned().collect::<Vec<_>>().join(", ");
    let text = |(name, value): (String, Value)| match value {
        Value::Null => Ok((name, None)),
        value => Ok((name.clone(), Some(config_text(&name, value)?))),
    };
    let configs = configs.into_iter().map(text).collect::<Result<_, Problem>>()?;
    state.topics.alter(topic.clone(), TopicChange { partitions, configs }).await?;
    tracing::info!(who = caller.name, topic, partitions, configs = names, "topic altered");
    Ok(HttpResponse::Ok().json(detail(&state.topics.describe(topic).await?)))
}

/// Deletes a topic with all its records.
#[utoipa::path(delete, path = "/api/v1/topics/{topic}", tag = "topics",
    params(
        ("topic" = String, Path, description = "Name of the topic"),
        ("force" = Option<bool>, Query, description = "Also one that a stream or Streamward itself uses"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "No such topic"),
        (status = 409, description = "It is in use; the detail says by whom"),
        (status = 422, description = "A parameter is wrong"),
    ))]
pub async fn delete(
    state: Data<HttpState>,
    topic: Path<String>,
    caller: ReqData<Caller>,
    mut params: Params,
) -> Answer {
    let topic = topic.into_inner();
    let deletion = match params.one_of("force", &["true", "false"]).as_deref() {
        Some("true") => Deletion::Forced,
        _ => Deletion::Guarded,
    };
    params.finish()?;
    state.topics.delete(topic.clone(), deletion).await?;
    tracing::info!(who = caller.name, topic, ?deletion, "topic deleted");
    Ok(HttpResponse::NoContent().finish())
}

/// The JSON object of a small body.
pub async fn parse<T: DeserializeOwned>(payload: Payload) -> Result<T, Problem> {
    object(&read(payload, MAX_CHANGE_BYTES).await?)
}

/// The JSON object of a body; a list would pass for one whose names are left out.
pub fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(body_fault("type_error", "Input should be an object".to_owned(), None));
    }
    json_of(body)
}

fn check_name(name: &str) -> Result<(), Problem> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let is_name = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_legal) && name != "." && name != "..";
    let msg = format!("a topic's name is 1 to {MAX_NAME} letters, digits, '.', '_' and '-'");
    if is_name { Ok(()) } else { Err(field_fault("name", msg)) }
}

fn check_partitions(partitions: u32) -> Result<(), Problem> {
    let msg = format!("a topic has 1 to {MAX_PARTITIONS_PER_TOPIC} partitions");
    if (1..=i64::from(MAX_PARTITIONS_PER_TOPIC)).contains(&i64::from(partitions)) {
        Ok(())
    } else {
        Err(field_fault("partitions", msg))
    }
}

/// Settings are texts for the broker; numbers and truth values are taken as they are written.
fn config_text(name: &str, value: Value) -> Result<String, Problem> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(field_fault("configs", format!("{name} needs a text, a number or true or false")))
        }
    }
}

/// 422 about a field of the body.
pub fn field_fault(field: &str, msg: String) -> Problem {
    fault(vec!["body".into(), field.into()], msg)
}

fn fault(loc: Vec<Value>, msg: String) -> Problem {
    Problem::unprocessable(&[FieldFault { kind: "value_error", loc, msg, input: Value::Null, ctx: None }])
}

fn summary(topic: &TopicSummary) -> Value {
    let partitions: Vec<Value> = topic.logs.iter().map(bounds).collect();
    let mut shown = common(&topic.name, topic.used_by.as_ref(), topic.logs.iter());
    shown["partitions"] = partitions.into();
    shown["bytes"] = topic.bytes.into();
    shown["cleanup_policy"] = topic.cleanup_policy.clone().into();
    shown
}

fn common<'a>(name: &str, used_by: Option<&TopicUse>, logs: impl Iterator<Item = &'a LogBounds>) -> Value {
    let (stream, used_by) = match used_by {
        Some(TopicUse::Stream(stream)) => (Some(stream.as_str()), Some(format!("stream {stream}"))),
        Some(TopicUse::Own(what)) => (None, Some((*what).to_owned())),
        None => (None, None),
    };
    let internal = name.starts_with("__") || (stream.is_none() && used_by.is_some());
    let records: u64 = logs.map(LogBounds::records).sum();
    json!({ "topic": name, "stream": stream, "used_by": used_by, "internal": internal, "records": records })
}

fn bounds(log: &LogBounds) -> Value {
    json!({ "partition": log.partition, "log_start": log.start, "log_end": log.end, "records": log.records() })
}

fn detail(topic: &TopicDetail) -> Value {
    let partition = |partition: &PartitionDetail| {
        let mut shown = bounds(&partition.log);
        shown["leader"] = partition.leader.into();
        shown["replicas"] = partition.replicas.clone().into();
        shown["in_sync"] = partition.in_sync.clone().into();
        shown
    };
    let policy = topic.configs.iter().find(|config| config.name == "cleanup.policy");
    let mut shown = common(&topic.name, topic.used_by.as_ref(), topic.partitions.iter().map(|one| &one.log));
    shown["bytes"] = topic.bytes.into();
    shown["cleanup_policy"] = policy.and_then(|policy| policy.value.clone()).into();
    shown["partitions"] = topic.partitions.iter().map(partition).collect();
    shown["configs"] = json!(topic.configs);
    shown["groups"] = topic.groups.iter().map(groups::detail).collect();
    shown["groups_not_asked"] = topic.groups_not_asked.into();
    shown
}

impl From<TopicError> for Problem {
    fn from(error: TopicError) -> Self {
        let text = error.to_string();
        match error {
            TopicError::UnknownTopic(_) | TopicError::UnknownGroup(_) | TopicError::UnknownPartition { .. } => {
                Self::new(StatusCode::NOT_FOUND, text)
            }
            TopicError::Exists(_) | TopicError::Refused(_) => Self::new(StatusCode::CONFLICT, text),
            TopicError::Invalid { field, reason } => fault(vec![field.into()], reason),
            TopicError::BadCursor => fault(vec!["query".into(), "cursor".into()], text),
            TopicError::Busy(_) => Self::unavailable(text),
            TopicError::Unavailable(reason) => {
                tracing::warn!(reason, "the broker did not answer about its topics");
                Self::unavailable(text)
            }
        }
    }
}
