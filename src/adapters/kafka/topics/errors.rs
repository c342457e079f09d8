//! From what the client library says to what the port says.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use streamward_core::ports::topics::TopicError;

/// For a call that names no topic of its own.
#[expect(clippy::needless_pass_by_value, reason = "what `map_err` takes")]
pub fn unavailable(error: KafkaError) -> TopicError {
    TopicError::Unavailable(error.to_string())
}

/// For a change that `what` describes, such as `create topic orders`.
pub fn of_code(code: Code, topic: &str, what: &str) -> TopicError {
    let refused = |reason: &str| TopicError::Refused(format!("the broker refuses to {what}: {reason}"));
    match code {
        Code::TopicAlreadyExists => TopicError::Exists(topic.to_owned()),
        Code::UnknownTopic | Code::UnknownTopicOrPartition => TopicError::UnknownTopic(topic.to_owned()),
        Code::InvalidTopic => {
            TopicError::Invalid { field: "name", reason: format!("'{topic}' is no name for a topic") }
        }
        Code::InvalidPartitions => TopicError::Invalid {
            field: "partitions",
            reason: "the broker refuses this number of partitions".to_owned(),
        },
        Code::InvalidConfig => TopicError::Invalid {
            field: "configs",
            reason: "the broker refuses a name or a value among them".to_owned(),
        },
        Code::InvalidRequest | Code::InvalidReplicationFactor | Code::PolicyViolation | Code::TopicDeletionDisabled => {
            refused(&code.to_string())
        }
        Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            refused("Streamward's user may not")
        }
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => refused("the record is too large"),
        Code::InvalidMessage | Code::InvalidRecord => refused("the topic does not take such a record"),
        Code::UnknownMemberId | Code::IllegalGeneration | Code::RebalanceInProgress | Code::NonEmptyGroup => {
            refused("the group has members: stop them first")
        }
        other => TopicError::Unavailable(format!("{what}: {other}")),
    }
}

/// As [`of_code`], for an error of a call about a topic that has been looked up.
pub fn of_error(error: KafkaError, topic: &str, what: &str) -> TopicError {
    match (error.rdkafka_error_code(), &error) {
        (Some(code), _) => of_code(code, topic, what),
        (None, KafkaError::Nul(_)) => TopicError::Invalid {
            field: "configs",
            reason: "a name or a value among them has a NUL character, which no setting has".to_owned(),
        },
        (None, _) => unavailable(error),
    }
}
