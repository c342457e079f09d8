//! The sliding window of charged restarts.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::policy::Intensity;

#[derive(Debug, Default)]
pub(super) struct RestartWindow {
    charged: VecDeque<Instant>,
}

impl RestartWindow {
    /// Charges one restart, or refuses it if the window is full.
    pub(super) fn charge(&mut self, now: Instant, intensity: Intensity) -> bool {
        while self.charged.front().is_some_and(|at| now.saturating_duration_since(*at) > intensity.within) {
            self.charged.pop_front();
        }
        if self.charged.len() >= intensity.max_restarts as usize {
            return false;
        }
        self.charged.push_back(now);
        true
    }

    pub(super) fn count(&self, now: Instant, within: Duration) -> usize {
        self.charged.iter().filter(|at| now.saturating_duration_since(**at) <= within).count()
    }

    pub(super) fn clear(&mut self) {
        self.charged.clear();
    }
}
