//! Standing still: whatever does not progress although it should, with the reason and the way out.
//!
//! [`sight`] gathers once a second what there is to see: slots, ends of the logs, actors, the database. [`judge`] decides
//! what of it stands still (pure). `storage` asks the database, and opens it anew where that mends it. [`watch`] is the actor that keeps the findings and tells them: to the tree and its
//! events as notes, to the log, and to a file in the data folder for `verify`. Readiness, lag and metrics read
//! [`Findings`].
//!
//! Invariant: whatever its cause, a partition with records to read whose position does not move is a finding after
//! [`judge::PATIENCE`]; a cause that is known is named at once.

pub mod judge;
pub mod sight;
mod storage;
pub mod watch;

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::{now_ms, rfc3339};

/// File in the data folder with the findings of the server that runs there, or ran last.
const FILE: &str = "standing_still.json";

/// How old the last look may be before nobody knows whether something stands still.
const BLIND_AFTER: Duration = Duration::from_secs(10);

/// Kinds of reasons; the word in JSON and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The log no longer holds the next offset.
    Gap,
    /// Storage refuses what the partition issues.
    Refused,
    /// An operator holds the actor.
    Paused,
    /// The actor is down, or does not come back.
    Down,
    /// The actor runs, and what it needs does not work.
    Degraded,
    /// The database is locked, gone or full.
    Storage,
    /// What the database holds cannot be read.
    Damaged,
    /// The embedded broker cannot keep what clients produce.
    BrokerStorage,
    /// Nobody looks.
    Blind,
    /// The cluster does not answer.
    Kafka,
    /// There is no such topic any more.
    TopicGone,
    /// No source of this server reads the partition.
    Unassigned,
    /// Records are there and the source does not read them.
    Reading,
    /// Records were read and the lane does not process them.
    Processing,
    /// Records were processed and the sink does not store them.
    Storing,
    /// Records are stored, and the state of a window has no room for their groups.
    Full,
}

impl Cause {
    /// The word in JSON and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Refused => "refused",
            Self::Paused => "paused",
            Self::Down => "down",
            Self::Degraded => "degraded",
            Self::Storage => "storage",
            Self::Damaged => "damaged",
            Self::BrokerStorage => "broker_storage",
            Self::Blind => "blind",
            Self::Kafka => "kafka",
            Self::TopicGone => "topic_gone",
            Self::Unassigned => "unassigned",
            Self::Reading => "reading",
            Self::Processing => "processing",
            Self::Storing => "storing",
            Self::Full => "full",
        }
    }
}

/// What stands still.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    pub cause: Cause,
    /// The actor where it shows; a pipeline's own node for its partitions.
    pub actor: String,
    pub pipeline: Option<Arc<str>>,
    pub topic: Option<Arc<str>>,
    pub partition: Option<i32>,
}

/// Something that stands still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    #[serde(flatten)]
    pub place: Place,
    /// When it was first seen, in milliseconds since 1970.
    pub since_ms: i64,
    pub reason: String,
    /// What an operator can do.
    pub way_out: String,
}

impl Finding {
    /// As REST shows it: its own fields, with `since` as RFC 3339.
    ///
    /// # Errors
    /// Never; its fields are plain.
    pub fn to_json(&self) -> Result<Value, serde_json::Error> {
        let mut json = serde_json::to_value(self)?;
        json["since"] = rfc3339(self.since_ms).into();
        Ok(json)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.with_partitions(self.place.partition.as_slice()))
    }
}

impl Finding {
    /// As people read it, about these partitions of its pipeline.
    fn with_partitions(&self, partitions: &[i32]) -> String {
        let Place { pipeline, topic, actor, .. } = &self.place;
        let place = match (pipeline, topic) {
            (Some(pipeline), _) => format!("pipeline {pipeline}"),
            (None, Some(topic)) => format!("topic {topic}"),
            (None, None) => actor.clone(),
        };
        let numbers = partitions.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
        let of_it = match partitions {
            [] => String::new(),
            [_] => format!(" partition {numbers}"),
            _ => format!(" partitions {numbers}"),
        };
        format!("{place}{of_it}: {} (since {}); {}", self.reason, rfc3339(self.since_ms), self.way_out)
    }

    /// Whether this one, of an actor, says the same as another that tells it better.
    fn is_as(&self, other: &Self) -> bool {
        self.place.cause == Cause::Degraded && self.reason.ends_with(&other.reason)
    }
}

/// What the watch found last. Clones are the same.
#[derive(Clone, Default)]
pub struct Findings(Arc<RwLock<Found>>);

struct Found {
    all: Arc<[Finding]>,
    /// Stored positions of partitions that no source of this server reads, by pipeline and partition.
    positions: HashMap<(Arc<str>, i32), i64>,
    /// When everything was last looked at.
    looked_at: Instant,
}

impl Default for Found {
    fn default() -> Self {
        Self { all: Arc::default(), positions: HashMap::new(), looked_at: Instant::now() }
    }
}

impl Findings {
    /// All of them, by place; with those of before where nobody has looked for a while, and that this is so.
    #[must_use]
    pub fn all(&self) -> Arc<[Finding]> {
        let found = self.0.read();
        let age = found.looked_at.elapsed();
        if age <= BLIND_AFTER {
            return found.all.clone();
        }
        let actor = "ops/standstill";
        let place =
            Place { cause: Cause::Blind, actor: actor.to_owned(), pipeline: None, topic: None, partition: None };
        let blind = Finding {
            place,
            since_ms: now_ms().saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)),
            reason: format!("{actor} has not looked for {} s: nobody knows what stands still now", age.as_secs()),
            way_out: format!(
                "POST /api/v1/supervision/{actor}/resume if it is paused, POST /api/v1/supervision/{actor}/restart if it \
                 is not"
            ),
        };
        std::iter::once(blind).chain(found.all.iter().cloned()).collect()
    }

    /// The stored position of a partition that no source of this server reads, if it has one.
    #[must_use]
    pub fn position(&self, pipeline: &Arc<str>, partition: i32) -> Option<i64> {
        self.0.read().positions.get(&(pipeline.clone(), partition)).copied()
    }

    /// The finding that concerns a partition of a pipeline: its own, else one of the pipeline, the topic or the server.
    /// Windows without room hold up no partition.
    #[must_use]
    pub fn of_partition(&self, pipeline: &str, topic: &str, partition: i32) -> Option<Finding> {
        let all = self.all();
        let rank = |finding: &Finding| {
            let place = &finding.place;
            match (place.pipeline.as_deref(), place.topic.as_deref(), place.partition) {
                _ if place.cause == Cause::Full => None,
                (Some(of), _, Some(number)) if of == pipeline && number == partition => Some(0),
                (Some(of), _, None) if of == pipeline => Some(1),
                (None, Some(of), None) if of == topic => Some(2),
                (None, None, None)
                    if matches!(place.cause, Cause::Blind | Cause::Storage | Cause::Damaged | Cause::Kafka) =>
                {
                    Some(3)
                }
                _ => None,
            }
        };
        let concerned = all.iter().filter_map(|finding| Some((rank(finding)?, finding)));
        concerned.min_by_key(|(rank, _)| *rank).map(|(_, finding)| finding.clone())
    }

    fn set(&self, findings: Vec<Finding>, positions: HashMap<(Arc<str>, i32), i64>) {
        *self.0.write() = Found { all: findings.into(), positions, looked_at: Instant::now() };
    }
}

/// Where the findings of a data folder are.
fn file(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

/// What stands still in the server of this data folder, or did when it ended.
///
/// # Errors
/// If the file is there and cannot be read.
pub fn last_findings(data_dir: &Path) -> Result<Vec<Finding>, String> {
    let file = file(data_dir);
    match std::fs::read(&file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| format!("read {}: {error}", file.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(format!("read {}: {error}", file.display())),
    }
}
