//! Cursors: the order columns of the last row handed out, opaque to clients.
//!
//! A cursor names a place in the order and no page number, so rows that arrive meanwhile neither shift nor repeat a page.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use streamward_core::ports::ReadError;

/// Longest cursor read, in characters.
const MAX_LENGTH: usize = 4_096;

/// A value to bind: of an order column or of a filter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Bind {
    Integer(i64),
    Number(f64),
    Text(String),
}

pub(super) fn encode(place: &[Bind]) -> String {
    let json = serde_json::to_vec(place).expect("numbers and texts are JSON");
    URL_SAFE_NO_PAD.encode(json)
}

/// Reads a cursor for a list with `columns` order columns.
pub(super) fn decode(cursor: &str, columns: usize) -> Result<Vec<Bind>, ReadError> {
    if cursor.len() > MAX_LENGTH {
        return Err(ReadError::BadCursor);
    }
    let json = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| ReadError::BadCursor)?;
    let place: Vec<Bind> = serde_json::from_slice(&json).map_err(|_| ReadError::BadCursor)?;
    if place.len() == columns { Ok(place) } else { Err(ReadError::BadCursor) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_comes_back_as_it_was(number: i64, text: String) {
            let place = vec![Bind::Integer(number), Bind::Text(text)];
            prop_assume!(encode(&place).len() <= MAX_LENGTH);
            prop_assert_eq!(decode(&encode(&place), 2), Ok(place));
        }

        #[test]
        fn any_other_text_is_refused_and_never_panics(text: String) {
            prop_assert!(decode(&text, 9).is_err());
        }
    }

    #[test]
    fn a_cursor_of_another_list_is_refused() {
        assert_eq!(decode(&encode(&[Bind::Integer(1)]), 2), Err(ReadError::BadCursor));
    }

    #[test]
    fn a_cursor_longer_than_any_place_is_refused_unread() {
        let place = |length| encode(&[Bind::Text("x".repeat(length))]);
        let longest = (1..).take_while(|length| place(*length).len() <= MAX_LENGTH).last().expect("some fit");
        assert!(decode(&place(longest), 1).is_ok());
        assert_eq!(decode(&place(longest + 3), 1), Err(ReadError::BadCursor));
    }
}
