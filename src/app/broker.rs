//! The embedded broker as a supervised thread, and for commands that work on the folder of a stopped server.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use streamward_broker::{AuthConfig, Broker, BrokerConfig, ClientRates, Damage, Fsync, Internal, Mechanism, User};
use streamward_kit::{Failure, Scope};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{AppError, kafka_clients, listen};
use crate::{
    adapters::kafka::KafkaSettings,
    config::{self, Config, EmbeddedKafka, Secret, StreamConfig},
    node::{NodeError, NodeFolder},
};

/// Folder of the broker inside the data folder.
const FOLDER: &str = "broker";
/// Settings of a topic that holds as much as the largest record and its frame.
const FRAME_BYTES: usize = 64 << 10;
/// What a request has beside the largest record and its frame, generously: dead letters carry headers of their own.
const REQUEST_FRAME_BYTES: usize = 4 * FRAME_BYTES;

/// The embedded broker and its listeners; all outlive the threads that serve them.
pub struct Embedded {
    broker: Broker,
    listener: TcpListener,
    address: SocketAddr,
    local: Local,
    outage: Outage,
}

/// A time in which no connection is taken, for drills.
#[derive(Default)]
struct Outage {
    until: Mutex<Option<Instant>>,
    begins: Notify,
    ends: Notify,
}

/// The way in for the server's own clients: they alone are members of its groups, and nothing slows them down.
struct Local {
    listener: TcpListener,
    address: SocketAddr,
    /// A user that no other process knows.
    name: String,
    password: Secret,
}

impl Local {
    fn open(address: SocketAddr) -> Result<Self, AppError> {
        let listener = listen("kafka.embedded.local_listen", address)?;
        let address = listener.local_addr().map_err(|error| AppError::open("the broker", error))?;
        let random = || Uuid::new_v4().simple();
        let password = Secret::new(format!("{}{}", random(), random()));
        Ok(Self { listener, address, name: format!("streamward-{}", random()), password })
    }

    fn internal(&self) -> io::Result<Internal> {
        let user = User::new(&self.name, self.password.expose());
        Ok(Internal { socket: to_tokio(&self.listener)?, user })
    }
}

fn to_tokio(listener: &TcpListener) -> io::Result<tokio::net::TcpListener> {
    let listener = listener.try_clone()?;
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

impl Embedded {
    /// Address that it answers on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The broker itself.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Closes all connections and takes none for that long.
    pub fn drop_connections(&self, duration: Duration) {
        // An end that came too late for the outage before is not for this one.
        let _late = self.outage.ends.notified().now_or_never();
        *self.outage.until.lock() = Some(Instant::now() + duration);
        self.outage.begins.notify_one();
    }

    /// Takes connections again at once.
    pub fn end_outage(&self) {
        self.outage.ends.notify_one();
    }

    /// Whether clients can connect: false from [`Self::drop_connections`] until its time is over.
    pub fn takes_connections(&self) -> bool {
        self.outage.until.lock().is_none()
    }

    /// Closes each connection at once until the outage is over.
    async fn refuse_connections(&self) -> io::Result<()> {
        let Some(until) = *self.outage.until.lock() else { return Ok(()) };
        let public = to_tokio(&self.listener)?;
        let local = to_tokio(&self.local.listener)?;
        let refuse = async |listener: &tokio::net::TcpListener| loop {
            let _closed = listener.accept().await;
        };
        tokio::select! {
            () = refuse(&public) => {}
            () = refuse(&local) => {}
            () = tokio::time::sleep_until(until.into()) => {}
            () = self.outage.ends.notified() => {}
        }
        *self.outage.until.lock() = None;
        Ok(())
    }

    /// How clients of this process reach it.
    pub fn settings(&self, config: &Config) -> KafkaSettings {
        let Local { address, name, password, .. } = &self.local;
        kafka_clients::settings(config, address.to_string()).with_plain(name, password.expose())
    }

    /// Serves clients until `stop` completes.
    async fn serve(&self, stop: impl Future<Output = ()>) -> io::Result<()> {
        let listener = to_tokio(&self.listener)?;
        self.broker.serve_with(listener, self.local.internal()?, stop).await
    }

    /// Serves until the scope asks to stop.
    pub fn run(&self, scope: &Scope) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let _waiting = scope.waiting_on("clients");
            loop {
                tokio::select! {
                    served = self.serve(scope.stopping()) => return served.map_err(Failure::from),
                    failure = scope.struck("serve") => return Err(failure),
                    () = self.outage.begins.notified() => {}
                }
                tokio::select! {
                    refused = self.refuse_connections() => refused?,
                    () = scope.stopping() => return Ok(()),
                }
            }
        })
    }
}

/// Files that the logs of the embedded broker will hold once it is open; none for a cluster.
///
/// # Errors
/// If the folder cannot be read.
pub fn log_files(config: &Config) -> Result<usize, AppError> {
    if config.kafka.bootstrap.is_some() {
        return Ok(0);
    }
    let folder = config.node.data_dir.join(FOLDER);
    streamward_broker::log_files(&folder).map_err(|error| AppError::open("the broker's folder", error))
}

/// Most descriptors of an embedded broker.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Of clients, at a time.
    pub connections: usize,
    /// Of logs, once partitions are added.
    pub files: usize,
}

/// Opens the embedded broker, unless the configuration names a cluster.
pub fn open(config: &Config, folder: &NodeFolder, room: Room) -> Result<Option<Arc<Embedded>>, AppError> {
    if config.kafka.bootstrap.is_some() {
        return Ok(None);
    }
    let embedded = &config.kafka.embedded;
    let listener = listen("kafka.embedded.listen", embedded.listen.get())?;
    let address = listener.local_addr().map_err(|error| AppError::open("the broker", error))?;
    let mut settings = BrokerConfig::new(folder.join(FOLDER));
    settings.advertised_host.clone_from(&embedded.advertised_host);
    settings.auth = auth(embedded);
    settings.tls = embedded.tls.served();
    settings.fsync = match embedded.fsync {
        config::Fsync::Interval => Fsync::Interval(embedded.fsync_interval.into()),
        config::Fsync::EveryBatch => Fsync::EveryBatch,
        config::Fsync::Never => Fsync::Never,
    };
    settings.auto_create_topics = embedded.auto_create_topics;
    settings.default_partitions = i32::try_from(embedded.default_partitions).unwrap_or(1);
    settings.segment_bytes = embedded.segment_size.get();
    let largest = config.streams.values().map(|stream| stream.max_record.as_usize()).max().unwrap_or(0);
    settings.max_request_bytes = settings.max_request_bytes.max(largest + REQUEST_FRAME_BYTES);
    settings.max_connections = room.connections;
    settings.max_files = room.files;
    settings.max_connections_per_ip =
        embedded.max_connections_per_ip.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    settings.own_groups = config.pipelines.keys().map(|pipeline| kafka_clients::group(config, pipeline)).collect();
    let rate = |rate: Option<config::ByteSize>| rate.map(config::ByteSize::get);
    settings.client_rates =
        ClientRates { produce: rate(embedded.client_rates.produce), fetch: rate(embedded.client_rates.fetch) };
    settings.default_retention_ms = embedded.retention.age.map(|age| i64::try_from(age.as_millis()).unwrap_or(-1));
    settings.default_retention_bytes = embedded.retention.size.map(|size| i64::try_from(size.get()).unwrap_or(-1));
    let broker = Broker::open(settings).map_err(|error| AppError::open("the broker", error))?;
    let local = Local::open(embedded.local_listen.get())?;
    Ok(Some(Arc::new(Embedded { broker, listener, address, local, outage: Outage::default() })))
}

/// What the broker of the configured data folder lost to damage of its files; nothing for a cluster.
///
/// # Errors
/// If the folder cannot be read.
pub fn damage(config: &Config) -> Result<Vec<Damage>, AppError> {
    if config.kafka.bootstrap.is_some() {
        return Ok(Vec::new());
    }
    Damage::in_folder(&config.node.data_dir.join(FOLDER)).map_err(|error| AppError::open("the broker's folder", error))
}

fn auth(embedded: &EmbeddedKafka) -> Option<AuthConfig> {
    let auth = &embedded.auth;
    let mechanism = |each: &config::SaslMechanism| match each {
        config::SaslMechanism::Plain => Mechanism::Plain,
        config::SaslMechanism::ScramSha256 => Mechanism::ScramSha256,
        config::SaslMechanism::ScramSha512 => Mechanism::ScramSha512,
    };
    (!auth.users.is_empty()).then(|| AuthConfig {
        mechanisms: auth.mechanisms.iter().map(mechanism).collect(),
        users: auth.users.iter().map(|user| User::new(&user.name, user.password.expose())).collect(),
        max_session: auth.reauthenticate_after.map(Into::into),
    })
}

/// Topic settings that follow from a stream's configuration.
pub fn topic_configs(stream: &StreamConfig) -> Vec<(String, String)> {
    let mut configs = vec![
        ("message.timestamp.type".to_owned(), "LogAppendTime".to_owned()),
        ("max.message.bytes".to_owned(), (stream.max_record.as_usize().max(1 << 20) + FRAME_BYTES).to_string()),
    ];
    if let Some(age) = stream.retention.age {
        configs.push(("retention.ms".to_owned(), age.as_millis().to_string()));
    }
    if let Some(size) = stream.retention.size {
        configs.push(("retention.bytes".to_owned(), size.get().to_string()));
    }
    configs
}

/// The broker of a stopped server, served for one command.
pub struct OfflineBroker {
    embedded: Arc<Embedded>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    _folder: NodeFolder,
}

impl OfflineBroker {
    /// How clients of this process reach it.
    #[must_use]
    pub fn settings(&self, config: &Config) -> KafkaSettings {
        self.embedded.settings(config)
    }
}

impl Drop for OfflineBroker {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _already_gone = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// Serves the folder's broker on a free port if no server runs on it and no cluster was named.
///
/// # Errors
/// If the folder cannot be opened for another reason than a running server.
pub fn offline_broker(config: &Config, bootstrap: Option<&str>) -> Result<Option<OfflineBroker>, AppError> {
    if bootstrap.is_some() || config.kafka.bootstrap.is_some() || !config.node.data_dir.is_dir() {
        return Ok(None);
    }
    let folder = match NodeFolder::open(&config.node.data_dir, config.node.id.as_deref()) {
        Ok(folder) => folder,
        Err(NodeError::Locked(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut offline = config.clone();
    offline.kafka.embedded.listen = config::ListenAddr::loopback(0);
    offline.kafka.embedded.local_listen = config::ListenAddr::loopback(0);
    let room = Room { connections: *BrokerConfig::CONNECTIONS.end(), files: usize::MAX };
    let Some(embedded) = open(&offline, &folder, room)? else { return Ok(None) };
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let serving = embedded.clone();
    #[expect(clippy::disallowed_methods, reason = "a command without a tree owns it, and joins it when it ends")]
    let thread = std::thread::Builder::new()
        .name("broker".to_owned())
        .spawn(move || serve_until(&serving, stopped))
        .map_err(|error| AppError::open("the broker", error))?;
    Ok(Some(OfflineBroker { embedded, stop: Some(stop), thread: Some(thread), _folder: folder }))
}

fn serve_until(embedded: &Embedded, stopped: tokio::sync::oneshot::Receiver<()>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let served = runtime.block_on(embedded.serve(async { drop(stopped.await) }));
    if let Err(error) = served {
        tracing::error!(%error, "the broker stopped");
    }
}
