//! Performing what a machine decided.

use std::sync::atomic::Ordering;

use super::{arbiters::Target, *};
use crate::{
    Scope,
    core::{Effect, Ending, Place, Shown},
    events::MAX_EVENTS,
    exit::{ExitReason, ExitReport},
    panics::{self, PanicNote},
    slot::{DRAIN, Incarnation, STOP},
    task,
    tree::ActorState,
    worker::{Reporter, host_role, host_thread},
};

impl Driver {
    pub(super) fn perform(&mut self, supervisor: ChildKey, effect: Effect) {
        match effect {
            Effect::Start { child, generation, place } => self.start(supervisor, (child, generation), place),
            Effect::Drain { child, .. } => self.signal(child, DRAIN),
            Effect::Stop { child, .. } => match self.nodes.get(&child).map(|node| &node.body) {
                Some(NodeBody::Supervisor(_)) => self.queue.push_back((child, Event::Shutdown)),
                Some(NodeBody::Role(..) | NodeBody::Thread(_)) => self.signal(child, STOP),
                None => {}
            },
            Effect::Fence { child, generation, charge } => {
                if let Some(incarnation) = self.incarnation(child, generation) {
                    incarnation.fence(charge);
                }
            }
            Effect::Abort { child, generation } => {
                if let Some(incarnation) = self.incarnation(child, generation) {
                    incarnation.abort();
                }
            }
            Effect::Abandoned { child, .. } => self.abandon(supervisor, child),
            Effect::SetTimer { timer, at } => {
                self.timers.insert((at, timer), supervisor);
                if let Some(node) = self.nodes.get(&timer.child) {
                    let mut status = node.slot.status.lock();
                    status.restart_at = (status.state == Shown::BackingOff).then(|| tokio::time::Instant::from_std(at));
                }
            }
            Effect::Show { child, state } => self.show(child, state),
            Effect::MissedStop { child } => {
                if let Some(node) = self.nodes.get(&child) {
                    tracing::warn!(path = %node.slot.path, "did not stop in time, aborted");
                    let mut missed = self.shared.missed_stops.lock();
                    if missed.len() < MAX_EVENTS {
                        missed.push(node.slot.path.clone());
                    }
                    drop(missed);
                    self.publish(&node.slot, EventKind::MissedStop);
                }
            }
            Effect::Removed { child } => {
                if let Some(path) = self.nodes.get(&child).map(|node| node.slot.path.clone()) {
                    self.shared.events.publish(&path, 0, EventKind::Removed);
                    self.prune(&path);
                }
            }
            Effect::Finished(ending) => self.finish(supervisor, ending),
        }
    }

    fn incarnation(&self, child: ChildKey, generation: u64) -> Option<Arc<Incarnation>> {
        let incarnation = self.nodes.get(&child)?.slot.incarnation()?;
        (incarnation.generation == generation).then_some(incarnation)
    }

    fn signal(&self, child: ChildKey, level: u8) {
        if let Some(node) = self.nodes.get(&child)
            && let Some(incarnation) = node.slot.incarnation()
        {
            incarnation.stop.raise(level);
            node.slot.wake_inboxes();
        }
    }

    fn show(&self, child: ChildKey, state: Shown) {
        if let Some(node) = self.nodes.get(&child) {
            node.slot.set_state(state);
            self.publish(&node.slot, EventKind::State { state: ActorState::from(state) });
        }
    }

    fn start(&mut self, supervisor: ChildKey, who: (ChildKey, u64), place: Place) {
        let (child, generation) = who;
        let Some(node) = self.nodes.get_mut(&child) else { return };
        let incarnation = Arc::new(Incarnation::new(generation));
        {
            let mut status = node.slot.status.lock();
            status.generation = generation;
            status.restarts += u64::from(generation > 1);
            status.incarnation = (!node.slot.is_supervisor).then(|| Arc::clone(&incarnation));
        }
        let scope = Scope { slot: Arc::clone(&node.slot), incarnation };
        let reporter = Reporter { scope, child, notes: self.notes_in.clone(), reported: false };
        match &node.body {
            NodeBody::Supervisor(_) => {
                let mut reporter = reporter;
                reporter.reported = true;
                self.queue.push_back((child, Event::Boot));
                self.queue.push_back((supervisor, Event::Started { child, generation }));
            }
            NodeBody::Thread(factory) => host_thread(reporter, Arc::clone(factory)),
            NodeBody::Role(factory, placement) => {
                let factory = Arc::clone(factory);
                match self.arbiters.target(child, placement, place) {
                    Ok(Target::Here) => {
                        node.hosted_by = None;
                        task::spawn_here(host_role(reporter, factory));
                    }
                    Ok(Target::There(id, arbiter)) => {
                        node.hosted_by = Some(id);
                        // A dead arbiter drops the closure, and the reporter says so.
                        arbiter.spawn_fn(move || drop(task::spawn_here(host_role(reporter, factory))));
                    }
                    Err(error) => reporter.not_hosted(&format!("no arbiter: {error}")),
                }
            }
        }
    }

    /// The blocked arbiter is replaced; others that live on it move as well.
    fn abandon(&mut self, supervisor: ChildKey, child: ChildKey) {
        let Some(node) = self.nodes.get_mut(&child) else { return };
        let blocked = node.hosted_by.take();
        let slot = Arc::clone(&node.slot);
        tracing::warn!(path = %slot.path, "an aborted incarnation would not go and is left behind");
        self.publish(&slot, EventKind::Abandoned);
        if let Some(Node { body: NodeBody::Supervisor(core), .. }) = self.nodes.get(&supervisor) {
            slot.status.lock().zombies = core.zombies(child);
        }
        let Some(blocked) = blocked else { return };
        self.arbiters.retire(blocked);
        for (key, node) in self.nodes.iter_mut().filter(|(_, node)| node.hosted_by == Some(blocked)) {
            node.hosted_by = None;
            let generation = node.slot.status.lock().generation;
            if let Some(parent) = node.parent {
                self.queue.push_back((parent, Event::Stranded { child: *key, generation }));
            }
        }
    }

    pub(super) fn on_exited(&mut self, child: ChildKey, report: ExitReport, panic: Option<Box<PanicNote>>) {
        let Some(node) = self.nodes.get(&child) else { return };
        let Some(parent) = node.parent else { return };
        let slot = Arc::clone(&node.slot);
        let (generation, reason) = (report.generation, report.reason);
        self.record_exit(&slot, report);
        self.feed(parent, Event::Exited { child, generation, reason });
        if let Some(Node { body: NodeBody::Supervisor(core), .. }) = self.nodes.get(&parent) {
            slot.status.lock().zombies = core.zombies(child);
        }
        if let Some(note) = panic {
            slot.panics.fetch_add(1, Ordering::Relaxed);
            let shared = Arc::clone(&self.shared);
            panics::resolve_later(note.backtrace, move |head| {
                if head.is_empty() {
                    return;
                }
                shared.events.add_backtrace(&slot.path, generation, &head);
                let mut status = slot.status.lock();
                if let Some(last) = status.last_exit.as_mut().filter(|last| last.generation == generation) {
                    last.backtrace_head = Some(head);
                }
            });
        }
    }

    /// Keeps and announces a report, unless this generation's end was told already (a stuck one that went later).
    pub(super) fn record_exit(&self, slot: &Slot, report: ExitReport) {
        {
            let mut status = slot.status.lock();
            if status.last_exit.as_ref().is_some_and(|last| last.generation >= report.generation) {
                return;
            }
            *status.exits.entry(report.reason).or_default() += 1;
            status.last_exit = Some(report.clone());
        }
        if report.reason.is_abnormal() {
            let location = report.location.as_deref().unwrap_or_default();
            tracing::error!(path = %slot.path, generation = report.generation, reason = ?report.reason, location, "{}", report.message);
        }
        self.shared.events.publish(&slot.path, report.generation, EventKind::Exit { exit: report });
    }

    fn finish(&mut self, supervisor: ChildKey, ending: Ending) {
        let Some(node) = self.nodes.get(&supervisor) else { return };
        let slot = Arc::clone(&node.slot);
        let generation = slot.status.lock().generation;
        let (reason, report) = match ending {
            Ending::Stopped => (ExitReason::Shutdown, ExitReport::new(generation, ExitReason::Shutdown, "")),
            Ending::Escalated { child, reason } => {
                let culprit = self.nodes.get(&child).map_or_else(String::new, |node| node.slot.path.to_string());
                let message = format!("too many restarts; the last to fail was {culprit} ({reason:?})");
                (ExitReason::Escalated, ExitReport::new(generation, ExitReason::Escalated, message))
            }
        };
        self.record_exit(&slot, report.clone());
        match self.nodes.get(&supervisor).and_then(|node| node.parent) {
            Some(parent) => self.queue.push_back((parent, Event::Exited { child: supervisor, generation, reason })),
            None => {
                slot.set_state(if reason.is_abnormal() { Shown::Failed } else { Shown::Stopped });
                self.outcome = Some(if reason.is_abnormal() { Outcome::Escalated(report) } else { Outcome::Stopped });
            }
        }
    }
}
