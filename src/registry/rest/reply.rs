//! Bodies of answers.

use actix_web::{
    HttpResponse, ResponseError,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
    middleware::Next,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Answer;
use crate::registry::{Definition, RegistryError, SchemaType, Version};

/// What answers are in, the best first; a client names another one in `Accept`.
const CONTENT_TYPES: [&str; 3] =
    ["application/vnd.schemaregistry.v1+json", "application/vnd.schemaregistry+json", "application/json"];

impl ResponseError for RegistryError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        if let Self::Store(error) = self {
            tracing::error!(%error, "the schema registry cannot reach its topic");
        }
        reply(self.status_code(), &error_body(self.code(), &self.to_string()))
    }
}

/// Middleware: names the content type that the client asked for. All of them are the same JSON.
pub async fn in_asked_type(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let asked = CONTENT_TYPES.into_iter().find(|kind| accept.contains(kind)).unwrap_or(CONTENT_TYPES[0]);
    let mut response = next.call(request).await?;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(asked));
    Ok(response)
}

pub fn error_body(code: u32, message: &str) -> Value {
    json!({"error_code": code, "message": message})
}

pub fn reply(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    let body = serde_json::to_vec(body).expect("answers are JSON");
    HttpResponse::build(status).content_type(CONTENT_TYPES[0]).body(body)
}

pub fn ok(body: &impl Serialize) -> Answer {
    Ok(reply(StatusCode::OK, body))
}

/// A schema's text alone.
pub fn raw(schema: &str) -> Answer {
    Ok(HttpResponse::Ok().content_type(CONTENT_TYPES[0]).body(schema.to_owned()))
}

/// What an answer says of a schema; `text` is the schema in the form asked for.
pub fn definition(definition: &Definition, text: &str) -> Map<String, Value> {
    let mut body = Map::new();
    if definition.schema_type != SchemaType::Avro {
        body.insert("schemaType".to_owned(), definition.schema_type.name().into());
    }
    if !definition.references.is_empty() {
        body.insert("references".to_owned(), json!(definition.references));
    }
    for (key, value) in [("metadata", &definition.metadata), ("ruleSet", &definition.rule_set)] {
        body.extend(value.clone().map(|value| (key.to_owned(), value)));
    }
    body.insert("schema".to_owned(), text.into());
    body
}

/// A schema under a subject.
pub fn version(version: &Version, text: &str) -> Value {
    let mut body = definition(&version.definition, text);
    body.insert("subject".to_owned(), version.subject.clone().into());
    body.insert("id".to_owned(), version.id.into());
    body.insert("version".to_owned(), version.version.into());
    if version.is_deleted {
        body.insert("deleted".to_owned(), true.into());
    }
    body.into()
}
