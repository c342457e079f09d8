//! What a broker is told at start; nothing here is read again from files or the environment.

use std::path::PathBuf;
use std::time::Duration;

/// When appended records are forced to the disk.
///
/// In every mode records are handed to the operating system before they are acknowledged, so that
/// they survive the end of the process; the modes differ only in what a loss of power can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// At most this long after the write.
    Interval(Duration),
    /// Before each acknowledgement.
    EveryBatch,
    /// When the operating system sees fit.
    Never,
}

/// Settings of one broker.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// Folder that holds everything; locked while the broker is open.
    pub data_dir: PathBuf,
    /// Host name that clients are told to connect to; the port is that of the listener.
    pub advertised_host: String,
    /// When appended records are forced to the disk.
    pub fsync: Fsync,
    /// Whether a client that asks for an unknown topic creates it.
    pub auto_create_topics: bool,
    /// Partitions of a topic whose creator names no number.
    pub default_partitions: i32,
    /// Size at which a log segment is closed and the next one begun.
    pub segment_bytes: u64,
    /// Largest request that is read; a larger one ends its connection.
    pub max_request_bytes: usize,
    /// Connections served at a time; more are closed at once.
    pub max_connections: usize,
    /// Age at which records of topics without `retention.ms` are removed.
    pub default_retention_ms: Option<i64>,
    /// Size per partition above which the oldest segments of topics without `retention.bytes` go.
    pub default_retention_bytes: Option<i64>,
}

impl BrokerConfig {
    /// The defaults for a folder: fsync each second, seven days of retention, 128 MiB segments.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            advertised_host: "127.0.0.1".to_owned(),
            fsync: Fsync::Interval(Duration::from_secs(1)),
            auto_create_topics: true,
            default_partitions: 1,
            segment_bytes: 128 << 20,
            max_request_bytes: 32 << 20,
            max_connections: 1_024,
            default_retention_ms: Some(7 * 24 * 3_600 * 1_000),
            default_retention_bytes: None,
        }
    }
}
