//! One client connection: frames in, responses out, in order, one request at a time.
//!
//! Where clients have to prove who they are, [`sign_in`] comes first: until it ends, nothing but the
//! proof is served, in small frames and before a deadline.
//!
//! Memory is bounded: one request of at most `max_request_bytes` to produce or [`MAX_OTHER_BYTES`] for
//! anything else, [`READ_AHEAD_BYTES`] of those that follow, and one response. A larger request to produce is read past and
//! refused up to [`MAX_DRAINED_BYTES`]. A request that waits is given up when the client goes away.

mod oversized;
mod transport;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use rustix::net::sockopt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use crate::api::{self, Client};
use crate::auth::{Outcome, Session};
use crate::broker::Broker;
use crate::log::Records;
use crate::serve::Access;
use crate::tls;
use crate::wire::{Answer, Frame, Malformed};
use oversized::{MAX_DRAINED_BYTES, Oversized};
use transport::Transport;

/// Silence after which a client that waits for nothing is given up, as `connections.max.idle.ms` of Kafka.
const IDLE_LIMIT: Duration = Duration::from_secs(600);
/// A client whose machine is gone is noticed after [`KEEPALIVE_IDLE`] and [`KEEPALIVE_PROBES`] times
/// [`KEEPALIVE_INTERVAL`].
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;
/// Bytes read of later requests while one waits for its answer.
const READ_AHEAD_BYTES: usize = 64 << 10;
/// Bytes that the buffer grows by ahead of what arrived.
const GROWTH_BYTES: usize = 1 << 20;
const FIRST_BUFFER_BYTES: usize = 8 << 10;
/// Largest request that is no Produce: what it decodes to and its answer may take a hundred times as much.
const MAX_OTHER_BYTES: usize = 1 << 20;
/// Where the length of a frame ends, and where the API behind it does.
const LENGTH_END: usize = 4;
const KEY_END: usize = 6;
/// Largest request of a client that has not proven who it is.
const MAX_SIGN_IN_BYTES: usize = 64 << 10;
/// How long the answer to a failed proof waits.
const FAILURE_DELAY: Duration = Duration::from_millis(100);
/// Time for the last bytes of a connection that the broker ends.
const FAREWELL: Duration = Duration::from_secs(1);
/// First bytes of a TLS connection: a handshake record of TLS 1.x.
const TLS_HANDSHAKE: [u8; 2] = [22, 3];

/// Serves a connection until the client leaves or breaks the protocol.
pub(crate) async fn run(broker: Broker, access: Access, stream: TcpStream, peer: SocketAddr) {
    match begin(&broker, &access, stream, peer).await {
        Ok(()) => {}
        Err(Ended::Io(error)) => tracing::debug!(%peer, %error, "connection lost"),
        Err(error) => match access.complaints.say(std::time::Instant::now()) {
            Some(unsaid) => tracing::warn!(%peer, %error, unsaid, "connection closed"),
            None => tracing::debug!(%peer, %error, "connection closed"),
        },
    }
}

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the client speaks TLS, this listener does not")]
    UnexpectedTls,
    #[error("the client does not speak TLS, this listener does")]
    NoTls,
    #[error("TLS handshake: {0}")]
    Tls(rustls::Error),
    #[error("no TLS handshake after {0:?}")]
    NoTlsInTime(Duration),
    #[error("{0:?} before authentication")]
    Unauthenticated(ApiKey),
    #[error("authentication failed: {0}")]
    Refused(String),
    #[error("not authenticated after {0:?}")]
    Late(Duration),
    #[error("the session has expired and was not renewed")]
    Expired,
}

async fn begin(broker: &Broker, access: &Access, stream: TcpStream, peer: SocketAddr) -> Result<(), Ended> {
    let limit = broker.inner().config.handshake_timeout;
    let deadline = Instant::now() + limit;
    stream.set_nodelay(true)?;
    keep_alive(&stream)?;
    let local = stream.local_addr()?;
    let host = access.host.clone().unwrap_or_else(|| local.ip().to_canonical().to_string());
    let broker_address = (host, i32::from(local.port()));
    let client = Client::new(peer.ip().to_canonical().to_string(), broker_address, access.metered);
    let Some(config) = &access.tls else {
        return converse(broker, access, client, (stream, deadline)).await;
    };
    let shaking_hands = timeout_at(deadline, Box::pin(TlsAcceptor::from(config.clone()).accept(stream)));
    match shaking_hands.await {
        Err(_) => Err(Ended::NoTlsInTime(limit)),
        Ok(Err(error)) => Err(match tls::fault(&error) {
            None => Ended::Io(error),
            Some(rustls::Error::InvalidMessage(_)) => Ended::NoTls,
            Some(fault) => Ended::Tls(fault.clone()),
        }),
        Ok(Ok(stream)) => Box::pin(converse(broker, access, client, (stream, deadline))).await,
    }
}

/// Has the system look whether the client's machine is still there.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    Ok(sockopt::set_socket_keepalive(stream, true)?)
}

async fn converse<S: Transport>(
    broker: &Broker,
    access: &Access,
    mut client: Client,
    (stream, deadline): (S, Instant),
) -> Result<(), Ended> {
    let mut connection = Connection::new(stream);
    let ended = signed_in(broker, access, &mut client, (&mut connection, deadline)).await;
    broker.inner().groups.connection_lost(client.memberships);
    // A client that does not take its last bytes has to do without them.
    let _ = timeout(FAREWELL, connection.stream.shutdown()).await;
    ended
}

/// Serves a client, after its authentication where that is asked for.
async fn signed_in<S: Transport>(
    broker: &Broker,
    access: &Access,
    client: &mut Client,
    (connection, deadline): (&mut Connection<S>, Instant),
) -> Result<(), Ended> {
    let Some(auth) = &access.auth else {
        return serve(broker, client, connection, None).await;
    };
    let mut session = Session::new(auth.clone());
    let signing_in = timeout_at(deadline, Box::pin(sign_in(broker, client, connection, &mut session)));
    match signing_in.await {
        Err(_) => Err(Ended::Late(broker.inner().config.handshake_timeout)),
        Ok(Err(ended)) => Err(ended),
        Ok(Ok(Left::Yes)) => Ok(()),
        Ok(Ok(Left::No)) => {
            client.user = session.user().map(str::to_owned);
            client.is_own = client.user.is_some() && client.user == access.own_user;
            serve(broker, client, connection, Some(session)).await
        }
    }
}

/// Whether the client has closed its side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Yes,
    No,
}

/// Serves what a client needs to prove who it is, until it has.
async fn sign_in<S: Transport>(
    broker: &Broker,
    client: &Client,
    connection: &mut Connection<S>,
    session: &mut Session,
) -> Result<Left, Ended> {
    let limit = MAX_SIGN_IN_BYTES.min(broker.inner().config.max_request_bytes);
    while session.user().is_none() {
        let Some(bytes) = connection.next_frame(limit).await? else {
            return Ok(Left::Yes);
        };
        broker.inner().counters.received(bytes.len());
        if session.expects_bare_token() {
            connection.answer_bare_token(broker, session, &bytes).await?;
            continue;
        }
        let frame = Frame::parse(bytes)?;
        match frame.key {
            ApiKey::ApiVersions => {
                let answer = api::answer(broker, client, frame).await?;
                connection.send(broker, &answer.unwrap_or_default()).await?;
            }
            ApiKey::SaslHandshake | ApiKey::SaslAuthenticate => {
                connection.prove(broker, session, &frame).await?;
            }
            key => return Err(Ended::Unauthenticated(key)),
        }
    }
    Ok(Left::No)
}

/// Serves requests until the client leaves.
async fn serve<S: Transport>(
    broker: &Broker,
    client: &Client,
    connection: &mut Connection<S>,
    mut session: Option<Session>,
) -> Result<(), Ended> {
    let limit = broker.inner().config.max_request_bytes;
    loop {
        // While a client has to prove again who it is, nothing but that is answered.
        let Some(is_oversized) = connection.has_oversized(limit).await? else { return Ok(()) };
        let is_served = session.as_ref().is_none_or(|s| !s.is_renewing() && !s.is_expired(std::time::Instant::now()));
        if is_oversized && is_served {
            refuse_oversized(broker, client, connection).await?;
            continue;
        }
        let Some(bytes) = connection.next_frame(limit).await? else { return Ok(()) };
        broker.inner().counters.received(bytes.len());
        let frame = Frame::parse(bytes)?;
        if let Some(session) = &mut session {
            if matches!(frame.key, ApiKey::SaslHandshake | ApiKey::SaslAuthenticate) {
                connection.prove(broker, session, &frame).await?;
                continue;
            }
            if session.is_expired(std::time::Instant::now()) {
                return Err(Ended::Expired);
            }
            if session.is_renewing() {
                return Err(Ended::Unauthenticated(frame.key));
            }
        }
        let answer = tokio::select! {
            biased;
            answer = api::answer(broker, client, frame) => answer?,
            left = connection.client_left() => return Ok(left?),
        };
        if let Some(answer) = answer {
            connection.send(broker, &answer).await?;
        }
        if let Some(pause) = client.throttle.take_pause() {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                left = connection.client_left() => return Ok(left?),
            }
        }
    }
}

/// Reads past a request to produce that is too large, and tells its client so.
async fn refuse_oversized<S: Transport>(
    broker: &Broker,
    client: &Client,
    connection: &mut Connection<S>,
) -> Result<(), Ended> {
    let Oversized { client_id, bytes, answer } = Box::pin(oversized::drain(connection)).await?;
    let limit = broker.inner().config.max_request_bytes;
    broker.inner().counters.received(bytes);
    if let Some(unsaid) = broker.inner().access.complaints.say(std::time::Instant::now()) {
        tracing::warn!(
            client_id,
            host = client.host,
            bytes,
            limit,
            unsaid,
            "a request to produce is too large: refused"
        );
    }
    match answer {
        Some(answer) => Ok(connection.send(broker, &answer).await?),
        None => Ok(()),
    }
}

/// A stream and what was read of it ahead.
struct Connection<S> {
    stream: S,
    buffer: BytesMut,
}

impl<S: Transport> Connection<S> {
    fn new(stream: S) -> Self {
        Self { stream, buffer: BytesMut::with_capacity(FIRST_BUFFER_BYTES) }
    }

    async fn send(&mut self, broker: &Broker, answer: &Answer) -> io::Result<()> {
        broker.inner().counters.sent(answer.len());
        let are_several = answer.pieces().len() > 1;
        if are_several {
            self.stream.join_pieces(true)?;
        }
        for piece in answer.pieces() {
            match piece {
                Records::Memory(bytes) => self.stream.send(bytes).await?,
                Records::File(slice) => self.stream.send_file(slice).await?,
            }
        }
        if are_several {
            self.stream.join_pieces(false)?;
        }
        self.stream.finish().await
    }

    /// The next request without its length; `None` when the client closed or was silent for [`IDLE_LIMIT`].
    async fn next_frame(&mut self, limit: usize) -> Result<Option<Bytes>, Ended> {
        let buffer = &mut self.buffer;
        loop {
            let wanted = bytes_to_read(buffer, limit)?;
            if buffer.len() >= wanted {
                let mut frame = buffer.split_to(wanted);
                frame.advance(LENGTH_END);
                return Ok(Some(frame.freeze()));
            }
            buffer.reserve((wanted - buffer.len()).clamp(FIRST_BUFFER_BYTES, GROWTH_BYTES));
            match timeout(IDLE_LIMIT, self.stream.read_buf(buffer)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0)) | Err(_) => return Ok(None),
                Ok(Err(error)) => return Err(error.into()),
            }
        }
    }

    /// Waits for the start of the next request: whether it is one to produce that is larger than `limit`, but not more
    /// than is read past. `None` when the client closed or was silent for [`IDLE_LIMIT`].
    async fn has_oversized(&mut self, limit: usize) -> io::Result<Option<bool>> {
        loop {
            if let Some(mut start) = self.buffer.get(..LENGTH_END) {
                let length = usize::try_from(start.get_i32()).unwrap_or(0);
                let key = self.buffer.get(LENGTH_END..KEY_END);
                if length <= limit || length > MAX_DRAINED_BYTES || key.is_some() {
                    let is_produce = key == Some(&(ApiKey::Produce as i16).to_be_bytes());
                    return Ok(Some(is_produce && length > limit && length <= MAX_DRAINED_BYTES));
                }
            }
            self.buffer.reserve(FIRST_BUFFER_BYTES);
            match timeout(IDLE_LIMIT, self.stream.read_buf(&mut self.buffer)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0)) | Err(_) => return Ok(None),
                Ok(Err(error)) => return Err(error),
            }
        }
    }

    /// Completes when the client closes its side; keeps what it sends before.
    async fn client_left(&mut self) -> io::Result<()> {
        while self.buffer.len() < READ_AHEAD_BYTES {
            self.buffer.reserve(FIRST_BUFFER_BYTES);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(());
            }
        }
        std::future::pending().await
    }

    /// Answers a request of an authentication, for the first time or again.
    async fn prove(&mut self, broker: &Broker, session: &mut Session, frame: &Frame) -> Result<(), Ended> {
        let (answer, reason) = api::prove(session, frame)?;
        if session.has_failed() {
            broker.inner().counters.failed_authentication();
            tokio::time::sleep(FAILURE_DELAY).await;
        }
        self.send(broker, &answer).await?;
        if session.has_failed() { Err(Ended::Refused(reason)) } else { Ok(()) }
    }

    /// Answers a token that came without header, after a handshake of version 0 (KIP-43).
    async fn answer_bare_token(&mut self, broker: &Broker, session: &mut Session, token: &[u8]) -> Result<(), Ended> {
        let (Outcome::Challenge(answer) | Outcome::Authenticated(answer, _)) =
            session.authenticate(token, std::time::Instant::now())
        else {
            broker.inner().counters.failed_authentication();
            tokio::time::sleep(FAILURE_DELAY).await;
            return Err(Ended::Refused("the token after SaslHandshake version 0 is refused".to_owned()));
        };
        let length = u32::try_from(answer.len()).unwrap_or(u32::MAX);
        let framed = Answer::of(vec![Records::Memory([&length.to_be_bytes()[..], &answer].concat().into())]);
        Ok(self.send(broker, &framed).await?)
    }
}

/// Bytes up to which the next frame has to be read: its length, the API if it is large, its end.
fn bytes_to_read(start: &[u8], limit: usize) -> Result<usize, Ended> {
    let Some(mut prefix) = start.get(..LENGTH_END) else {
        return Ok(LENGTH_END);
    };
    let length = prefix.get_i32();
    let refused = || Err(too_long(start, length));
    match usize::try_from(length) {
        Ok(bytes) if bytes > limit => refused(),
        Ok(bytes) if bytes > MAX_OTHER_BYTES => match start.get(LENGTH_END..KEY_END) {
            None => Ok(KEY_END),
            Some(key) if *key == (ApiKey::Produce as i16).to_be_bytes() => Ok(LENGTH_END + bytes),
            Some(_) => refused(),
        },
        Ok(bytes) => Ok(LENGTH_END + bytes),
        Err(_) => refused(),
    }
}

/// Why a frame is not read.
fn too_long(start: &[u8], length: i32) -> Ended {
    if start.starts_with(&TLS_HANDSHAKE) {
        Ended::UnexpectedTls
    } else {
        Malformed::new(format!("{length} bytes")).into()
    }
}

#[cfg(test)]
mod tests;
