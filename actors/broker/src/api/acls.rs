//! DescribeAcls, CreateAcls and DeleteAcls: there are no access lists, and tools are told so as a
//! Kafka broker without an authorizer tells them.

use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::delete_acls_response::DeleteAclsFilterResult;
use kafka_protocol::messages::{
    CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse, DescribeAclsRequest,
    DescribeAclsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::Call;
use crate::error::Code;

const REASON: StrBytes =
    StrBytes::from_static_str("this broker has no access lists: whoever is served may do everything");

/// Refuses to list.
pub(super) fn describe(_call: &Call<'_>, _request: &DescribeAclsRequest) -> DescribeAclsResponse {
    DescribeAclsResponse::default().with_error_code(Code::SecurityDisabled.code()).with_error_message(Some(REASON))
}

/// Refuses each creation.
pub(super) fn create(_call: &Call<'_>, request: &CreateAclsRequest) -> CreateAclsResponse {
    let refused =
        AclCreationResult::default().with_error_code(Code::SecurityDisabled.code()).with_error_message(Some(REASON));
    CreateAclsResponse::default().with_results(vec![refused; request.creations.len()])
}

/// Refuses each deletion.
pub(super) fn delete(_call: &Call<'_>, request: &DeleteAclsRequest) -> DeleteAclsResponse {
    let refused = DeleteAclsFilterResult::default()
        .with_error_code(Code::SecurityDisabled.code())
        .with_error_message(Some(REASON));
    DeleteAclsResponse::default().with_filter_results(vec![refused; request.filters.len()])
}
