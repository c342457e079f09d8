//! Consumer groups: list, one of them with its offsets, and moving one that nobody is in.

use std::collections::BTreeMap;

use actix_web::{
    HttpResponse,
    web::{Data, Path, Payload, ReqData, ServiceConfig},
};
use serde::Deserialize;
use serde_json::{Value, json};
use streamward_core::ports::topics::{GroupDetail, GroupOffset, ResetTo};

use super::{
    Answer, HttpState,
    access::Caller,
    get, list,
    params::read_time,
    post,
    problem::Problem,
    topics::{field_fault, parse},
    whole,
};

pub fn routes(config: &mut ServiceConfig) {
    config
        .service(get("/api/v1/groups", groups))
        .service(get("/api/v1/groups/{group}", group))
        .service(post("/api/v1/groups/{group}/offsets", reset));
}

/// Consumer groups of the broker, by name.
#[utoipa::path(get, path = "/api/v1/groups", tag = "topics",
    responses(
        (status = 200, description = "The groups", body = ref("#/components/schemas/Groups")),
        (status = 503, description = "The broker does not answer"),
    ))]
pub async fn groups(state: Data<HttpState>) -> Answer {
    let groups = state.topics.groups().await?;
    Ok(list("groups", whole(groups.iter().map(|group| json!(group)).collect()), |group| group))
}

/// One group: members, and how far it is in each partition.
#[utoipa::path(get, path = "/api/v1/groups/{group}", tag = "topics",
    params(("group" = String, Path, description = "Name of the group")),
    responses(
        (status = 200, description = "The group", body = ref("#/components/schemas/Group")),
        (status = 404, description = "No such group"),
    ))]
pub async fn group(state: Data<HttpState>, group: Path<String>) -> Answer {
    Ok(HttpResponse::Ok().json(detail(&state.topics.group(group.into_inner()).await?)))
}

/// A group with its offsets and their sum.
pub fn detail(group: &GroupDetail) -> Value {
    let mut shown = json!(group.group);
    shown["lag"] = group.offsets.iter().map(|offset| offset.lag).sum::<u64>().into();
    shown["offsets"] = json!(group.offsets);
    shown
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Move {
    topic: String,
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    offsets: BTreeMap<i32, i64>,
}

/// Moves a group that has no members in one topic.
#[utoipa::path(post, path = "/api/v1/groups/{group}/offsets", tag = "topics",
    params(("group" = String, Path, description = "Name of the group")),
    request_body(content = ref("#/components/schemas/MoveGroup"), description = "Where to", content_type = "application/json"),
    responses(
        (status = 200, description = "Where it is then", body = ref("#/components/schemas/GroupOffsets")),
        (status = 404, description = "No such group, topic or partition"),
        (status = 409, description = "The group has members"),
        (status = 422, description = "The body is wrong, or an offset lies outside of its log"),
    ))]
pub async fn reset(state: Data<HttpState>, group: Path<String>, caller: ReqData<Caller>, payload: Payload) -> Answer {
    let wanted: Move = parse(payload).await?;
    let to = target(&wanted)?;
    let (group, topic) = (group.into_inner(), wanted.topic);
    let how = format!("{to:?}");
    let offsets: Vec<GroupOffset> = state.topics.reset(group.clone(), topic.clone(), to).await?;
    tracing::info!(who = caller.name, group, topic, to = how, "group moved");
    Ok(list("offsets", whole(offsets.iter().map(|offset| json!(offset)).collect()), |offset| offset))
}

fn target(wanted: &Move) -> Result<ResetTo, Problem> {
    match (wanted.to.as_deref(), wanted.offsets.is_empty()) {
        (Some("earliest"), true) => Ok(ResetTo::Earliest),
        (Some("latest"), true) => Ok(ResetTo::Latest),
        (Some(time), true) => {
            let msg = || field_fault("to", "give earliest, latest or a time in RFC 3339".to_owned());
            read_time(time).map(ResetTo::TimeMs).ok_or_else(msg)
        }
        (None, false) => Ok(ResetTo::Offsets(wanted.offsets.iter().map(|(p, o)| (*p, *o)).collect())),
        _ => Err(field_fault("to", "give either to or offsets".to_owned())),
    }
}
