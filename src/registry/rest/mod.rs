//! The REST side: paths, parameters and bodies of the Confluent protocol.
//!
//! Source: "Schema Registry API Reference" in Confluent's documentation; where that is silent, the resources in
//! `confluentinc/schema-registry` (`core/src/main/java/io/confluent/kafka/schemaregistry/rest/resources`).

mod reply;
mod request;
mod schemas;
mod settings;
mod subjects;

use std::{io, net::TcpListener, sync::Arc};

use actix_web::{
    App, HttpResponse, HttpServer, Resource, Route,
    dev::{Server, ServiceRequest, ServiceResponse},
    http::StatusCode,
    middleware::{Next, from_fn},
    web::{self, Data, ServiceConfig},
};

pub(super) use self::reply::in_asked_type;
use self::reply::{error_body, reply};
use super::{MAX_SCHEMA_BYTES, Registry, RegistryError};
use crate::http::hosts::{HostRule, Purpose};

/// A schema is quoted once more in its request.
const MAX_BODY_BYTES: usize = 2 * MAX_SCHEMA_BYTES + 4_096;
const SHUTDOWN_TIMEOUT_S: u64 = 2;
/// Connections at a time.
const MAX_CONNECTIONS: usize = 1_024;

type Answer = Result<HttpResponse, RegistryError>;

/// Ids of the clusters, for `/v1/metadata/id`.
#[derive(Debug, Clone, Default)]
pub struct ClusterIds {
    /// The Kafka cluster's.
    pub kafka: String,
    /// The topic that the schemas are in.
    pub topic: String,
}

/// Serves a registry on a listener, in one worker, without signal handlers.
///
/// # Errors
/// If the listener cannot be used.
pub fn server(registry: Registry, ids: ClusterIds, listener: TcpListener, hosts: HostRule) -> io::Result<Server> {
    let hosts = Arc::new(hosts.at(listener.local_addr()?));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::new(registry.clone()))
            .app_data(Data::new(ids.clone()))
            .app_data(Data::from(Arc::clone(&hosts)))
            .wrap(from_fn(check_host))
            .wrap(from_fn(in_asked_type))
            .configure(routes)
    });
    let server = server.workers(1).max_connections(MAX_CONNECTIONS).disable_signals();
    Ok(server.shutdown_timeout(SHUTDOWN_TIMEOUT_S).listen(listener)?.run())
}

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .app_data(web::PayloadConfig::new(MAX_BODY_BYTES))
        .configure(subjects::routes)
        .configure(schemas::routes)
        .configure(settings::routes)
        .default_service(web::to(no_route));
}

/// A resource whose other methods answer 405 in the protocol's form.
fn resource(path: &str, routes: impl IntoIterator<Item = Route>) -> Resource {
    let resource = web::resource(path).default_service(web::to(no_method));
    routes.into_iter().fold(resource, Resource::route)
}

async fn check_host(
    request: ServiceRequest,
    next: Next<impl actix_web::body::MessageBody + 'static>,
) -> Result<ServiceResponse<impl actix_web::body::MessageBody>, actix_web::Error> {
    let hosts = request.app_data::<Data<HostRule>>().cloned();
    let purpose = if request.method().is_safe() { Purpose::Read } else { Purpose::Change };
    if hosts.is_some_and(|hosts| hosts.check(request.headers(), purpose).is_err()) {
        let body = error_body(
            40301,
            "This server does not answer to that Host or Origin; see http.allowed_hosts and http.allowed_origins",
        );
        return Ok(request.into_response(reply(StatusCode::FORBIDDEN, &body)).map_into_right_body());
    }
    Ok(next.call(request).await?.map_into_left_body())
}

async fn no_route() -> HttpResponse {
    reply(StatusCode::NOT_FOUND, &error_body(404, "HTTP 404 Not Found"))
}

async fn no_method() -> HttpResponse {
    reply(StatusCode::METHOD_NOT_ALLOWED, &error_body(405, "HTTP 405 Method Not Allowed"))
}

/// Runs a call that waits for the topic away from the event loop.
#[expect(clippy::disallowed_methods, reason = "the request waits for it, and answers its panic as an error")]
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, RegistryError> + Send + 'static,
) -> Result<T, RegistryError> {
    web::block(call)
        .await
        .map_err(|_| RegistryError::Store(super::log::LogError::Unavailable("the server shuts down".to_owned())))?
}
