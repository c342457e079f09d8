//! Putting a written segment in the place of its sources so that a crash leaves one or the other: those that compaction
//! made one of, or the damaged one that was repaired.
//!
//! `<base>.cleaned` is being written; renamed to `<base>-<end>.swap` it has taken the place of all
//! segments from `base` to before `end`, which are removed before it gets its own name. Whoever opens
//! the folder finishes what was begun.

use std::io;
use std::path::Path;

use super::CompactionError;
use crate::log::files;
use crate::log::segment::{Segment, bases, segment_path};

const BEING_WRITTEN: &str = "cleaned";
const COMMITTED: &str = "swap";

/// An empty segment to write to.
pub(in crate::log) fn begin(dir: &Path, base: i64) -> io::Result<Segment> {
    let path = segment_path(dir, base, BEING_WRITTEN);
    remove(&path)?;
    Ok(Segment::empty(base, files::open_append(&path)?))
}

/// Removes a segment that is not wanted.
pub(in crate::log) fn discard(dir: &Path, base: i64) -> io::Result<()> {
    remove(&segment_path(dir, base, BEING_WRITTEN))
}

/// Puts the segment in the place of those that begin at `bases`.
///
/// # Errors
/// `Io` before it counts, `Swap` when it does and the folder is to be opened again to finish.
pub(in crate::log) fn commit(dir: &Path, bases: &[i64], fresh: &Segment) -> Result<(), CompactionError> {
    let swap = dir.join(format!("{:020}-{:020}.{COMMITTED}", fresh.base, fresh.next_offset));
    std::fs::rename(segment_path(dir, fresh.base, BEING_WRITTEN), &swap)?;
    files::sync_dir(dir).and_then(|()| finish(dir, &swap, bases)).map_err(CompactionError::Swap)
}

/// Finishes or undoes what a process left that ended in the middle.
///
/// # Errors
/// What the file system says.
pub(in crate::log) fn finish_swaps(dir: &Path) -> io::Result<()> {
    for base in bases(dir, BEING_WRITTEN)? {
        discard(dir, base)?;
    }
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let Some((base, end)) = range_of(&path) else { continue };
        let mut replaced = bases(dir, "log")?;
        replaced.retain(|b| (base..end).contains(b));
        if !replaced.contains(&base) {
            replaced.insert(0, base);
        }
        finish(dir, &path, &replaced)?;
    }
    Ok(())
}

fn range_of(path: &Path) -> Option<(i64, i64)> {
    if path.extension()? != COMMITTED {
        return None;
    }
    let (base, end) = path.file_stem()?.to_str()?.split_once('-')?;
    Some((base.parse().ok()?, end.parse().ok()?))
}

/// Removes the sources, then names the segment as the first of them. The snapshot of producers at
/// the first one's start stays true.
fn finish(dir: &Path, swap: &Path, bases: &[i64]) -> io::Result<()> {
    let Some((&first, others)) = bases.split_first() else {
        return Ok(());
    };
    remove(&segment_path(dir, first, "index"))?;
    for &base in others {
        for extension in ["producers", "index", "log"] {
            remove(&segment_path(dir, base, extension))?;
        }
    }
    std::fs::rename(swap, segment_path(dir, first, "log"))?;
    files::sync_dir(dir)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
