//! Writer schemas by their registry id: compiled plans, unreadable ones, and ids that the registry does not know.
//!
//! Both caches are bounded and forget their oldest entry first; a forgotten id is asked for again.

use std::collections::{BTreeMap, VecDeque};

use super::avro::Plan;

/// Most writer schemas kept.
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
        let (ids, limit) = match writer {
            Writer::Plan(_) | Writer::Unreadable(_) => (&mut self.schema_ids, MAX_WRITER_SCHEMAS),
            Writer::Missing => (&mut self.missing_ids, MAX_MISSING_IDS),
        };
        self.by_id.insert(id, writer);
        ids.push_back(id);
        if ids.len() > limit
            && let Some(oldest) = ids.pop_front()
        {
            self.by_id.remove(&oldest);
        }
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
