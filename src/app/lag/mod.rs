//! How far processing is behind the logs: a supervised thread asks the cluster, everyone else reads its answer.

pub mod figures;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use streamward_core::ports::topics::{LogBounds, TopicError};
use streamward_kit::{Failure, Scope};

use crate::adapters::kafka::{KafkaSettings, topics::Catalog};

/// How often the ends of the logs are read.
const EVERY: Duration = Duration::from_secs(1);

/// What is known of a topic's logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicLogs {
    /// There is no such topic.
    Missing,
    /// Every partition, with its bounds if its leader told them.
    Partitions(BTreeMap<i32, Option<LogBounds>>),
}

/// What the cluster said last.
#[derive(Debug)]
struct Told {
    topics: HashMap<Arc<str>, TopicLogs>,
    /// When all topics were last answered.
    answered_at: Instant,
    /// Why the cluster does not answer now.
    failure: Option<String>,
}

/// Bounds of every partition's log as last read. Clones are the same.
#[derive(Clone)]
pub struct LogEnds {
    told: Arc<RwLock<Told>>,
}

impl Default for LogEnds {
    fn default() -> Self {
        let told = Told { topics: HashMap::new(), answered_at: Instant::now(), failure: None };
        Self { told: Arc::new(RwLock::new(told)) }
    }
}

impl LogEnds {
    /// Bounds of a partition's log for a reader of committed records, if they were read already.
    pub fn bounds(&self, topic: &Arc<str>, partition: i32) -> Option<LogBounds> {
        match self.told.read().topics.get(topic)? {
            TopicLogs::Missing => None,
            TopicLogs::Partitions(partitions) => *partitions.get(&partition)?,
        }
    }

    /// A topic's logs, if they were read already.
    pub fn topic(&self, topic: &Arc<str>) -> Option<TopicLogs> {
        self.told.read().topics.get(topic).cloned()
    }

    /// For how long the cluster has not answered, and why; none while it answers.
    pub fn silence(&self) -> Option<(Duration, String)> {
        let told = self.told.read();
        told.failure.as_ref().map(|why| (told.answered_at.elapsed(), why.clone()))
    }

    fn learn(&self, topics: HashMap<Arc<str>, TopicLogs>) {
        *self.told.write() = Told { topics, answered_at: Instant::now(), failure: None };
    }

    fn fail(&self, why: String) {
        self.told.write().failure = Some(why);
    }
}

/// Reads the bounds of `topics` until asked to stop.
///
/// # Errors
/// If the client cannot be made.
pub fn run(scope: &Scope, kafka: &KafkaSettings, topics: &[Arc<str>], ends: &LogEnds) -> Result<(), Failure> {
    let catalog = Catalog::connect(kafka)?;
    loop {
        scope.pause_point_blocking();
        scope.fault_point_blocking("read")?;
        let waiting = scope.waiting_on("kafka");
        let answered = catalog.known_bounds_of(topics.iter().map(|topic| &**topic));
        drop(waiting);
        match answered {
            Ok(bounds) => {
                let logs = bounds.into_iter().map(|bounds| bounds.map_or(TopicLogs::Missing, TopicLogs::Partitions));
                ends.learn(topics.iter().cloned().zip(logs).collect());
                scope.progress(1);
                scope.clear_state_note();
            }
            Err(error) => {
                let why = match error {
                    TopicError::Unavailable(why) => format!("{}: {why}", kafka.bootstrap),
                    other => format!("{}: {other}", kafka.bootstrap),
                };
                scope.set_state_note(&why);
                ends.fail(why);
            }
        }
        if scope.stopping_within(EVERY) {
            return Ok(());
        }
    }
}
