//! What the reads of every database have in common: which walk answers a question, where a page of it begins, and what
//! rows, alerts and figures look like in an answer.
//!
//! Not here: statements. An adapter writes a [`walk::Walk`] in its database's language and hands back what it found.
//! Start at [`walk::Walk`].

pub mod cursor;
pub mod facts;
pub mod figures;
pub mod walk;

use serde_json::Value;

use crate::{
    ports::{Page, ReadError, WindowQuery},
    schema::instant,
    table::{StreamTable, WindowTable},
};

/// The table of a stream.
///
/// # Errors
/// [`ReadError::UnknownStream`].
pub fn stream<'a>(streams: &'a [StreamTable], name: &str) -> Result<&'a StreamTable, ReadError> {
    streams.iter().find(|table| *table.stream == *name).ok_or_else(|| ReadError::UnknownStream(name.to_owned()))
}

/// Names of a stream's windows.
#[must_use]
pub fn windows_of(windows: &[WindowTable], stream: &str) -> Vec<String> {
    let own = windows.iter().filter(|table| *table.stream == *stream);
    own.map(|table| table.window.to_string()).collect()
}

/// The window that a query means.
///
/// # Errors
/// [`ReadError::UnknownWindow`], or [`ReadError::WindowNotNamed`] where it names none and the stream has not exactly one.
pub fn window<'a>(windows: &'a [WindowTable], query: &WindowQuery) -> Result<&'a WindowTable, ReadError> {
    let mut own = windows.iter().filter(|table| *table.stream == *query.stream);
    match &query.window {
        Some(name) => own.find(|table| *table.window == **name).ok_or_else(|| ReadError::UnknownWindow(name.clone())),
        None => match (own.next(), own.next()) {
            (Some(only), None) => Ok(only),
            _ => Err(ReadError::WindowNotNamed(windows_of(windows, &query.stream).join(", "))),
        },
    }
}

/// A page without items.
#[must_use]
pub fn empty<T>() -> Page<T> {
    Page { items: Vec::new(), total: 0, total_is_estimate: false, next: None }
}

/// Milliseconds since 1970 as RFC 3339 text in UTC; the number itself where it is beyond the calendar.
#[must_use]
pub fn time(ms: i64) -> Value {
    if !instant::is_in_range(ms) {
        return ms.into();
    }
    let mut text = Vec::with_capacity(24);
    instant::write(ms, &mut text);
    String::from_utf8_lossy(&text).into_owned().into()
}

/// A count as it is in answers.
#[must_use]
pub fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_of_the_years_1_to_9999_is_text() {
        assert_eq!(time(instant::MIN_MS), "0001-01-01T00:00:00.000Z");
        assert_eq!(time(instant::MAX_MS), "9999-12-31T23:59:59.999Z");
        assert_eq!(time(instant::MAX_MS + 1), instant::MAX_MS + 1);
    }
}
