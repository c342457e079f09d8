//! The port of the whole database: what its parts do, by the names that the application knows.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use streamward_pipeline::store::{
    BoxFuture, Mended, NextUpkeep, Retained, RetentionPolicy, Store, StoreError, Trouble, Upkeep,
};
use tokio::time::timeout;

use super::{SqlStore, damage};

/// Time from a commit to the look at the write-ahead log, and where the log was short.
const LOOK_AFTER: Duration = Duration::from_millis(100);
const LOOK_AFTER_SHORT: Duration = Duration::from_millis(500);
/// Time between two checkpoints where the first left something.
const PAUSE: Duration = Duration::from_millis(2);
/// Checkpoints beside commits before one that holds them up.
const BESIDE: u32 = 8;
/// How long reads may take to end before the database is opened anew.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);

impl Store for SqlStore {
    fn note_action<'a>(
        &'a self,
        who: &'a str,
        action: &'a str,
        target: &'a str,
        detail: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.write_action(who, action, target, detail))
    }

    fn newest_positions<'a>(
        &'a self,
        sink: &'a Arc<str>,
        topic: &'a Arc<str>,
    ) -> BoxFuture<'a, Result<Vec<(i32, i64)>, StoreError>> {
        Box::pin(self.read_newest_positions(sink, topic))
    }

    fn retain<'a>(&'a self, policy: &'a RetentionPolicy) -> BoxFuture<'a, Result<Retained, StoreError>> {
        Box::pin(self.retain_chunk(policy))
    }

    fn written(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.commit_comes())
    }

    fn upkeep(&self) -> BoxFuture<'_, Result<Upkeep, StoreError>> {
        Box::pin(self.checkpoint())
    }

    fn probe(&self, within: Duration) -> BoxFuture<'_, Result<(), Trouble>> {
        Box::pin(async move {
            let probed = self.probe_writer(within).await;
            match probed {
                // Where the files are not its own any more, so is what they hold.
                Err(Trouble::Gone(_) | Trouble::Mendable(_) | Trouble::Damaged { .. }) => probed,
                Ok(()) | Err(Trouble::Busy(_)) => match self.found_damage() {
                    Some(why) => Err(damage::trouble(why)),
                    None => probed,
                },
            }
        })
    }

    fn mend(&self) -> BoxFuture<'_, Result<Mended, StoreError>> {
        Box::pin(self.open_anew())
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.close_wal())
    }
}

impl SqlStore {
    /// Damage that a reader or the writer came across.
    fn found_damage(&self) -> Option<String> {
        self.damage().or_else(|| self.reads.get().and_then(|reads| reads.damage()))
    }

    /// Writes the log back; commits are held up where many attempts beside them left something.
    async fn checkpoint(&self) -> Result<Upkeep, StoreError> {
        let unfinished = self.unfinished.swap(0, Ordering::Relaxed);
        let written = self.write_back(unfinished == BESIDE).await?;
        let next = if written.done || unfinished == BESIDE {
            NextUpkeep::AfterCommit(if written.is_short { LOOK_AFTER_SHORT } else { LOOK_AFTER })
        } else {
            self.unfinished.store(unfinished + 1, Ordering::Relaxed);
            NextUpkeep::In(PAUSE)
        };
        Ok(Upkeep { done: written.pages, next })
    }

    /// Closes all connections of this process and opens them anew.
    async fn open_anew(&self) -> Result<Mended, StoreError> {
        let unavailable = |why: String| StoreError::Unavailable(why);
        if let Some(reads) = self.reads.get() {
            let closed = timeout(CLOSED_WITHIN, reads.close()).await;
            closed.map_err(|_| unavailable("reads of it do not end".to_owned()))?;
        }
        let mended = self.reopen().await?;
        if let Some(reads) = self.reads.get() {
            reads.reopen().await.map_err(|error| unavailable(error.to_string()))?;
        }
        Ok(mended)
    }
}
