//! One file of a partition's log: whole batches one after the other, named by its first offset.
//!
//! Invariants: `size` counts only complete, checked batches; offsets grow; only the last segment of
//! a log is written to.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use super::batch::{BatchHeader, CRC_START, HEADER_BYTES};
use super::files;
use super::index::{INDEX_INTERVAL_BYTES, SealedSegment, SparseIndex};
use super::producers::AbortedTxn;
use super::slice::FileSlice;

/// Fewer bytes are cheaper to copy than to send from the file.
const SLICE_BYTES: u64 = 16 << 10;

/// A segment and its index.
#[derive(Debug)]
pub(crate) struct Segment {
    pub base: i64,
    pub file: Arc<File>,
    pub size: u64,
    pub index: SparseIndex,
    /// Offset after the last record, at least `base`.
    pub next_offset: i64,
    pub aborted: Vec<AbortedTxn>,
    /// When the first batch was appended, as far as known.
    pub begun_ms: Option<i64>,
    /// When the last batch was appended, as far as known.
    pub written_ms: Option<i64>,
    /// Whether all batches were read or written since the log was opened.
    pub is_checked: bool,
}

/// What a reader wants from a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadRange {
    pub from: i64,
    /// Batches that begin here or later are left out.
    pub upto: i64,
    pub max_bytes: usize,
    /// What the batches may open to together.
    pub max_opened_bytes: u64,
    pub oversized_first: Oversized,
}

/// What a reader gets of a segment.
#[derive(Debug)]
pub(crate) struct ReadBatches<T> {
    pub batches: T,
    /// Offset behind them.
    pub end_offset: i64,
    /// What they open to, or somewhat more.
    pub opened_bytes: u64,
}

impl<T> ReadBatches<T> {
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> ReadBatches<U> {
        ReadBatches { batches: make(self.batches), end_offset: self.end_offset, opened_bytes: self.opened_bytes }
    }
}

/// Whether a first batch larger than a limit is returned all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Oversized {
    Return,
    Withhold,
}

impl Segment {
    /// Creates or opens the file for offsets from `base`; the caller recovers its content.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(dir: &Path, base: i64) -> io::Result<Self> {
        Ok(Self::empty(base, files::open_append(&segment_path(dir, base, "log"))?))
    }

    /// A segment without content around a file.
    pub fn empty(base: i64, file: File) -> Self {
        Self {
            base,
            file: Arc::new(file),
            size: 0,
            index: SparseIndex::default(),
            next_offset: base,
            aborted: Vec::new(),
            begun_ms: None,
            written_ms: None,
            is_checked: true,
        }
    }

    /// Takes over what its index file said.
    pub fn restore(&mut self, sealed: SealedSegment) {
        self.size = sealed.size;
        self.next_offset = sealed.next_offset;
        self.index = sealed.index;
        self.aborted = sealed.aborted;
    }

    pub fn sealed(&self) -> SealedSegment {
        SealedSegment {
            size: self.size,
            modified_ns: modified_ns(&self.file),
            next_offset: self.next_offset,
            index: self.index.clone(),
            aborted: self.aborted.clone(),
        }
    }

    /// Takes note of the time of an append.
    pub fn touch(&mut self, now_ms: i64) {
        self.begun_ms.get_or_insert(now_ms);
        self.written_ms = Some(now_ms);
    }

    /// Takes the times of appends from the file.
    ///
    /// # Errors
    /// What the file system says.
    pub fn touch_as_file(&mut self) -> io::Result<()> {
        let modified = self.file.metadata()?.modified()?;
        let since_epoch = modified.duration_since(std::time::UNIX_EPOCH);
        let modified_ms = since_epoch.unwrap_or_default().as_millis();
        self.touch(i64::try_from(modified_ms).unwrap_or(i64::MAX));
        Ok(())
    }

    /// The later of the last append and the newest record's own time.
    pub fn newest_ms(&self) -> Option<i64> {
        self.index.max_timestamp_ms().max(self.written_ms)
    }

    /// Counts a batch that is in the file at the end, and whose records open to that many bytes.
    pub fn note(&mut self, header: &BatchHeader, opened_bytes: usize) {
        self.index.note(self.base, self.size, (header, opened_bytes));
        self.size += header.total_bytes as u64;
        self.next_offset = header.last_offset() + 1;
    }

    /// Writes a batch at the end; after an error the file is cut back to its former end.
    ///
    /// # Errors
    /// The failed write, and whether the cut failed too: then the segment must not be written again.
    pub fn append(&mut self, header: &[u8], records: &[u8]) -> Result<(), WriteFailure> {
        files::write_both(&self.file, header, records).map_err(|source| match self.file.set_len(self.size) {
            Ok(()) => WriteFailure::Undone(source),
            Err(_) => WriteFailure::Broken(source),
        })
    }

    /// Whole batches of a range, without bytes when the first is withheld; `None` when the segment has no batch at or
    /// behind the range's start, as the rest of a compacted one may be.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read(&self, range: ReadRange) -> io::Result<Option<ReadBatches<Bytes>>> {
        let mut position = self.index.position_of(range.from - self.base);
        loop {
            let wanted = range.max_bytes as u64 + INDEX_INTERVAL_BYTES + HEADER_BYTES as u64;
            let chunk = self.chunk(position, wanted)?;
            let boundary =
                self.index.boundary_opened((position, position + chunk.len() as u64), range.max_opened_bytes);
            let upto = boundary.map_or(u64::MAX, |(upto, _)| upto.saturating_sub(position));
            let upto = usize::try_from(upto).unwrap_or(usize::MAX);
            let found = |batches: Bytes, (start, end): (usize, usize), end_offset| {
                let opened_bytes = self.index.opened_between(position + start as u64, position + end as u64);
                Ok(Some(ReadBatches { batches, end_offset, opened_bytes }))
            };
            match cut(&chunk, &range, upto) {
                Cut::Batches { start, end, end_offset } => {
                    return found(chunk.slice(start..end), (start, end), end_offset);
                }
                Cut::Nothing => return Ok(None),
                Cut::Skip(bytes) => position += bytes,
                Cut::Oversized { at, bytes, end_offset } => {
                    let batch = self.chunk(position + at as u64, bytes as u64)?;
                    return found(batch, (at, at + bytes), end_offset);
                }
            }
        }
    }

    /// What [`Self::read`] gives as a part of the file, if that is large; may end a little earlier.
    ///
    /// # Errors
    /// What the file system says.
    pub fn slice(&self, range: ReadRange) -> io::Result<Option<ReadBatches<FileSlice>>> {
        let mut position = self.index.position_of(range.from - self.base);
        let (end, end_offset) = if range.upto < self.next_offset {
            self.index.boundary_of(range.upto - self.base)
        } else {
            (self.size, self.next_offset - self.base)
        };
        if end < position + SLICE_BYTES || range.max_bytes as u64 <= SLICE_BYTES {
            return Ok(None);
        }
        let start = loop {
            let chunk = self.chunk(position, INDEX_INTERVAL_BYTES + HEADER_BYTES as u64)?;
            match cut(&chunk, &range, usize::MAX) {
                Cut::Batches { start: at, .. } | Cut::Oversized { at, .. } => break position + at as u64,
                Cut::Nothing => return Ok(None),
                Cut::Skip(bytes) => position += bytes,
            }
        };
        let limit = start + range.max_bytes as u64;
        let (end, end_offset) = if end > limit { self.index.boundary_up_to(limit) } else { (end, end_offset) };
        let (end, end_offset) = match self.index.boundary_opened((start, end), range.max_opened_bytes) {
            Some((upto, offset)) if upto < end => (upto, offset),
            _ => (end, end_offset),
        };
        let length = usize::try_from(end.saturating_sub(start)).map_err(|_| io::ErrorKind::OutOfMemory)?;
        if (length as u64) < SLICE_BYTES {
            return Ok(None);
        }
        let batches = FileSlice { file: self.file.clone(), position: start, length };
        let opened_bytes = self.index.opened_between(start, end);
        Ok(Some(ReadBatches { batches, end_offset: self.base + end_offset, opened_bytes }))
    }

    /// Bytes from an index position to the end: an upper bound of what a reader gets.
    pub fn bytes_from(&self, offset: i64) -> u64 {
        self.size - self.index.position_of(offset - self.base).min(self.size)
    }

    /// Headers of the batches from a position on, until `visit` returns a value.
    ///
    /// # Errors
    /// What the file system says.
    pub fn find<T>(
        &self,
        mut position: u64,
        mut visit: impl FnMut(&BatchHeader) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let mut bytes = [0_u8; HEADER_BYTES];
        while position + HEADER_BYTES as u64 <= self.size {
            self.file.read_exact_at(&mut bytes, position)?;
            let Some(header) = BatchHeader::parse(&bytes) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            if let Some(found) = visit(&header) {
                return Ok(Some(found));
            }
            position += header.total_bytes as u64;
        }
        Ok(None)
    }

    fn chunk(&self, position: u64, wanted: u64) -> io::Result<Bytes> {
        let length = wanted.min(self.size.saturating_sub(position));
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut buffer = Vec::with_capacity(length);
        while buffer.len() < length {
            let at = position + buffer.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut buffer), at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        buffer.truncate(length);
        Ok(Bytes::from(buffer))
    }
}

/// The batches of a complete segment from its start, each whole and checked.
#[derive(Debug)]
pub(crate) struct Batches<'a> {
    file: &'a File,
    size: u64,
    position: u64,
    buffer: Vec<u8>,
}

impl<'a> Batches<'a> {
    pub fn new(file: &'a File, size: u64) -> Self {
        Self { file, size, position: 0, buffer: Vec::new() }
    }

    /// The next batch, `None` at the end.
    ///
    /// # Errors
    /// `InvalidData` for one that is damaged, and what the file system says.
    pub fn next(&mut self) -> io::Result<Option<(BatchHeader, &[u8])>> {
        if self.position >= self.size {
            return Ok(None);
        }
        self.fill(HEADER_BYTES)?;
        let header = BatchHeader::parse(&self.buffer).ok_or(io::ErrorKind::InvalidData)?;
        self.fill(header.total_bytes)?;
        if crc32c::crc32c(&self.buffer[CRC_START..]) != header.crc {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.position += header.total_bytes as u64;
        Ok(Some((header, &self.buffer)))
    }

    fn fill(&mut self, bytes: usize) -> io::Result<()> {
        if bytes as u64 > self.size - self.position {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.buffer.resize(bytes, 0);
        self.file.read_exact_at(&mut self.buffer, self.position)
    }
}

/// How a failed write left the segment.
#[derive(Debug)]
pub(crate) enum WriteFailure {
    Undone(io::Error),
    Broken(io::Error),
}

enum Cut {
    Batches {
        start: usize,
        end: usize,
        end_offset: i64,
    },
    Nothing,
    /// The chunk ends before the range begins; go on after these bytes.
    Skip(u64),
    /// The first batch is not whole in the chunk.
    Oversized {
        at: usize,
        bytes: usize,
        end_offset: i64,
    },
}

/// Finds the batches of a range in a chunk; those that begin at `upto` or later are more than a reader may open.
fn cut(chunk: &[u8], range: &ReadRange, upto: usize) -> Cut {
    let mut at = 0;
    while let Some(header) = BatchHeader::parse(&chunk[at.min(chunk.len())..]) {
        if header.last_offset() < range.from {
            at += header.total_bytes;
        } else {
            return whole_batches(chunk, (at, upto), range);
        }
    }
    if at == 0 { Cut::Nothing } else { Cut::Skip(at as u64) }
}

fn whole_batches(chunk: &[u8], (start, upto): (usize, usize), range: &ReadRange) -> Cut {
    let mut end = start;
    let mut end_offset = range.from;
    while let Some(header) = BatchHeader::parse(&chunk[end..]) {
        if header.base_offset >= range.upto {
            break;
        }
        let is_first = end == start;
        let fits = end + header.total_bytes - start <= range.max_bytes && end < upto;
        if !fits && (!is_first || range.oversized_first == Oversized::Withhold) {
            break;
        }
        if end + header.total_bytes > chunk.len() {
            if is_first {
                return Cut::Oversized { at: start, bytes: header.total_bytes, end_offset: header.last_offset() + 1 };
            }
            break;
        }
        end += header.total_bytes;
        end_offset = header.last_offset() + 1;
    }
    Cut::Batches { start, end, end_offset }
}

/// When a file was last written, 0 where the file system does not tell.
pub(crate) fn modified_ns(file: &File) -> u64 {
    let modified = file.metadata().and_then(|known| known.modified()).ok();
    let since_epoch = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    since_epoch.and_then(|time| u64::try_from(time.as_nanos()).ok()).unwrap_or(0)
}

/// Path of a file that belongs to the segment from `base`.
pub(crate) fn segment_path(dir: &Path, base: i64, extension: &str) -> PathBuf {
    dir.join(format!("{base:020}.{extension}"))
}

/// First offsets of all files with an extension, ascending.
///
/// # Errors
/// What the file system says.
pub(crate) fn bases(dir: &Path, extension: &str) -> io::Result<Vec<i64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let base = path.file_stem().and_then(|s| s.to_str()?.parse().ok());
        if let Some(base) = base
            && path.extension().is_some_and(|e| e == extension)
        {
            found.push(base);
        }
    }
    found.sort_unstable();
    Ok(found)
}
