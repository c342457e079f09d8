//! A consumer group as a state machine: `(now, event)` in, [`Effect`]s out; no clock, no sockets.
//!
//! ```text
//! Empty ── join ──> Preparing ── all joined or time up ──> Completing ── leader syncs ──> Stable
//!   ^                  ^  ^                                    │                           │
//!   └── last leaves ───┘  └──────── join, leave, time out ─────┴───────────────────────────┘
//! ```
//! The rules are those of Kafka's classic protocol, with two differences: a new group waits
//! [`GATHER_MS`] for further members instead of 3 s, and a member whose connection ends while it
//! waits, or has not asked for its assignment yet, is removed at once.
//!
//! Invariants: a waiting request is answered exactly once; generations grow; `protocol` and `leader`
//! are set in Completing and Stable.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::member::{Effect, JoinReply, Member, SkipAssignment, Subscription, SyncReply, Token};
use crate::error::{Code, KResult};

/// How long a new group waits for more members after each one.
pub(super) const GATHER_MS: u64 = 100;
/// How long a new group waits for more members at most.
pub(super) const GATHER_LIMIT_MS: u64 = 400;
/// How long others wait for a member that was sent away to come back with its id.
pub(super) const RETURN_GRACE_MS: u64 = 300;
/// Members that a group may have.
pub(super) const MAX_MEMBERS: usize = 1_000;

/// Where a group stands between two generations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Empty,
    /// Members are collected.
    Preparing {
        ends_ms: u64,
        /// Of a new group: it waits for further members until this time at most.
        gather_until_ms: Option<u64>,
    },
    /// The leader's assignment is awaited.
    Completing {
        ends_ms: u64,
    },
    Stable,
}

impl Phase {
    /// The name that administrators see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Preparing { .. } => "PreparingRebalance",
            Self::Completing { .. } => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// An id that was given to a client that has not joined with it yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    pub awaited_until_ms: u64,
    pub expires_ms: u64,
}

/// A group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(super) phase: Phase,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<String>,
    pub(super) members: BTreeMap<String, Member>,
    /// Member id by instance id.
    pub(super) instances: HashMap<String, String>,
    pub(super) pending: HashMap<String, Pending>,
    pub(super) effects: Vec<Effect>,
}

impl Group {
    pub fn new() -> Self {
        Self {
            phase: Phase::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: HashMap::new(),
            pending: HashMap::new(),
            effects: Vec::new(),
        }
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    pub fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    pub fn members(&self) -> impl Iterator<Item = (&String, &Member)> {
        self.members.iter()
    }

    /// Whether nobody is in it or about to be.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Empty && self.pending.is_empty()
    }

    /// What the last events ask for.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Checks who a client says it is.
    ///
    /// # Errors
    /// `UnknownMemberId`, `FencedInstanceId` when another member took its instance over.
    pub(super) fn identify(&self, member_id: &str, instance_id: Option<&str>) -> KResult<()> {
        if let Some(instance_id) = instance_id {
            match self.instances.get(instance_id) {
                None => return Err(Code::UnknownMemberId),
                Some(current) if current != member_id => return Err(Code::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(Code::UnknownMemberId) }
    }

    /// Collects members for a new generation.
    pub(super) fn prepare(&mut self, now_ms: u64) {
        match self.phase {
            Phase::Empty => {
                self.phase =
                    Phase::Preparing { ends_ms: now_ms + GATHER_MS, gather_until_ms: Some(now_ms + GATHER_LIMIT_MS) };
            }
            Phase::Preparing { gather_until_ms: Some(limit), .. } => {
                self.phase = Phase::Preparing { ends_ms: limit.min(now_ms + GATHER_MS), gather_until_ms: Some(limit) };
            }
            Phase::Preparing { .. } => {}
            Phase::Completing { .. } | Phase::Stable => {
                self.refuse_syncs(Code::RebalanceInProgress, now_ms);
                self.phase = Phase::Preparing { ends_ms: now_ms + self.rebalance_timeout_ms(), gather_until_ms: None };
            }
        }
        self.complete_if_ready(now_ms);
    }

    fn rebalance_timeout_ms(&self) -> u64 {
        let longest = self.members.values().map(|m| m.rebalance_timeout_ms).max();
        longest.unwrap_or(0)
    }

    fn refuse_syncs(&mut self, code: Code, now_ms: u64) {
        for member in self.members.values_mut() {
            if let Some(token) = member.syncing.take() {
                member.heard(now_ms);
                let reply = SyncReply::refused(code);
                self.effects.push(Effect::AnswerSync(token, reply));
            }
        }
    }

    /// Begins the generation once everyone that is expected has joined.
    pub(super) fn complete_if_ready(&mut self, now_ms: u64) {
        let Phase::Preparing { ends_ms, gather_until_ms } = self.phase else {
            return;
        };
        let is_late = now_ms >= ends_ms;
        let all_joined = self.members.values().all(|m| m.joining.is_some());
        let is_returning = self.pending.values().any(|p| now_ms < p.awaited_until_ms);
        let is_ready = match gather_until_ms {
            Some(limit) => (is_late && !is_returning) || now_ms >= limit,
            None => (all_joined && !is_returning) || is_late,
        };
        if is_ready {
            self.begin_generation(now_ms);
        }
    }

    fn begin_generation(&mut self, now_ms: u64) {
        let missing: Vec<String> = self
            .members
            .iter()
            .filter(|(_, m)| m.joining.is_none() && m.instance_id.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for id in missing {
            self.forget(&id);
        }
        if self.members.is_empty() {
            self.become_empty();
            return;
        }
        let Some(leader) = self.choose_leader() else {
            // Only static members are left and none has joined yet: their sessions decide.
            self.phase = Phase::Preparing { ends_ms: now_ms + self.rebalance_timeout_ms(), gather_until_ms: None };
            return;
        };
        self.generation += 1;
        self.leader = Some(leader);
        self.protocol = self.select_protocol();
        self.phase = Phase::Completing { ends_ms: now_ms + self.rebalance_timeout_ms() };
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let reply = self.joined(&id);
            let member = self.members.get_mut(&id).expect("listed above");
            member.has_synced = false;
            member.heard(now_ms);
            if let Some(token) = member.joining.take() {
                self.effects.push(Effect::AnswerJoin(token, reply));
            }
        }
    }

    /// The present leader if it joined, else the first that did.
    fn choose_leader(&self) -> Option<String> {
        let joined = |id: &&String| self.members.get(*id).is_some_and(|m| m.joining.is_some());
        self.leader.as_ref().filter(joined).or_else(|| self.members.keys().find(joined)).cloned()
    }

    /// The protocol that most members prefer of those that all support.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        let common = |name: &&str| self.members.values().all(|m| m.supports(name));
        for member in self.members.values() {
            let mut names = member.protocols.iter().map(|(name, _)| name.as_str());
            if let Some(name) = names.find(common) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let winner = votes.into_iter().max_by_key(|(_, count)| *count)?.0;
        Some(winner.to_owned())
    }

    /// The answer to a member of the present generation.
    pub(super) fn joined(&self, member_id: &str) -> JoinReply {
        let leader = self.leader.clone().unwrap_or_default();
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let subscription = |(id, m): (&String, &Member)| Subscription {
            member_id: id.clone(),
            instance_id: m.instance_id.clone(),
            metadata: m.metadata(protocol),
        };
        let members = if leader == member_id { self.members.iter().map(subscription).collect() } else { Vec::new() };
        JoinReply {
            error: None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader,
            member_id: member_id.to_owned(),
            skip_assignment: false,
            members,
        }
    }

    /// The answer to a static member that came back to an unchanged group.
    pub(super) fn returned(&self, member_id: &str, former_leader: Option<String>) -> JoinReply {
        let reply = self.joined(member_id);
        let understands = self.members.get(member_id).is_some_and(|m| m.skip_assignment == SkipAssignment::Understood);
        if understands {
            return JoinReply { skip_assignment: reply.leader == member_id, ..reply };
        }
        // An older client must not take itself for the leader, or it would assign again.
        JoinReply { leader: former_leader.unwrap_or(reply.leader), members: Vec::new(), ..reply }
    }

    /// The answer to a member that has its assignment.
    pub(super) fn synced(&self, assignment: Bytes) -> SyncReply {
        SyncReply {
            error: None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment,
        }
    }

    /// Removes a member without starting anything; its waiting requests are refused.
    pub(super) fn forget(&mut self, member_id: &str) {
        let Some(member) = self.members.remove(member_id) else {
            return;
        };
        self.refuse(&member, member_id, Code::UnknownMemberId);
        if let Some(instance_id) = &member.instance_id {
            self.instances.remove(instance_id);
        }
        if self.leader.as_deref() == Some(member_id) {
            self.leader = None;
        }
    }

    /// Answers what a member waits for with an error.
    pub(super) fn refuse(&mut self, member: &Member, member_id: &str, code: Code) {
        if let Some(token) = member.joining {
            let reply = JoinReply::refused(code, member_id);
            self.effects.push(Effect::AnswerJoin(token, reply));
        }
        if let Some(token) = member.syncing {
            let reply = SyncReply::refused(code);
            self.effects.push(Effect::AnswerSync(token, reply));
        }
    }

    /// Removes a member and lets the others share its work.
    pub(super) fn remove(&mut self, member_id: &str, now_ms: u64) {
        self.forget(member_id);
        match self.phase {
            Phase::Empty => {}
            Phase::Preparing { .. } => {
                if self.members.is_empty() && self.pending.is_empty() {
                    self.become_empty();
                } else {
                    self.complete_if_ready(now_ms);
                }
            }
            Phase::Completing { .. } | Phase::Stable => {
                if self.members.is_empty() {
                    self.become_empty();
                } else {
                    self.prepare(now_ms);
                }
            }
        }
    }

    fn become_empty(&mut self) {
        self.phase = Phase::Empty;
        self.generation += 1;
        self.protocol = None;
        self.leader = None;
    }

    /// Lets time pass: sessions, collections and assignments that are overdue end.
    pub fn tick(&mut self, now_ms: u64) {
        self.pending.retain(|_, p| now_ms < p.expires_ms);
        let silent: Vec<String> = self
            .members
            .iter()
            .filter(|(_, m)| !m.is_waiting() && now_ms >= m.session_ends_ms)
            .map(|(id, _)| id.clone())
            .collect();
        for id in silent {
            self.remove(&id, now_ms);
        }
        match self.phase {
            Phase::Preparing { .. } => self.complete_if_ready(now_ms),
            Phase::Completing { ends_ms } if now_ms >= ends_ms => self.drop_unsynced(now_ms),
            Phase::Completing { .. } | Phase::Empty | Phase::Stable => {}
        }
    }

    /// When [`Self::tick`] may have something to do that it has not at `now_ms`, unless an event comes first.
    pub fn due_ms(&self, now_ms: u64) -> Option<u64> {
        if self.is_idle() {
            return Some(now_ms + 1);
        }
        let phase = match self.phase {
            Phase::Preparing { ends_ms, gather_until_ms } => [Some(ends_ms), gather_until_ms],
            Phase::Completing { ends_ms } => [Some(ends_ms), None],
            Phase::Empty | Phase::Stable => [None, None],
        };
        let pending = self.pending.values().flat_map(|p| [p.awaited_until_ms, p.expires_ms]);
        let sessions = self.members.values().filter(|m| !m.is_waiting()).map(|m| m.session_ends_ms);
        let all = phase.into_iter().flatten().chain(pending).chain(sessions);
        all.filter(|at| *at > now_ms).min()
    }

    fn drop_unsynced(&mut self, now_ms: u64) {
        let late: Vec<String> = self.members.iter().filter(|(_, m)| !m.has_synced).map(|(id, _)| id.clone()).collect();
        for id in late {
            self.forget(&id);
        }
        if self.members.is_empty() {
            self.become_empty();
        } else {
            self.prepare(now_ms);
        }
    }

    /// The connection that a member joined over has ended: one that has not asked for its assignment yet is waited for
    /// no longer.
    pub fn connection_lost(&mut self, member_id: &str, now_ms: u64) {
        let is_awaited = |m: &Member| !m.has_synced && m.joining.is_none() && m.instance_id.is_none();
        let is_completing = matches!(self.phase, Phase::Completing { .. });
        if is_completing && self.members.get(member_id).is_some_and(is_awaited) {
            self.remove(member_id, now_ms);
        }
    }

    /// The client of a waiting request went away.
    pub fn cancel(&mut self, token: Token, now_ms: u64) {
        let waits = |m: &Member| m.joining == Some(token) || m.syncing == Some(token);
        let found = self.members.iter_mut().find(|(_, m)| waits(m));
        let Some((id, member)) = found else {
            return;
        };
        let was_joining = member.joining.take().is_some();
        member.syncing = None;
        member.heard(now_ms);
        if was_joining && member.instance_id.is_none() {
            let id = id.clone();
            self.remove(&id, now_ms);
        }
    }
}
