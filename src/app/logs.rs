//! Which log each topic is: the embedded broker knows at once, an outside cluster is asked by a supervised thread.

use std::{sync::Arc, time::Instant};

use streamward_kit::ChildSpec;
use streamward_pipeline::{
    logs::{LogIdentity, Logs, Told},
    store::BoxFuture,
};

use super::broker::Embedded;
use crate::adapters::kafka::{KafkaSettings, logs::ClusterLogs};

/// The topics of the embedded broker.
struct EmbeddedLogs(Arc<Embedded>);

impl Logs for EmbeddedLogs {
    fn ask<'a>(&'a self, topic: &'a Arc<str>) -> BoxFuture<'a, Result<Told, String>> {
        let asked_at = Instant::now();
        Box::pin(async move { Ok(Told { log: self.last_told(topic), asked_at }) })
    }

    fn last_told(&self, topic: &Arc<str>) -> Option<LogIdentity> {
        let broker = self.0.broker();
        let topic_id = broker.topic_id(topic)?;
        Some(LogIdentity { cluster_id: broker.cluster_id().to_owned(), topic_id })
    }
}

/// Whoever knows which logs `topics` are, and the actor that it needs.
pub fn logs(
    broker: Option<&Arc<Embedded>>,
    kafka: &KafkaSettings,
    topics: Vec<Arc<str>>,
) -> (Arc<dyn Logs>, Option<ChildSpec>) {
    if let Some(broker) = broker {
        return (Arc::new(EmbeddedLogs(broker.clone())), None);
    }
    let cluster = Arc::new(ClusterLogs::new(topics));
    let (asked, kafka) = (cluster.clone(), kafka.clone());
    let child = ChildSpec::thread("logs", "logs", move |scope| asked.run(&scope, &kafka));
    (cluster, Some(child))
}
