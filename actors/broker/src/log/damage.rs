//! What a partition lost to damage: ranges of offsets, why, and since when, in a file of its folder.
//!
//! The ranges are declared before the segment that had them is replaced, so that no crash leaves lost offsets without a
//! word; declaring one again changes nothing. The damaged file itself is kept aside within [`MAX_KEPT_FILES`] and
//! [`MAX_KEPT_BYTES`], the newest first.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::{self, Durability};

/// Name of the file.
const FILE_NAME: &str = "damage";
/// Extension of files that are kept aside.
const KEPT: &str = "damaged";
/// Files of a partition that are kept aside.
const MAX_KEPT_FILES: usize = 4;
/// Bytes of those files.
const MAX_KEPT_BYTES: u64 = 256 << 20;
/// Ranges of a partition; the last one grows where there would be more.
const MAX_RANGES: usize = 1_000;

/// Offsets that a partition does not have any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LostRange {
    pub first_offset: i64,
    pub last_offset: i64,
    pub reason: String,
    /// When it was noticed.
    pub noticed_ms: i64,
}

/// All ranges of a partition in the order of its log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LostRanges(Vec<LostRange>);

impl LostRanges {
    /// As the partition's file says; none where it is missing or unreadable.
    pub fn read(dir: &Path) -> Self {
        let content = std::fs::read(dir.join(FILE_NAME)).ok();
        content.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    pub fn iter(&self) -> impl Iterator<Item = &LostRange> {
        self.0.iter()
    }

    /// Writes further ranges to the disk; those that are known already are left as they are.
    ///
    /// # Errors
    /// What the file system says.
    pub fn declare(&mut self, dir: &Path, lost: impl IntoIterator<Item = LostRange>) -> io::Result<()> {
        let before = self.clone();
        for range in lost {
            self.add(dir, range);
        }
        if *self == before {
            return Ok(());
        }
        let content = serde_json::to_vec(self).map_err(io::Error::other)?;
        files::replace(&dir.join(FILE_NAME), &content, Durability::Synced)
    }

    fn add(&mut self, dir: &Path, range: LostRange) {
        let covers =
            |known: &LostRange| known.first_offset <= range.first_offset && range.last_offset <= known.last_offset;
        if range.last_offset < range.first_offset || self.0.iter().any(covers) {
            return;
        }
        let LostRange { first_offset, last_offset, reason, .. } = &range;
        tracing::error!(dir = %dir.display(), first_offset, last_offset, reason, "records are lost to damage");
        if self.0.len() < MAX_RANGES {
            self.0.push(range);
            self.0.sort_by_key(|known| known.first_offset);
        } else if let Some(last) = self.0.last_mut() {
            last.first_offset = last.first_offset.min(range.first_offset);
            last.last_offset = last.last_offset.max(range.last_offset);
        }
    }
}

/// Keeps another name of a damaged file, or tells that it does not. The file itself is replaced afterwards.
pub(crate) fn keep_aside(path: &Path, now_ms: i64) {
    match try_keep_aside(path, now_ms) {
        Ok(kept) => tracing::warn!(kept = %kept.display(), "a damaged segment is kept aside"),
        Err(error) => tracing::warn!(path = %path.display(), %error, "a damaged segment is not kept aside"),
    }
}

fn try_keep_aside(path: &Path, now_ms: i64) -> io::Result<PathBuf> {
    let bytes = std::fs::metadata(path)?.len();
    if bytes > MAX_KEPT_BYTES {
        return Err(io::Error::other(format!("it has more than {MAX_KEPT_BYTES} bytes")));
    }
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    make_room(dir, bytes)?;
    let stem = path.file_stem().and_then(|stem| stem.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    let kept = dir.join(format!("{stem}.{now_ms}.{KEPT}"));
    std::fs::hard_link(path, &kept)?;
    Ok(kept)
}

/// Removes the oldest of the files that are kept aside until there is room for one more.
fn make_room(dir: &Path, bytes: u64) -> io::Result<()> {
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == KEPT) {
            let known = std::fs::metadata(&path)?;
            kept.push((kept_at_ms(&path), known.len(), path));
        }
    }
    kept.sort();
    let mut total: u64 = bytes + kept.iter().map(|(_, bytes, _)| bytes).sum::<u64>();
    let mut left = kept.len();
    for (_, bytes, path) in kept {
        if left < MAX_KEPT_FILES && total <= MAX_KEPT_BYTES {
            break;
        }
        std::fs::remove_file(path)?;
        left -= 1;
        total -= bytes;
    }
    Ok(())
}

fn kept_at_ms(path: &Path) -> i64 {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
    stem.rsplit_once('.').and_then(|(_, at)| at.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first_offset: i64, last_offset: i64) -> LostRange {
        LostRange { first_offset, last_offset, reason: "test".to_owned(), noticed_ms: 7 }
    }

    #[test]
    fn ranges_read_back_in_order_and_are_declared_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut lost = LostRanges::read(dir.path());
        lost.declare(dir.path(), [range(20, 29), range(3, 3)]).unwrap();
        lost.declare(dir.path(), [range(3, 3), range(22, 25), range(5, 4)]).unwrap();
        assert_eq!(LostRanges::read(dir.path()), LostRanges(vec![range(3, 3), range(20, 29)]));
    }

    #[test]
    fn more_ranges_than_may_be_are_one_that_covers_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut lost = LostRanges::default();
        let max = i64::try_from(MAX_RANGES).unwrap();
        lost.declare(dir.path(), (0..max + 5).map(|n| range(n * 10, n * 10))).unwrap();
        assert_eq!(lost.iter().count(), MAX_RANGES);
        let last = |lost: &LostRanges| lost.iter().last().map(|range| (range.first_offset, range.last_offset));
        assert_eq!(last(&lost), Some(((max - 1) * 10, (max + 4) * 10)));
        lost.declare(dir.path(), [range(5, 6)]).unwrap();
        assert_eq!(last(&lost), Some((5, (max + 4) * 10)));
        assert_eq!(LostRanges::read(dir.path()), lost);
    }

    #[test]
    fn damaged_files_are_kept_within_a_number_of_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("00000000000000000000.log");
        std::fs::File::create(&path).unwrap().set_len(MAX_KEPT_BYTES / 2).unwrap();
        for now_ms in 1..=3 {
            keep_aside(&path, now_ms);
        }
        let is_kept = |at: i64| dir.path().join(format!("{:020}.{at}.damaged", 0)).exists();
        assert_eq!([1, 2, 3].map(is_kept), [false, true, true]);
        assert!(path.exists(), "the file itself is not touched");
    }

    #[test]
    fn the_newest_damaged_files_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("00000000000000000000.log");
        std::fs::write(&path, b"damaged").unwrap();
        for now_ms in 1..=6 {
            keep_aside(&path, now_ms);
        }
        let names = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path());
        let mut kept: Vec<i64> = names.map(|path| kept_at_ms(&path)).filter(|at| *at > 0).collect();
        kept.sort_unstable();
        assert_eq!(kept, [3, 4, 5, 6]);
        std::fs::File::options().write(true).open(&path).unwrap().set_len(MAX_KEPT_BYTES + 1).unwrap();
        keep_aside(&path, 9);
        assert!(!dir.path().join("00000000000000000000.9.damaged").exists());
    }
}
