//! What the handle asks for.

use tokio::sync::oneshot;

use super::*;
use crate::{
    core::{Origin, Quiesce, Shown},
    path::PathPattern,
    policy::{ChildPolicy, SupervisorPolicy},
    runtime::{Command, CommandError},
    spec::ChildSpec,
};

/// What is wished.
pub(crate) enum Wish {
    Command(ActorPath, Command),
    Quiesce(Vec<PathPattern>, Quiesce),
    SetPolicy(ActorPath, ChildPolicy),
    SetSupervision(ActorPath, SupervisorPolicy),
    StartChild(ActorPath, Box<ChildSpec>),
    StopChild(ActorPath),
    Shutdown,
}

/// A wish and where the answer goes.
pub(crate) struct Request {
    pub(crate) wish: Wish,
    pub(crate) reply: oneshot::Sender<Result<(), CommandError>>,
}

impl Driver {
    pub(super) fn on_request(&mut self, request: Request) {
        let answer = self.fulfil(request.wish);
        // Whoever asked may have gone.
        let _ = request.reply.send(answer);
    }

    fn fulfil(&mut self, wish: Wish) -> Result<(), CommandError> {
        match wish {
            Wish::Command(path, command) => self.command(&path, command),
            Wish::Quiesce(patterns, how) => {
                self.quiesce(&patterns, how);
                Ok(())
            }
            Wish::SetPolicy(path, policy) => self.set_policy(&path, policy),
            Wish::SetSupervision(path, policy) => {
                let key = self.key(&path)?;
                let Some(node) = self.nodes.get(&key).filter(|node| node.slot.is_supervisor) else {
                    return Err(CommandError::NotASupervisor(path));
                };
                node.slot.status.lock().supervision = Some(policy);
                self.publish(&node.slot, EventKind::Supervision { policy });
                self.feed(key, Event::SetPolicy(policy));
                Ok(())
            }
            Wish::StartChild(path, spec) => self.start_child(path, *spec),
            Wish::StopChild(path) => {
                let (parent, key) = self.child(&path)?;
                self.feed(parent, Event::Remove(key));
                Ok(())
            }
            Wish::Shutdown => {
                self.feed(ROOT, Event::Shutdown);
                Ok(())
            }
        }
    }

    fn key(&self, path: &ActorPath) -> Result<ChildKey, CommandError> {
        self.by_path.get(path).copied().ok_or_else(|| CommandError::UnknownPath(path.clone()))
    }

    fn child(&self, path: &ActorPath) -> Result<(ChildKey, ChildKey), CommandError> {
        let key = self.key(path)?;
        self.parent_of(key).map(|parent| (parent, key)).ok_or(CommandError::IsRoot)
    }

    fn command(&mut self, path: &ActorPath, command: Command) -> Result<(), CommandError> {
        let key = self.key(path)?;
        let slot = self
            .nodes
            .get(&key)
            .map(|node| Arc::clone(&node.slot))
            .ok_or_else(|| CommandError::UnknownPath(path.clone()))?;
        let text = format!("{command:?}");
        match command {
            Command::Restart => {
                let (parent, key) = self.child(path)?;
                if let Some(down) = self.nodes.get(&parent).filter(|node| !node.is_running()) {
                    return Err(CommandError::NotRunning(down.slot.path.clone()));
                }
                for (above, leaf) in self.leaves(&[PathPattern::new(path.as_str())]) {
                    self.feed(above, Event::Release(leaf));
                }
                self.feed(parent, Event::Restart(key));
            }
            Command::Pause => self.set_paused(path, (1, "paused"))?,
            Command::Resume => self.set_paused(path, (0, "resumed"))?,
            Command::Drain => {
                let ready = |state: Shown, _| !state.is_at_rest();
                for (parent, child) in self.ready_leaves(path, "drained", ready)? {
                    self.feed(parent, Event::Quiesce { child, how: Quiesce::Drain });
                }
            }
            Command::Inject(_) if slot.is_supervisor => return Err(CommandError::NotALeaf(path.clone())),
            Command::Inject(fault) => {
                self.ready_leaves(path, "given a fault", goes_on)?;
                if !slot.faults.arm(fault) {
                    return Err(CommandError::TooManyFaults);
                }
            }
        }
        self.publish(&slot, EventKind::Command { command: text });
        Ok(())
    }

    fn leaves(&self, patterns: &[PathPattern]) -> Vec<(ChildKey, ChildKey)> {
        let wanted = |node: &Node| !node.slot.is_supervisor && patterns.iter().any(|p| p.matches(&node.slot.path));
        let mut found: Vec<_> = self
            .nodes
            .iter()
            .filter(|(_, node)| wanted(node))
            .filter_map(|(key, node)| Some((node.parent?, *key)))
            .collect();
        found.sort_unstable();
        found
    }

    fn quiesce(&mut self, patterns: &[PathPattern], how: Quiesce) {
        for (parent, child) in self.leaves(patterns) {
            self.feed(parent, Event::Quiesce { child, how });
        }
    }

    /// The leaves at and below whose state, and whether an operator holds them, allow a command; at least one.
    fn ready_leaves(
        &self,
        path: &ActorPath,
        done: &'static str,
        ready: impl Fn(Shown, bool) -> bool,
    ) -> Result<Vec<(ChildKey, ChildKey)>, CommandError> {
        let (mut found, mut refused) = (Vec::new(), None);
        for (parent, child) in self.leaves(&[PathPattern::new(path.as_str())]) {
            let Some(node) = self.nodes.get(&child) else { continue };
            let state = node.slot.status.lock().state;
            if ready(state, node.slot.paused.get() != 0) {
                found.push((parent, child));
            } else {
                refused.get_or_insert((node.slot.path.clone(), state));
            }
        }
        match (found.is_empty(), refused) {
            (false, _) => Ok(found),
            (true, None) => Err(CommandError::NobodyBelow(path.clone())),
            (true, Some((path, state))) => Err(CommandError::NotNow { path, state: state.into(), done }),
        }
    }

    fn set_paused(&mut self, path: &ActorPath, (paused, done): (u8, &'static str)) -> Result<(), CommandError> {
        // One that is on its way down may be held no more in its next life.
        let ready = |state: Shown, is_held: bool| {
            goes_on(state, is_held) || (state == Shown::Stopping && is_held && paused == 0)
        };
        for (_, child) in self.ready_leaves(path, done, ready)? {
            if let Some(node) = self.nodes.get(&child) {
                node.slot.paused.set(paused);
            }
        }
        self.shared.changed.send_modify(|count| *count += 1);
        Ok(())
    }

    fn set_policy(&mut self, path: &ActorPath, policy: ChildPolicy) -> Result<(), CommandError> {
        let (parent, child) = self.child(path)?;
        if let Some(node) = self.nodes.get(&child) {
            node.slot.status.lock().policy = policy;
            self.publish(&node.slot, EventKind::Policy { policy });
        }
        self.feed(parent, Event::SetChildPolicy { child, policy });
        Ok(())
    }

    fn start_child(&mut self, path: ActorPath, spec: ChildSpec) -> Result<(), CommandError> {
        let key = self.key(&path)?;
        let Some(Node { body: NodeBody::Supervisor(core), slot, .. }) = self.nodes.get(&key) else {
            return Err(CommandError::NotASupervisor(path));
        };
        if !core.is_running() {
            return Err(CommandError::NotRunning(path));
        }
        let most = core.policy().max_children;
        if core.child_count() >= most {
            return Err(CommandError::Full { path, most });
        }
        let slot = Arc::clone(slot);
        let below = slot.path.child(&spec.id)?;
        if self.by_path.contains_key(&below) {
            return Err(CommandError::Exists(below));
        }
        match self.build(key, &slot, spec, Origin::Dynamic) {
            Ok(def) => {
                self.shared.events.publish(&below, 0, EventKind::Added);
                self.feed(key, Event::Add(def));
                Ok(())
            }
            Err(error) => {
                self.prune(&below);
                Err(error.into())
            }
        }
    }
}

/// Whether an actor runs, or will by itself.
fn goes_on(state: Shown, _is_held: bool) -> bool {
    match state {
        Shown::Starting | Shown::Running | Shown::BackingOff => true,
        Shown::Stopping | Shown::Stopped | Shown::Failed => false,
    }
}
