//! Ways in for the fuzz targets in `fuzz/`: bytes that no client and no crash would make.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::RequestHeader;
use kafka_protocol::protocol::Encodable;
use parking_lot::Mutex;

use crate::api::{self, APIS, Client};
use crate::log::batch::{BatchHeader, CRC_START};
use crate::log::{
    AppendRules, BootId, CompactionRules, LogOptions, Oversized, PartitionLog, ReadRange, Timestamps, compact,
};
use crate::wire::Frame;
use crate::{Broker, BrokerConfig, Fsync};

/// How long a request may wait that waits for something.
const PATIENCE: Duration = Duration::from_millis(2);

/// A broker that answers requests without a connection.
#[derive(Debug)]
pub struct Requests {
    broker: Broker,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Requests {
    /// Opens a broker in a folder of its own.
    ///
    /// # Panics
    /// If it does not open.
    #[must_use]
    pub fn open(folder: &Path) -> Self {
        let config = BrokerConfig { fsync: Fsync::Never, max_request_bytes: 1 << 20, ..BrokerConfig::new(folder) };
        let broker = Broker::open(config).expect("a new folder opens");
        broker.ensure_topic("t", 2, &[]).expect("a topic is made");
        let client = Client::new("h".to_owned(), ("b".to_owned(), 1), broker.inner().access.metered);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime is made");
        Self { broker, client, runtime }
    }

    /// Answers a request: the first byte chooses the API, the second the version, the rest is the body.
    ///
    /// # Panics
    /// On a fault in the broker.
    pub fn answer(&self, data: &[u8]) {
        let [api, version, body @ ..] = data else { return };
        let api = &APIS[usize::from(*api) % APIS.len()];
        let version = api.min + i16::from(*version) % (api.max - api.min + 1);
        let mut bytes = BytesMut::new();
        RequestHeader::default()
            .with_request_api_key(api.key as i16)
            .with_request_api_version(version)
            .encode(&mut bytes, api.key.request_header_version(version))
            .expect("a header encodes");
        bytes.put_slice(body);
        let Ok(frame) = Frame::parse(bytes.freeze()) else { return };
        let answering = api::answer(&self.broker, &self.client, frame);
        self.runtime.block_on(async {
            // A malformed request, and one that waits, are both as they should be.
            let _ = tokio::time::timeout(PATIENCE, answering).await;
        });
    }
}

/// Opens a log whose files hold the given bytes, then reads, writes, compacts and opens it again. The first byte tells
/// how much of it is made to look right.
///
/// # Panics
/// On a fault in the log.
pub fn recover(folder: &Path, data: &[u8]) {
    let [flags, index_bytes, rest @ ..] = data else { return };
    let (index, segment) = rest.split_at(usize::from(*index_bytes).min(rest.len()));
    let mut segment = segment.to_vec();
    if flags & 1 != 0 {
        mend(&mut segment, flags & 2 != 0);
    }
    let at = |name: &str| folder.join(name);
    std::fs::create_dir_all(folder).expect("a folder is made");
    std::fs::write(at("00000000000000000000.log"), &segment).expect("a file is written");
    if flags & 4 != 0 {
        std::fs::write(at("00000000000000000000.index"), index).expect("a file is written");
        std::fs::write(at("00000000000000000000.producers"), index).expect("a file is written");
        std::fs::write(at("00000000000000100000.log"), &segment).expect("a file is written");
    }
    for _ in 0..2 {
        use_log(folder);
    }
}

fn use_log(folder: &Path) {
    let options = LogOptions { boot: BootId::current(), fsync: Fsync::Never, start_offset: 0 };
    let mut log = PartitionLog::open(folder, options).expect("what is damaged is cut off, not refused");
    let (mut from, upto) = (log.start_offset(), log.high_watermark());
    assert!(from <= upto && log.last_stable_offset() <= upto);
    while from < upto {
        let range =
            ReadRange { from, upto, max_bytes: 4_096, max_opened_bytes: 1 << 20, oversized_first: Oversized::Return };
        let batches: Bytes =
            log.read(range).and_then(|found| found.batches.into_bytes()).expect("what was recovered is read");
        let Some(header) = BatchHeader::parse(&batches) else { break };
        assert!(header.last_offset() >= from, "a reader goes forward");
        from = header.last_offset() + 1;
    }
    let rules = AppendRules { segment_bytes: 512, now_ms: 1, timestamps: Timestamps::Producer };
    let kind = crate::log::batch::Marker::Abort;
    assert!(log.append_marker((1, 0), kind, &rules).expect("a recovered log takes records") >= upto);
    let log = Mutex::new(log);
    let rules = CompactionRules {
        min_dirty_ratio: 0.0,
        min_lag_ms: 0,
        max_lag_ms: i64::MAX,
        delete_retention_ms: 0,
        segment_bytes: 4_096,
    };
    let _damaged = compact(&log, &rules, 1_000, &AtomicBool::new(false));
}

/// Gives batches the right checksum, and offsets that follow each other.
fn mend(segment: &mut [u8], with_offsets: bool) {
    let (mut at, mut offset) = (0, 0);
    while let Some(header) = BatchHeader::parse(&segment[at..]) {
        let end = at + header.total_bytes;
        if end > segment.len() {
            return;
        }
        let batch = &mut segment[at..end];
        batch[16] = 2;
        if with_offsets {
            batch[..8].copy_from_slice(&i64::to_be_bytes(offset));
            offset += i64::from(header.last_offset_delta.max(0)) + 1;
        }
        let crc = crc32c::crc32c(&batch[CRC_START..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        at = end;
    }
}
