//! Shows what happens in the supervision tree to the WebSocket sessions that watch it.

use std::time::Duration;

use streamward_kit::{Failure, Runtime, Scope};
use streamward_pipeline::live::{self, LiveChannel};
use tokio::sync::broadcast::error::RecvError;

use crate::clock::{now_ms, rfc3339};

/// How often an idle announcer looks for injected faults.
const FAULT_CHECK: Duration = Duration::from_millis(100);

/// Runs one incarnation.
pub async fn run(scope: Scope, runtime: Runtime, channel: LiveChannel) -> Result<(), Failure> {
    let mut events = runtime.subscribe();
    loop {
        scope.pause_point().await;
        scope.fault_point("announce").await?;
        let waiting = scope.waiting_on("events");
        let event = tokio::select! {
            event = events.recv() => event,
            () = tokio::time::sleep(FAULT_CHECK) => continue,
            () = scope.stopping() => return Ok(()),
        };
        drop(waiting);
        match event {
            Ok(event) => {
                let frame = live::frame("supervision_event", &serde_json::to_string(&event)?, &rfc3339(now_ms()));
                channel.announce(event.path.as_str(), frame);
                scope.progress(1);
            }
            // The numbers of the events show the gap.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}
