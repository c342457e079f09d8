//! The watchdog: looks from outside at what each actor has in hand, and at what it gets done.
//!
//! It does not ask the actors: an actor that answers through its mailbox may be stuck, and one that does not may be
//! healthy behind a queue. It compares "since when is the same message in hand" and "since when is nothing done while
//! more is pending" with the policy.

use std::sync::atomic::Ordering;

use super::*;
use crate::{
    exit::{ExitReason, ExitReport},
    human,
    inbox::InboxFigures,
    progress::{Backlog, Progress},
    slot::{Incarnation, RUN},
};

/// How often rates and progress are looked at.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

impl Driver {
    /// Looks at everyone; when the next look is due.
    pub(super) fn watch(&mut self) -> tokio::time::Instant {
        let now = tokio::time::Instant::now();
        let measured_at = self.measured_at.filter(|at| now.saturating_duration_since(*at) < MEASURE_EVERY);
        let measures = measured_at.is_none();
        let measured_at = *self.measured_at.insert(measured_at.unwrap_or(now));
        let mut next = measured_at + MEASURE_EVERY;
        let mut failed = Vec::new();
        let mut restarts = Vec::new();
        for (key, node) in &mut self.nodes {
            if let NodeBody::Supervisor(core) = &node.body {
                node.slot.status.lock().restarts_in_window = core.restarts_in_window(now.into_std());
                if measures {
                    restarts.extend(core.restarts_by_child(now.into_std()));
                }
                continue;
            }
            if measures {
                let processed = node.slot.processed.load(Ordering::Relaxed);
                node.slot.status.lock().rate.look(now, processed);
            }
            let report = node.overdue(now).or_else(|| measures.then(|| node.idle_before_work(now)).flatten());
            failed.extend(report.map(|report| (*key, report)));
            next = next.min(node.overdue_from(now).unwrap_or(next));
        }
        let leaves = restarts.iter().filter_map(|(key, count)| Some((self.nodes.get(key)?, *count)));
        for (leaf, count) in leaves.filter(|(node, _)| !node.slot.is_supervisor) {
            leaf.slot.status.lock().restarts_in_window = count;
        }
        for (child, report) in failed {
            let Some(node) = self.nodes.get(&child) else { continue };
            let (slot, parent) = (Arc::clone(&node.slot), node.parent);
            let generation = report.generation;
            self.record_exit(&slot, report);
            if let Some(parent) = parent {
                self.feed(parent, Event::Stuck { child, generation });
            }
        }
        next
    }
}

impl Node {
    /// The live incarnation with its limit, if the policy sets one.
    fn watched(&self, limit: impl Fn(&Slot) -> Option<Duration>) -> Option<(Arc<Incarnation>, Duration)> {
        let limit = limit(&self.slot)?;
        let incarnation = self.slot.incarnation().filter(|incarnation| !incarnation.is_fenced())?;
        Some((incarnation, limit))
    }

    /// The report on a message that is in hand for too long.
    fn overdue(&self, now: tokio::time::Instant) -> Option<ExitReport> {
        let (incarnation, limit) = self.watched(|slot| slot.status.lock().policy.stuck_after)?;
        let (hand, held) = incarnation.overdue(now, limit)?;
        let message = format!("{} in hand for {}", hand.label, human::format(held));
        let injected = incarnation.injected.load(Ordering::Acquire);
        let report = ExitReport::new(incarnation.generation, ExitReason::Stuck, message);
        Some(ExitReport { culprit: hand.culprit, injected, ..report })
    }

    /// When a message may be in hand for too long, at the earliest.
    fn overdue_from(&self, now: tokio::time::Instant) -> Option<tokio::time::Instant> {
        let (incarnation, limit) = self.watched(|slot| slot.status.lock().policy.stuck_after)?;
        Some(incarnation.overdue_from(now, limit))
    }

    /// The report on a standstill that has lasted too long.
    fn idle_before_work(&mut self, now: tokio::time::Instant) -> Option<ExitReport> {
        let (incarnation, limit) = self.watched(|slot| slot.status.lock().policy.no_progress_after)?;
        let progress = progress(&self.slot, &incarnation);
        let still = self.standstill.look(now, incarnation.generation, progress).filter(|still| *still > limit)?;
        let pending = progress.0.map_or(0, |progress| progress.pending);
        let message = format!("{pending} pending, nothing done for {}", human::format(still));
        Some(ExitReport::new(incarnation.generation, ExitReason::NoProgress, message))
    }
}

/// How far an actor has come, or none if it has nothing to do or a good reason not to do it.
fn progress(slot: &Slot, incarnation: &Incarnation) -> (Option<Progress>, Backlog) {
    let is_held = slot.paused.get() != 0 || incarnation.stop.get() != RUN;
    match &slot.progress {
        Some(probe) => ((!is_held && !incarnation.is_occupied()).then(|| probe()).flatten(), Backlog::Grown),
        None => ((!is_held && incarnation.is_idle()).then(|| of_inboxes(slot)), Backlog::Any),
    }
}

fn of_inboxes(slot: &Slot) -> Progress {
    let figures = slot.inboxes.iter().map(|inbox| inbox.figures());
    let add = |sum: Progress, inbox: InboxFigures| Progress {
        done: sum.done + inbox.committed + inbox.returned,
        pending: sum.pending + inbox.depth as u64,
    };
    figures.fold(Progress { done: 0, pending: 0 }, add)
}
