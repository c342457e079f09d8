//! Accepting connections and the regular work of a broker that serves.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::auth::Authenticator;
use crate::broker::Broker;
use crate::limits::{Complaints, PerAddress};
use crate::quota::Metered;
use crate::{Fsync, SHORTEST_FSYNC_INTERVAL, UPKEEP_INTERVAL, User, connection};

/// Pause between two looks for logs to compact.
const COMPACTION_INTERVAL: Duration = Duration::from_secs(1);
/// Pause after a failed accept, for example at the limit of open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections of an internal listener at a time: the embedder needs those that it makes, whatever others may.
const INTERNAL_CONNECTIONS: usize = 4_096;

/// A socket for clients on the same machine: they come over loopback, prove by PLAIN and without TLS
/// that they are one of the users, and are told the address of this socket as the broker's.
#[derive(Debug)]
pub struct Internal {
    /// The socket, bound to a loopback address.
    pub socket: TcpListener,
    /// The embedder's own user, beside those of the configuration; unknown to the other listener.
    pub user: User,
}

/// What is asked of the clients of a listener, and what they are told.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub auth: Option<Arc<Authenticator>>,
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// The embedder's own user, where it comes by this listener.
    pub own_user: Option<String>,
    /// Host of the broker, where it is not the address that the client came by.
    pub host: Option<String>,
    /// Whether quotas hold.
    pub metered: Metered,
    /// Connections at a time.
    pub max: usize,
    /// Connections of one address.
    pub max_per_ip: usize,
    pub complaints: Complaints,
}

impl Default for Access {
    fn default() -> Self {
        let complaints = Complaints::default();
        Self {
            auth: None,
            tls: None,
            own_user: None,
            host: None,
            metered: Metered::No,
            max: INTERNAL_CONNECTIONS,
            max_per_ip: usize::MAX,
            complaints,
        }
    }
}

/// Serves until `stop` completes; every task that it starts ends with it.
pub(crate) async fn serve(
    broker: &Broker,
    public: TcpListener,
    internal: Option<Internal>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut work = JoinSet::new();
    work.spawn(ticks(broker.clone()));
    work.spawn(upkeeps(broker.clone()));
    work.spawn(compactions(broker.clone()));
    work.spawn(accept(broker.clone(), public, broker.inner().access.clone()));
    if let Some(Internal { socket, user }) = internal {
        let auth = Authenticator::internal(&user, broker.inner().config.auth.as_ref()).map_err(io::Error::other)?;
        let (auth, own_user) = (Some(Arc::new(auth)), Some(user.name));
        work.spawn(accept(broker.clone(), socket, Access { auth, own_user, ..Access::default() }));
    }
    tokio::select! {
        () = stop => Ok(()),
        Some(ended) = work.join_next() => Err(io::Error::other(format!("a task of the broker ended: {ended:?}"))),
    }
}

/// Accepts connections of one listener and serves them.
async fn accept(broker: Broker, listener: TcpListener, access: Access) {
    let mut connections = JoinSet::new();
    let addresses = PerAddress::new(access.max_per_ip);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let has_room = connections.len() < access.max;
                    let Some(admitted) = addresses.admit(peer.ip()).filter(|_| has_room) else {
                        refuse(&broker, &access, peer);
                        continue;
                    };
                    let held = (admitted, broker.inner().counters.connection());
                    let (broker, access) = (broker.clone(), access.clone());
                    connections.spawn(async move {
                        let _held = held;
                        connection::run(broker, access, stream, peer).await;
                    });
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
        }
    }
}

fn refuse(broker: &Broker, access: &Access, peer: SocketAddr) {
    broker.inner().counters.refused_connection();
    if let Some(unsaid) = access.complaints.say(std::time::Instant::now()) {
        tracing::warn!(%peer, unsaid, "connection refused: its address or the listener has as many as it may");
    }
}

async fn ticks(broker: Broker) {
    loop {
        broker.inner().groups.tick();
        broker.inner().groups.until_due().await;
    }
}

async fn upkeeps(broker: Broker) {
    let period = match broker.inner().config.fsync {
        Fsync::Interval(period) => period.clamp(SHORTEST_FSYNC_INTERVAL, UPKEEP_INTERVAL),
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
        #[expect(clippy::disallowed_methods, reason = "waited for below, its panic is told")]
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
        #[expect(clippy::disallowed_methods, reason = "waited for below, its panic is told")]
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
