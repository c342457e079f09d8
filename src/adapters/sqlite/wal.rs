//! SQLite's write-ahead log: a connection of its own writes it back into the database, so that no commit has to.
//!
//! A checkpoint copies the log's pages and syncs twice, which takes tens of milliseconds; commits of another connection
//! go on beside it. The log begins anew only after a checkpoint that left nothing, between two commits. So one follows
//! the other, each with what was committed during the one before, and the last of a row may hold commits up: it is short
//! by then. Source: <https://www.sqlite.org/wal.html>.

use rusqlite::Connection;
use streamward_pipeline::store::StoreError;

use super::SqlStore;

/// Pages of 4 KiB in the log before they are written back.
const PAGES: i64 = 1000;
/// Pages in the log at which a commit does it after all: the bound of the log where nobody else does.
pub(super) const MAX_PAGES: i64 = 16 * PAGES;
/// Size to which the log is cut when it begins anew.
pub(super) const BYTES: u64 = 64 << 20;

/// Pages of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pages {
    logged: i64,
    written_back: i64,
}

/// What one checkpoint did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WrittenBack {
    pub pages: u64,
    /// Nothing is left that has to be written back now.
    pub done: bool,
    /// The log is short: it takes many commits before there is something to do.
    pub is_short: bool,
}

impl SqlStore {
    /// Returns when something was committed since the last call.
    pub(super) async fn commit_comes(&self) {
        self.shared.wrote.notified().await;
    }

    /// Writes a long log back, with commits held up if asked.
    ///
    /// # Errors
    /// If the database is gone.
    pub(super) async fn write_back(&self, hold_commits: bool) -> Result<WrittenBack, StoreError> {
        self.work(move |shared| {
            let connection = shared.checkpointer.lock();
            shared.files.may_write()?;
            let before = checkpoint(&connection, "NOOP")?;
            if before.logged < PAGES || before.logged == before.written_back {
                let is_short = before.logged - before.written_back < PAGES / 4;
                return Ok(WrittenBack { pages: 0, done: true, is_short });
            }
            let held = hold_commits.then(|| shared.writer.lock());
            checkpoint(&connection, "PASSIVE")?;
            let between_commits = held.or_else(|| shared.writer.try_lock());
            let after = checkpoint(&connection, "NOOP")?;
            Ok(WrittenBack {
                pages: u64::try_from(after.written_back - before.written_back).unwrap_or(0),
                done: between_commits.is_some() && after.logged == after.written_back,
                is_short: false,
            })
        })
        .await
    }

    /// Writes the whole log back and removes it; called at shutdown.
    ///
    /// # Errors
    /// If the database is busy or gone.
    pub(super) async fn close_wal(&self) -> Result<(), StoreError> {
        self.write(|_, writer| Ok(checkpoint(&writer.connection, "TRUNCATE").map(drop)?)).await
    }
}

fn checkpoint(connection: &Connection, mode: &str) -> Result<Pages, rusqlite::Error> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        Ok(Pages { logged: row.get(1)?, written_back: row.get(2)? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::sqlite::{Layout, SqliteSettings, Writer, begin};

    async fn store(folder: &tempfile::TempDir) -> SqlStore {
        let file = folder.path().join("test.db");
        let store = SqlStore::open(&file, &SqliteSettings::default(), Layout::default()).await.unwrap();
        store.write(|_, writer| Ok(writer.connection.execute_batch("CREATE TABLE blobs (bytes BLOB)")?)).await.unwrap();
        store
    }

    async fn insert(store: &SqlStore, bytes: i64) {
        let job = move |writer: &mut Writer| -> Result<(), rusqlite::Error> {
            let transaction = begin(&mut writer.connection)?;
            transaction.execute("INSERT INTO blobs VALUES (zeroblob(?))", [bytes])?;
            transaction.commit()
        };
        store.write(move |_, writer| Ok(job(writer)?)).await.unwrap();
    }

    async fn pages(store: &SqlStore) -> Pages {
        store.work(|shared| Ok(checkpoint(&shared.checkpointer.lock(), "NOOP")?)).await.unwrap()
    }

    #[tokio::test]
    async fn a_short_log_stays_and_a_long_one_is_written_back_and_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let nothing = WrittenBack { pages: 0, done: true, is_short: true };
        assert_eq!(store.write_back(false).await.unwrap(), nothing);
        insert(&store, PAGES / 2 * 4096).await;
        assert_eq!(store.write_back(false).await.unwrap(), WrittenBack { is_short: false, ..nothing });
        insert(&store, PAGES * 4096 + 4096).await;
        let long = pages(&store).await;
        assert!(long.logged > PAGES && long.written_back == 0, "{long:?}");
        let pages_of_it = u64::try_from(long.logged).unwrap();
        let all = WrittenBack { pages: pages_of_it, done: true, is_short: false };
        assert_eq!(store.write_back(false).await.unwrap(), all);
        assert_eq!(pages(&store).await, Pages { logged: long.logged, written_back: long.logged });
        insert(&store, 10).await;
        let anew = pages(&store).await;
        assert!(anew.logged < 10 && anew.written_back == 0, "{anew:?}");
    }

    #[tokio::test]
    async fn it_is_written_back_beside_a_transaction_and_done_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        insert(&store, PAGES * 4096 + 4096).await;
        let (opened, wait) = tokio::sync::oneshot::channel();
        let (close, closed) = std::sync::mpsc::channel::<()>();
        let job = move |writer: &mut Writer| -> Result<(), rusqlite::Error> {
            let transaction = begin(&mut writer.connection)?;
            transaction.execute("INSERT INTO blobs VALUES (zeroblob(10))", [])?;
            opened.send(()).unwrap();
            closed.recv().unwrap();
            transaction.commit()
        };
        let beside = async {
            wait.await.unwrap();
            let beside = store.write_back(false).await.unwrap();
            assert!(beside.pages > PAGES.unsigned_abs() && !beside.done, "{beside:?}");
            close.send(()).unwrap();
        };
        let (written, ()) = tokio::join!(store.write(move |_, writer| Ok(job(writer)?)), beside);
        written.unwrap();
        assert!(store.write_back(true).await.unwrap().done);
    }

    #[tokio::test]
    async fn commits_bound_the_log_where_nobody_writes_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        for _ in 0..5 {
            insert(&store, MAX_PAGES * 4096 / 4).await;
        }
        let Pages { logged, .. } = pages(&store).await;
        assert!(logged < MAX_PAGES / 2, "{logged}");
    }
}
