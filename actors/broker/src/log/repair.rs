//! Writing a damaged segment again with empty batches in the place of what is lost, so that client libraries pass over it.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::batch::{HEADER_BYTES, empty};
use super::compact::swap;
use super::damage::{LostRange, LostRanges, keep_aside};
use super::scan::Lost;
use super::segment::{Segment, segment_path};

const COPY_BYTES: usize = 256 << 10;
/// Offsets that one empty batch stands for, at most.
const MAX_EMPTY_OFFSETS: i64 = 1 << 30;

/// A segment of which offsets are lost.
#[derive(Debug)]
pub(crate) struct Damaged<'a> {
    pub dir: &'a Path,
    pub base: i64,
    pub file: &'a File,
    /// In ascending order, at least one.
    pub lost: &'a [Lost],
    /// Bytes up to the end of the last valid batch.
    pub size: u64,
    /// Offset behind the segment when it is repaired.
    pub next_offset: i64,
}

impl Damaged<'_> {
    /// Declares what is lost, keeps the file aside and writes another one that is ready to be put in its place.
    ///
    /// # Errors
    /// What the file system says; nothing is replaced then.
    pub fn prepare(&self, ranges: &mut LostRanges, now_ms: i64) -> io::Result<Segment> {
        let mut fresh = swap::begin(self.dir, self.base)?;
        fresh.next_offset = self.next_offset;
        if let Err(error) = self.write(&fresh.file) {
            swap::discard(self.dir, self.base)?;
            return Err(error);
        }
        let range = |lost: &Lost| LostRange {
            first_offset: lost.first,
            last_offset: lost.upto - 1,
            reason: lost.flaw.to_string(),
            noticed_ms: now_ms,
        };
        ranges.declare(self.dir, self.lost.iter().map(range))?;
        keep_aside(&segment_path(self.dir, self.base, "log"), now_ms);
        Ok(fresh)
    }

    fn write(&self, mut to: &File) -> io::Result<()> {
        let mut from = 0;
        for lost in self.lost {
            self.copy((from, lost.at), to)?;
            let mut first = lost.first;
            while first < lost.upto {
                let last = (lost.upto - 1).min(first + MAX_EMPTY_OFFSETS - 1);
                let (_, batch): (_, [u8; HEADER_BYTES]) = empty(first, last).ok_or(io::ErrorKind::InvalidData)?;
                to.write_all(&batch)?;
                first = last + 1;
            }
            from = lost.at + lost.bytes;
        }
        self.copy((from, self.size), to)?;
        // The age of records counts from the last write.
        to.set_modified(self.file.metadata()?.modified()?)?;
        to.sync_all()
    }

    fn copy(&self, (mut from, upto): (u64, u64), mut to: &File) -> io::Result<()> {
        let mut buffer = vec![0; COPY_BYTES];
        while from < upto {
            let length = usize::try_from(upto - from).unwrap_or(COPY_BYTES).min(COPY_BYTES);
            self.file.read_exact_at(&mut buffer[..length], from)?;
            to.write_all(&buffer[..length])?;
            from += length as u64;
        }
        Ok(())
    }
}
