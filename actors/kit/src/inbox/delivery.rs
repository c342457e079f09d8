//! A message in somebody's hand.

use std::{
    cell::RefCell,
    ops::Deref,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::time::Instant;

use super::{InboxProbe, Shared, state::Taken};
use crate::{Scope, panics};

/// A received message; [`Delivery::commit`] it, or it goes back when dropped.
///
/// All methods take `&self` so that a delivery may travel inside another message to the actor that finishes it.
pub struct Delivery<T: Send + Sync + 'static> {
    shared: Arc<Shared<T>>,
    seq: u64,
    lease: u64,
    attempt: u32,
    item: Arc<T>,
    born: Instant,
    decided: AtomicBool,
}

impl<T: Send + Sync + 'static> Delivery<T> {
    pub(super) fn new(shared: Arc<Shared<T>>, taken: Taken<T>) -> Self {
        let Taken { seq, lease, attempt, item, born, .. } = taken;
        Self { shared, seq, lease, attempt, item, born, decided: AtomicBool::new(false) }
    }

    /// Number of the message in its inbox, from 1, in the order of sending.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// How many failures this message has been charged with so far.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When it was sent; a message that went back keeps that.
    #[must_use]
    pub fn born(&self) -> Instant {
        self.born
    }

    /// The message, shared with the inbox.
    #[must_use]
    pub fn item(&self) -> Arc<T> {
        Arc::clone(&self.item)
    }

    /// Announces a side effect; false if the message was taken back meanwhile, then do nothing with it.
    ///
    /// A claimed message is not taken back by a neighbour's nack, and is the culprit if its holder fails now.
    #[must_use]
    pub fn claim(&self) -> bool {
        let mut state = self.shared.state.lock();
        state.touch(self.seq, self.lease).map(|held| held.claimed = true).is_some()
    }

    /// Says that this message is worked on now: it is the culprit if its holder fails. False if taken back.
    pub fn focus(&self) -> bool {
        self.shared.state.lock().touch(self.seq, self.lease).is_some()
    }

    /// Makes another actor answerable: if that one is fenced, the message goes back. False if taken back already.
    #[must_use]
    pub fn adopt(&self, scope: &Scope) -> bool {
        let me: Weak<dyn InboxProbe> = self.shared.me.clone();
        scope.incarnation.hold_from(&me);
        let mut state = self.shared.state.lock();
        if scope.is_fenced() {
            return false;
        }
        state.touch(self.seq, self.lease).map(|held| held.owner = scope.incarnation.uid).is_some()
    }

    /// True while the message is still this delivery's.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.shared.state.lock().held(self.seq, self.lease).is_some()
    }

    /// Ends the message's life; false if it was taken back or decided before, so that the effect did not count.
    pub fn commit(&self) -> bool {
        if self.decided.swap(true, Ordering::AcqRel) {
            return false;
        }
        let mut state = self.shared.state.lock();
        let done = state.commit(self.seq, self.lease);
        let room = done && self.shared.is_worth_a_wake(&state);
        drop(state);
        if done {
            self.shared.settled.notify_waiters();
        }
        if room {
            self.shared.room();
        }
        done
    }

    /// Gives the message back uncharged, as dropping does.
    pub fn nack(&self) {
        self.give_back(false);
    }

    /// Gives the message back and charges it with a failure.
    pub fn fail(&self) {
        self.give_back(true);
    }

    fn give_back(&self, charged: bool) {
        if self.decided.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut state = self.shared.state.lock();
        if state.held(self.seq, self.lease).is_none() {
            return;
        }
        let count = state.nack(self.seq, charged, self.shared.order);
        drop(state);
        self.shared.announce(count);
    }

    fn touched(&self) -> Option<u64> {
        self.shared.state.lock().held(self.seq, self.lease).map(|held| held.touched)
    }
}

impl<T: Send + Sync + 'static> Deref for Delivery<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.item
    }
}

impl<T: Send + Sync + 'static> Drop for Delivery<T> {
    fn drop(&mut self) {
        if self.decided.load(Ordering::Acquire) {
            return;
        }
        let charged = panics::unwinding().is_some_and(|panic| {
            !panic.injected && self.touched().is_some_and(|touched| charge(panic.id, touched, self))
        });
        self.give_back(charged);
    }
}

/// The message that pays for the panic which unwinds this thread.
struct Payer {
    panic: u64,
    touched: u64,
    seq: u64,
    inbox: Weak<dyn InboxProbe>,
}

thread_local! {
    static PAYER: RefCell<Option<Payer>> = const { RefCell::new(None) };
}

/// True if this message pays for the panic: it was touched later than those dropped before it, which are refunded.
fn charge<T: Send + Sync + 'static>(panic: u64, touched: u64, delivery: &Delivery<T>) -> bool {
    PAYER.with_borrow_mut(|payer| {
        if let Some(earlier) = payer.as_ref().filter(|earlier| earlier.panic == panic) {
            if earlier.touched > touched {
                return false;
            }
            if let Some(inbox) = earlier.inbox.upgrade() {
                inbox.refund(earlier.seq);
            }
        }
        let inbox: Weak<dyn InboxProbe> = delivery.shared.me.clone();
        *payer = Some(Payer { panic, touched, seq: delivery.seq, inbox });
        true
    })
}
