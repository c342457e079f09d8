//! Batches that are broken inside under a right checksum, and messages that are too large: refused, with a word.

use std::io::Write;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{ApiKey, FetchRequest, FetchResponse, ProduceResponse, TopicName};
use kafka_protocol::protocol::{Decodable, StrBytes};
use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use streamward_broker::{Broker, BrokerConfig, TopicError};

use crate::raw::{Raw, produce};
use crate::support::{PATIENCE, Server};

const CORRUPT: i16 = 2;
const TOO_LARGE: i16 = 10;
const INVALID_RECORD: i16 = 87;
/// A record without key and headers and with the value `x`, behind its length.
const RECORD: [u8; 8] = [14, 0, 0, 0, 1, 2, b'x', 0];

fn batch(codec: u8, count: i32, body: &[u8]) -> Vec<u8> {
    let mut b = vec![0_u8; 61];
    b.extend_from_slice(body);
    let length = i32::try_from(b.len() - 12).unwrap();
    b[8..12].copy_from_slice(&length.to_be_bytes());
    b[16] = 2;
    b[22] = codec;
    b[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    b[27..35].copy_from_slice(&1_000_i64.to_be_bytes());
    b[43..57].fill(0xff);
    b[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c::crc32c(&b[21..]);
    b[17..21].copy_from_slice(&crc.to_be_bytes());
    b
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 3).unwrap()
}

/// One record whose value is zeros.
fn zeros(bytes: usize) -> Vec<u8> {
    let varint = |value: usize| {
        let (mut rest, mut out) = (value * 2, Vec::new());
        while rest >= 0x80 {
            out.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
            rest >>= 7;
        }
        out.push(u8::try_from(rest).unwrap());
        out
    };
    let body = [&[0, 0, 0, 1][..], &varint(bytes), &vec![0; bytes], &[0]].concat();
    [varint(body.len()), body].concat()
}

#[test]
fn no_batch_that_ends_or_halts_a_client_is_taken() {
    let server = Server::start();
    server.broker.ensure_topic("t", 1, &[]).unwrap();
    let mut raw = Raw::connect(&server);
    let three = [RECORD, RECORD, RECORD].concat();
    let huge = [0xfe, 0xff, 0xff, 0xff, 0x0f];
    let cases: Vec<(&str, Vec<u8>, i16)> = vec![
        ("gzip of nothing", batch(1, 1, &gzip(b"")), INVALID_RECORD),
        ("zstd of nothing", batch(4, 1, &zstd(b"")), INVALID_RECORD),
        ("snappy of nothing", batch(2, 1, &[0]), INVALID_RECORD),
        ("an empty lz4 frame", batch(3, 1, b"\x04\x22\x4d\x18\x60\x40\x82\0\0\0\0"), INVALID_RECORD),
        ("no stream at all", batch(1, 1, b""), INVALID_RECORD),
        ("gzip of one byte", batch(1, 1, &gzip(b"x")), INVALID_RECORD),
        ("gzip twice", batch(1, 1, &gzip(&gzip(&RECORD))), INVALID_RECORD),
        ("two members", batch(1, 2, &[gzip(&RECORD), gzip(&RECORD)].concat()), INVALID_RECORD),
        ("junk behind a magic", batch(4, 1, b"\x28\xb5\x2f\xfdjunk"), INVALID_RECORD),
        ("length -5", batch(0, 1, &[9, 0, 0, 0, 1, 2, b'x', 0]), INVALID_RECORD),
        ("length 2^31 - 1", batch(0, 1, &[&huge[..], &RECORD[1..]].concat()), INVALID_RECORD),
        (
            "a varint of six bytes",
            batch(0, 1, &[&[0x8e, 0x80, 0x80, 0x80, 0x80, 0], &RECORD[1..]].concat()),
            INVALID_RECORD,
        ),
        ("-3 headers", batch(0, 1, &[14, 0, 0, 0, 1, 2, b'x', 5]), INVALID_RECORD),
        ("2^31 - 1 headers", batch(0, 1, &[&[22, 0, 0, 0, 1, 2, b'x'][..], &huge].concat()), INVALID_RECORD),
        ("three records, count 1", batch(0, 1, &three), INVALID_RECORD),
        ("offsets 7, 7", batch(0, 2, &[14, 0, 0, 14, 1, 2, b'x', 0, 14, 0, 0, 14, 1, 2, b'x', 0]), INVALID_RECORD),
        ("400 MB in zstd", batch(4, 1, &zstd(&zeros(400 << 20))), TOO_LARGE),
        ("90 MB in zstd", batch(4, 1, &zstd(&zeros(90 << 20))), TOO_LARGE),
    ];
    for (what, bytes, code) in cases {
        assert_eq!(produce(&mut raw, bytes.into()), (code, -1), "{what}");
    }
    let mut damaged = batch(0, 1, &RECORD);
    damaged[17] ^= 1;
    assert_eq!(produce(&mut raw, damaged.into()), (CORRUPT, -1));
    assert_eq!(produce(&mut raw, batch(0, 1, &RECORD).into()), (0, 0));
    assert_eq!(server.read("t", 0), ["x"]);
}

#[test]
fn offsets_by_time_do_not_depend_on_the_largest_time_that_a_producer_tells() {
    let server = Server::start();
    server.broker.ensure_topic("t", 1, &[]).unwrap();
    let mut raw = Raw::connect(&server);
    // Times 1000, 2000 and 3000, of which the header tells -1, 0 and one that is too low.
    for (n, told) in [(1, -1_i64), (2, 0), (3, 7)] {
        let mut b = batch(0, 1, &RECORD);
        b[27..35].copy_from_slice(&i64::to_be_bytes(n * 1_000));
        b[35..43].copy_from_slice(&told.to_be_bytes());
        let crc = crc32c::crc32c(&b[21..]);
        b[17..21].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(produce(&mut raw, b.into()), (0, n - 1));
    }
    let consumer = server.consumer("g", &[]);
    let mut wanted = rdkafka::TopicPartitionList::new();
    wanted.add_partition_offset("t", 0, Offset::Offset(1_500)).unwrap();
    let found = consumer.offsets_for_times(wanted, PATIENCE).unwrap();
    assert_eq!(found.elements()[0].offset(), Offset::Offset(1));
    assert_eq!(server.read_with(&[("check.crcs", "true")], ("t", 0), Offset::Beginning).len(), 3);
}

/// One answer to a reader that allows 50 MB: records and what they open to.
fn fetched(raw: &mut Raw, from: i64) -> Vec<(i64, usize)> {
    let partition =
        FetchPartition::default().with_partition(0).with_fetch_offset(from).with_partition_max_bytes(50 << 20);
    let topic =
        FetchTopic::default().with_topic(TopicName(StrBytes::from_static_str("t"))).with_partitions(vec![partition]);
    let request = FetchRequest::default().with_max_bytes(50 << 20).with_max_wait_ms(100).with_topics(vec![topic]);
    let response: FetchResponse = raw.ask(ApiKey::Fetch, 11, &request);
    let records = response.responses[0].partitions[0].records.clone().unwrap();
    let (mut rest, mut found) = (&records[..], Vec::new());
    while rest.len() > 61 {
        let length = 12 + usize::try_from(i32::from_be_bytes(rest[8..12].try_into().unwrap())).unwrap();
        let offset = i64::from_be_bytes(rest[..8].try_into().unwrap());
        found.push((offset, zstd::stream::decode_all(&rest[61..length]).unwrap().len()));
        rest = &rest[length..];
    }
    found
}

#[test]
fn no_answer_opens_to_more_than_its_bound_and_all_records_are_read() {
    const BOUND: usize = 16 << 20;
    for (count, bytes) in [(20, 8 << 20), (40, 3 << 20), (300, 200 << 10)] {
        let server = Server::start();
        server.broker.ensure_topic("t", 1, &[]).unwrap();
        let mut raw = Raw::connect(&server);
        let bomb = batch(4, 1, &zstd(&zeros(bytes)));
        assert!(bomb.len() < 2_000);
        for _ in 0..count {
            assert_eq!(produce(&mut raw, bomb.clone().into()).0, 0);
        }
        let (mut from, mut answers) = (0, 0);
        while from < count {
            let found = fetched(&mut raw, from);
            let opened: usize = found.iter().map(|(_, opened)| opened).sum();
            assert!(opened <= BOUND, "{opened} in {} batches", found.len());
            from = found.last().unwrap().0 + 1;
            answers += 1;
        }
        let expected = usize::try_from(count).unwrap() * bytes / BOUND;
        assert!(answers >= expected && answers <= expected * 2 + 1, "{answers} answers, {expected} are needed");
        assert_eq!(server.read("t", 0).len(), usize::try_from(count).unwrap());
        let server = server.restart();
        let opened: usize = fetched(&mut Raw::connect(&server), 0).iter().map(|(_, opened)| opened).sum();
        assert!(opened <= BOUND, "{opened} after a restart");
    }
}

#[test]
fn records_that_compress_well_flow() {
    let server = Server::start();
    let payload = "v".repeat(100);
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        server.broker.ensure_topic(codec, 1, &[]).unwrap();
        let producer = server.producer(&[("compression.type", codec), ("linger.ms", "50")]);
        assert_eq!(server.send(&producer, (codec, 0), &vec![&*payload; 10_000]).len(), 10_000);
        assert_eq!(server.read(codec, 0).len(), 10_000);
    }
}

#[test]
fn a_setting_that_no_request_can_use_is_refused_by_name() {
    let server = Server::start_with(|c| c.max_request_bytes = 1 << 20);
    let error = server.broker.ensure_topic("t", 1, &[("max.message.bytes", "104857600")]).unwrap_err();
    assert!(matches!(&error, TopicError::InvalidConfig { key, .. } if key == "max.message.bytes"), "{error}");
    assert!(error.to_string().contains("983040"), "{error}");
}

#[test]
fn a_request_that_is_too_large_is_refused_partition_by_partition_and_the_connection_goes_on() {
    let server = Server::start_with(|c| c.max_request_bytes = 200 << 10);
    server.broker.ensure_topic("t", 1, &[]).unwrap();
    let mut raw = Raw::connect(&server);
    assert_eq!(produce(&mut raw, batch(0, 1, &zeros(3 << 20)).into()), (TOO_LARGE, -1));
    assert_eq!(produce(&mut raw, batch(0, 1, &RECORD).into()), (0, 0));
    let request = {
        use kafka_protocol::messages::ProduceRequest;
        use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
        let partition =
            |index| PartitionProduceData::default().with_index(index).with_records(Some(vec![7; 150 << 10].into()));
        let topic = TopicProduceData::default()
            .with_name(TopicName(StrBytes::from_static_str("t")))
            .with_partition_data(vec![partition(0), partition(3)]);
        ProduceRequest::default().with_acks(-1).with_timeout_ms(1_000).with_topic_data(vec![topic])
    };
    for version in [3, 8, 9] {
        raw.send(ApiKey::Produce, version, &request);
        let mut bytes = if version < 9 { raw.receive() } else { raw.receive_flexible() };
        let response = ProduceResponse::decode(&mut bytes, version).unwrap();
        let codes = response.responses[0].partition_responses.iter().map(|p| (p.index, p.error_code));
        assert_eq!(codes.collect::<Vec<_>>(), [(0, TOO_LARGE), (3, TOO_LARGE)], "version {version}");
    }
    let producer = server.producer(&[("message.max.bytes", "4000000")]);
    let payload = vec![b'x'; 1 << 20];
    let record = rdkafka::producer::FutureRecord::<(), _>::to("t").payload(&payload);
    let sent = producer.send_result(record).map_err(|e| e.0).unwrap();
    let (error, _) = server.runtime.block_on(sent).unwrap().unwrap_err();
    assert_eq!(error.rdkafka_error_code(), Some(rdkafka::error::RDKafkaErrorCode::MessageSizeTooLarge));
    assert_eq!(server.read("t", 0), ["x"]);
}

#[test]
fn topics_whose_names_differ_in_dots_and_underscores_alone_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(BrokerConfig::new(dir.path())).unwrap();
    broker.ensure_topic("a.b_c", 1, &[]).unwrap();
    for name in ["a_b_c", "a.b.c", "a_b.c"] {
        let refused = broker.ensure_topic(name, 1, &[]).unwrap_err();
        assert!(matches!(&refused, TopicError::Collision { other, .. } if other == "a.b_c"), "{name}: {refused}");
    }
    broker.ensure_topic("a.b_c", 1, &[]).unwrap();
    broker.ensure_topic("a-b_c", 1, &[]).unwrap();
}
