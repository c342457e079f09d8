//! The composition root: configuration → folders, broker, database → supervision tree with the registry → HTTP.
//!
//! [`App::start`] opens everything that needs no actor (and fails with a message where it cannot), then starts the
//! tree. [`App::run`] waits for a signal or the end of the tree and shuts down in phases. Which actor does what is in
//! [`tree`]; what the HTTP side may ask is in [`operations`] and [`ingest`].

mod announcer;
mod broker;
mod descriptors;
mod drills;
mod groups;
mod ingest;
mod kafka_clients;
mod lag;
mod logs;
mod metrics;
mod operations;
mod policies;
mod registration;
mod registry;
mod relays;
mod repeated;
mod retention;
mod sensors;
mod serve;
mod sessions;
mod standstill;
mod supervision;
mod topics;
mod tree;
mod upkeep;

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use streamward_core::ports::Operations;
use streamward_kit::{Outcome, Phase, PhaseAction, Runtime};
use streamward_pipeline::{live::SubscriptionLimits, sink::CommitObserver};

pub use self::{
    broker::{OfflineBroker, damage, offline_broker},
    drills::has_healed,
    kafka_clients::command_settings,
    operations::can_stall,
    registry::{START_WITHIN as REGISTRY_START, registry_settings},
    retention::CHECK_EVERY as RETENTION_CHECKS,
    sensors::SPEED as SIMULATOR_SPEED,
    standstill::{Cause, Finding, Place, last_findings},
};
use self::{
    registry::RegistrySetup,
    tree::{Parts, Running},
};
use crate::{
    adapters::{
        database::{Database, DatabaseLockError},
        kafka::{
            KafkaSettings,
            admin::ensure_topics,
            reach::{self, Unreachable},
        },
    },
    config::{self, Config, Loaded},
    http::{
        HttpSettings, SocketSettings,
        access::{Access, AccessToken, Role},
        hosts::HostRule,
    },
    node::{NodeError, NodeFolder, write_atomically},
    plan::Plan,
};

/// How long everything may take to answer after the start.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long a client may wait for an answer of the cluster at the end.
const SILENT_CLUSTER: Duration = Duration::from_millis(1_500);
/// Who waits for answers of the cluster on a thread.
const CLIENTS: [&str; 4] = ["pipelines/*/source", "ops", "platform/logs", "platform/registry"];

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Database(#[from] DatabaseLockError),
    #[error("{key}: cannot listen on {address}: {source}; {}", way_out(key, *address, source))]
    Listen { key: &'static str, address: SocketAddr, source: std::io::Error },
    #[error("open {what}: {reason}")]
    Open { what: &'static str, reason: String },
    #[error("{0}")]
    Config(String),
    /// Kafka or the registry outside does not answer; it may later.
    #[error("{0}")]
    Unreachable(String),
    #[error("not ready after {0:?}: {1}")]
    NotReady(Duration, String),
}

impl AppError {
    fn open(what: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Open { what, reason: reason.to_string() }
    }
}

/// What `run` was asked besides the configuration.
#[derive(Default)]
pub struct Options {
    pub ready_file: Option<PathBuf>,
    pub observer: Option<Arc<dyn CommitObserver>>,
}

/// Addresses that the server answers on.
#[derive(Debug, Clone)]
pub struct Addresses {
    pub http: SocketAddr,
    /// Kafka address to use: the embedded broker's, or the configured cluster's.
    pub kafka: String,
    /// `host:port` of the embedded registry, or the URL of the configured one.
    pub registry: String,
}

impl Addresses {
    /// The registry's URL.
    #[must_use]
    pub fn registry_url(&self) -> String {
        if self.registry.contains("://") { self.registry.clone() } else { format!("http://{}/", self.registry) }
    }
}

/// A running server.
pub struct App {
    runtime: Runtime,
    parts: Arc<Running>,
    addresses: Addresses,
    ready_file: Option<PathBuf>,
}

/// Opens the listener that a key of the configuration has the address of.
fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, AppError> {
    TcpListener::bind(address).map_err(|source| AppError::Listen { key, address, source })
}

/// What to do about an address that cannot be listened on.
fn way_out(key: &str, address: SocketAddr, error: &std::io::Error) -> String {
    let what = match error.kind() {
        std::io::ErrorKind::AddrInUse => "another process, or another server of this kind, has it: end that one or",
        std::io::ErrorKind::AddrNotAvailable => "no interface of this machine has it:",
        std::io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege:",
        _ => "",
    };
    let other = SocketAddr::new(if address.is_ipv4() { [127, 0, 0, 1].into() } else { address.ip() }, 0);
    format!("{what} choose another address, or any free port with --set {key}={other}").trim_start().to_owned()
}

impl App {
    /// Opens everything and starts the tree.
    ///
    /// # Errors
    /// [`AppError`]
    pub async fn start(loaded: &Loaded, plan: Plan, options: Options) -> Result<Self, AppError> {
        let config = &loaded.config;
        for warning in plan.warnings() {
            tracing::warn!("{warning}");
        }
        let folder = NodeFolder::open(&config.node.data_dir, config.node.id.as_deref())?;
        let held = config.database().hold()?;
        let http = listen("http.listen", config.http.listen.get())?;
        let connections = descriptors::shares(config, broker::log_files(config)?)?;
        let room = broker::Room { connections: connections.broker, files: connections.log_files };
        let broker = broker::open(config, &folder, room)?;
        let registry = RegistrySetup::new(config)?;
        let kafka = match &broker {
            Some(broker) => broker.settings(config),
            None => outside(config).await?,
        };
        let addresses = Addresses {
            http: http.local_addr().map_err(|error| AppError::open("HTTP", error))?,
            kafka: broker.as_ref().map_or_else(|| kafka.bootstrap.clone(), |broker| broker.address().to_string()),
            registry: registry.address()?,
        };
        let parts = Parts {
            config: config.clone(),
            plan,
            folder,
            _held: held,
            broker,
            registry,
            kafka,
            http,
            connections,
            observer: options.observer,
        };
        let (runtime, parts) = tree::start(parts).await?;
        Ok(Self { runtime, parts, addresses, ready_file: options.ready_file })
    }

    /// Addresses that the server answers on.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// How clients of this process reach Kafka.
    #[must_use]
    pub fn kafka(&self) -> &KafkaSettings {
        self.parts.kafka()
    }

    /// The supervision tree.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// What operators can ask for and do.
    #[must_use]
    pub fn operations(&self) -> &dyn Operations {
        self.parts.operations()
    }

    /// Records of a pipeline that are behind its stored positions, in this process's lifetime or before.
    #[must_use]
    pub fn committed(&self, pipeline: &str) -> u64 {
        self.parts.committed(pipeline)
    }

    /// Waits until everything answers, then writes the ready file.
    ///
    /// # Errors
    /// If that takes too long; the message names what is missing.
    pub async fn ready(&self) -> Result<(), AppError> {
        let until = tokio::time::Instant::now() + READY_WITHIN;
        loop {
            let readiness = self.parts.readiness(&self.runtime);
            if readiness.ready {
                break;
            }
            if tokio::time::Instant::now() >= until {
                return Err(AppError::NotReady(READY_WITHIN, readiness.reasons.join("; ")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let Some(file) = &self.ready_file else { return Ok(()) };
        let ready = serde_json::json!({
            "http": self.addresses.http.to_string(),
            "kafka": self.addresses.kafka,
            "registry": self.addresses.registry,
            "pid": std::process::id(),
        });
        write_atomically(file, ready.to_string().as_bytes()).map_err(|error| AppError::open("the ready file", error))
    }

    /// Waits for `stop` or for the root supervisor to give up, then shuts down in phases.
    pub async fn run(&self, stop: impl Future<Output = ()>) -> Outcome {
        tokio::select! {
            outcome = self.runtime.run() => {
                tracing::error!(?outcome, "the supervision tree has ended");
                self.parts.close().await;
                outcome
            }
            () = stop => {
                self.shutdown().await;
                Outcome::Stopped
            }
        }
    }

    async fn shutdown(&self) {
        let start = tokio::time::Instant::now();
        tracing::info!("shutting down: sources read no more, lanes drain, state is stored");
        self.parts.stop_serving();
        // Their partitions stay assigned until all that was read is stored, so that no checkpoint is missing.
        self.parts.hold_sources(&self.runtime).await;
        let deadline = Duration::from_secs(3);
        let phases = vec![
            Phase::new("simulators", &["simulators"], PhaseAction::Stop, deadline),
            Phase::new("lanes", &["pipelines/*/lane"], PhaseAction::Drain, deadline),
            Phase::new("sinks", &["pipelines/*/sink"], PhaseAction::Drain, deadline),
            // All that they read is stored by now: a client that cannot take leave of a silent cluster is left behind.
            Phase::new("clients", &CLIENTS, PhaseAction::Stop, SILENT_CLUSTER),
            Phase::new("relays", &["relays"], PhaseAction::Stop, Duration::from_secs(1)),
            Phase::new("edge", &["edge"], PhaseAction::Stop, Duration::from_secs(1)),
        ];
        let report = self.runtime.shutdown(phases).await;
        for phase in &report.phases {
            for actor in &phase.missed {
                tracing::warn!(phase = phase.name, %actor, "missed the deadline and was aborted");
            }
        }
        self.parts.close().await;
        let took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(took_ms, clean = report.is_clean(), "stopped");
    }
}

/// How clients reach the configured cluster, which answers by then.
async fn outside(config: &Config) -> Result<KafkaSettings, AppError> {
    let settings = command_settings(config, None)?;
    let (asked, within) = (settings.clone(), config.kafka.start_timeout.into());
    #[expect(clippy::disallowed_methods, reason = "the start waits for it and tells its panic")]
    let reached = tokio::task::spawn_blocking(move || {
        let waits = |reason: &str| tracing::warn!("kafka.bootstrap {} does not answer yet: {reason}", asked.bootstrap);
        reach::reach(&asked, within, waits)
    });
    match reached.await {
        Ok(Ok(())) => Ok(settings),
        Ok(Err(Unreachable::Refused(why))) => {
            Err(AppError::Config(format!("kafka.bootstrap {}: {why}", settings.bootstrap)))
        }
        Ok(Err(Unreachable::Away(why))) => Err(AppError::Unreachable(format!(
            "kafka.bootstrap {}: nobody answers within kafka.start_timeout ({}): {why}",
            settings.bootstrap, config.kafka.start_timeout
        ))),
        Err(error) => Err(AppError::open("kafka.bootstrap", error)),
    }
}

/// The database, which fits the plan then.
async fn open_database(config: &Config, plan: &Plan) -> Result<Database, AppError> {
    Box::pin(config.database().open(plan.layout())).await.map_err(|error| AppError::open("the database", error))
}

/// Hosts that the HTTP server and the registry answer to.
fn host_rule(config: &Config) -> HostRule {
    let http = &config.http;
    HostRule::new(http.allowed_hosts.iter().cloned(), http.allowed_origins.iter().cloned())
}

/// Bounds and access rules of the HTTP server.
fn http_settings(config: &Config, connections: usize) -> HttpSettings {
    let http = &config.http;
    let tokens = config.auth.tokens.iter().map(|token| AccessToken {
        name: token.name.clone(),
        role: match token.role {
            config::Role::Viewer => Role::Viewer,
            config::Role::Operator => Role::Operator,
            config::Role::Admin => Role::Admin,
        },
        secret: token.token.expose().to_owned(),
    });
    let defaults = HttpSettings::default();
    HttpSettings {
        workers: usize::try_from(http.workers).unwrap_or(1),
        access: Access { hosts: host_rule(config), tokens: tokens.collect() },
        body_limit: http.max_body.as_usize(),
        connections,
        sockets: SocketSettings {
            ping_every: http.websocket.ping_every.into(),
            evict_after: http.websocket.evict_after.into(),
            limits: SubscriptionLimits { queue: usize::try_from(http.websocket.queue).unwrap_or(256) },
            ..defaults.sockets
        },
        ..defaults
    }
}

/// Topics that must exist before anything reads or writes.
async fn make_topics(kafka: &KafkaSettings, config: &Config, plan: &Plan) -> Result<(), AppError> {
    let topics = topics::specs(config, plan);
    let found = ensure_topics(kafka, &topics).await.map_err(|error| AppError::open("the topics", error))?;
    for (stream, found) in plan.streams.iter().filter_map(|stream| Some((stream, found.get(&*stream.topic)?))) {
        if let Some(difference) = stream.partitions_differ(found.partitions) {
            tracing::warn!("{difference}");
        }
    }
    for (topic, found) in topics.iter().filter_map(|topic| Some((topic, found.get(&topic.name)?))) {
        for difference in topics::settings_differ(topic, found) {
            tracing::warn!("{difference}");
        }
    }
    Ok(())
}
