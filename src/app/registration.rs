//! Registers the schema of each stream under `<topic>-value`: at the start, afterwards as long as the registry takes it
//! not, and again where somebody deletes it while the server runs.
//!
//! A registry may be read-only, or silent, when the server starts. The server needs it for one thing that it cannot do
//! without: that a schema which does not go with the earlier ones starts nothing. So it starts all the same where it
//! knows the schema, from the registry (under whatever subject, deleted ones too) or from the database, which has held
//! the stream with the same fields. [`run`] then says what is missing, in the tree, in readiness and in the log, and
//! registers as soon as it can.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use streamward_kit::{Failure, Scope};
use tokio::time::Instant;

use super::{AppError, repeated::Repeated};
use crate::{
    plan::{Plan, StreamSetup},
    registry::schemas::{RegisterError, Schemas},
};

/// Wait before a registry that did not answer at the start is asked again.
const RETRY_EVERY: Duration = Duration::from_millis(500);
/// Wait before a registry that did not take a schema is asked again.
const HEAL_EVERY: Duration = Duration::from_secs(1);
/// How often each subject is looked at. Each look is a request for each stream where the registry is outside.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long is said that a subject was deleted, once it is registered again: people look now and then.
const HEALED_SHOWN_FOR: Duration = Duration::from_secs(60);

/// The id of a stream's schema. No schema has the id 0, which stands for none yet.
#[derive(Debug, Default)]
pub struct SchemaId(AtomicU32);

impl SchemaId {
    /// The id, if it is known.
    pub fn get(&self) -> Option<u32> {
        Some(self.0.load(Ordering::Relaxed)).filter(|id| *id != 0)
    }

    fn set(&self, id: u32) {
        self.0.store(id, Ordering::Relaxed);
    }
}

/// A schema and the subject that it belongs under.
struct Registration {
    stream: Arc<str>,
    subject: String,
    avro: Arc<str>,
    /// The registry, for people.
    registry: Arc<str>,
    id: Arc<SchemaId>,
    /// Why the subject does not have it.
    missing: Option<RegisterError>,
    /// When the subject was last found without it while the server ran, and what became of that.
    healed: Option<(Instant, String)>,
    lines: Repeated,
}

/// The schemas of all streams.
pub struct Registrations(Vec<Registration>);

impl Registrations {
    /// Registers each schema. A registry outside that does not answer is asked again until `within` has passed.
    ///
    /// # Errors
    /// If a schema is refused, or not taken and not known either: the message says why, and what to do.
    pub async fn make(
        schemas: &dyn Schemas,
        plan: &Plan,
        (registry, within): (String, Duration),
    ) -> Result<Self, AppError> {
        let (until, registry) = (Instant::now() + within, Arc::from(registry));
        let mut all = Vec::with_capacity(plan.streams.len());
        for stream in &plan.streams {
            let mut registration = Registration::of(stream, &registry);
            let is_held = plan.held_before.contains(&stream.name);
            registration.make(schemas, is_held, (until, within)).await?;
            if let Some(why) = &registration.missing {
                tracing::warn!("{}", registration.words(why));
            }
            all.push(registration);
        }
        Ok(Self(all))
    }

    /// The id of a stream's schema.
    pub fn id(&self, stream: &str) -> Option<Arc<SchemaId>> {
        self.0.iter().find(|one| *one.stream == *stream).map(|one| one.id.clone())
    }
}

impl Registration {
    fn of(stream: &StreamSetup, registry: &Arc<str>) -> Self {
        Self {
            stream: stream.name.clone(),
            subject: format!("{}-value", stream.topic),
            avro: stream.schema.avro.clone(),
            registry: registry.clone(),
            id: Arc::default(),
            missing: None,
            healed: None,
            lines: Repeated::default(),
        }
    }

    async fn make(
        &mut self,
        schemas: &dyn Schemas,
        is_held: bool,
        (until, within): (Instant, Duration),
    ) -> Result<(), AppError> {
        loop {
            let why = match schemas.register(&self.subject, &self.avro).await {
                Ok(id) => {
                    self.id.set(id);
                    return Ok(());
                }
                Err(why) => why,
            };
            match why {
                RegisterError::Refused(_) | RegisterError::Incompatible(_) => return Err(self.refused(&why)),
                RegisterError::NotWritable(_) => return self.go_without(schemas, is_held, why).await,
                RegisterError::Unavailable(_) if is_held => {
                    self.missing = Some(why);
                    return Ok(());
                }
                RegisterError::Unavailable(_) if Instant::now() >= until => {
                    let waited = format!("{self}: {why}; registry.start_timeout ({within:?}) is over");
                    return Err(AppError::Unreachable(waited));
                }
                RegisterError::Unavailable(reason) => {
                    if self.lines.is_due(&reason, Instant::now()) {
                        tracing::warn!(reason, "{self}: the registry does not answer yet");
                    }
                    tokio::time::sleep(RETRY_EVERY).await;
                }
            }
        }
    }

    /// Goes on where the schema is known although the registry does not take it.
    async fn go_without(&mut self, schemas: &dyn Schemas, is_held: bool, why: RegisterError) -> Result<(), AppError> {
        let known = match schemas.known(&self.subject, &self.avro).await {
            Err(refused @ (RegisterError::Incompatible(_) | RegisterError::Refused(_))) => {
                return Err(self.refused(&refused));
            }
            known => known.ok().flatten(),
        };
        if known.is_none() && !is_held {
            return Err(self.refused(&why));
        }
        if let Some(id) = known {
            self.id.set(id);
        }
        self.missing = Some(why);
        Ok(())
    }

    fn refused(&self, why: &RegisterError) -> AppError {
        let way_out = self.way_out(why);
        AppError::Config(format!("{self}: {why}{}{way_out}", if way_out.is_empty() { "" } else { "; " }))
    }

    /// What an operator can do.
    fn way_out(&self, why: &RegisterError) -> String {
        let Self { stream, subject, .. } = self;
        match why {
            RegisterError::Incompatible(_) => format!(
                "change streams.{stream}.schema, or ask less of the subject: streamward schema config {subject} --level none"
            ),
            RegisterError::NotWritable(_) => {
                format!(
                    "let it be written: streamward schema config {subject} --mode readwrite, or the registry's own mode"
                )
            }
            RegisterError::Refused(_) | RegisterError::Unavailable(_) => String::new(),
        }
    }

    /// What is missing, what it means, and what to do.
    fn words(&self, why: &RegisterError) -> String {
        let known = match self.id.get() {
            Some(id) => format!("the schema is known by its id {id}"),
            None => "the schema is known from the database; no id of it is known".to_owned(),
        };
        let way_out = match why {
            RegisterError::Unavailable(_) => "it is registered once the registry answers".to_owned(),
            _ => format!("it is registered once the registry takes it: {}", self.way_out(why)),
        };
        format!(
            "subject {} does not have the schema of stream {} ({}): {why}; {known}, so that the stream goes on; clients that \
             ask for the subject do not find the schema, and a record with an id that the registry does not have waits or is \
             a dead letter; {way_out}",
            self.subject, self.stream, self.registry
        )
    }

    async fn ask(&mut self, schemas: &dyn Schemas) {
        if self.missing.is_some() { self.heal(schemas).await } else { self.look(schemas).await }
    }

    /// What is to be said of it, if anything.
    fn note(&self) -> Option<String> {
        if let Some(why) = &self.missing {
            return Some(self.words(why));
        }
        let (at, said) = self.healed.as_ref()?;
        (at.elapsed() < HEALED_SHOWN_FOR).then(|| said.clone())
    }

    /// Looks whether the subject still has it, and registers it again where it has not.
    async fn look(&mut self, schemas: &dyn Schemas) {
        let held = schemas.held(&self.subject, &self.avro).await;
        let Self { stream, subject, registry, .. } = &*self;
        let before = self.id.get();
        match held {
            Ok(Some(id)) if before == Some(id) => {}
            Ok(Some(id)) => {
                tracing::warn!(?before, id, "subject {subject} has the schema of stream {stream} under another id");
                self.id.set(id);
            }
            Ok(None) => {
                let lost = format!(
                    "subject {subject} did not have the schema of stream {stream} any more ({registry}): somebody deleted it"
                );
                tracing::warn!("{lost}; it is registered again");
                self.heal(schemas).await;
                let what = match (self.id.get(), before) {
                    _ if self.missing.is_some() => return,
                    (Some(id), Some(before)) if id != before => format!(
                        "it is registered again with the id {id}; records with its id before, {before}, are dead letters \
                         where the registry no longer has that"
                    ),
                    _ => "it is registered again with the id that it had".to_owned(),
                };
                self.healed = Some((Instant::now(), format!("{lost}; {what}")));
            }
            // Whoever needs the registry says that it is silent.
            Err(why) => tracing::debug!(why, "look at subject {subject}"),
        }
    }

    /// Tries again.
    async fn heal(&mut self, schemas: &dyn Schemas) {
        match schemas.register(&self.subject, &self.avro).await {
            Ok(id) => {
                self.id.set(id);
                self.missing = None;
                tracing::info!(id, "subject {} has the schema of stream {} again", self.subject, self.stream);
            }
            Err(why) => {
                if self.lines.is_due(&why.to_string(), Instant::now()) {
                    tracing::warn!("{}", self.words(&why));
                }
                self.missing = Some(why);
            }
        }
    }
}

impl fmt::Display for Registration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream, subject, registry, .. } = self;
        write!(formatter, "register the schema of stream {stream} under the subject {subject} ({registry})")
    }
}

/// What an incarnation of the actor needs.
pub struct RegistrationShared {
    schemas: Arc<dyn Schemas>,
    /// Held by the present incarnation.
    registrations: tokio::sync::Mutex<Registrations>,
}

impl RegistrationShared {
    /// For the actor that registers what is missing.
    pub fn new(schemas: Arc<dyn Schemas>, registrations: Registrations) -> Self {
        Self { schemas, registrations: registrations.into() }
    }
}

/// Runs one incarnation: registers what is missing or was deleted, and notes what still is missing.
///
/// # Errors
/// On an injected error.
pub async fn run(scope: Scope, shared: Arc<RegistrationShared>) -> Result<(), Failure> {
    let mut registrations = shared.registrations.lock().await;
    let mut looked_at = Instant::now();
    loop {
        scope.pause_point().await;
        scope.fault_point("register").await?;
        let is_look = looked_at.elapsed() >= LOOK_EVERY;
        if is_look {
            looked_at = Instant::now();
        }
        let asked = registrations.0.iter_mut().filter(|one| is_look || one.missing.is_some());
        for registration in asked {
            let _waiting = scope.waiting_on("registry");
            tokio::select! {
                () = registration.ask(&*shared.schemas) => {}
                () = scope.stopping() => return Ok(()),
            }
        }
        let said = registrations.0.iter().filter_map(Registration::note);
        match said.collect::<Vec<_>>() {
            said if said.is_empty() => scope.clear_state_note(),
            said => scope.set_state_note(&said.join("; ")),
        }
        if scope.sleep(HEAL_EVERY).await {
            return Ok(());
        }
    }
}
