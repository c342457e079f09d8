//! Records as a read finds them: in memory, or as a part of a file that goes to the client without passing through.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

/// Whole batches of a partition.
#[derive(Debug, Clone)]
pub(crate) enum Records {
    Memory(Bytes),
    File(FileSlice),
}

impl Records {
    pub fn len(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::File(slice) => slice.length,
        }
    }

    /// The records themselves.
    ///
    /// # Errors
    /// What the file system says.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn into_bytes(self) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes),
            Self::File(slice) => {
                let mut bytes = vec![0; slice.length];
                slice.read_at(0, &mut bytes)?;
                Ok(bytes.into())
            }
        }
    }
}

impl Default for Records {
    fn default() -> Self {
        Self::Memory(Bytes::new())
    }
}

/// A part of a segment that is never written again; it stays readable when the segment is removed.
#[derive(Debug, Clone)]
pub(crate) struct FileSlice {
    pub file: Arc<File>,
    pub position: u64,
    pub length: usize,
}

impl FileSlice {
    /// Fills a buffer with what begins `skip` bytes behind the start.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read_at(&self, skip: usize, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, self.position + skip as u64)
    }
}
