//! The REST side: paths, bodies and error codes of the Confluent protocol.

use std::{io, net::TcpListener, sync::Arc};

use actix_web::{
    App, HttpResponse, HttpServer, ResponseError,
    dev::{Server, ServiceRequest, ServiceResponse},
    http::StatusCode,
    middleware::{Next, from_fn},
    web::{self, Bytes, Data, Path, Query},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Level, MAX_SCHEMA_BYTES, Registry, RegistryError, Version, Which};
use crate::http::access::HostRule;

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// A schema is quoted once more in its request.
const MAX_BODY_BYTES: usize = 2 * MAX_SCHEMA_BYTES + 4_096;
const SHUTDOWN_TIMEOUT_S: u64 = 2;

type Answer = Result<HttpResponse, RegistryError>;

/// Serves a registry on a listener, in one worker, without signal handlers.
///
/// # Errors
/// If the listener cannot be used.
pub fn server(registry: Registry, listener: TcpListener, hosts: HostRule) -> io::Result<Server> {
    let hosts = Arc::new(hosts);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::new(registry.clone()))
            .app_data(Data::from(Arc::clone(&hosts)))
            .app_data(web::PayloadConfig::new(MAX_BODY_BYTES))
            .wrap(from_fn(check_host))
            .configure(routes)
            .default_service(web::to(no_route))
    });
    Ok(server.workers(1).disable_signals().shutdown_timeout(SHUTDOWN_TIMEOUT_S).listen(listener)?.run())
}

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/", web::get().to(root))
        .route("/subjects", web::get().to(subjects))
        .route("/subjects/{subject}", web::post().to(look_up))
        .route("/subjects/{subject}/versions", web::get().to(versions))
        .route("/subjects/{subject}/versions", web::post().to(register))
        .route("/subjects/{subject}/versions/{version}", web::get().to(version))
        .route("/subjects/{subject}/versions/{version}/schema", web::get().to(version_schema))
        .route("/schemas/types", web::get().to(types))
        .route("/schemas/ids/{id}", web::get().to(schema))
        .route("/schemas/ids/{id}/schema", web::get().to(schema_text))
        .route("/schemas/ids/{id}/subjects", web::get().to(schema_subjects))
        .route("/schemas/ids/{id}/versions", web::get().to(schema_versions))
        .route("/config", web::get().to(level))
        .route("/config", web::put().to(set_level))
        .route("/config/{subject}", web::get().to(subject_level))
        .route("/config/{subject}", web::put().to(set_subject_level))
        .route("/compatibility/subjects/{subject}/versions", web::post().to(compare_all))
        .route("/compatibility/subjects/{subject}/versions/{version}", web::post().to(compare));
}

async fn check_host(
    request: ServiceRequest,
    next: Next<impl actix_web::body::MessageBody + 'static>,
) -> Result<ServiceResponse<impl actix_web::body::MessageBody>, actix_web::Error> {
    let hosts = request.app_data::<Data<HostRule>>().cloned();
    let is_change = !request.method().is_safe();
    if is_change && hosts.is_some_and(|hosts| hosts.check(request.headers()).is_err()) {
        let body = error_body(40301, "This server does not answer to that Host or Origin");
        return Ok(request.into_response(reply(StatusCode::FORBIDDEN, &body)).map_into_right_body());
    }
    Ok(next.call(request).await?.map_into_left_body())
}

impl ResponseError for RegistryError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        if let Self::Store(error) = self {
            tracing::error!(%error, "the schema registry cannot write");
        }
        reply(self.status_code(), &error_body(self.code(), &self.to_string()))
    }
}

fn error_body(code: u32, message: &str) -> Value {
    json!({"error_code": code, "message": message})
}

fn reply(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    let body = serde_json::to_vec(body).expect("answers are JSON");
    HttpResponse::build(status).content_type(CONTENT_TYPE).body(body)
}

fn ok(body: &impl Serialize) -> Answer {
    Ok(reply(StatusCode::OK, body))
}

fn raw(schema: &str) -> Answer {
    Ok(HttpResponse::Ok().content_type(CONTENT_TYPE).body(schema.to_owned()))
}

#[derive(Deserialize)]
struct SchemaRequest {
    schema: String,
    #[serde(rename = "schemaType", default)]
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<Value>,
}

/// The schema of a request's body.
fn submitted(body: &Bytes) -> Result<String, RegistryError> {
    let request: SchemaRequest =
        serde_json::from_slice(body).map_err(|error| RegistryError::InvalidSchema(error.to_string()))?;
    match request.schema_type.as_deref() {
        None | Some("AVRO") if request.references.is_empty() => Ok(request.schema),
        None | Some("AVRO") => Err(RegistryError::InvalidSchema("references are not supported".to_owned())),
        Some(other) => Err(RegistryError::InvalidSchema(format!("{other} is not supported"))),
    }
}

fn which(text: &str) -> Result<Which, RegistryError> {
    match text.parse() {
        Ok(number) if (1..=i32::MAX as u32).contains(&number) => Ok(Which::Number(number)),
        _ if text == "latest" => Ok(Which::Latest),
        _ => Err(RegistryError::InvalidVersion(text.to_owned())),
    }
}

fn shown(version: &Version) -> Value {
    json!({
        "subject": version.subject, "id": version.id, "version": version.version,
        "schema": &*version.schema,
    })
}

/// Runs a call that waits for the disk away from the event loop.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, RegistryError> + Send + 'static,
) -> Result<T, RegistryError> {
    let cancelled = |_| RegistryError::Store(io::Error::other("the server shuts down"));
    web::block(call).await.map_err(cancelled)?
}

async fn no_route() -> HttpResponse {
    reply(StatusCode::NOT_FOUND, &error_body(404, "HTTP 404 Not Found"))
}

async fn root() -> Answer {
    ok(&json!({}))
}

async fn types() -> Answer {
    ok(&["AVRO"])
}

async fn subjects(registry: Data<Registry>) -> Answer {
    ok(&registry.subjects())
}

async fn versions(registry: Data<Registry>, subject: Path<String>) -> Answer {
    ok(&registry.versions(&subject)?)
}

async fn version(registry: Data<Registry>, path: Path<(String, String)>) -> Answer {
    ok(&shown(&registry.version(&path.0, which(&path.1)?)?))
}

async fn version_schema(registry: Data<Registry>, path: Path<(String, String)>) -> Answer {
    raw(&registry.version(&path.0, which(&path.1)?)?.schema)
}

async fn register(registry: Data<Registry>, subject: Path<String>, body: Bytes) -> Answer {
    let schema = submitted(&body)?;
    let id = blocking(move || registry.register(&subject, &schema)).await?;
    ok(&json!({"id": id}))
}

async fn look_up(registry: Data<Registry>, subject: Path<String>, body: Bytes) -> Answer {
    ok(&shown(&registry.look_up(&subject, &submitted(&body)?)?))
}

async fn schema(registry: Data<Registry>, id: Path<String>) -> Answer {
    let schema = by_id(&registry, &id)?.1;
    ok(&json!({"schema": &*schema}))
}

async fn schema_text(registry: Data<Registry>, id: Path<String>) -> Answer {
    raw(&by_id(&registry, &id)?.1)
}

async fn schema_subjects(registry: Data<Registry>, id: Path<String>) -> Answer {
    let uses = registry.uses(by_id(&registry, &id)?.0)?;
    ok(&uses.iter().map(|version| &version.subject).collect::<Vec<_>>())
}

async fn schema_versions(registry: Data<Registry>, id: Path<String>) -> Answer {
    let uses = registry.uses(by_id(&registry, &id)?.0)?;
    let pair = |version: &Version| json!({"subject": version.subject, "version": version.version});
    ok(&uses.iter().map(pair).collect::<Vec<_>>())
}

fn by_id(registry: &Registry, id: &str) -> Result<(u32, Arc<str>), RegistryError> {
    let id = id.parse().map_err(|_| RegistryError::SchemaNotFound)?;
    registry.schema_by_id(id).map(|schema| (id, schema)).ok_or(RegistryError::SchemaNotFound)
}

#[derive(Deserialize)]
struct LevelRequest {
    compatibility: String,
}

fn submitted_level(body: &Bytes) -> Result<Level, RegistryError> {
    let request: LevelRequest = serde_json::from_slice(body).map_err(|_| RegistryError::InvalidLevel)?;
    serde_json::from_value(request.compatibility.to_uppercase().into()).map_err(|_| RegistryError::InvalidLevel)
}

async fn level(registry: Data<Registry>) -> Answer {
    ok(&json!({"compatibilityLevel": registry.level(None)}))
}

async fn set_level(registry: Data<Registry>, body: Bytes) -> Answer {
    let level = submitted_level(&body)?;
    blocking(move || registry.set_level(None, level)).await?;
    ok(&json!({"compatibility": level}))
}

#[derive(Deserialize)]
struct LevelQuery {
    #[serde(rename = "defaultToGlobal", default)]
    default_to_global: bool,
}

async fn subject_level(registry: Data<Registry>, subject: Path<String>, query: Query<LevelQuery>) -> Answer {
    let own = registry.level(Some(&subject));
    let level = own.or_else(|| query.default_to_global.then(|| registry.level(None)).flatten());
    match level {
        Some(level) => ok(&json!({"compatibilityLevel": level})),
        None => Err(RegistryError::LevelNotFound(subject.into_inner())),
    }
}

async fn set_subject_level(registry: Data<Registry>, subject: Path<String>, body: Bytes) -> Answer {
    let level = submitted_level(&body)?;
    blocking(move || registry.set_level(Some(&subject), level)).await?;
    ok(&json!({"compatibility": level}))
}

async fn compare(registry: Data<Registry>, path: Path<(String, String)>, body: Bytes) -> Answer {
    let problems = registry.compare(&path.0, Some(which(&path.1)?), &submitted(&body)?)?;
    ok(&json!({"is_compatible": problems.is_empty(), "messages": problems}))
}

async fn compare_all(registry: Data<Registry>, subject: Path<String>, body: Bytes) -> Answer {
    let problems = registry.compare(&subject, None, &submitted(&body)?)?;
    ok(&json!({"is_compatible": problems.is_empty(), "messages": problems}))
}
