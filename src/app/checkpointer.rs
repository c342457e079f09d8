//! The role that writes SQLite's write-ahead log back, beside the commits.

use std::{sync::Arc, time::Duration};

use streamward_kit::{Failure, Scope};

use crate::adapters::sql::SqlStore;

/// Time between two looks at the log.
const CHECK_EVERY: Duration = Duration::from_millis(100);
/// Time between two checkpoints where the first left something.
const PAUSE: Duration = Duration::from_millis(2);
/// Checkpoints beside commits before one that holds them up.
const BESIDE: u32 = 8;

/// Runs one incarnation.
pub async fn run(scope: Scope, store: Arc<SqlStore>) -> Result<(), Failure> {
    let mut unfinished = 0;
    loop {
        scope.pause_point().await;
        scope.fault_point("checkpoint").await?;
        let in_hand = scope.in_hand("checkpoint");
        let waiting = scope.waiting_on("sql");
        let written = store.write_back(unfinished == BESIDE).await;
        drop(waiting);
        drop(in_hand);
        let done = match written {
            Ok(written) => {
                scope.clear_state_note();
                scope.progress(written.pages);
                written.done
            }
            Err(error) => {
                scope.set_state_note(&error.to_string());
                true
            }
        };
        unfinished = if done || unfinished == BESIDE { 0 } else { unfinished + 1 };
        if scope.sleep(if unfinished == 0 { CHECK_EVERY } else { PAUSE }).await {
            return Ok(());
        }
    }
}
