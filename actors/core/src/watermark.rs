//! How far event time has come in one partition.
//!
//! The watermark is a running maximum over records: highest event time − `out_of_orderness`. It is defined after each
//! record, never per batch, so cutting a log into other batches changes nothing that follows from it. It never falls.
//!
//! A record whose event time is more than `max_ahead` ahead of its own log timestamp is *ahead*: it does not move the
//! watermark, since one device with a wrong clock would otherwise make every other record late. Nothing that records
//! have in common follows from it: it is stored, and no rule, window or figure counts it. Where log timestamps are the
//! producers' word (Kafka's `CreateTime`), one that is later than the clock of reading, or missing, counts as that clock.

/// How far a record's event time may be ahead of its log timestamp and still move the watermark, unless set otherwise.
pub const MAX_AHEAD_MS: i64 = 10 * 60 * 1_000;

/// How far a producer's clock may be ahead of ours before its word is not believed.
pub const CLOCK_TOLERANCE_MS: i64 = 60 * 1_000;

/// Value of a watermark that no record has moved yet: nothing is late, nothing has ended.
pub const NO_WATERMARK: i64 = i64::MIN;

/// Rules by which records move a watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatermarkRules {
    /// How far records may come out of order, in milliseconds.
    pub out_of_orderness_ms: i64,
    /// How far ahead of its log timestamp a record may be, in milliseconds.
    pub max_ahead_ms: i64,
}

/// The watermark of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    value_ms: i64,
}

/// The watermark before and after each record of one batch.
#[derive(Debug, Clone)]
pub struct Progress {
    before: i64,
    after: Vec<i64>,
    /// Indexes of the records that are ahead, ascending.
    ahead: Vec<usize>,
}

impl Default for Watermark {
    fn default() -> Self {
        Self::at(NO_WATERMARK)
    }
}

impl Watermark {
    /// A watermark that stands at `value_ms`, as restored from a checkpoint.
    #[must_use]
    pub fn at(value_ms: i64) -> Self {
        Self { value_ms }
    }

    /// Milliseconds since 1970 (UTC), or [`NO_WATERMARK`].
    #[must_use]
    pub fn value_ms(self) -> i64 {
        self.value_ms
    }

    /// Moves the watermark by one record, unless it is ahead.
    pub fn observe(&mut self, rules: WatermarkRules, event_time_ms: i64, log_timestamp_ms: i64) -> i64 {
        if !rules.is_ahead(event_time_ms, log_timestamp_ms) {
            self.advance(rules, event_time_ms);
        }
        self.value_ms
    }

    fn advance(&mut self, rules: WatermarkRules, event_time_ms: i64) {
        self.value_ms = self.value_ms.max(event_time_ms.saturating_sub(rules.out_of_orderness_ms));
    }

    /// Moves the watermark by the records of a batch, in log order, and tells where it stood around each of them.
    /// `is_ahead` says of a record, by its index, whether it is ahead.
    pub fn observe_all(
        &mut self,
        rules: WatermarkRules,
        event_times_ms: &[i64],
        is_ahead: impl Fn(usize) -> bool,
    ) -> Progress {
        let before = self.value_ms;
        let mut ahead = Vec::new();
        let after = event_times_ms.iter().enumerate().map(|(index, &event_time)| {
            if is_ahead(index) {
                ahead.push(index);
            } else {
                self.advance(rules, event_time);
            }
            self.value_ms
        });
        let after = after.collect();
        Progress { before, after, ahead }
    }
}

impl WatermarkRules {
    /// The newest event time that a watermark at `watermark_ms` follows from, or [`NO_WATERMARK`].
    #[must_use]
    pub fn newest_event_ms(self, watermark_ms: i64) -> i64 {
        if watermark_ms == NO_WATERMARK { NO_WATERMARK } else { watermark_ms.saturating_add(self.out_of_orderness_ms) }
    }

    /// Whether a record is too far ahead of its log timestamp to count. One without a log timestamp (below 0) never is.
    #[must_use]
    pub fn is_ahead(self, event_time_ms: i64, log_timestamp_ms: i64) -> bool {
        log_timestamp_ms >= 0 && event_time_ms > log_timestamp_ms.saturating_add(self.max_ahead_ms)
    }
}

impl Progress {
    /// The watermark just before the record at `index`, which decides whether that record is late.
    #[must_use]
    pub fn before(&self, index: usize) -> i64 {
        match index.checked_sub(1) {
            Some(previous) => self.after[previous],
            None => self.before,
        }
    }

    /// Whether the record at `index` is ahead of its log timestamp.
    #[must_use]
    pub fn is_ahead(&self, index: usize) -> bool {
        !self.ahead.is_empty() && self.ahead.binary_search(&index).is_ok()
    }

    /// Indexes of the records that are ahead, ascending.
    #[must_use]
    pub fn ahead(&self) -> &[usize] {
        &self.ahead
    }

    /// The watermark after the whole batch.
    #[must_use]
    pub fn last(&self) -> i64 {
        self.after.last().copied().unwrap_or(self.before)
    }

    /// Index of the record that moved the watermark to `threshold_ms` or beyond.
    ///
    /// `None` if the watermark stood there before the batch or has not come there yet.
    #[must_use]
    pub fn reached_by(&self, threshold_ms: i64) -> Option<usize> {
        if self.before >= threshold_ms {
            return None;
        }
        let index = self.after.partition_point(|&value| value < threshold_ms);
        (index < self.after.len()).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn observe_all(watermark: &mut Watermark, times: &[i64], logs: &[i64]) -> Progress {
        watermark.observe_all(RULES, times, |index| RULES.is_ahead(times[index], logs[index]))
    }

    const RULES: WatermarkRules = WatermarkRules { out_of_orderness_ms: 5, max_ahead_ms: 100 };

    #[test]
    fn it_follows_the_highest_event_time_and_never_falls() {
        let mut watermark = Watermark::default();
        let progress = observe_all(&mut watermark, &[50, 70, 60], &[50, 70, 70]);
        assert_eq!([progress.before(0), progress.before(1), progress.before(2)], [NO_WATERMARK, 45, 65]);
        assert_eq!((progress.last(), watermark.value_ms()), (65, 65));
    }

    #[test]
    fn a_record_far_ahead_of_its_log_timestamp_does_not_move_it() {
        let mut watermark = Watermark::default();
        watermark.observe(RULES, 1_000, 899);
        assert_eq!(watermark.value_ms(), NO_WATERMARK);
        watermark.observe(RULES, 1_000, 900);
        assert_eq!(watermark.value_ms(), 995);
    }

    #[test]
    fn the_record_that_reached_a_threshold_is_named() {
        let mut watermark = Watermark::at(10);
        let progress = observe_all(&mut watermark, &[12, 25, 25, 40], &[0, 0, 0, 0]);
        let reached = [10, 11, 20, 21, 35, 36].map(|threshold| progress.reached_by(threshold));
        assert_eq!(reached, [None, Some(1), Some(1), Some(3), Some(3), None]);
    }

    proptest! {
        #[test]
        fn cutting_a_log_into_other_batches_changes_nothing(
            records in prop::collection::vec((0_i64..1_000, 0_i64..1_000), 1..60), cut in 0_usize..60,
        ) {
            let (times, logs): (Vec<i64>, Vec<i64>) = records.into_iter().unzip();
            let whole = observe_all(&mut Watermark::default(), &times, &logs);
            let cut = cut.min(times.len());
            let mut watermark = Watermark::default();
            let first = observe_all(&mut watermark, &times[..cut], &logs[..cut]);
            let second = observe_all(&mut watermark, &times[cut..], &logs[cut..]);
            let recut: Vec<i64> =
                (0..cut).map(|i| first.before(i)).chain((cut..times.len()).map(|i| second.before(i - cut))).collect();
            prop_assert_eq!(recut, (0..times.len()).map(|i| whole.before(i)).collect::<Vec<_>>());
            prop_assert_eq!(second.last(), whole.last());
        }
    }
}
