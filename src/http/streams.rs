//! Reads of any stream.

use actix_web::{
    HttpResponse,
    web::{Data, Path, ServiceConfig},
};
use serde_json::{Value, json};
use streamward_core::ports::{Counting, PageRequest, RowQuery, StatsQuery, StreamSummary, WindowQuery};

use super::{Answer, HttpState, get, list, params::Params, problem::Problem, sensors, time_text, whole};
use crate::clock::now_ms;

/// Most items of a page.
pub const MAX_LIMIT: u32 = 500;
const DEFAULT_LIMIT: u32 = 50;
/// Parameter that names columns which must be null: their own parameters take texts.
const IS_NULL: &str = "is_null";

pub fn routes(config: &mut ServiceConfig) {
    config
        .service(get("/api/v1/streams", streams))
        .service(get("/api/v1/streams/{stream}/latest", latest))
        .service(get("/api/v1/streams/{stream}/anomalies", anomalies))
        .service(get("/api/v1/streams/{stream}/stats", stats))
        .service(get("/api/v1/streams/{stream}/windows", windows));
}

/// All streams: their columns, windows and what is stored of them.
#[utoipa::path(get, path = "/api/v1/streams", tag = "streams", responses((status = 200, description = "The streams", body = ref("#/components/schemas/Streams"))))]
pub async fn streams(state: Data<HttpState>) -> Answer {
    let streams = state.reads.streams(now_ms()).await?;
    Ok(list("streams", whole(streams.iter().map(|stream| shown(&state, stream)).collect()), |stream| stream))
}

fn shown(state: &HttpState, summary: &StreamSummary) -> Value {
    let table = &summary.table;
    let columns: Vec<_> = table
        .columns
        .iter()
        .map(|column| json!({"name": column.name, "type": column.kind.word(), "nullable": column.nullable}))
        .collect();
    let name = |index: usize| table.columns[index].name.as_str();
    json!({
        "name": &*table.stream, "topic": &*table.topic, "table": table.table, "key": name(table.key),
        "event_time": name(table.event_time), "measure": table.measure.map(name),
        "anomaly": table.anomaly.map(name), "columns": columns, "windows": summary.windows,
        "stored": summary.stored, "dead": summary.dead, "filtered": summary.filtered,
        "ahead": summary.ahead, "late": summary.late, "full": summary.full, "in_gaps": summary.in_gaps,
        "newest": summary.newest_event_ms.map(time_text), "warning": warning(state, &table.stream),
    })
}

/// What somebody who relies on a stream should know.
fn warning(state: &HttpState, stream: &str) -> Option<String> {
    let unread = state.ingest.warning(stream).map(str::to_owned);
    let said: Vec<String> = unread.into_iter().chain(state.ingest.difference(stream)).collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// Newest records by event time.
#[utoipa::path(get, path = "/api/v1/streams/{stream}/latest", tag = "streams",
    params(
        ("stream" = String, Path, description = "Name of the stream"),
        ("key" = Option<String>, Query, description = "Only records of this key; indexed columns filter by their names too"),
        ("is_null" = Option<String>, Query, description = "Only records in which these columns are null; several with commas"),
        ("ahead" = Option<bool>, Query, description = "`true`: also records further ahead of the present than the stream's `max_ahead`; they would be the newest for as long as they are"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "Most records, default 50"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before"),
    ),
    responses((status = 200, description = "A page of records", body = ref("#/components/schemas/Records")), (status = 404, description = "No such stream"), (status = 422, description = "A parameter is wrong")))]
pub async fn latest(state: Data<HttpState>, stream: Path<String>, params: Params) -> Answer {
    let query = row_query(stream.into_inner(), params)?;
    Ok(list("records", state.reads.latest(query).await?, Value::Object))
}

/// Newest records with the anomaly label.
#[utoipa::path(get, path = "/api/v1/streams/{stream}/anomalies", tag = "streams",
    params(
        ("stream" = String, Path, description = "Name of the stream"),
        ("key" = Option<String>, Query, description = "Only records of this key; indexed columns filter by their names too"),
        ("is_null" = Option<String>, Query, description = "Only records in which these columns are null; several with commas"),
        ("ahead" = Option<bool>, Query, description = "`true`: also records further ahead of the present than the stream's `max_ahead`; they would be the newest for as long as they are"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "Most records, default 50"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before"),
    ),
    responses((status = 200, description = "A page of records", body = ref("#/components/schemas/Anomalies")), (status = 404, description = "No such stream"), (status = 422, description = "A parameter is wrong")))]
pub async fn anomalies(state: Data<HttpState>, stream: Path<String>, params: Params) -> Answer {
    let query = row_query(stream.into_inner(), params)?;
    Ok(list("anomalies", state.reads.anomalies(query).await?, Value::Object))
}

/// Totals over the last minutes of event time.
#[utoipa::path(get, path = "/api/v1/streams/{stream}/stats", tag = "streams",
    params(
        ("stream" = String, Path, description = "Name of the stream"),
        ("time_window_minutes" = Option<u32>, Query, minimum = 1, maximum = 1440, description = "How far back, default 60"),
    ),
    responses((status = 200, description = "The totals", body = ref("#/components/schemas/StreamStats")), (status = 404, description = "No such stream"), (status = 422, description = "A parameter is wrong")))]
pub async fn stats(state: Data<HttpState>, stream: Path<String>, mut params: Params) -> Answer {
    let (minutes, now_ms) = (sensors::minutes(&mut params), now_ms());
    params.only(&["time_window_minutes"]);
    params.finish()?;
    let stats = state.reads.stats(StatsQuery { stream: stream.into_inner(), minutes, now_ms }).await?;
    let mut body = sensors::common_stats(&stats, minutes, now_ms);
    body["total_records"] = stats.records.into();
    body["records_per_second"] = sensors::rounded(sensors::per_second(&stats, now_ms)).into();
    body["active_keys"] = stats.active_keys.into();
    body["anomaly_count"] = stats.anomalies.into();
    body["avg_measure"] = stats.mean.map(sensors::rounded).into();
    sensors::name_overflow(&mut body, &stats, "avg_measure");
    Ok(HttpResponse::Ok().json(body))
}

/// Window results, newest first.
#[utoipa::path(get, path = "/api/v1/streams/{stream}/windows", tag = "streams",
    params(
        ("stream" = String, Path, description = "Name of the stream"),
        ("window" = Option<String>, Query, description = "Name of the window; needed where the stream has several"),
        ("from" = Option<String>, Query, description = "Earliest start, RFC 3339 or milliseconds since 1970, inclusive"),
        ("to" = Option<String>, Query, description = "Latest start, exclusive"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "Most windows, default 50; columns of the group filter by their names"),
        ("is_null" = Option<String>, Query, description = "Only windows in which these columns of the group are null; several with commas"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before"),
    ),
    responses((status = 200, description = "A page of windows", body = ref("#/components/schemas/Windows")), (status = 404, description = "No such stream or window"), (status = 422, description = "A parameter is wrong")))]
pub async fn windows(state: Data<HttpState>, stream: Path<String>, mut params: Params) -> Answer {
    let query = WindowQuery {
        stream: stream.into_inner(),
        window: params.text("window"),
        from_ms: params.time_ms("from"),
        to_ms: params.time_ms("to"),
        group: params.others(&["window", "from", "to", "limit", "cursor", "access_token", IS_NULL]),
        nulls: params.list(IS_NULL),
        page: page_request(&mut params),
    };
    params.finish()?;
    Ok(list("windows", state.reads.windows(query).await?, Value::Object))
}

/// `limit` and `cursor` of a list.
pub fn page_request(params: &mut Params) -> PageRequest {
    let limit = params.integer("limit", DEFAULT_LIMIT, 1..=MAX_LIMIT);
    PageRequest { limit, cursor: params.text("cursor"), counting: Counting::Bounded }
}

fn row_query(stream: String, mut params: Params) -> Result<RowQuery, Problem> {
    let page = page_request(&mut params);
    let filters = params.others(&["key", "ahead", "limit", "cursor", "access_token", IS_NULL]);
    let nulls = params.list(IS_NULL);
    let key = params.text("key");
    let is_all = params.one_of("ahead", &["true", "false"]).is_some_and(|text| text == "true");
    params.finish()?;
    Ok(RowQuery { stream, key, filters, nulls, now_ms: (!is_all).then(now_ms), page })
}
