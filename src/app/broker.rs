//! The embedded broker as a supervised thread, and for commands that work on the folder of a stopped server.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use streamward_broker::{Broker, BrokerConfig, Fsync};
use streamward_kit::{Failure, Scope};

use super::{AppError, listen};
use crate::{
    config::{self, Config, StreamConfig},
    node::{NodeError, NodeFolder},
};

/// How often the broker's thread looks for injected faults.
const FAULT_CHECK: Duration = Duration::from_millis(20);
/// Folder of the broker inside the data folder.
const FOLDER: &str = "broker";
/// Settings of a topic that holds as much as the largest record and its frame.
const FRAME_BYTES: usize = 64 << 10;

/// The embedded broker and its listener; both outlive the threads that serve them.
pub struct Embedded {
    broker: Broker,
    listener: TcpListener,
    address: SocketAddr,
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

    /// Serves until the scope asks to stop.
    pub fn run(&self, scope: &Scope) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let _waiting = scope.waiting_on("clients");
            let serving = self.broker.serve(listener, scope.stopping());
            let faults = async {
                loop {
                    tokio::time::sleep(FAULT_CHECK).await;
                    scope.fault_point("serve").await?;
                }
            };
            tokio::select! {
                served = serving => served.map_err(Failure::from),
                fault = faults => fault,
            }
        })
    }
}

/// Opens the embedded broker, unless the configuration names a cluster.
pub fn open(config: &Config, folder: &NodeFolder) -> Result<Option<Arc<Embedded>>, AppError> {
    if config.kafka.bootstrap.is_some() {
        return Ok(None);
    }
    let embedded = &config.kafka.embedded;
    let listener = listen("Kafka", embedded.listen.get())?;
    let address = listener.local_addr().map_err(|error| AppError::open("the broker", error))?;
    let mut settings = BrokerConfig::new(folder.join(FOLDER));
    settings.fsync = match embedded.fsync {
        config::Fsync::Interval => Fsync::Interval(embedded.fsync_interval.into()),
        config::Fsync::EveryBatch => Fsync::EveryBatch,
        config::Fsync::Never => Fsync::Never,
    };
    settings.auto_create_topics = embedded.auto_create_topics;
    settings.default_partitions = i32::try_from(embedded.default_partitions).unwrap_or(1);
    settings.segment_bytes = embedded.segment_size.get();
    settings.max_connections = usize::try_from(embedded.max_connections).unwrap_or(usize::MAX);
    settings.default_retention_ms = embedded.retention.age.map(|age| i64::try_from(age.as_millis()).unwrap_or(-1));
    settings.default_retention_bytes = embedded.retention.size.map(|size| i64::try_from(size.get()).unwrap_or(-1));
    settings.default_log_append_time = true;
    let broker = Broker::open(settings).map_err(|error| AppError::open("the broker", error))?;
    Ok(Some(Arc::new(Embedded { broker, listener, address })))
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
    /// Address that it answers on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.embedded.address
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
    let Some(embedded) = open(&offline, &folder)? else { return Ok(None) };
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let serving = embedded.clone();
    let thread = std::thread::Builder::new()
        .name("broker".to_owned())
        .spawn(move || serve_until(&serving, stopped))
        .map_err(|error| AppError::open("the broker", error))?;
    Ok(Some(OfflineBroker { embedded, stop: Some(stop), thread: Some(thread), _folder: folder }))
}

fn serve_until(embedded: &Embedded, stopped: tokio::sync::oneshot::Receiver<()>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let served = runtime.block_on(async {
        let listener = embedded.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let stop = async { drop(stopped.await) };
        embedded.broker.serve(listener, stop).await
    });
    if let Err(error) = served {
        tracing::error!(%error, "the broker stopped");
    }
}
