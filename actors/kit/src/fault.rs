//! Faults on purpose, for drills and tests.
//!
//! A role marks the places where a fault may strike with `scope.fault_point(name)`; a fault put in by
//! [`crate::Runtime::command`] strikes at the next one. Without an armed fault a point costs one relaxed load.
//! Injected faults are marked in the exit report and never charged to a message.
//!
//! Shape in JSON: `{"kind":"panic"}`, `{"kind":"error","times":3}`, `{"kind":{"stall":250},"point":"before_commit"}`;
//! times are milliseconds. Faults belong to the slot: those left over strike the next incarnation.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::exit::epoch_ms;

/// Most faults that may be armed at one actor.
pub const MAX_ARMED_FAULTS: u32 = 1_000;

/// What shall happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The role panics.
    Panic,
    /// The role returns a failure.
    Error,
    /// The role waits this many milliseconds with a message in hand; others on its thread go on.
    Stall(u64),
    /// The role blocks its thread this many milliseconds with a message in hand.
    Block(u64),
    /// The role waits this many milliseconds, as for something slow outside; that is no failure.
    Slow(u64),
}

/// A fault to inject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What shall happen.
    pub kind: FaultKind,
    /// How often, 1 to [`MAX_ARMED_FAULTS`].
    #[serde(default = "once")]
    pub times: u32,
    /// Only at the fault point of this name; at any one if absent.
    #[serde(default)]
    pub point: Option<String>,
}

fn once() -> u32 {
    1
}

impl Fault {
    /// A fault that strikes `times` times at any point.
    #[must_use]
    pub fn new(kind: FaultKind, times: u32) -> Self {
        Self { kind, times, point: None }
    }

    fn is_for(&self, point: &str) -> bool {
        self.point.as_deref().is_none_or(|wanted| wanted == point)
    }
}

pub(crate) const fn stall(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A fault that has struck.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StruckFault {
    /// What happened.
    pub kind: FaultKind,
    /// At which fault point.
    pub point: String,
    /// When, in milliseconds since the epoch.
    pub at: u64,
}

/// The faults of one slot, armed and struck; they outlive its incarnations.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    armed: AtomicUsize,
    queue: Mutex<VecDeque<Fault>>,
    came: Notify,
    last: Mutex<Option<StruckFault>>,
}

impl Faults {
    /// Arms a fault; false if too many are armed.
    pub(crate) fn arm(&self, fault: Fault) -> bool {
        let mut queue = self.queue.lock();
        let armed: u64 = queue.iter().map(|fault| u64::from(fault.times)).sum();
        if fault.times == 0 || armed + u64::from(fault.times) > u64::from(MAX_ARMED_FAULTS) {
            return false;
        }
        queue.push_back(fault);
        self.armed.store(queue.len(), Ordering::Release);
        drop(queue);
        self.came.notify_waiters();
        true
    }

    /// Waits until a fault is armed for this point.
    pub(crate) async fn armed_at(&self, point: &str) {
        loop {
            let came = self.came.notified();
            tokio::pin!(came);
            came.as_mut().enable();
            if self.queue.lock().iter().any(|fault| fault.is_for(point)) {
                return;
            }
            came.await;
        }
    }

    /// Takes the next fault for this point.
    #[inline]
    pub(crate) fn take(&self, point: &str) -> Option<FaultKind> {
        if self.armed.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.take_armed(point)
    }

    #[cold]
    fn take_armed(&self, point: &str) -> Option<FaultKind> {
        let mut queue = self.queue.lock();
        let at = queue.iter().position(|fault| fault.is_for(point))?;
        let fault = &mut queue[at];
        let kind = fault.kind;
        fault.times -= 1;
        if fault.times == 0 {
            queue.remove(at);
        }
        self.armed.store(queue.len(), Ordering::Release);
        *self.last.lock() = Some(StruckFault { kind, point: point.to_owned(), at: epoch_ms() });
        Some(kind)
    }

    /// Forgets what has not struck.
    pub(crate) fn disarm(&self) {
        let mut queue = self.queue.lock();
        queue.clear();
        self.armed.store(0, Ordering::Release);
    }

    /// How many strikes are still to come.
    pub(crate) fn left(&self) -> u64 {
        if self.armed.load(Ordering::Acquire) == 0 {
            return 0;
        }
        self.queue.lock().iter().map(|fault| u64::from(fault.times)).sum()
    }

    /// The fault that struck last.
    pub(crate) fn last(&self) -> Option<StruckFault> {
        self.last.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_as_often_as_armed_and_only_at_its_point() {
        let faults = Faults::default();
        assert!(faults.arm(Fault { kind: FaultKind::Panic, times: 2, point: Some("write".to_owned()) }));
        assert_eq!((faults.take("read"), faults.last()), (None, None));
        assert_eq!(faults.take("write"), Some(FaultKind::Panic));
        assert_eq!(faults.take("write"), Some(FaultKind::Panic));
        assert_eq!(faults.take("write"), None);
        assert_eq!(
            faults.last().map(|struck| (struck.kind, struck.point)),
            Some((FaultKind::Panic, "write".to_owned()))
        );
    }

    #[test]
    fn a_fault_is_read_from_a_request_body() {
        let fault: Fault = serde_json::from_str(r#"{"kind":{"stall":250},"times":3}"#).unwrap();
        assert_eq!(fault, Fault::new(FaultKind::Stall(250), 3));
        assert_eq!(serde_json::from_str::<Fault>(r#"{"kind":"panic"}"#).unwrap().times, 1);
    }
}
