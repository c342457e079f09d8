//! Alerts as lists show them.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::time;
use crate::{ports::Row, steps::rule::condition_of};

/// A transition of an alert.
#[derive(Debug, Clone)]
pub struct Transition {
    pub event_time_ms: i64,
    pub created_at_ms: i64,
    pub offset: i64,
    pub message: String,
    /// JSON of the record that caused it.
    pub record: String,
}

/// An alert with its newest transition.
#[derive(Debug, Clone)]
pub struct Alert {
    /// Number of the newest transition.
    pub id: i64,
    /// Number of the first one.
    pub opened: i64,
    pub alert_id: String,
    pub n: i64,
    pub rule: String,
    pub stream: String,
    pub key: Option<String>,
    pub severity: String,
    pub state: String,
    pub topic: String,
    pub partition: i64,
    pub undeliverable: Option<String>,
    pub newest: Transition,
}

impl Transition {
    fn to_json(&self) -> Value {
        json!({"event_time": time(self.event_time_ms), "created_at": time(self.created_at_ms), "offset": self.offset,
               "message": self.message, "record": serde_json::from_str(&self.record).unwrap_or(Value::Null)})
    }

    /// As the end of an alert that began with `first`. The server ends an alert without a record: its transition repeats
    /// the place of the one before.
    fn to_end_json(&self, first: &Self) -> Value {
        if self.offset != first.offset {
            let mut end = self.to_json();
            end["by"] = "record".into();
            return end;
        }
        json!({"by": "server", "event_time": null, "created_at": time(self.created_at_ms), "offset": null,
               "message": self.message, "record": null})
    }
}

impl Alert {
    /// With its newest transition, and the two with which it fired and was resolved apart. `first` has the transitions of
    /// [`firsts`], by number.
    #[must_use]
    pub fn to_row(&self, first: &HashMap<i64, Transition>) -> Row {
        let fired = if self.opened == self.id { Some(&self.newest) } else { first.get(&self.opened) };
        let resolved = (self.state == "resolved").then(|| self.newest.to_end_json(fired.unwrap_or(&self.newest)));
        let condition = fired.and_then(|fired| condition_of(&fired.message, self.key.as_deref()));
        let fields = [
            ("id", Value::from(self.id)),
            ("alert_id", self.alert_id.as_str().into()),
            ("n", self.n.into()),
            ("rule", self.rule.as_str().into()),
            ("stream", self.stream.as_str().into()),
            ("key", self.key.as_deref().into()),
            ("severity", self.severity.as_str().into()),
            ("state", self.state.as_str().into()),
            ("topic", self.topic.as_str().into()),
            ("partition", self.partition.into()),
            ("condition", condition.into()),
            ("fired", fired.map(Transition::to_json).into()),
            ("resolved", resolved.into()),
            ("undeliverable", self.undeliverable.as_deref().into()),
        ];
        let mut object: Row = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        if let Value::Object(newest) = self.newest.to_json() {
            object.extend(newest);
        }
        object
    }
}

/// Numbers of the transitions with which alerts fired whose newest one is another.
#[must_use]
pub fn firsts(alerts: &[Alert]) -> Vec<i64> {
    alerts.iter().filter(|alert| alert.opened != alert.id).map(|alert| alert.opened).collect()
}
