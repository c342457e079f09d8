//! The retention role: removes old rows in small chunks, at a pace that leaves the writer to the sinks.

use std::{sync::Arc, time::Duration};

use streamward_kit::{Failure, Scope};

use crate::adapters::sql::{SqlStore, retention::RetentionPolicy};

/// Pause between two chunks: about as long as a chunk takes, so that commits get half of the writer at least.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs one incarnation.
pub async fn run(
    scope: Scope,
    store: Arc<SqlStore>,
    policy: RetentionPolicy,
    check_every: Duration,
) -> Result<(), Failure> {
    loop {
        scope.pause_point().await;
        scope.fault_point("retain").await?;
        let in_hand = scope.in_hand("chunk");
        let removed = store.retain_chunk(&policy).await;
        drop(in_hand);
        let wait = match removed {
            Ok(0) => check_every,
            Ok(removed) => {
                scope.progress(removed);
                PAUSE
            }
            Err(error) => {
                scope.set_state_note(&error.to_string());
                check_every
            }
        };
        if scope.sleep(wait).await {
            return Ok(());
        }
    }
}
