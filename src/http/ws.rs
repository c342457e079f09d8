//! WebSocket sessions: one supervised task per client, between the live hub and the socket.
//!
//! The client gets each frame as a text message of its own, `{"type":"gap","dropped":n}` where frames were left out,
//! and `{"type":"ack","message":"connected","timestamp":…}` for any text that it sends.
//!
//! A session ends when the client leaves, when a write stays pending longer than `evict_after` (a client that never
//! reads), or when nothing came from the client, not even an answer to a ping, for `silence_limit`. The connection
//! behind an evicted session is cut by the kernel (`TCP_USER_TIMEOUT`), since its buffers will never drain.

use std::{future::Future, ops::RangeInclusive, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::{Data, Path, Payload, ServiceConfig},
};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, Closed, Session};
use futures_util::StreamExt;
use jiff::Timestamp;
use streamward_pipeline::live::{LiveEvent, Subscription, SubscriptionLimits};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::{
    Answer, HttpState,
    access::{TOKEN_PROTOCOL, protocols},
    get,
    problem::Problem,
};

/// Largest message that a client may send, in bytes.
const MAX_CLIENT_MESSAGE_BYTES: usize = 16 * 1024;
/// Sub-protocol that a browser offers beside its token.
const PROTOCOL: &str = "streamward.v1";
const WEBSOCKET_VERSION: &str = "13";

/// Bounds of a session.
#[derive(Debug, Clone, Copy)]
pub struct SocketSettings {
    pub ping_every: Duration,
    /// A client that sends nothing for so long, not even a pong, is gone.
    pub silence_limit: Duration,
    /// A write that stays pending for so long ends the session.
    pub evict_after: Duration,
    pub limits: SubscriptionLimits,
}

impl SocketSettings {
    /// Of [`Self::silence_limit`], by default: three pings that stay without an answer.
    pub const SILENCE: Duration = Duration::from_secs(45);
    /// Of [`Self::ping_every`]: a client has to be asked before it counts as gone.
    pub const PING_EVERY: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(30);
    /// Of [`Self::evict_after`]; the kernel counts it in milliseconds, in 31 bits.
    pub const EVICT_AFTER: RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_hours(24);
}

pub fn routes(config: &mut ServiceConfig) {
    config.service(get("/ws/{stream}", open));
}

/// Opens a session.
#[utoipa::path(get, path = "/ws/{stream}", tag = "live",
    params(
        ("stream" = String, Path, description = "Name of a stream, `alerts` or `supervision`"),
        ("access_token" = Option<String>, Query, description = "Bearer token, for clients that cannot set headers"),
    ),
    responses(
        (status = 101, description = "A WebSocket: `{\"type\", \"data\", \"received_at\"}` per record"),
        (status = 404, description = "No such stream"),
        (status = 426, description = "Not a WebSocket request"),
        (status = 503, description = "No room for another session"),
    ))]
pub async fn open(
    state: Data<HttpState>,
    settings: Data<SocketSettings>,
    stream: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Answer {
    let channel = state.live.find(&stream).ok_or_else(Problem::not_found)?;
    let (mut response, socket, messages) = actix_ws::handle(&request, payload).map_err(|_| not_a_socket())?;
    choose_protocol(&request, &mut response);
    let messages = messages
        .max_frame_size(MAX_CLIENT_MESSAGE_BYTES)
        .aggregate_continuations()
        .max_continuation_size(MAX_CLIENT_MESSAGE_BYTES);
    let session = LiveSession {
        settings: **settings,
        subscription: channel.subscribe(settings.limits),
        socket,
        messages,
        last_heard: Instant::now(),
    };
    let started = state.sessions.start(stream.into_inner(), Box::pin(session.run()));
    started.map_err(|full| Problem::unavailable(full.to_string()))?;
    Ok(response)
}

fn not_a_socket() -> Problem {
    Problem::new(StatusCode::UPGRADE_REQUIRED, "this path speaks WebSocket")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, WEBSOCKET_VERSION)
}

/// A browser that offers sub-protocols (to pass a token) fails unless one of them is chosen.
fn choose_protocol(request: &HttpRequest, response: &mut HttpResponse) {
    let ours = |protocol: &&str| *protocol == PROTOCOL || protocol.starts_with(TOKEN_PROTOCOL);
    let chosen = protocols(request.headers()).filter(ours).max_by_key(|protocol| *protocol == PROTOCOL);
    if let Some(value) = chosen.and_then(|protocol| protocol.parse().ok()) {
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
}

struct LiveSession {
    settings: SocketSettings,
    subscription: Subscription,
    socket: Session,
    messages: AggregatedMessageStream,
    last_heard: Instant,
}

/// Why a session ends.
enum End {
    /// The client left, or its connection did.
    Gone,
    /// The server closes, with this reason.
    Closing(CloseReason),
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        Self::Gone
    }
}

impl LiveSession {
    async fn run(mut self) {
        let end = match self.serve().await {
            Err(end) => end,
            Ok(never) => match never {},
        };
        if let End::Closing(reason) = end {
            // A client that does not read cannot be told: the wait is bounded and its outcome changes nothing.
            let _ = timeout(self.settings.ping_every, self.socket.close(Some(reason))).await;
        }
    }

    async fn serve(&mut self) -> Result<std::convert::Infallible, End> {
        let mut ping = interval(self.settings.ping_every);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = self.subscription.recv() => self.forward(event).await?,
                message = self.messages.next() => self.answer(message).await?,
                _ = ping.tick() => self.ping().await?,
            }
        }
    }

    async fn forward(&mut self, event: LiveEvent) -> Result<(), End> {
        let text = match event {
            LiveEvent::Frame(text) => text,
            LiveEvent::Gap { dropped } => format!(r#"{{"type":"gap","dropped":{dropped}}}"#).into(),
            LiveEvent::Closed => return Err(closing(CloseCode::Away, "the server shuts down")),
        };
        within(self.settings.evict_after, self.socket.text(text)).await
    }

    async fn answer(&mut self, message: Option<Result<AggregatedMessage, actix_ws::ProtocolError>>) -> Result<(), End> {
        self.last_heard = Instant::now();
        match message {
            Some(Ok(AggregatedMessage::Text(_))) => {
                let now = Timestamp::now();
                let text = format!(r#"{{"type":"ack","message":"connected","timestamp":"{now:.3}"}}"#);
                within(self.settings.evict_after, self.socket.text(text)).await
            }
            Some(Ok(AggregatedMessage::Ping(bytes))) => {
                within(self.settings.evict_after, self.socket.pong(&bytes)).await
            }
            Some(Ok(AggregatedMessage::Pong(_))) => Ok(()),
            Some(Ok(AggregatedMessage::Binary(_))) => Err(closing(CloseCode::Unsupported, "only text is understood")),
            Some(Ok(AggregatedMessage::Close(_))) => Err(closing(CloseCode::Normal, "")),
            Some(Err(_)) => Err(closing(CloseCode::Protocol, "not understood")),
            None => Err(End::Gone),
        }
    }

    async fn ping(&mut self) -> Result<(), End> {
        if self.last_heard.elapsed() > self.settings.silence_limit {
            return Err(closing(CloseCode::Policy, "no answer to pings"));
        }
        within(self.settings.evict_after, self.socket.ping(b"")).await
    }
}

/// Waits for a write, but not for ever: a client that does not read ends the session.
async fn within(limit: Duration, write: impl Future<Output = Result<(), Closed>>) -> Result<(), End> {
    match timeout(limit, write).await {
        Ok(written) => written.map_err(End::from),
        Err(_) => Err(End::Gone),
    }
}

fn closing(code: CloseCode, description: &str) -> End {
    let description = (!description.is_empty()).then(|| description.to_owned());
    End::Closing(CloseReason { code, description })
}
