//! Byte rates: told, kept, and paid for with pauses.

use std::time::{Duration, Instant};

use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, ApiKey, DescribeClientQuotasRequest,
    DescribeClientQuotasResponse, FetchRequest, FetchResponse, ProduceRequest, ProduceResponse, TopicName,
};
use kafka_protocol::protocol::{Decodable, StrBytes};

use crate::raw::{Raw, batch, produce};
use crate::security::{Sasl, guarded};
use crate::support::Server;

const INVALID_REQUEST: i16 = 42;

/// An entity by its parts; a part without a name is the default.
type Parts<'a> = &'a [(&'a str, Option<&'a str>)];

fn own(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn alter(raw: &mut Raw, parts: Parts<'_>, ops: &[(&str, Option<f64>)]) -> i16 {
    let part = |(kind, name): &(&str, Option<&str>)| {
        EntityData::default().with_entity_type(own(kind)).with_entity_name(name.map(own))
    };
    let op = |(key, value): &(&str, Option<f64>)| {
        OpData::default().with_key(own(key)).with_value(value.unwrap_or(0.0)).with_remove(value.is_none())
    };
    let entry =
        EntryData::default().with_entity(parts.iter().map(part).collect()).with_ops(ops.iter().map(op).collect());
    raw.send(ApiKey::AlterClientQuotas, 0, &AlterClientQuotasRequest::default().with_entries(vec![entry]));
    AlterClientQuotasResponse::decode(&mut raw.receive(), 0).unwrap().entries[0].error_code
}

/// Everything that fits the components, as text.
fn describe(raw: &mut Raw, components: &[(&str, i8, Option<&str>)], strict: bool) -> Vec<String> {
    let component = |(kind, match_type, name): &(&str, i8, Option<&str>)| {
        ComponentData::default().with_entity_type(own(kind)).with_match_type(*match_type).with_match(name.map(own))
    };
    let request = DescribeClientQuotasRequest::default()
        .with_components(components.iter().map(component).collect())
        .with_strict(strict);
    raw.send(ApiKey::DescribeClientQuotas, 0, &request);
    let answer = DescribeClientQuotasResponse::decode(&mut raw.receive(), 0).unwrap();
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    let entries = answer.entries.unwrap();
    let one = |entry: &kafka_protocol::messages::describe_client_quotas_response::EntryData| {
        let name = |name: &Option<StrBytes>| name.as_ref().map_or_else(|| "*".to_owned(), ToString::to_string);
        let entity: Vec<_> =
            entry.entity.iter().map(|e| format!("{}={}", &*e.entity_type, name(&e.entity_name))).collect();
        let values: Vec<_> = entry.values.iter().map(|v| format!("{}={}", &*v.key, v.value)).collect();
        format!("{}: {}", entity.join(","), values.join(","))
    };
    entries.iter().map(one).collect()
}

#[test]
fn quotas_are_stored_listed_and_removed() {
    let server = Server::start();
    let mut raw = Raw::connect(&server);
    assert_eq!(alter(&mut raw, &[("user", Some("ann"))], &[("producer_byte_rate", Some(5e6))]), 0);
    assert_eq!(alter(&mut raw, &[("user", Some("ann"))], &[("consumer_byte_rate", Some(7.0))]), 0);
    assert_eq!(alter(&mut raw, &[("client-id", None)], &[("consumer_byte_rate", Some(9.0))]), 0);
    let pair = [("client-id", Some("c")), ("user", Some("ann"))];
    assert_eq!(alter(&mut raw, &pair, &[("producer_byte_rate", Some(1.0))]), 0);
    let server = server.restart();
    let mut raw = Raw::connect(&server);
    let ann = "user=ann: producer_byte_rate=5000000,consumer_byte_rate=7";
    let both = "user=ann,client-id=c: producer_byte_rate=1";
    assert_eq!(describe(&mut raw, &[], false), ["client-id=*: consumer_byte_rate=9", ann, both]);
    assert_eq!(describe(&mut raw, &[("user", 0, Some("ann"))], false), [ann, both]);
    assert_eq!(describe(&mut raw, &[("user", 2, None)], true), [ann]);
    assert_eq!(describe(&mut raw, &[("client-id", 1, None)], false).len(), 1);
    assert_eq!(alter(&mut raw, &pair, &[("producer_byte_rate", None)]), 0);
    assert_eq!(describe(&mut raw, &[("user", 2, None)], false), [ann]);
}

#[test]
fn impossible_quotas_are_refused() {
    let server = Server::start();
    let mut raw = Raw::connect(&server);
    let rate = [("producer_byte_rate", Some(1.0))];
    assert_eq!(alter(&mut raw, &[], &rate), INVALID_REQUEST);
    assert_eq!(alter(&mut raw, &[("ip", Some("10.0.0.1"))], &rate), INVALID_REQUEST);
    assert_eq!(alter(&mut raw, &[("user", Some("a")), ("user", None)], &rate), INVALID_REQUEST);
    assert_eq!(alter(&mut raw, &[("user", Some(""))], &rate), INVALID_REQUEST);
    for (key, value) in [("request_percentage", 1.0), ("producer_byte_rate", 0.0), ("producer_byte_rate", f64::NAN)] {
        assert_eq!(alter(&mut raw, &[("user", None)], &[(key, Some(value))]), INVALID_REQUEST, "{key} {value}");
    }
    assert!(describe(&mut raw, &[], false).is_empty());
}

/// A produce request of about 100 bytes; the pause that the response tells.
fn pause_of_produce(raw: &mut Raw, sequence: i32) -> Duration {
    let partition = PartitionProduceData::default().with_records(Some(batch(0, sequence)));
    let topic = TopicProduceData::default().with_name(TopicName(own("t"))).with_partition_data(vec![partition]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(1_000).with_topic_data(vec![topic]);
    raw.send(ApiKey::Produce, 7, &request);
    let answer = ProduceResponse::decode(&mut raw.receive(), 7).unwrap();
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    Duration::from_millis(u64::try_from(answer.throttle_time_ms).unwrap())
}

#[test]
fn whoever_produces_more_than_its_rate_is_told_to_pause_and_is_not_read_for_so_long() {
    let server = Server::start_with(|config| config.client_rates.produce = Some(300));
    server.broker.ensure_topic("t", 1, &[]).unwrap();
    let mut raw = Raw::connect(&server);
    let begun = Instant::now();
    let mut owed = Duration::ZERO;
    for sequence in 0..5 {
        owed = pause_of_produce(&mut raw, sequence);
    }
    assert!(owed > Duration::ZERO);
    assert_eq!(raw.metadata().brokers.len(), 1);
    assert!(begun.elapsed() >= owed, "{:?} < {owed:?}", begun.elapsed());
}

#[test]
fn a_quota_of_one_user_does_not_hold_for_another() {
    let server = guarded(None);
    server.broker.ensure_topic("t", 1, &[]).unwrap();
    let (mut ann, mut bob) = (Raw::connect(&server), Raw::connect(&server));
    assert_eq!(ann.plain("ann", "pencil").error_code, 0);
    assert_eq!(bob.plain("bob", "eraser").error_code, 0);
    assert_eq!(alter(&mut bob, &[("user", Some("ann"))], &[("producer_byte_rate", Some(50.0))]), 0);
    assert!(pause_of_produce(&mut ann, 0) > Duration::ZERO);
    assert_eq!(pause_of_produce(&mut bob, 1), Duration::ZERO);
}

#[test]
fn whoever_fetches_more_than_its_rate_is_told_to_pause() {
    let server = Server::start_with(|config| config.client_rates.fetch = Some(100));
    server.broker.ensure_topic("t", 1, &[]).unwrap();
    let mut raw = Raw::connect(&server);
    for sequence in 0..3 {
        assert_eq!(produce(&mut raw, batch(0, sequence)).0, 0);
    }
    let partition = FetchPartition::default().with_partition_max_bytes(1_000);
    let topic = FetchTopic::default().with_topic(TopicName(own("t"))).with_partitions(vec![partition]);
    let request = FetchRequest::default().with_max_wait_ms(10).with_max_bytes(1_000).with_topics(vec![topic]);
    raw.send(ApiKey::Fetch, 11, &request);
    let answer = FetchResponse::decode(&mut raw.receive(), 11).unwrap();
    assert!(answer.throttle_time_ms > 0);
}
