//! What a transition of an alert says in words, and the condition read out of them again.
//!
//! Transitions are stored with their message; the condition under which an old alert fired may differ from the one that is
//! configured.

use crate::output::AlertState;

const NO_KEY: &str = "a record without a key";

/// The message of a transition: "value > 80 holds for sensor_1".
pub(super) fn message(condition: &str, state: AlertState, key: Option<&str>) -> String {
    format!("{condition}{}", end(state, key))
}

/// The condition of the rule, from the message with which an alert of a key fired; none where the message is another one.
#[must_use]
pub fn condition_of<'a>(message: &'a str, key: Option<&str>) -> Option<&'a str> {
    message
        .strip_suffix(&*end(AlertState::Firing, key))
        .filter(|_| !message.ends_with(&*end(AlertState::Resolved, key)))
}

fn end(state: AlertState, key: Option<&str>) -> String {
    let verb = match state {
        AlertState::Firing => "holds",
        AlertState::Resolved => "no longer holds",
    };
    format!(" {verb} for {}", key.unwrap_or(NO_KEY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_is_read_out_of_the_message_that_an_alert_fires_with() {
        for key in [None, Some("sensor_1"), Some(" holds for "), Some("")] {
            let condition = "name = ' holds for ' AND value > 80";
            assert_eq!(condition_of(&message(condition, AlertState::Firing, key), key), Some(condition), "{key:?}");
            assert_eq!(condition_of(&message(condition, AlertState::Firing, key), Some("another")), None, "{key:?}");
        }
        assert_eq!(condition_of("value > 80 no longer holds for sensor_1", Some("sensor_1")), None);
        assert_eq!(
            message("value > 80", AlertState::Resolved, None),
            "value > 80 no longer holds for a record without a key"
        );
    }
}
