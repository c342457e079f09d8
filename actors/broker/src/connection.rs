//! One client connection: frames in, responses out, in order, one request at a time.
//!
//! Memory is bounded: one request of at most `max_request_bytes`, [`READ_AHEAD_BYTES`] of those that
//! follow, and one response. A request that waits is given up when the client goes away.

use std::io;
use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::api::{self, Client};
use crate::broker::Broker;
use crate::wire::{Frame, Malformed};

/// Bytes read of later requests while one waits for its answer.
const READ_AHEAD_BYTES: usize = 64 << 10;
/// Bytes that the buffer grows by ahead of what arrived.
const GROWTH_BYTES: usize = 1 << 20;
const FIRST_BUFFER_BYTES: usize = 8 << 10;

/// Serves a connection until the client leaves or breaks the protocol.
pub(crate) async fn run(broker: Broker, stream: TcpStream, peer: SocketAddr) {
    match converse(&broker, stream, peer).await {
        Ok(()) => {}
        Err(Ended::Malformed(error)) => {
            tracing::warn!(%peer, %error, "connection closed");
        }
        Err(Ended::Io(error)) => tracing::debug!(%peer, %error, "connection lost"),
    }
}

enum Ended {
    Io(io::Error),
    Malformed(Malformed),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Malformed> for Ended {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

async fn converse(broker: &Broker, mut stream: TcpStream, peer: SocketAddr) -> Result<(), Ended> {
    stream.set_nodelay(true)?;
    let client = Client { host: peer.ip().to_string(), port: i32::from(stream.local_addr()?.port()) };
    let mut buffer = BytesMut::with_capacity(FIRST_BUFFER_BYTES);
    let limit = broker.inner().config.max_request_bytes;
    while let Some(bytes) = next_frame(&mut stream, &mut buffer, limit).await? {
        broker.inner().counters.received(bytes.len());
        let frame = Frame::parse(bytes)?;
        let answer = tokio::select! {
            biased;
            answer = api::answer(broker, &client, frame) => answer?,
            left = client_left(&mut stream, &mut buffer) => return Ok(left?),
        };
        if let Some(answer) = answer {
            broker.inner().counters.sent(answer.len());
            stream.write_all(&answer).await?;
        }
    }
    Ok(())
}

/// The next request without its length; `None` when the client closed.
async fn next_frame(stream: &mut TcpStream, buffer: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, Ended> {
    loop {
        let mut missing = 4_usize.saturating_sub(buffer.len());
        if missing == 0 {
            let length = (&buffer[..4]).get_i32();
            let length = usize::try_from(length)
                .ok()
                .filter(|l| *l <= limit)
                .ok_or_else(|| Malformed::new(format!("{length} bytes")))?;
            missing = (4 + length).saturating_sub(buffer.len());
            if missing == 0 {
                buffer.advance(4);
                return Ok(Some(buffer.split_to(length).freeze()));
            }
        }
        buffer.reserve(missing.clamp(FIRST_BUFFER_BYTES, GROWTH_BYTES));
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// Completes when the client closes its side; keeps what it sends before.
async fn client_left(stream: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<()> {
    while buffer.len() < READ_AHEAD_BYTES {
        buffer.reserve(FIRST_BUFFER_BYTES);
        if stream.read_buf(buffer).await? == 0 {
            return Ok(());
        }
    }
    std::future::pending().await
}
