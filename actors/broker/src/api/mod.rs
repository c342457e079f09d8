//! The requests of the Kafka protocol: which are supported, and one function for each.
//!
//! Functions take a decoded request and return the response; they hold no state of their own.
//! [`APIS`] is the list that clients are told; [`answer`] is the way in.

mod acls;
mod cluster;
mod configs;
mod fetch;
mod fetch_answer;
mod groups;
mod inspect;
mod list_offsets;
mod members;
mod metadata;
mod offsets;
mod produce;
mod producers;
mod quotas;
mod records;
mod sasl;
mod scram;
mod topics;
mod txns;

use std::collections::HashSet;
use std::hash::Hash;

use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, BrokerId, api_versions_response::ApiVersion,
};

use crate::broker::{Broker, Inner};
use crate::error::Code;
use crate::group::Memberships;
use crate::quota::{Direction, Metered, Sender, Throttle};
use crate::wire::{Answer, Frame, Malformed};
use fetch::Pace;
pub(crate) use sasl::prove;

/// The only node's id.
pub(crate) const NODE: BrokerId = BrokerId(1);
/// Set where authorised operations are not told (KIP-430).
const OPERATIONS_NOT_TOLD: i32 = i32::MIN;

/// An API and the versions of it that are served.
#[derive(Debug)]
pub(crate) struct Api {
    pub key: ApiKey,
    pub min: i16,
    pub max: i16,
}

const fn api(key: ApiKey, min: i16, max: i16) -> Api {
    Api { key, min, max }
}

/// Everything that is served.
pub(crate) const APIS: &[Api] = &[
    api(ApiKey::Produce, 3, 9),
    api(ApiKey::Fetch, 4, 12),
    api(ApiKey::ListOffsets, 1, 8),
    api(ApiKey::Metadata, 0, 12),
    api(ApiKey::OffsetCommit, 2, 8),
    api(ApiKey::OffsetFetch, 1, 8),
    api(ApiKey::FindCoordinator, 0, 4),
    api(ApiKey::JoinGroup, 0, 9),
    api(ApiKey::Heartbeat, 0, 4),
    api(ApiKey::LeaveGroup, 0, 5),
    api(ApiKey::SyncGroup, 0, 5),
    api(ApiKey::DescribeGroups, 0, 6),
    api(ApiKey::ListGroups, 0, 5),
    api(ApiKey::SaslHandshake, 0, 1),
    api(ApiKey::ApiVersions, 0, 3),
    api(ApiKey::CreateTopics, 2, 7),
    api(ApiKey::DeleteTopics, 1, 6),
    api(ApiKey::DeleteRecords, 0, 2),
    api(ApiKey::InitProducerId, 0, 4),
    api(ApiKey::OffsetForLeaderEpoch, 2, 4),
    api(ApiKey::AddPartitionsToTxn, 0, 3),
    api(ApiKey::AddOffsetsToTxn, 0, 3),
    api(ApiKey::EndTxn, 0, 3),
    api(ApiKey::WriteTxnMarkers, 1, 1),
    api(ApiKey::TxnOffsetCommit, 0, 3),
    api(ApiKey::DescribeAcls, 1, 3),
    api(ApiKey::CreateAcls, 1, 3),
    api(ApiKey::DeleteAcls, 1, 3),
    api(ApiKey::DescribeConfigs, 1, 4),
    api(ApiKey::AlterConfigs, 0, 2),
    api(ApiKey::DescribeLogDirs, 1, 4),
    api(ApiKey::SaslAuthenticate, 0, 2),
    api(ApiKey::CreatePartitions, 0, 3),
    api(ApiKey::DeleteGroups, 0, 2),
    api(ApiKey::IncrementalAlterConfigs, 0, 1),
    api(ApiKey::ListPartitionReassignments, 0, 0),
    api(ApiKey::OffsetDelete, 0, 0),
    api(ApiKey::DescribeClientQuotas, 0, 1),
    api(ApiKey::AlterClientQuotas, 0, 1),
    api(ApiKey::DescribeUserScramCredentials, 0, 0),
    api(ApiKey::AlterUserScramCredentials, 0, 0),
    api(ApiKey::DescribeCluster, 0, 1),
    api(ApiKey::DescribeProducers, 0, 0),
    api(ApiKey::DescribeTransactions, 0, 0),
    api(ApiKey::ListTransactions, 0, 1),
    api(ApiKey::ListConfigResources, 0, 1),
];

/// What a request names, each once: an answer is no larger than all that there is.
fn distinct<'a, T: 'a, K: Eq + Hash>(
    named: impl IntoIterator<Item = &'a T>,
    identity: impl Fn(&'a T) -> K,
) -> impl Iterator<Item = &'a T> {
    let mut seen = HashSet::new();
    named.into_iter().filter(move |one| seen.insert(identity(one)))
}

/// Whether a change is made or only checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Apply,
    Check,
}

impl Mode {
    /// By the `validate_only` field of a request.
    fn of(validate_only: bool) -> Self {
        if validate_only { Self::Check } else { Self::Apply }
    }
}

/// Who sends requests over a connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub host: String,
    /// Host and port that the client is told to reach the broker by.
    pub broker_host: String,
    pub broker_port: i32,
    /// None where clients do not authenticate.
    pub user: Option<String>,
    /// Whether it is the embedder.
    pub is_own: bool,
    pub throttle: Throttle,
    pub memberships: Memberships,
    pub pace: Pace,
}

impl Client {
    /// A client that has not said who it is; `broker` is the host and port that it is told.
    pub fn new(host: String, broker: (String, i32), metered: Metered) -> Self {
        Self {
            host,
            broker_host: broker.0,
            broker_port: broker.1,
            user: None,
            is_own: false,
            throttle: Throttle::new(metered),
            memberships: Memberships::default(),
            pace: Pace::default(),
        }
    }
}

/// One request in its surroundings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub broker: &'a Broker,
    pub client: &'a Client,
    pub client_id: &'a str,
    pub version: i16,
}

impl Call<'_> {
    pub fn inner(&self) -> &Inner {
        self.broker.inner()
    }

    /// Counts bytes against the client's quota; the pause in milliseconds that it is told.
    fn charge(&self, direction: Direction, bytes: usize) -> i32 {
        let sender = Sender { user: self.client.user.as_deref(), client_id: self.client_id };
        self.client.throttle.charge(&self.inner().quotas, sender, direction, bytes)
    }

    /// Runs work that waits for the disk without holding up other connections.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> T + Send + 'static,
    ) -> Result<T, Code> {
        let broker = self.broker.clone();
        #[expect(clippy::disallowed_methods, reason = "the request waits for it, and answers its panic as an error")]
        let task = tokio::task::spawn_blocking(move || work(broker.inner()));
        task.await.map_err(|_| Code::UnknownServerError)
    }
}

/// The response to a request; none for a produce request that wants none.
///
/// # Errors
/// A request that does not follow the protocol, or an API or version that is not served.
pub(crate) async fn answer(broker: &Broker, client: &Client, frame: Frame) -> Result<Option<Answer>, Malformed> {
    if !is_served(&frame) {
        if frame.key == ApiKey::ApiVersions {
            let refused = versions().with_error_code(Code::UnsupportedVersion.code());
            return frame.encode_as(&refused, 0).map(Some);
        }
        let (key, version) = (frame.key, frame.version);
        return Err(Malformed::new(format!("{key:?} version {version}")));
    }
    let call = Call { broker, client, client_id: &frame.client_id, version: frame.version };
    dispatch(&call, &frame).await
}

/// Whether the API is in the table, and in this version.
fn is_served(frame: &Frame) -> bool {
    let known = APIS.iter().find(|a| a.key == frame.key);
    known.is_some_and(|a| (a.min..=a.max).contains(&frame.version))
}

/// Answers with a function that needs no waiting.
macro_rules! now {
    ($frame:expr, $call:expr, $handler:path) => {
        $frame.encode(&$handler($call, &$frame.decode()?)).map(Some)
    };
}

/// Answers with a function that may wait.
macro_rules! later {
    ($frame:expr, $call:expr, $handler:path) => {{
        let request = $frame.decode()?;
        $frame.encode(&Box::pin($handler($call, request)).await).map(Some)
    }};
}

async fn dispatch(call: &Call<'_>, frame: &Frame) -> Result<Option<Answer>, Malformed> {
    match frame.key {
        ApiKey::Produce => {
            let response = Box::pin(produce::produce(call, frame.decode()?)).await;
            let pause_ms = call.charge(Direction::Produce, frame.body_len());
            response.map(|response| frame.encode(&response.with_throttle_time_ms(pause_ms))).transpose()
        }
        ApiKey::Fetch => {
            let mut fetched = Box::pin(fetch::fetch(call, frame.decode()?)).await;
            fetched.response.throttle_time_ms = call.charge(Direction::Fetch, fetched.records_len());
            fetch_answer::encode(frame, fetched).map(Some)
        }
        ApiKey::ListOffsets => later!(frame, call, list_offsets::list_offsets),
        ApiKey::Metadata => later!(frame, call, metadata::metadata),
        ApiKey::OffsetCommit => now!(frame, call, offsets::commit),
        ApiKey::OffsetFetch => now!(frame, call, offsets::fetch),
        ApiKey::OffsetDelete => now!(frame, call, offsets::delete),
        ApiKey::FindCoordinator => now!(frame, call, cluster::find_coordinator),
        ApiKey::JoinGroup => later!(frame, call, members::join),
        ApiKey::SyncGroup => later!(frame, call, members::sync),
        ApiKey::Heartbeat => now!(frame, call, members::heartbeat),
        ApiKey::LeaveGroup => now!(frame, call, members::leave),
        ApiKey::DescribeGroups => now!(frame, call, groups::describe),
        ApiKey::ListGroups => now!(frame, call, groups::list),
        ApiKey::DeleteGroups => now!(frame, call, groups::delete),
        ApiKey::ApiVersions => {
            let _: ApiVersionsRequest = frame.decode()?;
            frame.encode(&versions()).map(Some)
        }
        ApiKey::SaslHandshake => now!(frame, call, sasl::handshake),
        ApiKey::SaslAuthenticate => now!(frame, call, sasl::authenticate),
        ApiKey::CreateTopics => later!(frame, call, topics::create),
        ApiKey::DeleteTopics => later!(frame, call, topics::delete),
        ApiKey::CreatePartitions => later!(frame, call, topics::create_partitions),
        ApiKey::DeleteRecords => later!(frame, call, records::delete),
        ApiKey::InitProducerId => later!(frame, call, producers::init),
        ApiKey::AddPartitionsToTxn => later!(frame, call, txns::add_partitions),
        ApiKey::AddOffsetsToTxn => later!(frame, call, txns::add_offsets),
        ApiKey::TxnOffsetCommit => later!(frame, call, txns::commit_offsets),
        ApiKey::EndTxn => later!(frame, call, txns::end),
        ApiKey::WriteTxnMarkers => later!(frame, call, txns::write_markers),
        ApiKey::DescribeConfigs => now!(frame, call, configs::describe),
        ApiKey::ListConfigResources => now!(frame, call, configs::list),
        ApiKey::AlterConfigs => later!(frame, call, configs::alter),
        ApiKey::IncrementalAlterConfigs => later!(frame, call, configs::alter_incrementally),
        ApiKey::DescribeAcls => now!(frame, call, acls::describe),
        ApiKey::CreateAcls => now!(frame, call, acls::create),
        ApiKey::DeleteAcls => now!(frame, call, acls::delete),
        ApiKey::DescribeClientQuotas => now!(frame, call, quotas::describe),
        ApiKey::AlterClientQuotas => later!(frame, call, quotas::alter),
        ApiKey::DescribeUserScramCredentials => now!(frame, call, scram::describe),
        ApiKey::AlterUserScramCredentials => later!(frame, call, scram::alter),
        ApiKey::DescribeCluster => now!(frame, call, cluster::describe),
        ApiKey::ListPartitionReassignments => now!(frame, call, cluster::list_reassignments),
        ApiKey::DescribeProducers => now!(frame, call, inspect::describe_producers),
        ApiKey::DescribeTransactions => now!(frame, call, inspect::describe_transactions),
        ApiKey::ListTransactions => now!(frame, call, inspect::list_transactions),
        ApiKey::DescribeLogDirs => now!(frame, call, inspect::describe_log_dirs),
        ApiKey::OffsetForLeaderEpoch => now!(frame, call, inspect::offset_for_leader_epoch),
        other => Err(Malformed::new(format!("{other:?} is not served"))),
    }
}

/// The table as clients get it. Produce is listed from version 0 although older versions than in
/// the table are refused: librdkafka before 2.x takes its absence for a broker without compression
/// (KAFKA-18659).
fn versions() -> ApiVersionsResponse {
    let listed = |a: &Api| {
        let min = if a.key == ApiKey::Produce { 0 } else { a.min };
        ApiVersion::default().with_api_key(a.key as i16).with_min_version(min).with_max_version(a.max)
    };
    ApiVersionsResponse::default().with_api_keys(APIS.iter().map(listed).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_that_the_codec_knows_are_listed() {
        for api in APIS {
            let known = api.key.valid_versions();
            assert!(known.min <= api.min && api.max <= known.max, "{api:?}");
        }
    }

    #[test]
    fn no_api_is_listed_twice() {
        let mut keys: Vec<i16> = APIS.iter().map(|a| a.key as i16).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), APIS.len());
    }
}
