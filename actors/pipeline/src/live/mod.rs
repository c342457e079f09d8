//! The live hub: hands each stream's newest records to whoever watches, and never waits for them.
//!
//! A channel is one ring of shared frames. Publishing appends to the ring; a subscriber is a cursor into it. So the cost
//! of publishing does not depend on how many subscribers are stuck, and a stuck one holds a cursor and one burst.
//!
//! * A subscriber within its queue's length of the newest frame gets every frame, in order.
//! * One that is further behind gets [`LiveEvent::Gap`] with the number of frames left out, then the newest frame of
//!   each key (conflation), newest keys first to be kept, in their order, at most a queue's length of them.
//! * Delivery is at most once: offsets at or below the highest pushed of their partition are left out, so a batch that a
//!   lane repeats after a restart is not seen twice.
//!
//! It is not a log: nothing is kept for a subscriber that comes later, and nothing at all while nobody watches.
//! Start at [`LiveChannel::publish`] and [`Subscription::recv`].

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{BuildHasher, RandomState},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use bytestring::ByteString;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

/// Most frames that a channel's ring holds.
pub const RING_FRAMES: usize = 4096;
/// Most bytes of frames that a channel's ring holds.
pub const RING_BYTES: usize = 2 * 1024 * 1024;
/// A larger frame is not shown live; it counts as dropped.
pub const MAX_FRAME_BYTES: usize = 64 * 1024;
/// Most frames that a subscriber takes out of the ring at once.
pub const BURST_FRAMES: usize = 32;
/// Most bytes of frames that a subscriber holds (one frame is always allowed).
pub const BURST_BYTES: usize = 16 * 1024;

/// All channels of the process. Clones are the same hub.
#[derive(Debug, Clone, Default)]
pub struct LiveHub {
    channels: Arc<RwLock<HashMap<String, LiveChannel>>>,
}

/// One stream's live frames. Clones are the same channel.
#[derive(Debug, Clone)]
pub struct LiveChannel {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    ring: Mutex<Ring>,
    arrived: Notify,
    subscribers: AtomicUsize,
    published: AtomicU64,
    dropped: AtomicU64,
    closed: AtomicBool,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Ring {
    frames: VecDeque<Entry>,
    /// Sequence number of the next frame.
    next: u64,
    bytes: usize,
    /// Number of the log and highest offset pushed, per partition.
    pushed: HashMap<i32, (i64, i64)>,
}

#[derive(Debug)]
struct Entry {
    key: u64,
    text: ByteString,
}

/// One record to show.
#[derive(Debug)]
pub struct LiveFrame<'a> {
    pub offset: i64,
    /// Frames of the same key may be conflated to the newest.
    pub key: &'a str,
    /// The whole message, as [`frame`] builds it.
    pub text: ByteString,
}

/// What a subscriber gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveEvent {
    Frame(ByteString),
    /// So many frames were left out before the next one.
    Gap {
        dropped: u64,
    },
    /// The hub shuts down; nothing follows.
    Closed,
}

/// Bounds of one subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriptionLimits {
    /// Frames that a subscriber may be behind before frames are left out, 1 to [`RING_FRAMES`]. It costs no memory,
    /// since the ring is shared; it must exceed a batch, or whoever watches loses frames at each one.
    pub queue: usize,
}

impl Default for SubscriptionLimits {
    fn default() -> Self {
        Self { queue: RING_FRAMES / 2 }
    }
}

/// Counters of one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveCounts {
    pub subscribers: usize,
    /// Frames pushed into the ring.
    pub published: u64,
    /// Frames left out, summed over subscribers.
    pub dropped: u64,
}

impl LiveHub {
    /// The channel of this name, made if it is new. Cost: a lock; keep the handle.
    #[must_use]
    pub fn channel(&self, name: &str) -> LiveChannel {
        if let Some(channel) = self.find(name) {
            return channel;
        }
        let mut channels = self.channels.write();
        channels.entry(name.to_owned()).or_insert_with(LiveChannel::new).clone()
    }

    /// The channel of this name, if there is one.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<LiveChannel> {
        self.channels.read().get(name).cloned()
    }

    /// Counters of each channel.
    #[must_use]
    pub fn counts(&self) -> Vec<(String, LiveCounts)> {
        self.channels.read().iter().map(|(name, channel)| (name.clone(), channel.counts())).collect()
    }

    /// Ends all subscriptions, as shutdown does.
    pub fn close(&self) {
        for channel in self.channels.read().values() {
            channel.shared.closed.store(true, Ordering::Release);
            channel.shared.arrived.notify_waiters();
        }
    }
}

impl LiveChannel {
    fn new() -> Self {
        Self { shared: Arc::default() }
    }

    /// Whether anybody watches. Ask before building frames.
    #[must_use]
    pub fn has_subscribers(&self) -> bool {
        self.shared.subscribers.load(Ordering::Acquire) > 0
    }

    /// Pushes the frames of one batch of a partition's log, offsets ascending; another log begins anew. Without
    /// subscribers it does nothing and does not run the iterator. Cost: one lock and one wake-up per call.
    pub fn publish<'a>(&self, (partition, log): (i32, i64), frames: impl IntoIterator<Item = LiveFrame<'a>>) {
        if !self.has_subscribers() {
            return;
        }
        let mut ring = self.shared.ring.lock();
        let pushed = ring.pushed.get(&partition).filter(|(of, _)| *of == log);
        let mut newest = pushed.map_or(i64::MIN, |(_, highest)| *highest);
        for frame in frames {
            if frame.offset > newest {
                newest = frame.offset;
                self.push(&mut ring, frame.key, frame.text);
            }
        }
        ring.pushed.insert(partition, (log, newest));
        drop(ring);
        self.shared.arrived.notify_waiters();
    }

    /// Pushes one message that has no offset, such as a supervision event.
    pub fn announce(&self, key: &str, text: ByteString) {
        if !self.has_subscribers() {
            return;
        }
        self.push(&mut self.shared.ring.lock(), key, text);
        self.shared.arrived.notify_waiters();
    }

    /// Starts watching: the first frame is the next one published.
    #[must_use]
    pub fn subscribe(&self, limits: SubscriptionLimits) -> Subscription {
        let ring = self.shared.ring.lock();
        self.shared.subscribers.fetch_add(1, Ordering::AcqRel);
        let cursor = ring.next;
        drop(ring);
        let queue = limits.queue.clamp(1, RING_FRAMES);
        Subscription { shared: Arc::clone(&self.shared), cursor, queue, taken: VecDeque::new() }
    }

    /// Counters of this channel.
    #[must_use]
    pub fn counts(&self) -> LiveCounts {
        LiveCounts {
            subscribers: self.shared.subscribers.load(Ordering::Acquire),
            published: self.shared.published.load(Ordering::Relaxed),
            dropped: self.shared.dropped.load(Ordering::Relaxed),
        }
    }

    fn push(&self, ring: &mut Ring, key: &str, text: ByteString) {
        if text.len() > MAX_FRAME_BYTES {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.shared.published.fetch_add(1, Ordering::Relaxed);
        ring.bytes += text.len();
        ring.next += 1;
        ring.frames.push_back(Entry { key: self.shared.hasher.hash_one(key), text });
        while ring.frames.len() > RING_FRAMES || ring.bytes > RING_BYTES {
            let oldest = ring.frames.pop_front().expect("the ring is over a limit, so it holds a frame");
            ring.bytes -= oldest.text.len();
        }
    }
}

/// A place in a channel. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    shared: Arc<Shared>,
    /// Sequence number of the next frame to take.
    cursor: u64,
    queue: usize,
    taken: VecDeque<LiveEvent>,
}

impl Subscription {
    /// The next event, waiting for it. May be dropped while waiting without losing anything.
    pub async fn recv(&mut self) -> LiveEvent {
        loop {
            if let Some(event) = self.try_recv() {
                return event;
            }
            let shared = Arc::clone(&self.shared);
            let mut arrived = pin!(shared.arrived.notified());
            arrived.as_mut().enable();
            if let Some(event) = self.try_recv() {
                return event;
            }
            arrived.await;
        }
    }

    /// The next event, if there is one now.
    pub fn try_recv(&mut self) -> Option<LiveEvent> {
        if self.taken.is_empty() {
            self.refill();
        }
        match self.taken.pop_front() {
            None if self.shared.closed.load(Ordering::Acquire) => Some(LiveEvent::Closed),
            event => event,
        }
    }

    fn refill(&mut self) {
        let shared = Arc::clone(&self.shared);
        let ring = shared.ring.lock();
        let behind = usize::try_from(ring.next - self.cursor).unwrap_or(usize::MAX);
        if behind == 0 {
            return;
        }
        if behind > self.queue || behind > ring.frames.len() {
            self.skip_ahead(&ring);
        } else {
            self.take_burst(&ring, behind);
        }
    }

    fn take_burst(&mut self, ring: &Ring, behind: usize) {
        let mut bytes = 0;
        for entry in ring.frames.range(ring.frames.len() - behind..).take(BURST_FRAMES) {
            bytes += entry.text.len();
            if bytes > BURST_BYTES && !self.taken.is_empty() {
                break;
            }
            self.taken.push_back(LiveEvent::Frame(entry.text.clone()));
            self.cursor += 1;
        }
    }

    /// Takes the newest frame of each key and leaves the rest out.
    fn skip_ahead(&mut self, ring: &Ring) {
        let behind = ring.next - self.cursor;
        let reachable = usize::try_from(behind).unwrap_or(usize::MAX).min(ring.frames.len());
        let mut keys = HashSet::with_capacity(self.queue);
        let mut bytes = 0;
        for entry in ring.frames.range(ring.frames.len() - reachable..).rev() {
            if !keys.insert(entry.key) {
                continue;
            }
            bytes += entry.text.len();
            if keys.len() > self.queue || (bytes > BURST_BYTES && !self.taken.is_empty()) {
                break;
            }
            self.taken.push_front(LiveEvent::Frame(entry.text.clone()));
        }
        let dropped = behind - self.taken.len() as u64;
        self.shared.dropped.fetch_add(dropped, Ordering::Relaxed);
        if dropped > 0 {
            self.taken.push_front(LiveEvent::Gap { dropped });
        }
        self.cursor = ring.next;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut ring = self.shared.ring.lock();
        if self.shared.subscribers.fetch_sub(1, Ordering::AcqRel) == 1 {
            ring.frames = VecDeque::new();
            ring.bytes = 0;
        }
    }
}

/// Builds the message of one record. `data` is JSON text, `received_at` an RFC 3339 time.
#[must_use]
pub fn frame(kind: &str, data: &str, received_at: &str) -> ByteString {
    format!(r#"{{"type":"{kind}","data":{data},"received_at":"{received_at}"}}"#).into()
}

/// The `type` of a stream's messages: the singular of its table's name (`sensor_readings` → `sensor_reading`).
#[must_use]
pub fn frame_kind(table: &str) -> &str {
    match table.strip_suffix('s') {
        Some(singular) if !singular.is_empty() => singular,
        _ => "record",
    }
}

#[cfg(test)]
mod tests;
