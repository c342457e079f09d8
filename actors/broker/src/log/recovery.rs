//! Opening a partition's folder: which files are trusted, which are read again.
//!
//! A complete segment with a valid index file is trusted by its size. The last one, and those whose
//! index is missing, are read batch by batch and cut at the first that is torn. Producers start from
//! the newest snapshot that is not newer than the first segment read again.

use std::io;
use std::path::Path;

use super::batch::{BatchHeader, CRC_START, HEADER_BYTES, marker_kind};
use super::compact::finish_swaps;
use super::index::SealedSegment;
use super::producers::Producers;
use super::segment::{Segment, bases, modified_ns, segment_path};

const CHUNK_BYTES: u64 = 1 << 20;

/// What was found in a folder.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// Ascending, at least one; the last is the one to write to.
    pub segments: Vec<Segment>,
    pub producers: Producers,
    /// Bytes that were cut off because a batch was torn.
    pub torn_bytes: u64,
    /// Complete segments whose index file must be written again.
    pub unsealed: Vec<i64>,
}

/// Whether index files are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    IndexFiles,
    /// The machine lost power and nothing was ever forced to the disk.
    Nothing,
}

/// Reads a partition's folder.
///
/// # Errors
/// What the file system says.
pub(crate) fn recover(dir: &Path, trust: Trust) -> io::Result<Recovered> {
    finish_swaps(dir)?;
    let mut found = bases(dir, "log")?;
    remove_strays(dir, &found)?;
    if found.is_empty() {
        found.push(0);
    }
    let mut segments = Vec::with_capacity(found.len());
    let mut first_unread = None;
    let last = found.len() - 1;
    for (i, &base) in found.iter().enumerate() {
        let mut segment = Segment::open(dir, base)?;
        segment.touch_as_file()?;
        match sealed(dir, &segment, trust)? {
            Some(known) if i != last => segment.restore(known),
            _ => {
                first_unread.get_or_insert(i);
            }
        }
        segments.push(segment);
    }
    let first_unread = first_unread.unwrap_or(last);
    let (snapshot_base, producers) = newest_snapshot(dir, found[first_unread])?;
    let mut recovered = Recovered { segments, producers, torn_bytes: 0, unsealed: Vec::new() };
    let start = found.partition_point(|&b| b < snapshot_base);
    for (i, &base) in found.iter().enumerate().skip(start) {
        rescan(&mut recovered, i)?;
        if i != last {
            recovered.unsealed.push(base);
        }
    }
    Ok(recovered)
}

/// Removes index files and snapshots of segments that are not there.
fn remove_strays(dir: &Path, logs: &[i64]) -> io::Result<()> {
    for extension in ["index", "producers"] {
        for base in bases(dir, extension)? {
            if logs.binary_search(&base).is_err() {
                std::fs::remove_file(segment_path(dir, base, extension))?;
            }
        }
    }
    Ok(())
}

fn sealed(dir: &Path, segment: &Segment, trust: Trust) -> io::Result<Option<SealedSegment>> {
    if trust == Trust::Nothing {
        return Ok(None);
    }
    let size = segment.file.metadata()?.len();
    let content = std::fs::read(segment_path(dir, segment.base, "index")).ok();
    let known = content.and_then(|bytes| SealedSegment::decode(&bytes));
    Ok(known.filter(|k| k.size == size && k.modified_ns == modified_ns(&segment.file)))
}

/// The newest readable snapshot at or before a segment, and the offset it describes.
fn newest_snapshot(dir: &Path, upto: i64) -> io::Result<(i64, Producers)> {
    for base in bases(dir, "producers")?.into_iter().rev() {
        if base > upto {
            continue;
        }
        let content = std::fs::read(segment_path(dir, base, "producers"))?;
        if let Some(producers) = decode_snapshot(&content) {
            return Ok((base, producers));
        }
    }
    Ok((i64::MIN, Producers::default()))
}

/// The producers' state as written when a segment is begun.
pub(crate) fn encode_snapshot(producers: &Producers) -> Vec<u8> {
    let body = serde_json::to_vec(producers).expect("maps with integer keys serialise");
    let mut out = crc32c::crc32c(&body).to_be_bytes().to_vec();
    out.extend_from_slice(&body);
    out
}

fn decode_snapshot(content: &[u8]) -> Option<Producers> {
    let (crc, body) = content.split_first_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
        return None;
    }
    serde_json::from_slice(body).ok()
}

fn rescan(recovered: &mut Recovered, at: usize) -> io::Result<()> {
    let floor = match at.checked_sub(1) {
        Some(before) => recovered.segments[before].next_offset,
        None => i64::MIN,
    };
    // The checksum does not cover the offset. The segment that is written to has no gaps; one that was
    // compacted has, up to the segment behind it.
    let end = recovered.segments.get(at + 1).map(|s| s.base);
    let is_next = |header: &BatchHeader, expected: i64| match end {
        None => header.base_offset == expected,
        Some(end) => header.base_offset >= expected && header.last_offset() < end,
    };
    let now_ms = crate::now_ms();
    let segment = &mut recovered.segments[at];
    segment.restore(SealedSegment {
        size: 0,
        modified_ns: 0,
        next_offset: segment.base.max(floor),
        index: Default::default(),
        aborted: Vec::new(),
    });
    let file_bytes = segment.file.metadata()?.len();
    let mut window = Window::default();
    while let Some((header, marker, opened)) = window.batch(segment, file_bytes)? {
        if !is_next(&header, segment.next_offset) {
            break;
        }
        segment.note(&header, opened);
        if header.producer_id >= 0 {
            match marker {
                Some(kind) => segment.aborted.extend(recovered.producers.note_marker(&header, kind, now_ms)),
                None => recovered.producers.note_batch(&header, append_time_of(&header), now_ms),
            }
        }
    }
    if segment.size < file_bytes {
        recovered.torn_bytes += file_bytes - segment.size;
        segment.file.set_len(segment.size)?;
    }
    Ok(())
}

/// The time of append that a producer was told, -1 when its own time stands.
fn append_time_of(header: &BatchHeader) -> i64 {
    if header.has_log_append_time() { header.max_timestamp_ms } else { -1 }
}

/// The part of a segment that is in memory while it is read from the start.
#[derive(Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
}

type Checked = (BatchHeader, Option<super::batch::Marker>, usize);

impl Window {
    /// The batch at the segment's present end, `None` when there is no valid one.
    fn batch(&mut self, segment: &Segment, file_bytes: u64) -> io::Result<Option<Checked>> {
        let at = segment.size;
        let Some(header) = BatchHeader::parse(self.at(segment, at, HEADER_BYTES, file_bytes)?) else {
            return Ok(None);
        };
        if at + header.total_bytes as u64 > file_bytes || header.magic != 2 {
            return Ok(None);
        }
        let mut crc = 0;
        let mut done = CRC_START;
        while done < header.total_bytes {
            let length = (header.total_bytes - done).min(CHUNK_BYTES as usize);
            let part = self.at(segment, at + done as u64, length, file_bytes)?;
            crc = crc32c::crc32c_append(crc, part);
            done += part.len();
        }
        if crc != header.crc || header.last_offset_delta < 0 {
            return Ok(None);
        }
        let whole = self.at(segment, at, header.total_bytes, file_bytes)?;
        let opened =
            super::records::check(&header, whole, super::codec::MAX_OPENED_BYTES).map_or(0, |facts| facts.opened_bytes);
        Ok(Some((header, marker_kind(whole).filter(|_| header.is_control()), opened)))
    }

    /// `length` bytes from a position, fewer at the end of the file.
    fn at(&mut self, segment: &Segment, at: u64, length: usize, end: u64) -> io::Result<&[u8]> {
        use std::os::unix::fs::FileExt;
        let length = (length as u64).min(end.saturating_sub(at));
        let is_inside = at >= self.start && at + length <= self.start + self.bytes.len() as u64;
        if !is_inside {
            let fill = CHUNK_BYTES.max(length).min(end - at);
            self.bytes.resize(fill as usize, 0);
            segment.file.read_exact_at(&mut self.bytes, at)?;
            self.start = at;
        }
        let from = (at - self.start) as usize;
        Ok(&self.bytes[from..from + length as usize])
    }
}
