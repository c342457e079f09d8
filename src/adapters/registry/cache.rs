//! What a registry has answered for ids. Both parts are bounded and forget their oldest entry first.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

/// Most schemas kept.
pub const MAX_KNOWN: usize = 1_024;
/// Most ids kept that the registry does not know.
pub const MAX_MISSING: usize = 4_096;
/// How long an id that the registry does not know is not asked for again.
pub const MISSING_FOR: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub struct Cache {
    known: BTreeMap<u32, Arc<str>>,
    known_ids: VecDeque<u32>,
    missing: BTreeMap<u32, Instant>,
    missing_ids: VecDeque<u32>,
}

impl Cache {
    /// What is known of an id; none if the registry must be asked.
    pub fn get(&mut self, id: u32, now: Instant) -> Option<Option<Arc<str>>> {
        if let Some(schema) = self.known.get(&id) {
            return Some(Some(Arc::clone(schema)));
        }
        let asked = self.missing.get(&id)?;
        (now.duration_since(*asked) < MISSING_FOR).then_some(None)
    }

    /// Notes an answer.
    pub fn put(&mut self, id: u32, schema: Option<Arc<str>>, now: Instant) {
        match schema {
            Some(schema) => {
                if self.known.insert(id, schema).is_none() {
                    bounded(&mut self.known, &mut self.known_ids, id, MAX_KNOWN);
                }
            }
            None => {
                if self.missing.insert(id, now).is_none() {
                    bounded(&mut self.missing, &mut self.missing_ids, id, MAX_MISSING);
                }
            }
        }
    }
}

fn bounded<T>(entries: &mut BTreeMap<u32, T>, ids: &mut VecDeque<u32>, id: u32, most: usize) {
    ids.push_back(id);
    if ids.len() > most
        && let Some(oldest) = ids.pop_front()
    {
        entries.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_id_is_asked_for_again_after_a_while() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        assert_eq!(cache.get(7, start), None);
        cache.put(7, None, start);
        assert_eq!(cache.get(7, start + MISSING_FOR / 2), Some(None));
        assert_eq!(cache.get(7, start + MISSING_FOR), None);
        cache.put(7, Some("x".into()), start);
        assert_eq!(cache.get(7, start), Some(Some("x".into())));
    }

    #[test]
    fn both_parts_forget_their_oldest_entry_first() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for id in 0..=u32::try_from(MAX_MISSING).unwrap() {
            cache.put(id, None, now);
            cache.put(100_000 + id, Some("x".into()), now);
        }
        assert_eq!((cache.missing.len(), cache.known.len()), (MAX_MISSING, MAX_KNOWN));
        assert_eq!((cache.get(0, now), cache.get(1, now)), (None, Some(None)));
        assert_eq!(cache.get(100_000, now), None);
    }
}
