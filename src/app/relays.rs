//! Targets of the relays: Kafka topics.

use streamward_pipeline::{
    relay::{Fact, Target, TargetError},
    store::BoxFuture,
};

use crate::adapters::kafka::producer::{KafkaProducer, Outgoing, ProduceError};

/// One topic.
pub struct TopicTarget {
    pub producer: KafkaProducer,
    pub topic: String,
}

impl Target for TopicTarget {
    fn send<'a>(&'a self, facts: &'a [Fact]) -> BoxFuture<'a, Vec<Result<(), TargetError>>> {
        Box::pin(async move {
            let sends = facts.iter().map(|fact| async move {
                let record = Outgoing {
                    topic: &self.topic,
                    key: fact.key.as_deref(),
                    value: fact.value.as_deref(),
                    headers: fact.headers.clone(),
                };
                match self.producer.send(record).await {
                    Ok(_) => Ok(()),
                    Err(ProduceError::Refused(code)) => Err(TargetError::Refused(code.to_string())),
                    Err(ProduceError::Unavailable(error)) => Err(TargetError::Unavailable(error.to_string())),
                }
            });
            futures_util::future::join_all(sends).await
        })
    }
}
