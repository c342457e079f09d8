//! What the roles ask of the world besides storage.

use std::sync::Arc;

use crate::store::BoxFuture;

/// The wall clock.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970 (UTC).
    fn now_ms(&self) -> i64;
}

/// A schema registry, as the decoder needs it.
pub trait SchemaSource: Send + Sync {
    /// The Avro schemas with these ids, in their order; `None` where the registry has answered that there is none.
    ///
    /// # Errors
    /// The registry did not answer.
    fn schemas<'a>(&'a self, ids: &'a [u32]) -> BoxFuture<'a, Result<Vec<Option<Arc<str>>>, String>>;
}
