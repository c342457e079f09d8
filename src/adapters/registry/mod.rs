//! A schema registry outside, through Confluent's REST protocol.
//!
//! [`RegistryHttp`] makes requests, for commands and for the `worker`; [`RegistryClient`] is what the rest of the
//! process asks. HTTP clients cannot leave their thread, so a role in the supervision tree makes the requests and the
//! handle sends it work. What was answered for an id is kept (`cache`); an id that many wait for is asked once.
//!
//! A registry that is silent, refuses the credentials or answers nonsense is an error, never an unknown id: only its
//! own error codes for "not found" say that there is no such schema.

mod cache;
mod http;
#[cfg(test)]
mod tests;
pub mod tls;
mod worker;

use std::{ops::RangeInclusive, path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::join_all;
use parking_lot::Mutex;
use streamward_pipeline::{ports::SchemaSource, store::BoxFuture};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

pub use self::http::{CallError, Method, RegistryHttp, segment};
use self::{cache::Cache, worker::Request};
use crate::registry::schemas::{RegisterError, Schemas};

/// Requests that may wait for the worker.
const MAX_WAITING: usize = 4_096;

/// Time that one request may take.
pub const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(600);

/// How a registry is reached.
#[derive(Clone)]
pub struct RegistrySettings {
    /// Base URL without credentials; may have a path.
    pub url: String,
    pub auth: RegistryAuth,
    /// Certificates to trust instead of the system's, as PEM.
    pub ca_file: Option<PathBuf>,
    /// How long one request may take.
    pub timeout: Duration,
}

/// What a registry is told of who asks.
#[derive(Clone, PartialEq, Eq)]
pub enum RegistryAuth {
    None,
    Basic { user: String, password: String },
    Bearer(String),
}

impl std::fmt::Debug for RegistrySettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistrySettings").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The process's handle on a registry outside.
pub struct RegistryClient {
    settings: RegistrySettings,
    cache: Mutex<Cache>,
    requests: mpsc::Sender<Request>,
    /// Held by the worker's present incarnation.
    received: tokio::sync::Mutex<mpsc::Receiver<Request>>,
}

impl RegistryClient {
    /// A handle; [`RegistryClient::run`] must run for it to answer.
    #[must_use]
    pub fn new(settings: RegistrySettings) -> Self {
        let (requests, received) = mpsc::channel(MAX_WAITING);
        Self { settings, cache: Mutex::default(), requests, received: tokio::sync::Mutex::new(received) }
    }

    /// The schema of an id, as far as it is known here.
    fn cached(&self, id: u32) -> Option<Option<Arc<str>>> {
        self.cache.lock().get(id, Instant::now())
    }

    async fn schema(&self, id: u32) -> Result<Option<Arc<str>>, String> {
        if let Some(known) = self.cached(id) {
            return Ok(known);
        }
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Schema { id, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn gone() -> String {
    "the registry's client restarts".to_owned()
}

impl SchemaSource for RegistryClient {
    fn schemas<'a>(&'a self, ids: &'a [u32]) -> BoxFuture<'a, Result<Vec<Option<Arc<str>>>, String>> {
        Box::pin(async move {
            // All are asked before one error ends it: what the others learn is kept for the next time.
            let asked = join_all(ids.iter().map(|id| self.schema(*id))).await;
            asked.into_iter().collect()
        })
    }
}

impl Schemas for RegistryClient {
    fn register<'a>(&'a self, subject: &'a str, avro_json: &'a str) -> BoxFuture<'a, Result<u32, RegisterError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let request = Request::Register { subject: subject.to_owned(), schema: avro_json.to_owned(), reply };
            self.requests.send(request).await.map_err(|_| RegisterError::Unavailable(gone()))?;
            answer.await.map_err(|_| RegisterError::Unavailable(gone()))?
        })
    }

    fn known<'a>(&'a self, subject: &'a str, avro_json: &'a str) -> BoxFuture<'a, Result<Option<u32>, RegisterError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let request = Request::Known { subject: subject.to_owned(), schema: avro_json.to_owned(), reply };
            self.requests.send(request).await.map_err(|_| RegisterError::Unavailable(gone()))?;
            answer.await.map_err(|_| RegisterError::Unavailable(gone()))?
        })
    }

    fn held<'a>(&'a self, subject: &'a str, avro_json: &'a str) -> BoxFuture<'a, Result<Option<u32>, String>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let request = Request::Held { subject: subject.to_owned(), schema: avro_json.to_owned(), reply };
            self.requests.send(request).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        })
    }

    fn latest<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<Option<u32>, String>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let request = Request::Latest { subject: subject.to_owned(), reply };
            self.requests.send(request).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        })
    }
}
