//! The metadata file: JSON changes, each behind its length and checksum.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Change;
use crate::error::OpenError;
use crate::log::files::{self, Durability};

const PREFIX_BYTES: usize = 8;

/// The file that changes are appended to.
#[derive(Debug)]
pub(super) struct MetaFile {
    path: PathBuf,
    file: Arc<File>,
    size: u64,
    is_dirty: bool,
    /// What is in the file or on the disk is not known: it must be written anew before the next change.
    is_doubtful: bool,
}

/// What a file held.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub changes: Vec<Change>,
    /// Nothing was cut off, and the file was there.
    pub is_whole: bool,
}

/// All whole changes of a file; none when it does not exist.
pub(super) fn read(path: &Path) -> Result<Found, OpenError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::default()),
        Err(e) => return Err(OpenError::io(path)(e)),
    };
    let mut changes = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some((body, after)) = next_frame(rest) {
        let change = serde_json::from_slice(body).map_err(|e| OpenError::Metadata {
            path: path.to_owned(),
            reason: format!("change {}: {e}", changes.len()),
        })?;
        changes.push(change);
        rest = after;
    }
    if !rest.is_empty() {
        let kept = path.with_extension("torn");
        tracing::warn!(torn_bytes = rest.len(), kept = %kept.display(), "metadata has a torn end");
        std::fs::copy(path, &kept).map_err(OpenError::io(&kept))?;
    }
    Ok(Found { changes, is_whole: rest.is_empty() })
}

fn next_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    // No change is empty: zeros are what a file system leaves where nothing was written.
    let (body, after) = rest.split_at_checked(length).filter(|(body, _)| !body.is_empty())?;
    (crc32c::crc32c(body) == u32::from_be_bytes(*crc)).then_some((body, after))
}

fn frame(change: &Change) -> io::Result<Vec<u8>> {
    let mut out = vec![0; PREFIX_BYTES];
    serde_json::to_writer(&mut out, change)?;
    let length = u32::try_from(out.len() - PREFIX_BYTES).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let crc = crc32c::crc32c(&out[PREFIX_BYTES..]);
    out[..4].copy_from_slice(&length.to_be_bytes());
    out[4..8].copy_from_slice(&crc.to_be_bytes());
    Ok(out)
}

impl MetaFile {
    /// Replaces the file by one with just these changes.
    pub fn rewrite(path: &Path, changes: impl Iterator<Item = Change>) -> io::Result<Self> {
        let mut content = Vec::new();
        for change in changes {
            content.extend_from_slice(&frame(&change)?);
        }
        let file = Arc::new(files::rename_new(path, &content, Durability::Synced)?);
        // From here on the new file is the one at the path, whatever happens.
        let synced = path.parent().map_or(Ok(()), files::sync_dir);
        if let Err(error) = &synced {
            tracing::warn!(%error, "the name of the metadata file may not be durable");
        }
        let size = content.len() as u64;
        Ok(Self { path: path.to_owned(), file, size, is_dirty: false, is_doubtful: synced.is_err() })
    }

    /// Adds a change; after an error it is as if there had been none.
    pub fn append(&mut self, change: &Change, durability: Durability) -> io::Result<()> {
        let bytes = frame(change)?;
        let file: &File = &self.file;
        let written = (&mut &*file).write_all(&bytes).and_then(|()| match durability {
            Durability::Cached => Ok(()),
            Durability::Synced => file.sync_data(),
        });
        if let Err(error) = written {
            let undone = file.set_len(self.size);
            self.is_doubtful |= undone.is_err() || durability == Durability::Synced;
            return Err(error);
        }
        self.size += bytes.len() as u64;
        self.is_dirty |= durability == Durability::Cached;
        Ok(())
    }

    /// The file, if changes of it are not on the disk; whoever takes it syncs it.
    pub fn take_dirty(&mut self) -> Option<Arc<File>> {
        std::mem::take(&mut self.is_dirty).then(|| self.file.clone())
    }

    /// After a failed sync: what is on the disk is not known.
    pub fn doubt(&mut self) {
        self.is_doubtful = true;
    }

    pub fn is_doubtful(&self) -> bool {
        self.is_doubtful
    }

    pub fn size_bytes(&self) -> u64 {
        self.size
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}
