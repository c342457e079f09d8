//! What the group was told of the positions.

use std::time::{Duration, Instant};

/// How often the group is told positions that have not moved: what it was told may not have reached it.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// The positions that the group was told last.
#[derive(Debug, Default)]
pub(super) struct Told {
    positions: Vec<(i32, i64)>,
    at: Option<Instant>,
}

impl Told {
    /// Whether the group is to be told these; they count as told then.
    pub fn are_news(&mut self, positions: &[(i32, i64)], now: Instant) -> bool {
        let is_fresh = self.at.is_some_and(|at| now.saturating_duration_since(at) < TELL_AGAIN);
        if positions.is_empty() || (is_fresh && self.positions == positions) {
            return false;
        }
        (self.positions, self.at) = (positions.to_vec(), Some(now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_told_positions_that_moved_and_after_a_while_the_others() {
        let (mut told, start) = (Told::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert!(!told.are_news(&[], start), "there are none");
        let asked = [(&[(0, 5), (1, 7)], 0), (&[(0, 5), (1, 7)], 1), (&[(0, 5), (1, 8)], 2), (&[(0, 5), (1, 8)], 11)];
        let news = asked.map(|(positions, at_s)| told.are_news(positions, start + at_s * second));
        assert_eq!(news, [true, false, true, false]);
        assert!(told.are_news(&[(0, 5), (1, 8)], start + 12 * second));
        assert!(!told.are_news(&[(0, 5), (1, 8)], start + 13 * second));
    }
}
