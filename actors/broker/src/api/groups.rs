//! ListGroups, DescribeGroups and DeleteGroups.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    ListGroupsRequest, ListGroupsResponse,
};

use super::{Call, OPERATIONS_NOT_TOLD, distinct};
use crate::error::{Code, code_of};
use crate::group::{GroupView, Member};
use crate::wire::text;

/// First version in which a group that does not exist is an error (KIP-1043).
const FIRST_VERSION_WITH_NOT_FOUND: i16 = 6;
/// State of a group that does not exist.
const DEAD: &str = "Dead";
/// Protocol of all groups (KIP-848 calls it so).
const TYPE: &str = "classic";

/// All groups, or those in some states.
pub(super) fn list(call: &Call<'_>, request: &ListGroupsRequest) -> ListGroupsResponse {
    let (states, types) = (&request.states_filter, &request.types_filter);
    let has_type = types.is_empty() || types.iter().any(|t| t.eq_ignore_ascii_case(TYPE));
    let has_state = |g: &GroupView| states.is_empty() || states.iter().any(|s| s.eq_ignore_ascii_case(g.state));
    let is_wanted = |g: &GroupView| has_type && has_state(g);
    let listed = |g: GroupView| {
        ListedGroup::default()
            .with_group_id(GroupId(text(g.id)))
            .with_protocol_type(text(g.protocol_type))
            .with_group_state(text(g.state))
            .with_group_type(text(TYPE))
    };
    let groups = call.inner().groups.views();
    let groups = groups.into_iter().filter(is_wanted).map(listed).collect();
    ListGroupsResponse::default().with_groups(groups)
}

/// Groups with their members.
pub(super) fn describe(call: &Call<'_>, request: &DescribeGroupsRequest) -> DescribeGroupsResponse {
    let one = |id: &GroupId| match call.inner().groups.view(id) {
        Some(group) => described(id.clone(), group),
        None => unknown(id, call.version),
    };
    DescribeGroupsResponse::default().with_groups(distinct(&request.groups, |id| id).map(one).collect())
}

fn unknown(id: &GroupId, version: i16) -> DescribedGroup {
    let group = DescribedGroup::default()
        .with_group_id(id.clone())
        .with_group_state(text(DEAD))
        .with_authorized_operations(OPERATIONS_NOT_TOLD);
    if version < FIRST_VERSION_WITH_NOT_FOUND {
        return group;
    }
    let words = format!("Group {} not found.", **id);
    group.with_error_code(Code::GroupIdNotFound.code()).with_error_message(Some(text(words)))
}

fn described(id: GroupId, group: GroupView) -> DescribedGroup {
    let protocol = group.protocol;
    let member = |(member_id, m): (String, Member)| {
        DescribedGroupMember::default()
            .with_member_id(text(member_id))
            .with_member_metadata(m.metadata(&protocol))
            .with_member_assignment(m.assignment)
            .with_group_instance_id(m.instance_id.map(text))
            .with_client_id(text(m.client_id))
            .with_client_host(text(format!("/{}", m.client_host)))
    };
    let members = group.members.into_iter().map(member).collect();
    DescribedGroup::default()
        .with_group_id(id)
        .with_group_state(text(group.state))
        .with_protocol_type(text(group.protocol_type))
        .with_protocol_data(text(protocol))
        .with_authorized_operations(OPERATIONS_NOT_TOLD)
        .with_members(members)
}

/// Removes groups without members.
pub(super) fn delete(call: &Call<'_>, request: &DeleteGroupsRequest) -> DeleteGroupsResponse {
    let one = |id: &GroupId| {
        let outcome = call.inner().groups.delete(id);
        DeletableGroupResult::default().with_group_id(id.clone()).with_error_code(code_of(&outcome))
    };
    let results = request.groups_names.iter().map(one).collect();
    DeleteGroupsResponse::default().with_results(results)
}
