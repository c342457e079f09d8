//! Errors and their codes in the Confluent protocol.

use std::io;

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("Subject '{0}' not found.")]
    SubjectNotFound(String),
    #[error("Version {0} not found.")]
    VersionNotFound(u32),
    #[error("Schema not found")]
    SchemaNotFound,
    #[error("Subject '{0}' does not have subject-level compatibility configured")]
    LevelNotFound(String),
    #[error("Invalid schema: {0}")]
    InvalidSchema(String),
    #[error(
        "The specified version '{0}' is not a valid version id. Allowed values are between [1, 2^31-1] and the string \"latest\""
    )]
    InvalidVersion(String),
    #[error(
        "Invalid compatibility level. Valid values are none, backward, forward, full, backward_transitive, forward_transitive, and full_transitive"
    )]
    InvalidLevel,
    #[error("Subject name is empty or longer than {0} bytes")]
    InvalidSubject(usize),
    /// One text per version that it does not go with.
    #[error("Schema being registered is incompatible with an earlier schema: {}", .0.join("; "))]
    Incompatible(Vec<String>),
    #[error("The registry holds as many schemas or subjects as it may")]
    Full,
    #[error("Error in the backend data store")]
    Store(#[from] io::Error),
    #[error("Error in the backend data store: {0}")]
    Damaged(String),
}

impl RegistryError {
    /// The protocol's `error_code`; its first three digits are the HTTP status.
    #[must_use]
    pub fn code(&self) -> u32 {
        match self {
            Self::SubjectNotFound(_) => 40401,
            Self::VersionNotFound(_) => 40402,
            Self::SchemaNotFound => 40403,
            Self::LevelNotFound(_) => 40408,
            Self::InvalidSchema(_) => 42201,
            Self::InvalidVersion(_) => 42202,
            Self::InvalidLevel => 42203,
            Self::InvalidSubject(_) => 42208,
            Self::Incompatible(_) => 409,
            Self::Full | Self::Store(_) | Self::Damaged(_) => 50001,
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
