//! Requests to a registry.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use awc::{Client, Connector, error::SendRequestError, http};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{RegistryAuth, RegistrySettings, tls};
use crate::registry::{
    Reference,
    schemas::{RegisterError, whole_avro},
};

pub use awc::http::Method;

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// Largest answer read, in bytes.
const MAX_ANSWER: usize = 16 << 20;
/// Longest time that a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(4);
/// Most schemas that one schema may bring in by references.
const MAX_REFERENCES: usize = 1_000;
/// Error codes that say that a subject, version or schema does not exist.
const NOT_FOUND: std::ops::RangeInclusive<u64> = 40401..=40403;

/// Error code of an operation that the mode of a subject or of the registry does not permit.
const NOT_PERMITTED: u64 = 42205;

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The registry has refused it, and will again.
    #[error("{message} ({url} answered {status}, error code {code})")]
    Refused { url: String, status: u16, code: u64, message: String },
    /// No answer, or one that says nothing about the request.
    #[error("{0}")]
    Unavailable(String),
}

impl CallError {
    /// The registry says that what was asked for does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, code, .. } if NOT_FOUND.contains(code))
    }
}

impl From<CallError> for RegisterError {
    fn from(error: CallError) -> Self {
        let said = error.to_string();
        match error {
            CallError::Unavailable(_) => Self::Unavailable(said),
            CallError::Refused { status, code, .. } => match (status, code) {
                (409, _) => Self::Incompatible(said),
                (_, NOT_PERMITTED) => Self::NotWritable(said),
                (403 | 405, _) => Self::NotWritable(format!("{said}: the user of registry.auth may not write there")),
                (401, _) => Self::Refused(format!("{said}: registry.auth has no credentials that it takes")),
                (404, _) => Self::Refused(format!("{said}: registry.url names no schema registry, or lacks its path")),
                _ => Self::Refused(said),
            },
        }
    }
}

/// A client of one registry, for one thread.
pub struct RegistryHttp {
    client: Client,
    base: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SchemaAnswer {
    schema: String,
    #[serde(default)]
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

/// A subject as a part of a path.
#[must_use]
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

impl RegistryHttp {
    /// A client; it connects when it is first used.
    ///
    /// # Errors
    /// If the certificates cannot be read.
    pub fn new(settings: &RegistrySettings) -> Result<Self, String> {
        let mut connector =
            Connector::new().timeout(settings.timeout.min(CONNECT_WITHIN)).max_http_version(http::Version::HTTP_11);
        if settings.url.starts_with("https:") {
            connector = connector.rustls_0_23(tls::config(settings.ca_file.as_deref())?);
        }
        let builder = Client::builder()
            .timeout(settings.timeout)
            .connector(connector)
            .add_default_header((http::header::ACCEPT, format!("{CONTENT_TYPE}, application/json")));
        let builder = match &settings.auth {
            RegistryAuth::None => builder,
            RegistryAuth::Basic { user, password } => builder.basic_auth(user, Some(password)),
            RegistryAuth::Bearer(token) => builder.bearer_auth(token),
        };
        Ok(Self { client: builder.finish(), base: settings.url.trim_end_matches('/').to_owned() })
    }

    /// Asks `path`, which begins with a slash, and answers the JSON body.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, CallError> {
        let url = format!("{}{path}", self.base);
        let request = self.client.request(method, &url);
        let sent = match body {
            Some(body) => request.content_type(CONTENT_TYPE).send_body(body.to_string()).await,
            None => request.send().await,
        };
        let silent = |reason: &dyn std::fmt::Display| CallError::Unavailable(format!("{}: {reason}", self.base));
        let mut answer = sent.map_err(|error: SendRequestError| silent(&error))?;
        let status = answer.status();
        let body = answer.body().limit(MAX_ANSWER).await.map_err(|error| silent(&error))?;
        let parsed: Option<Value> = serde_json::from_slice(&body).ok();
        if status.is_success() {
            return parsed.ok_or_else(|| silent(&"the answer is no JSON: is this a schema registry?"));
        }
        let said = parsed.unwrap_or_default();
        let message = said["message"].as_str().unwrap_or_else(|| status.canonical_reason().unwrap_or_default());
        let is_passing = status.is_server_error()
            || matches!(status, http::StatusCode::TOO_MANY_REQUESTS | http::StatusCode::REQUEST_TIMEOUT);
        if is_passing {
            return Err(silent(&format_args!("{status}: {message}")));
        }
        let code = said["error_code"].as_u64().unwrap_or_else(|| status.as_u16().into());
        Err(CallError::Refused { url, status: status.as_u16(), code, message: message.to_owned() })
    }

    /// The schema of an id; Avro with its references put in.
    ///
    /// # Errors
    /// [`CallError`] for anything but an answer that there is or is not such a schema.
    pub async fn schema(&self, id: u32) -> Result<Option<Arc<str>>, CallError> {
        let answer = match self.get_schema(&format!("/schemas/ids/{id}")).await {
            Err(error) if error.is_not_found() => return Ok(None),
            answer => answer?,
        };
        let is_avro = answer.schema_type.as_deref().is_none_or(|kind| kind.eq_ignore_ascii_case("AVRO"));
        if !is_avro || answer.references.is_empty() {
            return Ok(Some(answer.schema.into()));
        }
        // Where a reference is gone, the schema alone tells why it cannot be read.
        let whole = match self.references(answer.references).await {
            Ok(references) => whole_avro(&answer.schema, &references).unwrap_or(answer.schema),
            Err(error) if error.is_not_found() => answer.schema,
            Err(error) => return Err(error),
        };
        Ok(Some(whole.into()))
    }

    /// Texts of all schemas that references bring in.
    async fn references(&self, references: Vec<Reference>) -> Result<Vec<String>, CallError> {
        let (mut texts, mut wanted, mut met) = (Vec::new(), references, BTreeSet::new());
        while let Some(Reference { subject, version, .. }) = wanted.pop() {
            if !met.insert((subject.clone(), version)) || met.len() > MAX_REFERENCES {
                continue;
            }
            let path = format!("/subjects/{}/versions/{version}?deleted=true", segment(&subject));
            let answer = self.get_schema(&path).await?;
            wanted.extend(answer.references);
            texts.push(answer.schema);
        }
        Ok(texts)
    }

    async fn get_schema(&self, path: &str) -> Result<SchemaAnswer, CallError> {
        let body = self.call(Method::GET, path, None).await?;
        let unread = |error| CallError::Unavailable(format!("{}{path}: {error}", self.base));
        serde_json::from_value(body).map_err(unread)
    }

    /// Id of the latest version of a subject.
    ///
    /// # Errors
    /// [`CallError`] for anything but an answer that there is or is not such a subject.
    pub async fn latest(&self, subject: &str) -> Result<Option<u32>, CallError> {
        let path = format!("/subjects/{}/versions/latest", segment(subject));
        match self.call(Method::GET, &path, None).await {
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
            Ok(answer) => Ok(answer["id"].as_u64().and_then(|id| u32::try_from(id).ok())),
        }
    }

    /// Registers an Avro schema; one that the subject has is only looked up, which needs no right to write.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn register(&self, subject: &str, avro_json: &str) -> Result<u32, CallError> {
        if let Some(id) = self.held(subject, avro_json).await? {
            return Ok(id);
        }
        let (body, subject) = (json!({ "schema": avro_json }), segment(subject));
        let answer = self.call(Method::POST, &format!("/subjects/{subject}/versions"), Some(&body)).await?;
        let id = answer["id"].as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| CallError::Unavailable(format!("{}: the answer to a registration has no id", self.base)))
    }

    /// The id under which a subject has an Avro schema; none where it has not.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn held(&self, subject: &str, avro_json: &str) -> Result<Option<u32>, CallError> {
        let (path, body) = (format!("/subjects/{}", segment(subject)), json!({ "schema": avro_json }));
        match self.call(Method::POST, &path, Some(&body)).await {
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
            Ok(answer) => Ok(answer["id"].as_u64().and_then(|id| u32::try_from(id).ok())),
        }
    }

    /// The id of an Avro schema that the subject has or had, if it goes with the subject's latest version.
    ///
    /// # Errors
    /// [`RegisterError::Incompatible`] if it does not, other kinds if the registry did not say.
    pub async fn known(&self, subject: &str, avro_json: &str) -> Result<Option<u32>, RegisterError> {
        let (body, subject) = (json!({ "schema": avro_json }), segment(subject));
        let path = format!("/compatibility/subjects/{subject}/versions/latest?verbose=true");
        match self.call(Method::POST, &path, Some(&body)).await {
            Ok(said) if said["is_compatible"] == false => {
                let why = said["messages"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let why = why.collect::<Vec<_>>().join("; ");
                let url = &self.base;
                return Err(RegisterError::Incompatible(format!(
                    "it does not go with the latest version: {why} ({url}{path})"
                )));
            }
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        match self.call(Method::POST, &format!("/subjects/{subject}?deleted=true"), Some(&body)).await {
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
            Ok(answer) => Ok(answer["id"].as_u64().and_then(|id| u32::try_from(id).ok())),
        }
    }
}
