//! What stays of an actor over its restarts (the slot), and what belongs to one run (the incarnation).
//!
//! Both are plain shared state: roles write through [`crate::Scope`], the driver decides, any thread may read.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::{task::AbortHandle, time::Instant};

use crate::{
    core::{Charge, Shown},
    exit::{Culprit, ExitReason, ExitReport, epoch_ms},
    fault::Faults,
    inbox::InboxProbe,
    meter::{Rate, Times},
    panics::PanicNote,
    path::ActorPath,
    policy::{ChildPolicy, SupervisorPolicy},
    progress::ProgressProbe,
    signal::Signal,
    worker::Worker,
};

/// The incarnation goes on.
pub(crate) const RUN: u8 = 0;
/// It shall finish what is queued.
pub(crate) const DRAIN: u8 = 1;
/// It shall end after the message in hand.
pub(crate) const STOP: u8 = 2;

/// The lasting part of one node of the tree.
pub(crate) struct Slot {
    pub(crate) path: ActorPath,
    pub(crate) kind: Arc<str>,
    pub(crate) is_supervisor: bool,
    pub(crate) paused: Signal,
    pub(crate) faults: Faults,
    pub(crate) processed: AtomicU64,
    pub(crate) panics: AtomicU64,
    pub(crate) inboxes: Vec<Arc<dyn InboxProbe>>,
    pub(crate) progress: Option<ProgressProbe>,
    /// How long messages were in hand, without legitimate waits.
    pub(crate) steps: Times,
    /// How long messages waited in its inboxes.
    pub(crate) queueing: Times,
    pub(crate) status: Mutex<Status>,
    /// What somebody else says of it, over its restarts.
    pub(crate) note: Mutex<Option<Arc<str>>>,
    pub(crate) children: Mutex<Vec<Arc<Slot>>>,
}

/// What the driver last wrote about a node.
pub(crate) struct Status {
    pub(crate) state: Shown,
    pub(crate) since_ms: u64,
    pub(crate) restarts: u64,
    pub(crate) restarts_in_window: usize,
    pub(crate) zombies: usize,
    pub(crate) policy: ChildPolicy,
    pub(crate) supervision: Option<SupervisorPolicy>,
    pub(crate) last_exit: Option<ExitReport>,
    pub(crate) exits: BTreeMap<ExitReason, u64>,
    pub(crate) incarnation: Option<Arc<Incarnation>>,
    pub(crate) generation: u64,
    pub(crate) restart_at: Option<Instant>,
    pub(crate) rate: Rate,
}

impl Slot {
    pub(crate) fn set_state(&self, state: Shown) {
        let mut status = self.status.lock();
        status.state = state;
        status.since_ms = epoch_ms();
        if state != Shown::BackingOff {
            status.restart_at = None;
        }
    }

    pub(crate) fn incarnation(&self) -> Option<Arc<Incarnation>> {
        self.status.lock().incarnation.clone()
    }

    pub(crate) fn wake_inboxes(&self) {
        self.inboxes.iter().for_each(|inbox| inbox.wake());
    }
}

/// A message in hand.
#[derive(Clone, Debug)]
pub(crate) struct Hand {
    pub(crate) id: u64,
    pub(crate) label: Arc<str>,
    pub(crate) culprit: Option<Culprit>,
    pub(crate) since: Instant,
    /// Microseconds of legitimate waiting since then.
    pub(crate) excused_us: u64,
}

impl Hand {
    /// How long it has been in hand, without legitimate waits.
    pub(crate) fn held(&self, now: Instant) -> std::time::Duration {
        now.saturating_duration_since(self.since).saturating_sub(std::time::Duration::from_micros(self.excused_us))
    }
}

/// A legitimate wait.
#[derive(Clone, Debug)]
pub(crate) struct Wait {
    pub(crate) id: u64,
    pub(crate) on: &'static str,
    /// Whom, where it is an actor.
    pub(crate) actor: Option<ActorPath>,
    pub(crate) since: Instant,
}

/// Hands and waits of a role, the newest last.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    pub(crate) hands: Vec<Hand>,
    pub(crate) waits: Vec<Wait>,
    pub(crate) note: Option<Arc<str>>,
    /// The record of the innermost hand that a panic swept away.
    pub(crate) swept: Option<Culprit>,
}

/// One run of a leaf.
pub(crate) struct Incarnation {
    pub(crate) uid: u64,
    pub(crate) generation: u64,
    pub(crate) fenced: AtomicBool,
    pub(crate) stop: Signal,
    pub(crate) desk: Mutex<Desk>,
    pub(crate) holdings: Mutex<Vec<Weak<dyn InboxProbe>>>,
    pub(crate) abort: Mutex<Abort>,
    pub(crate) injected: AtomicBool,
    pub(crate) created: AtomicBool,
    pub(crate) awaited: AtomicBool,
    /// When it first finished a record, in milliseconds since the epoch; 0 before.
    pub(crate) first_progress_ms: AtomicU64,
    pub(crate) panic_note: Mutex<Option<PanicNote>>,
    pub(crate) control: Mutex<Option<actix::Addr<Worker>>>,
}

/// The handle to abort a role, or the wish to, whichever came first.
#[derive(Default)]
pub(crate) enum Abort {
    #[default]
    Early,
    Wanted,
    Ready(AbortHandle),
}

static NEXT_UID: AtomicU64 = AtomicU64::new(1);

pub(crate) fn next_uid() -> u64 {
    NEXT_UID.fetch_add(1, Ordering::Relaxed)
}

impl Incarnation {
    pub(crate) fn new(generation: u64) -> Self {
        Self {
            uid: next_uid(),
            generation,
            fenced: AtomicBool::new(false),
            stop: Signal::default(),
            desk: Mutex::default(),
            holdings: Mutex::default(),
            abort: Mutex::default(),
            injected: AtomicBool::new(false),
            created: AtomicBool::new(false),
            awaited: AtomicBool::new(false),
            first_progress_ms: AtomicU64::new(0),
            panic_note: Mutex::default(),
            control: Mutex::default(),
        }
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Acquire)
    }

    /// Fences it and takes back all it holds; returns how many messages went back.
    pub(crate) fn fence(&self, charge: Charge) -> usize {
        self.fenced.store(true, Ordering::Release);
        self.stop.raise(STOP);
        let holdings: Vec<_> = self.holdings.lock().iter().filter_map(Weak::upgrade).collect();
        let charged = match charge {
            Charge::Culprit if !self.injected.load(Ordering::Acquire) => {
                holdings.iter().filter_map(|inbox| inbox.newest_touch(self.uid)).max()
            }
            Charge::Culprit | Charge::Nobody => None,
        };
        holdings.iter().map(|inbox| inbox.revoke(self.uid, charged)).sum()
    }

    /// Aborts the role now or as soon as it exists.
    pub(crate) fn abort(&self) {
        let mut abort = self.abort.lock();
        match &*abort {
            Abort::Early | Abort::Wanted => *abort = Abort::Wanted,
            Abort::Ready(handle) => handle.abort(),
        }
    }

    /// Stores the handle; aborts at once if that was wanted meanwhile.
    pub(crate) fn set_abort(&self, handle: AbortHandle) {
        let mut abort = self.abort.lock();
        if matches!(*abort, Abort::Wanted) {
            handle.abort();
        }
        *abort = Abort::Ready(handle);
    }

    /// True if a message is in hand, or another actor is waited for.
    pub(crate) fn is_occupied(&self) -> bool {
        let desk = self.desk.lock();
        !desk.hands.is_empty() || desk.waits.iter().any(|wait| wait.actor.is_some())
    }

    /// True if nothing is in hand and nothing is waited for.
    pub(crate) fn is_idle(&self) -> bool {
        let desk = self.desk.lock();
        desk.hands.is_empty() && desk.waits.is_empty()
    }

    /// The message in hand for longer than `limit` without a legitimate wait, with the newest record, and for how long.
    pub(crate) fn overdue(&self, now: Instant, limit: std::time::Duration) -> Option<(Hand, std::time::Duration)> {
        let desk = self.desk.lock();
        if !desk.waits.is_empty() {
            return None;
        }
        desk.hands.iter().find_map(|hand| {
            let held = hand.held(now);
            let record = || desk.hands.iter().rev().find_map(|hand| hand.culprit.clone());
            (held > limit).then(|| (Hand { culprit: record(), ..hand.clone() }, held))
        })
    }

    /// The first moment at which [`Self::overdue`] may find something, also if a message is taken in hand right after
    /// `now`.
    pub(crate) fn overdue_from(&self, now: Instant, limit: std::time::Duration) -> Instant {
        let desk = self.desk.lock();
        let waits_since = desk.waits.iter().map(|wait| wait.since).min();
        let held = |hand: &Hand| hand.held(waits_since.map_or(now, |since| since.max(hand.since)));
        let longest = desk.hands.iter().map(held).max().unwrap_or_default();
        now + limit.saturating_sub(longest)
    }

    /// Remembers that this incarnation took something from an inbox.
    pub(crate) fn hold_from(&self, inbox: &Weak<dyn InboxProbe>) {
        let mut holdings = self.holdings.lock();
        if !holdings.iter().any(|known| Weak::ptr_eq(known, inbox)) {
            holdings.retain(|known| known.strong_count() > 0);
            holdings.push(Weak::clone(inbox));
        }
    }
}
