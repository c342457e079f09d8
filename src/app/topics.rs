//! What the process knows about the broker's topics: who uses them, and how large they are where the broker is ours.

use std::{collections::HashMap, sync::Arc};

use streamward_core::ports::topics::TopicUse;

use super::broker::{Embedded, topic_configs};
use crate::{
    adapters::kafka::{
        admin::{TopicFound, TopicSpec},
        topics::{Knowledge, Refusal, Sizes},
    },
    config::{Config, HumanDuration},
    plan::{Plan, StreamSetup},
};

/// What to say of each setting that a topic was to be made with and does not have.
pub fn settings_differ(wanted: &TopicSpec, found: &TopicFound) -> Vec<String> {
    let name = &wanted.name;
    let differs = |(setting, wanted): &(String, String)| {
        let value = found.configs.get(setting).filter(|value| *value != wanted)?;
        Some(format!(
            "topic {name}: {setting} is {}, and would be {} by the configuration: a topic keeps the settings that it was \
             made with; 'streamward topics alter {name} --config {setting}={wanted}' changes it",
            with_length(setting, value),
            with_length(setting, wanted)
        ))
    };
    wanted.configs.iter().filter_map(differs).collect()
}

/// `604800000 (7d)` for settings in milliseconds, as the configuration has them.
fn with_length(setting: &str, value: &str) -> String {
    match value.parse().map(HumanDuration::from_millis) {
        Ok(length) if setting.ends_with(".ms") => format!("{value} ({length})"),
        _ => value.to_owned(),
    }
}

/// The topics of streams, alerts and dead letters, as they are made when they are missing.
pub fn specs(config: &Config, plan: &Plan) -> Vec<TopicSpec> {
    let of_stream = |stream: &StreamSetup| TopicSpec {
        name: stream.topic.to_string(),
        partitions: i32::try_from(stream.config.partitions).unwrap_or(i32::MAX),
        configs: topic_configs(&stream.config),
    };
    let mut topics: Vec<TopicSpec> = plan.streams.iter().map(of_stream).collect();
    let dlq_bytes = plan.streams.iter().map(|stream| stream.limits.max_record_bytes).max().unwrap_or(0) + (64 << 10);
    let plain = |name: &str, configs| TopicSpec { name: name.to_owned(), partitions: 1, configs };
    topics.push(plain(&config.alerts.topic, Vec::new()));
    topics.push(plain(&config.dlq.topic, vec![("max.message.bytes".to_owned(), dlq_bytes.to_string())]));
    topics
}

/// What is known of the topics of streams, alerts, dead letters and the registry.
pub fn knowledge(config: &Config, plan: &Plan, broker: Option<Arc<Embedded>>) -> Knowledge {
    let mut uses: HashMap<String, TopicUse> = HashMap::new();
    if config.registry.url.is_none() {
        uses.insert(config.registry.embedded.topic.clone(), TopicUse::Own("schemas"));
    }
    uses.insert(config.dlq.topic.clone(), TopicUse::Own("dead letters"));
    uses.insert(config.alerts.topic.clone(), TopicUse::Own("alerts"));
    for stream in &plan.streams {
        uses.insert(stream.topic.to_string(), TopicUse::Stream(stream.name.to_string()));
    }
    let room = broker.clone().map(|broker| -> Refusal {
        Arc::new(move |partitions| {
            let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
            broker.broker().room_for(partitions).err().map(|refusal| refusal.to_string())
        })
    });
    let bytes = broker.map(|broker| -> Sizes { Arc::new(move |topic| broker.broker().topic_bytes(topic)) });
    let mut specs = specs(config, plan);
    if config.registry.url.is_none() {
        let configs = vec![("cleanup.policy".to_owned(), "compact".to_owned())];
        specs.push(TopicSpec { name: config.registry.embedded.topic.clone(), partitions: 1, configs });
    }
    Knowledge { uses, bytes, room, specs }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_a_topic_does_not_have_is_said_with_both_values_and_the_way() {
        let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let configs = vec![
            ("retention.ms".to_owned(), "86400000".to_owned()),
            ("max.message.bytes".to_owned(), "2000".to_owned()),
            ("message.timestamp.type".to_owned(), "LogAppendTime".to_owned()),
        ];
        let wanted = TopicSpec { name: "orders".to_owned(), partitions: 1, configs };
        let configs = pairs(&[("retention.ms", "604800000"), ("max.message.bytes", "2000")]);
        let said = settings_differ(&wanted, &TopicFound { partitions: 1, configs });
        assert_eq!(said.len(), 1, "{said:?}");
        for words in
            ["topic orders", "604800000 (7d)", "86400000 (1d)", "topics alter orders --config retention.ms=86400000"]
        {
            assert!(said[0].contains(words), "{said:?}");
        }
    }
}
