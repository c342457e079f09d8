//! The quotas of one connection, looked up when they or its client id change.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Direction, Limit, Quotas};

/// Whether quotas hold for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metered {
    Yes,
    /// Clients of the embedder's own.
    No,
}

/// What a connection owes.
#[derive(Debug)]
pub(crate) struct Throttle {
    metered: Metered,
    known: Mutex<Option<Known>>,
    pause_ms: AtomicU32,
}

#[derive(Debug)]
struct Known {
    version: u64,
    client_id: String,
    produce: Option<Limit>,
    fetch: Option<Limit>,
}

/// Who sent a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender<'a> {
    pub user: Option<&'a str>,
    pub client_id: &'a str,
}

impl Throttle {
    pub fn new(metered: Metered) -> Self {
        Self { metered, known: Mutex::default(), pause_ms: AtomicU32::default() }
    }

    /// Counts bytes of a request; the pause in milliseconds that the response tells.
    pub fn charge(&self, quotas: &Quotas, sender: Sender<'_>, direction: Direction, bytes: usize) -> i32 {
        if self.metered == Metered::No || !quotas.is_active.load(Ordering::Relaxed) {
            return 0;
        }
        let mut known = self.known.lock();
        let version = quotas.version.load(Ordering::Acquire);
        let fits = known.as_ref().is_some_and(|k| k.version == version && k.client_id == sender.client_id);
        if !fits {
            *known = Some(Known {
                version,
                client_id: sender.client_id.to_owned(),
                produce: quotas.limit(Direction::Produce, sender.user, sender.client_id),
                fetch: quotas.limit(Direction::Fetch, sender.user, sender.client_id),
            });
        }
        let limit = known.as_ref().and_then(|known| match direction {
            Direction::Produce => known.produce.as_ref(),
            Direction::Fetch => known.fetch.as_ref(),
        });
        let Some(limit) = limit else { return 0 };
        let pause = limit.bucket.charge(bytes, limit.per_second, Instant::now());
        let pause_ms = u32::try_from(pause.as_millis()).unwrap_or(u32::MAX);
        self.pause_ms.fetch_max(pause_ms, Ordering::Relaxed);
        i32::try_from(pause_ms).unwrap_or(i32::MAX)
    }

    /// The pause that is due after the response, once.
    pub fn take_pause(&self) -> Option<Duration> {
        match self.pause_ms.swap(0, Ordering::Relaxed) {
            0 => None,
            ms => Some(Duration::from_millis(u64::from(ms))),
        }
    }
}
