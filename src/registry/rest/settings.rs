//! `/config` and `/mode`.

use actix_web::web::{self, Data, Path, ServiceConfig};
use serde_json::{Value, json};

use super::{
    Answer, blocking,
    reply::ok,
    request::{self, Body, Params},
    resource,
};
use crate::registry::{Force, Level, Registry, RegistryError, Settings, decide::subject_name};

pub fn routes(config: &mut ServiceConfig) {
    config
        .service(resource(
            "/config",
            [
                web::get().to(global_settings),
                web::put().to(set_global_settings),
                web::delete().to(delete_global_settings),
            ],
        ))
        .service(resource(
            "/config/{subject}",
            [web::get().to(settings), web::put().to(set_settings), web::delete().to(delete_settings)],
        ))
        .service(resource(
            "/mode",
            [web::get().to(global_mode), web::put().to(set_global_mode), web::delete().to(delete_global_mode)],
        ))
        .service(resource(
            "/mode/{subject}",
            [web::get().to(mode), web::put().to(set_mode), web::delete().to(delete_mode)],
        ));
}

/// Settings with the level under the name that an answer has it.
fn body(settings: &Settings, level_key: &str, level: Option<Level>) -> Value {
    let mut body = json!({});
    if let Some(level) = level {
        body[level_key] = json!(level);
    }
    if let Some(normalize) = settings.normalize {
        body["normalize"] = normalize.into();
    }
    body
}

async fn global_settings(registry: Data<Registry>) -> Answer {
    let settings = registry.settings(None).unwrap_or_default();
    ok(&body(&settings, "compatibilityLevel", Some(registry.level(None))))
}

async fn settings(registry: Data<Registry>, subject: Path<String>, params: Params) -> Answer {
    let subject = subject_name(&subject)?;
    let own = registry.settings(Some(&subject));
    if !params.flag("defaultToGlobal") {
        let own = own.ok_or(RegistryError::LevelNotFound(subject))?;
        return ok(&body(&own, "compatibilityLevel", own.compatibility_level));
    }
    let level = registry.level(Some(&subject));
    let global = registry.settings(None).unwrap_or_default();
    let mut settings = own.unwrap_or_default();
    settings.normalize = settings.normalize.or(global.normalize);
    ok(&body(&settings, "compatibilityLevel", Some(level)))
}

async fn set_global_settings(registry: Data<Registry>, request: Body) -> Answer {
    set(registry, None, &request).await
}

async fn set_settings(registry: Data<Registry>, subject: Path<String>, request: Body) -> Answer {
    set(registry, Some(subject_name(&subject)?), &request).await
}

async fn set(registry: Data<Registry>, subject: Option<String>, request: &Body) -> Answer {
    let update = request::settings(request)?;
    let settings = blocking(move || registry.set_settings(subject.as_deref(), update)).await?;
    ok(&body(&settings, "compatibility", settings.compatibility_level))
}

async fn delete_global_settings(registry: Data<Registry>) -> Answer {
    delete(registry, None).await
}

async fn delete_settings(registry: Data<Registry>, subject: Path<String>) -> Answer {
    delete(registry, Some(subject_name(&subject)?)).await
}

async fn delete(registry: Data<Registry>, subject: Option<String>) -> Answer {
    let settings = blocking(move || registry.delete_settings(subject.as_deref())).await?;
    ok(&body(&settings, "compatibilityLevel", settings.compatibility_level))
}

async fn global_mode(registry: Data<Registry>) -> Answer {
    ok(&json!({"mode": registry.mode(None)}))
}

async fn mode(registry: Data<Registry>, subject: Path<String>, params: Params) -> Answer {
    let subject = subject_name(&subject)?;
    if params.flag("defaultToGlobal") {
        return ok(&json!({"mode": registry.mode(Some(&subject))}));
    }
    let own = registry.own_mode(Some(&subject)).ok_or(RegistryError::ModeNotFound(subject))?;
    ok(&json!({"mode": own}))
}

async fn set_global_mode(registry: Data<Registry>, params: Params, request: Body) -> Answer {
    set_mode_of(registry, None, &params, &request).await
}

async fn set_mode(registry: Data<Registry>, subject: Path<String>, params: Params, request: Body) -> Answer {
    set_mode_of(registry, Some(subject_name(&subject)?), &params, &request).await
}

async fn set_mode_of(registry: Data<Registry>, subject: Option<String>, params: &Params, request: &Body) -> Answer {
    let mode = request::mode(request)?;
    let force = if params.flag("force") { Force::Yes } else { Force::No };
    blocking(move || registry.set_mode(subject.as_deref(), mode, force)).await?;
    ok(&json!({"mode": mode}))
}

async fn delete_global_mode(registry: Data<Registry>) -> Answer {
    delete_mode_of(registry, None).await
}

async fn delete_mode(registry: Data<Registry>, subject: Path<String>) -> Answer {
    delete_mode_of(registry, Some(subject_name(&subject)?)).await
}

async fn delete_mode_of(registry: Data<Registry>, subject: Option<String>) -> Answer {
    let mode = blocking(move || registry.delete_mode(subject.as_deref())).await?;
    ok(&json!({"mode": mode}))
}
