//! A dashboard for measurements: one WebSocket client that reads every frame.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use awc::ws::{Frame, Message};
use futures_util::{SinkExt, StreamExt};

use super::latency::Latencies;
use crate::clock::now_ms;

/// Wait of a client before it connects again.
const CONNECT_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// What clients have seen.
#[derive(Clone, Default)]
pub struct Seen {
    pub latencies: Latencies,
    pub frames: Arc<AtomicU64>,
    /// Frames that the server left out because a client was slow.
    pub dropped: Arc<AtomicU64>,
}

impl Seen {
    /// Forgets what was seen so far.
    pub fn reset(&self) {
        self.latencies.reset();
        self.frames.store(0, Ordering::Relaxed);
        self.dropped.store(0, Ordering::Relaxed);
    }
}

/// What a client does when its session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEnd {
    Leave,
    ConnectAgain,
}

/// Runs `count` clients on a thread of their own; they end with it.
#[must_use]
pub fn watch_many(address: std::net::SocketAddr, seen: &Seen, count: usize, on_end: OnEnd) -> actix_rt::Arbiter {
    let clients = actix_rt::Arbiter::new();
    let seen = seen.clone();
    clients.spawn_fn(move || {
        for _ in 0..count {
            let seen = seen.clone();
            let task = async move {
                loop {
                    let ended = watch(address, seen.clone()).await;
                    match (on_end, ended) {
                        (OnEnd::ConnectAgain, _) => tokio::time::sleep(CONNECT_AGAIN_AFTER).await,
                        (OnEnd::Leave, Err(error)) => {
                            let _nobody_reads_it = writeln!(std::io::stderr(), "dashboard: {error}");
                            return;
                        }
                        (OnEnd::Leave, Ok(())) => return,
                    }
                }
            };
            #[expect(clippy::disallowed_methods, reason = "a client of the measurement, outside the measured server")]
            actix_rt::spawn(task);
        }
    });
    clients
}

/// Reads `/ws/sensors` until the server ends it.
///
/// # Errors
/// If the connection cannot be made.
pub async fn watch(address: std::net::SocketAddr, seen: Seen) -> Result<(), String> {
    let url = format!("http://{address}/ws/sensors");
    let connect = awc::Client::new().ws(url).max_frame_size(1 << 20).connect();
    let (_, mut connection) = connect.await.map_err(|error| format!("open the WebSocket: {error}"))?;
    while let Some(frame) = connection.next().await {
        match frame {
            Ok(Frame::Text(text)) => note(&text, &seen),
            Ok(Frame::Ping(payload)) => {
                if connection.send(Message::Pong(payload)).await.is_err() {
                    break;
                }
            }
            Ok(Frame::Close(_)) | Err(_) => break,
            Ok(_) => {}
        }
    }
    Ok(())
}

fn note(text: &[u8], seen: &Seen) {
    #[derive(serde::Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        data: Option<Data<'a>>,
        dropped: Option<u64>,
    }
    #[derive(serde::Deserialize)]
    struct Data<'a> {
        timestamp: &'a str,
    }
    let Ok(message) = serde_json::from_slice::<Message<'_>>(text) else { return };
    if let Some(dropped) = message.dropped {
        seen.dropped.fetch_add(dropped, Ordering::Relaxed);
    }
    let sent = message.data.and_then(|data| streamward_core::schema::instant::parse(data.timestamp));
    if let Some(sent) = sent {
        seen.frames.fetch_add(1, Ordering::Relaxed);
        seen.latencies.since(std::iter::once(sent), now_ms());
    }
}
