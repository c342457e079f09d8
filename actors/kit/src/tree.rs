//! The tree as the operator sees it: a snapshot that can be serialised, taken from any thread at any time.
//!
//! Every node has the same fields ([`TreeNode`]); times are milliseconds, points in time are milliseconds since the
//! epoch. A supervisor shows its strategy, window and children, a leaf its inboxes, its message in hand, what it waits
//! for and how its last incarnation ended.
//!
//! Rules: each node is consistent in itself; two nodes may be some microseconds apart. Counters (`restarts`,
//! `processed`) are those of the slot and never go back; `generation` names the incarnation that the rest is about.
//! `paused` and `degraded` are states of a running actor. A snapshot costs one short lock per node and inbox.

use std::{sync::Arc, sync::atomic::Ordering};

use serde::Serialize;
use tokio::time::Instant;

use crate::{
    core::Shown,
    exit::ExitReport,
    fault::StruckFault,
    inbox::InboxFigures,
    meter::TimeFigures,
    path::ActorPath,
    policy::{ChildPolicy, Intensity, Strategy},
    slot::{Desk, Slot},
};

/// State of an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorState {
    /// Started, not yet running.
    Starting,
    /// Running.
    Running,
    /// Held by the operator.
    Paused,
    /// Running, but says that something is wrong around it.
    Degraded,
    /// Waiting for its restart.
    BackingOff,
    /// On its way down.
    Stopping,
    /// Down on purpose.
    Stopped,
    /// Down after a failure.
    Failed,
}

impl ActorState {
    /// The word used in JSON and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Degraded => "degraded",
            Self::BackingOff => "backing_off",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }

    /// True if nothing of it runs and nothing will without a command.
    #[must_use]
    pub fn is_at_rest(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed)
    }
}

impl From<Shown> for ActorState {
    fn from(shown: Shown) -> Self {
        match shown {
            Shown::Starting => Self::Starting,
            Shown::Running => Self::Running,
            Shown::BackingOff => Self::BackingOff,
            Shown::Stopping => Self::Stopping,
            Shown::Stopped => Self::Stopped,
            Shown::Failed => Self::Failed,
        }
    }
}

/// The message an actor works on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InHand {
    /// What it is.
    pub label: Arc<str>,
    /// For how long, in milliseconds.
    pub for_ms: u64,
}

/// What an actor waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WaitingOn {
    /// What.
    pub on: &'static str,
    /// Whom, where it is room in another actor's inbox.
    pub actor: Option<ActorPath>,
    /// For how long, in milliseconds.
    pub for_ms: u64,
}

/// One node with all below it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TreeNode {
    /// Its place.
    pub path: ActorPath,
    /// What it is (`lane`, `sink`, `supervisor`).
    pub kind: Arc<str>,
    /// State.
    pub state: ActorState,
    /// Why it is degraded: its own word, else what was said of it from outside.
    pub note: Option<Arc<str>>,
    /// Generation of the current or last incarnation.
    pub generation: u64,
    /// Restarts since the start of the process.
    pub restarts: u64,
    /// Since when it has its state, in milliseconds since the epoch.
    pub since: u64,
    /// Milliseconds until its restart, while backing off.
    pub restart_in_ms: Option<u64>,
    /// How the last incarnation ended.
    pub last_exit: Option<ExitReport>,
    /// Its inboxes, added up; the oldest message of all.
    pub inbox: Option<InboxFigures>,
    /// The oldest message in hand.
    pub in_hand: Option<InHand>,
    /// Its newest legitimate wait.
    pub waiting_on: Option<WaitingOn>,
    /// Records finished since the start of the process.
    pub processed: u64,
    /// Records finished per second lately; none for supervisors.
    pub rate_per_s: Option<f64>,
    /// How long messages were in hand, without legitimate waits.
    pub step_us: Option<TimeFigures>,
    /// How long messages waited in its inboxes.
    pub queue_us: Option<TimeFigures>,
    /// When its current or last incarnation first finished a record, in milliseconds since the epoch.
    pub first_progress: Option<u64>,
    /// The injected fault that struck last.
    pub last_fault: Option<StruckFault>,
    /// Injected faults that are still to strike.
    pub armed_faults: u64,
    /// Fenced incarnations that still hold a thread.
    pub zombies: usize,
    /// Restarts within the window: a supervisor's children's, or a leaf's own; the latter up to a second old.
    pub restarts_in_window: usize,
    /// Its window, for a supervisor.
    pub intensity: Option<Intensity>,
    /// Who restarts together, for a supervisor.
    pub strategy: Option<Strategy>,
    /// Most children, for a supervisor.
    pub max_children: Option<usize>,
    /// How it is looked after.
    pub policy: ChildPolicy,
    /// Those below, in start order.
    pub children: Vec<TreeNode>,
}

impl TreeNode {
    pub(crate) fn of(slot: &Slot) -> Self {
        let children: Vec<Arc<Slot>> = slot.children.lock().clone();
        let mut node = Self::of_alone(slot);
        node.children = children.iter().map(|child| Self::of(child)).collect();
        node
    }

    /// The node without those below it.
    pub(crate) fn of_alone(slot: &Slot) -> Self {
        let now = Instant::now();
        let status = slot.status.lock();
        let mut node = Self {
            path: slot.path.clone(),
            kind: Arc::clone(&slot.kind),
            state: status.state.into(),
            note: slot.note.lock().clone(),
            generation: status.generation,
            restarts: status.restarts,
            since: status.since_ms,
            restart_in_ms: status.restart_at.map(|at| ms(at.saturating_duration_since(now))),
            last_exit: status.last_exit.clone(),
            inbox: add_up(slot),
            in_hand: None,
            waiting_on: None,
            processed: slot.processed.load(Ordering::Relaxed),
            rate_per_s: (!slot.is_supervisor).then(|| status.rate.per_s()),
            step_us: slot.steps.figures(now),
            queue_us: slot.queueing.figures(now),
            first_progress: None,
            last_fault: slot.faults.last(),
            armed_faults: slot.faults.left(),
            zombies: status.zombies,
            restarts_in_window: status.restarts_in_window,
            intensity: status.supervision.map(|policy| policy.intensity),
            strategy: status.supervision.map(|policy| policy.strategy),
            max_children: status.supervision.map(|policy| policy.max_children),
            policy: status.policy,
            children: Vec::new(),
        };
        if let Some(incarnation) = &status.incarnation {
            let first_ms = incarnation.first_progress_ms.load(Ordering::Relaxed);
            node.first_progress = (first_ms > 0).then_some(first_ms);
            node.add_desk(&incarnation.desk.lock(), now);
        }
        drop(status);
        if node.state == ActorState::Running && slot.paused.get() != 0 {
            node.state = ActorState::Paused;
        } else if node.state == ActorState::Running && node.note.is_some() {
            node.state = ActorState::Degraded;
        }
        node
    }

    fn add_desk(&mut self, desk: &Desk, now: Instant) {
        let age = |since: Instant| ms(now.saturating_duration_since(since));
        self.note = desk.note.clone().or(self.note.take());
        self.in_hand =
            desk.hands.first().map(|hand| InHand { label: Arc::clone(&hand.label), for_ms: age(hand.since) });
        self.waiting_on =
            desk.waits.last().map(|wait| WaitingOn { on: wait.on, actor: wait.actor.clone(), for_ms: age(wait.since) });
    }

    /// The node at this path, at or below this one.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&Self> {
        self.iter().find(|node| node.path.as_str() == path)
    }

    /// This node and all below, parents first.
    pub fn iter(&self) -> impl Iterator<Item = &Self> {
        let mut open = vec![self];
        std::iter::from_fn(move || {
            let node = open.pop()?;
            open.extend(node.children.iter().rev());
            Some(node)
        })
    }
}

fn ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn add_up(slot: &Slot) -> Option<InboxFigures> {
    slot.inboxes.iter().map(|inbox| inbox.figures()).reduce(|a, b| InboxFigures {
        depth: a.depth + b.depth,
        in_hand: a.in_hand + b.in_hand,
        capacity: a.capacity + b.capacity,
        weight: a.weight + b.weight,
        weight_capacity: a.weight_capacity.zip(b.weight_capacity).map(|(a, b)| a + b),
        oldest_ms: a.oldest_ms.max(b.oldest_ms),
        blocked_ms: a.blocked_ms + b.blocked_ms,
        accepted: a.accepted + b.accepted,
        committed: a.committed + b.committed,
        returned: a.returned + b.returned,
    })
}
