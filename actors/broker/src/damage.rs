//! What logs lost to damage, as the embedder sees it: of an open broker, or of a folder.

use std::io;
use std::path::{Path, PathBuf};

use crate::log::damage::{LostRange, LostRanges};

/// Offsets that a partition lost to damage of its files. Readers pass over them; they are never given again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// First offset that is lost.
    pub first_offset: i64,
    /// Last offset that is lost, or may have been given.
    pub last_offset: i64,
    /// What was found, for people.
    pub reason: String,
    /// Milliseconds since the epoch when it was found.
    pub noticed_ms: i64,
}

impl Damage {
    pub(crate) fn of(topic: &str, partition: i32, range: &LostRange) -> Self {
        Self {
            topic: topic.to_owned(),
            partition,
            first_offset: range.first_offset,
            last_offset: range.last_offset,
            reason: range.reason.clone(),
            noticed_ms: range.noticed_ms,
        }
    }

    /// As [`crate::Broker::damage`], from the folder of a broker that another process may have open. Topics whose names have
    /// more than 200 bytes are named by the first 200.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn in_folder(data_dir: &Path) -> io::Result<Vec<Self>> {
        let mut found = Vec::new();
        for topic in folders(&data_dir.join("topics"))? {
            let name = topic.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            for partition in folders(&topic)? {
                let index = partition.file_name().and_then(|name| name.to_str()?.parse().ok());
                let lost = LostRanges::read(&partition);
                found.extend(lost.iter().map(|range| Self::of(name, index.unwrap_or(-1), range)));
            }
        }
        Ok(found)
    }
}

/// The folders in a folder; none where it does not exist.
pub(crate) fn folders(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
