//! Latencies in milliseconds, shared between the threads that see the ends of a record's way.

use std::sync::Arc;

use arrow_array::{cast::AsArray, types::TimestampMillisecondType};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;
use streamward_pipeline::{sink::CommitObserver, store::Pending};

use crate::clock::now_ms;

/// Longest latency told apart, in milliseconds.
const MAX_MS: u64 = 600_000;

/// Percentiles of a latency, in milliseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Percentiles {
    pub p50: u64,
    pub p95: u64,
    pub p99: u64,
    pub max: u64,
}

/// A histogram that several threads write.
#[derive(Clone)]
pub struct Latencies(Arc<Mutex<Histogram<u64>>>);

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, MAX_MS, 3).expect("the bounds are constants that fit");
        Self(Arc::new(Mutex::new(histogram)))
    }
}

impl Latencies {
    /// Adds the time since `sent_ms`, which is milliseconds since 1970 (UTC).
    pub fn since(&self, sent_ms: impl Iterator<Item = i64>, now_ms: i64) {
        let mut histogram = self.0.lock();
        for sent in sent_ms {
            histogram.saturating_record(u64::try_from(now_ms - sent).unwrap_or(0));
        }
    }

    /// Forgets what was seen so far.
    pub fn reset(&self) {
        self.0.lock().reset();
    }

    /// Latencies seen.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.lock().len()
    }

    /// Whether none was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The percentiles.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        let histogram = self.0.lock();
        Percentiles {
            p50: histogram.value_at_quantile(0.5),
            p95: histogram.value_at_quantile(0.95),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
        }
    }
}

/// Watches commits: from the event time of each row to the return of COMMIT.
pub struct RowWatch {
    pub latencies: Latencies,
    /// Column of the event time.
    pub event_time: usize,
}

impl CommitObserver for RowWatch {
    fn committed(&self, pending: &[Arc<Pending>]) {
        let now = now_ms();
        for pending in pending {
            let column = pending.output.rows.column(self.event_time);
            if let Some(times) = column.as_primitive_opt::<TimestampMillisecondType>() {
                self.latencies.since(times.values().iter().copied(), now);
            }
        }
    }
}
