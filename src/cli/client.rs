//! Commands that talk to a running server.

use std::{io, str::FromStr, time::Duration};

pub use awc::http::Method;
use awc::{
    Connector,
    error::{ConnectError, SendRequestError},
    http::StatusCode,
};
use clap::Args;
use serde_json::Value;
use url::Url;

use super::exit::Failure;
pub use crate::adapters::registry::segment;

const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take: somebody who waits for a command learns within 5 s that nobody is there.
const CONNECT_WITHIN: Duration = Duration::from_secs(4);
/// Largest answer read, in bytes.
const MAX_ANSWER: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskError {
    /// The server is not there or cannot answer now; it may later.
    Passing(Failure),
    /// It would answer so again.
    Final(Failure),
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Passing(failure) | AskError::Final(failure) => failure,
        }
    }
}

/// The base URL of a server, without a slash at its end. Its text may have no scheme: `127.0.0.1:8000`, `[::1]:8000/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    text: String,
    /// Host and port, as messages name the server.
    address: String,
}

impl BaseUrl {
    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whose connection fails, for messages: the host, and the port unless it is that of the scheme.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl FromStr for BaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = parse(text)?;
        let host = url.host_str().unwrap_or_default();
        let address = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        if url.query().is_some() || url.fragment().is_some() {
            return Err("expected an address such as 127.0.0.1:8000, without ? and #".to_owned());
        }
        Ok(Self { text: url.as_str().trim_end_matches('/').to_owned(), address })
    }
}

/// Reads a URL of HTTP; without a scheme it is `http`.
///
/// # Errors
/// It names no host, or has another scheme.
pub fn parse(text: &str) -> Result<Url, String> {
    let text = text.trim();
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let example = "expected an address such as 127.0.0.1:8000, [::1]:8000 or https://streamward.example/path";
    let url = Url::parse(&whole).map_err(|error| format!("{error}; {example}"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        "http" | "https" => Err(format!("it names no host; {example}")),
        scheme => Err(format!("{scheme} is not http or https; {example}")),
    }
}

/// Which server to ask.
#[derive(Debug, Clone, Args)]
pub struct Server {
    /// Address of the running server.
    #[arg(long, global = true, env = "STREAMWARD_URL", default_value = "http://127.0.0.1:8000", value_name = "URL")]
    pub url: BaseUrl,
    /// Access token, where the server wants one.
    #[arg(long, global = true, env = "STREAMWARD_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Also name the request in messages of errors.
    #[arg(long, global = true)]
    pub verbose: bool,
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
        let url = format!("{}{path}", self.url.as_str());
        let request_line = format!("{method} {url}");
        let connector = Connector::new().timeout(CONNECT_WITHIN);
        let client = awc::Client::builder().timeout(limit).connector(connector).finish();
        let mut request = client.request(method, &url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let sent = match body {
            Some(body) => request.send_json(body).await,
            None => request.send().await,
        };
        let address = self.url.address();
        let mut answer = sent.map_err(|error| {
            let reason = format!(
                "{address} does not answer: {}; is the server running? give its address with --url",
                cause(&error, limit)
            );
            AskError::Passing(Failure::unreachable(self.told(reason, &request_line)))
        })?;
        let status = answer.status();
        let unread = |error| {
            let reason = format!("{address} broke off its answer: {error}");
            AskError::Passing(Failure::unreachable(self.told(reason, &request_line)))
        };
        let body = answer.body().limit(MAX_ANSWER).await.map_err(unread)?;
        if !status.is_success() {
            let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
            let mut reason = reason(&problem).unwrap_or_else(|| format!("{address} answers {status}"));
            if status == StatusCode::UNAUTHORIZED {
                reason.push_str("; give it with --token or STREAMWARD_TOKEN");
            }
            let text = self.told(reason, &format!("{request_line} answered {status}"));
            let is_passing = status.is_server_error() || status.as_u16() == 429;
            return Err(match is_passing {
                true => AskError::Passing(Failure::unreachable(text)),
                false => AskError::Final(Failure::refused(text)),
            });
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|error| {
            let reason = format!("{address} is no Streamward server: it does not answer with JSON ({error})");
            AskError::Final(Failure::unreachable(self.told(reason, &request_line)))
        })
    }

    /// A reason, with the request where somebody wants to see it.
    fn told(&self, reason: String, request: &str) -> String {
        if self.verbose { format!("{reason} ({request})") } else { reason }
    }
}

/// Why a request has no answer, in a few words.
fn cause(error: &SendRequestError, limit: Duration) -> String {
    match error {
        SendRequestError::Timeout => format!("no answer within {} s", limit.as_secs()),
        SendRequestError::Connect(ConnectError::Timeout) => {
            format!("no connection within {} s", CONNECT_WITHIN.as_secs())
        }
        SendRequestError::Connect(ConnectError::Resolver(_) | ConnectError::NoRecords) => {
            "there is no such host".to_owned()
        }
        SendRequestError::Connect(ConnectError::Io(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "connection refused".to_owned()
        }
        SendRequestError::Connect(ConnectError::Io(error)) => error.to_string(),
        SendRequestError::Connect(ConnectError::SslIsNotSupported) => "https is not supported here".to_owned(),
        other => other.to_string(),
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

    fn url(text: &str) -> Result<(String, String), String> {
        text.parse().map(|BaseUrl { text, address }| (text, address))
    }

    #[test]
    fn an_address_is_a_url_with_or_without_a_scheme_a_path_and_a_slash() {
        for (given, whole, address) in [
            ("127.0.0.1:8000", "http://127.0.0.1:8000", "127.0.0.1:8000"),
            ("localhost:8000/", "http://localhost:8000", "localhost:8000"),
            ("streamward.example", "http://streamward.example", "streamward.example"),
            ("[::1]:8000", "http://[::1]:8000", "[::1]:8000"),
            ("https://streamward.example/a/b/", "https://streamward.example/a/b", "streamward.example"),
        ] {
            assert_eq!(url(given), Ok((whole.to_owned(), address.to_owned())), "{given}");
        }
        for wrong in ["", "http://", "ftp://a", "127.0.0.1:x", "a b", "http://a/?x=1", "http://a/#x"] {
            assert!(url(wrong).unwrap_err().contains("expected an address such as"), "{wrong}");
        }
    }

    #[test]
    fn a_request_without_an_answer_says_why() {
        let cause = |error| cause(&error, Duration::from_secs(7));
        let connect = |error| cause(SendRequestError::Connect(error));
        assert_eq!(cause(SendRequestError::Timeout), "no answer within 7 s");
        assert_eq!(connect(ConnectError::Timeout), "no connection within 4 s");
        assert_eq!(connect(ConnectError::Resolver("EAI_NONAME".into())), "there is no such host");
        assert_eq!(connect(ConnectError::Io(io::ErrorKind::ConnectionRefused.into())), "connection refused");
    }

    #[test]
    fn a_problem_is_said_in_its_words() {
        assert_eq!(reason(&json!({"detail": "there is none"})).as_deref(), Some("there is none"));
        let faults = json!({"detail": [{"loc": ["body", "name"], "msg": "too long"}, {"loc": ["query", "limit"], "msg": "too high"}]});
        assert_eq!(reason(&faults).as_deref(), Some("body.name: too long; query.limit: too high"));
        assert_eq!(reason(&json!("<html>")), None);
    }
}
