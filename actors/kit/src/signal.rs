//! A small number that tasks and threads can wait on.

use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

/// A value of 0 to 255 with waiters on both sides of the async border.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    value: AtomicU8,
    lock: Mutex<()>,
    changed: Condvar,
    notify: Notify,
}

impl Signal {
    pub(crate) fn get(&self) -> u8 {
        self.value.load(Ordering::Acquire)
    }

    /// Sets the value and wakes all waiters.
    pub(crate) fn set(&self, value: u8) {
        self.value.store(value, Ordering::Release);
        self.wake();
    }

    /// Raises the value; it never goes back.
    pub(crate) fn raise(&self, value: u8) {
        self.value.fetch_max(value, Ordering::AcqRel);
        self.wake();
    }

    /// Wakes the waiters so that they look again.
    pub(crate) fn wake(&self) {
        drop(self.lock.lock());
        self.changed.notify_all();
        self.notify.notify_waiters();
    }

    /// Waits until `wanted` holds for the value.
    pub(crate) async fn until(&self, wanted: impl Fn(u8) -> bool) {
        loop {
            let notified = self.notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if wanted(self.get()) {
                return;
            }
            notified.await;
        }
    }

    /// The same for a thread; true if it holds, false after `limit`.
    pub(crate) fn until_blocking(&self, limit: Duration, wanted: impl Fn(u8) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        let mut guard = self.lock.lock();
        while !wanted(self.get()) {
            if self.changed.wait_until(&mut guard, deadline).timed_out() {
                return wanted(self.get());
            }
        }
        true
    }
}
