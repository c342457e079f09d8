//! Byte rates of clients (KIP-13, KIP-546): who has which, and how long a client has to pause.
//!
//! A client that goes beyond its rate is answered at once, with the pause that it owes, and nothing
//! more is read from its connection for that long (KIP-219). Without any quota a request costs one
//! atomic load.

mod entity;
mod throttle;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

pub(crate) use entity::{Direction, QuotaEntity, QuotaLimits, QuotaName};
pub(crate) use throttle::{Metered, Sender, Throttle};

use crate::config::ClientRates;
use crate::meta::MetaStore;

/// Clients whose use is remembered while they are not connected.
const MAX_BUCKETS: usize = 10_000;
/// Traffic that is free after a time without any.
const BURST: Duration = Duration::from_secs(1);
/// Longest pause of one request.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Whose use is counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct BucketKey {
    direction: Direction,
    user: Option<String>,
    client_id: Option<String>,
}

/// The use of one client or group of clients: the moment at which it is within its rate again.
#[derive(Debug, Default)]
pub(crate) struct Bucket(Mutex<Option<Instant>>);

impl Bucket {
    /// Counts bytes at a rate; the pause that they cost.
    fn charge(&self, bytes: usize, per_second: f64, now: Instant) -> Duration {
        let mut even_at = self.0.lock();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let from = even_at.unwrap_or(earliest).max(earliest);
        let cost = Duration::try_from_secs_f64(bytes as f64 / per_second).unwrap_or(MAX_PAUSE);
        let until = from.checked_add(cost).unwrap_or(from);
        *even_at = Some(until);
        until.saturating_duration_since(now).min(MAX_PAUSE)
    }

    fn is_even(&self, now: Instant) -> bool {
        self.0.lock().is_none_or(|even_at| even_at <= now)
    }
}

/// A rate, and where the use of it is counted.
#[derive(Debug, Clone)]
pub(crate) struct Limit {
    per_second: f64,
    bucket: Arc<Bucket>,
}

/// All quotas of a broker.
#[derive(Debug)]
pub(crate) struct Quotas {
    defaults: ClientRates,
    meta: Arc<Mutex<MetaStore>>,
    buckets: Mutex<HashMap<BucketKey, Arc<Bucket>>>,
    is_active: AtomicBool,
    /// Grows with each change of the stored quotas.
    version: AtomicU64,
}

impl Quotas {
    /// With rates for whom nothing is stored.
    pub fn new(defaults: ClientRates, meta: Arc<Mutex<MetaStore>>) -> Self {
        let new = Self {
            defaults,
            meta,
            buckets: Mutex::default(),
            is_active: AtomicBool::default(),
            version: AtomicU64::default(),
        };
        new.changed();
        new
    }

    /// Takes note of a change of the stored quotas.
    pub fn changed(&self) {
        let has_defaults = self.defaults.produce.is_some() || self.defaults.fetch.is_some();
        let is_active = has_defaults || !self.meta.lock().state().quotas.is_empty();
        self.is_active.store(is_active, Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The rate of a client, from the most particular quota to the least (KIP-55).
    fn limit(&self, direction: Direction, user: Option<&str>, client_id: &str) -> Option<Limit> {
        let name = user.unwrap_or(entity::ANONYMOUS);
        let stored = {
            let meta = self.meta.lock();
            let quotas = &meta.state().quotas;
            entity::candidates(name, client_id).find_map(|candidate| {
                let per_second = quotas.get(&candidate)?.rate(direction)?;
                Some((per_second, candidate.user.is_some(), candidate.client_id.is_some()))
            })
        };
        let (per_second, by_user, by_client) = stored.or_else(|| {
            let bytes = match direction {
                Direction::Produce => self.defaults.produce,
                Direction::Fetch => self.defaults.fetch,
            };
            Some((bytes? as f64, user.is_some(), user.is_none()))
        })?;
        let key = BucketKey {
            direction,
            user: by_user.then(|| name.to_owned()),
            client_id: by_client.then(|| client_id.to_owned()),
        };
        Some(Limit { per_second, bucket: self.bucket(key) })
    }

    fn bucket(&self, key: BucketKey) -> Arc<Bucket> {
        let mut buckets = self.buckets.lock();
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&key) {
            let now = Instant::now();
            buckets.retain(|_, bucket| Arc::strong_count(bucket) > 1 || !bucket.is_even(now));
            if buckets.len() >= MAX_BUCKETS {
                buckets.retain(|_, bucket| Arc::strong_count(bucket) > 1);
            }
        }
        buckets.entry(key).or_default().clone()
    }
}

#[cfg(test)]
mod tests;
