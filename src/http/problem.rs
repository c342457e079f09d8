//! Errors as clients see them: `application/problem+json` (RFC 9457), never an SQL text.
//!
//! For refused parameters and bodies (422) `detail` is the array that FastAPI sends, so that clients of the project
//! that Streamward replaces go on working.

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use serde::Serialize;
use serde_json::{Value, json};
use streamward_core::ports::{IngestError, OpsError, ReadError};

/// Media type of every error.
pub const CONTENT_TYPE: &str = "application/problem+json";
/// Seconds after which a client may try again when a part of the server does not answer.
const RETRY_AFTER_S: u32 = 2;

/// An error answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{status}")]
pub struct Problem {
    status: StatusCode,
    detail: Value,
    retry_after_s: Option<u32>,
    headers: Vec<(header::HeaderName, String)>,
    extra: Vec<(&'static str, Value)>,
}

/// One fault of a request, in FastAPI's shape.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldFault {
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Where: `["query", "limit"]`, `["body", 3, "sensor_id"]`.
    pub loc: Vec<Value>,
    pub msg: String,
    pub input: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ctx: Option<Value>,
}

impl Problem {
    /// An error with a sentence for its reader.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let detail = Value::String(detail.into());
        Self { status, detail, retry_after_s: None, headers: Vec::new(), extra: Vec::new() }
    }

    /// 422 with one entry per fault.
    #[must_use]
    pub fn unprocessable(faults: &[FieldFault]) -> Self {
        let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "");
        problem.detail = json!(faults);
        problem
    }

    /// 404 with the reference's words.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not Found")
    }

    /// 503; the client may try again later.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        Self { retry_after_s: Some(RETRY_AFTER_S), ..problem }
    }

    /// Adds a response header.
    #[must_use]
    pub fn header(mut self, name: header::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        for (name, value) in &self.extra {
            body[*name] = value.clone();
        }
        let mut response = HttpResponse::build(self.status);
        response.content_type(CONTENT_TYPE);
        if let Some(seconds) = self.retry_after_s {
            response.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        for (name, value) in &self.headers {
            response.insert_header((name.clone(), value.clone()));
        }
        response.body(body.to_string())
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match &error {
            ReadError::UnknownStream(_) | ReadError::UnknownWindow(_) => {
                Self::new(StatusCode::NOT_FOUND, error.to_string())
            }
            ReadError::WindowNotNamed(_) => Self::unprocessable(&[query_fault("window", error.to_string())]),
            ReadError::BadCursor => Self::unprocessable(&[query_fault("cursor", error.to_string())]),
            ReadError::BadFilter { field, reason } => Self::unprocessable(&[query_fault(field, reason.clone())]),
            ReadError::Timeout => Self::unavailable(error.to_string()),
            ReadError::Unavailable(reason) | ReadError::Damaged(reason) => {
                tracing::error!(reason, "a read failed");
                Self::unavailable(error.to_string())
            }
        }
    }
}

impl From<OpsError> for Problem {
    fn from(error: OpsError) -> Self {
        let status = match &error {
            OpsError::UnknownPath(_) => StatusCode::NOT_FOUND,
            OpsError::DrillsDisabled => StatusCode::FORBIDDEN,
            OpsError::Invalid { field, reason } => {
                let loc = std::iter::once("body").chain(field.split('.').filter(|part| !part.is_empty()));
                let loc = loc.map(Value::from).collect();
                let fault = FieldFault { kind: "value_error", loc, msg: reason.clone(), input: Value::Null, ctx: None };
                return Self::unprocessable(&[fault]);
            }
            OpsError::Refused(_) => StatusCode::CONFLICT,
            OpsError::Unavailable(_) => return Self::unavailable(error.to_string()),
        };
        Self::new(status, error.to_string())
    }
}

impl From<IngestError> for Problem {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::UnknownStream(_) => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            IngestError::Invalid(faults) => {
                let faults: Vec<_> = faults
                    .into_iter()
                    .map(|fault| {
                        let field = fault.field.into_iter().map(Value::from);
                        let loc = [json!("body"), json!(fault.index)].into_iter().chain(field).collect();
                        FieldFault { kind: "record_invalid", loc, msg: fault.reason, input: fault.input, ctx: None }
                    })
                    .collect();
                Self::unprocessable(&faults)
            }
            IngestError::NotTaken(_) => Self::unavailable(error.to_string()),
            IngestError::Unavailable { ref reason, retry_after_s, ref placed, .. } => {
                tracing::warn!(reason, "the broker refused records");
                let mut problem = Self::unavailable(error.to_string());
                problem.retry_after_s = Some(retry_after_s);
                problem.extra = vec![("records", json!(placed))];
                problem
            }
        }
    }
}

fn query_fault(name: &str, msg: String) -> FieldFault {
    FieldFault { kind: "value_error", loc: vec!["query".into(), name.into()], msg, input: Value::Null, ctx: None }
}
