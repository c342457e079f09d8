//! Bodies of requests against clients that are slow, many or misleading.
//!
//! The middleware [`guard`] stands between the connection and whoever reads a body:
//! - a body has a deadline as a whole, and one for the next bytes (408);
//! - bodies of all connections together hold a bounded number of bytes (503); each may hold [`FREE_BYTES`] beyond it,
//!   so that small requests are served while large bodies fill the room;
//! - a `Content-Encoding` is decoded, within the bound of the decoded bytes (413), or refused (415).
//!
//! A body that was not read to its end ends its connection: the payload lives until the answer is written, for actix
//! reads on for ever where the payload of a chunked body is dropped before.

mod decoding;
mod reading;
#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{
    HttpMessage, HttpResponse, ResponseError,
    body::{BodySize, BoxBody, EitherBody, MessageBody},
    dev::{Payload, ServiceRequest, ServiceResponse},
    http::{
        StatusCode,
        header::{self, HeaderMap},
    },
    middleware::Next,
    web::{Bytes, Data},
};

use self::reading::{Inbound, Reading};
use super::problem::Problem;

/// Bytes of each body that need no room.
pub const FREE_BYTES: usize = 16 << 10;
/// What the server decodes, for `Accept-Encoding`.
const ENCODINGS: &str = "gzip, deflate, identity";

/// Bytes that the bodies of all connections hold.
#[derive(Debug)]
pub struct Room {
    limit: usize,
    used: AtomicUsize,
}

impl Room {
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    /// Whether the bytes found room; they hold it until they are given back.
    fn take(&self, bytes: usize) -> bool {
        let taken = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.limit);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, taken).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// Rules for the bodies of one server.
#[derive(Debug, Clone)]
pub struct BodyRules {
    /// How long a body may take from its head to its end.
    pub whole: Duration,
    /// How long a body may stay without further bytes.
    pub progress: Duration,
    /// Most decoded bytes of a body.
    pub decoded_bytes: usize,
    /// Shared by all workers.
    pub room: Arc<Room>,
    /// Writes a refusal in the server's form.
    pub refuse: fn(&Refusal) -> HttpResponse,
}

/// Why a body is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the body did not come in time")]
    TimedOut,
    #[error("the bodies of other requests fill the memory for bodies; try again")]
    NoRoom,
    #[error("Content-Encoding '{0}' is not supported; use gzip or deflate, or none")]
    Encoding(String),
    #[error("the body is over {0} bytes")]
    TooLarge(usize),
    #[error("the body is not in its Content-Encoding: {0}")]
    Damaged(String),
}

impl Refusal {
    /// 408, 503, 415, 413 or 400.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
            Self::Encoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Damaged(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// The refusal as `application/problem+json`.
    #[must_use]
    pub fn problem(&self) -> HttpResponse {
        let problem = match self {
            Self::NoRoom => Problem::unavailable(self.to_string()),
            Self::Encoding(_) => {
                Problem::new(self.status(), self.to_string()).header(header::ACCEPT_ENCODING, ENCODINGS)
            }
            Self::TimedOut | Self::TooLarge(_) | Self::Damaged(_) => Problem::new(self.status(), self.to_string()),
        };
        problem.error_response()
    }
}

/// Middleware: hands the body on under the server's [`BodyRules`], and answers for a body that it refused.
///
/// # Errors
/// None of its own.
pub async fn guard(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody, Held>>, actix_web::Error> {
    let rules = request.app_data::<Data<BodyRules>>().map(|rules| Arc::clone(rules));
    let Some(rules) = rules.filter(|_| has_body(request.headers())) else {
        return Ok(next.call(request).await?.map_into_left_body());
    };
    let inbound = Inbound::new(request.take_payload(), request.headers(), Arc::clone(&rules));
    let inbound = Rc::new(RefCell::new(inbound));
    request.set_payload(Payload::Stream { payload: Box::pin(Reading(Rc::clone(&inbound))) });
    let response = next.call(request).await?;
    let refusal = inbound.borrow_mut().end();
    let response = match refusal {
        Some(refusal) => refused(&response, (rules.refuse)(&refusal)),
        None => response.map_into_boxed_body(),
    };
    Ok(response.map_body(|_, body| EitherBody::right(Held { body, _inbound: inbound })))
}

fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length.as_bytes() != b"0")
}

/// The refusal in place of a handler's answer, with the headers that every answer has.
fn refused(response: &ServiceResponse<impl MessageBody>, mut refusal: HttpResponse) -> ServiceResponse {
    for (name, value) in response.headers() {
        if !refusal.headers().contains_key(name) {
            refusal.headers_mut().insert(name.clone(), value.clone());
        }
    }
    ServiceResponse::new(response.request().clone(), refusal)
}

/// A response's body that keeps the request's payload until it is written.
pub struct Held {
    body: BoxBody,
    _inbound: Rc<RefCell<Inbound>>,
}

impl MessageBody for Held {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(context)
    }
}
