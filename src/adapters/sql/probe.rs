//! Whether the database takes writes, asked without writing.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use streamward_pipeline::store::StoreError;

use super::{BUSY_TIMEOUT, SqlStore, WriteError, begin};

/// The files that the connections have open.
///
/// They are looked at by their paths alone: whoever opens and closes a database file drops all locks that the process
/// holds on it (<https://www.sqlite.org/howtocorrupt.html>, 2.2).
#[derive(Debug)]
pub(super) struct OpenFile {
    path: PathBuf,
    identity: Option<Identity>,
    /// That of the write-ahead log, once it was seen.
    log: OnceLock<Identity>,
    /// A probe is under way.
    is_asked: AtomicBool,
}

/// Device and inode.
type Identity = (u64, u64);

impl OpenFile {
    pub(super) fn new(path: &Path) -> Self {
        let is_asked = AtomicBool::new(false);
        Self { path: path.to_owned(), identity: identity(path), log: OnceLock::new(), is_asked }
    }

    /// SQLite does not notice that a file it has open lost its name: what it writes then is lost with the process.
    fn check(&self) -> Result<(), String> {
        let path = self.path.display();
        if identity(&self.path) != self.identity {
            return Err(format!(
                "{path} was deleted or replaced while it was in use: what is stored now is lost when the server ends"
            ));
        }
        if fs::metadata(&self.path).is_ok_and(|found| found.len() == 0) {
            return Err(format!("{path} was emptied while it was in use"));
        }
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        let seen = identity(Path::new(&log));
        match (self.log.get(), seen) {
            (None, Some(seen)) => drop(self.log.set(seen)),
            (Some(known), seen) if seen != Some(*known) => {
                return Err(format!(
                    "{}, a part of the database, was deleted or replaced while it was in use: what is stored now may be \
                     lost when the server ends",
                    log.display()
                ));
            }
            _ => {}
        }
        Ok(())
    }
}

fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

impl SqlStore {
    /// Takes the write lock and gives it back; waits for it at most for `within`, twice. At most one probe is under way.
    ///
    /// # Errors
    /// `Unavailable` if the lock cannot be had; `Protocol` if the file is gone or damaged, which only a restart mends.
    pub async fn probe(&self, within: Duration) -> Result<(), StoreError> {
        let unavailable = |why: String| Err(StoreError::Unavailable(why));
        if self.shared.file.is_asked.swap(true, Ordering::AcqRel) {
            return unavailable("it has not answered for some seconds".to_owned());
        }
        let probed = self.work(move |shared| {
            let probed = match (shared.file.check(), shared.writer.try_lock_for(within)) {
                (Err(why), _) => Err(WriteError::Protocol(why)),
                (Ok(()), Some(mut writer)) => lock(&mut writer.connection, within).map(Ok),
                (Ok(()), None) => Ok(Err("a write takes longer than it should".to_owned())),
            };
            shared.file.is_asked.store(false, Ordering::Release);
            probed
        });
        probed.await?.or_else(unavailable)
    }
}

impl SqlStore {
    /// Next offset of each partition in the log of a topic that a sink read last.
    ///
    /// # Errors
    /// If the database is busy or gone.
    pub async fn newest_positions(&self, sink: &Arc<str>, topic: &Arc<str>) -> Result<Vec<(i32, i64)>, StoreError> {
        let (sink, topic) = (sink.clone(), topic.clone());
        self.write(move |_, writer| {
            // Epochs go on from log to log: the newest comes last, and counts.
            let mut select = writer.connection.prepare_cached(
                "SELECT \"partition\", next_offset FROM sw_positions WHERE sink = ? AND topic = ? \
                 ORDER BY \"partition\", epoch",
            )?;
            let rows = select.query_map([&*sink, &*topic], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let newest: BTreeMap<i32, i64> = rows.collect::<Result<_, _>>()?;
            Ok(newest.into_iter().collect())
        })
        .await
    }
}

fn lock(connection: &mut rusqlite::Connection, within: Duration) -> Result<(), WriteError> {
    connection.busy_timeout(within)?;
    let locked = begin(connection).and_then(rusqlite::Transaction::rollback);
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(locked?)
}
