//! Which keys were stored in which minute: a key's newest event time is kept to the minute and written when it moves.

use std::{collections::HashMap, sync::Arc};

/// Keys remembered; beyond them the memory starts afresh and keys are written once more.
const MAX_KEYS: usize = 200_000;

/// Milliseconds in a minute.
const MINUTE_MS: i64 = 60_000;

/// Newest stored minute by stream and key, and what the open transaction adds.
#[derive(Debug, Default)]
pub struct SeenKeys {
    stored: HashMap<Arc<str>, HashMap<String, i64>>,
    added: Vec<(Arc<str>, String, i64)>,
}

impl SeenKeys {
    /// The minute to store for a key, or none if it is stored already. Counts as stored when the transaction commits.
    pub fn advance(&mut self, stream: &Arc<str>, key: &str, last_seen_ms: i64) -> Option<i64> {
        let minute = last_seen_ms.div_euclid(MINUTE_MS) * MINUTE_MS;
        let known = self.stored.get(stream).and_then(|keys| keys.get(key));
        if known.is_some_and(|known| *known >= minute) {
            return None;
        }
        self.added.push((stream.clone(), key.to_owned(), minute));
        Some(minute)
    }

    /// The transaction has committed.
    pub fn keep(&mut self) {
        for (stream, key, minute) in self.added.drain(..) {
            let keys = self.stored.entry(stream).or_default();
            if keys.len() >= MAX_KEYS {
                keys.clear();
            }
            keys.insert(key, minute);
        }
    }

    /// The transaction was rolled back, or has just begun.
    pub fn forget(&mut self) {
        self.added.clear();
    }

    /// What the transaction has added so far, for [`SeenKeys::back_to`].
    pub fn mark(&self) -> usize {
        self.added.len()
    }

    /// The transaction was rolled back as far as a mark.
    pub fn back_to(&mut self, mark: usize) {
        self.added.truncate(mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_once_a_minute() {
        let (mut seen, stream) = (SeenKeys::default(), Arc::from("sensors"));
        assert_eq!(seen.advance(&stream, "a", 61_000), Some(60_000));
        seen.keep();
        assert_eq!(seen.advance(&stream, "a", 119_999), None);
        assert_eq!(seen.advance(&stream, "a", 120_000), Some(120_000));
    }

    #[test]
    fn what_was_rolled_back_is_written_again() {
        let (mut seen, stream) = (SeenKeys::default(), Arc::from("sensors"));
        seen.advance(&stream, "whole", 61_000);
        seen.forget();
        seen.advance(&stream, "kept", 61_000);
        let mark = seen.mark();
        seen.advance(&stream, "part", 61_000);
        seen.back_to(mark);
        seen.keep();
        let again = ["whole", "kept", "part"].map(|key| seen.advance(&stream, key, 61_000));
        assert_eq!(again, [Some(60_000), None, Some(60_000)]);
    }
}
