//! Bodies of answers.

use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Answer;
use crate::registry::{Definition, RegistryError, SchemaType, Version};

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

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

pub fn error_body(code: u32, message: &str) -> Value {
    json!({"error_code": code, "message": message})
}

pub fn reply(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    let body = serde_json::to_vec(body).expect("answers are JSON");
    HttpResponse::build(status).content_type(CONTENT_TYPE).body(body)
}

pub fn ok(body: &impl Serialize) -> Answer {
    Ok(reply(StatusCode::OK, body))
}

/// A schema's text alone.
pub fn raw(schema: &str) -> Answer {
    Ok(HttpResponse::Ok().content_type(CONTENT_TYPE).body(schema.to_owned()))
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
