//! Who may do what: Host and Origin, bearer tokens and roles.
//!
//! Without tokens everything is open, which only a loopback listener may be; refusing others is the caller's part.
//! Which hosts and origins are ours is decided in [`super::hosts`].

use std::sync::Arc;

use actix_web::{
    HttpMessage, HttpResponse, ResponseError,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode,
        header::{self, HeaderMap, HeaderValue},
    },
    middleware::Next,
    web::{Data, ReqData, ServiceConfig},
};
use serde::Serialize;
use subtle::ConstantTimeEq;

use super::{
    Answer, get,
    hosts::{HostRule, Purpose},
    problem::Problem,
};

/// Prefix of the WebSocket sub-protocol that carries a token, for browsers, which cannot set headers there.
pub const TOKEN_PROTOCOL: &str = "bearer.";

/// What a token allows; each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Appends records, moves consumer groups and commands actors.
    Operator,
    /// Injects faults; creates, alters and deletes topics.
    Admin,
}

impl std::fmt::Display for Role {
    /// As the configuration writes it.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        })
    }
}

/// A static bearer token.
#[derive(Clone)]
pub struct AccessToken {
    /// Who it belongs to, for the audit.
    pub name: String,
    pub role: Role,
    pub secret: String,
}

impl std::fmt::Debug for AccessToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("AccessToken")
            .field("name", &self.name)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// Rules of one server.
#[derive(Debug, Clone, Default)]
pub struct Access {
    pub hosts: HostRule,
    pub tokens: Vec<AccessToken>,
}

/// Who sends a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Caller {
    pub name: String,
    pub role: Role,
}

pub fn routes(config: &mut ServiceConfig) {
    config.service(get("/api/v1/caller", caller));
}

/// Whom the server takes the caller for, so that a page offers only what will be allowed.
#[utoipa::path(get, path = "/api/v1/caller", tag = "operations", responses((status = 200, description = "Whom the token belongs to", body = ref("#/components/schemas/Caller"))))]
pub async fn caller(caller: ReqData<Caller>) -> Answer {
    Ok(HttpResponse::Ok().json(&*caller))
}

fn refused(detail: String) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, detail)
}

impl Access {
    fn admit(&self, request: &ServiceRequest) -> Result<Caller, Problem> {
        let is_socket = routed_path(request).starts_with("/ws/");
        let is_change = is_socket || !request.method().is_safe();
        self.hosts.check(request.headers(), if is_change { Purpose::Change } else { Purpose::Read })?;
        let needed = needed_role(request);
        if self.tokens.is_empty() {
            return Ok(Caller { name: "anonymous".to_owned(), role: Role::Admin });
        }
        let Some(needed) = needed else {
            return Ok(Caller { name: "anonymous".to_owned(), role: Role::Viewer });
        };
        let given = given_token(request, is_socket);
        let caller = given.and_then(|given| self.caller(&given)).ok_or_else(unauthorized)?;
        if caller.role < needed {
            return Err(refused(format!("this needs the role {needed}, the token has {}", caller.role)));
        }
        Ok(caller)
    }

    /// Compares with all tokens, each in constant time.
    fn caller(&self, given: &str) -> Option<Caller> {
        let mut found = None;
        for token in &self.tokens {
            if bool::from(token.secret.as_bytes().ct_eq(given.as_bytes())) && !token.secret.is_empty() {
                found = Some(Caller { name: token.name.clone(), role: token.role });
            }
        }
        found
    }
}

/// The path that decides which handler gets the request: decoded, unlike that of the request itself.
fn routed_path(request: &ServiceRequest) -> &str {
    request.match_info().as_str()
}

/// `None` for what holds no data: the console's files, the documentation, health.
fn needed_role(request: &ServiceRequest) -> Option<Role> {
    let path = routed_path(request);
    let is_open =
        path == "/" || ["/console", "/docs", "/openapi.json", "/health/"].iter().any(|own| path.starts_with(own));
    let method = request.method();
    let is_for_admins = path.ends_with("/inject")
        || path.ends_with("/drill")
        || (path.starts_with("/api/v1/supervision/") && path.ends_with("/policy"))
        || path == "/api/v1/topics"
        || (path.starts_with("/api/v1/topics/") && matches!(*method, Method::PATCH | Method::DELETE));
    match (method.is_safe(), is_for_admins) {
        (true, _) if is_open => None,
        (true, _) => Some(Role::Viewer),
        (false, false) => Some(Role::Operator),
        (false, true) => Some(Role::Admin),
    }
}

fn given_token(request: &ServiceRequest, is_socket: bool) -> Option<String> {
    let bearer = request.headers().get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    bearer.or_else(|| is_socket.then(|| socket_token(request)).flatten())
}

fn socket_token(request: &ServiceRequest) -> Option<String> {
    let protocol =
        protocols(request.headers()).find_map(|protocol| protocol.strip_prefix(TOKEN_PROTOCOL).map(str::to_owned));
    protocol.or_else(|| {
        let query = actix_web::web::Query::<Vec<(String, String)>>::from_query(request.query_string()).ok()?;
        query.iter().find(|(name, _)| name == "access_token").map(|(_, token)| token.clone())
    })
}

/// The WebSocket sub-protocols that a client offers.
pub fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim)
}

fn unauthorized() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "a valid bearer token is needed").header(header::WWW_AUTHENTICATE, "Bearer")
}

/// Middleware: admits or refuses each request, answers CORS preflights of our origins, and leaves the [`Caller`] in
/// the request's extensions.
///
/// # Errors
/// None of its own.
pub async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let access = request.app_data::<Data<Access>>().map(|access| Arc::clone(access)).unwrap_or_default();
    let origin = access.hosts.own_origin(request.headers());
    let mut response = if request.method() == Method::OPTIONS && origin.is_some() {
        request.into_response(preflight()).map_into_right_body()
    } else {
        match access.admit(&request) {
            // No name of anything has this character, and no client library can ask for one that has.
            Ok(_) if routed_path(&request).contains('\0') => {
                request.into_response(Problem::not_found().error_response()).map_into_right_body()
            }
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                next.call(request).await?.map_into_left_body()
            }
            Err(problem) => request.into_response(problem.error_response()).map_into_right_body(),
        }
    };
    if let Some(origin) = origin {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    Ok(response)
}

fn preflight() -> HttpResponse {
    HttpResponse::NoContent()
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, PATCH, DELETE"))
        .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type"))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, "600"))
        .finish()
}
