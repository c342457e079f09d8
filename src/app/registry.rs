//! The registry as a part of the tree: the one inside (its REST side and the follower of its topic), or the client of
//! one outside. The configured schemas are registered by `registration`.

use std::{
    net::{SocketAddr, TcpListener},
    ops::RangeInclusive,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use percent_encoding::percent_decode_str;
use streamward_kit::{ActorPath, ChildPolicy, ChildSpec, Failure, Placement, Runtime, Scope, SupervisorSpec};

use super::{AppError, broker::Embedded, host_rule, listen, serve::serve, supervision::adjusted};
use crate::{
    adapters::{
        kafka::{
            KafkaSettings,
            admin::LogInspector,
            schemas::{KafkaSchemaLog, ensure_schemas_topic},
        },
        registry::{RegistryAuth, RegistryClient, RegistrySettings},
    },
    config::{self, Config, RegistryConfig},
    registry::{
        self, ClusterIds, HighestId, Registry,
        schemas::{EmbeddedSchemas, Schemas},
    },
};

/// Times that the registry may be given to answer at the start: its topic is read first.
pub const START_WITHIN: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_hours(1);
/// How often the topic is looked at for what other registries wrote.
const FOLLOW_EVERY: Duration = Duration::from_millis(250);
/// How long is said that the topic was lost, once it is whole again: people look now and then.
const RESTORED_SHOWN_FOR: Duration = Duration::from_secs(60);
/// How often it is read where the embedded broker says that it has not grown: whoever does not answer is to be noted.
const READ_AT_LEAST: Duration = Duration::from_secs(2);
const CLUSTER_TIMEOUT: Duration = Duration::from_secs(10);

/// How to reach the registry outside; none where the embedded one runs.
///
/// # Errors
/// If the URL is none.
pub fn registry_settings(config: &RegistryConfig) -> Result<Option<RegistrySettings>, AppError> {
    let Some(text) = &config.url else { return Ok(None) };
    let fault = |_| AppError::Config("registry.url is no URL".to_owned());
    let mut url = url::Url::parse(text.expose()).map_err(fault)?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let secret = |secret: &Option<config::Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
    let auth = match (secret(&config.auth.token), &config.auth.user, url.username()) {
        (Some(token), ..) => RegistryAuth::Bearer(token),
        (None, Some(user), _) => {
            RegistryAuth::Basic { user: user.clone(), password: secret(&config.auth.password).unwrap_or_default() }
        }
        (None, None, "") => RegistryAuth::None,
        (None, None, user) => {
            let password = decoded(url.password().unwrap_or_default());
            RegistryAuth::Basic { user: decoded(user), password }
        }
    };
    // Only a URL without a host refuses these, and that is refused before.
    let _no_host = url.set_username("").and_then(|()| url.set_password(None));
    let url = url.as_str().trim_end_matches('/').to_owned();
    Ok(Some(RegistrySettings { url, auth, ca_file: config.ca_file.clone(), timeout: config.timeout.into() }))
}

/// Which registry this process uses, before anything runs.
pub enum RegistrySetup {
    /// The one inside, on this listener.
    Embedded(TcpListener),
    External(RegistrySettings),
}

impl RegistrySetup {
    /// Takes the listener, or the address of the registry outside.
    ///
    /// # Errors
    /// If the address is in use.
    pub fn new(config: &Config) -> Result<Self, AppError> {
        match registry_settings(&config.registry)? {
            Some(settings) => Ok(Self::External(settings)),
            None => Ok(Self::Embedded(listen("registry.embedded.listen", config.registry.embedded.listen.get())?)),
        }
    }

    /// What it is called where something is wrong, with the setting.
    pub fn describe(&self) -> String {
        match self {
            Self::Embedded(_) => "the embedded registry".to_owned(),
            Self::External(settings) => format!("registry.url {}", settings.url),
        }
    }

    /// Where it answers; `host:port` of the one inside, the URL of one outside.
    ///
    /// # Errors
    /// If the listener has no address.
    pub fn address(&self) -> Result<String, AppError> {
        match self {
            Self::Embedded(listener) => {
                let address: Result<SocketAddr, _> = listener.local_addr();
                address.map(|address| address.to_string()).map_err(|error| AppError::open("the registry", error))
            }
            Self::External(settings) => Ok(settings.url.clone()),
        }
    }
}

/// What the start of the registry needs.
pub struct RegistryStart<'a> {
    pub setup: &'a RegistrySetup,
    pub config: &'a Config,
    pub kafka: &'a KafkaSettings,
    pub policy: ChildPolicy,
    /// The embedded broker, where it is the cluster.
    pub broker: Option<Arc<Embedded>>,
    /// Most connections at a time of the one inside.
    pub connections: usize,
    /// Where the one inside keeps the highest id that it ever gave.
    pub highest_id: PathBuf,
}

impl RegistryStart<'_> {
    /// Starts the registry's part of the tree below `platform`.
    ///
    /// # Errors
    /// If its topic cannot be used or read in time.
    pub async fn run(self, runtime: &Runtime) -> Result<Arc<dyn Schemas>, AppError> {
        let platform = ActorPath::parse("platform").map_err(|error| AppError::open("the supervision tree", error))?;
        let (supervisor, schemas) = match self.setup {
            RegistrySetup::Embedded(listener) => self.embedded(listener).await?,
            RegistrySetup::External(settings) => self.external(settings),
        };
        let child = ChildSpec::supervisor(supervisor).policy(self.policy);
        let child = adjusted(&self.config.supervision, &platform, child)?;
        let started = runtime.supervisor(platform).start_child(child).await;
        started.map_err(|error| AppError::open("the supervision tree", error))?;
        Ok(schemas)
    }

    async fn embedded(&self, listener: &TcpListener) -> Result<(SupervisorSpec, Arc<dyn Schemas>), AppError> {
        let fault = |error: &dyn std::fmt::Display| AppError::open("the registry", error);
        let config = &self.config.registry;
        let topic = config.embedded.topic.clone();
        ensure_schemas_topic(self.kafka, &topic).await.map_err(|error| fault(&error))?;
        let highest = HighestId::in_file(self.highest_id.clone()).map_err(|error| fault(&error))?;
        let (kafka, of) = (self.kafka.clone(), topic.clone());
        #[expect(clippy::disallowed_methods, reason = "waited for below, its panic is told")]
        let open = tokio::task::spawn_blocking(move || open(&kafka, &of, highest));
        let within = Duration::from(config.start_timeout);
        let (registry, kafka_id) = tokio::time::timeout(within, open)
            .await
            .map_err(|_| fault(&format!("topic {topic} was not read to its end within {within:?}")))?
            .map_err(|error| fault(&error))??;
        let ids = ClusterIds { kafka: kafka_id, topic };
        let listener = Arc::new(listener.try_clone().map_err(|error| fault(&error))?);
        let (served, hosts, connections) = (registry.clone(), host_rule(self.config), self.connections);
        let http = ChildSpec::role("http", "registry", move |scope| {
            let (registry, ids, listener, hosts) = (served.clone(), ids.clone(), listener.clone(), hosts.clone());
            async move {
                let server = registry::server(registry, ids, listener.try_clone()?, hosts, connections)?;
                serve(scope, server).await
            }
        });
        let followed = registry.clone();
        let (broker, of) = (self.broker.clone(), config.embedded.topic.clone());
        let end = move || broker.as_ref()?.broker().stable_end(&of, 0);
        let follower = ChildSpec::thread("follower", "follower", move |scope| follow(&scope, &followed, &end));
        let supervisor =
            SupervisorSpec::new("registry").child(follower.policy(self.policy)).child(http.policy(self.policy));
        Ok((supervisor, Arc::new(EmbeddedSchemas(registry))))
    }

    fn external(&self, settings: &RegistrySettings) -> (SupervisorSpec, Arc<dyn Schemas>) {
        let client = Arc::new(RegistryClient::new(settings.clone()));
        let worker = client.clone();
        let role = ChildSpec::role("client", "registry", move |scope| {
            let worker = worker.clone();
            async move { worker.run(scope).await }
        });
        let role = role.placement(Placement::Dedicated).policy(self.policy);
        (SupervisorSpec::new("registry").child(role), client)
    }
}

/// The registry and the id of its Kafka cluster.
fn open(kafka: &KafkaSettings, topic: &str, highest: HighestId) -> Result<(Registry, String), AppError> {
    let log = KafkaSchemaLog::open(kafka, topic).map_err(|error| AppError::open("the registry", error))?;
    let registry = Registry::open(Box::new(log), highest).map_err(|error| AppError::open("the registry", error))?;
    let inspector = LogInspector::connect(kafka).map_err(|error| AppError::open("Kafka", error))?;
    Ok((registry, inspector.cluster_id(CLUSTER_TIMEOUT)))
}

/// Takes in what other registries write to the topic, whose end may be known without a question, and makes it again when it
/// is lost.
fn follow(scope: &Scope, registry: &Registry, end: &dyn Fn() -> Option<i64>) -> Result<(), Failure> {
    let (mut read_to, mut read_at) = (None, Instant::now());
    while !scope.stopping_within(FOLLOW_EVERY) {
        scope.pause_point_blocking();
        scope.fault_point_blocking("follow")?;
        let end = end();
        if end.is_some() && end == read_to && read_at.elapsed() < READ_AT_LEAST {
            continue;
        }
        let _waiting = scope.waiting_on("kafka");
        let read = registry.catch_up();
        (read_to, read_at) = (end.filter(|_| read.is_ok()), Instant::now());
        match read {
            Ok(()) => match registry.restored().filter(|(at, _)| at.elapsed() < RESTORED_SHOWN_FOR) {
                Some((_, said)) => scope.set_state_note(&said),
                None => scope.clear_state_note(),
            },
            Err(error) => scope.set_state_note(&error.to_string()),
        }
    }
    Ok(())
}
