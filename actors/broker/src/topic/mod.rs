//! Topics and their partitions: a named set of logs with one configuration.
//!
//! [`Topics`] finds, creates, grows and removes them; what must survive a restart goes through
//! [`crate::meta`] first. The folder of a topic carries its id, so that a topic that is created again
//! never meets the records of the one before.

mod registry;
pub(crate) mod settings;
mod waiters;

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use crate::log::{Flush, PartitionLog};
pub(crate) use registry::Topics;
use settings::TopicSettings;
pub(crate) use waiters::{Waiter, Waiters};

/// One partition: its log and those who wait for it.
#[derive(Debug)]
pub(crate) struct Partition {
    pub log: Mutex<PartitionLog>,
    pub waiters: Waiters,
}

impl Partition {
    fn new(log: PartitionLog) -> Arc<Self> {
        Arc::new(Self { log: Mutex::new(log), waiters: Waiters::default() })
    }

    /// Forces a flush's files to the disk; blocks. After a failure the log takes no more records,
    /// as the system may have dropped what it could not write.
    pub fn run_flush(&self, flush: Flush) {
        if let Err(error) = flush.run() {
            tracing::error!(%error, "sync failed: partition is read-only");
            self.log.lock().make_read_only();
        }
    }

    /// Sets the mark of reserved offsets ahead of need; blocks.
    pub fn reserve_ahead(&self) {
        let due = self.log.lock().reservation_due();
        if let Some((reservation, mark)) = due {
            let outcome = reservation.lock().set(mark);
            match outcome {
                Ok(()) => self.log.lock().note_reserved(mark),
                Err(error) => tracing::warn!(%error, "offsets cannot be reserved"),
            }
        }
    }
}

/// A topic.
#[derive(Debug)]
pub(crate) struct Topic {
    pub name: String,
    pub id: Uuid,
    partitions: RwLock<Vec<Arc<Partition>>>,
    settings: RwLock<Arc<TopicSettings>>,
}

impl Topic {
    pub fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        let index = usize::try_from(index).ok()?;
        self.partitions.read().get(index).cloned()
    }

    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.read().len()).unwrap_or(i32::MAX)
    }

    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().clone()
    }

    pub fn settings(&self) -> Arc<TopicSettings> {
        self.settings.read().clone()
    }
}
