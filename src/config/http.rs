//! Sections `http`, `auth` and `telemetry`: what the process offers to people, who they are, and what it logs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use streamward_kit::policy::MAX_CHILDREN;
use streamward_pipeline::live::RING_FRAMES;

use super::limits::{bytes_within, within};
use super::secret::Secret;
use super::units::{ByteSize, HumanDuration, ListenAddr};
use crate::http::{HttpSettings, SocketSettings};

/// REST, WebSocket and console.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Address; port 0 takes a free one.
    pub listen: ListenAddr,
    /// Threads that answer requests.
    #[schemars(transform = within(HttpSettings::WORKERS))]
    pub workers: u32,
    /// Largest request body.
    #[schemars(transform = bytes_within(HttpSettings::BODY_BYTES))]
    pub max_body: ByteSize,
    /// Live sessions.
    pub websocket: WebSocketConfig,
    /// Further names under which browsers may reach the server and the embedded registry, besides loopback.
    pub allowed_hosts: Vec<String>,
    /// Further origins whose pages may change state or open a WebSocket.
    pub allowed_origins: Vec<String>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: ListenAddr::loopback(8000),
            workers: 1,
            max_body: ByteSize::mib(4),
            websocket: WebSocketConfig::default(),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
        }
    }
}

/// Limits of live sessions.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebSocketConfig {
    /// Frames that wait for one slow session before the oldest are dropped.
    #[schemars(transform = within(1..=RING_FRAMES))]
    pub queue: u32,
    /// Time between two pings.
    #[schemars(transform = within(SocketSettings::PING_EVERY))]
    pub ping_every: HumanDuration,
    /// Silence after which a session is closed.
    #[schemars(transform = within(SocketSettings::EVICT_AFTER))]
    pub evict_after: HumanDuration,
    /// Sessions at a time; more are refused.
    #[schemars(transform = within(1..=MAX_CHILDREN))]
    pub max_sessions: u32,
}

impl Default for WebSocketConfig {
    fn default() -> Self {
        Self {
            queue: 2048,
            ping_every: HumanDuration::from_secs(15),
            evict_after: HumanDuration::from_secs(60),
            max_sessions: 1000,
        }
    }
}

/// Who may do what.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// Bearer tokens; with none, everyone who reaches the server is an admin.
    pub tokens: Vec<TokenConfig>,
}

/// One bearer token.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["name", "token"]))]
pub struct TokenConfig {
    /// Who uses it; shown in the audit log. Required.
    pub name: String,
    /// The token itself. Required.
    pub token: Secret,
    /// What it allows.
    pub role: Role,
}

/// What a token allows; each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reading.
    #[default]
    Viewer,
    /// Writing records, restarting and pausing.
    Operator,
    /// Everything.
    Admin,
}

/// What the process says about itself.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// The log on standard error.
    pub log: LogConfig,
}

/// The log on standard error.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Least important level that is written.
    pub level: LogLevel,
    /// How a line is written.
    pub format: LogFormat,
}

/// Log levels, from few lines to many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Failures.
    Error,
    /// And what may become one.
    Warn,
    /// And what happens seldom.
    #[default]
    Info,
    /// And what happens per batch.
    Debug,
    /// And everything else.
    Trace,
}

impl LogLevel {
    /// The level as log filters write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
