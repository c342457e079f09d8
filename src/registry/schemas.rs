//! Where the process registers schemas and looks them up: one port for the registry inside and for one outside.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use streamward_pipeline::{ports::SchemaSource, store::BoxFuture};

use super::{Registry, RegistryError, Submission, Visible, Which, avro};

pub use super::decode::SchemaDecoder;

/// How old what is known may be for people who look at values.
const FRESH_FOR: Duration = Duration::from_millis(250);

/// Why a schema was not registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The registry has answered, and will answer so again.
    #[error("{0}")]
    Refused(String),
    /// The schema does not go with the versions that the subject has.
    #[error("{0}")]
    Incompatible(String),
    /// The registry takes no schema for this subject now, whatever it says: it or the subject is read-only or imports, is
    /// full, or this user may not write.
    #[error("{0}")]
    NotWritable(String),
    #[error("{0}")]
    Unavailable(String),
}

impl From<RegistryError> for RegisterError {
    fn from(error: RegistryError) -> Self {
        let said = error.to_string();
        if matches!(error, RegistryError::Store(_) | RegistryError::TimedOut(_)) {
            Self::Unavailable(said)
        } else if matches!(error, RegistryError::NotPermitted(_) | RegistryError::Full(_)) {
            Self::NotWritable(said)
        } else if matches!(error, RegistryError::Incompatible { .. }) {
            Self::Incompatible(said)
        } else {
            Self::Refused(said)
        }
    }
}

/// A registry, as this process needs it.
pub trait Schemas: SchemaSource {
    /// Registers an Avro schema under a subject and answers its id; one that the subject has keeps its id.
    ///
    /// # Errors
    /// [`RegisterError`]
    fn register<'a>(&'a self, subject: &'a str, avro_json: &'a str) -> BoxFuture<'a, Result<u32, RegisterError>>;

    /// What a registry knows of a schema that it does not take now: an id that the schema has, be it that of a deleted
    /// version or of another subject; `None` where it has none.
    ///
    /// # Errors
    /// [`RegisterError::Incompatible`] if the schema does not go with the versions that the subject has, other kinds if
    /// the registry did not say.
    fn known<'a>(&'a self, subject: &'a str, avro_json: &'a str) -> BoxFuture<'a, Result<Option<u32>, RegisterError>>;

    /// The id under which a subject has an Avro schema, deleted versions left out; `None` where the registry has answered
    /// that it has not.
    ///
    /// # Errors
    /// The registry did not answer, or did not say.
    fn held<'a>(&'a self, subject: &'a str, avro_json: &'a str) -> BoxFuture<'a, Result<Option<u32>, String>>;

    /// Id of the latest version of a subject; `None` where the registry has answered that there is none.
    ///
    /// # Errors
    /// The registry did not answer.
    fn latest<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<Option<u32>, String>>;

    /// As [`SchemaSource::schemas`], for people who look at values: what was registered a moment ago may be missing.
    ///
    /// # Errors
    /// The registry did not answer.
    fn schemas_to_show<'a>(&'a self, ids: &'a [u32]) -> BoxFuture<'a, Result<Vec<Option<Arc<str>>>, String>> {
        self.schemas(ids)
    }
}

/// An Avro schema with its references put in.
///
/// # Errors
/// Why it is no schema.
pub fn whole_avro(text: &str, references: &[String]) -> Result<String, String> {
    avro::read(text, references, avro::Form::Resolved).map(|schema| schema.text)
}

/// The registry inside.
pub struct EmbeddedSchemas(pub Registry);

impl EmbeddedSchemas {
    /// Runs a call that waits for the topic away from the event loop.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Registry) -> Result<T, RegistryError> + Send + 'static,
    ) -> Option<Result<T, RegistryError>> {
        let registry = self.0.clone();
        #[expect(clippy::disallowed_methods, reason = "the caller waits for it, and takes its panic as no answer")]
        tokio::task::spawn_blocking(move || call(&registry)).await.ok()
    }

    /// The schemas with these ids, with all that was registered before `since`.
    async fn known_since(&self, ids: &[u32], since: Instant) -> Result<Vec<Option<Arc<str>>>, String> {
        // No schema has the id 0.
        let is_unknown = ids.iter().any(|id| *id != 0 && self.0.definition(*id).is_none());
        if is_unknown && !self.0.is_read_since(since) {
            match self.blocking(move |registry| registry.catch_up_since(since)).await {
                Some(Ok(())) => {}
                Some(Err(error)) => return Err(error.to_string()),
                None => return Err("the process shuts down".to_owned()),
            }
        }
        Ok(ids.iter().map(|id| self.0.whole_text(*id)).collect())
    }
}

impl SchemaSource for EmbeddedSchemas {
    fn schemas<'a>(&'a self, ids: &'a [u32]) -> BoxFuture<'a, Result<Vec<Option<Arc<str>>>, String>> {
        // Another process may have registered one just before it wrote the record.
        Box::pin(self.known_since(ids, Instant::now()))
    }
}

impl Schemas for EmbeddedSchemas {
    fn register<'a>(&'a self, subject: &'a str, avro_json: &'a str) -> BoxFuture<'a, Result<u32, RegisterError>> {
        Box::pin(async move {
            let (subject, submission) = (subject.to_owned(), Submission::avro(avro_json));
            // Nothing is written where nothing may be: a writer claims the topic, which other registries share.
            self.0.check_writable(&subject, &submission)?;
            let registered = self.blocking(move |registry| registry.register(&subject, &submission)).await;
            match registered {
                Some(registered) => Ok(registered?.id),
                None => Err(RegisterError::Unavailable("the process shuts down".to_owned())),
            }
        })
    }

    fn known<'a>(&'a self, subject: &'a str, avro_json: &'a str) -> BoxFuture<'a, Result<Option<u32>, RegisterError>> {
        let known = self.0.known(subject, &Submission::avro(avro_json));
        Box::pin(std::future::ready(known.map_err(Into::into)))
    }

    fn held<'a>(&'a self, subject: &'a str, avro_json: &'a str) -> BoxFuture<'a, Result<Option<u32>, String>> {
        let held = match self.0.look_up(subject, &Submission::avro(avro_json), Visible::Live) {
            Ok(version) => Ok(Some(version.id)),
            Err(RegistryError::SubjectNotFound(_) | RegistryError::SchemaNotFound) => Ok(None),
            Err(error) => Err(error.to_string()),
        };
        Box::pin(std::future::ready(held))
    }

    fn latest<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<Option<u32>, String>> {
        let latest = self.0.version(subject, Which::Latest, Visible::Live);
        Box::pin(std::future::ready(Ok(latest.ok().map(|version| version.id))))
    }

    fn schemas_to_show<'a>(&'a self, ids: &'a [u32]) -> BoxFuture<'a, Result<Vec<Option<Arc<str>>>, String>> {
        let now = Instant::now();
        Box::pin(self.known_since(ids, now.checked_sub(FRESH_FOR).unwrap_or(now)))
    }
}
