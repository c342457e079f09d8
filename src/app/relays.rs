//! Targets of the relays: Kafka topics.

use streamward_pipeline::{
    live::{self, LiveChannel},
    relay::{Fact, Target, TargetError},
    store::BoxFuture,
};

use crate::{
    adapters::kafka::producer::{KafkaProducer, Outgoing, ProduceError},
    clock::{now_ms, rfc3339},
};

/// One topic, and the sessions that watch the same facts.
pub struct TopicTarget {
    pub producer: KafkaProducer,
    pub topic: String,
    /// Where facts are shown live once the topic has them.
    pub live: Option<LiveChannel>,
}

impl TopicTarget {
    fn show(&self, fact: &Fact) {
        let Some(live) = self.live.as_ref().filter(|live| live.has_subscribers()) else { return };
        let Some(text) = fact.value.clone().and_then(|value| String::from_utf8(value).ok()) else { return };
        let frame = live::frame("alert", &text, &rfc3339(now_ms()));
        live.announce(&String::from_utf8_lossy(fact.key.as_deref().unwrap_or_default()), frame);
    }
}

impl Target for TopicTarget {
    fn send<'a>(&'a self, facts: &'a [Fact]) -> BoxFuture<'a, Vec<Result<(), TargetError>>> {
        Box::pin(async move {
            let sends = facts.iter().map(|fact| async move {
                let record = Outgoing {
                    topic: &self.topic,
                    partition: None,
                    key: fact.key.as_deref(),
                    value: fact.value.as_deref(),
                    headers: fact.headers.clone(),
                };
                match self.producer.send(record).await {
                    Ok(_) => {
                        self.show(fact);
                        Ok(())
                    }
                    Err(ProduceError::Refused(code)) => Err(TargetError::Refused(code.to_string())),
                    Err(ProduceError::Unavailable(reason)) => Err(TargetError::Unavailable(reason)),
                }
            });
            futures_util::future::join_all(sends).await
        })
    }
}
