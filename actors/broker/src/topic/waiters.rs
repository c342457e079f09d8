//! Readers that wait for records of a partition.
//!
//! A reader registers in every partition it reads before it looks at them, so that an append in
//! between is not missed; it is removed when its registration is dropped.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Partition;

/// The readers that wait for one partition.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: Mutex<HashMap<usize, Arc<Notify>>>,
}

impl Waiters {
    /// Wakes all of them; they look again at what they wait for.
    pub fn wake(&self) {
        for waiter in self.waiting.lock().values() {
            waiter.notify_one();
        }
    }
}

/// One reader, registered in the partitions that it reads.
#[derive(Debug, Default)]
pub(crate) struct Waiter {
    notify: Arc<Notify>,
    partitions: Vec<Arc<Partition>>,
}

impl Waiter {
    /// Has appends to a partition wake this reader.
    pub fn register(&mut self, partition: &Arc<Partition>) {
        let id = self.id();
        let mut waiting = partition.waiters.waiting.lock();
        waiting.insert(id, self.notify.clone());
        self.partitions.push(partition.clone());
    }

    /// Completes after an append, at once if there was one since the last call.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }

    /// The address of the shared notification is unique while it is registered.
    fn id(&self) -> usize {
        Arc::as_ptr(&self.notify).addr()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let id = self.id();
        for partition in &self.partitions {
            partition.waiters.waiting.lock().remove(&id);
        }
    }
}
