//! Measurements: own server on a temporary folder, open-loop load through Kafka, reports as JSON.
//!
//! Latency counts from the time at which a record was meant to be sent, so that a stall is not hidden by a generator
//! that waits for it (coordinated omission). Start at [`pipeline`].

pub mod alerts;
pub mod api;
pub mod broker;
pub mod cost;
pub mod dashboards;
pub mod floor;
pub mod latency;
pub mod load;
pub mod pipeline;
pub mod rates;
pub mod seed;
pub mod server;
pub mod supervision;
pub mod websocket;

use serde::Serialize;
use tokio::sync::oneshot;

/// What a report says about where it was made.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub cores: usize,
    pub os: String,
    pub arch: String,
}

impl Machine {
    /// This machine.
    #[must_use]
    pub fn here() -> Self {
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
        }
    }
}

/// Does a job on a thread of its own and waits for it.
///
/// # Errors
/// What the job says; if the thread does not start, or panics.
#[expect(clippy::disallowed_methods, reason = "whoever measures waits for it, and hears of its panic")]
pub async fn in_thread<T: Send + 'static>(
    name: &str,
    job: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let (done, result) = oneshot::channel();
    let run = move || {
        let _bench_has_ended = done.send(job());
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|error| error.to_string())?;
    result.await.map_err(|_| format!("the thread {name} panicked"))?
}
