//! The bookkeeping of an inbox, under its lock.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::time::Instant;

use super::{Capacity, Order};

pub(super) struct Entry<T> {
    pub(super) seq: u64,
    pub(super) item: Arc<T>,
    pub(super) weight: usize,
    pub(super) attempt: u32,
    pub(super) born: Instant,
    /// When it began to wait, for the first time or again.
    pub(super) waits_since: Instant,
}

pub(super) struct Held<T> {
    pub(super) entry: Entry<T>,
    pub(super) lease: u64,
    pub(super) owner: u64,
    pub(super) touched: u64,
    pub(super) claimed: bool,
}

/// What a receiver gets.
pub(super) struct Taken<T> {
    pub(super) seq: u64,
    pub(super) lease: u64,
    pub(super) attempt: u32,
    pub(super) item: Arc<T>,
    /// When it was sent.
    pub(super) born: Instant,
    /// When it began to wait.
    pub(super) since: Instant,
}

pub(super) struct State<T> {
    /// Ordered by sequence number.
    pub(super) waiting: VecDeque<Entry<T>>,
    pub(super) in_hand: BTreeMap<u64, Held<T>>,
    pub(super) weight: usize,
    pub(super) closed: bool,
    pub(super) accepted: u64,
    pub(super) committed: u64,
    pub(super) returned: u64,
    next_lease: u64,
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            in_hand: BTreeMap::new(),
            weight: 0,
            closed: false,
            accepted: 0,
            committed: 0,
            returned: 0,
            next_lease: 0,
        }
    }
}

/// Orders touches over all inboxes of the process, so that the newest of several inboxes can be told.
fn next_touch() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl<T> State<T> {
    pub(super) fn has_room(&self, capacity: Capacity, weight: usize) -> bool {
        let held = self.waiting.len() + self.in_hand.len();
        held == 0 || (held < capacity.items && self.weight.saturating_add(weight) <= capacity.weight)
    }

    pub(super) fn push(&mut self, item: T, weight: usize) {
        self.accepted += 1;
        self.weight = self.weight.saturating_add(weight);
        let now = Instant::now();
        let entry = Entry { seq: self.accepted, item: Arc::new(item), weight, attempt: 0, born: now, waits_since: now };
        self.waiting.push_back(entry);
    }

    pub(super) fn take(&mut self, owner: u64) -> Option<Taken<T>> {
        let entry = self.waiting.pop_front()?;
        self.next_lease += 1;
        let lease = self.next_lease;
        let (item, born, since) = (Arc::clone(&entry.item), entry.born, entry.waits_since);
        let taken = Taken { seq: entry.seq, lease, attempt: entry.attempt, item, born, since };
        let held = Held { entry, lease, owner, touched: next_touch(), claimed: false };
        self.in_hand.insert(taken.seq, held);
        Some(taken)
    }

    /// The message, if this lease still holds it.
    pub(super) fn held(&mut self, seq: u64, lease: u64) -> Option<&mut Held<T>> {
        self.in_hand.get_mut(&seq).filter(|held| held.lease == lease)
    }

    pub(super) fn touch(&mut self, seq: u64, lease: u64) -> Option<&mut Held<T>> {
        let held = self.held(seq, lease)?;
        held.touched = next_touch();
        Some(held)
    }

    pub(super) fn commit(&mut self, seq: u64, lease: u64) -> bool {
        if self.held(seq, lease).is_none() {
            return false;
        }
        if let Some(held) = self.in_hand.remove(&seq) {
            self.weight -= held.entry.weight;
            self.committed += 1;
        }
        true
    }

    /// Puts a message back, with those after it if order demands it; returns how many went back.
    pub(super) fn nack(&mut self, seq: u64, charged: bool, order: Order) -> usize {
        let Some(mut held) = self.in_hand.remove(&seq) else { return 0 };
        held.entry.attempt += u32::from(charged);
        self.put_back(held.entry);
        match order {
            Order::Strict => 1 + self.rewind_from(seq + 1),
            Order::Free => 1,
        }
    }

    /// Takes back unclaimed messages from `first` on.
    pub(super) fn rewind_from(&mut self, first: u64) -> usize {
        let seqs: Vec<u64> =
            self.in_hand.range(first..).filter(|(_, held)| !held.claimed).map(|(seq, _)| *seq).collect();
        self.put_back_all(&seqs, None)
    }

    pub(super) fn revoke(&mut self, owner: u64, charged: Option<u64>) -> usize {
        let seqs: Vec<u64> = self.in_hand.iter().filter(|(_, held)| held.owner == owner).map(|(seq, _)| *seq).collect();
        self.put_back_all(&seqs, charged)
    }

    fn put_back_all(&mut self, seqs: &[u64], charged: Option<u64>) -> usize {
        for seq in seqs.iter().rev() {
            if let Some(mut held) = self.in_hand.remove(seq) {
                held.entry.attempt += u32::from(Some(held.touched) == charged);
                self.put_back(held.entry);
            }
        }
        seqs.len()
    }

    fn put_back(&mut self, mut entry: Entry<T>) {
        self.returned += 1;
        entry.waits_since = Instant::now();
        let at = self.waiting.partition_point(|other| other.seq < entry.seq);
        self.waiting.insert(at, entry);
    }

    pub(super) fn refund(&mut self, seq: u64) {
        if let Ok(at) = self.waiting.binary_search_by_key(&seq, |entry| entry.seq) {
            self.waiting[at].attempt = self.waiting[at].attempt.saturating_sub(1);
        }
    }

    pub(super) fn newest_touch(&self, owner: u64) -> Option<u64> {
        self.in_hand.values().filter(|held| held.owner == owner).map(|held| held.touched).max()
    }

    pub(super) fn oldest(&self) -> Option<Instant> {
        let waiting = self.waiting.front().map(|entry| entry.born);
        let in_hand = self.in_hand.values().next().map(|held| held.entry.born);
        waiting.into_iter().chain(in_hand).min()
    }
}
