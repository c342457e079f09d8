//! The routes of the project that Streamward replaces: parameters, defaults, limits and body fields are its own, so
//! that an existing dashboard keeps working.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, ServiceConfig},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use streamward_core::ports::{Counting, Page, PageRequest, ReadError, Row, RowQuery, StatsQuery, StreamStats};

use super::{Answer, HttpState, assets, get, params::Params, time_text};
use crate::clock::now_ms;

const STREAM: &str = "sensors";
const MAX_LIMIT: u32 = 100;
const MAX_MINUTES: u32 = 1440;

pub fn routes(config: &mut ServiceConfig) {
    config
        .service(get("/", root))
        .service(get("/api/v1/sensors/latest", latest))
        .service(get("/api/v1/sensors/stats", stats))
        .service(get("/api/v1/sensors/anomalies", anomalies));
}

/// Health in the reference's shape, or the console for browsers.
#[utoipa::path(get, path = "/", tag = "compatible", responses((status = 200, description = "Health, or the console where `Accept` asks for HTML", body = ref("#/components/schemas/Health"))))]
pub async fn root(request: HttpRequest) -> Answer {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("text/html")) {
        return assets::index(&request);
    }
    let timestamp = format!("{:.3}", Timestamp::now());
    Ok(HttpResponse::Ok().json(json!({"status": "healthy", "service": "streaming-api", "timestamp": timestamp})))
}

/// Newest readings by event time that match.
#[utoipa::path(get, path = "/api/v1/sensors/latest", tag = "compatible",
    params(
        ("sensor_id" = Option<String>, Query, description = "Only this sensor"),
        ("sensor_type" = Option<String>, Query, description = "Only this type; other columns filter by their names too, and a parameter that names no column is ignored"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Most readings, default 10"),
    ),
    responses((status = 200, description = "The readings", body = ref("#/components/schemas/Readings")), (status = 422, description = "A parameter is out of its limits")))]
pub async fn latest(state: Data<HttpState>, mut params: Params) -> Answer {
    let limit = params.integer("limit", 10, 1..=MAX_LIMIT);
    let query = row_query(&params, limit);
    params.finish()?;
    let page = read(query, async |query| state.reads.latest(query).await).await?;
    Ok(HttpResponse::Ok().json(json!({"count": page.items.len(), "readings": page.items, "next": page.next})))
}

/// Newest readings with the anomaly label.
#[utoipa::path(get, path = "/api/v1/sensors/anomalies", tag = "compatible",
    params(
        ("sensor_type" = Option<String>, Query, description = "Only this type; other columns filter by their names too, and a parameter that names no column is ignored"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Most readings, default 20"),
    ),
    responses((status = 200, description = "The readings", body = ref("#/components/schemas/ReadingAnomalies")), (status = 422, description = "A parameter is out of its limits")))]
pub async fn anomalies(state: Data<HttpState>, mut params: Params) -> Answer {
    let limit = params.integer("limit", 20, 1..=MAX_LIMIT);
    let query = row_query(&params, limit);
    params.finish()?;
    let page = read(query, async |query| state.reads.anomalies(query).await).await?;
    Ok(HttpResponse::Ok().json(json!({"count": page.items.len(), "anomalies": page.items, "next": page.next})))
}

/// Totals over the last minutes of event time.
#[utoipa::path(get, path = "/api/v1/sensors/stats", tag = "compatible",
    params(("time_window_minutes" = Option<u32>, Query, minimum = 1, maximum = 1440, description = "How far back, default 60")),
    responses((status = 200, description = "The totals", body = ref("#/components/schemas/SensorStats")), (status = 422, description = "A parameter is out of its limits")))]
pub async fn stats(state: Data<HttpState>, mut params: Params) -> Answer {
    let (minutes, now_ms) = (minutes(&mut params), now_ms());
    params.finish()?;
    let stats = state.reads.stats(StatsQuery { stream: STREAM.to_owned(), minutes, now_ms }).await?;
    let mut body = common_stats(&stats, minutes, now_ms);
    body["total_messages"] = stats.records.into();
    body["messages_per_second"] = rounded(per_second(&stats, now_ms)).into();
    body["active_sensors"] = stats.active_keys.into();
    body["anomaly_count"] = stats.anomalies.into();
    body["avg_value"] = if stats.overflows { Value::Null } else { rounded(stats.mean.unwrap_or(0.0)).into() };
    name_overflow(&mut body, &stats, "avg_value");
    Ok(HttpResponse::Ok().json(body))
}

/// Most parameters that filter.
const MAX_FILTERS: usize = 16;

/// Reads with the filters that name a column. The reference ignored parameters that it did not know, so clients send
/// such ones (against caches, for example).
async fn read(
    mut query: RowQuery,
    read: impl AsyncFn(RowQuery) -> Result<Page<Row>, ReadError>,
) -> Result<Page<Row>, ReadError> {
    loop {
        match read(query.clone()).await {
            Err(ReadError::BadFilter { field, .. }) if query.filters.iter().any(|(name, _)| *name == field) => {
                query.filters.retain(|(name, _)| *name != field);
            }
            answer => return answer,
        }
    }
}

fn row_query(params: &Params, limit: u32) -> RowQuery {
    let mut filters = params.others(&["limit", "cursor", "access_token"]);
    filters.truncate(MAX_FILTERS);
    RowQuery {
        stream: STREAM.to_owned(),
        key: None,
        filters,
        nulls: Vec::new(),
        now_ms: Some(now_ms()),
        page: PageRequest { limit, cursor: params.text("cursor"), counting: Counting::Skip },
    }
}

/// The parameter of `stats`.
pub fn minutes(params: &mut Params) -> u32 {
    params.integer("time_window_minutes", 60, 1..=MAX_MINUTES)
}

/// What `stats` of any stream have.
pub fn common_stats(stats: &StreamStats, minutes: u32, now_ms: i64) -> Value {
    json!({"time_window_minutes": minutes, "from": time_text(stats.from_ms), "to": time_text(now_ms)})
}

/// Records per second over the whole range, which begins with a minute.
pub fn per_second(stats: &StreamStats, now_ms: i64) -> f64 {
    stats.records as f64 / ((now_ms - stats.from_ms).max(1) as f64 / 1000.0)
}

/// Two decimals.
pub fn rounded(number: f64) -> f64 {
    let hundredths = number * 100.0;
    // A number that large has no decimals.
    if hundredths.is_finite() { hundredths.round() / 100.0 } else { number }
}

/// Names the figure that is null because a float cannot hold the sum that it is made of.
pub fn name_overflow(body: &mut Value, stats: &StreamStats, figure: &str) {
    if stats.overflows {
        body["overflow"] = json!([figure]);
    }
}
