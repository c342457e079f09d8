//! Where outputs go: SQLite, or a store that only counts.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use streamward_core::{partition::Decisions, watermark::NO_WATERMARK};
use streamward_pipeline::logs::LogIdentity;
use streamward_pipeline::store::{Assignment, BoxFuture, Outcome, PartitionKey, Pending, SinkStore, Start, StoreError};

use super::StoreKind;
use crate::{
    adapters::sqlite::{SqlStore, SqliteSettings},
    plan::Plan,
};

pub async fn open(kind: StoreKind, file: &Path, plan: &Plan) -> Result<Arc<dyn SinkStore>, String> {
    Ok(match kind {
        StoreKind::Sqlite => {
            let store = SqlStore::open(file, &SqliteSettings::default(), plan.layout()).await;
            Arc::new(store.map_err(|error| error.to_string())?)
        }
        StoreKind::Counting => Arc::new(CountingStore::default()),
    })
}

#[derive(Default)]
struct CountingStore {
    rows: AtomicU64,
}

impl SinkStore for CountingStore {
    fn assign<'a>(&'a self, _: &'a PartitionKey, _: &'a LogIdentity) -> BoxFuture<'a, Result<Assignment, StoreError>> {
        let assignment = Assignment {
            epoch: 1,
            log: 1,
            position: None,
            first_offset: 0,
            checkpoint: None,
            newest_event_ms: NO_WATERMARK,
            decisions: Decisions::default(),
        };
        Box::pin(async { Ok(assignment) })
    }

    fn start_at<'a>(&'a self, _: &'a PartitionKey, _: Start) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn begin_rules<'a>(&'a self, _: &'a PartitionKey, _: i64) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn commit<'a>(&'a self, pending: &'a [Arc<Pending>]) -> BoxFuture<'a, Result<Vec<Outcome>, StoreError>> {
        let rows: usize = pending.iter().map(|pending| pending.output.rows.num_rows()).sum();
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        Box::pin(async move { Ok(vec![Outcome::Committed; pending.len()]) })
    }
}
