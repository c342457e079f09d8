//! The sliding window of charged restarts.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::ChildKey;
use crate::policy::Intensity;

#[derive(Debug, Default)]
pub(super) struct RestartWindow {
    charged: VecDeque<(Instant, ChildKey)>,
}

impl RestartWindow {
    /// Charges one restart, or refuses it if the window is full.
    pub(super) fn charge(&mut self, now: Instant, child: ChildKey, intensity: Intensity) -> bool {
        while self.charged.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > intensity.within) {
            self.charged.pop_front();
        }
        if self.charged.len() >= intensity.max_restarts as usize {
            return false;
        }
        self.charged.push_back((now, child));
        true
    }

    /// Whose restarts were charged within the window that ends now.
    pub(super) fn charged(&self, now: Instant, within: Duration) -> impl Iterator<Item = ChildKey> {
        let is_recent = move |at: Instant| now.saturating_duration_since(at) <= within;
        self.charged.iter().filter(move |(at, _)| is_recent(*at)).map(|(_, child)| *child)
    }

    pub(super) fn clear(&mut self) {
        self.charged.clear();
    }
}
