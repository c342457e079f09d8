//! Reading a segment's file from its start: every batch whole and valid, or the offsets that are lost.
//!
//! Damage ends at the next batch that is whole and fits: at the end that the damaged batch declares where its offsets
//! agree with that, else at the first place where one begins. A batch that a producer wrapped into a record's value is not
//! taken for one of the log, unless the damage also took the length or the offsets of the batch around it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::batch::{BatchHeader, CRC_START, HEADER_BYTES};
use super::records::{Facts, check};

const CHUNK_BYTES: u64 = 1 << 20;
/// A header that tells of a longer batch is damaged: no request carries one.
const MAX_BATCH_BYTES: u64 = 256 << 20;

const LEADER_EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
/// Bytes that searches behind damage may read, as a multiple of the file's: values can be made to look like the start of
/// large batches.
const SEARCH_FACTOR: u64 = 4;

/// Which offsets a segment may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub first: i64,
    /// All offsets are below.
    pub limit: i64,
    pub end: End,
    pub holes: Holes,
    /// What a batch may open to.
    pub max_opened_bytes: usize,
}

/// Whether a whole segment ends right before the limit of its offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Known,
    Open,
}

/// Whether offsets may be missing between batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holes {
    /// As compaction leaves them.
    Possible,
    None,
}

/// What is wrong at a place of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("a header is damaged")]
    Header,
    #[error("a batch is cut short")]
    Cut,
    #[error("a checksum is wrong")]
    Checksum,
    #[error("an offset is wrong")]
    Offset,
    #[error("records are not what their header says")]
    Records,
    #[error("batches are missing")]
    Missing,
}

/// Offsets of which the batches are lost, and the bytes that stand in their place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost {
    pub at: u64,
    pub bytes: u64,
    pub first: i64,
    /// Offset of the next batch.
    pub upto: i64,
    pub flaw: Flaw,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// In ascending order.
    pub lost: Vec<Lost>,
    /// Bytes up to the end of the last valid batch.
    pub size: u64,
    /// Offset behind it.
    pub next_offset: i64,
    /// What is wrong with the bytes behind it, if there are any.
    pub tail: Option<Flaw>,
}

/// Has `visit` look at each valid batch.
///
/// # Errors
/// What the file system says.
pub(crate) fn scan(
    file: &File,
    file_bytes: u64,
    bounds: Bounds,
    mut visit: impl FnMut(&BatchHeader, &[u8], &Facts),
) -> io::Result<Scanned> {
    let mut reader = Reader { file, file_bytes, bounds, start: 0, window: Vec::new(), search_left: 0 };
    reader.search_left = file_bytes.saturating_mul(SEARCH_FACTOR).max(CHUNK_BYTES);
    let mut scanned = Scanned { lost: Vec::new(), size: 0, next_offset: bounds.first, tail: None };
    while scanned.size < file_bytes {
        let (at, expected) = (scanned.size, scanned.next_offset);
        match reader.judge(at, expected)? {
            Ok((header, facts)) => {
                visit(&header, reader.bytes(at, header.total_bytes as u64)?, &facts);
                scanned.size = at + header.total_bytes as u64;
                scanned.next_offset = header.last_offset() + 1;
            }
            Err(flaw) => {
                let resumed = match flaw {
                    // The checksum vouches for the length and the number of offsets.
                    Flaw::Records => reader.behind(at)?,
                    Flaw::Header | Flaw::Cut | Flaw::Checksum | Flaw::Offset | Flaw::Missing => {
                        reader.resume(at, expected)?
                    }
                };
                let Some((next, upto)) = resumed else {
                    scanned.tail = Some(flaw);
                    break;
                };
                scanned.lost.push(Lost { at, bytes: next - at, first: expected, upto, flaw });
                (scanned.size, scanned.next_offset) = (next, upto);
            }
        }
    }
    Ok(scanned)
}

struct Reader<'a> {
    file: &'a File,
    file_bytes: u64,
    bounds: Bounds,
    /// Place in the file of the part that is in memory.
    start: u64,
    window: Vec<u8>,
    /// Bytes of batches that the search behind damage may still read.
    search_left: u64,
}

impl Reader<'_> {
    /// The batch at a place, if it is whole, valid and the next one.
    fn judge(&mut self, at: u64, expected: i64) -> io::Result<Result<(BatchHeader, Facts), Flaw>> {
        let header = match self.whole(at)? {
            Ok(header) => header,
            Err(flaw) => return Ok(Err(flaw)),
        };
        if !self.fits(&header, at, expected)? {
            return Ok(Err(Flaw::Offset));
        }
        let max_opened_bytes = self.bounds.max_opened_bytes;
        let batch = self.bytes(at, header.total_bytes as u64)?;
        let facts = check(&header, batch, max_opened_bytes).map_err(|_| Flaw::Records);
        Ok(facts.map(|facts| (header, facts)))
    }

    /// The header of the batch at a place, if its bytes are there and have the right checksum.
    fn whole(&mut self, at: u64) -> io::Result<Result<BatchHeader, Flaw>> {
        let left = self.file_bytes - at;
        if left < HEADER_BYTES as u64 {
            return Ok(Err(Flaw::Cut));
        }
        let Some(header) = self.header(at)? else {
            return Ok(Err(Flaw::Header));
        };
        let bytes = header.total_bytes as u64;
        if bytes > left {
            // Where the rest of the file has the checksum, it is the length that is damaged.
            let is_whole = left <= MAX_BATCH_BYTES && crc32c::crc32c(&self.bytes(at, left)?[CRC_START..]) == header.crc;
            return Ok(Err(if is_whole { Flaw::Header } else { Flaw::Cut }));
        }
        let crc = crc32c::crc32c(&self.bytes(at, bytes)?[CRC_START..]);
        Ok(if crc == header.crc { Ok(header) } else { Err(Flaw::Checksum) })
    }

    /// A header that may be one of this log.
    fn header(&mut self, at: u64) -> io::Result<Option<BatchHeader>> {
        if self.file_bytes.saturating_sub(at) < HEADER_BYTES as u64 {
            return Ok(None);
        }
        let start = self.bytes(at, HEADER_BYTES as u64)?;
        // No checksum covers the leader's epoch, which this broker writes as 0.
        let header = BatchHeader::parse(start).filter(|_| start[LEADER_EPOCH_AT..MAGIC_AT] == [0; 4]);
        let is_possible = |header: &BatchHeader| {
            header.magic == 2 && header.last_offset_delta >= 0 && header.total_bytes as u64 <= MAX_BATCH_BYTES
        };
        Ok(header.filter(is_possible))
    }

    /// Whether a batch may follow the offsets before it. The checksum does not cover its offset; where there may be holes,
    /// one that is too large is known by the batch behind it.
    fn fits(&mut self, header: &BatchHeader, at: u64, expected: i64) -> io::Result<bool> {
        let last = header.base_offset.checked_add(i64::from(header.last_offset_delta));
        let is_inside = header.base_offset >= expected && last.is_some_and(|last| last < self.bounds.limit);
        if !is_inside || (self.bounds.holes == Holes::None && header.base_offset != expected) {
            return Ok(false);
        }
        if header.base_offset == expected {
            return Ok(true);
        }
        self.is_followed(header, at)
    }

    /// Whether what comes behind a batch agrees with its offset.
    fn is_followed(&mut self, header: &BatchHeader, at: u64) -> io::Result<bool> {
        let (behind, next_offset) = (at + header.total_bytes as u64, header.last_offset() + 1);
        if self.bounds.holes == Holes::Possible {
            let next = if behind < self.file_bytes { self.whole(behind)?.ok() } else { None };
            return Ok(next.is_none_or(|next| next.base_offset >= next_offset));
        }
        if behind == self.file_bytes {
            return Ok(self.bounds.end != End::Known || next_offset == self.bounds.limit);
        }
        Ok(self.header(behind)?.is_some_and(|next| next.base_offset == next_offset))
    }

    /// The end of the batch at a place, and the offset behind it.
    fn behind(&mut self, at: u64) -> io::Result<Option<(u64, i64)>> {
        let header = self.header(at)?;
        Ok(header.map(|header| (at + header.total_bytes as u64, header.last_offset() + 1)))
    }

    /// The first place behind damage where a valid batch begins, and its offset.
    fn resume(&mut self, at: u64, expected: i64) -> io::Result<Option<(u64, i64)>> {
        let mut place = at + 1;
        if let Some(header) = self.header(at)? {
            let declared = at + header.total_bytes as u64;
            // Length and offsets agree with what follows, so it is the records that are damaged.
            let behind = expected.saturating_add(i64::from(header.last_offset_delta) + 1);
            if self.starts_at(declared, expected)? == Some(behind) {
                return Ok(Some((declared, behind)));
            }
            if self.whole(at)?.is_ok() {
                place = declared;
            }
        }
        while place + HEADER_BYTES as u64 <= self.file_bytes {
            if let Some(offset) = self.starts_at(place, expected)? {
                return Ok(Some((place, offset)));
            }
            place += 1;
        }
        Ok(None)
    }

    fn starts_at(&mut self, at: u64, expected: i64) -> io::Result<Option<i64>> {
        if at.saturating_add(HEADER_BYTES as u64) > self.file_bytes {
            return Ok(None);
        }
        // Cheap signs first, as this is asked of every byte behind damage.
        let start = self.bytes(at, HEADER_BYTES as u64)?;
        if start[MAGIC_AT] != 2 || start[LEADER_EPOCH_AT..MAGIC_AT] != [0; 4] {
            return Ok(None);
        }
        let Some(header) = self.header(at)?.filter(|header| {
            let last = header.base_offset.checked_add(i64::from(header.last_offset_delta));
            header.base_offset >= expected && last.is_some_and(|last| last < self.bounds.limit)
        }) else {
            return Ok(None);
        };
        let bytes = header.total_bytes as u64;
        if bytes > self.file_bytes - at || bytes > self.search_left {
            return Ok(None);
        }
        self.search_left -= bytes;
        let is_one = self.whole(at)?.is_ok() && self.is_followed(&header, at)?;
        Ok(is_one.then_some(header.base_offset))
    }

    /// Bytes of the file, which has them.
    fn bytes(&mut self, at: u64, length: u64) -> io::Result<&[u8]> {
        let end = at + length;
        if at < self.start || end > self.start + self.window.len() as u64 {
            let fill = CHUNK_BYTES.max(length).min(self.file_bytes - at);
            let fill = usize::try_from(fill).map_err(|_| io::ErrorKind::OutOfMemory)?;
            self.window.resize(fill, 0);
            self.window.shrink_to(2 * fill);
            self.file.read_exact_at(&mut self.window, at)?;
            self.start = at;
        }
        let from = usize::try_from(at - self.start).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
        self.window.get(from..from + length).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}
