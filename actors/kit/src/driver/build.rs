//! Growing and pruning the tree.

use super::*;
use crate::{
    core::{ChildDef, ChildKind, Origin, Shown},
    exit::epoch_ms,
    fault::Faults,
    inbox::InboxProbe,
    meter::{Rate, Times},
    policy::{ChildPolicy, SupervisorPolicy},
    progress::{ProgressProbe, Standstill},
    signal::Signal,
    slot::Status,
    spec::{Body, ChildSpec},
};

/// What a new slot shows.
pub(crate) struct Sign {
    pub(crate) path: ActorPath,
    pub(crate) kind: Arc<str>,
    pub(crate) policy: ChildPolicy,
    pub(crate) supervision: Option<SupervisorPolicy>,
    pub(crate) inboxes: Vec<Arc<dyn InboxProbe>>,
    pub(crate) progress: Option<ProgressProbe>,
}

/// A slot that has never run.
pub(crate) fn new_slot(sign: Sign) -> Arc<Slot> {
    let status = Status {
        state: Shown::Stopped,
        since_ms: epoch_ms(),
        restarts: 0,
        restarts_in_window: 0,
        zombies: 0,
        policy: sign.policy,
        supervision: sign.supervision,
        last_exit: None,
        exits: BTreeMap::new(),
        incarnation: None,
        generation: 0,
        restart_at: None,
        rate: Rate::default(),
    };
    sign.inboxes.iter().for_each(|inbox| inbox.set_owner(&sign.path));
    Arc::new(Slot {
        path: sign.path,
        kind: sign.kind,
        is_supervisor: sign.supervision.is_some(),
        paused: Signal::default(),
        faults: Faults::default(),
        processed: Default::default(),
        panics: Default::default(),
        inboxes: sign.inboxes,
        progress: sign.progress,
        steps: Times::default(),
        queueing: Times::default(),
        status: status.into(),
        note: Default::default(),
        children: Default::default(),
    })
}

impl Node {
    fn new(slot: Arc<Slot>, parent: Option<ChildKey>, body: NodeBody) -> Self {
        Self { slot, parent, body, hosted_by: None, standstill: Standstill::default() }
    }
}

impl Driver {
    pub(super) fn build_root(&mut self, spec: SupervisorSpec) -> Result<(), PathError> {
        let slot = Arc::clone(&self.shared.root);
        let key = self.take_key();
        slot.set_state(Shown::Running);
        slot.status.lock().generation = 1;
        let defs = self.build_children(key, &slot, spec.children)?;
        let core = SupervisorCore::new(spec.policy, defs);
        self.insert(key, Node::new(slot, None, NodeBody::Supervisor(Box::new(core))));
        Ok(())
    }

    fn build_children(
        &mut self,
        parent: ChildKey,
        slot: &Arc<Slot>,
        specs: Vec<ChildSpec>,
    ) -> Result<Vec<ChildDef>, PathError> {
        specs.into_iter().map(|spec| self.build(parent, slot, spec, Origin::Static)).collect()
    }

    /// Adds a child and all below it; nothing is started.
    pub(super) fn build(
        &mut self,
        parent: ChildKey,
        above: &Arc<Slot>,
        spec: ChildSpec,
        origin: Origin,
    ) -> Result<ChildDef, PathError> {
        let ChildSpec { id, kind, body, policy, placement, inboxes, progress } = spec;
        let path = above.path.child(&id)?;
        if self.by_path.contains_key(&path) {
            return Err(PathError { text: format!("{path} (used twice)") });
        }
        let supervision = match &body {
            Body::Supervisor(policy, _) => Some(*policy),
            Body::Role(_) | Body::Thread(_) => None,
        };
        let slot = new_slot(Sign { path, kind, policy, supervision, inboxes, progress });
        let key = self.take_key();
        let (kind, body) = match body {
            Body::Role(factory) => (ChildKind::Leaf, NodeBody::Role(factory, placement)),
            Body::Thread(factory) => (ChildKind::Leaf, NodeBody::Thread(factory)),
            Body::Supervisor(policy, children) => {
                // The path is taken before the children are built, so that a failure below can be undone from here.
                self.by_path.insert(slot.path.clone(), key);
                let defs = self.build_children(key, &slot, children)?;
                (ChildKind::Supervisor, NodeBody::Supervisor(Box::new(SupervisorCore::new(policy, defs))))
            }
        };
        above.children.lock().push(Arc::clone(&slot));
        self.insert(key, Node::new(slot, Some(parent), body));
        Ok(ChildDef { key, kind, origin, policy })
    }

    fn take_key(&mut self) -> ChildKey {
        let key = ChildKey(self.next_key);
        self.next_key += 1;
        key
    }

    fn insert(&mut self, key: ChildKey, node: Node) {
        self.by_path.insert(node.slot.path.clone(), key);
        self.shared.index.write().insert(node.slot.path.clone(), Arc::clone(&node.slot));
        self.nodes.insert(key, node);
    }

    /// Forgets all nodes at and below a path.
    pub(super) fn prune(&mut self, path: &ActorPath) {
        let depth = path.segments().count();
        let below = |other: &ActorPath| other.segments().take(depth).eq(path.segments());
        let gone: Vec<(ActorPath, ChildKey)> =
            self.by_path.iter().filter(|(other, _)| below(other)).map(|(path, key)| (path.clone(), *key)).collect();
        for (path, key) in gone {
            self.by_path.remove(&path);
            self.shared.index.write().remove(&path);
            self.arbiters.release(key);
            self.timers.retain(|(_, timer), supervisor| timer.child != key && *supervisor != key);
            let parent = self.nodes.remove(&key).and_then(|node| node.parent);
            if let Some(parent) = parent.and_then(|parent| self.nodes.get(&parent)) {
                parent.slot.children.lock().retain(|slot| slot.path != path);
            }
        }
    }
}
