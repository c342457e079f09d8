//! The handle on a running tree: look, command, wait, end.
//!
//! [`Runtime::start`] builds the tree, and from then on one task on the calling thread decides for all supervisors.
//! Handles are cheap to clone and may be used from any thread.
//!
//! - *Look*: [`Runtime::snapshot`], [`Runtime::node`], [`Runtime::metrics`], [`Runtime::events`],
//!   [`Runtime::subscribe`]. They read shared state and never wait for an actor.
//! - *Command*: [`Runtime::command`] and the policies. The answer says that the command was understood and is under
//!   way; that it is done is seen in the tree ([`Runtime::until`]). A command means whoever lives at the path then.
//! - *Wait*: [`Runtime::run`] tells how it ended. After [`Outcome::Escalated`] the process should end and be started
//!   again from outside.
//! - *End*: [`Runtime::shutdown`].
//!
//! Rules: at most 256 commands wait, further ones wait for room; after the end all are answered with
//! [`CommandError::Ended`], also those of an actor that asks while everything stops. Dropping all handles ends nothing.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    sync::atomic::Ordering,
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use thiserror::Error;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::{
    driver::{Driver, Request, Sign, Wish, new_slot},
    events::{EventKind, EventLog, LifecycleEvent},
    exit::{ExitReason, ExitReport},
    fault::Fault,
    meter::TimeFigures,
    path::{ActorPath, PathError},
    policy::{ChildPolicy, PolicyError, SupervisorPolicy},
    slot::Slot,
    spec::{ChildSpec, SupervisorSpec},
    task,
    tree::{ActorState, TreeNode, WaitingOn},
    worker::Describe,
};

/// Commands that may wait for the supervisors.
const MAX_PENDING_REQUESTS: usize = 256;

/// How a runtime ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was shut down.
    Stopped,
    /// The root gave up; the process should end with a code of its own (70) and be restarted from outside.
    Escalated(ExitReport),
    /// The supervisors' task itself was swept away: their thread ended, or there is a fault in the kit.
    Crashed,
}

/// What an operator can do to an actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A fresh incarnation, uncharged; also revives one that is down.
    Restart,
    /// Hold all leaves at and below at their next pause point, over restarts.
    Pause,
    /// Let them go on.
    Resume,
    /// Let all leaves at and below finish what is queued, then end and stay down.
    Drain,
    /// Arm a fault.
    Inject(Fault),
}

/// Why a command was not carried out.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CommandError {
    /// Nothing is there.
    #[error("there is no actor at {0}")]
    UnknownPath(ActorPath),
    /// Only for roles and threads.
    #[error("{0} is a supervisor; name an actor below it")]
    NotALeaf(ActorPath),
    /// Only for supervisors.
    #[error("{0} is not a supervisor")]
    NotASupervisor(ActorPath),
    /// The root has no policy or parent of its own.
    #[error("the root cannot be restarted or removed; name a part of the tree, or restart the process")]
    IsRoot,
    /// It takes no children or messages now.
    #[error("{0} is not running; restart it first")]
    NotRunning(ActorPath),
    /// Its state does not allow it.
    #[error("{path} is {} and cannot be {done}; {}", state.as_str().replace('_', " "), way_out(*state))]
    NotNow {
        /// Which actor; the first of several.
        path: ActorPath,
        /// In which state.
        state: ActorState,
        /// What was asked for: `paused`.
        done: &'static str,
    },
    /// The command is for actors, and this supervisor has none.
    #[error("no actor is below {0}")]
    NobodyBelow(ActorPath),
    /// No more children.
    #[error("{path} has its most of {most} children")]
    Full {
        /// Which supervisor.
        path: ActorPath,
        /// Its bound.
        most: usize,
    },
    /// The id is taken.
    #[error("{0} exists already")]
    Exists(ActorPath),
    /// The id is not valid.
    #[error(transparent)]
    BadId(#[from] PathError),
    /// A fault of 0 times, or too many are armed.
    #[error("a fault strikes at least once, and at most {} may be armed", crate::fault::MAX_ARMED_FAULTS)]
    TooManyFaults,
    /// A value of a policy is out of its bounds.
    #[error(transparent)]
    BadPolicy(#[from] PolicyError),
    /// The tree is down.
    #[error("the runtime has ended")]
    Ended,
    /// It did not answer in time.
    #[error("{0} did not answer in time")]
    NoAnswer(ActorPath),
}

fn way_out(state: ActorState) -> &'static str {
    if state.is_at_rest() { "restart it first" } else { "wait until it has ended or runs again" }
}

/// Why a tree cannot be started.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SpecError {
    /// An id is not valid or used twice.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Arbiters need one.
    #[error("there is no actix system on this thread")]
    NoSystem,
}

/// Figures of one actor, for metrics.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ActorFigures {
    /// Its place.
    pub path: ActorPath,
    /// What it is.
    pub kind: Arc<str>,
    /// State.
    pub state: ActorState,
    /// Restarts since the start of the process.
    pub restarts_total: u64,
    /// Panics since the start of the process.
    pub panics_total: u64,
    /// Exits since the start of the process, by reason.
    pub exits_total: BTreeMap<ExitReason, u64>,
    /// Generation of the current or last incarnation.
    pub generation: u64,
    /// Restarts within the window: a supervisor's children's, or a leaf's own.
    pub restarts_in_window: usize,
    /// Records finished since the start of the process.
    pub processed_total: u64,
    /// Fenced incarnations that still hold a thread.
    pub zombies: usize,
    /// Time the oldest message is in hand, in milliseconds; 0 if none is.
    pub in_hand_ms: u64,
    /// Its newest legitimate wait.
    pub waiting_on: Option<WaitingOn>,
    /// How long messages were in hand, without legitimate waits.
    pub step_us: Option<TimeFigures>,
    /// How long messages waited in its inboxes.
    pub queue_us: Option<TimeFigures>,
    /// Its inboxes, added up.
    pub inbox: Option<crate::inbox::InboxFigures>,
}

pub(crate) struct Shared {
    pub(crate) root: Arc<Slot>,
    pub(crate) index: RwLock<HashMap<ActorPath, Arc<Slot>>>,
    pub(crate) events: EventLog,
    pub(crate) changed: watch::Sender<u64>,
    pub(crate) outcome: watch::Sender<Option<Outcome>>,
    pub(crate) missed_stops: Mutex<Vec<ActorPath>>,
    requests: mpsc::Sender<Request>,
}

/// A running tree; clones are handles on the same one and may be used from any thread.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) shared: Arc<Shared>,
}

impl Runtime {
    /// Starts a tree. The supervisors live on the current thread; so do roles placed on `Main`.
    ///
    /// # Errors
    /// An id that is not valid or used twice; no actix system on this thread.
    ///
    /// # Panics
    /// Outside of a local task set; an actix system has one.
    pub fn start(spec: SupervisorSpec) -> Result<Self, SpecError> {
        if actix_rt::System::try_current().is_none() {
            return Err(SpecError::NoSystem);
        }
        let (requests, receiver) = mpsc::channel(MAX_PENDING_REQUESTS);
        let root = new_slot(Sign {
            path: ActorPath::root(),
            kind: Arc::from("supervisor"),
            policy: ChildPolicy::default(),
            supervision: Some(spec.policy),
            inboxes: Vec::new(),
            progress: None,
        });
        let shared = Arc::new(Shared {
            root,
            index: RwLock::default(),
            events: EventLog::new(),
            changed: watch::Sender::new(0),
            outcome: watch::Sender::new(None),
            missed_stops: Mutex::default(),
            requests,
        });
        let driver = Driver::new(Arc::clone(&shared), spec, receiver)?;
        task::spawn_here(driver.run());
        Ok(Self { shared })
    }

    /// Waits until the tree is down and tells why. Several may wait.
    pub async fn run(&self) -> Outcome {
        let mut outcome = self.shared.outcome.subscribe();
        match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Outcome::Crashed),
            Err(_) => Outcome::Crashed,
        }
    }

    /// The whole tree now.
    #[must_use]
    pub fn snapshot(&self) -> TreeNode {
        TreeNode::of(&self.shared.root)
    }

    /// One node and all below it.
    #[must_use]
    pub fn node(&self, path: &ActorPath) -> Option<TreeNode> {
        let slot = self.shared.index.read().get(path).cloned();
        slot.map(|slot| TreeNode::of(&slot))
    }

    /// The last events with a number above `seq`, oldest first.
    #[must_use]
    pub fn events_since(&self, seq: u64) -> Vec<LifecycleEvent> {
        self.shared.events.since(seq)
    }

    /// The last [`crate::events::MAX_EVENTS`] events, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<LifecycleEvent> {
        self.events_since(0)
    }

    /// Events from now on; a slow listener misses some and sees the gap in the numbers.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<LifecycleEvent> {
        self.shared.events.subscribe()
    }

    /// Figures of every node.
    #[must_use]
    pub fn metrics(&self) -> Vec<ActorFigures> {
        let figures = |slot: &Arc<Slot>| {
            let node = TreeNode::of_alone(slot);
            ActorFigures {
                path: node.path,
                kind: node.kind,
                state: node.state,
                restarts_total: node.restarts,
                panics_total: slot.panics.load(Ordering::Relaxed),
                exits_total: slot.status.lock().exits.clone(),
                generation: node.generation,
                restarts_in_window: node.restarts_in_window,
                processed_total: node.processed,
                zombies: node.zombies,
                in_hand_ms: node.in_hand.map_or(0, |hand| hand.for_ms),
                waiting_on: node.waiting_on,
                step_us: node.step_us,
                queue_us: node.queue_us,
                inbox: node.inbox,
            }
        };
        self.slots().iter().map(figures).collect()
    }

    /// Every node by itself, in the order of their paths.
    #[must_use]
    pub fn nodes(&self) -> Vec<TreeNode> {
        self.slots().iter().map(|slot| TreeNode::of_alone(slot)).collect()
    }

    fn slots(&self) -> Vec<Arc<Slot>> {
        let mut slots: Vec<Arc<Slot>> = self.shared.index.read().values().cloned().collect();
        slots.sort_by(|a, b| a.path.cmp(&b.path));
        slots
    }

    /// Carries out a command.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn command(&self, path: &ActorPath, command: Command) -> Result<(), CommandError> {
        self.ask(Wish::Command(path.clone(), command)).await
    }

    /// Forgets the faults of an actor that have not struck yet.
    pub fn disarm(&self, path: &ActorPath) {
        if let Some(slot) = self.shared.index.read().get(path) {
            slot.faults.disarm();
        }
    }

    /// Shows a node as degraded with this note, over its restarts, until it is called with another note or none. A note
    /// that an actor sets itself is shown in its place. Does nothing where there is no such node.
    pub fn note(&self, path: &ActorPath, note: Option<&str>) {
        let Some(slot) = self.shared.index.read().get(path).cloned() else { return };
        let generation = slot.status.lock().generation;
        let mut current = slot.note.lock();
        if current.as_deref() != note {
            *current = note.map(Arc::from);
            self.shared.events.publish(path, generation, EventKind::Noted { note: current.clone() });
        }
    }

    /// Changes how a child is looked after, from now on.
    ///
    /// # Errors
    /// No such child, or the root; a value out of its bounds.
    pub async fn set_policy(&self, path: &ActorPath, policy: ChildPolicy) -> Result<(), CommandError> {
        policy.check()?;
        self.ask(Wish::SetPolicy(path.clone(), policy)).await
    }

    /// Changes how a supervisor treats its children, from now on.
    ///
    /// # Errors
    /// No such supervisor; a value out of its bounds.
    pub async fn set_supervision(&self, path: &ActorPath, policy: SupervisorPolicy) -> Result<(), CommandError> {
        policy.check()?;
        self.ask(Wish::SetSupervision(path.clone(), policy)).await
    }

    /// Asks a role's actor itself, through its mailbox: tells how long control messages take.
    ///
    /// # Errors
    /// No such role, not running, or no answer within the limit.
    pub async fn describe(&self, path: &ActorPath, limit: Duration) -> Result<TreeNode, CommandError> {
        let slot =
            self.shared.index.read().get(path).cloned().ok_or_else(|| CommandError::UnknownPath(path.clone()))?;
        let actor = slot.incarnation().and_then(|incarnation| incarnation.control.lock().clone());
        let actor = actor.ok_or_else(|| CommandError::NotRunning(path.clone()))?;
        match tokio::time::timeout(limit, actor.send(Describe)).await {
            Ok(Ok(node)) => Ok(node),
            Ok(Err(_)) => Err(CommandError::NotRunning(path.clone())),
            Err(_) => Err(CommandError::NoAnswer(path.clone())),
        }
    }

    /// A handle on one supervisor, for dynamic children.
    #[must_use]
    pub fn supervisor(&self, path: ActorPath) -> SupervisorHandle {
        SupervisorHandle { runtime: self.clone(), path }
    }

    /// Waits until `wanted` holds; looks again after each change of any state.
    pub async fn until(&self, wanted: impl Fn() -> bool) {
        let mut changed = self.shared.changed.subscribe();
        // The sender lives in `self.shared`, so the channel cannot be closed.
        let _ = changed.wait_for(|_| wanted()).await;
    }

    pub(crate) async fn ask(&self, wish: Wish) -> Result<(), CommandError> {
        let (reply, answer) = oneshot::channel();
        self.shared.requests.send(Request { wish, reply }).await.map_err(|_| CommandError::Ended)?;
        answer.await.unwrap_or(Err(CommandError::Ended))
    }
}

/// Starts and stops dynamic children of one supervisor.
#[derive(Clone)]
pub struct SupervisorHandle {
    runtime: Runtime,
    path: ActorPath,
}

impl SupervisorHandle {
    /// Starts a child; a temporary one leaves the tree when it ends.
    ///
    /// # Errors
    /// The supervisor is full, down or gone; the id is taken or not valid.
    pub async fn start_child(&self, spec: ChildSpec) -> Result<ActorPath, CommandError> {
        let path = self.path.child(&spec.id)?;
        self.runtime.ask(Wish::StartChild(self.path.clone(), Box::new(spec))).await?;
        Ok(path)
    }

    /// Ends a child and takes it out of the tree; returns before it is gone.
    ///
    /// # Errors
    /// No such child.
    pub async fn stop_child(&self, id: &str) -> Result<(), CommandError> {
        let path = self.path.child(id)?;
        self.runtime.ask(Wish::StopChild(path)).await
    }
}
