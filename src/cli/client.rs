//! Commands that talk to a running server.

use std::time::Duration;

pub use awc::http::Method;
use clap::Args;
use serde_json::Value;

pub use crate::adapters::registry::segment;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer read, in bytes.
const MAX_ANSWER: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskError {
    /// The server is not there or cannot answer now; it may later.
    Passing(String),
    /// It would answer so again.
    Final(String),
}

impl From<AskError> for String {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Passing(reason) | AskError::Final(reason) => reason,
        }
    }
}

/// Which server to ask.
#[derive(Debug, Clone, Args)]
pub struct Server {
    /// Address of the running server.
    #[arg(long, global = true, env = "STREAMWARD_URL", default_value = "http://127.0.0.1:8000", value_name = "URL")]
    pub url: String,
    /// Access token, where the server wants one.
    #[arg(long, global = true, env = "STREAMWARD_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
}

impl Server {
    /// Fetches a JSON body.
    ///
    /// # Errors
    /// [`AskError`]
    pub async fn get(&self, path: &str) -> Result<Value, AskError> {
        self.call(Method::GET, path, None).await
    }

    /// Makes a request and reads its JSON answer; null where it has no body.
    ///
    /// # Errors
    /// [`AskError`]
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, AskError> {
        self.call_within(TIMEOUT, (method, path), body).await
    }

    /// As [`Self::call`], for a request that the server may take its time for.
    ///
    /// # Errors
    /// [`AskError`]
    pub async fn call_within(
        &self,
        limit: Duration,
        (method, path): (Method, &str),
        body: Option<&Value>,
    ) -> Result<Value, AskError> {
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        let mut request = awc::Client::builder().timeout(limit).finish().request(method, &url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let sent = match body {
            Some(body) => request.send_json(body).await,
            None => request.send().await,
        };
        let mut answer = sent.map_err(|error| {
            AskError::Passing(format!(
                "{url} does not answer ({error}): is the server running? give its address with --url"
            ))
        })?;
        let status = answer.status();
        let unread = |error| AskError::Passing(format!("read {url}: {error}"));
        let body = answer.body().limit(MAX_ANSWER).await.map_err(unread)?;
        if !status.is_success() {
            let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
            let reason = reason(&problem).unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
            let text = format!("{url} answered {status}: {reason}");
            let is_passing = status.is_server_error() || status.as_u16() == 429;
            return Err(if is_passing { AskError::Passing(text) } else { AskError::Final(text) });
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        let no_json = |error| AskError::Final(format!("{url} did not answer with JSON: {error}"));
        serde_json::from_slice(&body).map_err(no_json)
    }
}

/// What a problem says: its detail, or the faults that it lists.
fn reason(problem: &Value) -> Option<String> {
    let fault = |fault: &Value| {
        let place: Vec<&str> = fault["loc"].as_array()?.iter().filter_map(Value::as_str).collect();
        Some(format!("{}: {}", place.join("."), fault["msg"].as_str()?))
    };
    match &problem["detail"] {
        Value::String(text) => Some(text.clone()),
        Value::Array(faults) => Some(faults.iter().filter_map(fault).collect::<Vec<_>>().join("; ")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_problem_is_said_in_its_words() {
        assert_eq!(reason(&json!({"detail": "there is none"})).as_deref(), Some("there is none"));
        let faults = json!({"detail": [{"loc": ["body", "name"], "msg": "too long"}, {"loc": ["query", "limit"], "msg": "too high"}]});
        assert_eq!(reason(&faults).as_deref(), Some("body.name: too long; query.limit: too high"));
        assert_eq!(reason(&json!("<html>")), None);
    }
}
