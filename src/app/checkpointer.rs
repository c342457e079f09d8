//! The role that writes SQLite's write-ahead log back, beside the commits.

use std::{sync::Arc, time::Duration};

use streamward_kit::{Failure, Scope};

use crate::adapters::sqlite::SqlStore;

/// Time from a commit to the look at the log, and where the log was short.
const LOOK_AFTER: Duration = Duration::from_millis(100);
const LOOK_AFTER_SHORT: Duration = Duration::from_millis(500);
/// Time between two checkpoints where the first left something.
const PAUSE: Duration = Duration::from_millis(2);
/// Time after which a database that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
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
        let is_over = match written {
            Ok(written) => {
                scope.clear_state_note();
                scope.progress(written.pages);
                unfinished = if written.done || unfinished == BESIDE { 0 } else { unfinished + 1 };
                let after = if written.is_short { LOOK_AFTER_SHORT } else { LOOK_AFTER };
                if unfinished == 0 { commit_comes(&scope, &store, after).await } else { scope.sleep(PAUSE).await }
            }
            Err(error) => {
                scope.set_state_note(&error.to_string());
                unfinished = 0;
                scope.sleep(ASK_AGAIN).await
            }
        };
        if is_over {
            return Ok(());
        }
    }
}

/// Waits for a commit, and for what follows it closely; true if the role shall end.
async fn commit_comes(scope: &Scope, store: &SqlStore, after: Duration) -> bool {
    let _waiting = scope.waiting_on("commits");
    tokio::select! {
        () = store.written() => scope.sleep(after).await,
        () = scope.fault_armed("checkpoint") => false,
        () = scope.stopping() => true,
    }
}
