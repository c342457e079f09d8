//! What happened in the tree: the last events, numbered, and a live stream of them.
//!
//! Shape in JSON: `{"seq":7,"at":1700000000000,"path":"pipelines/sensors/lane","generation":2,"kind":"state",
//! "state":"running"}`; `kind` is one of [`EventKind`] in snake case and says which further fields there are.
//!
//! Rules: numbers grow by one without a hole, and the stream has their order. [`MAX_EVENTS`] are kept, and as many may
//! wait for one listener; a slower one gets `Lagged` and finds the rest, as far as it is kept, with
//! [`crate::Runtime::events_since`]. Publishing takes a lock and never waits for a listener. Events are for people and
//! pages; decisions do not depend on them.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::broadcast;

use crate::{
    exit::{ExitReport, epoch_ms},
    path::ActorPath,
    policy::{ChildPolicy, SupervisorPolicy},
    tree::ActorState,
};

/// Events kept.
pub const MAX_EVENTS: usize = 1_000;

/// What happened to one actor.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventKind {
    /// It has this state now.
    State { state: ActorState },
    /// An incarnation ended.
    Exit { exit: ExitReport },
    /// A dynamic child came.
    Added,
    /// A child left the tree.
    Removed,
    /// An aborted incarnation would not go and was left behind.
    Abandoned,
    /// It did not stop within its limit.
    MissedStop,
    /// The operator gave a command.
    Command { command: String },
    /// It is said to be degraded, or no longer: see [`crate::Runtime::note`].
    Noted { note: Option<Arc<str>> },
    /// It is looked after in another way from now on.
    Policy { policy: ChildPolicy },
    /// It treats its children in another way from now on.
    Supervision { policy: SupervisorPolicy },
}

/// One numbered event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LifecycleEvent {
    /// Grows by one per event.
    pub seq: u64,
    /// Milliseconds since the epoch.
    pub at: u64,
    /// Whose.
    pub path: ActorPath,
    /// Generation of the incarnation, 0 before the first.
    pub generation: u64,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

pub(crate) struct EventLog {
    ring: Mutex<(u64, VecDeque<LifecycleEvent>)>,
    live: broadcast::Sender<LifecycleEvent>,
}

impl EventLog {
    pub(crate) fn new() -> Self {
        Self { ring: Mutex::new((0, VecDeque::new())), live: broadcast::Sender::new(MAX_EVENTS) }
    }

    pub(crate) fn publish(&self, path: &ActorPath, generation: u64, kind: EventKind) {
        let mut ring = self.ring.lock();
        ring.0 += 1;
        let event = LifecycleEvent { seq: ring.0, at: epoch_ms(), path: path.clone(), generation, kind };
        if ring.1.len() == MAX_EVENTS {
            ring.1.pop_front();
        }
        ring.1.push_back(event.clone());
        // Inside the lock, so that the stream has the order of the numbers. Nobody listening is fine.
        let _ = self.live.send(event);
    }

    /// Adds the first frames to an exit that is still kept; those who listen have had it without.
    pub(crate) fn add_backtrace(&self, path: &ActorPath, generation: u64, head: &str) {
        let mut ring = self.ring.lock();
        let is_it = |event: &&mut LifecycleEvent| event.generation == generation && event.path == *path;
        for event in ring.1.iter_mut().rev().filter(is_it) {
            if let EventKind::Exit { exit } = &mut event.kind {
                exit.backtrace_head = Some(head.to_owned());
                return;
            }
        }
    }

    pub(crate) fn since(&self, seq: u64) -> Vec<LifecycleEvent> {
        self.ring.lock().1.iter().filter(|event| event.seq > seq).cloned().collect()
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<LifecycleEvent> {
        self.live.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_resolved_later_are_added_to_their_exit_alone() {
        let log = EventLog::new();
        for generation in 1..=2 {
            let exit = ExitReport::new(generation, crate::ExitReason::Panic, "boom");
            log.publish(&ActorPath::root(), generation, EventKind::Exit { exit });
        }
        log.add_backtrace(&ActorPath::root(), 1, "0: step");
        let heads: Vec<_> = log
            .since(0)
            .into_iter()
            .map(|event| match event.kind {
                EventKind::Exit { exit } => exit.backtrace_head,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(heads, [Some("0: step".to_owned()), None]);
    }

    #[test]
    fn the_ring_keeps_the_last_events_with_growing_numbers() {
        let log = EventLog::new();
        for _ in 0..MAX_EVENTS + 5 {
            log.publish(&ActorPath::root(), 1, EventKind::Added);
        }
        let kept = log.since(0);
        assert_eq!(kept.len(), MAX_EVENTS);
        assert_eq!(kept[0].seq, 6);
        assert!(kept.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1));
        assert_eq!(log.since(kept[998].seq).len(), 1);
    }
}
