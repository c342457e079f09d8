//! Why the server itself resolves an alert that fires, whichever database it is in.

use streamward_core::table::Layout;

/// Of a partition whose rules begin anew.
pub const LOG_TOO_SHORT: &str = "the log does not hold the records any more that its rule would have to read again";
/// Of a pipeline whose rules begin anew.
pub const OTHER_SETTINGS: &str = "its rule begins anew with other settings";

/// Why an alert of a rule is judged no more by a layout; none while it is.
pub fn unconfigured(layout: &Layout, (sink, topic, rule): (&str, &str, &str)) -> Option<String> {
    let Some((_, stream)) = layout.sinks.iter().find(|(name, _)| **name == *sink) else {
        return Some(format!("pipeline {sink} is not configured any more"));
    };
    if !layout.rules.iter().any(|(pipeline, name)| **pipeline == *sink && **name == *rule) {
        return Some(format!("rule {rule} is not configured any more"));
    }
    let reads = layout.streams.iter().any(|table| table.stream == *stream && *table.topic == *topic);
    (!reads).then(|| format!("pipeline {sink} does not read topic {topic} any more"))
}

/// Why alerts of a log end that is not the topic's any more.
pub fn other_log(topic: &str) -> String {
    format!("topic {topic} was made anew, and its earlier log is read no more")
}

/// What the transition says with which the server resolves an alert.
pub fn message(why: &str) -> String {
    format!("resolved by the server: {why}")
}
