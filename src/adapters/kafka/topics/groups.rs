//! Consumer groups: who is in them, how far they are, and moving those that nobody is in.
//!
//! Offsets of a group are asked for, and set, by a client that has the group's name and never joins it.

use std::time::Duration;

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
};
use streamward_core::ports::topics::{
    GroupDetail, GroupMember, GroupOffset, GroupSummary, LogBounds, ResetTo, TopicError,
};

use super::{
    super::{
        KafkaSettings, QuietContext,
        ffi::{self, Group},
    },
    catalog::Catalog,
    errors::{of_error, unavailable},
};

const TIMEOUT: Duration = Duration::from_secs(5);
/// Most groups that are asked whether they read a topic: each takes a client of its own.
const MAX_ASKED: usize = 32;

/// Every group, by name.
pub fn all(catalog: &Catalog) -> Result<Vec<GroupSummary>, TopicError> {
    let list = ffi::groups(catalog.consumer().client(), None, TIMEOUT).map_err(unavailable)?;
    let mut groups: Vec<GroupSummary> = list.iter().map(summary).collect();
    groups.sort_by(|a, b| a.group.cmp(&b.group));
    Ok(groups)
}

fn summary(group: &Group) -> GroupSummary {
    let member = |member: &ffi::Member| GroupMember {
        id: member.id.clone(),
        client_id: member.client_id.clone(),
        host: member.host.clone(),
    };
    GroupSummary {
        group: group.name.clone(),
        state: group.state.clone(),
        protocol_type: group.protocol_type.clone(),
        protocol: group.protocol.clone(),
        members: group.members.iter().map(member).collect(),
    }
}

fn one(catalog: &Catalog, group: &str) -> Result<GroupSummary, TopicError> {
    let list = ffi::groups(catalog.consumer().client(), Some(group), TIMEOUT).map_err(unavailable)?;
    let found = list.iter().find(|known| known.name == group && known.state != "Dead").map(summary);
    found.ok_or_else(|| TopicError::UnknownGroup(group.to_owned()))
}

/// A client with the name of a group.
fn client(settings: &KafkaSettings, group: &str) -> Result<BaseConsumer<QuietContext>, TopicError> {
    let mut config = settings.client("streamward-topics");
    config.set("group.id", group).set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
    config.create_with_context(QuietContext).map_err(unavailable)
}

/// Committed offsets of a group in these logs; those without one are left out.
fn offsets(
    settings: &KafkaSettings,
    group: &str,
    topics: &[(String, Vec<LogBounds>)],
) -> Result<Vec<GroupOffset>, TopicError> {
    let mut list = TopicPartitionList::new();
    for (topic, logs) in topics {
        for log in logs {
            list.add_partition(topic, log.partition);
        }
    }
    if list.count() == 0 {
        return Ok(Vec::new());
    }
    let committed = client(settings, group)?.committed_offsets(list, TIMEOUT).map_err(unavailable)?;
    let mut found = Vec::new();
    for (topic, logs) in topics {
        for log in logs {
            let element = committed.find_partition(topic, log.partition);
            if let Some(Offset::Offset(offset)) = element.map(|element| element.offset()) {
                let lag = u64::try_from(log.end - offset).unwrap_or(0);
                let topic = topic.clone();
                found.push(GroupOffset { topic, partition: log.partition, offset, log_end: log.end, lag });
            }
        }
    }
    Ok(found)
}

/// A group with its offsets in all topics.
pub fn detail(settings: &KafkaSettings, catalog: &Catalog, group: &str) -> Result<GroupDetail, TopicError> {
    let group = one(catalog, group)?;
    let bounds: Vec<_> = catalog.all_bounds(&catalog.all()?)?.into_iter().collect();
    let mut offsets = offsets(settings, &group.group, &bounds)?;
    offsets.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    Ok(GroupDetail { group, offsets })
}

/// Every group in the order in which they are asked whether they read a topic: first those with members that do now.
pub fn to_ask(catalog: &Catalog, topic: &str) -> Result<Vec<GroupSummary>, TopicError> {
    let list = ffi::groups(catalog.consumer().client(), None, TIMEOUT).map_err(unavailable)?;
    let reads = |group: &Group| group.members.iter().any(|member| is_among(topic, &member.assignment));
    let mut groups: Vec<(bool, GroupSummary)> = list.iter().map(|group| (!reads(group), summary(group))).collect();
    groups.sort_by(|(a, one), (b, other)| (a, &one.group).cmp(&(b, &other.group)));
    Ok(groups.into_iter().map(|(_, group)| group).collect())
}

/// Whether an assignment of the consumer protocol names a topic: a length in two bytes, then the name (KIP-429).
fn is_among(topic: &str, assignment: &[u8]) -> bool {
    let Ok(length) = i16::try_from(topic.len()) else { return false };
    let name = [&length.to_be_bytes()[..], topic.as_bytes()].concat();
    memchr::memmem::find(assignment, &name).is_some()
}

/// The groups that have an offset in a topic, and how many were not asked.
pub fn of_topic(
    settings: &KafkaSettings,
    catalog: &Catalog,
    topic: &str,
    bounds: &[LogBounds],
) -> Result<(Vec<GroupDetail>, usize), TopicError> {
    let groups = to_ask(catalog, topic)?;
    let not_asked = groups.len().saturating_sub(MAX_ASKED);
    let logs = [(topic.to_owned(), bounds.to_vec())];
    let mut found = Vec::new();
    for group in groups.into_iter().take(MAX_ASKED) {
        let offsets = offsets(settings, &group.group, &logs)?;
        if !offsets.is_empty() {
            found.push(GroupDetail { group, offsets });
        }
    }
    Ok((found, not_asked))
}

/// Moves a group in a topic.
pub struct Reset<'a> {
    pub settings: &'a KafkaSettings,
    pub catalog: &'a Catalog,
    pub group: &'a str,
    pub topic: &'a str,
}

impl Reset<'_> {
    /// Moves it; answers where it is then.
    ///
    /// # Errors
    /// If the group has members, or does not exist, or an offset lies outside of its log.
    pub fn run(&self, to: &ResetTo) -> Result<Vec<GroupOffset>, TopicError> {
        let (group, topic) = (self.group, self.topic);
        let members = one(self.catalog, group)?.members.len();
        if members > 0 {
            let reason = format!("group {group} has {members} members: stop them first");
            return Err(TopicError::Refused(reason));
        }
        let bounds = self.catalog.bounds(topic, &self.catalog.partitions(topic)?)?;
        let mut list = TopicPartitionList::new();
        for (partition, offset) in self.targets(to, &bounds)? {
            list.add_partition_offset(topic, partition, Offset::Offset(offset)).map_err(unavailable)?;
        }
        if list.count() > 0 {
            let what = format!("move group {group}");
            let client = client(self.settings, group)?;
            client.commit(&list, CommitMode::Sync).map_err(|error| of_error(error, topic, &what))?;
        }
        offsets(self.settings, group, &[(topic.to_owned(), bounds)])
    }

    fn targets(&self, to: &ResetTo, bounds: &[LogBounds]) -> Result<Vec<(i32, i64)>, TopicError> {
        match to {
            ResetTo::Earliest => Ok(bounds.iter().map(|log| (log.partition, log.start)).collect()),
            ResetTo::Latest => Ok(bounds.iter().map(|log| (log.partition, log.end)).collect()),
            ResetTo::TimeMs(time_ms) => Ok(self.catalog.at_time(self.topic, bounds, *time_ms)?.into_iter().collect()),
            ResetTo::Offsets(wanted) => wanted.iter().map(|wanted| self.checked(*wanted, bounds)).collect(),
        }
    }

    fn checked(&self, (partition, offset): (i32, i64), bounds: &[LogBounds]) -> Result<(i32, i64), TopicError> {
        let log = bounds.iter().find(|log| log.partition == partition).ok_or_else(|| TopicError::UnknownPartition {
            topic: self.topic.to_owned(),
            partition,
            partitions: bounds.len(),
        })?;
        if (log.start..=log.end).contains(&offset) {
            return Ok((partition, offset));
        }
        let reason = format!("partition {partition} has offsets {} to {}, not {offset}", log.start, log.end);
        Err(TopicError::Invalid { field: "offsets", reason })
    }
}
