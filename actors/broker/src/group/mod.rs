//! Consumer groups: who is a member, who reads what, and how far they got.
//!
//! `state.rs` and `events.rs` are the state machine, tested without sockets; [`Groups`] is the shell
//! that gives it the time, keeps the requests that wait and performs its effects. Committed offsets
//! live in [`crate::meta`] (`offsets.rs`).

#[cfg(test)]
mod due;
mod events;
mod member;
mod offsets;
mod state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout_at;
use uuid::Uuid;

use crate::error::{Code, KResult};
use crate::meta::{Change, Durability, MetaStore};
use member::{Effect, Token};
pub(crate) use member::{Identity, JoinReply, JoinRequest, Member, NewMember, SkipAssignment, SyncReply, SyncRequest};
pub(crate) use offsets::{MAX_METADATA_BYTES, OffsetsQuery};
use state::{Group, Phase};

/// Groups with members that one broker keeps.
const MAX_GROUPS: usize = 10_000;
/// Groups of one connection whose members are looked after when it ends.
const MAX_MEMBERSHIPS: usize = 64;
/// Type of a group that is known by its committed offsets alone.
const DEFAULT_PROTOCOL_TYPE: &str = "consumer";

/// All groups.
#[derive(Debug)]
pub(crate) struct Groups {
    meta: Arc<Mutex<MetaStore>>,
    live: Mutex<Live>,
    /// When each group with stored offsets was last seen with members, by the clock of the offsets.
    last_live_ms: Mutex<HashMap<String, i64>>,
    opened_ms: i64,
    /// Sessions are measured by a clock that nobody sets.
    started: Instant,
}

#[derive(Debug, Default)]
struct Live {
    groups: HashMap<String, Group>,
    joins: HashMap<Token, oneshot::Sender<JoinReply>>,
    syncs: HashMap<Token, oneshot::Sender<SyncReply>>,
    last_token: Token,
    /// When something may be overdue next; none where only an event can change that.
    due_ms: Option<u64>,
    /// Told when that is earlier than it was.
    sooner: Arc<Notify>,
}

impl Live {
    fn token(&mut self) -> Token {
        self.last_token += 1;
        self.last_token
    }

    /// Answers the requests that a group's last events decided about.
    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            // A failed send means that the client has gone: its session will end.
            match effect {
                Effect::AnswerJoin(token, reply) => {
                    if let Some(waiting) = self.joins.remove(&token) {
                        let _ = waiting.send(reply);
                    }
                }
                Effect::AnswerSync(token, reply) => {
                    if let Some(waiting) = self.syncs.remove(&token) {
                        let _ = waiting.send(reply);
                    }
                }
            }
        }
    }

    /// Lets a group that exists take an event.
    fn with<T>(&mut self, group: &str, now_ms: u64, event: impl FnOnce(&mut Group) -> T) -> Option<T> {
        let state = self.groups.get_mut(group)?;
        let outcome = event(state);
        let effects = state.take_effects();
        let due_ms = state.due_ms(now_ms);
        self.perform(effects);
        if due_ms.is_some_and(|due| self.due_ms.is_none_or(|before| due < before)) {
            self.due_ms = due_ms;
            self.sooner.notify_one();
        }
        Some(outcome)
    }
}

/// Tells the group when a request that waits is given up.
struct GivenUp<'a> {
    groups: &'a Groups,
    group: &'a str,
    token: Token,
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        let now_ms = self.groups.now_ms();
        let mut live = self.groups.live.lock();
        let token = self.token;
        if live.joins.remove(&token).is_some() || live.syncs.remove(&token).is_some() {
            live.with(self.group, now_ms, |g| g.cancel(token, now_ms));
        }
    }
}

/// Groups that the client of one connection has joined over it, with its member ids.
#[derive(Debug, Default)]
pub(crate) struct Memberships(Mutex<HashMap<String, String>>);

impl Memberships {
    /// Takes note of a member; of more groups than [`MAX_MEMBERSHIPS`] none is remembered.
    pub fn note(&self, group: &str, member_id: &str) {
        let mut known = self.0.lock();
        if known.len() < MAX_MEMBERSHIPS || known.contains_key(group) {
            known.insert(group.to_owned(), member_id.to_owned());
        }
    }
}

/// A group as shown to administrators.
#[derive(Debug, Clone)]
pub(crate) struct GroupView {
    pub id: String,
    pub state: &'static str,
    pub protocol_type: String,
    pub protocol: String,
    pub members: Vec<(String, Member)>,
}

impl Groups {
    pub fn new(meta: Arc<Mutex<MetaStore>>) -> Self {
        let (live, last_live_ms) = (Mutex::default(), Mutex::default());
        Self { meta, live, last_live_ms, opened_ms: crate::now_ms(), started: Instant::now() }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Joins a group; completes when the next generation begins.
    pub async fn join(&self, group: &str, request: JoinRequest) -> JoinReply {
        let member_id = request.member_id.clone();
        let prefix = request.instance_id.as_ref().unwrap_or(&request.client_id);
        let fresh_id = format!("{prefix}-{}", Uuid::new_v4());
        let (answer, waiting) = oneshot::channel();
        let now_ms = self.now_ms();
        let token = {
            let mut live = self.live.lock();
            if !live.groups.contains_key(group) {
                let refused = match (member_id.is_empty(), live.groups.len() < MAX_GROUPS) {
                    (true, true) => None,
                    (true, false) => Some(Code::GroupMaxSizeReached),
                    (false, _) => Some(Code::UnknownMemberId),
                };
                if let Some(code) = refused {
                    return JoinReply::refused(code, member_id);
                }
                live.groups.insert(group.to_owned(), Group::new());
            }
            let token = live.token();
            live.joins.insert(token, answer);
            live.with(group, now_ms, |g| g.join(request, fresh_id, token, now_ms));
            token
        };
        let _given_up = GivenUp { groups: self, group, token };
        let reply = waiting.await;
        reply.unwrap_or_else(|_| JoinReply::refused(Code::CoordinatorNotAvailable, member_id))
    }

    /// Asks for a member's assignment; completes when the leader has brought it.
    pub async fn sync(&self, group: &str, request: SyncRequest) -> SyncReply {
        let (answer, waiting) = oneshot::channel();
        let now_ms = self.now_ms();
        let token = {
            let mut live = self.live.lock();
            let token = live.token();
            live.syncs.insert(token, answer);
            let known = live.with(group, now_ms, |g| g.sync(request, token, now_ms));
            if known.is_none() {
                live.syncs.remove(&token);
                return SyncReply::refused(Code::UnknownMemberId);
            }
            token
        };
        let _given_up = GivenUp { groups: self, group, token };
        let reply = waiting.await;
        reply.unwrap_or_else(|_| SyncReply::refused(Code::CoordinatorNotAvailable))
    }

    /// A member is alive.
    ///
    /// # Errors
    /// What the member must know: see [`Group::heartbeat`].
    pub fn heartbeat(&self, group: &str, identity: &Identity) -> KResult<()> {
        let now_ms = self.now_ms();
        let outcome = self.live.lock().with(group, now_ms, |g| g.heartbeat(identity, now_ms));
        outcome.unwrap_or(Err(Code::UnknownMemberId))
    }

    /// A connection has ended over which members joined.
    pub fn connection_lost(&self, memberships: Memberships) {
        let now_ms = self.now_ms();
        for (group, member_id) in memberships.0.into_inner() {
            self.live.lock().with(&group, now_ms, |g| g.connection_lost(&member_id, now_ms));
        }
    }

    /// A member leaves.
    ///
    /// # Errors
    /// `UnknownMemberId`, `FencedInstanceId`.
    pub fn leave(&self, group: &str, member_id: &str, instance_id: Option<&str>) -> KResult<()> {
        let now_ms = self.now_ms();
        let outcome = self.live.lock().with(group, now_ms, |g| g.leave(member_id, instance_id, now_ms));
        outcome.unwrap_or(Err(Code::UnknownMemberId))
    }

    /// Ends what is overdue and forgets groups without members.
    pub fn tick(&self) {
        let now_ms = self.now_ms();
        let mut live = self.live.lock();
        let mut effects = Vec::new();
        for group in live.groups.values_mut() {
            group.tick(now_ms);
            effects.append(&mut group.take_effects());
        }
        live.groups.retain(|_, g| !g.is_idle());
        live.perform(effects);
        live.due_ms = live.groups.values().filter_map(|group| group.due_ms(now_ms)).min();
    }

    /// Waits until the next [`Self::tick`] may have something to do.
    pub async fn until_due(&self) {
        let (due_ms, sooner) = {
            let live = self.live.lock();
            (live.due_ms, live.sooner.clone())
        };
        match due_ms {
            Some(due_ms) => {
                let due = self.started + Duration::from_millis(due_ms);
                // Both outcomes lead to another tick.
                let _ = timeout_at(due.into(), sooner.notified()).await;
            }
            None => sooner.notified().await,
        }
    }

    /// One group; `None` when it has neither members nor offsets.
    pub fn view(&self, group: &str) -> Option<GroupView> {
        let live = self.live.lock();
        if let Some(state) = live.groups.get(group) {
            return Some(view_of(group, state));
        }
        drop(live);
        let meta = self.meta.lock();
        meta.state().groups.contains_key(group).then(|| GroupView {
            id: group.to_owned(),
            state: Phase::Empty.name(),
            protocol_type: DEFAULT_PROTOCOL_TYPE.to_owned(),
            protocol: String::new(),
            members: Vec::new(),
        })
    }

    /// All groups that have members or offsets.
    pub fn views(&self) -> Vec<GroupView> {
        let mut ids: BTreeSet<String> = self.live.lock().groups.keys().cloned().collect();
        ids.extend(self.meta.lock().state().groups.keys().cloned());
        ids.iter().filter_map(|id| self.view(id)).collect()
    }

    /// Removes a group without members, with its offsets.
    ///
    /// # Errors
    /// `NonEmptyGroup`, `GroupIdNotFound`, `KafkaStorageError`.
    pub fn delete(&self, group: &str) -> KResult<()> {
        let mut live = self.live.lock();
        let was_live = match live.groups.get(group) {
            Some(state) if !state.is_idle() => return Err(Code::NonEmptyGroup),
            found => found.is_some(),
        };
        live.groups.remove(group);
        let mut meta = self.meta.lock();
        if !meta.state().groups.contains_key(group) {
            return if was_live { Ok(()) } else { Err(Code::GroupIdNotFound) };
        }
        let change = Change::GroupDeleted { group: group.to_owned() };
        meta.commit(change, Durability::Cached).map_err(|_| Code::KafkaStorageError)
    }
}

fn view_of(id: &str, group: &Group) -> GroupView {
    let own = |(id, m): (&String, &Member)| (id.clone(), m.clone());
    GroupView {
        id: id.to_owned(),
        state: group.phase().name(),
        protocol_type: group.protocol_type().unwrap_or(DEFAULT_PROTOCOL_TYPE).to_owned(),
        protocol: group.protocol().unwrap_or_default().to_owned(),
        members: group.members().map(own).collect(),
    }
}
