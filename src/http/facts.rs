//! Alerts and dead letters.

use actix_web::{
    HttpResponse,
    web::{Data, Path, ServiceConfig},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future::join_all;
use serde_json::{Value, json};
use streamward_core::{
    ports::{AlertQuery, DeadLetterQuery, DeadLetterRow, Page, ValueDecoder},
    steps::rule::SEVERITIES,
};

use super::{Answer, HttpState, get, list, params::Params, problem::Problem, streams::page_request, time_text};

pub fn routes(config: &mut ServiceConfig) {
    config
        .service(get("/api/v1/alerts", alerts))
        .service(get("/api/v1/dead-letters", dead_letters))
        .service(get("/api/v1/dead-letters/{id}", dead_letter));
}

/// Alerts with their newest state, in the order in which they fired, newest first.
#[utoipa::path(get, path = "/api/v1/alerts", tag = "facts",
    params(
        ("state" = Option<String>, Query, description = "Only this state: `firing` or `resolved`"),
        ("severity" = Option<String>, Query, description = "Only this severity: `info`, `warning` or `critical`"),
        ("rule" = Option<String>, Query, description = "Only this rule"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "Most alerts, default 50"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before"),
    ),
    responses((status = 200, description = "A page of alerts", body = ref("#/components/schemas/Alerts")), (status = 422, description = "A parameter is wrong")))]
pub async fn alerts(state: Data<HttpState>, mut params: Params) -> Answer {
    let query = AlertQuery {
        state: params.one_of("state", &["firing", "resolved"]),
        severity: params.one_of("severity", &SEVERITIES),
        rule: params.text("rule"),
        page: page_request(&mut params),
    };
    params.finish()?;
    Ok(list("alerts", state.reads.alerts(query).await?, Value::Object))
}

/// Dead letters, newest first; long values are cut.
#[utoipa::path(get, path = "/api/v1/dead-letters", tag = "facts",
    params(
        ("topic" = Option<String>, Query, description = "Only of this topic"),
        ("partition" = Option<i64>, Query, minimum = 0, description = "Only of this partition"),
        ("offset" = Option<i64>, Query, minimum = 0, description = "Only of this offset"),
        ("class" = Option<String>, Query, description = "Only this class: `decode`, `contract`, `permanent` or `poison`"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "Most dead letters, default 50"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before"),
    ),
    responses((status = 200, description = "A page of dead letters", body = ref("#/components/schemas/DeadLetters")), (status = 422, description = "A parameter is wrong")))]
pub async fn dead_letters(state: Data<HttpState>, mut params: Params) -> Answer {
    let query = DeadLetterQuery {
        topic: params.text("topic"),
        partition: params.number("partition"),
        offset: params.number("offset"),
        class: params.one_of("class", &["decode", "contract", "permanent", "poison"]),
        page: page_request(&mut params),
    };
    params.finish()?;
    let page = state.reads.dead_letters(query).await?;
    let shown = join_all(page.items.iter().map(|letter| shown(letter, &*state.decoder))).await;
    let page = Page { items: shown, total: page.total, total_is_estimate: page.total_is_estimate, next: page.next };
    Ok(list("dead_letters", page, |letter| letter))
}

/// One dead letter with its whole value.
#[utoipa::path(get, path = "/api/v1/dead-letters/{id}", tag = "facts",
    params(("id" = i64, Path, description = "Id of the dead letter")),
    responses((status = 200, description = "The dead letter", body = ref("#/components/schemas/DeadLetter")), (status = 404, description = "No such dead letter")))]
pub async fn dead_letter(state: Data<HttpState>, id: Path<String>) -> Answer {
    let id = id.parse().map_err(|_| Problem::not_found())?;
    let letter = state.reads.dead_letter(id).await?.ok_or_else(Problem::not_found)?;
    Ok(HttpResponse::Ok().json(shown(&letter, &*state.decoder).await))
}

async fn shown(letter: &DeadLetterRow, decoder: &dyn ValueDecoder) -> Value {
    let is_cut = letter.value.as_ref().is_some_and(|value| (value.len() as u64) < letter.value_length);
    let decoded = match letter.value.as_ref().filter(|_| !is_cut) {
        Some(value) => decoder.decode(value).await,
        None => None,
    };
    json!({
        "id": letter.id, "sink": letter.sink, "topic": letter.topic, "partition": letter.partition,
        "offset": letter.offset, "stage": letter.stage, "class": letter.class, "reason": letter.reason,
        "state": letter.state, "key_base64": base64(letter.key.as_deref()), "key_text": text(letter.key.as_deref()),
        "value_base64": base64(letter.value.as_deref()), "value_text": text(letter.value.as_deref()),
        "value_length": letter.value_length, "value_truncated": is_cut, "decoded": decoded,
        "headers": letter.headers, "log_timestamp": (letter.log_timestamp_ms >= 0).then(|| time_text(letter.log_timestamp_ms)),
        "created_at": time_text(letter.created_at_ms), "undeliverable": letter.undeliverable,
    })
}

fn base64(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| STANDARD.encode(bytes))
}

fn text(bytes: Option<&[u8]>) -> Option<&str> {
    bytes.and_then(|bytes| std::str::from_utf8(bytes).ok())
}
