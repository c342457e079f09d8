//! The promise that an offset is never given twice, even if a loss of power shortens the log.
//!
//! A mark ahead of the log's end is on the disk, with the boot it was written in, before an offset
//! below it is given. After a start in the same boot the page cache survived and the log goes on at
//! its end; in another boot it goes on at the mark, which leaves a gap as compaction does. Two
//! slots are written in turn, so that a torn write leaves the other one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::files;

/// Offsets reserved at a time.
pub(crate) const RESERVE_AHEAD: i64 = 1 << 20;
const FILE_NAME: &str = "reserved";
const SLOT_SPACING: u64 = 512;
const BOOT_BYTES: usize = 48;
const SLOT_BYTES: usize = 4 + 8 + 8 + BOOT_BYTES;

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
    SameBoot {
        mark: i64,
    },
    OtherBoot {
        mark: i64,
    },
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
            None if is_new => Found::Nothing,
            None => Found::Damaged,
            Some(s) if boot.0.is_some() && s.boot == boot.bytes() => Found::SameBoot { mark: s.mark },
            Some(s) => Found::OtherBoot { mark: s.mark },
        };
        let sequence = newest.map_or(0, |s| s.sequence);
        let reservation = Self { file, boot, sequence };
        Ok((reservation, found))
    }

    /// Writes a mark and waits until it is on the disk.
    ///
    /// # Errors
    /// What the file system says; the older mark stays valid then.
    pub fn set(&mut self, mark: i64) -> io::Result<()> {
        let sequence = self.sequence + 1;
        let mut slot = [0_u8; SLOT_BYTES];
        slot[4..12].copy_from_slice(&sequence.to_be_bytes());
        slot[12..20].copy_from_slice(&mark.to_be_bytes());
        slot[20..].copy_from_slice(&self.boot.bytes());
        let crc = crc32c::crc32c(&slot[4..]);
        slot[..4].copy_from_slice(&crc.to_be_bytes());
        self.file.write_all_at(&slot, (sequence % 2) * SLOT_SPACING)?;
        self.file.sync_data()?;
        self.sequence = sequence;
        Ok(())
    }
}

struct Slot {
    sequence: u64,
    mark: i64,
    boot: [u8; BOOT_BYTES],
}

fn read_slot(file: &File, index: u64) -> Option<Slot> {
    let mut bytes = [0_u8; SLOT_BYTES];
    file.read_exact_at(&mut bytes, index * SLOT_SPACING).ok()?;
    let (crc, rest) = bytes.split_first_chunk::<4>()?;
    if crc32c::crc32c(rest) != u32::from_be_bytes(*crc) {
        return None;
    }
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    let (mark, rest) = rest.split_first_chunk::<8>()?;
    Some(Slot { sequence: u64::from_be_bytes(*sequence), mark: i64::from_be_bytes(*mark), boot: *rest.first_chunk()? })
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
            r.set(mark).unwrap();
        }
        assert_eq!(found(dir.path(), &one), Found::SameBoot { mark: 30 });
        assert_eq!(found(dir.path(), &two), Found::OtherBoot { mark: 30 });
        assert_eq!(found(dir.path(), &BootId(None)), Found::OtherBoot { mark: 30 });
    }

    #[test]
    fn a_torn_slot_leaves_the_older_mark() {
        let dir = tempfile::tempdir().unwrap();
        let boot = BootId::named("one");
        let (mut r, _) = Reservation::open(dir.path(), boot.clone()).unwrap();
        r.set(10).unwrap();
        r.set(20).unwrap();
        r.file.write_all_at(&[0xff; 3], 10).unwrap();
        assert_eq!(found(dir.path(), &boot), Found::SameBoot { mark: 10 });
        r.file.write_all_at(&[0xff; 3], SLOT_SPACING).unwrap();
        assert_eq!(found(dir.path(), &boot), Found::Damaged);
    }
}
