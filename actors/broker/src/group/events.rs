//! The requests that a group's state machine takes: join, sync, heartbeat, leave, commit.

use super::member::{Effect, Identity, JoinReply, JoinRequest, Member, NewMember, SyncReply, SyncRequest, Token};
use super::state::{Group, MAX_MEMBERS, Pending, Phase, RETURN_GRACE_MS};
use crate::error::{Code, KResult};

/// A refused join, and the id that the client shall know.
type Refused = (Code, String);

impl Group {
    /// A client wants to be in the next generation. `fresh_id` is its id should it need one.
    pub fn join(&mut self, request: JoinRequest, fresh_id: String, token: Token, now_ms: u64) {
        if let Err((code, id)) = self.try_join(request, fresh_id, token, now_ms) {
            let reply = JoinReply::refused(code, id);
            self.effects.push(Effect::AnswerJoin(token, reply));
        }
    }

    fn try_join(&mut self, request: JoinRequest, fresh_id: String, token: Token, now_ms: u64) -> Result<(), Refused> {
        let id = request.member_id.clone();
        if !self.accepts(&request) {
            return Err((Code::InconsistentGroupProtocol, id));
        }
        if !id.is_empty() && self.pending.remove(&id).is_none() {
            let instance_id = request.instance_id.as_deref();
            return match self.identify(&id, instance_id) {
                Ok(()) => self.rejoin(&id, request, token, now_ms),
                Err(code) => Err((code, id)),
            };
        }
        let known = request.instance_id.as_ref();
        if let Some(old_id) = known.and_then(|i| self.instances.get(i)).cloned()
            && let Some(old) = self.members.remove(&old_id)
        {
            self.refuse(&old, &old_id, Code::FencedInstanceId);
            let member = old.renewed(request, now_ms);
            self.replace(&old_id, &fresh_id, member, (token, now_ms));
            return Ok(());
        }
        if self.members.len() >= MAX_MEMBERS || self.pending.len() >= MAX_MEMBERS {
            return Err((Code::GroupMaxSizeReached, id));
        }
        let must_return =
            id.is_empty() && request.instance_id.is_none() && request.new_member == NewMember::MustReturnWithId;
        if must_return {
            let pending =
                Pending { awaited_until_ms: now_ms + RETURN_GRACE_MS, expires_ms: now_ms + request.session_timeout_ms };
            self.pending.insert(fresh_id.clone(), pending);
            return Err((Code::MemberIdRequired, fresh_id));
        }
        let id = if id.is_empty() { fresh_id } else { id };
        self.add(id, request, token, now_ms);
        Ok(())
    }

    /// Whether the others could go on with what the request supports.
    fn accepts(&self, request: &JoinRequest) -> bool {
        if request.protocol_type.is_empty() || request.protocols.is_empty() {
            return false;
        }
        let others: Vec<&Member> = self
            .members
            .iter()
            .filter(|(id, m)| {
                let same_instance = m.instance_id.is_some() && m.instance_id == request.instance_id;
                **id != request.member_id && !same_instance
            })
            .map(|(_, m)| m)
            .collect();
        let same_type = self.protocol_type.as_ref() == Some(&request.protocol_type);
        let common = |name: &String| others.iter().all(|m| m.supports(name));
        others.is_empty() || (same_type && request.protocols.iter().any(|(name, _)| common(name)))
    }

    fn add(&mut self, id: String, request: JoinRequest, token: Token, now_ms: u64) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        if let Some(instance_id) = &request.instance_id {
            self.instances.insert(instance_id.clone(), id.clone());
        }
        let mut member = Member::new(request, now_ms);
        member.joining = Some(token);
        self.members.insert(id, member);
        self.prepare(now_ms);
    }

    fn rejoin(&mut self, id: &str, request: JoinRequest, token: Token, now_ms: u64) -> Result<(), Refused> {
        let is_leader = self.leader.as_deref() == Some(id);
        let member = self.members.get_mut(id).expect("identified by the caller");
        let is_unchanged = member.protocols == request.protocols;
        let is_answered = match self.phase {
            Phase::Empty => return Err((Code::UnknownMemberId, id.to_owned())),
            Phase::Preparing { .. } => false,
            Phase::Completing { .. } => is_unchanged,
            Phase::Stable => is_unchanged && !is_leader,
        };
        let (repeated, syncing) = (member.joining, member.syncing);
        *member = member.renewed(request, now_ms);
        member.syncing = syncing;
        if !is_answered {
            member.joining = Some(token);
        }
        if let Some(earlier) = repeated {
            let reply = JoinReply::refused(Code::RebalanceInProgress, id);
            self.effects.push(Effect::AnswerJoin(earlier, reply));
        }
        if is_answered {
            let reply = self.joined(id);
            self.effects.push(Effect::AnswerJoin(token, reply));
        } else {
            self.prepare(now_ms);
        }
        Ok(())
    }

    /// A static member came back under a new id; the old one is fenced (KIP-345).
    fn replace(&mut self, old_id: &str, id: &str, member: Member, at: (Token, u64)) {
        let (token, now_ms) = at;
        if let Some(instance_id) = &member.instance_id {
            self.instances.insert(instance_id.clone(), id.to_owned());
        }
        self.members.insert(id.to_owned(), member);
        let former_leader = self.leader.clone();
        if former_leader.as_deref() == Some(old_id) {
            self.leader = Some(id.to_owned());
        }
        if self.phase == Phase::Stable && self.select_protocol() == self.protocol {
            let reply = self.returned(id, former_leader);
            self.effects.push(Effect::AnswerJoin(token, reply));
            return;
        }
        if let Some(member) = self.members.get_mut(id) {
            member.joining = Some(token);
        }
        self.prepare(now_ms);
    }

    /// A member asks for its assignment, or the leader brings all of them.
    pub fn sync(&mut self, request: SyncRequest, token: Token, now_ms: u64) {
        if let Err(code) = self.try_sync(request, token, now_ms) {
            let reply = SyncReply::refused(code);
            self.effects.push(Effect::AnswerSync(token, reply));
        }
    }

    fn try_sync(&mut self, request: SyncRequest, token: Token, now_ms: u64) -> KResult<()> {
        let differs = |said: &Option<String>, is: &Option<String>| said.is_some() && said != is;
        let id = self.current_member(&request.identity)?;
        if differs(&request.protocol_type, &self.protocol_type) || differs(&request.protocol, &self.protocol) {
            return Err(Code::InconsistentGroupProtocol);
        }
        let member = self.members.get_mut(&id).ok_or(Code::UnknownMemberId)?;
        member.heard(now_ms);
        match self.phase {
            Phase::Empty => Err(Code::UnknownMemberId),
            Phase::Preparing { .. } => Err(Code::RebalanceInProgress),
            Phase::Stable => {
                let assignment = member.assignment.clone();
                let reply = self.synced(assignment);
                self.effects.push(Effect::AnswerSync(token, reply));
                Ok(())
            }
            Phase::Completing { .. } => {
                member.has_synced = true;
                if let Some(earlier) = member.syncing.replace(token) {
                    let reply = SyncReply::refused(Code::RebalanceInProgress);
                    self.effects.push(Effect::AnswerSync(earlier, reply));
                }
                if self.leader.as_ref() == Some(&id) {
                    self.assign(request.assignments, now_ms);
                }
                Ok(())
            }
        }
    }

    fn assign(&mut self, assignments: Vec<(String, bytes::Bytes)>, now_ms: u64) {
        for member in self.members.values_mut() {
            member.assignment = bytes::Bytes::new();
        }
        for (id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = assignment;
            }
        }
        self.phase = Phase::Stable;
        let mut waiting = Vec::new();
        for member in self.members.values_mut() {
            if let Some(token) = member.syncing.take() {
                member.heard(now_ms);
                waiting.push((token, member.assignment.clone()));
            }
        }
        for (token, assignment) in waiting {
            let reply = self.synced(assignment);
            self.effects.push(Effect::AnswerSync(token, reply));
        }
    }

    /// The id of a member of this generation.
    fn current_member(&self, identity: &Identity) -> KResult<String> {
        self.identify(&identity.member_id, identity.instance_id.as_deref())?;
        if identity.generation == self.generation {
            Ok(identity.member_id.clone())
        } else {
            Err(Code::IllegalGeneration)
        }
    }

    /// A member is alive.
    ///
    /// # Errors
    /// `RebalanceInProgress` asks it to join again; unknown, fenced and outdated members are told.
    pub fn heartbeat(&mut self, identity: &Identity, now_ms: u64) -> KResult<()> {
        let id = self.current_member(identity)?;
        let member = self.members.get_mut(&id).ok_or(Code::UnknownMemberId)?;
        member.heard(now_ms);
        match self.phase {
            Phase::Empty => Err(Code::UnknownMemberId),
            Phase::Preparing { .. } => Err(Code::RebalanceInProgress),
            Phase::Completing { .. } | Phase::Stable => Ok(()),
        }
    }

    /// A member leaves, or an administrator removes a static one by its instance alone.
    ///
    /// # Errors
    /// `UnknownMemberId`, `FencedInstanceId`.
    pub fn leave(&mut self, member_id: &str, instance_id: Option<&str>, now_ms: u64) -> KResult<()> {
        if self.pending.remove(member_id).is_some() {
            self.complete_if_ready(now_ms);
            return Ok(());
        }
        let by_instance = instance_id.and_then(|i| self.instances.get(i)).cloned();
        let id = match (member_id.is_empty(), by_instance) {
            (true, Some(id)) => id,
            (true, None) => return Err(Code::UnknownMemberId),
            (false, _) => member_id.to_owned(),
        };
        self.identify(&id, instance_id)?;
        self.remove(&id, now_ms);
        Ok(())
    }

    /// Whether a client may commit offsets; a member that may is alive.
    ///
    /// # Errors
    /// As [`Self::heartbeat`]; while the assignment is awaited nobody commits.
    pub fn may_commit(&mut self, identity: &Identity, now_ms: u64) -> KResult<()> {
        if identity.generation < 0 && self.phase == Phase::Empty {
            return Ok(());
        }
        let id = self.current_member(identity)?;
        let member = self.members.get_mut(&id).ok_or(Code::UnknownMemberId)?;
        member.heard(now_ms);
        match self.phase {
            Phase::Completing { .. } => Err(Code::RebalanceInProgress),
            Phase::Empty | Phase::Preparing { .. } | Phase::Stable => Ok(()),
        }
    }

    /// Whether a transaction may commit offsets for a client.
    ///
    /// # Errors
    /// As [`Self::may_commit`]; clients that name no member are let through (KIP-447).
    pub fn may_commit_in_txn(&mut self, identity: &Identity, now_ms: u64) -> KResult<()> {
        let names_member = !identity.member_id.is_empty() || identity.instance_id.is_some();
        if identity.generation < 0 && !names_member {
            return Ok(());
        }
        self.may_commit(identity, now_ms)
    }
}
