//! Many consumer groups at once, in each a member that dies while it joins: how soon every group reads.
//!
//! `cargo run --release -p streamward-broker --example group_storm [ADDRESS]`; without an address on a broker of its
//! own. Times are in milliseconds from the creation of a group's first consumer to its last partition's record.
#![allow(clippy::print_stdout, reason = "an example prints its figures")]

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{ApiKey, GroupId, JoinGroupRequest, RequestHeader};
use kafka_protocol::protocol::{Encodable, StrBytes};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use streamward_broker::{Broker, BrokerConfig};

const GROUPS: usize = 60;
const MEMBERS: usize = 3;
const PARTITIONS: i32 = 3;
const TOPIC: &str = "storm";
/// New groups of one member whose first record is timed one after the other.
const SINGLE: usize = 20;
const PATIENCE: Duration = Duration::from_secs(60);

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let address = match std::env::args().nth(1) {
        Some(address) => address,
        None => {
            let broker = Broker::open(BrokerConfig::new(folder.path()))?;
            let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
            let address = listener.local_addr()?.to_string();
            #[expect(clippy::disallowed_methods, reason = "the example's server ends with it")]
            runtime.handle().spawn(async move { broker.serve(listener, std::future::pending()).await });
            address
        }
    };
    runtime.block_on(prepare(&address))?;
    let singles = (0..SINGLE).map(|n| read_all(&address, &format!("single-{n}"), 1)).collect::<Outcome<Vec<_>>>()?;
    report("first records of a new group of one member", singles);
    let storm: Vec<Outcome<Duration>> = std::thread::scope(|scope| {
        let one = |n: usize| {
            let (address, group) = (&address, format!("storm-{n}"));
            scope.spawn(move || {
                die_joining(address, &group, n)?;
                read_all(address, &group, MEMBERS)
            })
        };
        let threads: Vec<_> = (0..GROUPS).map(one).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err("a group's thread panicked".into()))).collect()
    });
    report("60 groups of 3 members, one dying", storm.into_iter().collect::<Outcome<Vec<_>>>()?);
    Ok(())
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_millis();
    println!("{what}: median {} ms, p95 {} ms, slowest {} ms", at(50), at(95), at(100));
}

fn client(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address);
    config
}

async fn prepare(address: &str) -> Outcome<()> {
    let admin: AdminClient<_> = client(address).create()?;
    let topic = NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(1));
    admin.create_topics([&topic], &AdminOptions::new()).await?;
    let producer: BaseProducer = client(address).create()?;
    for partition in 0..PARTITIONS {
        let record: BaseRecord<'_, (), str> = BaseRecord::to(TOPIC).partition(partition).payload("x");
        producer.send(record).map_err(|(error, _)| error)?;
    }
    Ok(producer.flush(PATIENCE)?)
}

/// A client that asks to join and is gone: half of them before the answer, half of them after it.
fn die_joining(address: &str, group: &str, number: usize) -> Outcome<()> {
    let protocol = JoinGroupRequestProtocol::default().with_name(StrBytes::from_static_str("range"));
    let request = JoinGroupRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_session_timeout_ms(45_000)
        .with_rebalance_timeout_ms(300_000)
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![protocol]);
    let mut bytes = BytesMut::new();
    bytes.put_i32(0);
    let version = 3;
    RequestHeader::default()
        .with_request_api_key(ApiKey::JoinGroup as i16)
        .with_request_api_version(version)
        .encode(&mut bytes, ApiKey::JoinGroup.request_header_version(version))?;
    request.encode(&mut bytes, version)?;
    let length = i32::try_from(bytes.len() - 4)?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(&bytes)?;
    if number.is_multiple_of(2) {
        std::io::Read::read_exact(&mut stream, &mut [0; 8])?;
    }
    Ok(())
}

/// Lets a group's members read until each partition's record has come to one of them.
fn read_all(address: &str, group: &str, members: usize) -> Outcome<Duration> {
    let begun = Instant::now();
    let mut config = client(address);
    config.set("group.id", group).set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
    let consumers = (0..members).map(|_| config.create()).collect::<Result<Vec<BaseConsumer>, _>>()?;
    for consumer in &consumers {
        consumer.subscribe(&[TOPIC])?;
    }
    let mut seen = [false; PARTITIONS as usize];
    while seen.contains(&false) {
        if begun.elapsed() > PATIENCE {
            return Err(format!("group {group} read only {seen:?}").into());
        }
        for consumer in &consumers {
            if let Some(message) = consumer.poll(Duration::from_millis(5)) {
                seen[usize::try_from(message?.partition())?] = true;
            }
        }
    }
    Ok(begun.elapsed())
}
