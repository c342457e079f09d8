//! Counts what is read of a file and stops a reader that would gather a record without end.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Room for the buffers that readers fill ahead of the record they give.
const READ_AHEAD_BYTES: u64 = 256 << 10;

/// How far a file has been read, and how far it may be read for the current record.
#[derive(Debug)]
pub(super) struct Meter {
    record_limit_bytes: u64,
    read_bytes: AtomicU64,
    limit_bytes: AtomicU64,
}

impl Meter {
    /// A meter that allows records, or blocks of records, of this size.
    pub(super) fn new(record_limit_bytes: u64) -> Self {
        let limit_bytes = AtomicU64::new(record_limit_bytes + READ_AHEAD_BYTES);
        Self { record_limit_bytes, read_bytes: AtomicU64::new(0), limit_bytes }
    }

    pub(super) fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Relaxed)
    }

    /// Allows one more record from here.
    pub(super) fn begin_record(&self) {
        self.limit_bytes.store(self.read_bytes() + self.record_limit_bytes + READ_AHEAD_BYTES, Relaxed);
    }
}

/// A file whose reads are counted and limited.
#[derive(Debug)]
pub(super) struct Metered {
    file: File,
    meter: Arc<Meter>,
}

impl Metered {
    pub(super) fn new(file: File, meter: Arc<Meter>) -> Self {
        Self { file, meter }
    }
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.meter.limit_bytes.load(Relaxed).saturating_sub(self.meter.read_bytes());
        let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if room == 0 && !buffer.is_empty() {
            let limit = self.meter.record_limit_bytes;
            let reason = format!("a record is longer than {limit} bytes; a quote or bracket may be left open");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let count = self.file.read(&mut buffer[..room])?;
        self.meter.read_bytes.fetch_add(count as u64, Relaxed);
        Ok(count)
    }
}
