//! The newest offset of each key in the part of a log that no pass has seen.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::AtomicBool;

use super::{AbortedIndex, CompactionError, Source, is_stopped};
use crate::log::records::{Records, open};
use crate::log::segment::Batches;

/// Keys that one pass remembers (about 13 MiB); the next pass goes on where they were too many.
const MAX_KEYS: usize = 250_000;

/// Keys by two hashes of 64 bits with secret seeds, so that nobody can make two keys meet.
#[derive(Debug)]
pub(super) struct KeyMap {
    seeds: [RandomState; 2],
    newest: HashMap<(u64, u64), i64>,
    upto: i64,
}

impl KeyMap {
    /// Reads the segments from an offset on, until there are too many keys.
    ///
    /// # Errors
    /// A damaged batch, or what the file system says.
    pub fn of(
        sources: &[Source],
        from: i64,
        aborted: &AbortedIndex,
        stop: &AtomicBool,
    ) -> Result<Self, CompactionError> {
        let mut map = Self { seeds: [RandomState::new(), RandomState::new()], newest: HashMap::new(), upto: from };
        for source in sources.iter().filter(|s| s.next_offset > from) {
            let mut batches = Batches::new(&source.file, source.size);
            while let Some((header, batch)) = batches.next()? {
                let count = usize::try_from(header.record_count).unwrap_or(0);
                let is_full = !map.newest.is_empty() && map.newest.len() + count > MAX_KEYS;
                if is_full || is_stopped(stop) {
                    return Ok(map);
                }
                let is_seen = header.last_offset() < from;
                if is_seen || header.is_control() || aborted.holds(header.producer_id, header.base_offset) {
                    continue;
                }
                let opened = open(&header, batch).map_err(|_| CompactionError::Damaged(header.base_offset))?;
                for record in Records::of(&header, &opened) {
                    let record = record.map_err(|_| CompactionError::Damaged(header.base_offset))?;
                    if let Some(key) = record.key {
                        map.note(key, header.base_offset + record.offset_delta);
                    }
                }
                map.upto = header.last_offset() + 1;
            }
            map.upto = source.next_offset;
        }
        Ok(map)
    }

    /// Offset below which all keys are known.
    pub fn upto(&self) -> i64 {
        self.upto
    }

    /// Whether a later record has the key.
    pub fn is_superseded(&self, key: &[u8], offset: i64) -> bool {
        self.newest.get(&self.hash(key)).is_some_and(|newest| *newest > offset)
    }

    fn note(&mut self, key: &[u8], offset: i64) {
        let hash = self.hash(key);
        self.newest.insert(hash, offset);
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        let [first, second] = &self.seeds;
        (first.hash_one(key), second.hash_one(key))
    }
}
