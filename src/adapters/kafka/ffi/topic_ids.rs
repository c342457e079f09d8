//! The ids of topics (KIP-516), by librdkafka's `DescribeTopics`.

use std::{
    ffi::{CStr, CString},
    time::Duration,
};

use rdkafka::{
    bindings::{
        rd_kafka_AdminOptions_destroy, rd_kafka_AdminOptions_new, rd_kafka_AdminOptions_set_request_timeout,
        rd_kafka_AdminOptions_t, rd_kafka_DescribeTopics, rd_kafka_DescribeTopics_result_topics,
        rd_kafka_TopicCollection_destroy, rd_kafka_TopicCollection_of_topic_names, rd_kafka_TopicCollection_t,
        rd_kafka_TopicDescription_error, rd_kafka_TopicDescription_t, rd_kafka_TopicDescription_topic_id,
        rd_kafka_Uuid_least_significant_bits, rd_kafka_Uuid_most_significant_bits, rd_kafka_admin_op_t,
        rd_kafka_error_code, rd_kafka_event_DescribeTopics_result, rd_kafka_event_destroy, rd_kafka_event_error,
        rd_kafka_event_t, rd_kafka_queue_destroy, rd_kafka_queue_new, rd_kafka_queue_poll, rd_kafka_queue_t,
    },
    client::{Client, ClientContext},
    error::{IsError, KafkaError, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};
use uuid::Uuid;

/// Room for the reason of a refused option.
const REASON_BYTES: usize = 256;

/// Frees what librdkafka made when it goes out of scope.
struct Owned<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from the constructor that belongs to this destructor, is not null ([`Owned::new`]),
        // and nobody else frees it.
        unsafe { (self.1)(self.0) }
    }
}

impl<T> Owned<T> {
    fn new(made: *mut T, free: unsafe extern "C" fn(*mut T)) -> Result<Self, KafkaError> {
        if made.is_null() { Err(failed(RDKafkaErrorCode::Fail)) } else { Ok(Self(made, free)) }
    }
}

fn failed(code: RDKafkaErrorCode) -> KafkaError {
    KafkaError::AdminOp(code)
}

/// The id of each of `topics`, in their order: `None` where there is no such topic, [`Uuid::nil`] where the cluster does
/// not tell ids. Waits at most `timeout`.
///
/// # Errors
/// If the cluster does not answer, or refuses.
pub fn topic_ids<C: ClientContext>(
    client: &Client<C>,
    topics: &[&str],
    timeout: Duration,
) -> Result<Vec<Option<Uuid>>, KafkaError> {
    if topics.is_empty() {
        return Ok(Vec::new());
    }
    let event = describe(client, topics, timeout)?;
    // SAFETY: the event lives until the end of this function, and all that is read below belongs to it.
    let described = unsafe {
        let error = rd_kafka_event_error(event.0);
        if error.is_error() {
            return Err(failed(error.into()));
        }
        let result = rd_kafka_event_DescribeTopics_result(event.0);
        if result.is_null() {
            return Err(failed(RDKafkaErrorCode::BadMessage));
        }
        let mut count = 0;
        let first = rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if first.is_null() || count != topics.len() {
            return Err(failed(RDKafkaErrorCode::BadMessage));
        }
        std::slice::from_raw_parts(first, count)
    };
    // librdkafka answers in the order of the names that it was given.
    described.iter().map(|topic| id_of(*topic)).collect()
}

fn describe<C: ClientContext>(
    client: &Client<C>,
    topics: &[&str],
    timeout: Duration,
) -> Result<Owned<rd_kafka_event_t>, KafkaError> {
    let names: Vec<CString> =
        topics.iter().map(|name| CString::new(*name)).collect::<Result<_, _>>().map_err(KafkaError::Nul)?;
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let rk = client.native_ptr();
    // SAFETY: `rk` is valid as long as `client` is borrowed; the names outlive the call, which copies them; each object
    // that is made is freed by its `Owned`; the reason buffer is as long as is told.
    unsafe {
        let collection: Owned<rd_kafka_TopicCollection_t> = Owned::new(
            rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()),
            rd_kafka_TopicCollection_destroy,
        )?;
        let options: Owned<rd_kafka_AdminOptions_t> = Owned::new(
            rd_kafka_AdminOptions_new(rk, rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS),
            rd_kafka_AdminOptions_destroy,
        )?;
        let mut reason = [0; REASON_BYTES];
        let refused =
            rd_kafka_AdminOptions_set_request_timeout(options.0, timeout_ms, reason.as_mut_ptr(), reason.len());
        if refused.is_error() {
            let reason = CStr::from_ptr(reason.as_ptr()).to_string_lossy().into_owned();
            return Err(KafkaError::AdminOpCreation(reason));
        }
        let queue: Owned<rd_kafka_queue_t> = Owned::new(rd_kafka_queue_new(rk), rd_kafka_queue_destroy)?;
        rd_kafka_DescribeTopics(rk, collection.0, options.0, queue.0);
        let event = rd_kafka_queue_poll(queue.0, timeout_ms);
        if event.is_null() {
            return Err(failed(RDKafkaErrorCode::OperationTimedOut));
        }
        Owned::new(event, rd_kafka_event_destroy)
    }
}

fn id_of(topic: *const rd_kafka_TopicDescription_t) -> Result<Option<Uuid>, KafkaError> {
    // SAFETY: `topic` is one of the descriptions of an event that the caller keeps; error and id belong to it.
    unsafe {
        let error = rd_kafka_TopicDescription_error(topic);
        let code =
            if error.is_null() { RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR } else { rd_kafka_error_code(error) };
        match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {}
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
            | RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID => return Ok(None),
            other => return Err(failed(other.into())),
        }
        let id = rd_kafka_TopicDescription_topic_id(topic);
        if id.is_null() {
            return Ok(Some(Uuid::nil()));
        }
        let high = rd_kafka_Uuid_most_significant_bits(id);
        let low = rd_kafka_Uuid_least_significant_bits(id);
        Ok(Some(Uuid::from_u64_pair(high.cast_unsigned(), low.cast_unsigned())))
    }
}
