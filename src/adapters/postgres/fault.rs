//! Errors of PostgreSQL, sorted by their SQLSTATE.

use sqlx::postgres::PgDatabaseError;
use streamward_pipeline::store::StoreError;

/// Who is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The moment: the same statement may succeed later. The connection may be gone, and the outcome of a commit unknown.
    Moment,
    /// A value of a row, such as class 22 (data exception) and 23 (integrity constraint violation).
    Row,
    /// Our SQL, or the layout of the tables.
    Statement,
}

/// Of a row whose day has no partition, and then without the name of a constraint.
const NO_PARTITION: &str = "23514";

/// Who is at fault for an error.
#[must_use]
pub fn fault_of(error: &sqlx::Error) -> Fault {
    let Some(error) = error.as_database_error() else {
        return match error {
            sqlx::Error::Encode(_)
            | sqlx::Error::Decode(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::RowNotFound
            | sqlx::Error::TypeNotFound { .. } => Fault::Statement,
            _ => Fault::Moment,
        };
    };
    let code = error.code().unwrap_or_default();
    if code == NO_PARTITION && error.constraint().is_none() {
        return Fault::Statement;
    }
    match code.get(..2) {
        // Also a view's check option, what a trigger raises, and what is too large for a row.
        Some("22" | "23" | "44" | "54" | "P0") => Fault::Row,
        // Feature not supported, no such table or column, no permission on it.
        Some("0A" | "42") => Fault::Statement,
        _ => Fault::Moment,
    }
}

/// The error in words: PostgreSQL's message, its detail and the SQLSTATE.
#[must_use]
pub fn words(error: &sqlx::Error) -> String {
    let Some(database) = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>()) else {
        return error.to_string();
    };
    let detail = database.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{}{detail} (SQLSTATE {})", database.message(), database.code())
}

/// The error as the application knows it.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
pub fn store_error(error: sqlx::Error) -> StoreError {
    match fault_of(&error) {
        Fault::Moment => StoreError::Unavailable(words(&error)),
        Fault::Row | Fault::Statement => StoreError::Protocol(words(&error)),
    }
}
