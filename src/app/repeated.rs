//! Lines of the log that would come again and again: at each change, and then at growing intervals.

use std::time::Duration;

use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// What was said last, and until when it is not said again.
#[derive(Debug, Default)]
pub struct Repeated {
    last: Option<(String, Instant, Duration)>,
}

impl Repeated {
    /// Whether these words are to be written now.
    pub fn is_due(&mut self, words: &str, now: Instant) -> bool {
        let pause = match &self.last {
            Some((said, until, _)) if said == words && now < *until => return false,
            Some((said, _, pause)) if said == words => (*pause * 2).min(LONGEST_PAUSE),
            _ => FIRST_PAUSE,
        };
        self.last = Some((words.to_owned(), now + pause, pause));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds at which words are written that are said twice a second.
    fn written(words: impl Fn(u64) -> &'static str) -> Vec<u64> {
        let (mut repeated, start) = (Repeated::default(), Instant::now());
        let half_seconds = (0..2 * 1_500).filter(|half| {
            let now = start + Duration::from_millis(half * 500);
            repeated.is_due(words(half / 2), now)
        });
        half_seconds.map(|half| half / 2).collect()
    }

    #[test]
    fn the_same_words_are_written_at_growing_intervals() {
        assert_eq!(written(|_| "away"), [0, 2, 6, 14, 30, 62, 126, 254, 510, 810, 1_110, 1_410]);
    }

    #[test]
    fn other_words_are_written_at_once() {
        let words = |second| if second < 5 { "away" } else { "refused" };
        assert_eq!(written(words)[..5], [0, 2, 5, 7, 11]);
    }
}
