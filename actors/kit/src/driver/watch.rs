//! The watchdog: looks from outside at what each actor has in hand.
//!
//! It does not ask the actors: an actor that answers through its mailbox may be stuck, and one that does not may be
//! healthy behind a queue. It compares "since when is the same message in hand" with the policy.

use super::*;
use crate::{
    exit::{ExitReason, ExitReport},
    human,
};

impl Driver {
    pub(super) fn watch(&mut self) {
        let now = tokio::time::Instant::now();
        let mut stuck = Vec::new();
        for (key, node) in &self.nodes {
            let status = node.slot.status.lock();
            if let NodeBody::Supervisor(core) = &node.body {
                let in_window = core.restarts_in_window(now.into_std());
                drop(status);
                node.slot.status.lock().restarts_in_window = in_window;
                continue;
            }
            let (Some(limit), Some(incarnation)) = (status.policy.stuck_after, status.incarnation.as_ref()) else {
                continue;
            };
            if incarnation.is_fenced() {
                continue;
            }
            if let Some((hand, held)) = incarnation.overdue(now, limit) {
                let message = format!("{} in hand for {}", hand.label, human::format(held));
                let injected = incarnation.injected.load(std::sync::atomic::Ordering::Acquire);
                let report = ExitReport::new(incarnation.generation, ExitReason::Stuck, message);
                stuck.push((*key, ExitReport { culprit: hand.culprit, injected, ..report }));
            }
        }
        for (child, report) in stuck {
            let Some(node) = self.nodes.get(&child) else { continue };
            let (slot, parent) = (Arc::clone(&node.slot), node.parent);
            let generation = report.generation;
            self.record_exit(&slot, report);
            if let Some(parent) = parent {
                self.feed(parent, Event::Stuck { child, generation });
            }
        }
    }
}
