//! What the process knows about the broker's topics: who uses them, and how large they are where the broker is ours.

use std::{collections::HashMap, sync::Arc};

use streamward_core::ports::topics::TopicUse;

use super::broker::Embedded;
use crate::{
    adapters::kafka::topics::{Knowledge, Sizes},
    config::Config,
    plan::Plan,
};

/// The topics of streams, alerts, dead letters and the registry.
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
    let bytes = broker.map(|broker| -> Sizes { Arc::new(move |topic| broker.broker().topic_bytes(topic)) });
    Knowledge { uses, bytes }
}
