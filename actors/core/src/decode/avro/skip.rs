//! Passing over values that the stream does not have, whatever their type.
//!
//! Writer types may be recursive, so programs refer to each other by number, and what is open while a value is passed over
//! is kept in a list that the caller lends, not on the stack of the thread: a list of records may be as long as its bytes
//! allow. The number of values and of open ones is bounded by the bytes that are left: an array of nulls takes no bytes for
//! its items, so a length alone could keep a reader busy for ever. Blocks of arrays and maps that state their size in bytes
//! are passed over in one go. What is skipped is not validated beyond that (no UTF-8 check).

use super::cursor::{Cursor, WireFault};

/// Values that may be skipped in one field whatever its size ...
const BASE_STEPS: usize = 4096;
/// ... and for each byte that is left of the record.
const STEPS_PER_BYTE: usize = 16;
/// Values that may be open in one field whatever its size ...
const BASE_OPEN: usize = 4096;
/// ... and for each byte that is left of the record.
const OPEN_PER_BYTE: usize = 2;

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

/// A value that is open while its parts are passed over.
#[derive(Debug)]
pub(in crate::decode) enum Frame {
    /// A record, and its next field.
    Fields(SkipId, usize),
    /// An array, or a map, whose items have a key in front; `left` are the items that are left of the block.
    Items { item: SkipId, has_key: bool, left: u64 },
}

impl Skips {
    /// Passes over one value. `open` is empty before and after, unless the bytes are at fault.
    pub fn skip(&self, id: SkipId, cursor: &mut Cursor<'_>, open: &mut Vec<Frame>) -> Result<(), WireFault> {
        open.clear();
        let bytes = cursor.remaining();
        let mut steps_left = STEPS_PER_BYTE.saturating_mul(bytes).saturating_add(BASE_STEPS);
        let most_open = OPEN_PER_BYTE.saturating_mul(bytes).saturating_add(BASE_OPEN);
        let mut next = Some(id);
        while let Some(id) = next {
            steps_left = steps_left.checked_sub(1).ok_or(WireFault::TooManyItems)?;
            next = match self.enter(id, cursor, open)? {
                Some(part) => Some(part),
                None => self.resume(cursor, open)?,
            };
            if open.len() > most_open {
                return Err(WireFault::TooDeep);
            }
        }
        Ok(())
    }

    /// Passes over a value without parts; opens one with parts, or answers the only one.
    fn enter(&self, id: SkipId, cursor: &mut Cursor<'_>, open: &mut Vec<Frame>) -> Result<Option<SkipId>, WireFault> {
        match &self.programs[id] {
            Skip::Nothing => {}
            Skip::Varint => drop(cursor.long()?),
            Skip::Prefixed => drop(cursor.bytes()?),
            Skip::Fixed(size) => drop(cursor.take(*size)?),
            Skip::Union(branches) => {
                return Ok(Some(branches[cursor.index(branches.len(), WireFault::NoSuchBranch)?]));
            }
            Skip::Record(_) => open.push(Frame::Fields(id, 0)),
            Skip::Array(item) => open.push(Frame::Items { item: *item, has_key: false, left: 0 }),
            Skip::Map(item) => open.push(Frame::Items { item: *item, has_key: true, left: 0 }),
        }
        Ok(None)
    }

    /// The next part of what is open; none once nothing is.
    fn resume(&self, cursor: &mut Cursor<'_>, open: &mut Vec<Frame>) -> Result<Option<SkipId>, WireFault> {
        while let Some(frame) = open.last_mut() {
            match frame {
                Frame::Fields(id, at) => {
                    let Skip::Record(fields) = &self.programs[*id] else { return Ok(None) };
                    let (field, is_last) = (fields.get(*at).copied(), *at + 1 >= fields.len());
                    *at += 1;
                    // A record whose last field is passed over is not waited for: a list needs no more room than its head.
                    if is_last {
                        open.pop();
                    }
                    if field.is_some() {
                        return Ok(field);
                    }
                }
                Frame::Items { item, has_key, left } => {
                    if *left == 0 {
                        *left = block(cursor)?;
                    }
                    if *left == 0 {
                        open.pop();
                        continue;
                    }
                    *left -= 1;
                    if *has_key {
                        cursor.bytes()?;
                    }
                    return Ok(Some(*item));
                }
            }
        }
        Ok(None)
    }
}

/// Items of the next block that does not state its bytes; 0 at the end.
fn block(cursor: &mut Cursor<'_>) -> Result<u64, WireFault> {
    loop {
        let count = cursor.long()?;
        if count >= 0 {
            return Ok(count.unsigned_abs());
        }
        let bytes = usize::try_from(cursor.long()?).map_err(|_| WireFault::NegativeLength)?;
        cursor.take(bytes)?;
    }
}
