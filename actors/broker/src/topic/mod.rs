//! Topics and their partitions: a named set of logs with one configuration.
//!
//! [`Topics`] finds, creates, grows and removes them; what must survive a restart goes through
//! [`crate::meta`] first. The folder of a topic carries its id, so that a topic that is created again
//! never meets the records of the one before.

mod registry;
pub(crate) mod settings;
mod waiters;

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use crate::damage::folders;
use crate::log::PartitionLog;
pub(crate) use registry::Topics;
use settings::TopicSettings;
pub(crate) use waiters::{Waiter, Waiters};

/// Files that the logs of a closed broker's folder hold once it is open.
///
/// # Errors
/// If the folder cannot be read.
pub fn log_files(data_dir: &Path) -> io::Result<usize> {
    let mut files = 0;
    for topic in folders(&data_dir.join("topics"))? {
        for partition in folders(&topic)? {
            let is_segment = |name: &Path| name.extension().is_some_and(|extension| extension == "log");
            let names = std::fs::read_dir(&partition)?.filter_map(Result::ok).map(|entry| entry.path());
            files += 1 + names.filter(|name| is_segment(name)).count();
        }
    }
    Ok(files)
}

/// One partition: its log and those who wait for it.
#[derive(Debug)]
pub(crate) struct Partition {
    pub log: Mutex<PartitionLog>,
    pub waiters: Waiters,
    /// Held until what was taken of the log is on the disk.
    flushing: Mutex<()>,
}

impl Partition {
    pub fn new(log: PartitionLog) -> Arc<Self> {
        Arc::new(Self { log: Mutex::new(log), waiters: Waiters::default(), flushing: Mutex::default() })
    }

    /// Forces everything that was appended before to the disk; blocks. After a failure the log takes no more
    /// records, as the system may have dropped what it could not write.
    ///
    /// # Errors
    /// What the file system says, also if it was said before.
    pub fn flush(&self) -> io::Result<()> {
        let _one_at_a_time = self.flushing.lock();
        let flush = {
            let mut log = self.log.lock();
            if log.is_read_only() {
                return Err(io::ErrorKind::ReadOnlyFilesystem.into());
            }
            log.take_flush()
        };
        flush.run().inspect_err(|error| {
            tracing::error!(%error, "sync failed: partition is read-only");
            self.log.lock().make_read_only();
        })
    }

    /// Forces everything to the disk and gives back the offsets that were reserved ahead; blocks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn close(&self) -> io::Result<()> {
        let _one_at_a_time = self.flushing.lock();
        self.log.lock().close()
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
