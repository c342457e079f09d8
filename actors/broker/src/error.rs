//! Errors that callers of the library branch on; clients get Kafka's codes instead.

use std::fmt;
use std::io;
use std::path::PathBuf;

pub(crate) use kafka_protocol::ResponseError as Code;

/// Result of work done for a client.
pub(crate) type KResult<T> = Result<T, Code>;

/// The code that a response carries for a result: 0 is success.
pub(crate) fn code_of<T>(result: &KResult<T>) -> i16 {
    result.as_ref().err().map_or(0, Code::code)
}

/// Why a broker could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another broker of this one, holds the folder.
    #[error("{} is in use by process {}", path.display(), pid.map_or_else(|| "unknown".to_owned(), |p| p.to_string()))]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The holder, where the lock file names it.
        pid: Option<u32>,
    },
    /// The metadata log holds a record that this version cannot read.
    #[error("{}: {reason}", path.display())]
    Metadata {
        /// The metadata log.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A setting is out of its range.
    #[error("broker setting {0}")]
    Config(&'static str),
    /// A certificate or key cannot be used.
    #[error("TLS {what}: {reason}")]
    Tls {
        /// Which text is at fault.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn tls<E: fmt::Display>(what: &'static str) -> impl Fn(E) -> Self {
        move |error| Self::Tls { what, reason: error.to_string() }
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// Why a topic could not be created or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Names have 1 to 249 letters, digits, dots, underscores and dashes.
    #[error("topic name {0:?} is invalid")]
    InvalidName(String),
    /// The topic exists already.
    #[error("topic {0} exists")]
    Exists(String),
    /// Another topic's name differs in dots and underscores alone, as Kafka refuses too.
    #[error("topic {name} collides with topic {other}: names may not differ in '.' and '_' alone")]
    Collision {
        /// The name that was asked for.
        name: String,
        /// The topic that exists.
        other: String,
    },
    /// No such topic.
    #[error("topic {0} does not exist")]
    Unknown(String),
    /// Partition counts are 1 to [`crate::MAX_PARTITIONS_PER_TOPIC`] and never shrink.
    #[error("topic {topic}: {partitions} partitions are not possible")]
    InvalidPartitions {
        /// The topic.
        topic: String,
        /// The count that was asked for.
        partitions: i32,
    },
    /// A configuration entry is unknown or its value invalid.
    #[error("topic configuration {key}: {reason}")]
    InvalidConfig {
        /// The key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// The broker holds as many partitions as it may.
    #[error("the broker is at its limit of partitions")]
    TooManyPartitions,
    /// The logs hold as many files as they may.
    #[error(
        "the broker's logs hold {held} files and may hold {max}, a share of the limit of open files: raise it (ulimit -n, \
         LimitNOFILE), or delete topics"
    )]
    TooManyFiles {
        /// Files that are open.
        held: usize,
        /// The bound.
        max: usize,
    },
    /// The file system refused.
    #[error("storage: {0}")]
    Storage(String),
}

impl TopicError {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::InvalidName(_) | Self::Collision { .. } => Code::InvalidTopicException,
            Self::Exists(_) => Code::TopicAlreadyExists,
            Self::Unknown(_) => Code::UnknownTopicOrPartition,
            Self::InvalidPartitions { .. } => Code::InvalidPartitions,
            Self::InvalidConfig { .. } => Code::InvalidConfig,
            Self::TooManyPartitions | Self::TooManyFiles { .. } => Code::PolicyViolation,
            Self::Storage(_) => Code::KafkaStorageError,
        }
    }
}
