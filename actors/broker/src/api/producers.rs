//! InitProducerId: identities of idempotent and transactional producers.

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::Call;
use crate::broker::Inner;
use crate::error::{Code, KResult};

/// Gives a producer its id and epoch.
pub(super) async fn init(call: &Call<'_>, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let work = move |broker: &Inner| identity(broker, &request);
    let outcome = call.blocking(work).await.and_then(|outcome| outcome);
    let response = InitProducerIdResponse::default();
    match outcome {
        Ok((id, epoch)) => response.with_producer_id(ProducerId(id)).with_producer_epoch(epoch),
        Err(code) => response.with_error_code(code.code()).with_producer_id(ProducerId(-1)).with_producer_epoch(-1),
    }
}

fn identity(broker: &Inner, request: &InitProducerIdRequest) -> KResult<(i64, i16)> {
    let Some(id) = &request.transactional_id else {
        return Ok((broker.new_producer_id()?, 0));
    };
    if id.is_empty() {
        return Err(Code::InvalidRequest);
    }
    let claimed = (request.producer_id.0, request.producer_epoch);
    broker.init_txn_producer(id, request.transaction_timeout_ms, claimed)
}
