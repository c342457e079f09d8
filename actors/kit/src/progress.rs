//! Standstill: work is pending, nothing is done, and the actor neither has a message in hand nor waits with good reason.
//!
//! A message in hand for too long is seen by `stuck_after`. This is the other way to be dead: a lost wake-up, or a
//! client library that has gone quiet. Found by comparing two counters from outside, never by asking the actor.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

/// How far an actor has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Any number that moves when something is done, such as a position.
    pub done: u64,
    /// How much is left to do, such as a lag.
    pub pending: u64,
}

/// Tells the progress, or none while the actor has a good reason to stand still.
pub(crate) type ProgressProbe = Arc<dyn Fn() -> Option<Progress> + Send + Sync>;

/// Which backlog counts as a failure to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backlog {
    /// One that has grown since the last progress: what was pending then may be nothing to work on, such as the
    /// markers at the end of a log.
    Grown,
    /// Any at all.
    Any,
}

/// What the watchdog remembers of one actor between two looks.
#[derive(Default)]
pub(crate) struct Standstill(Option<Seen>);

struct Seen {
    generation: u64,
    progress: Progress,
    since: Instant,
}

impl Standstill {
    /// For how long nothing was done while there was such a backlog.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        generation: u64,
        (progress, backlog): (Option<Progress>, Backlog),
    ) -> Option<Duration> {
        let Some(progress) = progress else {
            self.0 = None;
            return None;
        };
        match &self.0 {
            Some(seen) if seen.generation == generation && seen.progress.done == progress.done => {
                let floor = if backlog == Backlog::Grown { seen.progress.pending } else { 0 };
                (progress.pending > floor).then(|| now.saturating_duration_since(seen.since))
            }
            _ => {
                self.0 = Some(Seen { generation, progress, since: now });
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn only_a_growing_backlog_without_any_progress_counts() {
        let (mut still, start) = (Standstill::default(), Instant::now());
        let mut look = |s: u32, generation, done, pending| {
            still.look(start + s * S, generation, (Some(Progress { done, pending }), Backlog::Grown))
        };
        assert_eq!(look(0, 1, 10, 1), None);
        assert_eq!(look(9, 1, 10, 1), None, "the end of a log that holds markers only");
        assert_eq!(look(10, 1, 10, 5), Some(10 * S));
        assert_eq!(look(11, 1, 11, 5), None, "it moved");
        assert_eq!(look(20, 1, 11, 6), Some(9 * S));
        assert_eq!(look(21, 2, 11, 7), None, "another incarnation");
    }

    #[test]
    fn a_good_reason_starts_the_time_anew() {
        let (mut still, start) = (Standstill::default(), Instant::now());
        let more = |pending| (Some(Progress { done: 1, pending }), Backlog::Grown);
        assert_eq!(still.look(start, 1, more(0)), None);
        assert_eq!(still.look(start + 30 * S, 1, (None, Backlog::Grown)), None);
        assert_eq!(still.look(start + 60 * S, 1, more(5)), None);
        assert_eq!(still.look(start + 61 * S, 1, more(6)), Some(S));
    }

    #[test]
    fn messages_that_wait_are_a_backlog_from_the_first_on() {
        let (mut still, start) = (Standstill::default(), Instant::now());
        let waiting = |pending| (Some(Progress { done: 1, pending }), Backlog::Any);
        assert_eq!(still.look(start, 1, waiting(2)), None);
        assert_eq!(still.look(start + S, 1, waiting(2)), Some(S));
        assert_eq!(still.look(start + 2 * S, 1, waiting(0)), None);
    }
}
