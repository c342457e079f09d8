//! Cursors: the order columns of the last row handed out, opaque to clients.
//!
//! A cursor names a place in the order and no page number, so rows that arrive meanwhile neither shift nor repeat a page.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::walk::Order;
use crate::{
    ports::ReadError,
    schema::{Decimal, Kind},
};

/// Longest cursor read, in characters.
const MAX_LENGTH: usize = 4_096;

/// A value to bind: of an order column or of a filter.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Bind {
    Flag(bool),
    Integer(i64),
    /// Milliseconds since 1970 (UTC).
    Moment(i64),
    Number(f64),
    /// With the scale of its column.
    #[serde(serialize_with = "as_text")]
    Decimal(Decimal),
    Text(String),
}

fn as_text<S: Serializer>(decimal: &Decimal, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(decimal)
}

/// The cursor of a place in a list.
#[must_use]
pub fn encode(place: &[Bind]) -> String {
    let json = serde_json::to_vec(place).unwrap_or_default();
    URL_SAFE_NO_PAD.encode(json)
}

/// Reads a cursor of a list in that order.
///
/// # Errors
/// [`ReadError::BadCursor`] where no such list has handed it out.
pub fn decode(cursor: &str, order: &[Order]) -> Result<Vec<Bind>, ReadError> {
    read(cursor, order).ok_or(ReadError::BadCursor)
}

fn read(cursor: &str, order: &[Order]) -> Option<Vec<Bind>> {
    if cursor.len() > MAX_LENGTH {
        return None;
    }
    let json = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let place: Vec<Value> = serde_json::from_slice(&json).ok()?;
    if place.len() != order.len() {
        return None;
    }
    place.into_iter().zip(order).map(|(value, order)| bind(value, &order.kind)).collect()
}

fn bind(value: Value, kind: &Kind) -> Option<Bind> {
    match (kind, value) {
        (Kind::Boolean, Value::Bool(flag)) => Some(Bind::Flag(flag)),
        (Kind::Int | Kind::Long, Value::Number(number)) => number.as_i64().map(Bind::Integer),
        (Kind::Timestamp, Value::Number(number)) => number.as_i64().map(Bind::Moment),
        (Kind::Float | Kind::Double, Value::Number(number)) => number.as_f64().map(Bind::Number),
        (Kind::String | Kind::Enum(_), Value::String(text)) => Some(Bind::Text(text)),
        (Kind::Decimal { precision, scale }, Value::String(text)) => {
            let unscaled = Decimal::parse_as(&text, *precision, *scale).ok()?;
            Some(Bind::Decimal(Decimal { unscaled, scale: *scale }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(kinds: &[Kind]) -> Vec<Order> {
        kinds.iter().map(|kind| Order::by("column", kind.clone())).collect()
    }

    proptest! {
        #[test]
        fn a_cursor_comes_back_as_it_was(number: i64, moment: i64, text: String) {
            let place = vec![Bind::Integer(number), Bind::Moment(moment), Bind::Text(text)];
            prop_assume!(encode(&place).len() <= MAX_LENGTH);
            prop_assert_eq!(decode(&encode(&place), &order(&[Kind::Long, Kind::Timestamp, Kind::String])), Ok(place));
        }

        #[test]
        fn any_other_text_is_refused_and_never_panics(text: String) {
            prop_assert!(decode(&text, &order(&[Kind::Timestamp, Kind::Long])).is_err());
        }
    }

    #[test]
    fn a_cursor_of_another_list_is_refused() {
        let place = encode(&[Bind::Integer(1)]);
        assert_eq!(decode(&place, &order(&[Kind::Timestamp, Kind::Long])), Err(ReadError::BadCursor));
        assert_eq!(decode(&place, &order(&[Kind::String])), Err(ReadError::BadCursor), "a number is no text");
    }

    #[test]
    fn a_cursor_longer_than_any_place_is_refused_unread() {
        let texts = order(&[Kind::String]);
        let place = |length| encode(&[Bind::Text("x".repeat(length))]);
        let longest = (1..).take_while(|length| place(*length).len() <= MAX_LENGTH).last().expect("some fit");
        assert!(decode(&place(longest), &texts).is_ok());
        assert_eq!(decode(&place(longest + 3), &texts), Err(ReadError::BadCursor));
    }
}
