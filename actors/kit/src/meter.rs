//! How fast an actor works and how long things take: figures of the last minute or two, readable at any time.

use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

/// How long one window lasts; figures cover the present and the one before.
const WINDOW: Duration = Duration::from_secs(60);
/// Significant decimal digits of a quantile.
const DIGITS: u8 = 2;
/// Longer durations count as this one.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);
/// Time over which a rate is smoothed.
const SMOOTHING: Duration = Duration::from_secs(5);
/// Shortest time between two looks at a counter.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Quantiles of durations over the last one to two minutes, in microseconds, to two significant digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TimeFigures {
    /// Half of them were no longer.
    pub p50: u64,
    /// 99 of 100 were no longer.
    pub p99: u64,
    /// How many there were.
    pub count: u64,
}

/// Durations of one kind; takes memory once the first is recorded.
#[derive(Default)]
pub(crate) struct Times(Mutex<Option<Box<Windows>>>);

struct Windows {
    present: Histogram<u32>,
    past: Histogram<u32>,
    turned: Instant,
}

impl Windows {
    fn new(now: Instant) -> Option<Box<Self>> {
        let (present, past) = (Histogram::new(DIGITS).ok()?, Histogram::new(DIGITS).ok()?);
        Some(Box::new(Self { present, past, turned: now }))
    }

    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.turned);
        if age < WINDOW {
            return;
        }
        std::mem::swap(&mut self.present, &mut self.past);
        self.present.reset();
        if age >= 2 * WINDOW {
            self.past.reset();
        }
        self.turned = now;
    }
}

impl Times {
    pub(crate) fn record(&self, now: Instant, duration: Duration) {
        let mut windows = self.0.lock();
        if windows.is_none() {
            *windows = Windows::new(now);
        }
        if let Some(windows) = windows.as_mut() {
            windows.turn(now);
            // Grows as needed; without memory for that, a figure is missing.
            let _grown = windows.present.record(duration.min(LONGEST).as_micros() as u64);
        }
    }

    pub(crate) fn figures(&self, now: Instant) -> Option<TimeFigures> {
        let mut windows = self.0.lock();
        let windows = windows.as_mut()?;
        windows.turn(now);
        let mut all = windows.past.clone();
        all.add(&windows.present).ok()?;
        let at = |quantile| all.value_at_quantile(quantile);
        (!all.is_empty()).then(|| TimeFigures { p50: at(0.5), p99: at(0.99), count: all.len() })
    }
}

/// A counter's growth per second, smoothed.
#[derive(Default)]
pub(crate) struct Rate {
    last: Option<(Instant, u64)>,
    per_s: f64,
}

impl Rate {
    /// Takes note of the counter; looks in quick succession change nothing.
    pub(crate) fn look(&mut self, now: Instant, count: u64) {
        let Some((at, before)) = self.last else {
            self.last = Some((now, count));
            return;
        };
        let passed = now.saturating_duration_since(at);
        if passed < LOOK_EVERY {
            return;
        }
        let seconds = passed.as_secs_f64();
        let now_per_s = count.saturating_sub(before) as f64 / seconds;
        let weight = 1.0 - (-seconds / SMOOTHING.as_secs_f64()).exp();
        self.per_s += (now_per_s - self.per_s) * weight;
        self.last = Some((now, count));
    }

    /// Per second, to one decimal.
    pub(crate) fn per_s(&self) -> f64 {
        (self.per_s * 10.0).round() / 10.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn quantiles_cover_the_present_and_the_past_window_only() {
        let (times, start) = (Times::default(), Instant::now());
        assert_eq!(times.figures(start), None);
        (1..=100).for_each(|ms| times.record(start, ms * MS));
        let figures = times.figures(start).unwrap();
        assert!(figures.p50.abs_diff(50_000) < 1_000, "{figures:?}");
        assert!(figures.p99.abs_diff(99_000) < 2_000 && figures.count == 100, "{figures:?}");
        times.record(start + WINDOW, MS);
        assert_eq!(times.figures(start + WINDOW).unwrap().count, 101);
        assert_eq!(times.figures(start + 2 * WINDOW).unwrap().count, 1);
        assert_eq!(times.figures(start + 4 * WINDOW), None);
    }

    #[test]
    fn a_rate_follows_its_counter_and_fades() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        (0..=60).for_each(|s| rate.look(start + s * LOOK_EVERY, u64::from(s) * 500));
        assert!((rate.per_s() - 500.0).abs() < 1.0, "{}", rate.per_s());
        (61..=120).for_each(|s| rate.look(start + s * LOOK_EVERY, 30_000));
        assert!(rate.per_s() < 0.1, "{}", rate.per_s());
    }
}
