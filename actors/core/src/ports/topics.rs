//! The topics and consumer groups of the broker, whichever it is.
//!
//! Reading through [`Topics`] commits no offset and joins no group.

use serde::Serialize;

use super::{Answer, Page, Placed};

/// What Streamward does with a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicUse {
    /// The stream of this name reads it.
    Stream(String),
    /// Streamward keeps this in it.
    Own(&'static str),
}

/// Bounds of one partition's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogBounds {
    pub partition: i32,
    /// Oldest offset held.
    pub start: i64,
    /// The offset that the next record gets; in an open transaction, where it began.
    pub end: i64,
}

impl LogBounds {
    /// How many offsets the log spans; no fewer than its records.
    #[must_use]
    pub fn records(&self) -> u64 {
        u64::try_from(self.end.saturating_sub(self.start)).unwrap_or(0)
    }
}

/// A topic in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSummary {
    pub name: String,
    /// By partition, ascending.
    pub logs: Vec<LogBounds>,
    /// Bytes on the broker's disk, where it says so.
    pub bytes: Option<u64>,
    /// `delete`, `compact` or both.
    pub cleanup_policy: Option<String>,
    pub used_by: Option<TopicUse>,
}

/// One partition and who leads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDetail {
    pub log: LogBounds,
    /// Id of the leading broker; `None` without a leader.
    pub leader: Option<i32>,
    /// Ids of the brokers that hold copies.
    pub replicas: Vec<i32>,
    /// Ids of those that are not behind.
    pub in_sync: Vec<i32>,
}

/// One setting of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicConfig {
    pub name: String,
    /// `None` where the broker keeps it to itself.
    pub value: Option<String>,
    /// Who set it: `topic`, `broker` or `default`.
    pub source: &'static str,
    /// Whether it is the topic's own.
    pub own: bool,
    pub read_only: bool,
}

/// How far a group is in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupOffset {
    pub topic: String,
    pub partition: i32,
    /// The committed offset: where the group goes on.
    pub offset: i64,
    pub log_end: i64,
    /// Records behind the log's end.
    pub lag: u64,
}

/// A consumer group in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupSummary {
    pub group: String,
    /// The broker's word, such as `Stable` or `Empty`.
    pub state: String,
    /// `consumer` for groups of consumers.
    pub protocol_type: String,
    /// The assignment strategy in use.
    pub protocol: String,
    pub members: Vec<GroupMember>,
}

/// A member of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupMember {
    pub id: String,
    pub client_id: String,
    pub host: String,
}

/// A group with its offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDetail {
    pub group: GroupSummary,
    pub offsets: Vec<GroupOffset>,
}

/// A topic with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDetail {
    pub name: String,
    pub partitions: Vec<PartitionDetail>,
    pub bytes: Option<u64>,
    /// By name.
    pub configs: Vec<TopicConfig>,
    /// Groups that have committed an offset of this topic.
    pub groups: Vec<GroupDetail>,
    /// Groups of the broker that were not asked, because there are too many.
    pub groups_not_asked: usize,
    pub used_by: Option<TopicUse>,
}

/// A topic to make. What is left open is as the configuration has it, for the topics that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    /// `None`: as the configuration has it, else 1.
    pub partitions: Option<u32>,
    /// These come before those of the configuration.
    pub configs: Vec<(String, String)>,
}

/// What to change about a topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicChange {
    /// How many partitions it shall have; they only grow.
    pub partitions: Option<u32>,
    /// New values; `None` takes the topic's own value away.
    pub configs: Vec<(String, Option<String>)>,
}

/// Whether a topic that Streamward uses may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    Guarded,
    Forced,
}

/// Where reading begins, and which way it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadFrom {
    /// Newest records first.
    Newest,
    /// Oldest records first.
    Oldest,
    /// From this offset on, oldest first.
    Offset(i64),
    /// From the first record at or after this time on, in milliseconds since 1970 (UTC), oldest first.
    TimeMs(i64),
    /// Where another page ended or began.
    Cursor(String),
}

/// Records of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordQuery {
    pub topic: String,
    /// One partition, or all.
    pub partition: Option<i32>,
    pub from: ReadFrom,
    /// Most records to return, at least 1.
    pub limit: u32,
    /// Bytes that the key must equal.
    pub key: Option<Vec<u8>>,
    /// Bytes that the key, the value or a header's value must contain.
    pub contains: Option<Vec<u8>>,
}

/// Bytes of a key or value, or their beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes {
    pub held: Vec<u8>,
    /// Length of the whole in bytes.
    pub length: u64,
}

impl Bytes {
    /// Whether this is the beginning alone.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        (self.held.len() as u64) < self.length
    }
}

/// A record as it is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    pub partition: i32,
    pub offset: i64,
    /// In milliseconds since 1970 (UTC); `None` where the record has no time.
    pub timestamp_ms: Option<i64>,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// Names have any bytes.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// How far a read looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// Records looked at.
    pub records: u64,
    /// Per partition the offsets looked at, from the first to before the second.
    pub ranges: Vec<(i32, i64, i64)>,
    /// Whether there is nothing more this way at present.
    pub is_complete: bool,
}

/// A part of a topic's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordPage {
    pub records: Vec<LogRecord>,
    /// How many offsets the partitions asked for span.
    pub total: u64,
    /// Cursor onward. Oldest first there always is one, since records may come; newest first there is none at the end.
    pub next: Option<String>,
    /// Cursor the other way, from where this page begins.
    pub previous: String,
    pub scan: Scan,
}

/// A record to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordToWrite {
    /// Without one the key decides.
    pub partition: Option<i32>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Where a group shall go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResetTo {
    Earliest,
    Latest,
    /// At the first record at or after this time, in milliseconds since 1970 (UTC).
    TimeMs(i64),
    /// Partition and offset; others stay.
    Offsets(Vec<(i32, i64)>),
}

/// Why the broker's topics did not answer as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    #[error("there is no topic named {0}")]
    UnknownTopic(String),
    #[error("there is no consumer group named {0}")]
    UnknownGroup(String),
    #[error("topic {topic} has no partition {partition}: it has {partitions}")]
    UnknownPartition { topic: String, partition: i32, partitions: usize },
    #[error("there is a topic named {0} already")]
    Exists(String),
    /// It cannot be done in the present state; the reason is for the client.
    #[error("{0}")]
    Refused(String),
    /// What was asked for cannot be.
    #[error("{field}: {reason}")]
    Invalid { field: &'static str, reason: String },
    #[error("the cursor is not one that this topic handed out")]
    BadCursor,
    /// The client may ask for less, or again later.
    #[error("{0}")]
    Busy(String),
    /// The reason is for the log.
    #[error("the broker does not answer")]
    Unavailable(String),
}

/// Topics, their records, and consumer groups.
pub trait Topics: Send + Sync {
    /// Topics by name; `after` is the last name of the page before.
    fn list(&self, after: Option<String>, limit: u32) -> Answer<'_, Page<TopicSummary>, TopicError>;
    fn describe(&self, topic: String) -> Answer<'_, TopicDetail, TopicError>;
    /// Makes a topic; answers how many partitions it got.
    fn create(&self, topic: NewTopic) -> Answer<'_, u32, TopicError>;
    fn alter(&self, topic: String, change: TopicChange) -> Answer<'_, (), TopicError>;
    fn delete(&self, topic: String, deletion: Deletion) -> Answer<'_, (), TopicError>;
    fn records(&self, query: RecordQuery) -> Answer<'_, RecordPage, TopicError>;
    /// Writes a record and waits for the broker's acknowledgement.
    fn produce(&self, topic: String, record: RecordToWrite) -> Answer<'_, Placed, TopicError>;
    /// Groups by name.
    fn groups(&self) -> Answer<'_, Vec<GroupSummary>, TopicError>;
    fn group(&self, group: String) -> Answer<'_, GroupDetail, TopicError>;
    /// Moves a group without members in a topic; answers its offsets there.
    fn reset(&self, group: String, topic: String, to: ResetTo) -> Answer<'_, Vec<GroupOffset>, TopicError>;
}
