//! When each record of a file is due, and which event time it gets: pure arithmetic on milliseconds.

use std::str::FromStr;

use super::time::parse_time_ms;

/// The highest factor of a speed.
const MAX_FACTOR: f64 = 1e9;

/// A text that is neither a speed nor a shift.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParsePaceError(String);

/// How fast recorded time passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// This many recorded seconds in one second; above 0.
    Factor(f64),
    /// Everything is due at once.
    Max,
}

impl FromStr for Speed {
    type Err = ParsePaceError;

    /// `10x`, `0.5x`, `10` or `max`.
    fn from_str(text: &str) -> Result<Self, ParsePaceError> {
        if text.eq_ignore_ascii_case("max") {
            return Ok(Self::Max);
        }
        match text.strip_suffix(['x', 'X']).unwrap_or(text).parse::<f64>() {
            Ok(factor) if factor > 0.0 && factor <= MAX_FACTOR => Ok(Self::Factor(factor)),
            Ok(_) | Err(_) => {
                Err(ParsePaceError(format!("`{text}` is not a speed; use for example 1x, 10x, 0.5x or max")))
            }
        }
    }
}

/// Where event times are moved to; records keep their distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShiftTo {
    /// The newest record gets the moment at which it is due, and no record is ahead of its own.
    Now,
    /// The first record gets this time, milliseconds since the epoch.
    At(i64),
}

impl FromStr for ShiftTo {
    type Err = ParsePaceError;

    /// `now` or a time as [`parse_time_ms`] reads it.
    fn from_str(text: &str) -> Result<Self, ParsePaceError> {
        if text.eq_ignore_ascii_case("now") {
            return Ok(Self::Now);
        }
        let time_ms = parse_time_ms(text).map_err(|error| ParsePaceError(format!("now, or a time: {error}")))?;
        Ok(Self::At(time_ms))
    }
}

/// When a record is to be sent and with which event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paced {
    /// Wall time, milliseconds since the epoch; in the past if it is due at once.
    pub due_wall_ms: i64,
    /// Event time after the shift, milliseconds since the epoch.
    pub event_time_ms: i64,
}

/// Paces one file: the first record is due at the start, the others by their distance to it.
///
/// Records that are older than the first are due at once. Distances between event times are never changed, so a replay
/// above 1x that is shifted to now begins in the past and catches up with the clock at its newest record.
#[derive(Debug, Clone)]
pub struct Pacer {
    speed: Speed,
    shift: Option<ShiftTo>,
    start_wall_ms: i64,
    span_ms: i64,
    first_event_ms: Option<i64>,
}

impl Pacer {
    /// A pacer for a replay that starts at `start_wall_ms`; no shift keeps the recorded event times.
    #[must_use]
    pub fn new(speed: Speed, shift: Option<ShiftTo>, start_wall_ms: i64) -> Self {
        Self { speed, shift, start_wall_ms, span_ms: 0, first_event_ms: None }
    }

    /// Whether a pacer has to know how long the file is in event time before it gives the first record its time.
    #[must_use]
    pub fn needs_span(speed: Speed, shift: Option<ShiftTo>) -> bool {
        let is_faster = match speed {
            Speed::Max => true,
            Speed::Factor(factor) => factor > 1.0,
        };
        is_faster && shift == Some(ShiftTo::Now)
    }

    /// Tells it how much newer than the first record the newest one is, in event time.
    #[must_use]
    pub fn with_span(self, span_ms: i64) -> Self {
        Self { span_ms: span_ms.max(0), ..self }
    }

    /// When the next record of the file is due.
    pub fn pace(&mut self, event_time_ms: i64) -> Paced {
        let first_ms = *self.first_event_ms.get_or_insert(event_time_ms);
        let passed_ms = event_time_ms.saturating_sub(first_ms);
        let new_first_ms = match self.shift {
            None => first_ms,
            Some(ShiftTo::Now) => {
                let ahead_ms = self.span_ms.saturating_sub(self.wait_ms(self.span_ms)).max(0);
                self.start_wall_ms.saturating_sub(ahead_ms)
            }
            Some(ShiftTo::At(time_ms)) => time_ms,
        };
        Paced {
            due_wall_ms: self.start_wall_ms.saturating_add(self.wait_ms(passed_ms)),
            event_time_ms: new_first_ms.saturating_add(passed_ms),
        }
    }

    /// Time from the start until a record is due that is so much newer than the first.
    fn wait_ms(&self, passed_ms: i64) -> i64 {
        match self.speed {
            Speed::Max => 0,
            Speed::Factor(factor) => (passed_ms.max(0) as f64 / factor) as i64,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WALL_MS: i64 = 1_800_000_000_000;

    fn paced(speed: &str, shift: Option<ShiftTo>, times_ms: &[i64]) -> Vec<(i64, i64)> {
        let span_ms = times_ms.iter().map(|time_ms| time_ms.saturating_sub(times_ms[0])).max().expect("a time");
        let mut pacer = Pacer::new(speed.parse().expect("a speed"), shift, WALL_MS).with_span(span_ms);
        let each = |time_ms: &i64| {
            let Paced { due_wall_ms, event_time_ms } = pacer.pace(*time_ms);
            (due_wall_ms - WALL_MS, event_time_ms)
        };
        times_ms.iter().map(each).collect()
    }

    #[test]
    fn speeds_are_read_as_factors_or_max() {
        assert_eq!("10x".parse(), Ok(Speed::Factor(10.0)));
        assert_eq!("0.5x".parse(), Ok(Speed::Factor(0.5)));
        assert_eq!("3".parse(), Ok(Speed::Factor(3.0)));
        assert_eq!("max".parse(), Ok(Speed::Max));
        for text in ["", "x", "0x", "-1x", "NaNx", "infx", "fast", "1e10x", "10 x"] {
            let error = text.parse::<Speed>().expect_err(text).to_string();
            assert!(error.contains(&format!("`{text}`")) && error.contains("10x"), "{error}");
        }
    }

    #[test]
    fn shifts_are_read_as_now_or_a_time() {
        assert_eq!("now".parse(), Ok(ShiftTo::Now));
        assert_eq!("2014-07-01".parse(), Ok(ShiftTo::At(1_404_172_800_000)));
        assert!("later".parse::<ShiftTo>().is_err());
    }

    #[test]
    fn at_10x_an_hour_takes_six_minutes() {
        assert_eq!(paced("10x", None, &[5000, 5000 + 3_600_000]), [(0, 5000), (360_000, 5000 + 3_600_000)]);
    }

    #[test]
    fn at_max_everything_is_due_at_once() {
        assert_eq!(paced("max", None, &[0, i64::MAX]), [(0, 0), (0, i64::MAX)]);
    }

    #[test]
    fn a_shift_moves_the_first_record_and_keeps_the_distances() {
        assert_eq!(paced("1x", Some(ShiftTo::At(7)), &[100, 400]), [(0, 7), (300, 307)]);
    }

    #[test]
    fn a_shift_to_now_gives_the_newest_record_the_moment_at_which_it_is_due() {
        let now = Some(ShiftTo::Now);
        assert_eq!(paced("1x", now, &[100, 400]), [(0, WALL_MS), (300, WALL_MS + 300)]);
        assert_eq!(paced("2x", now, &[100, 400, 90]), [(0, WALL_MS - 150), (150, WALL_MS + 150), (0, WALL_MS - 160)]);
        assert_eq!(paced("max", now, &[100, 400, 300]), [(0, WALL_MS - 300), (0, WALL_MS), (0, WALL_MS - 100)]);
        assert_eq!(paced("0.5x", now, &[100, 400]), [(0, WALL_MS), (600, WALL_MS + 300)]);
    }

    #[test]
    fn only_a_shift_to_now_above_real_time_needs_the_span_of_the_file() {
        let needs = |speed: &str, shift| Pacer::needs_span(speed.parse().expect("a speed"), shift);
        for (speed, expected) in [("max", true), ("1.5x", true), ("1x", false), ("0.5x", false)] {
            assert_eq!(needs(speed, Some(ShiftTo::Now)), expected, "{speed}");
            assert!(!needs(speed, Some(ShiftTo::At(0))) && !needs(speed, None), "{speed}");
        }
    }

    #[test]
    fn a_record_older_than_the_first_is_due_at_once() {
        assert_eq!(paced("1x", Some(ShiftTo::At(50)), &[100, 40, 160]), [(0, 50), (0, -10), (60, 110)]);
    }

    proptest! {
        #[test]
        fn no_input_overflows_and_no_record_is_due_before_the_start(
            factor in 1e-9f64..1e9, first in any::<i64>(), second in any::<i64>(), to in any::<i64>()
        ) {
            let mut pacer = Pacer::new(Speed::Factor(factor), Some(ShiftTo::At(to)), WALL_MS);
            prop_assert_eq!(pacer.pace(first).event_time_ms, to);
            prop_assert!(pacer.pace(second).due_wall_ms >= WALL_MS);
        }

        #[test]
        fn no_record_of_a_replay_that_is_shifted_to_now_is_ahead_of_the_moment_at_which_it_is_due(
            factor in 0.01f64..1e6, times_ms in proptest::collection::vec(0..1_000_000_000_000_i64, 1..20)
        ) {
            let span_ms = times_ms.iter().map(|time_ms| time_ms - times_ms[0]).max().expect("a time");
            let mut pacer = Pacer::new(Speed::Factor(factor), Some(ShiftTo::Now), WALL_MS).with_span(span_ms);
            for time_ms in times_ms {
                let paced = pacer.pace(time_ms);
                // Both are rounded to a millisecond.
                prop_assert!(paced.event_time_ms <= paced.due_wall_ms + 1, "{paced:?}");
            }
        }
    }
}
