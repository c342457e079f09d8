//! Whether a log takes records that outlive the process.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use super::{PartitionLog, State, segment::segment_path};
use crate::error::Code;

/// How long a refused append counts while nobody tries another: clients try again sooner.
const RECENT: Duration = Duration::from_secs(5);

/// An append that the file system refused.
#[derive(Debug)]
pub(super) struct Refusal {
    at: Instant,
    why: String,
}

/// Why a log takes no records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ill {
    /// The file system refuses them for now.
    Refused(String),
    /// It takes none until the broker is opened anew.
    ReadOnly(&'static str),
}

impl PartitionLog {
    /// Keeps why an append was refused.
    pub(super) fn refuse(&mut self, error: &io::Error) -> Code {
        tracing::error!(dir = %self.dir.display(), %error, "append failed");
        self.refused = Some(Refusal { at: Instant::now(), why: error.to_string() });
        Code::KafkaStorageError
    }

    /// Writes to another file from now on; the one so far.
    #[cfg(test)]
    pub fn swap_file(&mut self, file: std::sync::Arc<fs::File>) -> std::sync::Arc<fs::File> {
        std::mem::replace(&mut self.active().file, file)
    }

    /// Looks at the file that is written to. Once it has lost its name, nothing more is acknowledged: it would be lost
    /// with the process.
    pub fn examine(&mut self) -> Option<Ill> {
        match self.state {
            State::Deleted => return None,
            State::ReadOnly => return Some(Ill::ReadOnly("its file could not be written or synced")),
            State::Open => {}
        }
        let active = self.active();
        let (base, open) = (active.base, active.file.metadata());
        let named = fs::metadata(segment_path(&self.dir, base, "log"));
        let identity = |file: io::Result<fs::Metadata>| file.ok().map(|file| (file.dev(), file.ino()));
        if identity(named) != identity(open) {
            self.make_read_only();
            return Some(Ill::ReadOnly("its file was deleted or replaced while it was in use"));
        }
        let recent = self.refused.as_ref().filter(|refusal| refusal.at.elapsed() < RECENT);
        recent.map(|refusal| Ill::Refused(refusal.why.clone()))
    }
}
