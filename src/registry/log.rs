//! The log that the registry is kept in, as the registry needs it.
//!
//! The rule that keeps two registries on one log from giving an id to two schemas: who writes has *claimed* the log
//! first, has read it to its end after that, and its write fails if somebody else has claimed it in between.

/// A record of the schemas topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub key: Vec<u8>,
    /// None deletes the key.
    pub value: Option<Vec<u8>>,
}

/// Why the log did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Somebody else has claimed the log, or nobody knows whether the write was carried out: claim, read and decide
    /// again.
    #[error("another writer came first: {0}")]
    Superseded(String),
    /// The log is gone, or is another one than before: what it held is known here alone. [`SchemaLog::renew`] goes on with
    /// the one that is there.
    #[error("{0}")]
    Lost(String),
    #[error("{0}")]
    Unavailable(String),
}

/// A compacted log of one partition. Calls block, for a bounded time.
pub trait SchemaLog: Send {
    /// Hands out every record behind the last one handed out, up to the end that the log has at the call or later. What
    /// was appended here is among them.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]; what was handed out is not handed out again. [`LogError::Lost`]: what was handed out
    /// during this call may be another log's.
    fn read(&mut self, visit: &mut dyn FnMut(Record)) -> Result<(), LogError>;

    /// Becomes the one writer. When it returns, what earlier writers wrote is either readable or will never be.
    ///
    /// # Errors
    /// [`LogError`]
    fn claim(&mut self) -> Result<(), LogError>;

    /// Appends all records or none, and returns when they are durable.
    ///
    /// # Errors
    /// [`LogError::Superseded`] if somebody else has claimed the log since; the log must then be claimed again.
    /// [`LogError::Unavailable`] if the log refuses the records and would again: none is appended.
    fn append(&mut self, records: &[Record]) -> Result<(), LogError>;

    /// Makes the log if it is missing, and goes on with the one that is there: it must be claimed anew, and reading begins
    /// with its first record.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]; the log then must be renewed again.
    fn renew(&mut self) -> Result<(), LogError>;
}
