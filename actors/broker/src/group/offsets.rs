//! Committed offsets of groups: who may commit, what is stored, when it expires.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, Bytes};
use kafka_protocol::messages::ConsumerProtocolSubscription;
use kafka_protocol::protocol::Message;

use super::{Groups, Identity};
use crate::error::{Code, KResult};
use crate::meta::{Change, CommittedOffset, Durability, GroupOffsets};
use crate::wire::decode_fixed;

/// Bytes of metadata that a client may store with an offset.
pub(crate) const MAX_METADATA_BYTES: usize = 4_096;
/// Groups whose offsets are kept.
const MAX_GROUPS_WITH_OFFSETS: usize = 100_000;
/// Offsets of a group without members are kept this long after the last commit.
const OFFSET_RETENTION_MS: i64 = 7 * 24 * 3_600 * 1_000;

/// Which committed offsets of a group are asked for.
#[derive(Debug, Clone)]
pub(crate) enum OffsetsQuery {
    All,
    Of(BTreeMap<String, BTreeSet<i32>>),
}

impl Groups {
    /// Stores offsets for a member, or for a client of a group without members.
    ///
    /// # Errors
    /// What the member must know, `PolicyViolation` for one group more than there may be, `KafkaStorageError`.
    pub fn commit(
        &self,
        group: &str,
        identity: &Identity,
        offsets: Vec<(String, i32, CommittedOffset)>,
    ) -> KResult<()> {
        self.check_commit(group, identity)?;
        let mut meta = self.meta.lock();
        let groups = &meta.state().groups;
        if groups.len() >= MAX_GROUPS_WITH_OFFSETS && !groups.contains_key(group) {
            return Err(Code::PolicyViolation);
        }
        let change = Change::Offsets { group: group.to_owned(), offsets };
        meta.commit(change, Durability::Cached).map_err(|_| Code::KafkaStorageError)
    }

    fn check_commit(&self, group: &str, identity: &Identity) -> KResult<()> {
        let now_ms = self.now_ms();
        let outcome = self.live.lock().with(group, now_ms, |g| g.may_commit(identity, now_ms));
        match outcome {
            Some(outcome) => outcome,
            None if identity.generation < 0 => Ok(()),
            None => Err(Code::UnknownMemberId),
        }
    }

    /// Whether a transaction may commit offsets for a client.
    ///
    /// # Errors
    /// What the member must know.
    pub fn check_txn_commit(&self, group: &str, identity: &Identity) -> KResult<()> {
        let now_ms = self.now_ms();
        let outcome = self.live.lock().with(group, now_ms, |g| g.may_commit_in_txn(identity, now_ms));
        match outcome {
            Some(outcome) => outcome,
            None if identity.generation < 0 => Ok(()),
            None => Err(Code::UnknownMemberId),
        }
    }

    /// Committed offsets by topic and partition; `None` where nothing was committed.
    pub fn offsets(&self, group: &str, query: &OffsetsQuery) -> BTreeMap<String, Vec<(i32, Option<CommittedOffset>)>> {
        let meta = self.meta.lock();
        let nothing = GroupOffsets::new();
        let known = meta.state().groups.get(group).unwrap_or(&nothing);
        let all = |(t, ps): (&String, &BTreeMap<i32, CommittedOffset>)| {
            let found = ps.iter().map(|(p, o)| (*p, Some(o.clone()))).collect();
            (t.clone(), found)
        };
        let some = |(t, ps): (&String, &BTreeSet<i32>)| {
            let of = |p: &i32| (*p, known.get(t).and_then(|o| o.get(p)).cloned());
            (t.clone(), ps.iter().map(of).collect())
        };
        match query {
            OffsetsQuery::All => known.iter().map(all).collect(),
            OffsetsQuery::Of(wanted) => wanted.iter().map(some).collect(),
        }
    }

    /// Removes committed offsets, except those of topics that members read; those topics.
    ///
    /// # Errors
    /// `GroupIdNotFound`, `NonEmptyGroup` for members whose topics are not known, `KafkaStorageError`.
    pub fn delete_offsets(&self, group: &str, mut partitions: Vec<(String, i32)>) -> KResult<BTreeSet<String>> {
        let view = self.view(group).ok_or(Code::GroupIdNotFound)?;
        let mut read = BTreeSet::new();
        for (_, member) in &view.members {
            read.extend(subscribed(&member.metadata(&view.protocol)).ok_or(Code::NonEmptyGroup)?);
        }
        partitions.retain(|(topic, _)| !read.contains(topic));
        let change = Change::OffsetsDeleted { group: group.to_owned(), partitions };
        let mut meta = self.meta.lock();
        meta.commit(change, Durability::Cached).map_err(|_| Code::KafkaStorageError)?;
        Ok(read)
    }

    /// Forgets groups that committed nothing and had no members for seven days, of which the broker saw all (KIP-211).
    pub fn expire_offsets(&self, now_ms: i64) {
        let live = self.live.lock();
        let mut last_live = self.last_live_ms.lock();
        let mut meta = self.meta.lock();
        let groups = &meta.state().groups;
        last_live.retain(|id, _| groups.contains_key(id));
        for id in live.groups.keys().filter(|id| groups.contains_key(*id)) {
            last_live.insert(id.clone(), now_ms);
        }
        let since = now_ms - OFFSET_RETENTION_MS;
        let is_idle = |id: &String| *last_live.get(id).unwrap_or(&self.opened_ms) < since;
        let is_old =
            |offsets: &GroupOffsets| offsets.values().flat_map(BTreeMap::values).all(|o| o.committed_ms < since);
        let expired = groups.iter().filter(|(id, offsets)| is_idle(id) && is_old(offsets));
        let expired: Vec<String> = expired.map(|(id, _)| id.clone()).collect();
        for group in expired {
            if let Err(error) = meta.commit(Change::GroupDeleted { group }, Durability::Cached) {
                tracing::warn!(%error, "an expired group cannot be removed");
                return;
            }
        }
    }
}

/// Topics in a consumer's subscription; `None` for metadata of another kind of client.
fn subscribed(metadata: &Bytes) -> Option<Vec<String>> {
    let mut rest = metadata.clone();
    let version = rest.try_get_i16().ok()?;
    let known = ConsumerProtocolSubscription::VERSIONS;
    let subscription: ConsumerProtocolSubscription = decode_fixed(&rest, version.clamp(known.min, known.max)).ok()?;
    Some(subscription.topics.iter().map(|topic| topic.to_string()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topics_of_a_subscription_of_any_version_are_read() {
        // Version, two topics, no user data; later versions add fields behind.
        let topics = b"\0\x02\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff\0\0\0\0\0\0\0\x07";
        assert_eq!(subscribed(&Bytes::from_static(topics)), Some(vec!["a".to_owned(), "bc".to_owned()]));
        assert_eq!(subscribed(&Bytes::from_static(b"\0")), None);
    }

    #[test]
    fn a_subscription_that_claims_more_topics_than_it_has_bytes_takes_no_memory() {
        assert_eq!(subscribed(&Bytes::from_static(b"\0\0\x7f\xff\xff\xff\0\x01a")), None);
        let partitions = b"\0\x01\0\0\0\x01\0\x01a\xff\xff\xff\xff\0\0\0\x01\0\x01a\x7f\xff\xff\xff\0";
        assert_eq!(subscribed(&Bytes::from_static(partitions)), None);
    }
}
