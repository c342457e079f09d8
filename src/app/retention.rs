//! The retention role: removes old rows in small chunks, at a pace that leaves the writer to the sinks.

use std::{
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use streamward_kit::{Failure, Scope};
use streamward_pipeline::store::{RetentionPolicy, Store};

/// Shortest pause between two chunks.
const PAUSE: Duration = Duration::from_millis(20);

/// Times between two looks at the limits.
pub const CHECK_EVERY: RangeInclusive<Duration> = PAUSE..=Duration::from_hours(24);

/// Runs one incarnation.
pub async fn run(
    scope: Scope,
    store: Arc<dyn Store>,
    policy: RetentionPolicy,
    check_every: Duration,
) -> Result<(), Failure> {
    loop {
        scope.pause_point().await;
        scope.fault_point("retain").await?;
        let (in_hand, began) = (scope.in_hand("chunk"), Instant::now());
        let waiting = scope.waiting_on("sql");
        let done = store.retain(&policy).await;
        drop(waiting);
        drop(in_hand);
        match &done {
            Ok(done) if done.stuck_bytes > 0 => scope.set_state_note(&stuck(done.stuck_bytes)),
            Ok(_) => scope.clear_state_note(),
            Err(error) => scope.set_state_note(&error.to_string()),
        }
        let wait = match done {
            Ok(done) if !done.is_done() => {
                scope.progress(done.rows);
                // As long as the chunk took, so that commits get half of the writer at least.
                began.elapsed().max(PAUSE)
            }
            Ok(_) | Err(_) => check_every,
        };
        if scope.sleep(wait).await {
            return Ok(());
        }
    }
}

fn stuck(bytes: u64) -> String {
    format!(
        "{bytes} bytes over storage.retention.size: alerts that fire, facts that wait to be announced and state stay, and \
         no table holds more than its share of the limit"
    )
}
