//! The registry's file: one entry per line, `<crc32c of the JSON, 8 hex digits> <JSON>`, only ever appended to.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{Level, RegistryError};

const FILE: &str = "schemas.jsonl";

/// A change of the registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event {
    Registered { id: u32, subject: String, version: u32, schema: String },
    Level { subject: Option<String>, level: Level },
}

#[derive(Debug)]
pub(super) struct Log {
    file: File,
    /// Length of the whole entries.
    length: u64,
}

impl Log {
    /// Opens the file and reads its entries.
    pub(super) fn open(folder: &Path) -> Result<(Self, Vec<Event>), RegistryError> {
        fs::create_dir_all(folder)?;
        let path = folder.join(FILE);
        let is_new = !path.exists();
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if is_new {
            File::open(folder)?.sync_all()?;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (events, length) = read(&bytes)?;
        let length = length as u64;
        if length < bytes.len() as u64 {
            file.set_len(length)?;
            file.sync_all()?;
        }
        Ok((Self { file, length }, events))
    }

    /// Appends an entry; it is on disk when this returns.
    pub(super) fn append(&mut self, event: &Event) -> Result<(), RegistryError> {
        let json = serde_json::to_string(event).expect("events are JSON");
        let line = format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes()));
        match self.write(line.as_bytes()) {
            Ok(()) => {
                self.length += line.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.file.set_len(self.length)?;
                Err(error.into())
            }
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        self.file.seek(io::SeekFrom::Start(self.length))?;
        self.file.write_all(line)?;
        self.file.sync_data()
    }
}

/// The entries, and the length of the bytes that they take.
fn read(bytes: &[u8]) -> Result<(Vec<Event>, usize), RegistryError> {
    let mut events = Vec::new();
    let mut length = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match entry(line) {
            Some(event) => events.push(event),
            None if length + line.len() == bytes.len() => break,
            None => {
                return Err(RegistryError::Damaged(format!("entry {} is unreadable", events.len() + 1)));
            }
        }
        length += line.len();
    }
    Ok((events, length))
}

fn entry(line: &[u8]) -> Option<Event> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (crc, json) = line.split_once(' ')?;
    let crc = u32::from_str_radix(crc, 16).ok()?;
    (crc == crc32c::crc32c(json.as_bytes())).then(|| serde_json::from_str(json).ok())?
}
