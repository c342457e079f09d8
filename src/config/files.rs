//! Files that the configuration names: regular ones of bounded size, read without ever waiting for anybody.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// The bytes of a regular file.
///
/// # Errors
/// If there is none or it may not be read, if it is something else (a pipe, a device, a folder), or if it has more than
/// `most` bytes. A file that has nothing to give yet, such as the kernel's log, is an error too.
pub fn read_bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // Looked at before it is opened, since opening a device may do something, and again after, since it may be another.
    regular(&fs::metadata(path)?, most)?;
    let file = open(path)?;
    regular(&file.metadata()?, most)?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_large(most)) } else { Ok(bytes) }
}

/// The same for a text.
///
/// # Errors
/// As [`read_bytes`], and if the file is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read_bytes(path, most)?).map_err(|_| io::Error::other("it is not UTF-8 text"))
}

/// Neither opening nor reading waits.
fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn regular(metadata: &fs::Metadata, most: u64) -> io::Result<()> {
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.len() > most { Err(too_large(most)) } else { Ok(()) }
}

fn too_large(most: u64) -> io::Error {
    io::Error::other(format!("it is larger than {}", super::ByteSize::bytes(most)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path) -> String {
        read_text(path, 4).unwrap_err().to_string()
    }

    #[test]
    fn a_regular_file_is_read_up_to_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x");
        fs::write(&file, "four").unwrap();
        assert_eq!(read_text(&file, 4).unwrap(), "four");
        fs::write(&file, "fives").unwrap();
        assert_eq!(refusal(&file), "it is larger than 4B");
        fs::write(&file, [0xFF]).unwrap();
        assert_eq!(refusal(&file), "it is not UTF-8 text");
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        for path in [&*pipe, folder.path(), Path::new("/dev/zero")] {
            assert_eq!(refusal(path), "it is not a regular file", "{}", path.display());
        }
    }
}
