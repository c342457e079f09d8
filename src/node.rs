//! The data folder: one process at a time, and a node id that survives restarts.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("another process uses the data folder {0}: stop it, or give this one its own with --data-dir")]
    Locked(PathBuf),
    #[error("open the data folder {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// An open data folder; the lock ends when it is dropped, or with the process.
#[derive(Debug)]
pub struct NodeFolder {
    path: PathBuf,
    id: String,
    _lock: File,
}

impl NodeFolder {
    /// Creates the folder if need be, locks it, and reads or makes the node id.
    ///
    /// # Errors
    /// [`NodeError`]
    pub fn open(path: &Path, configured_id: Option<&str>) -> Result<Self, NodeError> {
        let io = |source| NodeError::Io { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(io)?;
        let lock = File::options().create(true).truncate(false).write(true).open(path.join("lock")).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(NodeError::Locked(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let id = match configured_id {
            Some(id) => id.to_owned(),
            None => persisted_id(&path.join("node_id")).map_err(io)?,
        };
        Ok(Self { path: path.to_owned(), id, _lock: lock })
    }

    /// The node id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A path inside the folder.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn persisted_id(file: &Path) -> io::Result<String> {
    match fs::read_to_string(file) {
        Ok(id) if !id.trim().is_empty() => Ok(id.trim().to_owned()),
        Ok(_) => make_id(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_id(file),
        Err(error) => Err(error),
    }
}

fn make_id(file: &Path) -> io::Result<String> {
    let id = format!("node-{:08x}", rand::random::<u32>());
    write_atomically(file, id.as_bytes())?;
    Ok(id)
}

/// Writes a file so that a reader sees all of it or nothing.
///
/// # Errors
/// If the folder cannot be written.
pub fn write_atomically(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = file.with_file_name(name);
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_refused_with_the_folder_named() {
        let folder = tempfile::tempdir().unwrap();
        let _first = NodeFolder::open(folder.path(), None).unwrap();
        let refused = NodeFolder::open(folder.path(), None).unwrap_err();
        assert!(refused.to_string().contains(&folder.path().display().to_string()), "{refused}");
    }

    #[test]
    fn the_node_id_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let first = NodeFolder::open(folder.path(), None).unwrap().id().to_owned();
        assert_eq!(NodeFolder::open(folder.path(), None).unwrap().id(), first);
    }
}
