//! What a broker is told at start; nothing here is read again from files or the environment.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::tls::TlsConfig;
use crate::{SHORTEST_FSYNC_INTERVAL, UPKEEP_INTERVAL};

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

/// A way to prove who one is (SASL).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// The password itself (RFC 4616): for TLS or loopback.
    Plain,
    /// Proof of the password without sending it (RFC 7677).
    ScramSha256,
    /// As [`Self::ScramSha256`] with a longer hash.
    ScramSha512,
}

impl Mechanism {
    /// The name that clients know it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Somebody who may use the broker.
#[derive(Clone)]
pub struct User {
    /// 1 to 255 bytes.
    pub name: String,
    password: String,
}

impl User {
    /// A user with a password; neither may be empty.
    pub fn new(name: impl Into<String>, password: impl Into<String>) -> Self {
        Self { name: name.into(), password: password.into() }
    }

    pub(crate) fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How clients prove who they are.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// Mechanisms that clients may choose from, at least one.
    pub mechanisms: Vec<Mechanism>,
    /// At most 1,000 users; the derivation of their SCRAM keys takes some milliseconds each at start.
    pub users: Vec<User>,
    /// Time after which a client has to prove it again on the same connection (KIP-368).
    pub max_session: Option<Duration>,
}

/// Bytes per second that each user may move, or each client id where clients do not authenticate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientRates {
    /// Of produce requests; none: no limit.
    pub produce: Option<u64>,
    /// Of fetched records; none: no limit.
    pub fetch: Option<u64>,
}

/// Settings of one broker.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// Folder that holds everything; locked while the broker is open.
    pub data_dir: PathBuf,
    /// Host name that clients are told to connect to, where it is not the address that they came by;
    /// the port is that of the listener.
    pub advertised_host: Option<String>,
    /// How clients prove who they are; without it everybody is served.
    pub auth: Option<AuthConfig>,
    /// Certificate of the listeners; without it they do not speak TLS.
    pub tls: Option<TlsConfig>,
    /// Time from the acceptance of a connection to the end of its TLS handshake and authentication.
    pub handshake_timeout: Duration,
    /// When appended records are forced to the disk.
    pub fsync: Fsync,
    /// Whether a client that asks for an unknown topic creates it.
    pub auto_create_topics: bool,
    /// Partitions of a topic whose creator names no number.
    pub default_partitions: i32,
    /// Size at which a log segment is closed and the next one begun.
    pub segment_bytes: u64,
    /// Largest request to produce that is read, others have at most 1 MiB; a larger one ends its connection.
    pub max_request_bytes: usize,
    /// Connections served at a time; more are closed at once.
    pub max_connections: usize,
    /// Connections of one address among them.
    pub max_connections_per_ip: usize,
    /// Files of logs that may be open once partitions are added: two of each partition, and one of each further segment.
    /// Together with connections they stay below the process's limit of open files.
    pub max_files: usize,
    /// Groups of the embedder, whose members can only come as the user of [`crate::Internal`]: whoever else joins a group
    /// takes partitions away, and may send what its leader's library does not survive.
    pub own_groups: BTreeSet<String>,
    /// Rates of clients for whom administrators stored none (KIP-546).
    pub client_rates: ClientRates,
    /// Age at which records of topics without `retention.ms` are removed.
    pub default_retention_ms: Option<i64>,
    /// Size per partition above which the oldest segments of topics without `retention.bytes` go.
    pub default_retention_bytes: Option<i64>,
}

impl BrokerConfig {
    /// Of [`Self::segment_bytes`].
    pub const SEGMENT_BYTES: RangeInclusive<u64> = 1_024..=1 << 30;
    /// Of [`Self::max_connections`] and [`Self::max_connections_per_ip`].
    pub const CONNECTIONS: RangeInclusive<usize> = 1..=1_000_000;
    /// Of [`Fsync::Interval`]: the log is looked at no more and no less often.
    pub const FSYNC_INTERVAL: RangeInclusive<Duration> = SHORTEST_FSYNC_INTERVAL..=UPKEEP_INTERVAL;
    /// Of [`AuthConfig::max_session`]: clients prove it again over a live connection, which takes them some time.
    pub const MAX_SESSION: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(365 * 86_400);
    /// Of [`ClientRates`], in bytes per second.
    pub const CLIENT_RATE: RangeInclusive<u64> = 1..=1 << 40;
    /// Of [`Self::default_retention_ms`] as a duration.
    pub const RETENTION_AGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(36_525 * 86_400);
    /// Of [`Self::default_retention_bytes`].
    pub const RETENTION_BYTES: RangeInclusive<u64> = 1..=1 << 50;

    /// The defaults for a folder: fsync each second, seven days of retention, 128 MiB segments.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            advertised_host: None,
            auth: None,
            tls: None,
            handshake_timeout: Duration::from_secs(10),
            fsync: Fsync::Interval(Duration::from_secs(1)),
            auto_create_topics: true,
            default_partitions: 1,
            segment_bytes: 128 << 20,
            max_request_bytes: 32 << 20,
            max_connections: 1_024,
            max_connections_per_ip: usize::MAX,
            max_files: usize::MAX,
            own_groups: BTreeSet::new(),
            client_rates: ClientRates::default(),
            default_retention_ms: Some(7 * 24 * 3_600 * 1_000),
            default_retention_bytes: None,
        }
    }
}
