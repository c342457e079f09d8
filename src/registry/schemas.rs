//! Where the process registers schemas and looks them up: one port for the registry inside and for one outside.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use streamward_core::ports::{Decoded, ValueDecoder};
use streamward_pipeline::{ports::SchemaSource, store::BoxFuture};

use super::{Registry, RegistryError, Submission, Visible, Which, avro};

/// First byte of a value in Confluent framing; the schema id follows as four bytes, big-endian.
const MAGIC: u8 = 0;
const FRAME_BYTES: usize = 5;
/// How long people wait for the schema of a value that they look at.
const DECODE_WITHIN: Duration = Duration::from_secs(2);

/// Why a schema was not registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The registry has answered, and will answer so again.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Unavailable(String),
}

/// A registry, as this process needs it.
pub trait Schemas: SchemaSource {
    /// Registers an Avro schema under a subject and answers its id; one that the subject has keeps its id.
    ///
    /// # Errors
    /// [`RegisterError`]
    fn register<'a>(&'a self, subject: &'a str, avro_json: &'a str) -> BoxFuture<'a, Result<u32, RegisterError>>;

    /// Id of the latest version of a subject; `None` where the registry has answered that there is none.
    ///
    /// # Errors
    /// The registry did not answer.
    fn latest<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<Option<u32>, String>>;
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
        tokio::task::spawn_blocking(move || call(&registry)).await.ok()
    }
}

impl SchemaSource for EmbeddedSchemas {
    fn schemas<'a>(&'a self, ids: &'a [u32]) -> BoxFuture<'a, Result<Vec<Option<Arc<str>>>, String>> {
        Box::pin(async move {
            if ids.iter().any(|id| self.0.definition(*id).is_none()) {
                // Another process may have registered it just before it wrote the record.
                match self.blocking(Registry::catch_up).await {
                    Some(Ok(())) => {}
                    Some(Err(error)) => return Err(error.to_string()),
                    None => return Err("the process shuts down".to_owned()),
                }
            }
            Ok(ids.iter().map(|id| self.0.whole_text(*id)).collect())
        })
    }
}

impl Schemas for EmbeddedSchemas {
    fn register<'a>(&'a self, subject: &'a str, avro_json: &'a str) -> BoxFuture<'a, Result<u32, RegisterError>> {
        Box::pin(async move {
            let (subject, submission) = (subject.to_owned(), Submission::avro(avro_json));
            let registered = self.blocking(move |registry| registry.register(&subject, &submission)).await;
            match registered {
                Some(Ok(version)) => Ok(version.id),
                Some(Err(error @ (RegistryError::Store(_) | RegistryError::TimedOut(_)))) => {
                    Err(RegisterError::Unavailable(error.to_string()))
                }
                Some(Err(error)) => Err(RegisterError::Refused(error.to_string())),
                None => Err(RegisterError::Unavailable("the process shuts down".to_owned())),
            }
        })
    }

    fn latest<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<Option<u32>, String>> {
        let latest = self.0.version(subject, Which::Latest, Visible::Live);
        Box::pin(std::future::ready(Ok(latest.ok().map(|version| version.id))))
    }
}

/// Shows values to people: JSON text, or Avro in Confluent framing.
pub struct SchemaDecoder(pub Arc<dyn Schemas>);

impl ValueDecoder for SchemaDecoder {
    fn decode<'a>(&'a self, value: &'a [u8]) -> Decoded<'a> {
        Box::pin(async move {
            if value.first() != Some(&MAGIC) {
                return serde_json::from_slice(value).ok();
            }
            let (frame, datum) = value.split_at_checked(FRAME_BYTES)?;
            let id = u32::from_be_bytes(frame[1..].try_into().ok()?);
            let asked = tokio::time::timeout(DECODE_WITHIN, self.0.schemas(&[id])).await;
            let schema = asked.ok()?.ok()?.pop()??;
            decode_avro(&schema, datum)
        })
    }
}

pub(super) fn decode_avro(schema: &str, mut datum: &[u8]) -> Option<Value> {
    let parsed = avro::read(schema, &[], avro::Form::Canonical).ok()?.parsed;
    let reader = apache_avro::reader::datum::GenericDatumReader::builder(&parsed).build().ok()?;
    let value = reader.read_value(&mut datum).ok()?;
    // The reader takes a text that is cut short for a null, so its answer is checked.
    let is_whole = datum.is_empty() && value.validate(&parsed);
    is_whole.then(|| value.try_into().ok()).flatten()
}
