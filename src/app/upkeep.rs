//! The role that does what the database needs beside commits.

use std::{sync::Arc, time::Duration};

use streamward_kit::{Failure, Scope};
use streamward_pipeline::store::{NextUpkeep, Store};

/// Time after which a database that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Runs one incarnation.
///
/// # Errors
/// On an injected error.
pub async fn run(scope: Scope, store: Arc<dyn Store>) -> Result<(), Failure> {
    loop {
        scope.pause_point().await;
        scope.fault_point("upkeep").await?;
        let in_hand = scope.in_hand("upkeep");
        let waiting = scope.waiting_on("sql");
        let done = store.upkeep().await;
        drop(waiting);
        drop(in_hand);
        let is_over = match done {
            Ok(upkeep) => {
                scope.clear_state_note();
                scope.progress(upkeep.done);
                match upkeep.next {
                    NextUpkeep::In(wait) => scope.sleep(wait).await,
                    NextUpkeep::AfterCommit(wait) => commit_comes(&scope, &*store, wait).await,
                }
            }
            Err(error) => {
                scope.set_state_note(&error.to_string());
                scope.sleep(ASK_AGAIN).await
            }
        };
        if is_over {
            return Ok(());
        }
    }
}

/// Waits for a commit, and for what follows it closely; true if the role shall end.
async fn commit_comes(scope: &Scope, store: &dyn Store, after: Duration) -> bool {
    let _waiting = scope.waiting_on("commits");
    tokio::select! {
        () = store.written() => scope.sleep(after).await,
        () = scope.fault_armed("upkeep") => false,
        () = scope.stopping() => true,
    }
}
