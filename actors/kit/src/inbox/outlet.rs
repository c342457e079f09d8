//! The sending side of an inbox.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use thiserror::Error;

use super::Shared;
use crate::path::ActorPath;

/// The inbox takes no more messages.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the inbox is closed")]
pub struct Closed;

/// A message that was not taken.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// No room.
    #[error("the inbox is full")]
    Full(T),
    /// No more messages are taken.
    #[error("the inbox is closed")]
    Closed(T),
}

/// A sender; clones share the inbox and its bound.
pub struct Outlet<T> {
    pub(super) shared: Arc<Shared<T>>,
}

impl<T> Clone for Outlet<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T: Send + Sync + 'static> Outlet<T> {
    /// Sends, waiting for room: once it waits, until a quarter is free or nothing else waits. The message is lost if
    /// the future is dropped before it is done.
    ///
    /// # Errors
    /// The inbox is closed.
    pub async fn send(&self, item: T) -> Result<(), Closed> {
        let mut item = match self.try_send(item) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(_)) => return Err(Closed),
            Err(TrySendError::Full(item)) => item,
        };
        let _blocked = Blocked::new(&self.shared);
        loop {
            let notified = self.shared.space.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            item = match self.try_send(item) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Closed(_)) => return Err(Closed),
                Err(TrySendError::Full(item)) => item,
            };
            notified.await;
        }
    }

    /// Waits until the message would have room, as [`Outlet::send`] does, or the inbox is closed. For a sender that decides
    /// anew then: another one may have been faster, and room that is not used is passed on.
    pub async fn room_for(&self, item: &T) {
        let weight = (self.shared.weigh)(item);
        let _blocked = Blocked::new(&self.shared);
        loop {
            let notified = self.shared.space.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.takes(weight) {
                break;
            }
            notified.await;
        }
        self.shared.space.notify_one();
    }

    /// Whether a sender has nothing to wait for: there is room, or never will be.
    fn takes(&self, weight: usize) -> bool {
        let state = self.shared.state.lock();
        state.closed || state.has_room(self.shared.capacity, weight)
    }

    /// Sends if there is room.
    ///
    /// # Errors
    /// The message, if there is no room or the inbox is closed.
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        let weight = (self.shared.weigh)(&item);
        let mut state = self.shared.state.lock();
        if state.closed {
            return Err(TrySendError::Closed(item));
        }
        if !state.has_room(self.shared.capacity, weight) {
            return Err(TrySendError::Full(item));
        }
        state.push(item, weight);
        let more_room = self.shared.blocked_now.load(Ordering::Relaxed) > 0 && state.has_room(self.shared.capacity, 0);
        drop(state);
        self.shared.ready.notify_one();
        self.shared.ready_blocking.notify_one();
        if more_room {
            self.shared.space.notify_one();
            self.shared.space_blocking.notify_one();
        }
        Ok(())
    }

    /// Sends, blocking the thread for room at most `limit`.
    ///
    /// # Errors
    /// The message, if there was no room within the limit or the inbox is closed.
    pub fn blocking_send_timeout(&self, item: T, limit: Duration) -> Result<(), T> {
        let deadline = Instant::now() + limit;
        let weight = (self.shared.weigh)(&item);
        let mut item = match self.try_send(item) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(item)) => return Err(item),
            Err(TrySendError::Full(item)) => item,
        };
        let _blocked = Blocked::new(&self.shared);
        loop {
            let mut state = self.shared.state.lock();
            if !state.closed && !state.has_room(self.shared.capacity, weight) {
                let _ = self.shared.space_blocking.wait_until(&mut state, deadline);
            }
            drop(state);
            item = match self.try_send(item) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Closed(item)) => return Err(item),
                Err(TrySendError::Full(item)) => item,
            };
            if Instant::now() >= deadline {
                return Err(item);
            }
        }
    }

    /// The actor whose inbox it is, once that is in a tree.
    #[must_use]
    pub fn owner(&self) -> Option<ActorPath> {
        self.shared.owner.get().cloned()
    }

    /// True once no more messages are taken.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.state.lock().closed
    }

    /// Share of the capacity in use, 0 to 1: the larger one of messages and weight.
    #[must_use]
    pub fn fill(&self) -> f64 {
        let state = self.shared.state.lock();
        let items = (state.waiting.len() + state.in_hand.len()) as f64 / self.shared.capacity.items as f64;
        items.max(state.weight as f64 / self.shared.capacity.weight.max(1) as f64)
    }
}

/// Counts the time a sender is blocked.
struct Blocked<'a, T> {
    shared: &'a Shared<T>,
    since: Instant,
}

impl<'a, T> Blocked<'a, T> {
    fn new(shared: &'a Shared<T>) -> Self {
        shared.blocked_now.fetch_add(1, Ordering::Relaxed);
        Self { shared, since: Instant::now() }
    }
}

impl<T> Drop for Blocked<'_, T> {
    fn drop(&mut self) {
        self.shared.blocked_now.fetch_sub(1, Ordering::Relaxed);
        let blocked_us = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.shared.blocked_us.fetch_add(blocked_us, Ordering::Relaxed);
    }
}
