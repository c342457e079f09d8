//! What a role knows about itself: its place, whether it shall go on, and how it tells what it is doing.
//!
//! Each incarnation gets its own [`Scope`]; clones of it belong to the same incarnation. A scope kept after its
//! incarnation was fenced is harmless: it only says so.
//!
//! Rules for a role:
//! 1. Take messages with [`crate::Inbox::recv`], which looks at stop, drain and pause by itself; everything else that
//!    may last selects on [`Scope::stopping`].
//! 2. Hold [`Scope::in_hand`] while working on a message: what is not in hand cannot be seen to be stuck.
//! 3. Hold [`Scope::waiting_on`] while waiting for another actor, a database, the network: that time is not charged.
//! 4. Never block the thread of a role, and never rely on a last word before the end: an abort drops the future at its
//!    wait.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    exit::{Culprit, ExitReport, Failure, epoch_ms},
    fault::{FaultKind, stall},
    inbox::Outlet,
    panics::InjectedPanic,
    path::ActorPath,
    slot::{DRAIN, Desk, Hand, Incarnation, RUN, STOP, Slot, Wait, next_uid},
};

/// How often a paused thread looks whether it is resumed.
const PAUSE_LOOK: Duration = Duration::from_millis(10);
/// Longest single wait of a paused thread.
const PAUSE_SLICE: Duration = Duration::from_secs(1);

/// The view of one incarnation on its supervision; cheap to clone.
#[derive(Clone)]
pub struct Scope {
    pub(crate) slot: Arc<Slot>,
    pub(crate) incarnation: Arc<Incarnation>,
}

impl Scope {
    /// The place in the tree.
    #[must_use]
    pub fn path(&self) -> &ActorPath {
        &self.slot.path
    }

    /// Number of this incarnation, from 1.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.incarnation.generation
    }

    /// True once the supervisor has given up on this incarnation: nothing it does counts any more.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.incarnation.is_fenced()
    }

    /// True once the role shall end, at once or after what is queued.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.incarnation.stop.get() != RUN
    }

    /// True while the role shall finish what is queued and then end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.incarnation.stop.get() == DRAIN
    }

    /// True once the role shall end without taking anything more.
    #[must_use]
    pub fn must_stop(&self) -> bool {
        self.incarnation.stop.get() == STOP
    }

    /// Resolves once the role shall end (see [`Scope::is_stopping`]).
    pub async fn stopping(&self) {
        self.incarnation.stop.until(|level| level != RUN).await;
    }

    /// Resolves once the role shall end without taking anything more (see [`Scope::must_stop`]).
    pub async fn stopping_now(&self) {
        self.incarnation.stop.until(|level| level == STOP).await;
    }

    /// Waits for the wish to stop, at most `limit`; true if it came. For threads.
    #[must_use]
    pub fn stopping_within(&self, limit: Duration) -> bool {
        self.incarnation.stop.until_blocking(limit, |level| level != RUN)
    }

    /// Sleeps, but no longer than until the role shall end; true if it shall.
    pub async fn sleep(&self, duration: Duration) -> bool {
        tokio::select! {
            () = self.stopping() => true,
            () = tokio::time::sleep(duration) => false,
        }
    }

    /// True while the operator holds this actor.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.slot.paused.get() != 0
    }

    /// Returns at once unless the actor is paused; then when it is resumed or shall end.
    pub async fn pause_point(&self) {
        if !self.is_paused() {
            return;
        }
        let _wait = self.waiting_on("resume");
        tokio::select! {
            () = self.slot.paused.until(|paused| paused == 0) => {}
            () = self.stopping() => {}
        }
    }

    /// The same for a thread.
    pub fn pause_point_blocking(&self) {
        while self.is_paused() && !self.is_stopping() {
            self.pause_point_until(std::time::Instant::now() + PAUSE_SLICE);
        }
    }

    /// Waits while paused, at most until then.
    pub(crate) fn pause_point_until(&self, deadline: std::time::Instant) {
        let _wait = self.waiting_on("resume");
        while self.is_paused() && std::time::Instant::now() < deadline && !self.stopping_within(PAUSE_LOOK) {}
    }

    /// Says that one message is being worked on until the guard is dropped.
    ///
    /// The supervisor fences an actor that holds one for longer than `stuck_after`.
    pub fn in_hand(&self, label: impl Into<Arc<str>>) -> HandGuard {
        self.take_in_hand(label.into(), None)
    }

    /// The same, with the record it is about, for the exit report.
    pub fn in_hand_record(&self, label: impl Into<Arc<str>>, culprit: Culprit) -> HandGuard {
        self.take_in_hand(label.into(), Some(culprit))
    }

    fn take_in_hand(&self, label: Arc<str>, culprit: Option<Culprit>) -> HandGuard {
        let id = next_uid();
        let hand = Hand { id, label, culprit, since: Instant::now(), excused_us: 0 };
        self.incarnation.desk.lock().hands.push(hand);
        HandGuard { slot: Arc::clone(&self.slot), incarnation: Arc::clone(&self.incarnation), id }
    }

    /// Says that the role waits for something with good reason; that time does not count as stuck.
    pub fn waiting_on(&self, what: &'static str) -> WaitGuard {
        self.begin_wait(what, None)
    }

    /// The same, for room in another actor's inbox; the tree shows whom it waits for.
    pub fn waiting_on_inbox<T: Send + Sync + 'static>(&self, what: &'static str, outlet: &Outlet<T>) -> WaitGuard {
        self.begin_wait(what, outlet.owner())
    }

    fn begin_wait(&self, on: &'static str, actor: Option<ActorPath>) -> WaitGuard {
        let id = next_uid();
        self.incarnation.desk.lock().waits.push(Wait { id, on, actor, since: Instant::now() });
        WaitGuard { incarnation: Arc::clone(&self.incarnation), id }
    }

    /// Counts finished records.
    pub fn progress(&self, records: u64) {
        self.slot.processed.fetch_add(records, Ordering::Relaxed);
        let first = &self.incarnation.first_progress_ms;
        if first.load(Ordering::Relaxed) == 0 {
            first.store(epoch_ms(), Ordering::Relaxed);
        }
    }

    /// Says which record an earlier incarnation failed with, now that it is known: its exit report names it from now on.
    pub fn blame(&self, culprit: Culprit) {
        let mut status = self.slot.status.lock();
        let is_it = |exit: &ExitReport| exit.generation < self.generation() && exit.culprit.is_some() && !exit.injected;
        if let Some(exit) = status.last_exit.as_mut().filter(|exit| is_it(exit)) {
            exit.culprit = Some(culprit);
        }
    }

    /// Shows the actor as degraded, with the reason, until [`Scope::clear_state_note`] or its end.
    pub fn set_state_note(&self, reason: &str) {
        let mut desk = self.incarnation.desk.lock();
        if desk.note.as_deref() != Some(reason) {
            desk.note = Some(Arc::from(reason));
        }
    }

    /// Shows the actor as running again.
    pub fn clear_state_note(&self) {
        self.incarnation.desk.lock().note = None;
    }

    /// A place where an injected fault may strike.
    ///
    /// # Errors
    /// An injected error; return it.
    ///
    /// # Panics
    /// An injected panic.
    pub async fn fault_point(&self, name: &str) -> Result<(), Failure> {
        let Some(kind) = self.slot.faults.take(name) else {
            return Ok(());
        };
        match kind {
            FaultKind::Stall(ms) => {
                let _hand = self.injected_hand(name);
                tokio::time::sleep(stall(ms)).await;
                Ok(())
            }
            FaultKind::Slow(ms) => {
                let _wait = self.waiting_on("drill");
                tokio::time::sleep(stall(ms)).await;
                Ok(())
            }
            FaultKind::Panic | FaultKind::Error | FaultKind::Block(_) => self.strike(kind, name),
        }
    }

    /// Waits until a fault is armed for a fault point, for a role that selects on something that may never come.
    /// Cancel-safe.
    pub async fn fault_armed(&self, name: &str) {
        // A role that fails before its first wait has not started.
        tokio::task::yield_now().await;
        self.slot.faults.armed_at(name).await;
    }

    /// A fault point beside work that goes on meanwhile: each fault strikes as it comes. Ends with an injected error, which
    /// the role returns.
    ///
    /// # Panics
    /// An injected panic.
    pub async fn struck(&self, name: &str) -> Failure {
        loop {
            self.fault_armed(name).await;
            if let Err(failure) = self.fault_point(name).await {
                return failure;
            }
        }
    }

    /// The same as [`Scope::fault_point`] for a thread.
    ///
    /// # Errors
    /// An injected error; return it.
    ///
    /// # Panics
    /// An injected panic.
    pub fn fault_point_blocking(&self, name: &str) -> Result<(), Failure> {
        self.slot.faults.take(name).map_or(Ok(()), |kind| self.strike(kind, name))
    }

    #[cold]
    fn strike(&self, kind: FaultKind, name: &str) -> Result<(), Failure> {
        match kind {
            FaultKind::Panic => std::panic::panic_any(InjectedPanic),
            FaultKind::Error => {
                self.incarnation.injected.store(true, Ordering::Release);
                Err(Failure::new(format_args!("injected error at {name}")))
            }
            FaultKind::Slow(ms) => {
                let _wait = self.waiting_on("drill");
                std::thread::sleep(stall(ms));
                Ok(())
            }
            FaultKind::Stall(ms) | FaultKind::Block(ms) => {
                let _hand = self.injected_hand(name);
                std::thread::sleep(stall(ms));
                Ok(())
            }
        }
    }

    fn injected_hand(&self, name: &str) -> InjectedHand {
        self.incarnation.injected.store(true, Ordering::Release);
        InjectedHand { incarnation: Arc::clone(&self.incarnation), _hand: self.in_hand(format!("drill: {name}")) }
    }
}

/// An injected stall; once it is over, later failures are the role's own again.
struct InjectedHand {
    incarnation: Arc<Incarnation>,
    _hand: HandGuard,
}

impl Drop for InjectedHand {
    fn drop(&mut self) {
        if !self.incarnation.is_fenced() {
            self.incarnation.injected.store(false, Ordering::Release);
        }
    }
}

/// One message in hand; dropping it puts the message down.
pub struct HandGuard {
    slot: Arc<Slot>,
    incarnation: Arc<Incarnation>,
    id: u64,
}

impl Drop for HandGuard {
    fn drop(&mut self) {
        let mut desk = self.incarnation.desk.lock();
        let Some(at) = desk.hands.iter().position(|hand| hand.id == self.id) else { return };
        let hand = desk.hands.remove(at);
        let now = Instant::now();
        self.slot.steps.record(now, hand.held(now));
        if std::thread::panicking() && desk.swept.is_none() {
            desk.swept = hand.culprit;
        }
    }
}

/// A legitimate wait; dropping it ends it.
pub struct WaitGuard {
    incarnation: Arc<Incarnation>,
    id: u64,
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        self.incarnation.desk.lock().end_wait(self.id);
    }
}

impl Desk {
    fn end_wait(&mut self, id: u64) {
        let Some(at) = self.waits.iter().position(|wait| wait.id == id) else { return };
        let wait = self.waits.remove(at);
        if !self.waits.is_empty() {
            // Overlapping waits count once, when the last one ends.
            self.waits.iter_mut().for_each(|other| other.since = other.since.min(wait.since));
            return;
        }
        let now = Instant::now();
        for hand in &mut self.hands {
            let waited = now.saturating_duration_since(wait.since.max(hand.since));
            hand.excused_us += u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        }
    }
}
