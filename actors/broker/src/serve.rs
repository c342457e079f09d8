//! Accepting connections and the regular work of a broker that serves.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::broker::Broker;
use crate::{Fsync, connection};

/// How often time-outs are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How often files are synced that `fsync` leaves alone, retention runs and the metadata shrinks.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Pause between two looks for logs to compact.
const COMPACTION_INTERVAL: Duration = Duration::from_secs(1);
/// Pause after a failed accept, for example at the limit of open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` completes; every task that it starts ends with it.
pub(crate) async fn serve(broker: &Broker, listener: TcpListener, stop: impl Future<Output = ()>) -> io::Result<()> {
    let mut connections = JoinSet::new();
    let mut upkeep = JoinSet::new();
    upkeep.spawn(ticks(broker.clone()));
    upkeep.spawn(upkeeps(broker.clone()));
    upkeep.spawn(compactions(broker.clone()));
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return Ok(()),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if connections.len() < broker.inner().config.max_connections {
                        let held = broker.inner().counters.connection();
                        let broker = broker.clone();
                        connections.spawn(async move {
                            let _held = held;
                            connection::run(broker, stream, peer).await;
                        });
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "connection task failed");
                }
            }
            Some(ended) = upkeep.join_next() => {
                return Err(io::Error::other(format!("upkeep ended: {ended:?}")));
            }
        }
    }
}

async fn ticks(broker: Broker) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        broker.inner().tick();
    }
}

async fn upkeeps(broker: Broker) {
    let period = match broker.inner().config.fsync {
        Fsync::Interval(period) => period.clamp(TICK, UPKEEP_INTERVAL),
        Fsync::EveryBatch | Fsync::Never => UPKEEP_INTERVAL,
    };
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut upkeep_due = Instant::now();
    loop {
        interval.tick().await;
        let is_due = Instant::now() >= upkeep_due;
        if is_due {
            upkeep_due = Instant::now() + UPKEEP_INTERVAL;
        }
        let broker = broker.clone();
        let work = tokio::task::spawn_blocking(move || {
            broker.inner().sync();
            if is_due {
                broker.inner().upkeep(crate::now_ms());
            }
        });
        if let Err(error) = work.await {
            tracing::error!(%error, "upkeep failed");
        }
    }
}

/// Compaction may take long, so it waits for nothing else and nothing waits for it.
async fn compactions(broker: Broker) {
    let stop = StopOnDrop(Arc::default());
    let mut interval = tokio::time::interval(COMPACTION_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let (broker, stop) = (broker.clone(), stop.0.clone());
        let work = tokio::task::spawn_blocking(move || broker.inner().compact(crate::now_ms(), &stop));
        if let Err(error) = work.await {
            tracing::error!(%error, "compaction failed");
        }
    }
}

/// Tells work on another thread that its owner is gone.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
