//! Writer schemas by their registry id: compiled plans, unreadable ones, and ids that the registry does not know.
//!
//! Both caches are bounded and forget their oldest entry first; a forgotten id is asked for again. Schemas that a batch
//! needs stay until it is decoded, however many they are.

use std::collections::{BTreeMap, HashSet, VecDeque};

use super::avro::Plan;

/// Most writer schemas kept beside those of the batch in hand.
pub const MAX_WRITER_SCHEMAS: usize = 1024;
/// Most ids kept that the registry does not know.
pub const MAX_MISSING_IDS: usize = 4096;

/// What is known of a schema id.
#[derive(Debug)]
pub(super) enum Writer {
    Plan(Plan),
    /// Registered, but its data cannot be read; why.
    Unreadable(String),
    /// The registry does not know it.
    Missing,
}

#[derive(Debug, Default)]
pub(super) struct Writers {
    /// Streams have a handful of schemas: an ordered map finds those faster than hashing does.
    by_id: BTreeMap<u32, Writer>,
    schema_ids: VecDeque<u32>,
    missing_ids: VecDeque<u32>,
}

impl Writers {
    pub fn get(&self, id: u32) -> Option<&Writer> {
        self.by_id.get(&id)
    }

    pub fn insert(&mut self, id: u32, writer: Writer) {
        if self.by_id.contains_key(&id) {
            self.schema_ids.retain(|known| *known != id);
            self.missing_ids.retain(|known| *known != id);
        }
        let is_missing = matches!(writer, Writer::Missing);
        self.by_id.insert(id, writer);
        if !is_missing {
            self.schema_ids.push_back(id);
            return;
        }
        self.missing_ids.push_back(id);
        if self.missing_ids.len() > MAX_MISSING_IDS
            && let Some(oldest) = self.missing_ids.pop_front()
        {
            self.by_id.remove(&oldest);
        }
    }

    /// Whether more schemas are kept than need be.
    pub fn has_too_many(&self) -> bool {
        self.schema_ids.len() > MAX_WRITER_SCHEMAS
    }

    /// Forgets the oldest schemas that are too many, except those of these ids.
    pub fn forget_oldest(&mut self, except: &HashSet<u32>) {
        let mut too_many = self.schema_ids.len().saturating_sub(MAX_WRITER_SCHEMAS);
        let by_id = &mut self.by_id;
        self.schema_ids.retain(|id| {
            let goes = too_many > 0 && !except.contains(id);
            if goes {
                too_many -= 1;
                by_id.remove(id);
            }
            !goes
        });
    }

    pub fn forget_missing(&mut self) {
        for id in self.missing_ids.drain(..) {
            self.by_id.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_missing_id_is_forgotten_first() {
        let mut writers = Writers::default();
        let count = u32::try_from(MAX_MISSING_IDS).unwrap();
        for id in 0..=count {
            writers.insert(id, Writer::Missing);
        }
        assert!(writers.get(0).is_none());
        assert!(writers.get(1).is_some() && writers.get(count).is_some());
    }

    #[test]
    fn the_oldest_schemas_are_forgotten_first_except_those_in_use() {
        let mut writers = Writers::default();
        let count = u32::try_from(MAX_WRITER_SCHEMAS).unwrap() + 2;
        for id in 0..count {
            writers.insert(id, Writer::Unreadable(String::new()));
        }
        assert!(writers.has_too_many());
        writers.forget_oldest(&HashSet::from([0, 2]));
        assert!(!writers.has_too_many());
        let kept = (0..count).filter(|id| writers.get(*id).is_some());
        assert_eq!(kept.collect::<Vec<_>>(), [vec![0, 2], (4..count).collect()].concat());
    }

    #[test]
    fn a_missing_id_that_becomes_known_survives_forgetting() {
        let mut writers = Writers::default();
        writers.insert(1, Writer::Missing);
        writers.insert(2, Writer::Missing);
        writers.insert(1, Writer::Unreadable(String::new()));
        writers.forget_missing();
        assert!(matches!(writers.get(1), Some(Writer::Unreadable(_))));
        assert!(writers.get(2).is_none());
    }
}
