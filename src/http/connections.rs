//! A bound of the connections of one server, over all its workers.
//!
//! The listener never stops accepting: a client that nobody accepts waits without a word. A connection over the bound
//! gets 503 and ends at once. Where connections become few, each ends after its answer, so that idle ones make room.

use std::{
    any::Any,
    net::Shutdown,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use actix_web::{
    HttpResponse,
    body::MessageBody,
    dev::{Extensions, ServiceRequest, ServiceResponse},
    http::{ConnectionType, StatusCode},
    middleware::Next,
    rt::net::TcpStream,
    web::Data,
};
use socket2::SockRef;

/// What a client over the bound is told: its request is not read.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
    retry-after: 2\r\nconnection: close\r\ncontent-length: 133\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\"too many connections are open; \
    try again in some seconds\"}";
/// Connections that one worker may have beside the bound: those that are being refused.
pub const REFUSED_AT_A_TIME: usize = 256;

/// Connections of one server.
#[derive(Debug)]
pub struct Connections {
    limit: usize,
    open: AtomicUsize,
}

/// One of them.
struct Seat {
    connections: Arc<Connections>,
    /// Its requests are not carried out: the client was told so.
    is_refused: bool,
}

impl Connections {
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, open: AtomicUsize::new(0) })
    }

    /// Counts a new connection until it ends, and refuses it over the bound.
    pub fn enter(self: &Arc<Self>, connection: &dyn Any, extensions: &mut Extensions) {
        let before = self.open.fetch_add(1, Ordering::AcqRel);
        let is_refused = before >= self.limit;
        extensions.insert(Seat { connections: Arc::clone(self), is_refused });
        if !is_refused {
            return;
        }
        if let Some(stream) = connection.downcast_ref::<TcpStream>() {
            let socket = SockRef::from(stream);
            // A client that is gone or takes nothing needs no answer.
            let _ = socket.send(REFUSAL);
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Whether three quarters of the connections are open.
    fn are_few_left(&self) -> bool {
        self.open.load(Ordering::Acquire) > self.limit / 4 * 3
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Middleware: carries out nothing for a refused connection, and keeps none alive where few are left.
///
/// # Errors
/// None of its own.
pub async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    // What a client sent before it was refused is still read.
    if request.conn_data::<Seat>().is_some_and(|seat| seat.is_refused) {
        let told = HttpResponse::ServiceUnavailable().force_close().finish();
        return Ok(request.into_response(told).map_into_right_body());
    }
    let connections = request.app_data::<Data<Connections>>().cloned();
    let mut response = next.call(request).await?.map_into_left_body();
    let is_upgrade = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if !is_upgrade && connections.is_some_and(|connections| connections.are_few_left()) {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::http::{HttpSettings, tests::client::Running};

    #[test]
    fn the_refusal_has_the_length_that_it_names() {
        let text = std::str::from_utf8(REFUSAL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }

    #[test]
    fn a_connection_over_the_bound_is_told_so_at_once_and_served_when_there_is_room() {
        let server = Running::with(HttpSettings { connections: 3, workers: 2, ..HttpSettings::default() });
        let get = || server.get("/health/live");
        let held: Vec<_> = (0..3).map(|_| server.connect()).collect();
        server.wait_until("the bound is reached", || get().status == 503);
        let refused = get();
        assert_eq!(refused.header("retry-after"), Some("2"));
        assert_eq!(refused.json()["status"], 503);
        drop(held);
        server.wait_until("there is room again", || get().status == 200);
    }

    #[test]
    fn connections_are_kept_alive_while_there_are_many_left() {
        let server = Running::with(HttpSettings { connections: 8, workers: 1, ..HttpSettings::default() });
        let ask = |stream: &mut std::net::TcpStream| {
            let head = format!("GET /health/live HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
            stream.write_all(head.as_bytes()).unwrap();
            let mut answer = Vec::new();
            let mut byte = [0];
            while !answer.ends_with(b"}") && stream.read(&mut byte).unwrap() == 1 {
                answer.push(byte[0]);
            }
            String::from_utf8(answer).unwrap().contains("connection: close")
        };
        let mut kept = server.connect();
        assert!(!ask(&mut kept));
        let others: Vec<_> = (0..6).map(|_| server.connect()).collect();
        server.wait_until("few are left", || ask(&mut server.connect()));
        assert!(ask(&mut kept), "idle ones make room");
        assert_eq!(kept.read(&mut [0]).unwrap(), 0, "it is closed");
        drop(others);
    }
}
