//! `/schemas`, and what the server says of itself: `/`, `/contexts`, `/v1/metadata`.

use std::{collections::HashMap, sync::Arc};

use actix_web::web::{self, Data, Path, ServiceConfig};
use serde_json::{Value, json};

use super::{
    Answer, ClusterIds,
    reply::{self, ok, raw},
    request::Params,
    resource,
};
use crate::registry::{Definition, Registry, RegistryError, SchemaType, Version, Visible};

pub fn routes(config: &mut ServiceConfig) {
    let get = |path: &str, route: actix_web::Route| resource(path, [route]);
    config
        .service(get("/", web::get().to(root)))
        .service(get("/contexts", web::get().to(contexts)))
        .service(get("/v1/metadata/id", web::get().to(cluster_id)))
        .service(get("/v1/metadata/version", web::get().to(server_version)))
        .service(get("/schemas", web::get().to(all)))
        .service(get("/schemas/types", web::get().to(types)))
        .service(get("/schemas/ids/{id}", web::get().to(schema)))
        .service(get("/schemas/ids/{id}/schema", web::get().to(schema_text)))
        .service(get("/schemas/ids/{id}/subjects", web::get().to(schema_subjects)))
        .service(get("/schemas/ids/{id}/versions", web::get().to(schema_versions)));
}

async fn root() -> Answer {
    ok(&json!({}))
}

async fn contexts(params: Params) -> Answer {
    ok(&params.page(vec!["."])?)
}

async fn cluster_id(ids: Data<ClusterIds>) -> Answer {
    let clusters = json!({"kafka-cluster": ids.kafka, "schema-registry-cluster": ids.topic});
    ok(&json!({"scope": {"path": [], "clusters": clusters}, "id": ""}))
}

async fn server_version() -> Answer {
    ok(&json!({"version": env!("CARGO_PKG_VERSION"), "commitId": ""}))
}

async fn types() -> Answer {
    ok(&SchemaType::ALL.map(SchemaType::name))
}

async fn all(registry: Data<Registry>, params: Params) -> Answer {
    let mut versions = registry.all_versions(params.prefix(), params.visible());
    if params.flag("latestOnly") {
        let latest: HashMap<String, u32> =
            versions.iter().map(|version| (version.subject.clone(), version.version)).collect();
        versions.retain(|version| latest[&version.subject] == version.version);
    }
    let shown = |version: &Version| reply::version(version, &version.definition.text);
    ok(&params.page(versions)?.iter().map(shown).collect::<Vec<Value>>())
}

async fn schema(registry: Data<Registry>, id: Path<String>, params: Params) -> Answer {
    let (id, definition) = by_id(&registry, &id)?;
    let mut body = reply::definition(&definition, &text(&registry, id, &definition, &params));
    if params.flag("fetchMaxId") {
        body.insert("maxId".to_owned(), registry.max_id().into());
    }
    if let Some(subject) = params.subject() {
        let uses = registry.uses(id, Visible::All)?;
        if let Some(version) = uses.iter().rev().find(|version| version.subject == subject) {
            body.insert("subject".to_owned(), version.subject.clone().into());
            body.insert("version".to_owned(), version.version.into());
        }
    }
    ok(&body)
}

async fn schema_text(registry: Data<Registry>, id: Path<String>, params: Params) -> Answer {
    let (id, definition) = by_id(&registry, &id)?;
    raw(&text(&registry, id, &definition, &params))
}

fn text(registry: &Registry, id: u32, definition: &Definition, params: &Params) -> String {
    let is_avro = definition.schema_type == SchemaType::Avro;
    let resolved = (params.is_resolved() && is_avro).then(|| registry.whole_text(id)).flatten();
    resolved.unwrap_or_else(|| definition.text.clone()).to_string()
}

async fn schema_subjects(registry: Data<Registry>, id: Path<String>, params: Params) -> Answer {
    let mut subjects: Vec<String> = uses(&registry, &id, &params)?.into_iter().map(|version| version.subject).collect();
    subjects.dedup();
    ok(&params.page(subjects)?)
}

async fn schema_versions(registry: Data<Registry>, id: Path<String>, params: Params) -> Answer {
    let pair = |version: &Version| json!({"subject": version.subject, "version": version.version});
    let pairs: Vec<Value> = uses(&registry, &id, &params)?.iter().map(pair).collect();
    ok(&params.page(pairs)?)
}

/// Who has the schema of an id, by subject and version.
fn uses(registry: &Registry, id: &str, params: &Params) -> Result<Vec<Version>, RegistryError> {
    let mut uses = registry.uses(by_id(registry, id)?.0, params.visible())?;
    if let Some(subject) = params.subject() {
        uses.retain(|version| version.subject == subject);
    }
    Ok(uses)
}

fn by_id(registry: &Registry, text: &str) -> Result<(u32, Arc<Definition>), RegistryError> {
    let id = text.parse().ok();
    let found = id.and_then(|id| registry.definition(id).map(|definition| (id, definition)));
    found.ok_or_else(|| RegistryError::IdNotFound(text.to_owned()))
}
