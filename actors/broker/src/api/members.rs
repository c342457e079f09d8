//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup: the life of a group's member.

use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::Call;
use crate::error::{Code, KResult, code_of};
use crate::group::{Identity, JoinReply, JoinRequest, NewMember, SkipAssignment, SyncReply, SyncRequest};
use crate::wire::text;

/// First version in which a new member is sent away to come back with an id (KIP-394).
const FIRST_VERSION_WITH_RETURN: i16 = 4;
/// First version with `protocol_type` in the response, which older ones cannot leave out.
const FIRST_VERSION_WITH_TYPE: i16 = 7;
/// First version in which assignment can be skipped (KIP-814).
const FIRST_VERSION_WITH_SKIP: i16 = 9;
/// First version of LeaveGroup that names several members.
const FIRST_VERSION_WITH_MANY: i16 = 3;
/// Session time-outs that are accepted: up to 30 minutes.
const SESSION_TIMEOUT_RANGE_MS: std::ops::RangeInclusive<i32> = 1..=1_800_000;

fn own(value: Option<&StrBytes>) -> Option<String> {
    value.map(ToString::to_string)
}

/// Whether the client may be a member of a group.
fn may_join(call: &Call<'_>, group: &str) -> KResult<()> {
    let is_reserved = call.inner().config.own_groups.contains(group) && !call.client.is_own;
    if is_reserved { Err(Code::GroupAuthorizationFailed) } else { Ok(()) }
}

/// Waits for the group's next generation.
pub(super) async fn join(call: &Call<'_>, request: JoinGroupRequest) -> JoinGroupResponse {
    let refused = |code| JoinReply::refused(code, request.member_id.to_string());
    let reply = if request.group_id.is_empty() {
        refused(Code::InvalidGroupId)
    } else if !SESSION_TIMEOUT_RANGE_MS.contains(&request.session_timeout_ms) {
        refused(Code::InvalidSessionTimeout)
    } else if let Err(code) = may_join(call, &request.group_id) {
        refused(code)
    } else {
        let group = request.group_id.to_string();
        let join = join_request(call, request);
        let reply = call.inner().groups.join(&group, join).await;
        if reply.error.is_none() {
            call.client.memberships.note(&group, &reply.member_id);
        }
        reply
    };
    joined(call, reply)
}

fn join_request(call: &Call<'_>, request: JoinGroupRequest) -> JoinRequest {
    let session_timeout_ms = u64::try_from(request.session_timeout_ms).unwrap_or(0);
    let rebalance_timeout_ms = u64::try_from(request.rebalance_timeout_ms).ok();
    JoinRequest {
        member_id: request.member_id.to_string(),
        instance_id: own(request.group_instance_id.as_ref()),
        client_id: call.client_id.to_owned(),
        client_host: call.client.host.clone(),
        protocol_type: request.protocol_type.to_string(),
        protocols: request.protocols.into_iter().map(|p| (p.name.to_string(), p.metadata)).collect(),
        session_timeout_ms,
        rebalance_timeout_ms: rebalance_timeout_ms.filter(|ms| *ms > 0).unwrap_or(session_timeout_ms),
        new_member: if call.version >= FIRST_VERSION_WITH_RETURN {
            NewMember::MustReturnWithId
        } else {
            NewMember::JoinsAtOnce
        },
        skip_assignment: if call.version >= FIRST_VERSION_WITH_SKIP {
            SkipAssignment::Understood
        } else {
            SkipAssignment::Unknown
        },
    }
}

fn joined(call: &Call<'_>, reply: JoinReply) -> JoinGroupResponse {
    let protocol = match reply.protocol {
        None if call.version < FIRST_VERSION_WITH_TYPE => Some(text("")),
        other => other.map(text),
    };
    let members = reply.members.into_iter().map(|m| {
        JoinGroupResponseMember::default()
            .with_member_id(text(m.member_id))
            .with_group_instance_id(m.instance_id.map(text))
            .with_metadata(m.metadata)
    });
    JoinGroupResponse::default()
        .with_error_code(reply.error.map_or(0, |c| c.code()))
        .with_generation_id(reply.generation)
        .with_protocol_type(reply.protocol_type.map(text))
        .with_protocol_name(protocol)
        .with_leader(text(reply.leader))
        .with_skip_assignment(reply.skip_assignment)
        .with_member_id(text(reply.member_id))
        .with_members(members.collect())
}

/// Waits for the leader's assignment.
pub(super) async fn sync(call: &Call<'_>, request: SyncGroupRequest) -> SyncGroupResponse {
    let sync = SyncRequest {
        identity: Identity {
            member_id: request.member_id.to_string(),
            instance_id: own(request.group_instance_id.as_ref()),
            generation: request.generation_id,
        },
        protocol_type: own(request.protocol_type.as_ref()),
        protocol: own(request.protocol_name.as_ref()),
        assignments: request.assignments.into_iter().map(|a| (a.member_id.to_string(), a.assignment)).collect(),
    };
    let reply = match may_join(call, &request.group_id) {
        Ok(()) => call.inner().groups.sync(&request.group_id, sync).await,
        Err(code) => SyncReply::refused(code),
    };
    SyncGroupResponse::default()
        .with_error_code(reply.error.map_or(0, |c| c.code()))
        .with_protocol_type(reply.protocol_type.map(text))
        .with_protocol_name(reply.protocol.map(text))
        .with_assignment(reply.assignment)
}

/// Keeps a member's session.
pub(super) fn heartbeat(call: &Call<'_>, request: &HeartbeatRequest) -> HeartbeatResponse {
    let identity = Identity {
        member_id: request.member_id.to_string(),
        instance_id: own(request.group_instance_id.as_ref()),
        generation: request.generation_id,
    };
    let groups = &call.inner().groups;
    let outcome = may_join(call, &request.group_id).and_then(|()| groups.heartbeat(&request.group_id, &identity));
    HeartbeatResponse::default().with_error_code(code_of(&outcome))
}

/// Ends memberships.
pub(super) fn leave(call: &Call<'_>, request: &LeaveGroupRequest) -> LeaveGroupResponse {
    let leave = |member_id: &StrBytes, instance_id: Option<&StrBytes>| {
        let instance_id = instance_id.map(|i| &**i);
        let groups = &call.inner().groups;
        let left = may_join(call, &request.group_id);
        code_of(&left.and_then(|()| groups.leave(&request.group_id, member_id, instance_id)))
    };
    if call.version < FIRST_VERSION_WITH_MANY {
        return LeaveGroupResponse::default().with_error_code(leave(&request.member_id, None));
    }
    let one = |m: &MemberIdentity| {
        MemberResponse::default()
            .with_error_code(leave(&m.member_id, m.group_instance_id.as_ref()))
            .with_member_id(m.member_id.clone())
            .with_group_instance_id(m.group_instance_id.clone())
    };
    LeaveGroupResponse::default().with_members(request.members.iter().map(one).collect())
}
