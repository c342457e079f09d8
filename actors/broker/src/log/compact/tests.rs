//! Compaction against a plain model: the newest of each key stays, offsets stay, a crash loses nothing.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::Fsync;
use crate::error::Code;
use crate::log::batch::tests::{NO_PRODUCER, Producer, seal};
use crate::log::batch::{BatchHeader, Marker};
use crate::log::codec::Codec;
use crate::log::produced::Produced;
use crate::log::records::tests::keyed;
use crate::log::records::{Records, open as open_records};
use crate::log::tests::ANY;
use crate::log::{AppendRules, BootId, LogOptions, ReadRange, Timestamps};

const RULES: CompactionRules = CompactionRules {
    min_dirty_ratio: 0.0,
    min_lag_ms: 0,
    max_lag_ms: i64::MAX,
    delete_retention_ms: 1_000,
    segment_bytes: 600,
};

fn open(dir: &Path) -> Mutex<PartitionLog> {
    open_in(dir, "a")
}

fn open_in(dir: &Path, boot: &str) -> Mutex<PartitionLog> {
    let options = LogOptions { boot: BootId::named(boot), fsync: Fsync::Never, start_offset: 0, max_opened_bytes: 0 };
    Mutex::new(PartitionLog::open(dir, options).unwrap())
}

fn rules(now_ms: i64) -> AppendRules {
    AppendRules { segment_bytes: 300, now_ms, timestamps: Timestamps::Producer }
}

fn append(log: &Mutex<PartitionLog>, batch: &[u8]) -> i64 {
    log.lock().append(&Produced::check(batch, 10_000).unwrap(), &rules(50)).unwrap().base_offset
}

fn put(log: &Mutex<PartitionLog>, key: &str, value: Option<&str>) {
    append(log, &keyed(&[(Some(key), value)], Codec::None, NO_PRODUCER));
}

/// A transactional batch of one record.
fn put_in_txn(log: &Mutex<PartitionLog>, producer: Producer, key: &str, value: &str) {
    let mut batch = keyed(&[(Some(key), Some(value))], Codec::None, producer);
    batch[22] |= 0x10;
    seal(&mut batch);
    append(log, &batch);
}

fn end_txn(log: &Mutex<PartitionLog>, id: i64, kind: Marker) {
    log.lock().append_marker((id, 0), kind, &rules(50)).unwrap();
}

fn run(log: &Mutex<PartitionLog>, now_ms: i64) -> Option<Compacted> {
    // The segment that is written to is never compacted.
    log.lock().roll().unwrap();
    compact(log, &RULES, now_ms, &AtomicBool::new(false)).unwrap()
}

/// Headers of all batches from the start to the end.
fn batches(log: &Mutex<PartitionLog>) -> Vec<(BatchHeader, Vec<u8>)> {
    let log = log.lock();
    let (mut from, upto) = (log.start_offset(), log.high_watermark());
    let mut found = Vec::new();
    loop {
        let range = ReadRange { from, upto, max_bytes: 200, ..ANY };
        let bytes = log.read(range).unwrap().batches.into_bytes().unwrap();
        let mut rest = &bytes[..];
        if rest.is_empty() {
            return found;
        }
        while let Some(header) = BatchHeader::parse(rest) {
            let (batch, after) = rest.split_at(header.total_bytes);
            found.push((header, batch.to_vec()));
            from = header.last_offset() + 1;
            rest = after;
        }
    }
}

/// Offset, key and whether there is a value, of every data record.
fn records(log: &Mutex<PartitionLog>) -> Vec<(i64, String, bool)> {
    let mut found = Vec::new();
    for (header, batch) in batches(log).iter().filter(|(h, _)| !h.is_control()) {
        let opened = open_records(header, batch).unwrap();
        for record in Records::of(header, &opened).map(Result::unwrap) {
            let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
            found.push((header.base_offset + record.offset_delta, key, !record.is_tombstone));
        }
    }
    found
}

fn keys(log: &Mutex<PartitionLog>) -> Vec<(i64, String)> {
    records(log).into_iter().map(|(offset, key, _)| (offset, key)).collect()
}

#[test]
fn the_newest_record_of_each_key_stays_at_its_offset() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for i in 0..40 {
        put(&log, ["a", "b", "c"][i % 3], Some("v"));
    }
    let done = run(&log, 100).unwrap();
    assert!(done.bytes_after < done.bytes_before / 5, "{done:?}");
    let expected = [(37, "b"), (38, "c"), (39, "a")].map(|(o, k)| (o, k.to_owned()));
    assert_eq!(keys(&log), expected);
    assert_eq!(run(&log, 100), None, "nothing is left to do");
    drop(log);
    let log = open(dir.path());
    assert_eq!(keys(&log), expected, "also after a restart");
    let bounds = |log: &PartitionLog| (log.start_offset(), log.high_watermark());
    assert_eq!(bounds(&log.lock()), (0, 40));
    assert_eq!(run(&log, 100), None, "a restart knows what was done");
}

#[test]
fn the_segment_that_is_written_to_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    put(&log, "a", Some("1"));
    put(&log, "a", Some("2"));
    assert_eq!(compact(&log, &RULES, 100, &AtomicBool::new(false)).unwrap(), None);
    assert_eq!(records(&log).len(), 2);
}

#[test]
fn a_tombstone_stays_for_its_retention_and_then_goes() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    put(&log, "a", Some("1"));
    put(&log, "a", None);
    put(&log, "b", Some("1"));
    run(&log, 100).unwrap();
    assert_eq!(records(&log), [(1, "a".to_owned(), false), (2, "b".to_owned(), true)]);
    put(&log, "b", Some("2"));
    run(&log, 1_099).unwrap();
    assert_eq!(keys(&log).len(), 2, "one millisecond too early");
    put(&log, "b", Some("3"));
    run(&log, 1_100).unwrap();
    assert_eq!(keys(&log), [(4, "b".to_owned())]);
}

#[test]
fn records_of_aborted_transactions_go_and_their_marker_follows() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let producer = |sequence| Producer { id: 7, epoch: 0, sequence };
    put(&log, "a", Some("old"));
    put_in_txn(&log, producer(0), "a", "aborted");
    end_txn(&log, 7, Marker::Abort);
    put_in_txn(&log, producer(1), "b", "committed");
    end_txn(&log, 7, Marker::Commit);
    run(&log, 100).unwrap();
    assert_eq!(keys(&log), [(0, "a".to_owned()), (3, "b".to_owned())]);
    let markers = |log: &Mutex<PartitionLog>| {
        let markers = batches(log).into_iter().filter(|(h, _)| h.is_control());
        markers.map(|(h, _)| h.base_offset).collect::<Vec<_>>()
    };
    assert_eq!(markers(&log), [2, 4]);
    assert_eq!(log.lock().aborted_in(0, 9).len(), 1, "told while the marker is there");
    put(&log, "c", Some("1"));
    run(&log, 1_100).unwrap();
    assert_eq!(markers(&log), [4], "its records are there, and it is the newest of its producer");
    assert!(log.lock().aborted_in(0, 9).is_empty());
}

#[test]
fn records_of_an_open_transaction_are_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    put(&log, "a", Some("1"));
    log.lock().roll().unwrap();
    put_in_txn(&log, Producer { id: 7, epoch: 0, sequence: 0 }, "a", "2");
    run(&log, 100).unwrap();
    assert_eq!(keys(&log), [(0, "a".to_owned()), (1, "a".to_owned())]);
}

#[test]
fn a_producer_whose_records_are_gone_goes_on_with_its_sequence() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let send = |log: &Mutex<PartitionLog>, sequence| {
        let batch = keyed(&[(Some("a"), Some("1"))], Codec::None, Producer { id: 7, epoch: 0, sequence });
        log.lock().append(&Produced::check(&batch, 10_000).unwrap(), &rules(50)).map(|a| a.base_offset)
    };
    for sequence in 0..3 {
        send(&log, sequence).unwrap();
    }
    put(&log, "a", Some("newest"));
    run(&log, 100).unwrap();
    assert_eq!(keys(&log), [(3, "a".to_owned())]);
    drop(log);
    for extension in ["producers", "index"] {
        for base in crate::log::segment::bases(dir.path(), extension).unwrap() {
            std::fs::remove_file(crate::log::segment::segment_path(dir.path(), base, extension)).unwrap();
        }
    }
    let log = open(dir.path());
    assert_eq!(keys(&log), [(3, "a".to_owned())]);
    assert_eq!(send(&log, 2), Ok(2), "the last one is recognised");
    assert_eq!(send(&log, 4), Err(Code::OutOfOrderSequenceNumber));
    assert_eq!(send(&log, 3), Ok(4));
}

#[test]
fn younger_records_wait_for_their_lag() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    put(&log, "a", Some("1"));
    put(&log, "a", Some("2"));
    log.lock().roll().unwrap();
    let rules = CompactionRules { min_lag_ms: 500, ..RULES };
    assert_eq!(compact(&log, &rules, 550, &AtomicBool::new(false)).unwrap(), None, "appended 500 ms ago");
    assert!(compact(&log, &rules, 551, &AtomicBool::new(false)).unwrap().is_some());
}

#[test]
fn a_pass_waits_for_its_share_of_dirt_or_for_the_longest_lag() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    (0..20).for_each(|i| put(&log, &i.to_string(), Some("1")));
    run(&log, 100).unwrap();
    put(&log, "0", Some("2"));
    log.lock().roll().unwrap();
    let rules = CompactionRules { min_dirty_ratio: 0.5, max_lag_ms: 1_000, ..RULES };
    assert_eq!(compact(&log, &rules, 1_050, &AtomicBool::new(false)).unwrap(), None);
    assert!(compact(&log, &rules, 1_051, &AtomicBool::new(false)).unwrap().is_some());
}

#[test]
fn a_stopped_pass_changes_nothing_and_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    (0..20).for_each(|_| put(&log, "a", Some("1")));
    log.lock().roll().unwrap();
    compact(&log, &RULES, 100, &AtomicBool::new(true)).unwrap();
    assert_eq!(records(&log).len(), 20);
    let left = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name());
    assert!(left.into_iter().all(|n| !n.to_string_lossy().contains("cleaned")));
}

#[test]
fn a_damaged_batch_stops_compaction_and_harms_nothing() {
    use std::os::unix::fs::FileExt;
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    (0..3).for_each(|_| put(&log, "a", Some("1")));
    log.lock().roll().unwrap();
    let file = crate::log::files::open_rw(&dir.path().join(format!("{:020}.log", 0))).unwrap();
    file.write_all_at(&[0xff], 65).unwrap();
    assert!(compact(&log, &RULES, 100, &AtomicBool::new(false)).is_err());
    assert_eq!(compact(&log, &RULES, 100, &AtomicBool::new(false)).unwrap(), None, "not tried again");
    assert_eq!(batches(&log).len(), 3);
}

#[test]
fn a_pass_that_the_file_system_ended_is_tried_again_after_a_pause() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    (0..3).for_each(|_| put(&log, "a", Some("1")));
    log.lock().roll().unwrap();
    let in_the_way = dir.path().join(format!("{:020}.cleaned", 0));
    std::fs::create_dir(&in_the_way).unwrap();
    let pass = |now_ms| compact(&log, &RULES, now_ms, &AtomicBool::new(false));
    assert!(!pass(100).unwrap_err().is_final());
    std::fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(pass(100 + RETRY_PAUSE_MS - 1).unwrap(), None);
    assert!(pass(100 + RETRY_PAUSE_MS).unwrap().is_some());
    assert_eq!(keys(&log).len(), 1);
}

#[test]
fn no_segment_is_removed_while_another_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    (0..20).for_each(|_| put(&log, "a", Some("1")));
    log.lock().roll().unwrap();
    let sources = log.lock().plan_compaction(&RULES, 100).unwrap().sources;
    assert!(sources.len() > 2);
    assert!(log.lock().begin_swap(&sources[1..]));
    log.lock().delete_before(20).unwrap();
    let first = log.lock().segments[0].base;
    assert_eq!((first, log.lock().start_offset()), (sources[1].base, 20));
}

/// Copies a folder as a crash would leave it.
fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

fn with_extension(dir: &Path, extension: &str) -> usize {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|known| known == extension)).count()
}

#[test]
fn a_crash_at_any_step_of_the_swap_leaves_a_whole_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for i in 0..12 {
        put(&log, ["a", "b"][i % 2], Some("1"));
    }
    log.lock().roll().unwrap();
    let old = copy(dir.path());
    run(&log, 100).unwrap();
    let expected = keys(&log);
    let bases = crate::log::segment::bases(old.path(), "log").unwrap();
    let written = dir.path().join(format!("{:020}.log", 0));
    let end = log.lock().segments[0].next_offset;
    let replaced: Vec<_> = bases.iter().filter(|b| (0..end).contains(*b)).collect();
    assert!(replaced.len() > 1);
    let begun = |dir: &Path| ["cleaned", "swap"].map(|extension| with_extension(dir, extension));
    // Before the rename: the old segments count.
    let crashed = copy(old.path());
    std::fs::copy(&written, crashed.path().join(format!("{:020}.cleaned", 0))).unwrap();
    assert_eq!(records(&open(crashed.path())).len(), 12);
    assert_eq!(begun(crashed.path()), [0, 0]);
    // After it, with any number of sources removed: the written one counts.
    for removed in 0..replaced.len() {
        let crashed = copy(old.path());
        std::fs::copy(&written, crashed.path().join(format!("{:020}-{end:020}.swap", 0))).unwrap();
        for base in &replaced[1..=removed] {
            std::fs::remove_file(crashed.path().join(format!("{base:020}.log"))).unwrap();
        }
        let log = open(crashed.path());
        assert_eq!(begun(crashed.path()), [0, 0]);
        let left = crate::log::segment::bases(crashed.path(), "log").unwrap();
        assert!(replaced[1..].iter().all(|base| !left.contains(base)), "{removed} removed: {left:?}");
        run(&log, 100);
        assert_eq!(keys(&log), expected, "{removed} removed");
        drop(log);
        assert_eq!(keys(&open(crashed.path())), expected);
    }
}

#[test]
fn a_reader_gets_to_the_end_though_the_last_record_is_an_expired_tombstone() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    put(&log, "a", Some("v"));
    put(&log, "a", None);
    run(&log, 100).unwrap();
    log.lock().compaction.upto = 0;
    run(&log, 5_000).unwrap();
    assert_eq!(records(&log), []);
    assert_eq!(batches(&log).last().unwrap().0.last_offset() + 1, log.lock().high_watermark());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]

    /// Whatever is written and whenever a pass runs, a reader ends with the newest value of each key.
    #[test]
    fn a_reader_ends_with_the_newest_of_each_key(
        steps in proptest::collection::vec((0_u8..6, proptest::option::of(0_u8..3), 0_u8..5), 1..80),
        reopen in 0_usize..80,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path());
        let mut model = BTreeMap::new();
        let mut end = 0;
        for (n, (key, value, what)) in steps.iter().enumerate() {
            let (key, value) = (key.to_string(), value.map(|v| v.to_string()));
            let codec = Codec::numbered(i16::from(*what)).unwrap();
            append(&log, &keyed(&[(Some(&key), value.as_deref()), (Some(&key), value.as_deref())], codec, NO_PRODUCER));
            end += 2;
            model.insert(key, (end - 1, value.is_some()));
            if *what == 0 {
                run(&log, i64::try_from(n).unwrap() * 300);
            }
            if n == reopen {
                drop(log);
                log = open(dir.path());
            }
        }
        run(&log, 100_000);
        let read = records(&log);
        proptest::prop_assert!(read.is_sorted());
        let last: BTreeMap<_, _> = read.iter().map(|(o, k, v)| (k.clone(), (*o, *v))).collect();
        for (key, (offset, has_value)) in &model {
            match last.get(key) {
                Some(found) => proptest::prop_assert_eq!(found, &(*offset, *has_value)),
                None => proptest::prop_assert!(!has_value, "{} is lost", key),
            }
        }
        proptest::prop_assert_eq!(log.lock().high_watermark(), end);
    }
}
