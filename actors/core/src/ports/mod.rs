//! Ports: what the HTTP side asks of the rest, without knowing who answers.
//!
//! Storage answers [`ReadStore`], the broker's producer [`Ingest`], the supervision tree [`Operations`] and
//! [`SessionHost`], the broker's topics [`topics::Topics`]. Everything here is values and object-safe traits; no database, no actor system, no web framework.
//!
//! Invariants: no error text of a port carries SQL, a secret or a file path that a client should not see, except
//! [`ReadError::Unavailable`] and [`IngestError::Unavailable`], whose reasons are for the log alone.
//! Start at [`ReadStore`].

pub mod topics;

use std::{future::Future, pin::Pin, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::table::StreamTable;

/// A boxed answer of a port.
pub type Answer<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// One row as it appears in a JSON body: times are RFC 3339 texts in UTC.
pub type Row = Map<String, Value>;

/// Which part of a list is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Most items to return, at least 1.
    pub limit: u32,
    /// The `next` of the page before.
    pub cursor: Option<String>,
    pub counting: Counting,
}

/// Whether the list's length is wanted: it costs a bounded walk over an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    Skip,
    Bounded,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Length of the whole list; 0 with [`Counting::Skip`].
    pub total: u64,
    /// The list is at least `total` long, or about that.
    pub total_is_estimate: bool,
    /// Cursor of the next page; a page may be short or empty and still have one.
    pub next: Option<String>,
}

/// Rows of a stream, newest event time first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowQuery {
    pub stream: String,
    /// Text that the stream's key must equal.
    pub key: Option<String>,
    /// Column and the text its value must equal.
    pub filters: Vec<(String, String)>,
    /// Columns that must be null.
    pub nulls: Vec<String>,
    /// The present, in milliseconds since 1970 (UTC): records further ahead of it than the stream allows are left out.
    /// None for all records.
    pub now_ms: Option<i64>,
    pub page: PageRequest,
}

/// Windows, newest start first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowQuery {
    pub stream: String,
    /// The window's name; needed where the stream has several.
    pub window: Option<String>,
    /// Earliest window start, in milliseconds since 1970 (UTC), inclusive.
    pub from_ms: Option<i64>,
    /// Latest window start, in milliseconds since 1970 (UTC), exclusive.
    pub to_ms: Option<i64>,
    /// Group column and the text its value must equal.
    pub group: Vec<(String, String)>,
    /// Group columns that must be null.
    pub nulls: Vec<String>,
    pub page: PageRequest,
}

/// Totals of a stream over the last minutes of event time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsQuery {
    pub stream: String,
    /// How far back to look, in minutes.
    pub minutes: u32,
    /// The present, in milliseconds since 1970 (UTC).
    pub now_ms: i64,
}

/// Answer to a [`StatsQuery`].
#[derive(Debug, Clone, PartialEq)]
pub struct StreamStats {
    pub records: u64,
    pub anomalies: u64,
    /// Keys whose newest event time lies in the range.
    pub active_keys: u64,
    /// Mean of the stream's measure over the records that have one; `None` where none has, and where it overflows.
    pub mean: Option<f64>,
    /// Whether the sum of the measure is beyond the range of a float.
    pub overflows: bool,
    /// Start of the range: the start of the minute that lies `minutes` back, in milliseconds since 1970 (UTC).
    pub from_ms: i64,
}

/// Alerts, newest first; `None` means any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertQuery {
    pub state: Option<String>,
    pub severity: Option<String>,
    pub rule: Option<String>,
    pub page: PageRequest,
}

/// Dead letters, newest first; `None` means any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterQuery {
    pub topic: Option<String>,
    pub partition: Option<i64>,
    pub offset: Option<i64>,
    pub class: Option<String>,
    pub page: PageRequest,
}

/// One stored dead letter.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetterRow {
    pub id: i64,
    pub sink: String,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub stage: String,
    pub class: String,
    pub reason: String,
    pub state: String,
    pub key: Option<Vec<u8>>,
    /// The value's bytes, or their beginning in a list.
    pub value: Option<Vec<u8>>,
    /// Length of the whole value in bytes.
    pub value_length: u64,
    /// `[{"name", "value"}]` with base64 texts.
    pub headers: Value,
    /// In milliseconds since 1970 (UTC).
    pub log_timestamp_ms: i64,
    /// In milliseconds since 1970 (UTC).
    pub created_at_ms: i64,
    /// Why the dead-letter topic refused it for good.
    pub undeliverable: Option<String>,
}

/// A stream with what is known about its stored part.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamSummary {
    pub table: StreamTable,
    /// Names of its windows.
    pub windows: Vec<String>,
    /// Rows stored in its table, removed ones included: of all logs of its topic, and of topics that it had before. The
    /// other counts are of the same logs.
    pub stored: u64,
    pub dead: u64,
    pub filtered: u64,
    /// Records that were too far ahead of their log timestamp to count in rules, windows and figures.
    pub ahead: u64,
    /// Times that a record came too late for a window, or for a step whose window had begun before it.
    pub late: u64,
    /// Times that a record found no room in the state of a window.
    pub full: u64,
    /// Offsets that the log no longer held when they were to be read, and that were passed over (`on_gap: earliest`).
    pub in_gaps: u64,
    /// Newest event time stored that is not ahead of the present, in milliseconds since 1970 (UTC).
    pub newest_event_ms: Option<i64>,
}

/// A sink's position in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PositionRow {
    pub sink: String,
    pub topic: String,
    pub partition: i32,
    pub log: i64,
    pub epoch: i64,
    pub next_offset: i64,
    pub first_offset: i64,
    pub retained_from: i64,
    pub stored: i64,
    pub dead: i64,
    pub filtered: i64,
    pub ahead: i64,
    pub late: i64,
    pub full: i64,
    pub updated_at_ms: i64,
}

/// Why a read has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("there is no stream named {0}")]
    UnknownStream(String),
    #[error("there is no window named {0}")]
    UnknownWindow(String),
    /// The stream has several windows (or none) and the query names none.
    #[error("the stream has these windows, name one of them: {0}")]
    WindowNotNamed(String),
    #[error("the cursor is not one that this list handed out")]
    BadCursor,
    #[error("{field}: {reason}")]
    BadFilter { field: String, reason: String },
    #[error("the read took longer than its limit")]
    Timeout,
    /// The reason is for the log.
    #[error("the storage does not answer")]
    Unavailable(String),
    /// What is stored cannot be read; the reason is for the log.
    #[error("the storage is damaged: see /api/v1/standing-still")]
    Damaged(String),
}

/// Reads of stored facts. No method's cost grows with the length of the history.
pub trait ReadStore: Send + Sync {
    fn streams(&self, now_ms: i64) -> Answer<'_, Vec<StreamSummary>, ReadError>;
    fn latest(&self, query: RowQuery) -> Answer<'_, Page<Row>, ReadError>;
    /// Rows whose anomaly label is set; an empty list for a stream without a label.
    fn anomalies(&self, query: RowQuery) -> Answer<'_, Page<Row>, ReadError>;
    fn stats(&self, query: StatsQuery) -> Answer<'_, StreamStats, ReadError>;
    fn windows(&self, query: WindowQuery) -> Answer<'_, Page<Row>, ReadError>;
    /// The newest transition of each alert.
    fn alerts(&self, query: AlertQuery) -> Answer<'_, Page<Row>, ReadError>;
    /// Values are cut to their beginning; [`ReadStore::dead_letter`] has them whole.
    fn dead_letters(&self, query: DeadLetterQuery) -> Answer<'_, Page<DeadLetterRow>, ReadError>;
    fn dead_letter(&self, id: i64) -> Answer<'_, Option<DeadLetterRow>, ReadError>;
    fn positions(&self) -> Answer<'_, Vec<PositionRow>, ReadError>;
}

/// A record that a client asks to append to a stream's topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// Without a key the value's key field is taken.
    pub key: Option<String>,
    /// JSON text, exactly as the client sent it.
    pub value: Vec<u8>,
}

/// Where the broker put a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Placed {
    pub partition: i32,
    pub offset: i64,
}

/// What became of records that were appended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Appended {
    /// One place per record, in their order.
    pub placed: Vec<Placed>,
    /// Dotted paths of fields that the schema does not have, each once, at most
    /// [`crate::decode::MAX_IGNORED_NAMES`]: they are in the log and not in the table.
    pub ignored_fields: Vec<String>,
}

/// One thing that is wrong with one record of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordFault {
    /// Place in the request, from 0.
    pub index: usize,
    /// Path of the field in the value, empty for the value as a whole.
    pub field: Vec<String>,
    pub reason: String,
    /// What the record has there, in short; null where it has nothing.
    pub input: Value,
}

/// Why records were not appended.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum IngestError {
    #[error("there is no stream named {0}")]
    UnknownStream(String),
    /// None of the request's records was appended.
    #[error("{} fields or records do not fit the stream's schema", .0.len())]
    Invalid(Vec<RecordFault>),
    /// It is known why the stream takes no records at the moment; nothing was written.
    #[error("{0}")]
    NotTaken(String),
    /// The broker did not take (all of) them; `placed` has one entry per record, in their order.
    #[error("{broker} does not take records now")]
    Unavailable { broker: String, reason: String, retry_after_s: u32, placed: Vec<Option<Placed>> },
}

/// Appends records to a stream's topic.
pub trait Ingest: Send + Sync {
    /// Validates all records against the stream's schema, appends them and waits for the broker's acknowledgement.
    fn append(&self, stream: &str, records: Vec<NewRecord>) -> Answer<'_, Appended, IngestError>;

    /// What a client should know before it relies on a stream, such as that no pipeline reads it.
    fn warning(&self, stream: &str) -> Option<&str>;

    /// What of a stream's topic is not as the configuration says.
    fn difference(&self, stream: &str) -> Option<String>;
}

/// A value as JSON, or none where its bytes cannot be read.
pub type Decoded<'a> = Pin<Box<dyn Future<Output = Option<Value>> + Send + 'a>>;

/// Turns a stored value's bytes into JSON.
pub trait ValueDecoder: Send + Sync {
    /// May have to ask a registry.
    fn decode<'a>(&'a self, value: &'a [u8]) -> Decoded<'a>;
}

/// Why a value was not encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("the registry has no subject named {0}")]
    UnknownSubject(String),
    #[error("{0}")]
    Invalid(String),
    /// The reason is for the log.
    #[error("the registry does not answer")]
    Unavailable(String),
}

/// Turns JSON into bytes.
pub trait ValueEncoder: Send + Sync {
    /// By the latest schema of a subject, in Confluent framing.
    fn encode<'a>(&'a self, subject: &'a str, json: &'a [u8]) -> Answer<'a, Vec<u8>, EncodeError>;
}

/// A command to one node of the supervision tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpsCommand {
    Restart,
    Pause,
    Resume,
    Drain,
    Inject(InjectedFault),
    /// Takes back the faults that have not struck yet, and ends the drill that watches them.
    Disarm,
}

/// A fault that a drill asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InjectedFault {
    pub fault: FaultKind,
    /// How many messages in a row are hit.
    #[serde(default = "once")]
    pub times: u32,
    /// How long a stall, a delay or an outage lasts.
    #[serde(default)]
    pub millis: u64,
    /// Decides what a corrupt record looks like.
    #[serde(default)]
    pub seed: u64,
}

fn once() -> u32 {
    1
}

/// Kinds of injected faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    Panic,
    Error,
    Stall,
    Slow,
    BrokerDrop,
    CorruptRecord,
}

impl FaultKind {
    /// All of them, with what each does and whether it lasts for a given time.
    pub const ALL: [(Self, &'static str, bool); 6] = [
        (Self::Panic, "the actor panics", false),
        (Self::Error, "the actor returns an error", false),
        (Self::Stall, "the actor keeps a message in hand; beyond its stuck_after it is replaced", true),
        (Self::Slow, "each step of the actor takes longer, as if what it writes to were slow; no failure", true),
        (Self::BrokerDrop, "platform/broker closes all connections and takes none for a while", true),
        (Self::CorruptRecord, "a record that cannot be decoded is written to the pipeline's topic", false),
    ];
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpsError {
    #[error("there is nothing at {0} in the supervision tree")]
    UnknownPath(String),
    #[error("drills are off; set drills.enabled to allow them")]
    DrillsDisabled,
    /// A value is not what it may be.
    #[error("{reason}")]
    Invalid { field: String, reason: String },
    /// The node cannot do it in its present state, or at all.
    #[error("{0}")]
    Refused(String),
    /// The one asked did not answer in time.
    #[error("{0}")]
    Unavailable(String),
}

/// Whether the server should get traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    pub ready: bool,
    /// What is missing; empty when ready.
    pub reasons: Vec<String>,
    /// What stands still while the rest works, such as a partition that storage refuses.
    pub degraded: Vec<String>,
    /// The same as `{cause, actor, pipeline, topic, partition, since_ms, reason, way_out}`.
    pub standing_still: Vec<Value>,
}

/// The running system: its tree, its events, its commands and its measurements.
pub trait Operations: Send + Sync {
    /// Nested `{path, kind, state, generation, restarts, since, last_exit, inbox, children}`.
    fn tree(&self) -> Answer<'_, Value, OpsError>;
    /// Supervision events with a `seq` above `after_seq`, oldest first; the cursor of the next page is the last `seq`.
    fn events(&self, after_seq: u64, limit: u32) -> Answer<'_, Page<Value>, OpsError>;
    /// `{drills, faults: [{fault, about, takes_millis}]}`: whether drills are allowed, and which there are.
    fn drills(&self) -> Value;
    /// Carries out a command for `who` and answers the node's new state.
    fn command(&self, path: &str, command: OpsCommand, who: &str) -> Answer<'_, Value, OpsError>;
    /// Injects a fault for `who`, watches at most for `within` and reports what became of it.
    fn drill(&self, path: &str, fault: InjectedFault, within: Duration, who: &str) -> Answer<'_, Value, OpsError>;
    /// Puts new values of some keys into a node's policy for `who` and answers the node's new state.
    fn set_policy(&self, path: &str, patch: Map<String, Value>, who: &str) -> Answer<'_, Value, OpsError>;
    fn topology(&self) -> Answer<'_, Value, OpsError>;
    /// Array of `{pipeline, stream, topic, partition, position, log_end, lag_records, lag_seconds, state, …}`.
    fn lag(&self) -> Answer<'_, Vec<Value>, OpsError>;
    fn readiness(&self) -> Readiness;
    /// Prometheus text format.
    fn metrics_text(&self) -> String;
}

/// A WebSocket session: it ends when the client goes or is evicted. It stays on the thread that starts it.
pub type Session = Pin<Box<dyn Future<Output = ()> + 'static>>;

/// There is no room for another session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no room for another session")]
pub struct Full;

/// Runs WebSocket sessions as supervised children.
pub trait SessionHost: Send + Sync {
    /// Starts a session on the calling thread's event loop.
    ///
    /// # Errors
    /// [`Full`] at the limit of sessions.
    fn start(&self, name: String, session: Session) -> Result<(), Full>;
}
