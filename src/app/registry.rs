//! The registry as a part of the tree: its REST side and the follower of its topic; and the registration of the
//! configured schemas.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use streamward_kit::{ActorPath, ChildPolicy, ChildSpec, Failure, Runtime, Scope, SupervisorSpec};
use tokio::time::Instant;

use super::{AppError, listen, tree::serve};
use crate::{
    adapters::kafka::{
        KafkaSettings,
        admin::LogInspector,
        schemas::{KafkaSchemaLog, ensure_schemas_topic},
    },
    config::Config,
    http::access::HostRule,
    plan::StreamSetup,
    registry::{
        self, ClusterIds, Registry,
        schemas::{EmbeddedSchemas, RegisterError, Schemas},
    },
};

/// How often the topic is looked at for what other registries wrote.
const FOLLOW_EVERY: Duration = Duration::from_millis(250);
/// Wait before a registry that did not answer at the start is asked again.
const RETRY_EVERY: Duration = Duration::from_millis(500);
const CLUSTER_TIMEOUT: Duration = Duration::from_secs(10);

/// The registry of this process, before anything runs.
pub struct RegistrySetup(TcpListener);

impl RegistrySetup {
    /// Takes the listener.
    ///
    /// # Errors
    /// If the address is in use.
    pub fn new(config: &Config) -> Result<Self, AppError> {
        Ok(Self(listen("the registry", config.registry.embedded.listen.get())?))
    }

    /// Where it answers, `host:port`.
    ///
    /// # Errors
    /// If the listener has no address.
    pub fn address(&self) -> Result<String, AppError> {
        let address: Result<SocketAddr, _> = self.0.local_addr();
        address.map(|address| address.to_string()).map_err(|error| AppError::open("the registry", error))
    }
}

/// What the start of the registry needs.
pub struct RegistryStart<'a> {
    pub setup: &'a RegistrySetup,
    pub config: &'a Config,
    pub kafka: &'a KafkaSettings,
    pub policy: ChildPolicy,
}

impl RegistryStart<'_> {
    /// Starts the registry's part of the tree below `platform`.
    ///
    /// # Errors
    /// If its topic cannot be used or read in time.
    pub async fn run(self, runtime: &Runtime) -> Result<Arc<dyn Schemas>, AppError> {
        let platform = ActorPath::parse("platform").map_err(|error| AppError::open("the supervision tree", error))?;
        let (supervisor, schemas) = self.embedded(&self.setup.0).await?;
        let child = ChildSpec::supervisor(supervisor).policy(self.policy);
        let started = runtime.supervisor(platform).start_child(child).await;
        started.map_err(|error| AppError::open("the supervision tree", error))?;
        Ok(schemas)
    }

    async fn embedded(&self, listener: &TcpListener) -> Result<(SupervisorSpec, Arc<dyn Schemas>), AppError> {
        let fault = |error: &dyn std::fmt::Display| AppError::open("the registry", error);
        let config = &self.config.registry;
        let topic = config.embedded.topic.clone();
        ensure_schemas_topic(self.kafka, &topic).await.map_err(|error| fault(&error))?;
        let (kafka, of) = (self.kafka.clone(), topic.clone());
        let open = tokio::task::spawn_blocking(move || open(&kafka, &of));
        let within = Duration::from(config.start_timeout);
        let (registry, kafka_id) = tokio::time::timeout(within, open)
            .await
            .map_err(|_| fault(&format!("topic {topic} was not read to its end within {within:?}")))?
            .map_err(|error| fault(&error))??;
        let ids = ClusterIds { kafka: kafka_id, topic };
        let listener = Arc::new(listener.try_clone().map_err(|error| fault(&error))?);
        let served = registry.clone();
        let http = ChildSpec::role("http", "registry", move |scope| {
            let (registry, ids, listener) = (served.clone(), ids.clone(), listener.clone());
            async move {
                let server = registry::server(registry, ids, listener.try_clone()?, HostRule::default())?;
                serve(scope, server).await
            }
        });
        let followed = registry.clone();
        let follower = ChildSpec::thread("follower", "follower", move |scope| follow(&scope, &followed));
        let supervisor =
            SupervisorSpec::new("registry").child(follower.policy(self.policy)).child(http.policy(self.policy));
        Ok((supervisor, Arc::new(EmbeddedSchemas(registry))))
    }
}

/// The registry and the id of its Kafka cluster.
fn open(kafka: &KafkaSettings, topic: &str) -> Result<(Registry, String), AppError> {
    let log = KafkaSchemaLog::open(kafka, topic).map_err(|error| AppError::open("the registry", error))?;
    let registry = Registry::open(Box::new(log)).map_err(|error| AppError::open("the registry", error))?;
    let inspector = LogInspector::connect(kafka).map_err(|error| AppError::open("Kafka", error))?;
    Ok((registry, inspector.cluster_id(CLUSTER_TIMEOUT)))
}

/// Takes in what other registries write to the topic.
fn follow(scope: &Scope, registry: &Registry) -> Result<(), Failure> {
    while !scope.stopping_within(FOLLOW_EVERY) {
        scope.pause_point_blocking();
        scope.fault_point_blocking("follow")?;
        let _waiting = scope.waiting_on("kafka");
        match registry.catch_up() {
            Ok(()) => scope.clear_state_note(),
            Err(error) => scope.set_state_note(&error.to_string()),
        }
    }
    Ok(())
}

/// Registers the schema of each stream under `<topic>-value`; answers their ids in the order of the streams. A
/// registry outside that does not answer is asked again until `within` has passed.
///
/// # Errors
/// If a schema is refused: the message says why.
pub async fn register_all(
    schemas: &dyn Schemas,
    streams: &[StreamSetup],
    within: Duration,
) -> Result<Vec<u32>, AppError> {
    let until = Instant::now() + within;
    let mut ids = Vec::with_capacity(streams.len());
    for stream in streams {
        let subject = format!("{}-value", stream.topic);
        let refused = |reason| format!("register the schema of stream {}: {reason}", stream.name);
        loop {
            match schemas.register(&subject, &stream.schema.avro).await {
                Ok(id) => {
                    ids.push(id);
                    break;
                }
                Err(RegisterError::Refused(reason)) => return Err(AppError::Config(refused(reason))),
                Err(RegisterError::Unavailable(reason)) if Instant::now() >= until => {
                    return Err(AppError::open("the registry", refused(reason)));
                }
                Err(RegisterError::Unavailable(reason)) => {
                    tracing::warn!(reason, "the registry does not answer yet");
                    tokio::time::sleep(RETRY_EVERY).await;
                }
            }
        }
    }
    Ok(ids)
}
