//! What was decided of records that storage has the effects of already.
//!
//! A process that ends between two checkpoints is followed by one that reads the log again from the older one, to rebuild
//! its state. What became of each record was decided then, and partly by what is not in the log: what a registry knew, what
//! a clock said, a limit, a step that panicked. Storage keeps the decisions that made a record count nowhere, and replay
//! takes them as they are.

use std::ops::Range;

/// What is known of a part of the log; everything in it that is not listed was taken and counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decisions {
    known: Range<i64>,
    dead: Vec<Range<i64>>,
    ahead: Vec<Range<i64>>,
}

impl Decisions {
    /// Decisions on the offsets `known`: which of them became dead letters without having been processed, and which are too
    /// far ahead of their log timestamp; both ascend.
    #[must_use]
    pub fn new(known: Range<i64>, dead: Vec<Range<i64>>, ahead: Vec<Range<i64>>) -> Self {
        Self { known, dead, ahead }
    }

    /// The offsets that were decided on.
    #[must_use]
    pub fn known(&self) -> Range<i64> {
        self.known.clone()
    }

    /// Whether a record was ahead; none where nothing is known of it.
    pub(super) fn is_ahead(&self, offset: i64) -> Option<bool> {
        self.known.contains(&offset).then(|| contain(&self.ahead, offset))
    }

    /// Whether a record is a dead letter; none where nothing is known of it.
    #[must_use]
    pub fn is_dead(&self, offset: i64) -> Option<bool> {
        self.known.contains(&offset).then(|| contain(&self.dead, offset))
    }
}

fn contain(ranges: &[Range<i64>], offset: i64) -> bool {
    let next = ranges.partition_point(|range| range.end <= offset);
    ranges.get(next).is_some_and(|range| range.contains(&offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_is_told_and_what_is_not_listed_was_taken() {
        let decisions = Decisions::new(10..20, vec![10..11, 11..12, 14..15], vec![12..14, 19..20]);
        let told = |offset| (decisions.is_dead(offset), decisions.is_ahead(offset));
        for (offset, dead, ahead) in [(10, true, false), (11, true, false), (12, false, true), (15, false, false)] {
            assert_eq!(told(offset), (Some(dead), Some(ahead)), "{offset}");
        }
        assert_eq!((told(14), told(19)), ((Some(true), Some(false)), (Some(false), Some(true))));
        assert_eq!((told(9), told(20)), ((None, None), (None, None)));
        assert_eq!(Decisions::default().is_dead(0), None);
    }
}
