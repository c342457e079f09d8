//! Shows what happens in the supervision tree to the WebSocket sessions that watch it: each event as it comes, and once a
//! second the nodes that have changed.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use streamward_kit::{ActorPath, Failure, Runtime, Scope};
use streamward_pipeline::live::{self, LiveChannel};
use tokio::{
    sync::broadcast::error::RecvError,
    time::{Instant, MissedTickBehavior},
};

use crate::clock::{now_ms, rfc3339};

/// How often nodes are compared with what was shown of them.
const COMPARE_EVERY: Duration = Duration::from_secs(1);
/// What only tells how long something has lasted: that alone is no change.
const CLOCKS: [&str; 4] = ["/in_hand/for_ms", "/waiting_on/for_ms", "/inbox/oldest_ms", "/restart_in_ms"];

/// Runs one incarnation.
pub async fn run(scope: Scope, runtime: Runtime, channel: LiveChannel) -> Result<(), Failure> {
    let mut events = runtime.subscribe();
    let mut shown = Shown::default();
    let mut compare = tokio::time::interval_at(Instant::now() + COMPARE_EVERY, COMPARE_EVERY);
    compare.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        scope.pause_point().await;
        scope.fault_point("announce").await?;
        let waiting = scope.waiting_on("events");
        let event = tokio::select! {
            event = events.recv() => event,
            _ = compare.tick() => {
                drop(waiting);
                shown.announce_changes(&runtime, &channel)?;
                continue;
            }
            () = scope.fault_armed("announce") => continue,
            () = scope.stopping() => return Ok(()),
        };
        drop(waiting);
        match event {
            Ok(event) => {
                announce(&channel, event.path.as_str(), "supervision_event", &serde_json::to_value(&event)?);
                scope.progress(1);
            }
            // The numbers of the events show the gap.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

fn announce(channel: &LiveChannel, key: &str, kind: &str, data: &Value) {
    channel.announce(key, live::frame(kind, &data.to_string(), &rfc3339(now_ms())));
}

/// Nodes as they were shown last, without their clocks and those below them.
#[derive(Default)]
struct Shown(BTreeMap<ActorPath, Value>);

impl Shown {
    /// Sends the nodes that have changed, and the paths of those that are gone. Who comes later sees the changes from
    /// then on: the tree itself is a request away.
    fn announce_changes(&mut self, runtime: &Runtime, channel: &LiveChannel) -> Result<(), serde_json::Error> {
        if !channel.has_subscribers() {
            self.0.clear();
            return Ok(());
        }
        let (mut present, mut changed) = (BTreeMap::new(), Vec::new());
        for node in runtime.nodes() {
            let mut value = serde_json::to_value(&node)?;
            let whole = value.clone();
            CLOCKS.iter().filter_map(|clock| value.pointer_mut(clock).map(Value::take)).for_each(drop);
            if self.0.get(&node.path) != Some(&value) {
                changed.push(whole);
            }
            present.insert(node.path, value);
        }
        let removed: Vec<&ActorPath> = self.0.keys().filter(|path| !present.contains_key(*path)).collect();
        if !changed.is_empty() || !removed.is_empty() {
            announce(channel, "/", "supervision_delta", &json!({ "nodes": changed, "removed": removed }));
        }
        self.0 = present;
        Ok(())
    }
}
