//! The running system: its tree, commands to it, its events and measurements, health.

use std::time::Duration;

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
    web::{self, Data, Path, Payload, ReqData, ServiceConfig},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use streamward_core::ports::{InjectedFault, OpsCommand};

use super::{
    Answer, HttpState, access::Caller, get, list, method_not_allowed, params::Params, post, problem::Problem, records,
    streams::MAX_LIMIT, whole,
};

/// A command's body is one small object.
const MAX_COMMAND_BYTES: usize = 4_096;
const MAX_FAULT_TIMES: u32 = 1_000;
const MAX_STALL_MS: u64 = 10 * 60_000;
/// Longest time that a drill is watched.
const MAX_WATCH_MS: u64 = 5 * 60_000;
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub fn routes(config: &mut ServiceConfig) {
    config
        .service(get("/api/v1/supervision", supervision))
        .service(get("/api/v1/supervision/tree", tree))
        .service(get("/api/v1/supervision/events", events))
        .service(post("/api/v1/supervision/{path:.+}/{command:restart|pause|resume|drain|inject|disarm}", command))
        .service(
            web::resource("/api/v1/supervision/{path:.+}/policy")
                .route(web::patch().to(set_policy))
                .default_service(web::to(|| async { method_not_allowed("PATCH") })),
        )
        .service(post("/api/v1/supervision/{path:.+}/drill", drill))
        .service(get("/api/v1/events", events))
        .service(get("/api/v1/topology", topology))
        .service(get("/api/v1/lag", lag))
        .service(get("/api/v1/standing-still", standing_still))
        .service(get("/health/live", live))
        .service(get("/health/ready", ready))
        .service(get("/metrics", metrics));
}

/// The supervision tree.
#[utoipa::path(get, path = "/api/v1/supervision/tree", tag = "operations", responses((status = 200, description = "The root, with its children", body = ref("#/components/schemas/Node"))))]
pub async fn tree(state: Data<HttpState>) -> Answer {
    Ok(HttpResponse::Ok().json(state.operations.tree().await?))
}

/// Whether drills are allowed, and which there are.
#[utoipa::path(get, path = "/api/v1/supervision", tag = "operations", responses((status = 200, description = "Drills", body = ref("#/components/schemas/Drills"))))]
pub async fn supervision(state: Data<HttpState>) -> HttpResponse {
    HttpResponse::Ok().json(state.operations.drills())
}

/// Commands an actor, or all actors below a supervisor that can carry it out; `inject` takes a fault, `disarm` takes back what has not struck yet.
#[utoipa::path(post, path = "/api/v1/supervision/{path}/{command}", tag = "operations",
    params(
        ("path" = String, Path, description = "Path of the node, with its slashes"),
        ("command" = String, Path, description = "What to do"),
    ),
    request_body(content = ref("#/components/schemas/Fault"), description = "Of `inject` alone", content_type = "application/json"),
    responses(
        (status = 200, description = "The node's new state", body = ref("#/components/schemas/Node")),
        (status = 403, description = "Drills are off"),
        (status = 404, description = "No such node"),
        (status = 409, description = "The actor cannot do it in its state, and nothing was changed; `detail` names the state and the way out. `pause`, `resume` and `inject` want an actor that runs or is about to, `drain` one that is not down; `restart` works in every state while the supervisor above runs"),
    ))]
pub async fn command(
    state: Data<HttpState>,
    target: Path<(String, String)>,
    caller: ReqData<Caller>,
    payload: Payload,
) -> Answer {
    let (path, name) = target.into_inner();
    let command = match name.as_str() {
        "restart" => OpsCommand::Restart,
        "pause" => OpsCommand::Pause,
        "resume" => OpsCommand::Resume,
        "drain" => OpsCommand::Drain,
        "disarm" => OpsCommand::Disarm,
        _ => OpsCommand::Inject(fault(payload).await?),
    };
    let answer = state.operations.command(&path, command, &caller.name).await?;
    Ok(HttpResponse::Ok().json(answer))
}

/// Changes how a node is looked after, from now on; only the given keys change. A restart of the process forgets it.
#[utoipa::path(patch, path = "/api/v1/supervision/{path}/policy", tag = "operations",
    params(("path" = String, Path, description = "Path of the node, with its slashes")),
    request_body(content = ref("#/components/schemas/Policy"), content_type = "application/json", description = "What to change; null for never"),
    responses(
        (status = 200, description = "The node's new state, as in the tree", body = ref("#/components/schemas/Node")),
        (status = 404, description = "No such node"),
        (status = 409, description = "The node cannot do it now"),
        (status = 422, description = "A key or a value is wrong; nothing was changed"),
    ))]
pub async fn set_policy(
    state: Data<HttpState>,
    path: Path<String>,
    caller: ReqData<Caller>,
    payload: Payload,
) -> Answer {
    let answer = state.operations.set_policy(&path, parsed(payload).await?, &caller.name).await?;
    Ok(HttpResponse::Ok().json(answer))
}

/// A fault, and how long it is watched.
#[derive(Deserialize)]
struct Drill {
    #[serde(flatten)]
    fault: InjectedFault,
    #[serde(default = "half_a_minute")]
    within_ms: u64,
}

fn half_a_minute() -> u64 {
    30_000
}

/// Injects a fault, waits until the actor has recovered and reports.
#[utoipa::path(post, path = "/api/v1/supervision/{path}/drill", tag = "operations",
    params(("path" = String, Path, description = "Path of an actor, with its slashes")),
    request_body(content = ref("#/components/schemas/Drill"), description = "What to inject", content_type = "application/json"),
    responses(
        (status = 200, description = "What became of it, also of a fault that did not strike because the actor had nothing to do", body = ref("#/components/schemas/DrillReport")),
        (status = 403, description = "Drills are off"),
        (status = 404, description = "No such node"),
        (status = 409, description = "The node takes no faults, or not in its state"),
        (status = 422, description = "A value is wrong"),
    ))]
pub async fn drill(state: Data<HttpState>, path: Path<String>, caller: ReqData<Caller>, payload: Payload) -> Answer {
    let drill: Drill = parsed(payload).await?;
    check(&drill.fault)?;
    if !(1..=MAX_WATCH_MS).contains(&drill.within_ms) {
        let msg = format!("within_ms is 1 to {MAX_WATCH_MS}");
        return Err(records::body_fault("value_error", msg, None));
    }
    let within = Duration::from_millis(drill.within_ms);
    Ok(HttpResponse::Ok().json(state.operations.drill(&path, drill.fault, within, &caller.name).await?))
}

async fn parsed<T: DeserializeOwned>(payload: Payload) -> Result<T, Problem> {
    records::json_of(&records::read(payload, MAX_COMMAND_BYTES).await?)
}

async fn fault(payload: Payload) -> Result<InjectedFault, Problem> {
    let fault = parsed(payload).await?;
    check(&fault)?;
    Ok(fault)
}

fn check(fault: &InjectedFault) -> Result<(), Problem> {
    if !(1..=MAX_FAULT_TIMES).contains(&fault.times) || fault.millis > MAX_STALL_MS {
        let msg = format!("times is 1 to {MAX_FAULT_TIMES}, millis at most {MAX_STALL_MS}");
        return Err(records::body_fault("value_error", msg, None));
    }
    Ok(())
}

/// What happened in the tree, oldest first; also at `/api/v1/supervision/events`. `total` counts those after `after`.
#[utoipa::path(get, path = "/api/v1/events", tag = "operations",
    params(
        ("after" = Option<u64>, Query, description = "Only events with a higher `seq`"),
        ("cursor" = Option<u64>, Query, description = "The same: the `next` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "Most events, default 100"),
    ),
    responses((status = 200, description = "A page of events", body = ref("#/components/schemas/Events")), (status = 422, description = "A parameter is wrong")))]
pub async fn events(state: Data<HttpState>, mut params: Params) -> Answer {
    let after = params.number("after").max(params.number("cursor")).map_or(0, i64::unsigned_abs);
    let limit = params.integer("limit", 100, 1..=MAX_LIMIT);
    params.finish()?;
    let page = state.operations.events(after, limit).await?;
    Ok(list("events", page, |event| event))
}

/// Streams, pipelines and sinks, and how they are connected.
#[utoipa::path(get, path = "/api/v1/topology", tag = "operations", responses((status = 200, description = "The topology", body = ref("#/components/schemas/Topology"))))]
pub async fn topology(state: Data<HttpState>) -> Answer {
    Ok(HttpResponse::Ok().json(state.operations.topology().await?))
}

/// Whatever does not progress although it should: partitions, actors, the database, the cluster.
#[utoipa::path(get, path = "/api/v1/standing-still", tag = "operations", responses((status = 200, description = "What stands still; an empty list where nothing does", body = ref("#/components/schemas/StandingStill"))))]
pub async fn standing_still(state: Data<HttpState>) -> Answer {
    Ok(list("standing_still", whole(state.operations.readiness().standing_still), |finding| finding))
}

/// How far each partition is behind, in records and seconds.
///
/// `lag_records` counts the offsets that a reader of committed records could get and that are not stored; control records
/// and aborted ones do not count, and open transactions are apart. `state` is `moving` or `standing_still`; `behind` says whether
/// the newest stored record is older than 30 seconds while there are newer ones.
#[utoipa::path(get, path = "/api/v1/lag", tag = "operations", responses((status = 200, description = "The partitions", body = ref("#/components/schemas/Lag"))))]
pub async fn lag(state: Data<HttpState>) -> Answer {
    Ok(list("lag", whole(state.operations.lag().await?), |partition| partition))
}

/// Whether the process answers.
#[utoipa::path(get, path = "/health/live", tag = "operations", responses((status = 200, description = "It does", body = ref("#/components/schemas/Live"))))]
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "live"}))
}

/// Whether it should get traffic.
#[utoipa::path(get, path = "/health/ready", tag = "operations",
    params(("strict" = Option<bool>, Query, description = "`true`: answer 503 also while something stands still")),
    responses(
        (status = 422, description = "A parameter is wrong"),
        (status = 200, description = "It should", body = ref("#/components/schemas/Readiness")),
        (status = 503, description = "It should not; `reasons` says why", body = ref("#/components/schemas/Readiness"))))]
pub async fn ready(state: Data<HttpState>, mut params: Params) -> Answer {
    let is_strict = params.one_of("strict", &["true", "false"]).is_some_and(|text| text == "true");
    params.finish()?;
    let readiness = state.operations.readiness();
    let is_whole = readiness.degraded.is_empty();
    let word = match (readiness.ready, is_whole) {
        (true, true) => "ready",
        (true, false) => "degraded",
        (false, _) => "not ready",
    };
    let is_served = readiness.ready && (is_whole || !is_strict);
    let status = if is_served { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body: Value = json!({"status": word, "ready": readiness.ready, "reasons": readiness.reasons,
                             "degraded": readiness.degraded, "standing_still": readiness.standing_still});
    Ok(HttpResponse::build(status).json(body))
}

/// Measurements in Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses((status = 200, description = "Prometheus text format", content_type = "text/plain")))]
pub async fn metrics(state: Data<HttpState>) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CONTENT_TYPE, METRICS_TYPE)).body(state.operations.metrics_text())
}
