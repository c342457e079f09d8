//! Parameters and bodies of requests.

use actix_web::web::{Bytes, Query};
use futures_util::future::LocalBoxFuture;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::registry::{
    Definition, Level, MAX_SCHEMA_BYTES, Reference, RegistryError, SettingsUpdate, Submission, Visible,
    decide::subject_name,
};

/// Parameters after the `?`, of all routes together. As in JAX-RS, a flag is set by `true` in any case and not set by
/// anything else, and unknown parameters mean nothing.
#[derive(Debug, Default)]
pub struct Params {
    pairs: Vec<(String, String)>,
}

impl Params {
    fn text(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn flag(&self, name: &str) -> bool {
        self.text(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    pub fn visible(&self) -> Visible {
        match (self.flag("deletedOnly"), self.flag("deleted")) {
            (true, _) => Visible::Deleted,
            (false, true) => Visible::All,
            (false, false) => Visible::Live,
        }
    }

    /// Whether the types of references are to be put in.
    pub fn is_resolved(&self) -> bool {
        self.text("format").is_some_and(|format| format.eq_ignore_ascii_case("resolved"))
    }

    pub fn subject(&self) -> Option<&str> {
        self.text("subject").filter(|subject| !subject.is_empty())
    }

    /// The prefix that subjects are to have; `:*:` and `:.:` are the contexts that there are.
    pub fn prefix(&self) -> &str {
        let prefix = self.text("subjectPrefix").unwrap_or_default();
        prefix.strip_prefix(":*:").or_else(|| prefix.strip_prefix(":.:")).unwrap_or(prefix)
    }

    /// The part of a list between `offset` and `limit`; a limit below 1 is none.
    pub fn page<T>(&self, items: Vec<T>) -> Result<Vec<T>, RegistryError> {
        let number = |name: &str, default: i64| match self.text(name) {
            None | Some("") => Ok(default),
            Some(text) => text.parse().map_err(|_| RegistryError::BadRequest(format!("{name} is not a number"))),
        };
        let (offset, limit) = (number("offset", 0)?, number("limit", -1)?);
        let offset = usize::try_from(offset).unwrap_or(0);
        let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        Ok(items.into_iter().skip(offset).take(limit).collect())
    }
}

impl actix_web::FromRequest for Params {
    type Error = actix_web::Error;
    type Future = std::future::Ready<Result<Self, actix_web::Error>>;

    fn from_request(request: &actix_web::HttpRequest, _: &mut actix_web::dev::Payload) -> Self::Future {
        let pairs = Query::<Vec<(String, String)>>::from_query(request.query_string());
        std::future::ready(Ok(Self { pairs: pairs.map(Query::into_inner).unwrap_or_default() }))
    }
}

/// A request's body; one that is too long is refused in the protocol's form.
pub struct Body(Bytes);

impl actix_web::FromRequest for Body {
    type Error = RegistryError;
    type Future = LocalBoxFuture<'static, Result<Self, RegistryError>>;

    fn from_request(request: &actix_web::HttpRequest, payload: &mut actix_web::dev::Payload) -> Self::Future {
        let bytes = Bytes::from_request(request, payload);
        Box::pin(async { bytes.await.map(Self).map_err(|_| RegistryError::TooLarge(MAX_SCHEMA_BYTES)) })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SchemaRequest {
    #[serde(default)]
    schema: Option<String>,
    #[serde(default)]
    schema_type: Option<String>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
    #[serde(default)]
    metadata: Option<Value>,
    #[serde(default)]
    rule_set: Option<Value>,
    #[serde(default)]
    id: Option<i64>,
    #[serde(default)]
    version: Option<i64>,
}

/// A body as JSON; 422 as in Confluent's registry if it is something else.
fn parsed<T: DeserializeOwned>(body: &Body) -> Result<T, RegistryError> {
    serde_json::from_slice(&body.0)
        .map_err(|error| RegistryError::InvalidSchema(format!("the request's body: {error}")))
}

/// The schema of a request's body.
pub fn submission(body: &Body, params: &Params) -> Result<Submission, RegistryError> {
    let request: SchemaRequest = parsed(body)?;
    let schema_type = match request.schema_type.as_deref() {
        None | Some("") => Default::default(),
        Some(name) => name.parse()?,
    };
    let number =
        |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0);
    let mut references = request.references.unwrap_or_default();
    for reference in &mut references {
        reference.subject = subject_name(&reference.subject)?;
    }
    Ok(Submission {
        definition: Definition {
            schema_type,
            text: request.schema.unwrap_or_default().into(),
            references,
            metadata: request.metadata.filter(|value| !value.is_null()),
            rule_set: request.rule_set.filter(|value| !value.is_null()),
        },
        id: number(request.id),
        version: number(request.version),
        normalize: params.flag("normalize"),
    })
}

/// Settings that Confluent's registry has and this one does not.
const NOT_SUPPORTED: [&str; 11] = [
    "alias",
    "aliasForDeks",
    "compatibilityGroup",
    "compatibilityPolicy",
    "defaultMetadata",
    "overrideMetadata",
    "defaultRuleSet",
    "overrideRuleSet",
    "validateFields",
    "validateNewSchemas",
    "validateRules",
];

/// The settings of a request's body.
pub fn settings(body: &Body) -> Result<SettingsUpdate, RegistryError> {
    let request: serde_json::Map<String, Value> =
        serde_json::from_slice(&body.0).map_err(|_| RegistryError::InvalidLevel)?;
    let asked = |key: &&str| request.get(*key).is_some_and(|value| !value.is_null());
    if let Some(key) = NOT_SUPPORTED.iter().find(|key| asked(key)) {
        return Err(RegistryError::NotSupported((*key).to_owned()));
    }
    let level = match request.get("compatibility") {
        None | Some(Value::Null) => None,
        Some(Value::String(level)) => Some(level.parse::<Level>()?),
        Some(_) => return Err(RegistryError::InvalidLevel),
    };
    Ok(SettingsUpdate { level, normalize: request.get("normalize").and_then(Value::as_bool) })
}

#[derive(Deserialize)]
struct ModeRequest {
    mode: String,
}

/// The mode of a request's body.
pub fn mode(body: &Body) -> Result<crate::registry::Mode, RegistryError> {
    let request: ModeRequest = serde_json::from_slice(&body.0).map_err(|_| RegistryError::InvalidMode)?;
    request.mode.parse()
}
