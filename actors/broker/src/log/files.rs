//! Small file helpers that name durability: atomic replacement and syncing of folders.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::path::Path;

/// Opens for reading and writing, creating an empty file where none is.
pub(crate) fn open_rw(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(path)
}

/// Opens a log segment: reads anywhere, writes at the end.
pub(crate) fn open_append(path: &Path) -> io::Result<File> {
    File::options().read(true).append(true).create(true).open(path)
}

/// Makes the names in a folder durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Whether a replaced file must be on the disk before the call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    Cached,
    Synced,
}

/// Replaces a file so that a reader finds the old or the new content, never a part.
pub(crate) fn replace(path: &Path, content: &[u8], durability: Durability) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    if durability == Durability::Synced {
        file.sync_data()?;
    }
    std::fs::rename(&temporary, path)?;
    if durability == Durability::Synced
        && let Some(dir) = path.parent()
    {
        sync_dir(dir)?;
    }
    Ok(())
}

/// Writes two pieces one after the other without joining them in memory.
pub(crate) fn write_both(mut file: &File, first: &[u8], second: &[u8]) -> io::Result<()> {
    let mut pieces = [IoSlice::new(first), IoSlice::new(second)];
    let mut rest: &mut [IoSlice<'_>] = &mut pieces;
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
