//! The decisions of one supervisor, as a pure machine: `(now, event) → effects`.
//!
//! No clock, no task, no I/O: time and randomness are arguments, so every path is tested with a list of events.
//! The driver performs the effects. Start at [`SupervisorCore::handle`]; what each event does to one child
//! is in `decide.rs`, stopping everything in `stop.rs`.
//!
//! ```text
//!             Boot, Restart                    failure, budget left
//!   resting ───────────────► live ─────────────────────────────────► waiting ── due ──► live (next generation)
//!      ▲                      │ asked to end, stuck, sibling failed
//!      │                      ▼
//!      └──── gone ──────── ending: draining → asked → aborted ── still there ──► abandoned, a zombie
//! ```
//!
//! Rules, in OTP's words where OTP has them:
//! - A failure is charged to the window of its supervisor before its delay begins. The charge that would exceed
//!   [`crate::Intensity`] ends all children in reverse order, then the supervisor, with [`Ending::Escalated`]; to its
//!   parent that is the failure of a child.
//! - One failure is one charge, however many siblings the strategy takes along. A wish of the operator
//!   ([`Event::Restart`]), a temporary child and a stranded one are no charge.
//! - With a strategy that ties siblings together, nobody starts before all of them are ready to.
//! - A temporary child that ended for a sibling stays down, and so does a permanent one that was stopped on purpose.
//!   One that fails while it drains comes back and goes on draining.
//! - A stuck child is fenced first, then aborted. If it is not gone within [`STUCK_GRACE`], it is abandoned and the
//!   next generation starts on a fresh thread; with more than `max_zombies` abandoned ones the supervisor gives up.
//!
//! Invariants (property-tested in `tests.rs`):
//! 1. A child never has two live generations: a new one starts after the old one is gone or fenced.
//! 2. No more than `max_restarts` charged restarts lie in any window.
//! 3. A finished supervisor has no live child, and finishes once per boot.
//!
//! Left out of OTP: `significant` children and `auto_shutdown`; start functions that are waited for.
//!
//! Sources: the [`supervisor`](https://www.erlang.org/doc/apps/stdlib/supervisor.html) behaviour and the
//! [design principles](https://www.erlang.org/doc/system/sup_princ.html) of OTP; J. Armstrong, *Making reliable
//! distributed systems in the presence of software errors* (2003), chapters 4 and 5. Cases that other runtimes had
//! wrong are in `regressions.rs`.

mod backoff;
mod decide;
#[cfg(test)]
mod regressions;
mod stop;
#[cfg(test)]
mod tests;
mod window;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rand::Rng;

pub use self::backoff::delay;
use self::window::RestartWindow;
use crate::{
    exit::ExitReason,
    policy::{ChildPolicy, Restart, SupervisorPolicy},
};

/// How long an aborted incarnation may take to be gone before it is abandoned.
pub const ABORT_GRACE: Duration = Duration::from_millis(500);
/// The same for a stuck one; short, because its replacement waits for it.
pub const STUCK_GRACE: Duration = Duration::from_millis(50);

/// Identity of a child within one runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildKey(pub u32);

/// A timer that was set; an outdated one is ignored when due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId {
    /// Whose timer.
    pub child: ChildKey,
    /// Which one.
    pub seq: u64,
}

/// What hangs below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildKind {
    /// A role or thread; its stop has a limit.
    Leaf,
    /// A supervisor; its stop lasts as long as those of its leaves.
    Supervisor,
}

/// Whether the child was in the spec or came later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the spec: stays in the tree when it ends.
    Static,
    /// Added at run time: lost when the supervisor restarts; a temporary one leaves when it ends.
    Dynamic,
}

/// A child to look after.
#[derive(Clone, Copy, Debug)]
pub struct ChildDef {
    /// Its identity.
    pub key: ChildKey,
    /// What it is.
    pub kind: ChildKind,
    /// Where it came from.
    pub origin: Origin,
    /// How it is looked after.
    pub policy: ChildPolicy,
}

/// How a wanted end is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiesce {
    /// Finish what is queued, then end; no limit of its own.
    Drain,
    /// End after the message in hand, within the policy's limit.
    Stop,
    /// Abort now.
    Kill,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// Start all children.
    Boot,
    /// The incarnation runs.
    Started { child: ChildKey, generation: u64 },
    /// The incarnation is gone: joined, nothing of it runs any more.
    Exited { child: ChildKey, generation: u64, reason: ExitReason },
    /// The incarnation holds one message for too long.
    Stuck { child: ChildKey, generation: u64 },
    /// The incarnation's arbiter is blocked by somebody else.
    Stranded { child: ChildKey, generation: u64 },
    /// A timer set by [`Effect::SetTimer`] is due.
    TimerDue(TimerId),
    /// The operator wants a fresh incarnation.
    Restart(ChildKey),
    /// The child shall end and stay down.
    Quiesce { child: ChildKey, how: Quiesce },
    /// A new dynamic child.
    Add(ChildDef),
    /// A child shall end and leave the tree.
    Remove(ChildKey),
    /// New policy of a child, from now on.
    SetChildPolicy { child: ChildKey, policy: ChildPolicy },
    /// A leaf that was told to stay down comes back with its supervisor.
    Release(ChildKey),
    /// New policy of the supervisor, from now on.
    SetPolicy(SupervisorPolicy),
    /// Stop everything.
    Shutdown,
}

/// Where an incarnation starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where its spec says.
    Usual,
    /// On a fresh arbiter: the usual one is held by an abandoned incarnation.
    Fresh,
}

/// Who pays for messages taken back from a fenced incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// The message it worked on.
    Culprit,
    /// Nobody.
    Nobody,
}

/// State of a child as the tree shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Started, not yet running.
    Starting,
    /// Running.
    Running,
    /// Waiting for its restart.
    BackingOff,
    /// On its way down.
    Stopping,
    /// Down on purpose.
    Stopped,
    /// Down after a failure.
    Failed,
}

impl Shown {
    /// True if nothing of it runs and nothing will by itself.
    #[must_use]
    pub fn is_at_rest(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed)
    }
}

/// How a supervisor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was asked to.
    Stopped,
    /// It gave up because of this child.
    Escalated { child: ChildKey, reason: ExitReason },
}

/// What is to be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effect {
    /// Start this generation.
    Start { child: ChildKey, generation: u64, place: Place },
    /// Ask it to finish what is queued.
    Drain { child: ChildKey, generation: u64 },
    /// Ask it to end.
    Stop { child: ChildKey, generation: u64 },
    /// From now on nothing it does counts; its messages go back to their inboxes.
    Fence { child: ChildKey, generation: u64, charge: Charge },
    /// Abort it at its next wait.
    Abort { child: ChildKey, generation: u64 },
    /// It did not end after its abort and is left behind.
    Abandoned { child: ChildKey, generation: u64 },
    /// Send [`Event::TimerDue`] then.
    SetTimer { timer: TimerId, at: Instant },
    /// The tree shows this now.
    Show { child: ChildKey, state: Shown },
    /// It was aborted because it did not stop in time.
    MissedStop { child: ChildKey },
    /// It left the tree.
    Removed { child: ChildKey },
    /// The supervisor is down.
    Finished(Ending),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Down,
    Running,
    Stopping(Ending),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Draining,
    Asked,
    Aborted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Restart(Instant),
    Fail(ExitReason),
    Rest,
    Remove,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Resting,
    Waiting(Instant),
    Live,
    Ending { stage: Stage, then: Then },
}

#[derive(Debug)]
struct Child {
    def: ChildDef,
    life: Life,
    generation: u64,
    failures: u32,
    started_at: Option<Instant>,
    abandoned: Vec<u64>,
    /// Left behind on a thread that another actor holds.
    stranded: Vec<u64>,
    timer: u64,
    place: Place,
    /// It failed while draining and goes on draining when it is back.
    drains: bool,
    /// It was told to end and stay down; a start of its supervisor does not bring it back.
    held_down: bool,
}

/// The machine of one supervisor.
#[derive(Debug)]
pub struct SupervisorCore {
    policy: SupervisorPolicy,
    children: Vec<Child>,
    window: RestartWindow,
    mode: Mode,
    timers: u64,
}

/// What a handler works with besides the machine.
struct Turn<'a> {
    now: Instant,
    rng: &'a mut dyn Rng,
    effects: Vec<Effect>,
}

impl SupervisorCore {
    /// A machine that is down; [`Event::Boot`] starts it.
    #[must_use]
    pub fn new(policy: SupervisorPolicy, children: Vec<ChildDef>) -> Self {
        let children = children.into_iter().map(Child::new).collect();
        Self { policy, children, window: RestartWindow::default(), mode: Mode::Down, timers: 0 }
    }

    /// Takes one event and says what to do; `now` never goes back.
    pub fn handle(&mut self, now: Instant, event: Event, rng: &mut dyn Rng) -> Vec<Effect> {
        let mut turn = Turn { now, rng, effects: Vec::new() };
        match event {
            Event::Boot => self.boot(&mut turn),
            Event::Started { child, generation } => self.on_started(&mut turn, child, generation),
            Event::Exited { child, generation, reason } => self.on_exited(&mut turn, (child, generation), reason),
            Event::Stuck { child, generation } => self.on_stuck(&mut turn, child, generation),
            Event::Stranded { child, generation } => self.on_stranded(&mut turn, child, generation),
            Event::TimerDue(timer) => self.on_timer(&mut turn, timer),
            Event::Restart(child) => self.on_restart(&mut turn, child),
            Event::Quiesce { child, how } => self.on_quiesce(&mut turn, child, how),
            Event::Release(child) => {
                if let Some(index) = self.index(child) {
                    self.children[index].held_down = false;
                }
            }
            Event::Add(def) => self.on_add(&mut turn, def),
            Event::Remove(child) => self.on_remove(&mut turn, child),
            Event::SetChildPolicy { child, policy } => {
                if let Some(index) = self.index(child) {
                    self.children[index].def.policy = policy;
                }
            }
            Event::SetPolicy(policy) => self.policy = policy,
            Event::Shutdown => self.shut_down(&mut turn, Ending::Stopped),
        }
        turn.effects
    }

    /// Policy in force.
    #[must_use]
    pub fn policy(&self) -> &SupervisorPolicy {
        &self.policy
    }

    /// Restarts charged within the window that ends now.
    #[must_use]
    pub fn restarts_in_window(&self, now: Instant) -> usize {
        self.window.charged(now, self.policy.intensity.within).count()
    }

    /// The same for each child.
    #[must_use]
    pub fn restarts_by_child(&self, now: Instant) -> BTreeMap<ChildKey, usize> {
        let mut restarts: BTreeMap<_, _> = self.children.iter().map(|child| (child.def.key, 0)).collect();
        for child in self.window.charged(now, self.policy.intensity.within) {
            *restarts.entry(child).or_default() += 1;
        }
        restarts
    }

    /// True if a dynamic child may be added.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.mode == Mode::Running
    }

    /// Number of children, resting ones included.
    #[must_use]
    pub fn child_count(&self) -> usize {
        self.children.len()
    }

    /// Fenced incarnations of a child that still hold a thread.
    #[must_use]
    pub fn zombies(&self, child: ChildKey) -> usize {
        self.index(child).map_or(0, |index| self.children[index].abandoned.len() + self.children[index].stranded.len())
    }

    fn index(&self, child: ChildKey) -> Option<usize> {
        self.children.iter().position(|c| c.def.key == child)
    }

    fn set_timer(&mut self, turn: &mut Turn<'_>, index: usize, at: Instant) {
        self.timers += 1;
        let child = &mut self.children[index];
        child.timer = self.timers;
        turn.effects.push(Effect::SetTimer { timer: TimerId { child: child.def.key, seq: self.timers }, at });
    }
}

impl Child {
    fn new(def: ChildDef) -> Self {
        Self {
            def,
            life: Life::Resting,
            generation: 0,
            failures: 0,
            started_at: None,
            abandoned: Vec::new(),
            stranded: Vec::new(),
            timer: 0,
            place: Place::Usual,
            drains: false,
            held_down: false,
        }
    }

    fn show(&self, turn: &mut Turn<'_>, state: Shown) {
        turn.effects.push(Effect::Show { child: self.def.key, state });
    }

    fn start(&mut self, turn: &mut Turn<'_>) {
        self.generation += 1;
        self.life = Life::Live;
        self.started_at = Some(turn.now);
        let (child, generation) = (self.def.key, self.generation);
        turn.effects.push(Effect::Start { child, generation, place: self.place });
        // After the start, so that it is told of the new generation.
        self.show(turn, Shown::Starting);
        self.place = Place::Usual;
        if std::mem::take(&mut self.drains) {
            self.life = Life::Ending { stage: Stage::Draining, then: Then::Rest };
            self.show(turn, Shown::Stopping);
            turn.effects.push(Effect::Drain { child, generation });
        }
    }

    /// True if it is forgotten when it ends: a temporary child that was added at run time.
    fn leaves_at_its_end(&self) -> bool {
        self.def.origin == Origin::Dynamic && self.def.policy.restart == Restart::Temporary
    }

    fn is_current(&self, generation: u64) -> bool {
        self.generation == generation && matches!(self.life, Life::Live | Life::Ending { .. })
    }
}
