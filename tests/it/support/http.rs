//! A client of REST and WebSockets.

use std::pin::Pin;

use awc::{Client, error::WsProtocolError, ws::Frame};
use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};

use super::wait::PATIENCE;

/// Largest answer read, in bytes.
const MAX_BODY: usize = 32 << 20;

/// A client of one server.
pub struct Http {
    address: String,
    client: Client,
}

/// An open WebSocket.
pub struct Socket(Pin<Box<dyn Stream<Item = Result<Frame, WsProtocolError>>>>);

impl Http {
    pub fn new(address: &str) -> Self {
        let connector = awc::Connector::new().timeout(PATIENCE);
        let client = Client::builder().timeout(PATIENCE).connector(connector).finish();
        Self { address: address.to_owned(), client }
    }

    /// Where the server answers, `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The JSON body of a successful answer, or why there is none.
    pub async fn try_get(&self, path: &str) -> Result<Value, String> {
        let body = self.try_text(path).await?;
        serde_json::from_str(&body).map_err(|error| format!("{path}: {error}: {body}"))
    }

    /// The JSON body of a successful answer.
    pub async fn get(&self, path: &str) -> Value {
        self.try_get(path).await.unwrap()
    }

    /// The text of a successful answer, or why there is none.
    pub async fn try_text(&self, path: &str) -> Result<String, String> {
        let mut answer = self.client.get(self.url(path)).send().await.map_err(|error| format!("{path}: {error}"))?;
        let body = answer.body().limit(MAX_BODY).await.map_err(|error| format!("{path}: {error}"))?;
        let text = String::from_utf8_lossy(&body).into_owned();
        if answer.status().is_success() { Ok(text) } else { Err(format!("{path}: {}: {text}", answer.status())) }
    }

    /// Status and JSON body, of any method.
    pub async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let method = awc::http::Method::from_bytes(method.as_bytes()).unwrap();
        let request = Self::new(&self.address).client.request(method, self.url(path));
        let sent = match body {
            Some(body) => request.send_json(body),
            None => request.send(),
        };
        let mut answer = sent.await.unwrap();
        let body = answer.body().limit(MAX_BODY).await.unwrap();
        (answer.status().as_u16(), serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Status and JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.try_post(path, body).await.unwrap()
    }

    /// Status and JSON body, or why there is no answer. Over a connection of its own: a pooled one may belong to a
    /// server incarnation that has gone, and a POST is not repeated.
    async fn try_post(&self, path: &str, body: &Value) -> Result<(u16, Value), String> {
        let request = Self::new(&self.address).client.post(self.url(path));
        let mut answer = request.send_json(body).await.map_err(|error| format!("{path}: {error}"))?;
        let status = answer.status().as_u16();
        let body = answer.body().limit(MAX_BODY).await.map_err(|error| format!("{path}: {error}"))?;
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }

    /// Makes an actor panic when it next does something, `times` times.
    pub async fn inject_panics(&self, actor: &str, times: u32) {
        let fault = json!({ "fault": "panic", "times": times });
        match self.try_post(&format!("/api/v1/supervision/{actor}/inject"), &fault).await {
            Ok((status, body)) => assert_eq!(status, 200, "{actor}: {body}"),
            // The panic may take the connection with it that carries the answer.
            Err(_) if actor == "edge/http" => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// A node of the supervision tree.
    pub async fn actor(&self, path: &str) -> Result<Value, String> {
        let tree = self.try_get("/api/v1/supervision/tree").await?;
        find(&tree, path).cloned().ok_or_else(|| format!("{path} is not in the tree"))
    }

    /// A sample of the metrics page, named as there: `streamward_position{…}`.
    pub async fn metric(&self, sample: &str) -> Result<f64, String> {
        let page = self.try_text("/metrics").await?;
        let line = page.lines().find(|line| line.strip_prefix(sample).is_some_and(|rest| rest.starts_with(' ')));
        let value = line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok());
        value.ok_or_else(|| format!("no sample {sample} on the page"))
    }

    /// Opens a WebSocket.
    pub async fn socket(&self, path: &str) -> Socket {
        let (answer, socket) = self.client.ws(self.url(path)).connect().await.unwrap();
        assert_eq!(answer.status(), 101);
        Socket(Box::pin(socket))
    }
}

impl Socket {
    /// Waits until the server has ended the connection.
    pub async fn closed(&mut self) {
        loop {
            match tokio::time::timeout(PATIENCE, self.0.next()).await.expect("the connection ends") {
                None | Some(Err(_) | Ok(Frame::Close(_))) => return,
                Some(Ok(_)) => {}
            }
        }
    }

    /// The next frame that carries a record.
    pub async fn next_record(&mut self) -> Value {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("a frame arrives");
            match frame.expect("the server keeps the socket open").unwrap() {
                Frame::Text(text) => {
                    let frame: Value = serde_json::from_slice(&text).unwrap();
                    if frame.get("data").is_some() {
                        return frame;
                    }
                }
                Frame::Close(reason) => panic!("the server closed the socket: {reason:?}"),
                Frame::Binary(_) | Frame::Continuation(_) | Frame::Ping(_) | Frame::Pong(_) => {}
            }
        }
    }
}

fn find<'t>(node: &'t Value, path: &str) -> Option<&'t Value> {
    if node["path"] == path {
        return Some(node);
    }
    node["children"].as_array()?.iter().find_map(|child| find(child, path))
}
