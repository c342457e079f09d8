//! Opening a partition's folder: which files are trusted, which are read again, what is lost.
//!
//! A complete segment is trusted if its index file is valid and tells of the same file. The last one, and those whose
//! index is missing or tells of another, are read batch by batch. So is everything once, where no file says that all
//! batches were checked when they were appended, as earlier versions did not.
//!
//! What is torn by the end of a process is at the very end: it is cut off, and its offsets are given again as nobody was
//! told of them. Anything else that is wrong is damage: its offsets are declared lost ([`super::damage`]) and an empty
//! batch takes their place, so that readers pass over them. Producers start from the newest snapshot that is not newer
//! than the first segment read again.

use std::io;
use std::path::Path;

use super::batch::{BatchHeader, marker_kind};
use super::compact::{self, swap};
use super::damage::LostRanges;
use super::index::SealedSegment;
use super::producers::Producers;
use super::repair::Damaged;
use super::reservation::{Found, Mark, RESERVE_AHEAD};
use super::scan::{Bounds, End, Flaw, Holes, Lost, Scanned, scan};
use super::segment::{Segment, bases, modified_ns, segment_path};

/// Name of the file that says that every batch of the folder was checked when it was appended.
const CHECKED_FILE: &str = "checked";

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
    pub lost: LostRanges,
}

/// Whether index files are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    IndexFiles,
    /// The machine lost power and nothing was ever forced to the disk.
    Nothing,
}

/// Reads a partition's folder; `marks` is what its file of marks said. A batch that opens to more than the limit is
/// passed over.
///
/// # Errors
/// What the file system says.
pub(crate) fn recover(dir: &Path, trust: Trust, marks: Found, max_opened_bytes: usize) -> io::Result<Recovered> {
    swap::finish_swaps(dir)?;
    let mut found = bases(dir, "log")?;
    remove_strays(dir, &found)?;
    let is_checked = found.is_empty() || dir.join(CHECKED_FILE).exists();
    let made = missing_start(&found, marks);
    if let Some(start) = made {
        found.insert(0, start);
    }
    let trust = if is_checked { trust } else { Trust::Nothing };
    let (segments, first_unread) = open_all(dir, &found, trust)?;
    let (snapshot_base, producers) = newest_snapshot(dir, found[first_unread])?;
    let recovered = Recovered { segments, producers, torn_bytes: 0, unsealed: Vec::new(), lost: LostRanges::read(dir) };
    let holes = if is_checked && !compact::has_begun(dir) { Holes::None } else { Holes::Possible };
    let mut recovery = Recovery { dir, recovered, marks, holes, made, max_opened_bytes, now_ms: crate::now_ms() };
    let start = found.partition_point(|&b| b < snapshot_base);
    for i in start..found.len() {
        recovery.read(i)?;
        if i + 1 < found.len() {
            recovery.recovered.unsealed.push(found[i]);
        }
    }
    if !dir.join(CHECKED_FILE).exists() {
        std::fs::write(dir.join(CHECKED_FILE), b"1\n")?;
    }
    Ok(recovery.recovered)
}

/// Where a first segment has to be made: in a new log, and where the first ones of a closed log are gone.
fn missing_start(found: &[i64], marks: Found) -> Option<i64> {
    let start = match marks {
        Found::SameBoot(Mark::End { start, .. }) | Found::OtherBoot(Mark::End { start, .. }) => start,
        Found::SameBoot(Mark::Ahead(_)) | Found::OtherBoot(Mark::Ahead(_)) | Found::Nothing | Found::Damaged => {
            return found.is_empty().then_some(0);
        }
    };
    found.first().is_none_or(|first| *first > start).then_some(start)
}

/// Opens all segments; the first that has to be read again.
fn open_all(dir: &Path, found: &[i64], trust: Trust) -> io::Result<(Vec<Segment>, usize)> {
    let mut segments = Vec::with_capacity(found.len());
    let mut first_unread = None;
    for (i, &base) in found.iter().enumerate() {
        let mut segment = Segment::open(dir, base)?;
        segment.touch_as_file()?;
        let (size, modified_ns) = (segment.file.metadata()?.len(), modified_ns(&segment.file));
        let is_true = |known: &SealedSegment| {
            let is_followed = found.get(i + 1) == Some(&known.next_offset);
            trust == Trust::IndexFiles && known.size == size && known.modified_ns == modified_ns && is_followed
        };
        match read_index(dir, base).filter(is_true) {
            Some(known) => {
                segment.restore(known);
                segment.is_checked = false;
            }
            None => {
                first_unread.get_or_insert(i);
            }
        }
        segments.push(segment);
    }
    let last = segments.len() - 1;
    Ok((segments, first_unread.unwrap_or(last)))
}

fn read_index(dir: &Path, base: i64) -> Option<SealedSegment> {
    let content = std::fs::read(segment_path(dir, base, "index")).ok()?;
    SealedSegment::decode(&content)
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

/// What is known while the segments are read again one by one.
struct Recovery<'a> {
    dir: &'a Path,
    recovered: Recovered,
    marks: Found,
    holes: Holes,
    /// Base of a segment that was not there.
    made: Option<i64>,
    max_opened_bytes: usize,
    now_ms: i64,
}

impl Recovery<'_> {
    /// Reads a segment from its start, and repairs it if something is lost.
    fn read(&mut self, at: usize) -> io::Result<()> {
        let before = self.recovered.producers.clone();
        let scanned = self.note(at)?;
        let file_bytes = self.recovered.segments[at].file.metadata()?.len();
        let mut lost = scanned.lost.clone();
        lost.extend(self.lost_at_end(at, &scanned, file_bytes)?);
        if lost.is_empty() {
            return self.end(at, &scanned, file_bytes);
        }
        let base = self.recovered.segments[at].base;
        let file = self.recovered.segments[at].file.clone();
        let next_offset = lost.last().map_or(0, |last| last.upto).max(scanned.next_offset);
        let damaged = Damaged { dir: self.dir, base, file: &file, lost: &lost, size: scanned.size, next_offset };
        let fresh = damaged.prepare(&mut self.recovered.lost, self.now_ms)?;
        swap::commit(self.dir, &[base], &fresh).map_err(io::Error::other)?;
        self.recovered.producers = before;
        self.recovered.segments[at] = Segment::open(self.dir, base)?;
        self.recovered.segments[at].touch_as_file()?;
        let repaired = self.note(at)?;
        if !repaired.lost.is_empty() || repaired.tail.is_some() {
            return Err(io::Error::other(format!("segment {base} of {} cannot be repaired", self.dir.display())));
        }
        self.end(at, &repaired, repaired.size)
    }

    /// Takes the content of a segment into its index and the producers' state.
    fn note(&mut self, at: usize) -> io::Result<Scanned> {
        let floor = at.checked_sub(1).map_or(i64::MIN, |before| self.recovered.segments[before].next_offset);
        let (limit, end, holes) = match self.recovered.segments.get(at + 1) {
            Some(next) => (next.base, End::Known, self.holes),
            None => {
                let (limit, end) = self.limit();
                // Compaction never touches the segment that is written to.
                (limit, end, Holes::None)
            }
        };
        let Recovered { segments, producers, .. } = &mut self.recovered;
        let segment = &mut segments[at];
        segment.is_checked = true;
        let first = segment.base.max(floor);
        segment.restore(SealedSegment {
            size: 0,
            modified_ns: 0,
            next_offset: first,
            index: Default::default(),
            aborted: Vec::new(),
        });
        let file = segment.file.clone();
        let now_ms = self.now_ms;
        let bounds = Bounds { first, limit, end, holes, max_opened_bytes: self.max_opened_bytes };
        let scanned = scan(&file, file.metadata()?.len(), bounds, |header, batch, facts| {
            // Positions are those of the repaired file only when that is read; what is noted before is dropped.
            segment.note(header, facts.opened_bytes);
            if header.producer_id >= 0 {
                match marker_kind(batch).filter(|_| header.is_control()) {
                    Some(kind) => segment.aborted.extend(producers.note_marker(header, kind, now_ms)),
                    None => producers.note_batch(header, append_time_of(header), now_ms),
                }
            }
        })?;
        Ok(scanned)
    }

    /// Offset above all that anybody was told of, and whether the log ends there.
    fn limit(&self) -> (i64, End) {
        match self.marks {
            Found::Nothing | Found::Damaged => (i64::MAX, End::Open),
            Found::SameBoot(Mark::Ahead(mark)) | Found::OtherBoot(Mark::Ahead(mark)) => (mark, End::Open),
            Found::SameBoot(Mark::End { end, .. }) | Found::OtherBoot(Mark::End { end, .. }) => (end, End::Known),
        }
    }

    /// What is lost behind the last valid batch of a segment.
    fn lost_at_end(&self, at: usize, scanned: &Scanned, file_bytes: u64) -> io::Result<Option<Lost>> {
        let first = scanned.next_offset;
        let lost = |upto: i64, flaw| {
            let bytes = file_bytes - scanned.size;
            (upto > first).then_some(Lost { at: scanned.size, bytes, first, upto, flaw })
        };
        let Some(next) = self.recovered.segments.get(at + 1) else {
            return Ok(self.lost_at_log_end(scanned).and_then(|(upto, flaw)| lost(upto, flaw)));
        };
        let base = self.recovered.segments[at].base;
        // Only once a log was closed is no index file older than what compaction put in the place of its segment.
        let is_closed = self.limit().1 == End::Known;
        let is_shortened = || {
            let known = read_index(self.dir, base).filter(|_| is_closed);
            let is_longer = known.is_some_and(|known| known.size > file_bytes || known.next_offset < next.base);
            is_longer || self.made == Some(base)
        };
        Ok(match scanned.tail {
            Some(flaw) => lost(next.base, flaw),
            None if self.holes == Holes::None || is_shortened() => lost(next.base, Flaw::Missing),
            None => None,
        })
    }

    /// The offset at which the log goes on if something is lost at its end.
    fn lost_at_log_end(&self, scanned: &Scanned) -> Option<(i64, Flaw)> {
        match (self.marks, scanned.tail) {
            (Found::SameBoot(Mark::End { end, .. }) | Found::OtherBoot(Mark::End { end, .. }), tail) => {
                Some((end, tail.unwrap_or(Flaw::Missing)))
            }
            // The write that the end of the process stopped.
            (_, None | Some(Flaw::Cut)) => None,
            // A loss of power leaves anything behind what was forced to the disk; the log goes on at its mark.
            (Found::OtherBoot(Mark::Ahead(_)), Some(_)) => None,
            (Found::SameBoot(Mark::Ahead(mark)), Some(flaw)) => Some((mark, flaw)),
            (Found::Nothing | Found::Damaged, Some(flaw)) => Some((scanned.next_offset + RESERVE_AHEAD, flaw)),
        }
    }

    /// Cuts off what is torn, and sets the offset behind the segment.
    fn end(&mut self, at: usize, scanned: &Scanned, file_bytes: u64) -> io::Result<()> {
        let next_base = self.recovered.segments.get(at + 1).map(|next| next.base);
        let segment = &mut self.recovered.segments[at];
        if scanned.size < file_bytes {
            self.recovered.torn_bytes += file_bytes - scanned.size;
            segment.file.set_len(scanned.size)?;
        }
        // Compaction may have removed the last offsets of a complete segment.
        segment.next_offset = next_base.unwrap_or(segment.next_offset).max(segment.next_offset);
        Ok(())
    }
}

/// The time of append that a producer was told, -1 when its own time stands.
fn append_time_of(header: &BatchHeader) -> i64 {
    if header.has_log_append_time() { header.max_timestamp_ms } else { -1 }
}
