//! Fields of a file that no field of the stream takes.

use std::collections::BTreeMap;

/// Most names that are kept.
const MAX_NAMES: usize = 100;

/// Names of fields with the number of records that had them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignored {
    records: BTreeMap<String, u64>,
    further: bool,
}

impl Ignored {
    /// Notes that a record has a field of this name.
    pub(super) fn count(&mut self, name: &str) {
        let has_room = self.records.len() < MAX_NAMES;
        match self.records.get_mut(name) {
            Some(records) => *records += 1,
            None if has_room => {
                self.records.insert(name.to_owned(), 1);
            }
            None => self.further = true,
        }
    }

    /// Dotted names with the number of records that had them; at most 100 names.
    #[must_use]
    pub fn names(&self) -> &BTreeMap<String, u64> {
        &self.records
    }

    /// Whether there were more names than are kept.
    #[must_use]
    pub fn has_further(&self) -> bool {
        self.further
    }
}
