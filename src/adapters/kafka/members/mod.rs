//! Who is in the consumer group of a pipeline besides this server's own member.
//!
//! On an outside cluster anybody may join that group. A source therefore looks before it joins and waits until it would be
//! alone ([`Member::strangers`], docs/adr/0028); who comes later is seen by `app/groups`. The embedded broker refuses
//! strangers itself, so nobody looks there.
//!
//! Which member of its own name is this server's is told by the id that the group gave it: [`KnownIds`] keeps it in the data
//! folder, so that a member that a predecessor left behind is not taken for another server.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rdkafka::{
    client::{Client, ClientContext},
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};

use super::{
    KafkaSettings, QuietContext,
    ffi::{self, Group},
};
use crate::node::write_atomically;

/// How sources deal their partitions.
pub(super) const ASSIGNOR: &str = "cooperative-sticky";
/// How the note of a source begins that stands by until others have left its group.
pub const STANDS_BY: &str = "nothing is read until it is gone: ";
/// File in the data folder with the ids of this server's members.
const FILE: &str = "group_members.json";
/// How long the cluster may take to say who is in a group.
const LOOK_WITHIN: Duration = Duration::from_secs(2);
/// Most members that are named; of more their number is told.
const MOST_NAMED: usize = 3;
/// Most characters that are shown of a member's client id or host.
const MOST_CHARS: usize = 100;
/// Characters of the UUID with which brokers end a member's id.
const UUID_CHARS: usize = 36;

/// The ids that groups gave to the members of this data folder's server, by pipeline.
pub struct KnownIds {
    file: PathBuf,
    ids: Mutex<BTreeMap<String, String>>,
}

impl KnownIds {
    /// Those of the servers that ran on the data folder before.
    #[must_use]
    pub fn open(data_dir: &Path) -> Self {
        let file = data_dir.join(FILE);
        // Without them a predecessor's member counts as a stranger until its session ends, 10 s after its end.
        let ids = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { file, ids: Mutex::new(ids.unwrap_or_default()) }
    }

    fn get(&self, pipeline: &str) -> Option<String> {
        self.ids.lock().get(pipeline).cloned()
    }

    fn set(&self, pipeline: &str, id: String) {
        let mut ids = self.ids.lock();
        if ids.get(pipeline) == Some(&id) {
            return;
        }
        ids.insert(pipeline.to_owned(), id);
        let written = serde_json::to_vec(&*ids).map_err(std::io::Error::from);
        if let Err(error) = written.and_then(|bytes| write_atomically(&self.file, &bytes)) {
            tracing::debug!(%error, "keep the ids of this server's members");
        }
    }
}

/// A pipeline's member of its consumer group.
pub struct Member {
    pub pipeline: Arc<str>,
    pub group: String,
    /// Name of this server, unique in the group.
    pub node_id: String,
    /// Ids of this server's members; none on the embedded broker, which lets nobody else into the group.
    pub known: Option<Arc<KnownIds>>,
}

impl Member {
    /// Its name in the group, stable over restarts, so that a restart gets its partitions back at once (KIP-345).
    #[must_use]
    pub fn instance(&self) -> String {
        format!("{}-{}", self.node_id, self.pipeline)
    }

    /// Remembers the id that the group has given to this client; false if it has none yet.
    pub(super) fn learn<C: ClientContext>(&self, client: &Client<C>) -> bool {
        let Some(known) = &self.known else { return true };
        let Some(id) = ffi::member_id(client) else { return false };
        known.set(&self.pipeline, id);
        true
    }

    /// Who else is in the group; none where nobody can be.
    ///
    /// # Errors
    /// If the cluster does not say within 2 s.
    pub(super) fn strangers<C: ClientContext>(&self, client: &Client<C>) -> Result<Option<Strangers>, KafkaError> {
        let Some(known) = &self.known else { return Ok(None) };
        let groups = ffi::groups(client, Some(&self.group), LOOK_WITHIN)?;
        let group = groups.iter().find(|group| group.name == self.group);
        Ok(group.and_then(|group| self.judge(group, known.get(&self.pipeline).as_deref())))
    }

    /// Who of a group is not this server's member, whose id is known if it ever had one.
    fn judge(&self, group: &Group, own_id: Option<&str>) -> Option<Strangers> {
        let instance = self.instance();
        let others = group.members.iter().filter(|member| own_id != Some(&member.id));
        let stranger = |member: &ffi::Member| Stranger {
            id: member.id.clone(),
            client_id: shown(&member.client_id),
            host: shown(member.host.trim_start_matches('/')),
            has_our_name: member.client_id == instance || is_id_of(&member.id, &instance),
        };
        let members: Vec<Stranger> = others.map(stranger).collect();
        (!members.is_empty()).then(|| Strangers {
            group: self.group.clone(),
            node_id: self.node_id.clone(),
            is_settled: group.state == "Stable",
            protocol: [&group.protocol_type, &group.protocol].map(Clone::clone),
            members,
        })
    }
}

/// Whether a broker made a member's id of this name.
fn is_id_of(id: &str, instance: &str) -> bool {
    let rest = id.strip_prefix(instance).and_then(|rest| rest.strip_prefix('-'));
    rest.is_some_and(|uuid| uuid.chars().count() == UUID_CHARS)
}

/// A stranger's text as one can print it.
fn shown(text: &str) -> String {
    text.chars().take(MOST_CHARS).flat_map(char::escape_debug).collect()
}

/// A member that is not this server's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stranger {
    id: String,
    client_id: String,
    host: String,
    /// It comes under the name of this server.
    has_our_name: bool,
}

/// Members of a pipeline's group that are not this server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strangers {
    group: String,
    node_id: String,
    /// Whether every member has heard what the group agreed on.
    is_settled: bool,
    /// The group's type and assignor; empty where it has not agreed.
    protocol: [String; 2],
    members: Vec<Stranger>,
}

impl Strangers {
    /// What an operator can do.
    #[must_use]
    pub fn way_out(&self) -> String {
        match self.namesakes() {
            true => "stop one of them, or give this one a data folder, a node.id and a kafka.consumer_group of its own",
            false => {
                "stop it, or set another kafka.consumer_group (beside another server also a node.id and a data folder)"
            }
        }
        .to_owned()
    }

    /// Whether these were there at an earlier look, too. A client that is about to join has a new id that it has not heard
    /// yet, so that one under this server's name counts once the group is settled.
    #[must_use]
    pub fn remain_from(&self, earlier: &Self) -> bool {
        let was_there = |member: &&Stranger| earlier.members.iter().any(|before| before.id == member.id);
        let counts = |member: &&Stranger| !member.has_our_name || (self.is_settled && earlier.is_settled);
        self.members.iter().filter(was_there).any(|member| counts(&member))
    }

    fn namesakes(&self) -> bool {
        self.members.iter().any(|member| member.has_our_name)
    }
}

impl fmt::Display for Strangers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, node_id, protocol: [kind, assignor], members, .. } = self;
        let has_namesakes = self.namesakes();
        let names = Names(members.iter().filter(|member| !has_namesakes || member.has_our_name).collect());
        match (has_namesakes, &**kind, &**assignor) {
            (true, ..) => write!(
                f,
                "another server with node.id {node_id} is in group {group}, as {names}: of two servers under one name each \
                 takes the partitions from the other"
            ),
            (false, "" | "consumer", "" | ASSIGNOR) => write!(
                f,
                "another member is in group {group}, {names}: in one group each server has a part of the partitions, in a \
                 database of its own, and sends alerts of its own"
            ),
            (false, "" | "consumer", other) => write!(
                f,
                "group {group} is held with the assignor {other} by {names}: this server's assignor is {ASSIGNOR}, and a \
                 group has one"
            ),
            (false, kind, _) => write!(f, "group {group} is one of type {kind}, held by {names}"),
        }
    }
}

/// The members as a sentence has them.
struct Names<'a>(Vec<&'a Stranger>);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, member) in self.0.iter().take(MOST_NAMED).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}client {} at {}", member.client_id, member.host)?;
        }
        match self.0.len().saturating_sub(MOST_NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A client that looks at groups and joins none.
pub struct Onlooker(BaseConsumer<QuietContext>);

impl Onlooker {
    /// A client; it connects when it first looks.
    ///
    /// # Errors
    /// If a setting is refused.
    pub fn connect(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        Ok(Self(settings.client("streamward-groups").create_with_context(QuietContext)?))
    }

    /// Who else is in the group of a pipeline.
    ///
    /// # Errors
    /// If the cluster does not say within 2 s.
    pub fn strangers(&self, member: &Member) -> Result<Option<Strangers>, KafkaError> {
        member.strangers(self.0.client())
    }
}
