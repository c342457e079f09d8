//! The role that writes SQLite's write-ahead log back, beside the commits.

use std::{sync::Arc, time::Duration};

use streamward_kit::{Failure, Scope};

use crate::adapters::sql::SqlStore;

/// Time between two looks at the log.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// Runs one incarnation.
pub async fn run(scope: Scope, store: Arc<SqlStore>) -> Result<(), Failure> {
    loop {
        scope.pause_point().await;
        scope.fault_point("checkpoint").await?;
        let in_hand = scope.in_hand("checkpoint");
        let done = store.write_back().await;
        drop(in_hand);
        match done {
            Ok(pages) => {
                scope.clear_state_note();
                scope.progress(pages);
            }
            Err(error) => scope.set_state_note(&error.to_string()),
        }
        if scope.sleep(CHECK_EVERY).await {
            return Ok(());
        }
    }
}
