//! The REST side: paths, parameters and bodies of the Confluent protocol.
//!
//! Source: "Schema Registry API Reference" in Confluent's documentation; where that is silent, the resources in
//! `confluentinc/schema-registry` (`core/src/main/java/io/confluent/kafka/schemaregistry/rest/resources`).

mod reply;
mod request;
mod schemas;
mod settings;
mod subjects;

use std::{io, net::TcpListener, sync::Arc, time::Duration};

use actix_web::{
    App, HttpResponse, HttpServer, Resource, ResponseError, Route,
    dev::{Server, ServiceRequest, ServiceResponse},
    http::{StatusCode, header},
    middleware::{Next, from_fn},
    web::{self, Data, ServiceConfig},
};

pub(super) use self::reply::in_asked_type;
use self::reply::{error_body, reply};
use super::{MAX_SCHEMA_BYTES, Registry, RegistryError};
use crate::http::{
    bodies::{self, BodyRules, Refusal, Room},
    connections::{self, Connections, REFUSED_AT_A_TIME},
    hosts::{HostRule, Purpose},
};

/// A schema is quoted once more in its request.
const MAX_BODY_BYTES: usize = 2 * MAX_SCHEMA_BYTES + 4_096;
/// Bytes that the bodies of all connections hold.
const MAX_BODIES_BYTES: usize = 4 * MAX_BODY_BYTES;
/// How long a body may take as a whole.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a body may stay without further bytes.
const BODY_PROGRESS: Duration = Duration::from_secs(5);
const SHUTDOWN_TIMEOUT_S: u64 = 2;

type Answer = Result<HttpResponse, RegistryError>;

/// Ids of the clusters, for `/v1/metadata/id`.
#[derive(Debug, Clone, Default)]
pub struct ClusterIds {
    /// The Kafka cluster's.
    pub kafka: String,
    /// The topic that the schemas are in.
    pub topic: String,
}

/// Serves a registry on a listener, in one worker, for at most `most_connections` at a time, without signal handlers.
///
/// # Errors
/// If the listener cannot be used.
pub fn server(
    registry: Registry,
    ids: ClusterIds,
    listener: TcpListener,
    hosts: HostRule,
    most_connections: usize,
) -> io::Result<Server> {
    server_with((registry, ids), listener, hosts, most_connections, body_rules())
}

/// What is asked of bodies.
pub(super) fn body_rules() -> BodyRules {
    BodyRules {
        whole: BODY_TIMEOUT,
        progress: BODY_PROGRESS,
        decoded_bytes: MAX_BODY_BYTES,
        room: Room::new(MAX_BODIES_BYTES),
        refuse: refused,
    }
}

/// As [`server`], with other rules for bodies.
pub(super) fn server_with(
    (registry, ids): (Registry, ClusterIds),
    listener: TcpListener,
    hosts: HostRule,
    most_connections: usize,
    bodies: BodyRules,
) -> io::Result<Server> {
    let open = Connections::new(most_connections);
    let counted = Arc::clone(&open);
    let hosts = Arc::new(hosts.at(listener.local_addr()?));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::new(bodies.clone()))
            .app_data(Data::from(Arc::clone(&open)))
            .app_data(Data::new(registry.clone()))
            .app_data(Data::new(ids.clone()))
            .app_data(Data::from(Arc::clone(&hosts)))
            .wrap(from_fn(check_host))
            .wrap(from_fn(bodies::guard))
            .wrap(from_fn(connections::guard))
            .wrap(from_fn(in_asked_type))
            .configure(routes)
    });
    let server = server.on_connect(move |connection, extensions| counted.enter(connection, extensions));
    let server = server.workers(1).max_connections(most_connections + REFUSED_AT_A_TIME).disable_signals();
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

/// A body that is not taken, in the protocol's form.
fn refused(refusal: &Refusal) -> HttpResponse {
    if let Refusal::TooLarge(_) = refusal {
        return RegistryError::TooLarge(MAX_SCHEMA_BYTES).error_response();
    }
    let plain = refusal.problem();
    let mut response = reply(refusal.status(), &error_body(refusal.status().as_u16().into(), &refusal.to_string()));
    for (name, value) in plain.headers().iter().filter(|(name, _)| *name != header::CONTENT_TYPE) {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    response
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
