//! How children end: asked, aborted, abandoned; one by one or all in reverse.

use super::*;

impl SupervisorCore {
    pub(super) fn on_quiesce(&mut self, turn: &mut Turn<'_>, key: ChildKey, how: Quiesce) {
        let Some(index) = self.index(key) else { return };
        let generation = self.children[index].generation;
        self.children[index].drains = false;
        self.children[index].held_down = true;
        match (self.children[index].life, how) {
            (Life::Resting, _) | (Life::Ending { stage: Stage::Aborted, .. }, _) => self.forget_restart(index),
            (Life::Waiting(_), _) => self.settle(turn, index, Then::Rest),
            (Life::Live, Quiesce::Drain) => {
                self.children[index].life = Life::Ending { stage: Stage::Draining, then: Then::Rest };
                self.children[index].show(turn, Shown::Stopping);
                turn.effects.push(Effect::Drain { child: key, generation });
            }
            (Life::Ending { .. }, Quiesce::Drain) => self.forget_restart(index),
            (Life::Ending { stage: Stage::Asked, .. }, Quiesce::Stop) => self.forget_restart(index),
            (Life::Live | Life::Ending { stage: Stage::Draining, .. }, Quiesce::Stop) => {
                self.begin_end(turn, index, Then::Rest);
            }
            (Life::Live | Life::Ending { .. }, Quiesce::Kill) => self.abort(turn, index, Then::Rest, Charge::Nobody),
        }
    }

    fn forget_restart(&mut self, index: usize) {
        if let Life::Ending { stage, then: Then::Restart(_) | Then::Fail(_) } = self.children[index].life {
            self.children[index].life = Life::Ending { stage, then: Then::Rest };
        }
    }

    pub(super) fn on_remove(&mut self, turn: &mut Turn<'_>, key: ChildKey) {
        let Some(index) = self.index(key) else { return };
        match self.children[index].life {
            Life::Resting | Life::Waiting(_) => self.settle(turn, index, Then::Remove),
            Life::Live | Life::Ending { stage: Stage::Draining, .. } => self.begin_end(turn, index, Then::Remove),
            Life::Ending { stage, .. } => {
                self.children[index].life = Life::Ending { stage, then: Then::Remove };
            }
        }
    }

    /// Asks a live child to end, within its limit.
    pub(super) fn begin_end(&mut self, turn: &mut Turn<'_>, index: usize, then: Then) {
        let child = &mut self.children[index];
        let limit = child.def.policy.stop_within;
        if child.def.kind == ChildKind::Leaf && limit.is_zero() {
            self.abort(turn, index, then, Charge::Nobody);
            return;
        }
        child.life = Life::Ending { stage: Stage::Asked, then };
        child.show(turn, Shown::Stopping);
        turn.effects.push(Effect::Stop { child: child.def.key, generation: child.generation });
        // A timer that was set before means something else.
        self.timers += 1;
        child.timer = self.timers;
        if child.def.kind == ChildKind::Leaf {
            let at = turn.now + limit;
            self.set_timer(turn, index, at);
        }
    }

    /// Fences a live child and aborts it. A supervisor cannot be aborted: it is asked, and its leaves have limits.
    pub(super) fn abort(&mut self, turn: &mut Turn<'_>, index: usize, then: Then, charge: Charge) {
        let child = &mut self.children[index];
        if child.def.kind == ChildKind::Supervisor {
            self.begin_end(turn, index, then);
            return;
        }
        let (key, generation) = (child.def.key, child.generation);
        child.life = Life::Ending { stage: Stage::Aborted, then };
        child.show(turn, Shown::Stopping);
        turn.effects.push(Effect::Fence { child: key, generation, charge });
        turn.effects.push(Effect::Abort { child: key, generation });
        let grace = match charge {
            Charge::Culprit => STUCK_GRACE,
            Charge::Nobody => ABORT_GRACE,
        };
        let at = turn.now + grace;
        self.set_timer(turn, index, at);
    }

    /// An aborted incarnation would not go: leave it behind and go on elsewhere.
    pub(super) fn abandon(&mut self, turn: &mut Turn<'_>, index: usize, then: Then) {
        let child = &mut self.children[index];
        let (key, generation) = (child.def.key, child.generation);
        child.abandoned.push(generation);
        child.place = Place::Fresh;
        turn.effects.push(Effect::Abandoned { child: key, generation });
        let too_many = child.abandoned.len() > child.def.policy.max_zombies as usize;
        if too_many && self.mode == Mode::Running {
            child.life = Life::Resting;
            child.show(turn, Shown::Failed);
            self.shut_down(turn, Ending::Escalated { child: key, reason: ExitReason::Stuck });
            return;
        }
        self.settle(turn, index, then);
    }

    /// Stops all children in reverse order, then finishes.
    pub(super) fn shut_down(&mut self, turn: &mut Turn<'_>, ending: Ending) {
        match self.mode {
            Mode::Running => {
                self.mode = Mode::Stopping(ending);
                self.stop_next(turn);
            }
            Mode::Down | Mode::Stopping(_) => {}
        }
    }

    /// The next step of stopping: dynamic children all at once, static ones one after the other from the last.
    pub(super) fn stop_next(&mut self, turn: &mut Turn<'_>) {
        let Mode::Stopping(ending) = self.mode else { return };
        let mut busy = false;
        for origin in [Origin::Dynamic, Origin::Static] {
            for index in (0..self.children.len()).rev() {
                if self.children[index].def.origin != origin {
                    continue;
                }
                busy |= self.stop_one(turn, index);
                if busy && origin == Origin::Static {
                    return;
                }
            }
            if busy {
                return;
            }
        }
        let dynamic = |child: &Child| child.def.origin == Origin::Dynamic;
        turn.effects.extend(self.children.iter().filter(|c| dynamic(c)).map(|c| Effect::Removed { child: c.def.key }));
        self.children.retain(|child| !dynamic(child));
        self.mode = Mode::Down;
        turn.effects.push(Effect::Finished(ending));
    }

    /// True if the child is still on its way down.
    fn stop_one(&mut self, turn: &mut Turn<'_>, index: usize) -> bool {
        match self.children[index].life {
            Life::Resting => false,
            Life::Waiting(_) => {
                self.children[index].life = Life::Resting;
                self.children[index].show(turn, Shown::Stopped);
                false
            }
            Life::Live | Life::Ending { stage: Stage::Draining, .. } => {
                self.begin_end(turn, index, Then::Rest);
                true
            }
            Life::Ending { .. } => true,
        }
    }
}
