//! Errors and their codes in the Confluent protocol.
//!
//! Codes and words: "Schema Registry API Reference" in Confluent's documentation, and `rest/exceptions/Errors.java` in
//! `confluentinc/schema-registry`.

use super::log::LogError;

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error(
        "Subject '{0}' not found. GET /subjects of this registry shows those that there are, GET /subjects?deleted=true also \
         those that were deleted"
    )]
    SubjectNotFound(String),
    #[error("Version {0} not found.")]
    VersionNotFound(String),
    #[error("Schema not found")]
    SchemaNotFound,
    #[error("Schema {0} not found")]
    IdNotFound(String),
    #[error("Subject '{0}' was soft deleted. Set permanent=true to delete permanently")]
    SubjectSoftDeleted(String),
    #[error("Subject '{0}' was not deleted first before being permanently deleted")]
    SubjectNotSoftDeleted(String),
    #[error("Subject '{0}' Version {1} was soft deleted. Set permanent=true to delete permanently")]
    VersionSoftDeleted(String, u32),
    #[error("Subject '{0}' Version {1} was not deleted first before being permanently deleted")]
    VersionNotSoftDeleted(String, u32),
    #[error("Subject '{0}' does not have subject-level compatibility configured")]
    LevelNotFound(String),
    #[error("Subject '{0}' does not have subject-level mode configured")]
    ModeNotFound(String),
    /// One text per version that it does not go with.
    #[error(
        "Schema being registered is incompatible with an earlier schema for subject \"{subject}\", details: [{}]",
        .problems.join("; ")
    )]
    Incompatible { subject: String, problems: Vec<String> },
    #[error("Invalid schema: {0}")]
    InvalidSchema(String),
    #[error(
        "Compatibility is checked for Avro schemas alone: subject '{subject}' has the level {level} and a schema of \
         type {schema_type}. Set its level to NONE (PUT /config/{subject}) to register without a check"
    )]
    NotCheckable { subject: String, level: String, schema_type: &'static str },
    #[error(
        "The specified version '{0}' is not a valid version id. Allowed values are between [1, 2^31-1] and the string \"latest\""
    )]
    InvalidVersion(String),
    #[error(
        "Invalid compatibility level. Valid values are none, backward, forward, full, backward_transitive, forward_transitive, and full_transitive"
    )]
    InvalidLevel,
    #[error("Invalid mode. Valid values are READWRITE, READONLY, READONLY_OVERRIDE and IMPORT")]
    InvalidMode,
    #[error("{0}")]
    NotPermitted(String),
    #[error("One or more references exist to the schema {{magic=1,keytype=SCHEMA,subject={0},version={1}}}.")]
    ReferenceExists(String, u32),
    #[error("The schema has the id {registered} and cannot have the id {asked}")]
    IdDoesNotMatch { registered: u32, asked: u32 },
    #[error(
        "The specified subject '{0}' is not valid: 1 to {max} bytes without control characters, in no context (':.name:') but the default one",
        max = super::MAX_SUBJECT_BYTES
    )]
    InvalidSubject(String),
    #[error("Register operation failed because schema is too large: over {0} bytes")]
    TooLarge(usize),
    #[error("'{0}' is not supported by this registry: leave it out")]
    NotSupported(String),
    #[error("{0}")]
    BadRequest(String),
    /// Entries, or bytes of them.
    #[error(
        "The registry holds as many schemas or settings, or bytes of them, as it may ({0}): delete subjects that nobody needs, \
         permanently"
    )]
    Full(usize),
    #[error(
        "Error in the backend data store: {0}. What is registered is answered from memory meanwhile; try again once the server \
         is well (GET /health/ready of its HTTP address)"
    )]
    Store(#[from] LogError),
    #[error("The operation timed out: {0}. Try again")]
    TimedOut(String),
}

impl RegistryError {
    /// The protocol's `error_code`; its first three digits are the HTTP status.
    #[must_use]
    pub fn code(&self) -> u32 {
        match self {
            Self::BadRequest(_) => 400,
            Self::SubjectNotFound(_) => 40401,
            Self::VersionNotFound(_) => 40402,
            Self::SchemaNotFound | Self::IdNotFound(_) => 40403,
            Self::SubjectSoftDeleted(_) => 40404,
            Self::SubjectNotSoftDeleted(_) => 40405,
            Self::VersionSoftDeleted(..) => 40406,
            Self::VersionNotSoftDeleted(..) => 40407,
            Self::LevelNotFound(_) => 40408,
            Self::ModeNotFound(_) => 40409,
            Self::Incompatible { .. } => 409,
            Self::NotSupported(_) => 422,
            Self::InvalidSchema(_) | Self::NotCheckable { .. } => 42201,
            Self::InvalidVersion(_) => 42202,
            Self::InvalidLevel => 42203,
            Self::InvalidMode => 42204,
            Self::NotPermitted(_) => 42205,
            Self::ReferenceExists(..) => 42206,
            Self::IdDoesNotMatch { .. } => 42207,
            Self::InvalidSubject(_) => 42208,
            Self::TooLarge(_) => 42209,
            Self::Full(_) | Self::Store(_) => 50001,
            Self::TimedOut(_) => 50002,
        }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        let code = self.code();
        let status = if code > 999 { code / 100 } else { code };
        u16::try_from(status).expect("codes have three or five digits")
    }
}
