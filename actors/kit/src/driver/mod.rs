//! The shell around all supervisor machines of a runtime: it performs their effects and nothing else.
//!
//! One task on the runtime's main thread owns every [`SupervisorCore`], the timers, the arbiters and the watchdog
//! tick. A supervisor is thus not a thing that can crash on its own; escalation is an event from one machine to the
//! next. `effects.rs` performs, `requests.rs` answers commands, `build.rs` grows and prunes the tree.
//!
//! It must never wait for an actor: everything it does is sending, setting and spawning.

mod arbiters;
mod build;
mod effects;
mod requests;
mod watch;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{SeedableRng as _, rngs::StdRng};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender, unbounded_channel};

use self::arbiters::Arbiters;
pub(crate) use self::{
    build::{Sign, new_slot},
    requests::{Request, Wish},
};
use crate::{
    core::{ChildKey, Event, SupervisorCore, TimerId},
    events::EventKind,
    path::{ActorPath, PathError},
    progress::Standstill,
    runtime::{Outcome, Shared},
    slot::Slot,
    spec::{Placement, RoleFactory, SupervisorSpec, ThreadFactory},
    worker::Note,
};

/// Shortest time between two looks at messages in hand; the next look is due when one of them may be overdue.
pub(crate) const WATCHDOG_TICK: Duration = Duration::from_millis(20);

const ROOT: ChildKey = ChildKey(0);

enum NodeBody {
    Role(RoleFactory, Placement),
    Thread(ThreadFactory),
    Supervisor(Box<SupervisorCore>),
}

struct Node {
    slot: Arc<Slot>,
    parent: Option<ChildKey>,
    body: NodeBody,
    /// The arbiter that hosts the current incarnation.
    hosted_by: Option<u64>,
    standstill: Standstill,
}

impl Node {
    /// False for a supervisor that is down or on its way down.
    fn is_running(&self) -> bool {
        !matches!(&self.body, NodeBody::Supervisor(core) if !core.is_running())
    }
}

/// The running tree.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    nodes: HashMap<ChildKey, Node>,
    by_path: HashMap<ActorPath, ChildKey>,
    next_key: u32,
    timers: BTreeMap<(Instant, TimerId), ChildKey>,
    arbiters: Arbiters,
    rng: StdRng,
    notes_in: UnboundedSender<Note>,
    notes: UnboundedReceiver<Note>,
    requests: Receiver<Request>,
    queue: VecDeque<(ChildKey, Event)>,
    outcome: Option<Outcome>,
    /// When progress was looked at last.
    measured_at: Option<tokio::time::Instant>,
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        spec: SupervisorSpec,
        requests: Receiver<Request>,
    ) -> Result<Self, PathError> {
        crate::panics::install();
        let (notes_in, notes) = unbounded_channel();
        let mut driver = Self {
            shared,
            nodes: HashMap::new(),
            by_path: HashMap::new(),
            next_key: 0,
            timers: BTreeMap::new(),
            arbiters: Arbiters::default(),
            rng: StdRng::seed_from_u64(rand::random()),
            notes_in,
            notes,
            requests,
            queue: VecDeque::new(),
            outcome: None,
            measured_at: None,
        };
        driver.build_root(spec)?;
        Ok(driver)
    }

    /// Runs until the root is down.
    pub(crate) async fn run(mut self) {
        self.feed(ROOT, Event::Boot);
        let mut look_at = tokio::time::Instant::now();
        while self.outcome.is_none() {
            let due = self.timers.keys().next().map(|(at, _)| tokio::time::Instant::from_std(*at));
            let timer = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(note) = self.notes.recv() => {
                    self.on_note(note);
                    look_at = look_at.min(soon());
                }
                () = timer => self.fire_timers(),
                () = tokio::time::sleep_until(look_at) => look_at = self.watch().max(soon()),
                Some(request) = self.requests.recv() => {
                    self.on_request(request);
                    look_at = look_at.min(soon());
                }
            }
        }
        self.arbiters.stop_all();
        let outcome = self.outcome.take().unwrap_or(Outcome::Crashed);
        self.shared.outcome.send_replace(Some(outcome));
    }

    /// Lets a machine take an event, and performs all that follows from it.
    fn feed(&mut self, supervisor: ChildKey, event: Event) {
        self.queue.push_back((supervisor, event));
        while let Some((key, event)) = self.queue.pop_front() {
            let now = now();
            let Some(Node { body: NodeBody::Supervisor(core), slot, .. }) = self.nodes.get_mut(&key) else { continue };
            let effects = core.handle(now, event, &mut self.rng);
            slot.status.lock().restarts_in_window = core.restarts_in_window(now);
            for effect in effects {
                self.perform(key, effect);
            }
        }
        self.shared.changed.send_modify(|count| *count += 1);
    }

    fn fire_timers(&mut self) {
        let now = now();
        while let Some(entry) = self.timers.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, timer), supervisor) = entry.remove_entry();
            self.feed(supervisor, Event::TimerDue(timer));
        }
    }

    fn on_note(&mut self, note: Note) {
        match note {
            Note::Started { child, generation } => {
                if let Some(parent) = self.parent_of(child) {
                    self.feed(parent, Event::Started { child, generation });
                }
            }
            Note::Exited { child, report, panic } => self.on_exited(child, *report, panic),
        }
    }

    fn parent_of(&self, child: ChildKey) -> Option<ChildKey> {
        self.nodes.get(&child).and_then(|node| node.parent)
    }

    fn publish(&self, slot: &Slot, kind: EventKind) {
        let generation = slot.status.lock().generation;
        self.shared.events.publish(&slot.path, generation, kind);
    }
}

/// Who has just started or has another policy is looked at then.
fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + WATCHDOG_TICK
}

/// The clock of the machines; follows a paused tokio clock.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.outcome.send_if_modified(|outcome| {
            let crashed = outcome.is_none();
            if crashed {
                *outcome = Some(Outcome::Crashed);
            }
            crashed
        });
    }
}
