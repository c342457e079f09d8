//! What each event does to one child.

use super::*;
use crate::policy::{Restart, Strategy};

impl SupervisorCore {
    pub(super) fn boot(&mut self, turn: &mut Turn<'_>) {
        if self.mode != Mode::Down {
            return;
        }
        self.mode = Mode::Running;
        self.window.clear();
        for child in &mut self.children {
            child.failures = 0;
            child.drains = false;
            if !child.held_down {
                child.start(turn);
            }
        }
    }

    pub(super) fn on_started(&mut self, turn: &mut Turn<'_>, key: ChildKey, generation: u64) {
        let Some(index) = self.index(key) else { return };
        let child = &self.children[index];
        if child.life == Life::Live && child.generation == generation {
            child.show(turn, Shown::Running);
        }
    }

    pub(super) fn on_exited(&mut self, turn: &mut Turn<'_>, who: (ChildKey, u64), reason: ExitReason) {
        let Some(index) = self.index(who.0) else { return };
        let child = &mut self.children[index];
        child.abandoned.retain(|generation| *generation != who.1);
        child.stranded.retain(|generation| *generation != who.1);
        if !child.is_current(who.1) {
            return;
        }
        let then = match child.life {
            Life::Ending { stage: Stage::Draining, then: Then::Rest } if reason.is_abnormal() => {
                child.drains = true;
                Then::Fail(reason)
            }
            Life::Ending { then, .. } => then,
            Life::Live => Then::Fail(reason),
            Life::Resting | Life::Waiting(_) => return,
        };
        self.settle(turn, index, then);
    }

    pub(super) fn on_stuck(&mut self, turn: &mut Turn<'_>, key: ChildKey, generation: u64) {
        let Some(index) = self.index(key) else { return };
        let child = &mut self.children[index];
        let then = match child.life {
            Life::Live => Then::Fail(ExitReason::Stuck),
            Life::Ending { stage: Stage::Draining, then: Then::Rest } => {
                child.drains = child.generation == generation;
                Then::Fail(ExitReason::Stuck)
            }
            Life::Ending { stage: Stage::Draining | Stage::Asked, then } => then,
            Life::Ending { stage: Stage::Aborted, .. } | Life::Resting | Life::Waiting(_) => return,
        };
        if child.generation == generation {
            self.abort(turn, index, then, Charge::Culprit);
        }
    }

    pub(super) fn on_stranded(&mut self, turn: &mut Turn<'_>, key: ChildKey, generation: u64) {
        let Some(index) = self.index(key) else { return };
        let child = &mut self.children[index];
        if !child.is_current(generation) {
            return;
        }
        let then = match child.life {
            Life::Ending { then, .. } => then,
            Life::Live | Life::Resting | Life::Waiting(_) => Then::Restart(turn.now),
        };
        child.stranded.push(generation);
        turn.effects.push(Effect::Fence { child: key, generation, charge: Charge::Nobody });
        turn.effects.push(Effect::Abort { child: key, generation });
        self.settle(turn, index, then);
    }

    pub(super) fn on_timer(&mut self, turn: &mut Turn<'_>, timer: TimerId) {
        let Some(index) = self.index(timer.child) else { return };
        if self.children[index].timer != timer.seq {
            return;
        }
        match self.children[index].life {
            Life::Waiting(_) => self.start_due(turn),
            Life::Ending { stage: Stage::Asked, then } => {
                turn.effects.push(Effect::MissedStop { child: timer.child });
                self.abort(turn, index, then, Charge::Nobody);
            }
            Life::Ending { stage: Stage::Aborted, then } => self.abandon(turn, index, then),
            Life::Ending { stage: Stage::Draining, .. } | Life::Resting | Life::Live => {}
        }
    }

    pub(super) fn on_restart(&mut self, turn: &mut Turn<'_>, key: ChildKey) {
        let Some(index) = self.index(key) else { return };
        if self.mode != Mode::Running {
            return;
        }
        let now = turn.now;
        self.children[index].failures = 0;
        self.children[index].drains = false;
        self.children[index].held_down = false;
        match self.children[index].life {
            Life::Live => self.begin_end(turn, index, Then::Restart(now)),
            Life::Resting | Life::Waiting(_) => self.settle(turn, index, Then::Restart(now)),
            Life::Ending { stage: Stage::Draining, .. } => self.begin_end(turn, index, Then::Restart(now)),
            Life::Ending { stage, .. } => {
                self.children[index].life = Life::Ending { stage, then: Then::Restart(now) };
            }
        }
    }

    pub(super) fn on_add(&mut self, turn: &mut Turn<'_>, def: ChildDef) {
        if self.mode != Mode::Running || self.children.len() >= self.policy.max_children {
            turn.effects.push(Effect::Removed { child: def.key });
            return;
        }
        let mut child = Child::new(def);
        child.start(turn);
        self.children.push(child);
    }

    /// The incarnation is gone or fenced for good: what next.
    pub(super) fn settle(&mut self, turn: &mut Turn<'_>, index: usize, then: Then) {
        let child = &mut self.children[index];
        if matches!(self.mode, Mode::Stopping(_)) {
            let state =
                if matches!(then, Then::Fail(reason) if reason.is_abnormal()) { Shown::Failed } else { Shown::Stopped };
            child.life = Life::Resting;
            child.show(turn, state);
            self.stop_next(turn);
            return;
        }
        match then {
            Then::Fail(reason) => self.on_failure(turn, index, reason),
            Then::Restart(at) => {
                self.wait_until(turn, index, at);
                self.start_due(turn);
            }
            Then::Rest if !child.leaves_at_its_end() => {
                child.life = Life::Resting;
                child.show(turn, Shown::Stopped);
                self.start_due(turn);
            }
            Then::Rest | Then::Remove => {
                self.remove(turn, index);
                self.start_due(turn);
            }
        }
    }

    /// A child ended without being asked to.
    fn on_failure(&mut self, turn: &mut Turn<'_>, index: usize, reason: ExitReason) {
        let intensity = self.policy.intensity;
        let child = &mut self.children[index];
        let policy = child.def.policy;
        let comes_back = match policy.restart {
            Restart::Permanent => true,
            Restart::Transient => reason.is_abnormal(),
            Restart::Temporary => false,
        };
        if !comes_back {
            if child.leaves_at_its_end() {
                self.remove(turn, index);
            } else {
                child.life = Life::Resting;
                child.show(turn, if reason.is_abnormal() { Shown::Failed } else { Shown::Stopped });
            }
            self.start_due(turn);
            return;
        }
        if !self.window.charge(turn.now, child.def.key, intensity) {
            child.life = Life::Resting;
            child.show(turn, Shown::Failed);
            let child = child.def.key;
            self.shut_down(turn, Ending::Escalated { child, reason });
            return;
        }
        let ran = child.started_at.map_or(Duration::ZERO, |at| turn.now.saturating_duration_since(at));
        if ran >= policy.backoff.reset_after {
            child.failures = 0;
        }
        let at = turn.now + delay(&policy.backoff, child.failures, turn.rng);
        child.failures = child.failures.saturating_add(1);
        self.wait_until(turn, index, at);
        self.take_siblings_down(turn, index, at);
        self.start_due(turn);
    }

    fn take_siblings_down(&mut self, turn: &mut Turn<'_>, failed: usize, at: Instant) {
        let first = match self.policy.strategy {
            Strategy::OneForOne => return,
            Strategy::OneForAll => 0,
            Strategy::RestForOne => failed + 1,
        };
        for index in (first..self.children.len()).rev().filter(|index| *index != failed) {
            let temporary = self.children[index].def.policy.restart == Restart::Temporary;
            match self.children[index].life {
                Life::Live if temporary => self.begin_end(turn, index, Then::Rest),
                Life::Live => self.begin_end(turn, index, Then::Restart(at)),
                Life::Waiting(earlier) => self.wait_until(turn, index, earlier.max(at)),
                Life::Ending { stage, then: Then::Restart(earlier) } => {
                    self.children[index].life = Life::Ending { stage, then: Then::Restart(earlier.max(at)) };
                }
                Life::Ending { .. } | Life::Resting => {}
            }
        }
    }

    fn wait_until(&mut self, turn: &mut Turn<'_>, index: usize, at: Instant) {
        self.children[index].life = Life::Waiting(at);
        if at > turn.now {
            self.children[index].show(turn, Shown::BackingOff);
            self.set_timer(turn, index, at);
        }
    }

    /// Starts those whose time has come; together, in order, if the strategy ties them.
    pub(super) fn start_due(&mut self, turn: &mut Turn<'_>) {
        if self.mode != Mode::Running {
            return;
        }
        let now = turn.now;
        let is_due = |child: &Child| matches!(child.life, Life::Waiting(at) if at <= now);
        let is_pending = |child: &Child| match child.life {
            Life::Waiting(_) | Life::Ending { then: Then::Restart(_), .. } => true,
            Life::Ending { .. } | Life::Resting | Life::Live => false,
        };
        let tied = self.policy.strategy != Strategy::OneForOne;
        if tied && self.children.iter().any(|child| is_pending(child) && !is_due(child)) {
            return;
        }
        for child in self.children.iter_mut().filter(|child| is_due(child)) {
            child.start(turn);
        }
    }

    pub(super) fn remove(&mut self, turn: &mut Turn<'_>, index: usize) {
        let child = self.children.remove(index).def.key;
        turn.effects.push(Effect::Removed { child });
    }
}
