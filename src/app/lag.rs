//! How far processing is behind the logs: a supervised thread asks the cluster, everyone else reads its answer.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::RwLock;
use streamward_kit::{Failure, Scope};

use crate::adapters::kafka::{KafkaSettings, admin::LogInspector};

/// How often the ends of the logs are read.
const EVERY: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(5);

/// Oldest offset and log end by topic and partition.
type Bounds = HashMap<(Arc<str>, i32), (i64, i64)>;

/// Bounds of every partition's log as last read.
#[derive(Clone, Default)]
pub struct LogEnds {
    bounds: Arc<RwLock<Bounds>>,
}

impl LogEnds {
    /// Oldest offset and log end of a partition, if they were read already.
    pub fn get(&self, topic: &Arc<str>, partition: i32) -> Option<(i64, i64)> {
        self.bounds.read().get(&(topic.clone(), partition)).copied()
    }
}

/// Reads the bounds of `topics` (name, partitions) until asked to stop.
pub fn run(scope: &Scope, kafka: &KafkaSettings, topics: &[(Arc<str>, i32)], ends: &LogEnds) -> Result<(), Failure> {
    let inspector = LogInspector::connect(kafka)?;
    loop {
        scope.pause_point_blocking();
        scope.fault_point_blocking("read")?;
        for (topic, partitions) in topics {
            for partition in 0..*partitions {
                if scope.is_stopping() {
                    return Ok(());
                }
                let waiting = scope.waiting_on("kafka");
                let read = inspector.bounds(topic, partition, TIMEOUT);
                drop(waiting);
                match read {
                    Ok(bounds) => {
                        ends.bounds.write().insert((topic.clone(), partition), bounds);
                        scope.clear_state_note();
                    }
                    Err(error) => scope.set_state_note(&format!("{topic}/{partition}: {error}")),
                }
            }
        }
        if scope.stopping_within(EVERY) {
            return Ok(());
        }
    }
}
