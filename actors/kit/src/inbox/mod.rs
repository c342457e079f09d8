//! A bounded queue that belongs to the slot, not to the incarnation that reads it.
//!
//! A received message is *in hand*, not gone: it stays in the inbox until [`Delivery::commit`]. Dropping a delivery
//! without a commit is a nack: the message goes back to the front, in its original order, inside `Drop`, so before
//! anything can restart. The supervisor can take back all that a fenced incarnation holds; a later commit of the
//! zombie is refused.
//!
//! ```text
//!  send ─► waiting ── recv ─► in hand ── claim ─► claimed ── commit ─► gone
//!             ▲                  │                   │
//!             └──────────────────┴───────────────────┘
//!               nack, drop, its holder fenced; before the claim also the nack of an earlier message
//! ```
//!
//! Invariants:
//! 1. Waiting and in-hand messages together never exceed the capacity (one message of any weight fits an empty inbox).
//! 2. Messages are received in the order they were sent. After a nack of one, those received after it and not yet
//!    claimed are taken back too ([`Order::Strict`], the default).
//! 3. A message is committed at most once.
//! 4. One failure charges one message: of those dropped by one panic, the one touched last.
//!
//! So an effect between `claim` and `commit` happens at least once: if its holder ends in between, it happens again.
//! [`Delivery::attempt`] says how often a message was in hand when its holder failed; what to do with one that keeps
//! failing is the reader's business.
//!
//! Errors: a full inbox gives the message back ([`TrySendError::Full`]) or lets the sender wait; a closed one refuses
//! ([`Closed`]) and can still be read to its end. An inbox without a living reader keeps its messages and pushes back.
//!
//! Send whole batches: every operation takes a lock. Start at [`Inbox::new`]. The idea of an inbox outside of its actor
//! is quickwit's; hand-back with a lease is that of message brokers.

mod delivery;
#[cfg(test)]
mod model;
mod outlet;
mod state;
#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use serde::Serialize;
use tokio::{sync::Notify, time::Instant};

use self::state::State;
pub use self::{
    delivery::Delivery,
    outlet::{Closed, Outlet, TrySendError},
};
use crate::{
    Scope,
    path::ActorPath,
    slot::{DRAIN, RUN, STOP},
};

/// How much an inbox holds, waiting and in hand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Most messages.
    pub items: usize,
    /// Most weight, in the unit of the weighing function (bytes, records).
    pub weight: usize,
}

/// What a nack does to messages received after the nacked one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Those not yet claimed are taken back as well, so that order holds.
    #[default]
    Strict,
    /// They stay where they are; for work without an order.
    Free,
}

/// Figures of one or several inboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InboxFigures {
    /// Messages waiting.
    pub depth: usize,
    /// Messages received and not yet committed.
    pub in_hand: usize,
    /// Most messages, waiting and in hand.
    pub capacity: usize,
    /// Weight held.
    pub weight: usize,
    /// Most weight, if bounded.
    pub weight_capacity: Option<usize>,
    /// Age of the oldest message held, in milliseconds.
    pub oldest_ms: u64,
    /// Time that senders have spent blocked, in milliseconds, since the start.
    pub blocked_ms: u64,
    /// Messages accepted since the start.
    pub accepted: u64,
    /// Messages committed since the start.
    pub committed: u64,
    /// Messages that went back since the start.
    pub returned: u64,
}

/// The supervisor's side of an inbox, whatever its messages are.
pub(crate) trait InboxProbe: Send + Sync {
    fn figures(&self) -> InboxFigures;
    fn wake(&self);
    /// Says whose it is; the first word counts.
    fn set_owner(&self, path: &ActorPath);
    /// When the newest message of this owner was last touched.
    fn newest_touch(&self, owner: u64) -> Option<u64>;
    /// Takes back all of this owner's messages; charges the one touched at `charged`.
    fn revoke(&self, owner: u64, charged: Option<u64>) -> usize;
    /// Undoes the charge of a waiting message.
    fn refund(&self, seq: u64);
}

/// A bounded queue with hand-back; clones share it.
pub struct Inbox<T> {
    pub(crate) shared: Arc<Shared<T>>,
}

pub(crate) struct Shared<T> {
    name: Arc<str>,
    owner: OnceLock<ActorPath>,
    capacity: Capacity,
    order: Order,
    weigh: fn(&T) -> usize,
    state: Mutex<State<T>>,
    ready: Notify,
    ready_blocking: Condvar,
    space: Notify,
    space_blocking: Condvar,
    settled: Notify,
    blocked_us: AtomicU64,
    blocked_now: AtomicUsize,
    me: Weak<Shared<T>>,
}

/// How long a blocked thread sleeps before it looks again whether it shall stop.
const BLOCKING_SLICE: Duration = Duration::from_millis(100);
/// After this many receives the roles of a thread let the others on it have their turn.
const RECEIVES_PER_TURN: u8 = 8;

thread_local! {
    static RECEIVES: Cell<u8> = const { Cell::new(0) };
}

impl<T: Send + Sync + 'static> Inbox<T> {
    /// An inbox in strict order where every message weighs 1.
    #[must_use]
    pub fn new(name: &str, capacity_items: usize) -> Self {
        let capacity = Capacity { items: capacity_items, weight: usize::MAX };
        Self::weighted(name, capacity, |_| 1)
    }

    /// An inbox that is also bounded by weight.
    ///
    /// # Panics
    /// A capacity of no items.
    #[must_use]
    pub fn weighted(name: &str, capacity: Capacity, weigh: fn(&T) -> usize) -> Self {
        Self::with_order(name, capacity, weigh, Order::Strict)
    }

    /// The same with a choice of order.
    ///
    /// # Panics
    /// A capacity of no items.
    #[must_use]
    pub fn with_order(name: &str, capacity: Capacity, weigh: fn(&T) -> usize, order: Order) -> Self {
        assert!(capacity.items > 0, "an inbox must hold at least one message");
        crate::panics::install();
        let shared = Arc::new_cyclic(|me| Shared {
            name: Arc::from(name),
            owner: OnceLock::new(),
            capacity,
            order,
            weigh,
            state: Mutex::new(State::default()),
            ready: Notify::new(),
            ready_blocking: Condvar::new(),
            space: Notify::new(),
            space_blocking: Condvar::new(),
            settled: Notify::new(),
            blocked_us: AtomicU64::new(0),
            blocked_now: AtomicUsize::new(0),
            me: Weak::clone(me),
        });
        Self { shared }
    }

    /// A sender for this inbox.
    #[must_use]
    pub fn outlet(&self) -> Outlet<T> {
        Outlet { shared: Arc::clone(&self.shared) }
    }

    /// The next message in order, or `None` once the role shall end or the inbox is closed and empty.
    ///
    /// While paused it waits; while draining it goes on until nothing waits. Cancel-safe. Now and then it yields, so
    /// that a role whose inbox is never empty leaves its thread to the others in between.
    pub async fn recv(&self, scope: &Scope) -> Option<Delivery<T>> {
        take_turns().await;
        loop {
            scope.pause_point().await;
            if let Some(delivery) = self.try_recv(scope) {
                return Some(delivery);
            }
            let notified = self.shared.ready.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            let level = scope.incarnation.stop.get();
            if let Some(delivery) = self.try_recv(scope) {
                return Some(delivery);
            }
            if self.is_over(scope) {
                return None;
            }
            tokio::select! {
                () = notified => {}
                () = scope.incarnation.stop.until(|now| now != level) => {}
                () = scope.slot.paused.until(|paused| paused != 0), if level == RUN => {}
            }
        }
    }

    /// The next message if one waits and the role may take it: it is not paused and shall not stop.
    #[must_use]
    pub fn try_recv(&self, scope: &Scope) -> Option<Delivery<T>> {
        let level = scope.incarnation.stop.get();
        if level == STOP || (level == RUN && scope.is_paused()) {
            return None;
        }
        let me: Weak<dyn InboxProbe> = self.shared.me.clone();
        scope.incarnation.hold_from(&me);
        let mut state = self.shared.state.lock();
        // Inside the lock: a fenced incarnation must not take what the supervisor has just taken back.
        if scope.is_fenced() {
            return None;
        }
        let taken = state.take(scope.incarnation.uid)?;
        let more = !state.waiting.is_empty();
        let room = !more && state.has_room(self.shared.capacity, 0);
        drop(state);
        let now = Instant::now();
        scope.slot.queueing.record(now, now.saturating_duration_since(taken.since));
        if room && self.shared.blocked_now.load(Ordering::Relaxed) > 0 {
            self.shared.room();
        }
        // Whoever gets as far as a message has started.
        scope.incarnation.awaited.store(true, Ordering::Release);
        if more {
            self.shared.ready.notify_one();
        }
        Some(Delivery::new(Arc::clone(&self.shared), taken))
    }

    /// The same as [`Inbox::recv`] for a thread, with a limit; `None` also when the limit passed.
    #[must_use]
    pub fn recv_blocking(&self, scope: &Scope, limit: Duration) -> Option<Delivery<T>> {
        let deadline = std::time::Instant::now() + limit;
        loop {
            if let Some(delivery) = self.try_recv(scope) {
                return Some(delivery);
            }
            let now = std::time::Instant::now();
            if now >= deadline || self.is_over(scope) {
                return None;
            }
            let until = deadline.min(now + BLOCKING_SLICE);
            if scope.is_paused() {
                scope.pause_point_until(until);
                continue;
            }
            let mut state = self.shared.state.lock();
            if state.waiting.is_empty() {
                let _ = self.shared.ready_blocking.wait_until(&mut state, until);
            }
        }
    }

    fn is_over(&self, scope: &Scope) -> bool {
        let state = self.shared.state.lock();
        match scope.incarnation.stop.get() {
            RUN => state.closed && state.waiting.is_empty(),
            DRAIN => state.waiting.is_empty(),
            _ => true,
        }
    }

    /// Refuses further sends; what is held can still be received.
    pub fn close(&self) {
        self.shared.state.lock().closed = true;
        self.shared.ready.notify_waiters();
        self.shared.space.notify_waiters();
        self.shared.ready_blocking.notify_all();
        self.shared.space_blocking.notify_all();
    }

    /// Resolves once nothing waits and nothing is in hand.
    pub async fn drained(&self) {
        self.settle_until(|state| state.waiting.is_empty() && state.in_hand.is_empty()).await;
    }

    /// Takes back everything that is in hand and not claimed, uncharged; returns how many went back.
    ///
    /// A fresh incarnation calls it when its predecessor's deliveries may still lie in another actor's queue.
    pub fn rewind(&self) -> usize {
        let count = self.shared.state.lock().rewind_from(0);
        self.shared.announce(count);
        count
    }

    /// Resolves once nothing is in hand; with [`Inbox::rewind`], once the claimed ones are decided.
    pub async fn settled(&self) {
        self.settle_until(|state| state.in_hand.is_empty()).await;
    }

    async fn settle_until(&self, wanted: impl Fn(&State<T>) -> bool) {
        loop {
            let notified = self.shared.settled.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if wanted(&self.shared.state.lock()) {
                return;
            }
            notified.await;
        }
    }

    /// Figures of this inbox.
    #[must_use]
    pub fn figures(&self) -> InboxFigures {
        InboxProbe::figures(&*self.shared)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    pub(crate) fn probe(&self) -> Arc<dyn InboxProbe> {
        self.shared.clone()
    }
}

/// Yields after each [`RECEIVES_PER_TURN`] receives on this thread.
async fn take_turns() {
    let receives = RECEIVES.get() + 1;
    RECEIVES.set(receives % RECEIVES_PER_TURN);
    if receives == RECEIVES_PER_TURN {
        tokio::task::yield_now().await;
    }
}

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Shared<T> {
    /// Wakes receivers after `count` messages came (back).
    pub(crate) fn announce(&self, count: usize) {
        if count > 0 {
            self.ready.notify_one();
            self.ready_blocking.notify_one();
            self.settled.notify_waiters();
        }
    }

    /// Whether a blocked sender shall go on: a quarter is free, or its reader has nothing else to take. Each wake is a
    /// switch of threads; with one per message both spend their time on that.
    fn is_worth_a_wake(&self, state: &State<T>) -> bool {
        let Capacity { items, weight } = self.capacity;
        let held = state.waiting.len() + state.in_hand.len();
        state.waiting.is_empty() || (held <= items - items / 4 && state.weight <= weight - weight / 4)
    }

    /// Wakes a sender after room was made.
    fn room(&self) {
        self.space.notify_one();
        self.space_blocking.notify_one();
    }
}

impl<T: Send + Sync + 'static> InboxProbe for Shared<T> {
    fn figures(&self) -> InboxFigures {
        let state = self.state.lock();
        let oldest = state.oldest().map_or(Duration::ZERO, |born| Instant::now().saturating_duration_since(born));
        InboxFigures {
            depth: state.waiting.len(),
            in_hand: state.in_hand.len(),
            capacity: self.capacity.items,
            weight: state.weight,
            weight_capacity: (self.capacity.weight < usize::MAX).then_some(self.capacity.weight),
            oldest_ms: u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX),
            blocked_ms: self.blocked_us.load(Ordering::Relaxed) / 1_000,
            accepted: state.accepted,
            committed: state.committed,
            returned: state.returned,
        }
    }

    fn wake(&self) {
        self.ready.notify_waiters();
        self.ready_blocking.notify_all();
        self.space_blocking.notify_all();
    }

    fn set_owner(&self, path: &ActorPath) {
        self.owner.get_or_init(|| path.clone());
    }

    fn newest_touch(&self, owner: u64) -> Option<u64> {
        self.state.lock().newest_touch(owner)
    }

    fn revoke(&self, owner: u64, charged: Option<u64>) -> usize {
        let count = self.state.lock().revoke(owner, charged);
        self.announce(count);
        count
    }

    fn refund(&self, seq: u64) {
        self.state.lock().refund(seq);
    }
}
