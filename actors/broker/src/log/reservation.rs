//! The promise that an offset is never given twice, even if a loss of power shortens the log.
//!
//! A mark ahead of the log's end is on the disk, with the boot it was written in, before an offset
//! below it is given. After a start in the same boot the page cache survived and the log goes on at
//! its end; in another boot it goes on at the mark, which leaves a gap as compaction does. A log that is closed
//! marks its end as such: what is missing below it afterwards was lost to damage. Two slots are written in turn, so that
//! a torn write leaves the other one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::files;
use super::segment::bases;

/// Offsets reserved at a time.
pub(crate) const RESERVE_AHEAD: i64 = 1 << 20;
const FILE_NAME: &str = "reserved";
const SLOT_SPACING: u64 = 512;
const BOOT_BYTES: usize = 48;
const SLOT_BYTES: usize = 4 + 8 + 8 + BOOT_BYTES;
/// A slot that tells where a closed log starts, -1 for a log that is open; others are of earlier versions.
const FULL_SLOT_BYTES: usize = SLOT_BYTES + 8;
const NOT_CLOSED: i64 = -1;

/// Identity of one boot of the machine; `None` where the system tells none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BootId(Option<String>);

impl BootId {
    /// Of the running system.
    pub fn current() -> Self {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        Self(text.map(|t| t.trim().chars().take(BOOT_BYTES).collect()))
    }

    #[cfg(test)]
    pub fn named(name: &str) -> Self {
        Self(Some(name.to_owned()))
    }

    fn bytes(&self) -> [u8; BOOT_BYTES] {
        let mut out = [0; BOOT_BYTES];
        let text = self.0.as_deref().unwrap_or("").as_bytes();
        out[..text.len()].copy_from_slice(text);
        out
    }
}

/// What the file said when the log was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// No file: the partition is new.
    Nothing,
    /// A file of which no slot is readable.
    Damaged,
    SameBoot(Mark),
    OtherBoot(Mark),
}

/// An offset below which all offsets may have been given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Some may not have been.
    Ahead(i64),
    /// The log was closed with this end; its first segment begins at `start`.
    End { end: i64, start: i64 },
}

impl Mark {
    pub fn offset(self) -> i64 {
        match self {
            Self::Ahead(offset) | Self::End { end: offset, .. } => offset,
        }
    }

    fn start(self) -> i64 {
        match self {
            Self::Ahead(_) => NOT_CLOSED,
            Self::End { start, .. } => start,
        }
    }
}

/// The open file of marks.
#[derive(Debug)]
pub(crate) struct Reservation {
    file: File,
    boot: BootId,
    sequence: u64,
}

impl Reservation {
    /// Opens or creates the file in a partition's folder.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(dir: &Path, boot: BootId) -> io::Result<(Self, Found)> {
        let path = dir.join(FILE_NAME);
        let is_new = !path.exists();
        let file = files::open_rw(&path)?;
        let newest = (0..2).filter_map(|slot| read_slot(&file, slot)).max_by_key(|slot| slot.sequence);
        let found = match &newest {
            None if is_new && !has_segments(dir)? => Found::Nothing,
            None => Found::Damaged,
            Some(s) if boot.0.is_some() && s.boot == boot.bytes() => Found::SameBoot(s.mark),
            Some(s) => Found::OtherBoot(s.mark),
        };
        let sequence = newest.map_or(0, |s| s.sequence);
        let reservation = Self { file, boot, sequence };
        Ok((reservation, found))
    }

    /// Writes a mark and waits until it is on the disk.
    ///
    /// # Errors
    /// What the file system says; the older mark stays valid then.
    pub fn set(&mut self, mark: Mark) -> io::Result<()> {
        let sequence = self.sequence + 1;
        let mut slot = [0_u8; FULL_SLOT_BYTES];
        slot[4..12].copy_from_slice(&sequence.to_be_bytes());
        slot[12..20].copy_from_slice(&mark.offset().to_be_bytes());
        slot[20..SLOT_BYTES].copy_from_slice(&self.boot.bytes());
        slot[SLOT_BYTES..].copy_from_slice(&mark.start().to_be_bytes());
        let crc = crc32c::crc32c(&slot[4..]);
        slot[..4].copy_from_slice(&crc.to_be_bytes());
        self.file.write_all_at(&slot, (sequence % 2) * SLOT_SPACING)?;
        self.file.sync_data()?;
        self.sequence = sequence;
        Ok(())
    }
}

fn has_segments(dir: &Path) -> io::Result<bool> {
    Ok(!bases(dir, "log")?.is_empty())
}

struct Slot {
    sequence: u64,
    mark: Mark,
    boot: [u8; BOOT_BYTES],
}

fn read_slot(file: &File, index: u64) -> Option<Slot> {
    let mut bytes = [0_u8; FULL_SLOT_BYTES];
    let position = index * SLOT_SPACING;
    if file.read_exact_at(&mut bytes, position).is_err() {
        file.read_exact_at(&mut bytes[..SLOT_BYTES], position).ok()?;
    }
    let (crc, rest) = bytes.split_first_chunk::<4>()?;
    let crc = u32::from_be_bytes(*crc);
    let is_full = crc32c::crc32c(rest) == crc;
    if !is_full && crc32c::crc32c(&rest[..SLOT_BYTES - 4]) != crc {
        return None;
    }
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    let (mark, rest) = rest.split_first_chunk::<8>()?;
    let (boot, start) = rest.split_first_chunk::<BOOT_BYTES>()?;
    let (offset, start) = (i64::from_be_bytes(*mark), i64::from_be_bytes(*start.first_chunk()?));
    let mark = if is_full && start >= 0 { Mark::End { end: offset, start } } else { Mark::Ahead(offset) };
    Some(Slot { sequence: u64::from_be_bytes(*sequence), mark, boot: *boot })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(dir: &Path, boot: &BootId) -> Found {
        Reservation::open(dir, boot.clone()).unwrap().1
    }

    #[test]
    fn the_newest_mark_is_found_again_with_its_boot() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (BootId::named("one"), BootId::named("two"));
        let (mut r, first) = Reservation::open(dir.path(), one.clone()).unwrap();
        assert_eq!(first, Found::Nothing);
        for mark in [10, 20, 30] {
            r.set(Mark::Ahead(mark)).unwrap();
        }
        assert_eq!(found(dir.path(), &one), Found::SameBoot(Mark::Ahead(30)));
        assert_eq!(found(dir.path(), &two), Found::OtherBoot(Mark::Ahead(30)));
        assert_eq!(found(dir.path(), &BootId(None)), Found::OtherBoot(Mark::Ahead(30)));
        r.set(Mark::End { end: 25, start: 3 }).unwrap();
        assert_eq!(found(dir.path(), &one), Found::SameBoot(Mark::End { end: 25, start: 3 }));
    }

    #[test]
    fn a_mark_of_an_earlier_version_is_no_end() {
        let dir = tempfile::tempdir().unwrap();
        let boot = BootId::named("one");
        let (r, _) = Reservation::open(dir.path(), boot.clone()).unwrap();
        let mut slot = [0_u8; SLOT_BYTES];
        slot[11] = 1;
        slot[19] = 77;
        slot[20..].copy_from_slice(&boot.bytes());
        let crc = crc32c::crc32c(&slot[4..]);
        slot[..4].copy_from_slice(&crc.to_be_bytes());
        r.file.write_all_at(&slot, SLOT_SPACING).unwrap();
        assert_eq!(found(dir.path(), &boot), Found::SameBoot(Mark::Ahead(77)));
    }

    #[test]
    fn a_missing_file_beside_segments_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(format!("{:020}.log", 0)), b"").unwrap();
        assert_eq!(found(dir.path(), &BootId::named("one")), Found::Damaged);
    }

    #[test]
    fn a_torn_slot_leaves_the_older_mark() {
        let dir = tempfile::tempdir().unwrap();
        let boot = BootId::named("one");
        let (mut r, _) = Reservation::open(dir.path(), boot.clone()).unwrap();
        r.set(Mark::Ahead(10)).unwrap();
        r.set(Mark::Ahead(20)).unwrap();
        r.file.write_all_at(&[0xff; 3], 10).unwrap();
        assert_eq!(found(dir.path(), &boot), Found::SameBoot(Mark::Ahead(10)));
        r.file.write_all_at(&[0xff; 3], SLOT_SPACING).unwrap();
        assert_eq!(found(dir.path(), &boot), Found::Damaged);
    }
}
