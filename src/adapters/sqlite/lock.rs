//! One writing process per database: a lock file beside it, held for the life of the process.
//!
//! The data folder has a lock of its own; but a database may lie elsewhere, and two folders may name the same one. SQLite
//! would let two processes write in turns, and each would overwrite positions of the other. Commands that only read
//! (`verify`) ask for no lock.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Symbolic links that are followed to a file that does not exist yet.
const MAX_LINKS: usize = 40;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseLockError {
    #[error(
        "the database {database} is in use by process {pid} (lock {lock}): stop it, or give this one its own with \
         storage.sqlite.path"
    )]
    Locked { database: PathBuf, lock: PathBuf, pid: String },
    #[error(
        "the database {0} has several names (hard links), so that two processes could open it without noticing: keep \
         one, or use symbolic links"
    )]
    SeveralNames(PathBuf),
    #[error("lock the database {database}: {source}")]
    Io { database: PathBuf, source: io::Error },
}

/// The lock; it ends when it is dropped, or with the process.
#[derive(Debug)]
pub struct DatabaseLock {
    _file: File,
}

impl DatabaseLock {
    /// Locks the database at `path`, which need not exist yet.
    ///
    /// # Errors
    /// [`DatabaseLockError`]
    pub fn acquire(path: &Path) -> Result<Self, DatabaseLockError> {
        let io = |source| DatabaseLockError::Io { database: path.to_owned(), source };
        let database = resolved(path).map_err(io)?;
        if fs::metadata(&database).is_ok_and(|found| found.nlink() > 1) {
            return Err(DatabaseLockError::SeveralNames(database));
        }
        let lock = beside(&database);
        let options = File::options().create(true).truncate(false).read(true).write(true).open(&lock);
        let mut file = options.map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // It is written by then, or is unknown: the lock is what counts.
                let _unreadable = (&file).take(20).read_to_string(&mut pid);
                let pid = if pid.trim().is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() };
                return Err(DatabaseLockError::Locked { database, lock, pid });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self { _file: file })
    }

    /// Whether a server writes to the database at `path` now.
    #[must_use]
    pub fn is_held(path: &Path) -> bool {
        let lock = resolved(path).and_then(|database| File::open(beside(&database)));
        lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

/// The lock file of a database.
fn beside(database: &Path) -> PathBuf {
    let mut lock = database.to_owned().into_os_string();
    lock.push(".lock");
    PathBuf::from(lock)
}

/// The path without links and dots; its last part need not exist.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::canonicalize(&path) {
            Ok(found) => return Ok(found),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match fs::read_link(&path) {
            Ok(target) => path = folder.join(target),
            Err(_) => {
                let name = path.file_name().ok_or_else(|| io::Error::other("it has no file name"))?;
                return Ok(fs::canonicalize(folder)?.join(name));
            }
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_database_is_locked_under_all_its_names_also_before_it_exists() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.db");
        let (link, folders) = (folder.path().join("link.db"), folder.path().join("other"));
        symlink("a.db", &link).unwrap();
        symlink(folder.path(), &folders).unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        for exists in [false, true] {
            if exists {
                fs::write(&file, "").unwrap();
            }
            assert!(!DatabaseLock::is_held(&file));
            let held = DatabaseLock::acquire(&link).unwrap();
            assert!(DatabaseLock::is_held(&file) && DatabaseLock::is_held(&link));
            for name in [&file, &link, &folders.join("a.db"), &folder.path().join("./sub/../a.db")] {
                let refused = DatabaseLock::acquire(name).unwrap_err().to_string();
                let pid = std::process::id().to_string();
                assert!(refused.contains("a.db.lock") && refused.contains(&pid), "{name:?}: {refused}");
            }
            drop(held);
            drop(DatabaseLock::acquire(&file).unwrap());
        }
    }

    #[test]
    fn a_database_with_a_second_hard_link_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.db");
        fs::write(&file, "").unwrap();
        fs::hard_link(&file, folder.path().join("b.db")).unwrap();
        assert!(matches!(DatabaseLock::acquire(&file), Err(DatabaseLockError::SeveralNames(_))));
    }

    #[test]
    fn links_that_lead_in_a_circle_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        symlink("b.db", folder.path().join("a.db")).unwrap();
        symlink("a.db", folder.path().join("b.db")).unwrap();
        assert!(matches!(DatabaseLock::acquire(&folder.path().join("a.db")), Err(DatabaseLockError::Io { .. })));
    }
}
