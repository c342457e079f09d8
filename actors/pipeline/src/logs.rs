//! Which log a topic's records come from.
//!
//! A topic that is deleted and made anew keeps its name and begins again at offset 0: it is another log (KIP-516 gives it
//! another id). A client reads on by name and offset as if nothing had happened, so what it brings is trusted only after
//! the cluster has said, *after* the records were read, that the topic is still the log that the slot was assigned for.
//! Ids never come back: a log that is the same before and after a read was the same at the read.

use std::{sync::Arc, time::Instant};

use crate::store::BoxFuture;

/// Which log a topic's partitions are read from; a topic created again has another one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogIdentity {
    /// Empty where the cluster does not tell it.
    pub cluster_id: String,
    /// Empty where the cluster does not tell it.
    pub topic_id: String,
}

impl LogIdentity {
    /// Whether both are the same log, as far as the cluster tells.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        if self.topic_id.is_empty() || other.topic_id.is_empty() {
            return self.cluster_id == other.cluster_id;
        }
        self.topic_id == other.topic_id
    }
}

/// What the cluster said of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// None where there is no such topic.
    pub log: Option<LogIdentity>,
    /// The answer holds for a moment at or after this one.
    pub asked_at: Instant,
}

/// The cluster's word on which log a topic is. Called by sources when a partition is assigned, by lanes before a batch
/// is processed.
pub trait Logs: Send + Sync {
    /// What `topic` is at some moment during the call.
    ///
    /// # Errors
    /// The cluster did not answer in time; the text says why.
    fn ask<'a>(&'a self, topic: &'a Arc<str>) -> BoxFuture<'a, Result<Told, String>>;

    /// The newest answer, without asking; none before the first and where the topic is missing. May be seconds old.
    fn last_told(&self, topic: &Arc<str>) -> Option<LogIdentity>;
}

#[cfg(test)]
pub(crate) mod tests {
    use parking_lot::Mutex;

    use super::*;

    fn identity(cluster: &str, topic: &str) -> LogIdentity {
        LogIdentity { cluster_id: cluster.to_owned(), topic_id: topic.to_owned() }
    }

    /// A cluster with one topic, which a test makes anew.
    #[derive(Default)]
    pub(crate) struct OneTopic(pub(crate) Mutex<Option<LogIdentity>>);

    impl OneTopic {
        pub(crate) fn named(id: &str) -> Self {
            Self(Mutex::new(Some(identity("cluster", id))))
        }
    }

    impl Logs for OneTopic {
        fn ask<'a>(&'a self, _: &'a Arc<str>) -> BoxFuture<'a, Result<Told, String>> {
            let asked_at = Instant::now();
            Box::pin(async move { Ok(Told { log: self.0.lock().clone(), asked_at }) })
        }

        fn last_told(&self, _: &Arc<str>) -> Option<LogIdentity> {
            self.0.lock().clone()
        }
    }

    #[test]
    fn a_topic_id_decides_and_where_there_is_none_the_cluster_does() {
        assert!(identity("a", "1").is_same(&identity("", "1")));
        assert!(!identity("a", "1").is_same(&identity("a", "2")));
        assert!(identity("a", "").is_same(&identity("a", "2")));
        assert!(!identity("a", "").is_same(&identity("b", "")));
    }
}
