//! Passing over values that the stream does not have, whatever their type.
//!
//! Writer types may be recursive, so programs refer to each other by number. Depth and the number of values passed
//! over are bounded: an array of nulls takes no bytes for its items, so a length alone could keep a reader busy for
//! ever. Blocks of arrays and maps that state their size in bytes are passed over in one go. What is skipped is not
//! validated beyond that (no UTF-8 check).

use super::cursor::{Cursor, WireFault};

/// Deepest nesting that is skipped.
const MAX_DEPTH: u32 = 64;
/// Values that may be skipped in one field whatever its size ...
const BASE_STEPS: usize = 4096;
/// ... and for each byte that is left of the record.
const STEPS_PER_BYTE: usize = 16;

/// Number of a program in [`Skips`].
pub(super) type SkipId = usize;

/// How to pass over one type.
#[derive(Debug, Clone)]
pub(super) enum Skip {
    Nothing,
    Varint,
    /// A length and as many bytes.
    Prefixed,
    Fixed(usize),
    Array(SkipId),
    Map(SkipId),
    Union(Vec<SkipId>),
    Record(Vec<SkipId>),
}

/// All skip programs of a plan.
#[derive(Debug, Default)]
pub(super) struct Skips {
    pub programs: Vec<Skip>,
}

impl Skips {
    pub fn skip(&self, id: SkipId, cursor: &mut Cursor<'_>) -> Result<(), WireFault> {
        let steps_left = STEPS_PER_BYTE.saturating_mul(cursor.remaining()).saturating_add(BASE_STEPS);
        Run { skips: self, steps_left, depth: 0 }.skip(id, cursor)
    }
}

struct Run<'s> {
    skips: &'s Skips,
    steps_left: usize,
    depth: u32,
}

impl Run<'_> {
    fn skip(&mut self, id: SkipId, cursor: &mut Cursor<'_>) -> Result<(), WireFault> {
        self.steps_left = self.steps_left.checked_sub(1).ok_or(WireFault::TooManyItems)?;
        if self.depth == MAX_DEPTH {
            return Err(WireFault::TooDeep);
        }
        self.depth += 1;
        self.enter(id, cursor)?;
        self.depth -= 1;
        Ok(())
    }

    fn enter(&mut self, id: SkipId, cursor: &mut Cursor<'_>) -> Result<(), WireFault> {
        match &self.skips.programs[id] {
            Skip::Nothing => Ok(()),
            Skip::Varint => cursor.long().map(drop),
            Skip::Prefixed => cursor.bytes().map(drop),
            Skip::Fixed(size) => cursor.take(*size).map(drop),
            Skip::Array(item) => self.blocks(&[*item], cursor),
            Skip::Map(value) => self.blocks(&[KEY, *value], cursor),
            Skip::Union(branches) => {
                let branch = cursor.index(branches.len(), WireFault::NoSuchBranch)?;
                self.skip(branches[branch], cursor)
            }
            Skip::Record(fields) => fields.iter().try_for_each(|field| self.skip(*field, cursor)),
        }
    }

    /// Blocks of items up to the empty one; an item consists of `parts`.
    fn blocks(&mut self, parts: &[SkipId], cursor: &mut Cursor<'_>) -> Result<(), WireFault> {
        loop {
            let count = cursor.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                let bytes = usize::try_from(cursor.long()?).map_err(|_| WireFault::NegativeLength)?;
                cursor.take(bytes)?;
                continue;
            }
            for _ in 0..count {
                parts.iter().try_for_each(|part| self.skip(*part, cursor))?;
            }
        }
    }
}

/// Program 0 of every plan: a map's key.
pub(super) const KEY: SkipId = 0;
