//! The files that the connections have open: whether they are still those that their names lead to, and opening them anew.
//!
//! SQLite does not notice that a file it has open lost its name: what it writes then is lost with the process. From when
//! that is seen, nothing is written. A write-ahead log that was deleted is no loss: the connections have it open still,
//! and its pages are written back into the database before all of them are closed and opened anew.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use parking_lot::Mutex;
use rusqlite::{Connection, config::DbConfig};
use streamward_pipeline::store::{Mended, StoreError};

use super::{Shared, SqlStore, WriteError, Writer, connect};
use crate::adapters::seen::SeenKeys;

/// The files by their paths.
///
/// They are looked at by their paths alone: whoever opens and closes a database file drops all locks that the process
/// holds on it (<https://www.sqlite.org/howtocorrupt.html>, 2.2).
#[derive(Debug)]
pub(super) struct OpenFiles {
    path: PathBuf,
    identity: Option<Identity>,
    state: Mutex<State>,
    /// A probe is under way.
    pub is_asked: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// The write-ahead log, once it was seen.
    log: Option<Identity>,
    /// Its index, which all processes share that have the database open, once it was seen.
    index: Option<Identity>,
    /// Why nothing is written.
    lost: Option<Arc<str>>,
}

/// Device and inode.
type Identity = (u64, u64);

/// What is gone, in words.
#[derive(Debug)]
pub(super) enum Lost {
    File(String),
    Log(String),
}

impl OpenFiles {
    pub fn new(path: &Path) -> Self {
        let (state, is_asked) = (Mutex::default(), AtomicBool::new(false));
        Self { path: path.to_owned(), identity: identity(path), state, is_asked }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether what is written now outlives the process, as far as is known.
    pub fn may_write(&self) -> Result<(), WriteError> {
        match &self.state.lock().lost {
            None => Ok(()),
            Some(why) => Err(WriteError::Gone(why.clone())),
        }
    }

    /// Looks at the names. What is gone stops all writes.
    pub fn check(&self) -> Result<(), Lost> {
        let mut state = self.state.lock();
        let seen = self.look(&mut state);
        state.lost = match &seen {
            Ok(()) => None,
            Err(Lost::File(why) | Lost::Log(why)) => Some(why.as_str().into()),
        };
        seen
    }

    fn look(&self, state: &mut State) -> Result<(), Lost> {
        let path = self.path.display();
        if identity(&self.path) != self.identity {
            return Err(Lost::File(format!(
                "{path} was deleted or replaced while it was in use: nothing more is stored in it"
            )));
        }
        if fs::metadata(&self.path).is_ok_and(|found| found.len() == 0) {
            return Err(Lost::File(format!("{path} was emptied while it was in use")));
        }
        for (ending, known) in [("-wal", &mut state.log), ("-shm", &mut state.index)] {
            let part = beside(&self.path, ending);
            let seen = identity(&part);
            if known.is_some_and(|known| seen != Some(known)) {
                return Err(Lost::Log(format!(
                    "{}, a part of the database, was deleted or replaced while it was in use",
                    part.display()
                )));
            }
            *known = seen;
        }
        Ok(())
    }

    /// Whether another program has begun a write-ahead log of its own in the place of ours.
    fn has_strange_log(&self) -> bool {
        let (log, known) = (beside(&self.path, "-wal"), self.state.lock().log);
        identity(&log) != known && fs::metadata(log).is_ok_and(|log| log.len() > 0)
    }
}

/// The file of that ending beside a database.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.to_owned().into_os_string();
    path.push(ending);
    path.into()
}

fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

impl SqlStore {
    /// Opens the connections of the writer anew after the write-ahead log was deleted; nobody else of this process may
    /// have the database open.
    ///
    /// Another program may have written to the database meanwhile, with a log of its own. Then what the deleted log
    /// holds is left, since the database is the other's, and positions are those of before.
    ///
    /// # Errors
    /// If the log cannot be written back now, or the database cannot be opened: nothing is written until it can.
    pub async fn reopen(&self) -> Result<Mended, StoreError> {
        self.work(Shared::reopen).await
    }
}

impl Shared {
    fn reopen(&self) -> Result<Mended, WriteError> {
        let (mut writer, mut checkpointer) = (self.writer.lock(), self.checkpointer.lock());
        let reopened = if self.files.has_strange_log() { Mended::Older } else { Mended::Whole };
        if reopened == Mended::Whole {
            let is_busy: bool = writer.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
            if is_busy {
                return Err(WriteError::Gone("the deleted log cannot be written back while others read it".into()));
            }
        }
        for connection in [&writer.connection, &*checkpointer] {
            // The last one to close would write the log back and delete whatever has its name.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        }
        *writer = Writer { connection: Connection::open_in_memory()?, seen: SeenKeys::default() };
        *checkpointer = Connection::open_in_memory()?;
        writer.connection = connect(&self.files.path, &self.settings)?;
        *checkpointer = connect(&self.files.path, &self.settings)?;
        self.damage.forget();
        *self.files.state.lock() = State::default();
        Ok(reopened)
    }
}
