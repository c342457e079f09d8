//! Commands that talk to a running server.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer read, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// Which server to ask.
#[derive(Debug, Clone, Args)]
pub struct Server {
    /// Address of the running server.
    #[arg(long, env = "STREAMWARD_URL", default_value = "http://127.0.0.1:8000", value_name = "URL")]
    pub url: String,
    /// Access token, where the server wants one.
    #[arg(long, env = "STREAMWARD_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
}

impl Server {
    /// Fetches a JSON body.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        let mut request = awc::Client::builder().timeout(TIMEOUT).finish().get(&url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let mut answer = request.send().await.map_err(|error| {
            format!("{url} does not answer ({error}): is the server running? give its address with --url")
        })?;
        let status = answer.status();
        let body = answer.body().limit(MAX_ANSWER).await.map_err(|error| format!("read {url}: {error}"))?;
        if !status.is_success() {
            return Err(format!("{url} answered {status}: {}", String::from_utf8_lossy(&body)));
        }
        serde_json::from_slice(&body).map_err(|error| format!("{url} did not answer with JSON: {error}"))
    }
}
