//! The metadata file: JSON changes, each behind its length and checksum.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Change;
use crate::error::OpenError;
use crate::log::files::{self, Durability};

const PREFIX_BYTES: usize = 8;

#[derive(Debug)]
pub(super) struct MetaFile {
    path: PathBuf,
    file: File,
    size: u64,
    is_dirty: bool,
}

/// All whole changes of a file; none when it does not exist.
pub(super) fn read(path: &Path) -> Result<Vec<Change>, OpenError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
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
    Ok(changes)
}

fn next_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (body, after) = rest.split_at_checked(length)?;
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
        files::replace(path, &content, Durability::Synced)?;
        Ok(Self { path: path.to_owned(), file: files::open_append(path)?, size: content.len() as u64, is_dirty: false })
    }

    pub fn append(&mut self, change: &Change, durability: Durability) -> io::Result<()> {
        let bytes = frame(change)?;
        if let Err(e) = self.file.write_all(&bytes) {
            self.file.set_len(self.size)?;
            return Err(e);
        }
        self.size += bytes.len() as u64;
        match durability {
            Durability::Cached => self.is_dirty = true,
            Durability::Synced => self.file.sync_data()?,
        }
        Ok(())
    }

    pub fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_dirty) {
            self.file.sync_data()?;
        }
        Ok(())
    }

    pub fn size_bytes(&self) -> u64 {
        self.size
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}
