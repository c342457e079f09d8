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
    rename_new(path, content, durability)?;
    match (durability, path.parent()) {
        (Durability::Synced, Some(dir)) => sync_dir(dir),
        (Durability::Synced, None) | (Durability::Cached, _) => Ok(()),
    }
}

/// Puts new content in the place of a file; the new file, to be written on at its end. Its name is not durable before
/// the folder is synced.
pub(crate) fn rename_new(path: &Path, content: &[u8], durability: Durability) -> io::Result<File> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().append(true).create_new(true).open(&temporary)?;
    file.write_all(content)?;
    if durability == Durability::Synced {
        file.sync_data()?;
    }
    std::fs::rename(&temporary, path)?;
    Ok(file)
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
