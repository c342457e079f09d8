//! SQLite's write-ahead log: a connection of its own writes it back into the database, so that no commit has to.
//!
//! A checkpoint copies the log's pages and syncs twice, which takes tens of milliseconds; commits of another connection
//! go on beside it. The log begins anew only after a checkpoint that left nothing, so a few follow each other, each with
//! what was committed during the one before. Source: <https://www.sqlite.org/wal.html>.

use rusqlite::Connection;
use streamward_pipeline::store::StoreError;

use super::SqlStore;

/// Pages of 4 KiB in the log before they are written back.
const PAGES: i64 = 4000;
/// Pages in the log at which a commit does it after all: the bound of the log where nobody else does.
pub(super) const MAX_PAGES: i64 = 4 * PAGES;
/// Size to which the log is cut when it begins anew.
pub(super) const BYTES: u64 = 64 << 20;
/// Checkpoints in a row.
const PASSES: usize = 4;

/// Pages of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pages {
    logged: i64,
    written_back: i64,
}

impl SqlStore {
    /// Writes the log back if there is enough of it; returns the pages written.
    ///
    /// # Errors
    /// If the database is gone.
    pub async fn write_back(&self) -> Result<u64, StoreError> {
        self.work(|shared| {
            let connection = shared.checkpointer.lock();
            let before = checkpoint(&connection, "NOOP")?;
            if before.logged - before.written_back < PAGES {
                return Ok(0);
            }
            let mut after = before;
            for _ in 0..PASSES {
                after = checkpoint(&connection, "PASSIVE")?;
                if after.logged == after.written_back {
                    break;
                }
            }
            Ok(u64::try_from(after.written_back - before.written_back).unwrap_or(0))
        })
        .await
    }

    /// Writes the whole log back and removes it; called at shutdown.
    ///
    /// # Errors
    /// If the database is busy or gone.
    pub async fn close_wal(&self) -> Result<(), StoreError> {
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
    use crate::adapters::sql::{Layout, SqliteSettings, begin};

    async fn store(folder: &tempfile::TempDir) -> SqlStore {
        let file = folder.path().join("test.db");
        let store = SqlStore::open(&file, &SqliteSettings::default(), Layout::default()).await.unwrap();
        store.write(|_, writer| Ok(writer.connection.execute_batch("CREATE TABLE blobs (bytes BLOB)")?)).await.unwrap();
        store
    }

    async fn insert(store: &SqlStore, bytes: i64) {
        let job = move |writer: &mut super::super::Writer| -> Result<(), rusqlite::Error> {
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
        assert_eq!(store.write_back().await.unwrap(), 0);
        insert(&store, PAGES * 4096 + 4096).await;
        let long = pages(&store).await;
        assert!(long.logged > PAGES && long.written_back == 0, "{long:?}");
        assert_eq!(i64::try_from(store.write_back().await.unwrap()), Ok(long.logged));
        assert_eq!(pages(&store).await, Pages { logged: long.logged, written_back: long.logged });
        insert(&store, 10).await;
        let anew = pages(&store).await;
        assert!(anew.logged < 10 && anew.written_back == 0, "{anew:?}");
    }

    #[tokio::test]
    async fn it_is_written_back_while_a_transaction_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        insert(&store, PAGES * 4096 + 4096).await;
        let mut writer = store.shared.writer.lock();
        let transaction = begin(&mut writer.connection).unwrap();
        transaction.execute("INSERT INTO blobs VALUES (zeroblob(10))", []).unwrap();
        let written = futures_util::future::FutureExt::now_or_never(store.write_back());
        assert!(written.is_none(), "it is another thread's work");
        while checkpoint(&store.shared.checkpointer.lock(), "NOOP").unwrap().written_back <= PAGES {
            std::thread::yield_now();
        }
        transaction.commit().unwrap();
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
