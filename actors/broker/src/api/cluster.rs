//! DescribeCluster, FindCoordinator and ListPartitionReassignments: there is one node, it coordinates
//! everything, and no partition ever moves.

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{
    DescribeClusterRequest, DescribeClusterResponse, FindCoordinatorRequest, FindCoordinatorResponse,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Call, NODE, OPERATIONS_NOT_TOLD, distinct};
use crate::wire::text;

/// First version that asks for several coordinators.
const FIRST_VERSION_WITH_MANY: i16 = 4;

/// Tells who coordinates groups or transactions.
pub(super) fn find_coordinator(call: &Call<'_>, request: &FindCoordinatorRequest) -> FindCoordinatorResponse {
    let host = text(call.client.broker_host.as_str());
    let port = call.client.broker_port;
    if call.version < FIRST_VERSION_WITH_MANY {
        return FindCoordinatorResponse::default().with_node_id(NODE).with_host(host).with_port(port);
    }
    let one = |key: &StrBytes| {
        Coordinator::default().with_key(key.clone()).with_node_id(NODE).with_host(host.clone()).with_port(port)
    };
    let coordinators = distinct(&request.coordinator_keys, |key| key).map(one).collect();
    FindCoordinatorResponse::default().with_coordinators(coordinators)
}

/// Describes the only node.
pub(super) fn describe(call: &Call<'_>, _request: &DescribeClusterRequest) -> DescribeClusterResponse {
    let node = DescribeClusterBroker::default()
        .with_broker_id(NODE)
        .with_host(text(call.client.broker_host.as_str()))
        .with_port(call.client.broker_port);
    DescribeClusterResponse::default()
        .with_cluster_id(text(call.broker.cluster_id()))
        .with_controller_id(NODE)
        .with_brokers(vec![node])
        .with_cluster_authorized_operations(OPERATIONS_NOT_TOLD)
}

/// Partitions that move between nodes.
pub(super) fn list_reassignments(
    _call: &Call<'_>,
    _request: &ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default()
}
