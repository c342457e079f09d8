//! Ways in for the fuzz targets in `fuzz/`: bytes that no client and no crash would make.

mod batches;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::RequestHeader;
use kafka_protocol::protocol::Encodable;
use parking_lot::Mutex;

use crate::api::{self, APIS, Client};
pub use batches::{choices, mutant, realistic};

use crate::log::batch::{BatchHeader, CRC_START};
use crate::log::codec::MAX_OPENED_BYTES;
use crate::log::produced::Produced;
use crate::log::records::check;
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
    let options = LogOptions { boot: BootId::current(), fsync: Fsync::Never, start_offset: 0, max_opened_bytes: 0 };
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

/// What is looked at of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// The header and the checksum, as for a broker that stores what it is given.
    Alone,
    /// The records, too, as when a batch is produced.
    AndRecords,
}

/// Whether a batch is valid.
#[must_use]
pub fn validate(batch: &[u8], checksum: Checksum) -> bool {
    match checksum {
        Checksum::Alone => BatchHeader::check_produced(batch).is_ok(),
        Checksum::AndRecords => Produced::check(batch, MAX_OPENED_BYTES).is_ok(),
    }
}

/// Segments from which the log is made that [`recover_structured`] damages.
const SEGMENT_BYTES: u64 = 1_500;
/// Batches of that log.
const MAX_BATCHES: usize = 24;

/// A log that takes batches without a connection.
#[derive(Debug)]
pub struct Batches {
    log: PartitionLog,
    rules: AppendRules,
}

impl Batches {
    /// Opens a log in a folder.
    ///
    /// # Panics
    /// If it does not open.
    #[must_use]
    pub fn open(folder: &Path) -> Self {
        let log = PartitionLog::open(folder, options()).expect("a log opens");
        Self { log, rules: AppendRules { segment_bytes: 128 << 20, now_ms: 1, timestamps: Timestamps::Producer } }
    }

    /// Appends a batch as a producer's.
    ///
    /// # Panics
    /// If it is refused.
    pub fn append(&mut self, batch: &[u8]) {
        let produced = Produced::check(batch, MAX_OPENED_BYTES).expect("the batch is valid");
        self.log.append(&produced, &self.rules).expect("the log takes it");
    }

    /// Closes the log.
    ///
    /// # Panics
    /// If the file system refuses.
    pub fn close(mut self) {
        self.log.close().expect("the log closes");
    }

    /// Produces the batch that the choices make; whether it was taken. One that was is read back, by the broker's own
    /// reader and by another.
    ///
    /// # Panics
    /// On a fault in the broker.
    pub fn produce(&mut self, data: &[u8]) -> bool {
        const MAX_MESSAGE_BYTES: usize = 1 << 20;
        let batch = mutant(data);
        let Ok(produced) = Produced::check(&batch, MAX_MESSAGE_BYTES) else { return false };
        assert!(produced.facts.opened_bytes <= MAX_OPENED_BYTES);
        // Its producer may be one that the log knows already.
        let Ok(appended) = self.log.append(&produced, &self.rules) else { return false };
        let range = ReadRange {
            from: appended.base_offset,
            upto: self.log.high_watermark(),
            max_bytes: 1 << 20,
            max_opened_bytes: 0,
            oversized_first: Oversized::Return,
        };
        let stored = self.log.read(range).and_then(|found| found.batches.into_bytes()).expect("it is read back");
        if let Some(header) = BatchHeader::parse(&stored).filter(|header| header.base_offset == appended.base_offset) {
            assert_eq!(header.max_timestamp_ms, produced.facts.max_timestamp_ms);
            read_both(&stored[..header.total_bytes]);
        }
        true
    }
}

/// Checks that both readers find the same records in a batch.
fn read_both(stored: &[u8]) {
    let header = BatchHeader::parse(stored).expect("a batch has a header");
    assert_eq!(crc32c::crc32c(&stored[CRC_START..]), header.crc);
    check(&header, stored, MAX_OPENED_BYTES).expect("what is read is valid");
    if let Some((found, count)) = batches::read_elsewhere(stored).expect("another reader reads it, too") {
        assert_eq!(i32::try_from(found), Ok(count));
    }
}

fn options() -> LogOptions {
    LogOptions { boot: BootId::current(), fsync: Fsync::Never, start_offset: 0, max_opened_bytes: 0 }
}

/// A log of valid batches that is stopped, of which some bytes are changed, removed or replaced by a batch that is broken
/// inside, then opened: every batch that a reader gets is valid, offsets ascend, and the end is where it was.
///
/// # Panics
/// On a fault in the log.
pub fn recover_structured(folder: &Path, data: &[u8]) {
    let [count, is_closed, harms @ ..] = data else { return };
    let rules = AppendRules { segment_bytes: SEGMENT_BYTES, now_ms: 1, timestamps: Timestamps::Producer };
    let mut log = PartitionLog::open(folder, options()).expect("a new log opens");
    for n in 0..1 + usize::from(*count) % MAX_BATCHES {
        let batch = valid_batch(n as u64);
        if let Ok(produced) = Produced::check(&batch, 1 << 20) {
            log.append(&produced, &rules).expect("a log takes valid batches");
        }
    }
    let end = log.high_watermark();
    log.take_flush().run().expect("index files are written");
    let is_closed = is_closed & 1 == 0;
    if is_closed {
        log.close().expect("a log closes");
    }
    drop(log);
    harms.chunks_exact(4).take(3).for_each(|harm| inflict(folder, harm));
    for _ in 0..2 {
        let log = PartitionLog::open(folder, options()).expect("a damaged log opens");
        if is_closed {
            assert_eq!(log.high_watermark(), end);
        }
        read_all(&log);
    }
}

/// The first batch from a number on that a log takes.
fn valid_batch(seed: u64) -> Vec<u8> {
    let numbers = (seed * 1_000..seed * 1_000 + 100).map(|seed| mutant(&choices(seed)));
    numbers.into_iter().find(|batch| Produced::check(batch, 1 << 20).is_ok()).unwrap_or_default()
}

fn inflict(folder: &Path, harm: &[u8]) {
    let [kind, file, at, what] = harm else { return };
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let mut logs: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.sort();
    if logs.is_empty() {
        return;
    }
    let path = &logs[usize::from(*file) % logs.len()];
    let mut content = std::fs::read(path).expect("a segment is read");
    let at = usize::from(*at) * content.len() / 256;
    match kind % 6 {
        0 | 1 => {
            if let Some(byte) = content.get_mut(at) {
                *byte ^= what | 1;
            }
        }
        2 => {
            content.drain(at..(at + usize::from(*what)).min(content.len()));
        }
        3 => content.truncate(at),
        4 => return std::fs::remove_file(path).expect("a segment is removed"),
        _ => break_inside(&mut content, at, *what),
    }
    std::fs::write(path, content).expect("a segment is written");
    // Within the granularity of the file system's clock nothing would show the change.
    let file = std::fs::File::options().write(true).open(path).expect("a segment is opened");
    file.set_modified(SystemTime::now() + Duration::from_secs(1)).expect("a segment gets another time");
}

/// Changes a byte of the records of a batch and renews its checksum.
fn break_inside(content: &mut [u8], upto: usize, what: u8) {
    let mut start = 0;
    while let Some(header) = BatchHeader::parse(&content[start..]) {
        let end = start + header.total_bytes;
        if end > content.len() {
            return;
        }
        if end > upto {
            let batch = &mut content[start..end];
            let last = batch.len() - 1 - usize::from(what) % (batch.len() - crate::log::batch::HEADER_BYTES).max(1);
            batch[last] ^= what | 1;
            return batches::seal(batch);
        }
        start = end;
    }
}

/// Reads a log to its end: every batch is valid, offsets ascend.
fn read_all(log: &PartitionLog) {
    let (mut from, upto) = (log.start_offset(), log.high_watermark());
    while from < upto {
        let range =
            ReadRange { from, upto, max_bytes: 4_096, max_opened_bytes: 1 << 20, oversized_first: Oversized::Return };
        let bytes = log.read(range).and_then(|found| found.batches.into_bytes()).expect("a recovered log is read");
        let mut rest = &bytes[..];
        assert!(!rest.is_empty(), "a reader at {from} gets to {upto}");
        while let Some(header) = BatchHeader::parse(rest) {
            assert!(header.last_offset() >= from, "a reader goes forward");
            read_both(&rest[..header.total_bytes]);
            from = header.last_offset() + 1;
            rest = &rest[header.total_bytes..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_with_any_damage_is_read_to_its_end() {
        for seed in 0..150 {
            let folder = tempfile::tempdir().unwrap();
            recover_structured(folder.path(), &choices(seed)[..14]);
        }
    }

    #[test]
    fn any_batch_is_refused_or_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut batches = Batches::open(folder.path());
        let taken = (0..1_500).filter(|seed| batches.produce(&choices(*seed))).count();
        assert!(taken > 100, "{taken}");
    }
}
