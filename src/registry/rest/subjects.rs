//! `/subjects` and `/compatibility`.

use actix_web::web::{self, Data, Path, ServiceConfig};
use serde_json::json;

use super::{
    Answer, blocking,
    reply::{self, ok, raw},
    request::{Body, Params, submission},
    resource,
};
use crate::registry::{Permanent, Registry, RegistryError, SchemaType, Version, Which, decide::subject_name};

pub fn routes(config: &mut ServiceConfig) {
    config
        .service(resource("/subjects", [web::get().to(subjects)]))
        .service(resource("/subjects/{subject}", [web::post().to(look_up), web::delete().to(delete_subject)]))
        .service(resource("/subjects/{subject}/versions", [web::get().to(versions), web::post().to(register)]))
        .service(resource(
            "/subjects/{subject}/versions/{version}",
            [web::get().to(version), web::delete().to(delete_version)],
        ))
        .service(resource("/subjects/{subject}/versions/{version}/schema", [web::get().to(version_schema)]))
        .service(resource("/subjects/{subject}/versions/{version}/referencedby", [web::get().to(referenced_by)]))
        .service(resource("/compatibility/subjects/{subject}/versions", [web::post().to(compare_all)]))
        .service(resource("/compatibility/subjects/{subject}/versions/{version}", [web::post().to(compare)]));
}

async fn subjects(registry: Data<Registry>, params: Params) -> Answer {
    ok(&params.page(registry.subjects(params.prefix(), params.visible()))?)
}

async fn versions(registry: Data<Registry>, subject: Path<String>, params: Params) -> Answer {
    ok(&params.page(registry.versions(&subject_name(&subject)?, params.visible())?)?)
}

async fn register(registry: Data<Registry>, subject: Path<String>, params: Params, body: Body) -> Answer {
    let submission = submission(&body, &params)?;
    let registered = blocking(move || registry.register(&subject, &submission)).await?;
    ok(&json!({"id": registered.id}))
}

async fn look_up(registry: Data<Registry>, subject: Path<String>, params: Params, body: Body) -> Answer {
    let submission = submission(&body, &params)?;
    let found = registry.look_up(&subject_name(&subject)?, &submission, params.visible())?;
    ok(&reply::version(&found, &text(&registry, &found, &params)))
}

async fn version(registry: Data<Registry>, path: Path<(String, String)>, params: Params) -> Answer {
    let version = asked(&registry, &path, &params)?;
    ok(&reply::version(&version, &text(&registry, &version, &params)))
}

async fn version_schema(registry: Data<Registry>, path: Path<(String, String)>, params: Params) -> Answer {
    let version = asked(&registry, &path, &params)?;
    raw(&text(&registry, &version, &params))
}

fn asked(registry: &Registry, path: &(String, String), params: &Params) -> Result<Version, RegistryError> {
    let which: Which = path.1.parse()?;
    registry.version(&subject_name(&path.0)?, which, params.visible())
}

/// A version's schema in the form asked for.
fn text(registry: &Registry, version: &Version, params: &Params) -> String {
    let is_avro = version.definition.schema_type == SchemaType::Avro;
    let resolved = (params.is_resolved() && is_avro).then(|| registry.whole_text(version.id)).flatten();
    resolved.unwrap_or_else(|| version.definition.text.clone()).to_string()
}

async fn referenced_by(registry: Data<Registry>, path: Path<(String, String)>, params: Params) -> Answer {
    let which: Which = path.1.parse()?;
    ok(&params.page(registry.referenced_by(&subject_name(&path.0)?, which, params.visible())?)?)
}

async fn delete_subject(registry: Data<Registry>, subject: Path<String>, params: Params) -> Answer {
    let (subject, permanent) = (subject_name(&subject)?, Permanent(params.flag("permanent")));
    ok(&blocking(move || registry.delete_subject(&subject, permanent)).await?)
}

async fn delete_version(registry: Data<Registry>, path: Path<(String, String)>, params: Params) -> Answer {
    let (subject, which) = (subject_name(&path.0)?, path.1.parse()?);
    let permanent = Permanent(params.flag("permanent"));
    ok(&blocking(move || registry.delete_version(&subject, which, permanent)).await?)
}

async fn compare(registry: Data<Registry>, path: Path<(String, String)>, params: Params, body: Body) -> Answer {
    let which = path.1.parse()?;
    verdict(&registry, (&path.0, Some(which)), &params, &body)
}

async fn compare_all(registry: Data<Registry>, subject: Path<String>, params: Params, body: Body) -> Answer {
    verdict(&registry, (&subject, None), &params, &body)
}

fn verdict(registry: &Registry, (subject, which): (&str, Option<Which>), params: &Params, body: &Body) -> Answer {
    let is_verbose = params.flag("verbose");
    let compared =
        submission(body, params).and_then(|submission| registry.compare(&subject_name(subject)?, which, &submission));
    let problems = match compared {
        Err(RegistryError::InvalidSchema(why)) if is_verbose => vec![why],
        other => other?,
    };
    let mut verdict = json!({"is_compatible": problems.is_empty()});
    if is_verbose {
        verdict["messages"] = json!(problems);
    }
    ok(&verdict)
}
