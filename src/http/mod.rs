//! The HTTP side: REST, WebSockets, the console's files, OpenAPI and its page.
//!
//! Handlers read parameters, ask one port and shape its answer; what a word means is decided behind the ports. No
//! adapter is used here, and no handler waits for ingestion: reads have their own connections, live frames come from
//! a ring that nobody waits for.
//!
//! | file | routes |
//! |---|---|
//! | `access`, `hosts` | who may do what; which hosts and origins are ours; `/api/v1/caller` |
//! | `bodies`, `connections` | deadlines, memory and encodings of request bodies; how many connections there may be |
//! | `sensors` | `/`, `/api/v1/sensors/…` as in the project that Streamward replaces |
//! | `streams` | `/api/v1/streams/…` for any stream |
//! | `records` | `POST /api/v1/streams/{stream}/records` |
//! | `facts` | alerts, dead letters |
//! | `topics`, `topic_records`, `groups` | `/api/v1/topics/…`, `/api/v1/groups/…`: what the broker holds |
//! | `operations` | supervision, events, topology, lag, health, metrics |
//! | `ws` | `/ws/{stream}` |
//! | `assets` | `/console/…`; its files are in `console/` |
//! | `openapi` | `/openapi.json`, `/docs` |
//!
//! Start at [`server`].

pub mod access;
mod assets;
pub mod bodies;
pub mod connections;
mod facts;
mod groups;
pub mod hosts;
mod openapi;
mod operations;
mod params;
pub mod problem;
mod records;
mod sensors;
mod streams;
#[cfg(test)]
mod tests;
mod topic_records;
mod topics;
mod ws;

use std::{io, net::TcpListener, ops::RangeInclusive, sync::Arc, time::Duration};

use actix_web::{
    App, Handler, HttpResponse, HttpServer, Resource, Responder,
    dev::Server,
    http::{StatusCode, header},
    middleware::from_fn,
    web::{self, Data, ServiceConfig},
};
use serde_json::{Map, Value};
use socket2::SockRef;
use streamward_core::ports::{
    Ingest, Operations, Page, ReadStore, SessionHost, ValueDecoder, ValueEncoder, topics::Topics,
};
use streamward_core::schema::instant;
use streamward_pipeline::live::{LiveHub, SubscriptionLimits};

use self::{
    access::Access,
    bodies::{BodyRules, Refusal, Room},
    connections::{Connections, REFUSED_AT_A_TIME},
    problem::Problem,
};
pub use self::{openapi::document as openapi_document, ws::SocketSettings};
use crate::clock::rfc3339;

/// An answer of a handler.
pub type Answer = Result<HttpResponse, Problem>;

/// Bytes that the server buffers for a client that does not read, beside the kernel's.
const WRITE_BUFFER_BYTES: usize = 4 * 1024;
/// Bytes that the kernel buffers for such a client (it doubles the number).
const SEND_BUFFER_BYTES: usize = 32 * 1024;
const BACKLOG: u32 = 1024;

/// What the handlers ask.
#[derive(Clone)]
pub struct HttpState {
    pub reads: Arc<dyn ReadStore>,
    pub ingest: Arc<dyn Ingest>,
    pub operations: Arc<dyn Operations>,
    pub sessions: Arc<dyn SessionHost>,
    pub topics: Arc<dyn Topics>,
    /// Shows the values of dead letters and of topics' records.
    pub decoder: Arc<dyn ValueDecoder>,
    /// Writes values by a schema.
    pub encoder: Arc<dyn ValueEncoder>,
    /// One channel per stream, made before the server starts.
    pub live: LiveHub,
}

/// Bounds and rules of the server.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    pub workers: usize,
    pub access: Access,
    /// Largest request body, in bytes.
    pub body_limit: usize,
    /// Most records in one request.
    pub records_limit: usize,
    /// Most connections of all workers.
    pub connections: usize,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// How long a client may take to send its request's head.
    pub request_timeout: Duration,
    /// How long a request's body may take as a whole.
    pub body_timeout: Duration,
    /// How long a request's body may stay without further bytes.
    pub body_progress: Duration,
    /// Most bytes that the bodies of all connections hold, beside [`bodies::FREE_BYTES`] of each.
    pub bodies_limit: usize,
    /// How long open requests may take at shutdown.
    pub shutdown_timeout: Duration,
    pub sockets: SocketSettings,
}

impl HttpSettings {
    /// Of [`Self::workers`].
    pub const WORKERS: RangeInclusive<usize> = 1..=64;
    /// Of [`Self::body_limit`]; a body is held in memory.
    pub const BODY_BYTES: RangeInclusive<usize> = 1 << 10..=256 << 20;
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            workers: 2,
            access: Access::default(),
            body_limit: 4 * 1024 * 1024,
            records_limit: 10_000,
            connections: 4_096,
            keep_alive: Duration::from_secs(30),
            request_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(30),
            body_progress: Duration::from_secs(5),
            bodies_limit: 24 * 1024 * 1024,
            shutdown_timeout: Duration::from_secs(3),
            sockets: SocketSettings {
                ping_every: Duration::from_secs(15),
                silence_limit: SocketSettings::SILENCE,
                evict_after: Duration::from_secs(60),
                limits: SubscriptionLimits::default(),
            },
        }
    }
}

/// Limits that handlers look at.
#[derive(Debug, Clone, Copy)]
struct Limits {
    body_bytes: usize,
    records: usize,
}

/// A server on a listener, without signal handlers; it serves when it is polled or spawned.
///
/// # Errors
/// If the listener cannot be used.
pub fn server(state: HttpState, listener: TcpListener, mut settings: HttpSettings) -> io::Result<Server> {
    settings.access.hosts = settings.access.hosts.at(listener.local_addr()?);
    let socket = SockRef::from(&listener);
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(settings.sockets.evict_after))?;
    let settings = Arc::new(settings);
    let shared = Arc::clone(&settings);
    let body_rules = BodyRules {
        whole: settings.body_timeout,
        progress: settings.body_progress,
        decoded_bytes: settings.body_limit,
        room: Room::new(settings.bodies_limit.max(2 * settings.body_limit)),
        refuse: Refusal::problem,
    };
    let open = Connections::new(settings.connections);
    let counted = Arc::clone(&open);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::from(Arc::clone(&open)))
            .app_data(Data::new(body_rules.clone()))
            .wrap(from_fn(access::guard))
            .wrap(from_fn(bodies::guard))
            .wrap(from_fn(connections::guard))
            .configure(|config| routes(config, &state, &shared))
    });
    Ok(server
        .on_connect(move |connection, extensions| counted.enter(connection, extensions))
        .workers(settings.workers)
        .disable_signals()
        .backlog(BACKLOG)
        .max_connections(settings.connections + REFUSED_AT_A_TIME)
        .keep_alive(settings.keep_alive)
        .client_request_timeout(settings.request_timeout)
        .h1_write_buffer_size(WRITE_BUFFER_BYTES)
        .shutdown_timeout(settings.shutdown_timeout.as_secs().max(1))
        .listen(listener)?
        .run())
}

fn routes(config: &mut ServiceConfig, state: &HttpState, settings: &HttpSettings) {
    config
        .app_data(Data::new(state.clone()))
        .app_data(Data::new(settings.access.clone()))
        .app_data(Data::new(Limits { body_bytes: settings.body_limit, records: settings.records_limit }))
        .app_data(Data::new(settings.sockets))
        .configure(access::routes)
        .configure(sensors::routes)
        .configure(streams::routes)
        .configure(records::routes)
        .configure(facts::routes)
        .configure(topics::routes)
        .configure(topic_records::routes)
        .configure(groups::routes)
        .configure(operations::routes)
        .configure(ws::routes)
        .configure(assets::routes)
        .configure(openapi::routes)
        .default_service(web::to(no_route));
}

async fn no_route() -> Answer {
    Err(Problem::not_found())
}

/// A resource that answers GET and HEAD.
fn get<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args> + Clone,
    Args: actix_web::FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::get().to(handler.clone()))
        .route(web::head().to(handler))
        .default_service(web::to(|| async { method_not_allowed("GET, HEAD") }))
}

/// A resource that answers POST.
fn post<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: actix_web::FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path).route(web::post().to(handler)).default_service(web::to(|| async { method_not_allowed("POST") }))
}

fn method_not_allowed(allowed: &str) -> Answer {
    Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed").header(header::ALLOW, allowed))
}

/// The JSON body of a list: `total`, `count`, `next` and the items under their plural.
fn list<T>(plural: &str, page: Page<T>, item: impl FnMut(T) -> Value) -> HttpResponse {
    let mut body = Map::new();
    body.insert("total".to_owned(), page.total.into());
    if page.total_is_estimate {
        body.insert("total_is_estimate".to_owned(), true.into());
    }
    body.insert("count".to_owned(), page.items.len().into());
    body.insert("next".to_owned(), page.next.into());
    body.insert(plural.to_owned(), page.items.into_iter().map(item).collect());
    HttpResponse::Ok().json(body)
}

/// A list that is whole on its one page.
fn whole(items: Vec<Value>) -> Page<Value> {
    Page { total: items.len() as u64, items, total_is_estimate: false, next: None }
}

/// Milliseconds since 1970 (UTC) as RFC 3339 text; null beyond the years 1 to 9999.
fn time_text(ms: i64) -> Value {
    if instant::is_in_range(ms) { rfc3339(ms).into() } else { Value::Null }
}
