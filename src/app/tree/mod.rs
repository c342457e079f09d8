//! The supervision tree: which actor runs where, and under which policy.
//!
//! ```text
//! root ─ platform: broker or logs, registry/{follower, http} or registry/client, registry/registration
//!      ─ pipelines/<name>: sink, lanes/<n>, source        (own intensity each)
//!      ─ relays: alerts, dead-letters
//!      ─ edge: http, sessions/*
//!      ─ ops: upkeep, retention, lag, groups, standstill
//!      ─ simulators: sensors
//! ```
//!
//! Children start in this order and end in the reverse one.

mod pipeline;

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use streamward_core::ports::{ReadStore, Readiness};
use streamward_kit::{
    ActorPath, ChildPolicy, ChildSpec, Command, CommandError, Intensity, Placement, Runtime, SupervisorSpec,
};
use streamward_pipeline::{
    live::{LiveChannel, LiveHub},
    logs::Logs,
    relay::{self, FactKind, RelayShared},
    sink::CommitObserver,
    store::{RetentionPolicy, Store},
};

use super::{
    AppError, announcer,
    broker::Embedded,
    descriptors::Shares,
    drills::UnderWay,
    groups::{self, GroupsSeen},
    ingest::KafkaIngest,
    lag::{self, LogEnds},
    logs, make_topics, open_database,
    operations::{LiveOperations, PipelineView, readiness},
    registration::{self, RegistrationShared, Registrations, SchemaId},
    registry::{RegistrySetup, RegistryStart},
    relays::TopicTarget,
    retention,
    sensors::{self, AvroEncoder, SensorsShared},
    serve::serve,
    sessions::Sessions,
    standstill::{self, Findings, watch::WatchShared},
    supervision::{adjusted, child_policy, intensity},
    topics, upkeep,
};
use crate::{
    adapters::{
        database::{Database, Held},
        kafka::{KafkaSettings, members::KnownIds, producer::KafkaProducer, topics::KafkaTopics},
    },
    config::{self, Config},
    http,
    node::NodeFolder,
    plan::Plan,
    registry::{
        encode::SchemaEncoder,
        schemas::{SchemaDecoder, Schemas},
    },
};

/// Arbiter that sinks and relays share.
const SINKS: &str = "sinks";
/// How long a client that posts records waits for Kafka.
const INGEST_WITHIN: Duration = Duration::from_secs(4);

/// Everything that outlives the actors.
pub struct Parts {
    pub config: Config,
    pub plan: Plan,
    pub folder: NodeFolder,
    pub _held: Held,
    pub broker: Option<Arc<Embedded>>,
    pub registry: RegistrySetup,
    pub kafka: KafkaSettings,
    pub http: TcpListener,
    pub connections: Shares,
    pub observer: Option<Arc<dyn CommitObserver>>,
}

/// What the running tree shares with the handle on it.
pub struct Running {
    parts: Parts,
    views: Vec<PipelineView>,
    serving: Arc<AtomicBool>,
    live: LiveHub,
    operations: Arc<LiveOperations>,
}

impl Running {
    /// How clients of this process reach Kafka.
    pub fn kafka(&self) -> &KafkaSettings {
        &self.parts.kafka
    }

    /// What operators can ask for.
    pub fn operations(&self) -> &LiveOperations {
        &self.operations
    }

    /// What is missing for the server to be ready.
    pub fn readiness(&self, runtime: &Runtime) -> Readiness {
        let findings = &self.operations.findings;
        readiness(runtime, (&self.views, findings), self.serving.load(Ordering::Acquire))
    }

    /// Sum of a pipeline's stored positions.
    pub fn committed(&self, pipeline: &str) -> u64 {
        let views = self.views.iter().filter(|view| &*view.name == pipeline);
        let positions = views.flat_map(|view| view.slots.all()).map(|slot| slot.committed());
        u64::try_from(positions.sum::<i64>()).unwrap_or(0)
    }

    /// Tells clients that this server is going.
    pub fn stop_serving(&self) {
        self.serving.store(false, Ordering::Release);
        self.live.close();
    }

    /// Lets the sources read nothing more, and keep their partitions.
    pub async fn hold_sources(&self, runtime: &Runtime) {
        for view in &self.views {
            let held = match ActorPath::parse(&format!("pipelines/{}/source", view.name)) {
                Ok(path) => match runtime.command(&path, Command::Pause).await {
                    // One that is down reads nothing.
                    Err(CommandError::NotNow { .. }) => Ok(()),
                    held => held.map_err(|error| error.to_string()),
                },
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = held {
                tracing::warn!(pipeline = %view.name, error, "hold the source");
            }
        }
    }

    /// Writes what the databases still hold in memory.
    pub async fn close(&self) {
        if let Err(error) = self.operations.store.close().await {
            tracing::warn!(%error, "close the database");
        }
        close_broker(&self.parts);
    }
}

/// Starts the platform, then everything that needs it; ends what it started where that fails.
pub async fn start(parts: Parts) -> Result<(Runtime, Arc<Running>), AppError> {
    let root = &parts.config.supervision.root;
    let topics = parts.plan.streams.iter().map(|stream| stream.topic.clone()).collect();
    let (logs, asker) = logs::logs(parts.broker.as_ref(), &parts.kafka, topics);
    let platform = ChildSpec::supervisor(platform(&parts, asker));
    let platform = adjusted(&parts.config.supervision, &ActorPath::root(), platform)?;
    let spec = SupervisorSpec::new("root").intensity(intensity(root)).child(platform);
    let runtime = Runtime::start(spec).map_err(|error| AppError::open("the supervision tree", error))?;
    let serving = Arc::new(AtomicBool::new(true));
    match start_groups((&parts, logs), &runtime, &serving).await {
        Ok((views, live, operations)) => Ok((runtime, Arc::new(Running { parts, views, serving, live, operations }))),
        Err(error) => {
            runtime.shutdown(Vec::new()).await;
            close_broker(&parts);
            Err(error)
        }
    }
}

async fn start_groups(
    (parts, logs): (&Parts, Arc<dyn Logs>),
    runtime: &Runtime,
    serving: &Arc<AtomicBool>,
) -> Result<(Vec<PipelineView>, LiveHub, Arc<LiveOperations>), AppError> {
    make_topics(&parts.kafka, &parts.config, &parts.plan).await?;
    let policy = child_policy(&parts.config.supervision.defaults);
    let (config, kafka, broker) = (&parts.config, &parts.kafka, parts.broker.clone());
    let start = RegistryStart {
        setup: &parts.registry,
        config,
        kafka,
        policy,
        broker,
        connections: parts.connections.registry,
        highest_id: parts.folder.join("highest_schema_id"),
    };
    let schemas = start.run(runtime).await?;
    let asked = (parts.registry.describe(), parts.config.registry.start_timeout.into());
    let registrations = Registrations::make(&*schemas, &parts.plan, asked).await?;
    let simulated = registrations.id(config::SENSORS_STREAM);
    // It carries out what the configuration changes, so that it comes after all that may refuse the start.
    let database = open_database(&parts.config, &parts.plan).await?;
    start_registration(parts, runtime, RegistrationShared::new(schemas.clone(), registrations)).await?;
    let builder = Builder::new((parts, logs), runtime.clone(), (schemas, database))?;
    let handle = runtime.supervisor(ActorPath::root());
    let mut views = Vec::new();
    // However often one pipeline gives up, the others have nothing to do with it.
    let mut pipelines = SupervisorSpec::new("pipelines").intensity(Intensity::unlimited());
    for pipeline in &parts.plan.pipelines {
        let (spec, view) = builder.pipeline(pipeline)?;
        pipelines = pipelines.child(ChildSpec::supervisor(spec).policy(builder.policy()));
        views.push(view);
    }
    let operations = Arc::new(builder.operations(&views, serving));
    let groups = [
        pipelines,
        builder.relays(),
        builder.edge(operations.clone())?,
        builder.ops(&views, serving),
        builder.simulators(simulated),
    ];
    for group in groups {
        let child = ChildSpec::supervisor(group).policy(builder.policy());
        let child = adjusted(&parts.config.supervision, &ActorPath::root(), child)?;
        handle.start_child(child).await.map_err(|error| AppError::open("the supervision tree", error))?;
    }
    Ok((views, builder.live, operations))
}

/// Starts the actor that registers what the registry did not take at the start, or has lost since.
async fn start_registration(parts: &Parts, runtime: &Runtime, shared: RegistrationShared) -> Result<(), AppError> {
    let registry =
        ActorPath::parse("platform/registry").map_err(|error| AppError::open("the supervision tree", error))?;
    let (shared, config) = (Arc::new(shared), &parts.config.supervision);
    let role = ChildSpec::role("registration", "registration", move |scope| registration::run(scope, shared.clone()));
    let role = adjusted(config, &registry, role.policy(child_policy(&config.defaults)))?;
    let started = runtime.supervisor(registry).start_child(role).await;
    started.map(drop).map_err(|error| AppError::open("the supervision tree", error))
}

/// The broker, or who asks an outside cluster about its topics.
fn platform(parts: &Parts, asker: Option<ChildSpec>) -> SupervisorSpec {
    let broker = parts.broker.clone();
    let broker = broker.map(|broker| ChildSpec::thread("broker", "broker", move |scope| broker.run(&scope)));
    let policy = child_policy(&parts.config.supervision.defaults);
    let children = broker.into_iter().chain(asker).map(|child| child.policy(policy));
    children.fold(SupervisorSpec::new("platform"), SupervisorSpec::child)
}

fn close_broker(parts: &Parts) {
    if let Some(broker) = &parts.broker
        && let Err(error) = broker.broker().close()
    {
        tracing::error!(%error, "flush the broker's log");
    }
}

/// Builds the parts of the tree that need Kafka.
struct Builder<'a> {
    parts: &'a Parts,
    runtime: Runtime,
    schemas: Arc<dyn Schemas>,
    producer: KafkaProducer,
    live: LiveHub,
    ends: LogEnds,
    groups: GroupsSeen,
    /// On an outside cluster.
    known: Option<Arc<KnownIds>>,
    findings: Findings,
    logs: Arc<dyn Logs>,
    store: Arc<dyn Store>,
    reads: Arc<dyn ReadStore>,
}

impl<'a> Builder<'a> {
    fn new(
        (parts, logs): (&'a Parts, Arc<dyn Logs>),
        runtime: Runtime,
        (schemas, database): (Arc<dyn Schemas>, Database),
    ) -> Result<Self, AppError> {
        let Database { store, reads } = database;
        let kafka = |error| AppError::open("Kafka", error);
        let producer = KafkaProducer::create(&parts.kafka, "streamward").map_err(kafka)?;
        let (live, ends, findings) = (LiveHub::default(), LogEnds::default(), Findings::default());
        let groups = GroupsSeen::default();
        let known = parts.broker.is_none().then(|| Arc::new(KnownIds::open(parts.folder.path())));
        Ok(Self { parts, runtime, schemas, producer, live, ends, groups, known, findings, logs, store, reads })
    }

    fn policy(&self) -> ChildPolicy {
        child_policy(&self.parts.config.supervision.defaults)
    }

    fn relays(&self) -> SupervisorSpec {
        let config = &self.parts.config;
        let relay = |id: &str, kind, topic: &str, live: Option<LiveChannel>| {
            let target = TopicTarget { producer: self.producer.clone(), topic: topic.to_owned(), live };
            let shared = Arc::new(RelayShared { kind, outbox: self.store.clone(), target: Arc::new(target) });
            ChildSpec::role(id, "relay", move |scope| relay::run(scope, shared.clone()))
                .placement(Placement::pool(SINKS))
                .policy(self.policy())
        };
        let alerts = relay("alerts", FactKind::Alert, &config.alerts.topic, Some(self.live.channel("alerts")));
        let dead_letters = relay("dead-letters", FactKind::DeadLetter, &config.dlq.topic, None);
        SupervisorSpec::new("relays").child(alerts).child(dead_letters)
    }

    fn operations(&self, views: &[PipelineView], serving: &Arc<AtomicBool>) -> LiveOperations {
        LiveOperations {
            runtime: self.runtime.clone(),
            plan: self.parts.plan.clone(),
            pipelines: views.to_vec(),
            ends: self.ends.clone(),
            findings: self.findings.clone(),
            store: self.store.clone(),
            reads: self.reads.clone(),
            live: self.live.clone(),
            broker: self.parts.broker.clone(),
            producer: self.producer.clone(),
            drills: self.parts.config.drills.enabled,
            drills_under_way: UnderWay::new(),
            serving: serving.clone(),
        }
    }

    /// Writes what clients post, by a client of its own: they do not wait as long for Kafka as the relays do.
    fn ingest(&self) -> Result<KafkaIngest, AppError> {
        let producer = KafkaProducer::with_timeout(&self.parts.kafka, "streamward-ingest", INGEST_WITHIN);
        let producer = producer.map_err(|error| AppError::open("Kafka", error))?;
        let broker = match &self.parts.broker {
            Some(_) => "the embedded broker".to_owned(),
            None => format!("Kafka at {}", self.parts.kafka.bootstrap),
        };
        Ok(KafkaIngest::new((producer, broker), self.ends.clone(), &self.parts.plan))
    }

    fn topics(&self) -> KafkaTopics {
        let parts = self.parts;
        let knowledge = topics::knowledge(&parts.config, &parts.plan, parts.broker.clone());
        KafkaTopics::new(parts.kafka.clone(), self.producer.clone(), knowledge)
    }

    fn edge(&self, operations: Arc<LiveOperations>) -> Result<SupervisorSpec, AppError> {
        let config = &self.parts.config.http;
        let sessions =
            ActorPath::parse("edge/sessions").map_err(|error| AppError::open("the supervision tree", error))?;
        let max = usize::try_from(config.websocket.max_sessions).unwrap_or(usize::MAX);
        let state = http::HttpState {
            reads: self.reads.clone(),
            ingest: Arc::new(self.ingest()?),
            operations,
            topics: Arc::new(self.topics()),
            sessions: Arc::new(Sessions::new(self.runtime.supervisor(sessions), max)),
            decoder: Arc::new(SchemaDecoder::new(self.schemas.clone())),
            encoder: Arc::new(SchemaEncoder(self.schemas.clone())),
            live: self.live.clone(),
        };
        let settings = super::http_settings(&self.parts.config, self.parts.connections.http);
        let listener = Arc::new(self.parts.http.try_clone().map_err(|error| AppError::open("HTTP", error))?);
        let http = ChildSpec::role("http", "http", move |scope| {
            let (state, settings, listener) = (state.clone(), settings.clone(), listener.clone());
            async move {
                let server = http::server(state, listener.try_clone()?, settings)?;
                serve(scope, server).await
            }
        });
        let sessions = SupervisorSpec::new("sessions").max_children(max);
        let (runtime, channel) = (self.runtime.clone(), self.live.channel("supervision"));
        let announcer = ChildSpec::role("announcer", "announcer", move |scope| {
            announcer::run(scope, runtime.clone(), channel.clone())
        });
        Ok(SupervisorSpec::new("edge")
            .child(ChildSpec::supervisor(sessions).policy(self.policy()))
            .child(announcer.policy(self.policy()))
            .child(http.policy(self.policy())))
    }

    fn ops(&self, views: &[PipelineView], serving: &Arc<AtomicBool>) -> SupervisorSpec {
        let retention = &self.parts.config.storage.retention;
        let policy =
            RetentionPolicy { age: retention.age.map(Into::into), size_bytes: retention.size.map(|size| size.get()) };
        let (store, every) = (self.store.clone(), Duration::from(retention.check_every));
        let retain = ChildSpec::role("retention", "retention", move |scope| {
            retention::run(scope, store.clone(), policy.clone(), every)
        });
        let store = self.store.clone();
        let upkeep = ChildSpec::role("upkeep", "upkeep", move |scope| upkeep::run(scope, store.clone()));
        let groups = self.known.is_some().then(|| self.groups(views));
        let watches = [Some(self.lag()), groups, Some(self.standstill(views, serving))];
        let ops = SupervisorSpec::new("ops")
            .child(upkeep.placement(Placement::pool(SINKS)).policy(self.policy()))
            .child(retain.placement(Placement::pool(SINKS)).policy(self.policy()));
        let watches = watches.into_iter().flatten().map(|watch| watch.policy(self.policy()));
        watches.fold(ops, SupervisorSpec::child)
    }

    fn lag(&self) -> ChildSpec {
        let topics: Vec<Arc<str>> = self.parts.plan.streams.iter().map(|stream| stream.topic.clone()).collect();
        let (kafka, ends) = (self.parts.kafka.clone(), self.ends.clone());
        ChildSpec::thread("lag", "lag", move |scope| lag::run(&scope, &kafka, &topics, &ends))
    }

    /// Looks at the consumer groups of the pipelines.
    fn groups(&self, views: &[PipelineView]) -> ChildSpec {
        let (views, kafka, seen) = (views.to_vec(), self.parts.kafka.clone(), self.groups.clone());
        ChildSpec::thread("groups", "groups", move |scope| groups::run(&scope, &kafka, &views, &seen))
    }

    fn standstill(&self, views: &[PipelineView], serving: &Arc<AtomicBool>) -> ChildSpec {
        let shared = Arc::new(WatchShared {
            runtime: self.runtime.clone(),
            pipelines: views.to_vec(),
            ends: self.ends.clone(),
            groups: self.groups.clone(),
            store: self.store.clone(),
            broker: self.parts.broker.clone(),
            findings: self.findings.clone(),
            serving: serving.clone(),
            data_dir: self.parts.folder.path().to_owned(),
        });
        ChildSpec::role("standstill", "watch", move |scope| standstill::watch::run(scope, shared.clone()))
    }

    fn simulators(&self, schema_id: Option<Arc<SchemaId>>) -> SupervisorSpec {
        let supervisor = SupervisorSpec::new("simulators");
        let Some(simulator) = self.parts.config.sensor_simulator() else { return supervisor };
        let Some((stream, id)) = self.parts.plan.stream(config::SENSORS_STREAM).zip(schema_id) else {
            return supervisor;
        };
        let shared = Arc::new(SensorsShared {
            config: simulator.clone(),
            topic: stream.topic.clone(),
            producer: self.producer.clone(),
            encoder: AvroEncoder { schema: stream.schema.clone(), id },
        });
        let child = ChildSpec::role("sensors", "simulator", move |scope| sensors::run(scope, shared.clone()));
        supervisor.child(child.policy(self.policy()))
    }
}
