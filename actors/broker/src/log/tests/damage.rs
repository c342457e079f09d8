//! Damage of a log's files against its promises: only what is damaged is lost, it is declared, no offset is given twice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use proptest::prelude::{ProptestConfig, Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::super::batch::tests::batch_of;
use super::super::codec::Codec;
use super::super::compact::{CompactionRules, compact};
use super::super::records::tests::keyed;
use super::super::scan::Flaw;
use super::super::segment::{bases, segment_path};
use super::*;

/// A log of batches with 1 to 3 records in several segments, each by its base offset.
pub(super) fn written(dir: &Path, sizes: &[usize]) -> (PartitionLog, BTreeMap<i64, Vec<u8>>) {
    let mut log = open(dir, "a");
    let mut batches = BTreeMap::new();
    for (n, size) in sizes.iter().enumerate() {
        let codec = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd][n % 5];
        let records: Vec<_> = (0..*size).map(|_| (Some("key"), Some("value"))).collect();
        let bytes = keyed(&records, codec, NO_PRODUCER);
        batches.insert(append(&mut log, &bytes).unwrap(), bytes);
    }
    log.take_flush().run().unwrap();
    (log, batches)
}

/// All batches with records that a reader gets, by their base offset.
pub(super) fn read(log: &PartitionLog) -> BTreeMap<i64, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut from = log.start_offset();
    while from < log.high_watermark() {
        let range = ReadRange { from, upto: log.high_watermark(), max_bytes: 500, ..ANY };
        let bytes = log.read(range).unwrap().batches.into_bytes().unwrap();
        let mut rest = &bytes[..];
        assert!(!rest.is_empty(), "a reader at {from} gets no further");
        while let Some(header) = BatchHeader::parse(rest) {
            assert!(header.base_offset >= from);
            from = header.last_offset() + 1;
            let (batch, after) = rest.split_at(header.total_bytes);
            if header.record_count > 0 {
                found.insert(header.base_offset, batch.to_vec());
            }
            rest = after;
        }
    }
    found
}

fn lost_offsets(log: &PartitionLog) -> BTreeSet<i64> {
    log.lost().iter().flat_map(|range| range.first_offset..=range.last_offset).collect()
}

fn offsets_of(base: i64, batch: &[u8]) -> std::ops::Range<i64> {
    base..base + i64::from(BatchHeader::parse(batch).unwrap().record_count)
}

/// Checks that what is read is what was written, and that everything else is declared; the batches that are lost.
pub(super) fn check(log: &PartitionLog, written: &BTreeMap<i64, Vec<u8>>) -> Vec<i64> {
    let (found, lost) = (read(log), lost_offsets(log));
    for (base, batch) in &found {
        let body = |bytes: &[u8]| bytes[16..].to_vec();
        assert_eq!(Some(body(batch)), written.get(base).map(|bytes| body(bytes)), "at {base}");
        assert!(offsets_of(*base, batch).all(|offset| !lost.contains(&offset)), "{base} is declared lost");
    }
    let gone: Vec<i64> = written.keys().filter(|base| !found.contains_key(base)).copied().collect();
    for base in &gone {
        assert!(
            offsets_of(*base, &written[base]).all(|offset| lost.contains(&offset)),
            "{base} is lost without a word"
        );
    }
    gone
}

pub(super) fn segment_files(dir: &Path) -> Vec<PathBuf> {
    bases(dir, "log").unwrap().into_iter().map(|base| segment_path(dir, base, "log")).collect()
}

/// What may happen to the files of a stopped broker.
#[derive(Debug, Clone)]
enum Harm {
    Flip { at: usize, bit: u8 },
    Zeros { at: usize, bytes: usize },
    Cut { file: usize, bytes: u64 },
    Removed { file: usize },
    Behind { file: usize, bytes: Vec<u8> },
    Middle { at: usize, bytes: usize },
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        6 => (0_usize.., 0_u8..8).prop_map(|(at, bit)| Harm::Flip { at, bit }),
        1 => (0_usize.., 1_usize..400).prop_map(|(at, bytes)| Harm::Zeros { at, bytes }),
        2 => (0_usize.., 1_u64..400).prop_map(|(file, bytes)| Harm::Cut { file, bytes }),
        1 => (0_usize..).prop_map(|file| Harm::Removed { file }),
        1 => (0_usize.., proptest::collection::vec(0_u8.., 1..200)).prop_map(|(file, bytes)| Harm::Behind { file, bytes }),
        1 => (0_usize.., 1_usize..400).prop_map(|(at, bytes)| Harm::Middle { at, bytes }),
    ]
}

impl Harm {
    /// Within the granularity of the file system's clock nothing would show a change, so each file gets another time.
    fn inflict(&self, dir: &Path) {
        self.change(dir);
        for file in segment_files(dir) {
            let later = SystemTime::now() + std::time::Duration::from_secs(1);
            std::fs::File::options().write(true).open(file).unwrap().set_modified(later).unwrap();
        }
    }

    fn change(&self, dir: &Path) {
        let files: Vec<PathBuf> = segment_files(dir).into_iter().filter(|f| f.metadata().unwrap().len() > 0).collect();
        if files.is_empty() {
            return;
        }
        let total: usize = files.iter().map(|f| std::fs::read(f).unwrap().len()).sum();
        let change = |at: usize, edit: &dyn Fn(&mut Vec<u8>, usize)| {
            let mut at = at % total;
            for file in &files {
                let mut content = std::fs::read(file).unwrap();
                if at < content.len() {
                    edit(&mut content, at);
                    return std::fs::write(file, content).unwrap();
                }
                at -= content.len();
            }
        };
        match self {
            Self::Flip { at, bit } => change(*at, &|content, at| content[at] ^= 1 << bit),
            Self::Zeros { at, bytes } => change(*at, &|content, at| {
                let end = (at + bytes).min(content.len());
                content[at..end].fill(0);
            }),
            Self::Middle { at, bytes } => change(*at, &|content, at| {
                let end = (at + bytes).min(content.len());
                // The checksum does not cover the offset: that of one batch before the rest of another is a valid batch.
                let is_seamless = at > 0 && place_in_batch(content, at) == place_in_batch(content, end);
                content.drain(at..end - usize::from(is_seamless));
            }),
            Self::Cut { file, bytes } => {
                let file = files::open_rw(&files[file % files.len()]).unwrap();
                let length = file.metadata().unwrap().len();
                file.set_len(length.saturating_sub(*bytes)).unwrap();
            }
            Self::Removed { file } => std::fs::remove_file(&files[file % files.len()]).unwrap(),
            Self::Behind { file, bytes } => {
                let file = &files[file % files.len()];
                std::fs::write(file, [std::fs::read(file).unwrap(), bytes.clone()].concat()).unwrap();
            }
        }
    }
}

/// Bytes from the start of the batch around a place.
fn place_in_batch(content: &[u8], at: usize) -> usize {
    let mut start = 0;
    while let Some(header) = BatchHeader::parse(&content[start..]).filter(|header| start + header.total_bytes <= at) {
        start += header.total_bytes;
    }
    at - start
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn damage_after_a_clean_stop_loses_what_it_hits_and_gives_no_offset_twice(
        sizes in proptest::collection::vec(1_usize..4, 1..40),
        harms in proptest::collection::vec(harm(), 1..4),
        boot in prop_oneof!["a", "b"],
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, mut batches) = written(dir.path(), &sizes);
        let end = log.high_watermark();
        log.close().unwrap();
        drop(log);
        harms.iter().for_each(|harm| harm.inflict(dir.path()));
        let mut log = open(dir.path(), &boot);
        prop_assert_eq!(log.high_watermark(), end);
        let gone = check(&log, &batches);
        if let [Harm::Flip { .. }] = harms[..] {
            prop_assert!(gone.len() <= 1, "{:?}", gone);
        }
        if let [Harm::Behind { .. }] = harms[..] {
            prop_assert!(gone.is_empty(), "{:?}", gone);
        }
        let before = (read(&log), log.lost().clone());
        drop(log);
        log = open(dir.path(), &boot);
        prop_assert_eq!(&(read(&log), log.lost().clone()), &before, "the same after another start");
        let more = keyed(&[(Some("k"), None)], Codec::None, NO_PRODUCER);
        prop_assert_eq!(append(&mut log, &more), Ok(end));
        batches.insert(end, more);
        check(&log, &batches);
    }

    #[test]
    fn the_end_of_the_process_tears_at_most_the_last_batch(
        sizes in proptest::collection::vec(1_usize..4, 1..30),
        cut in 0_u64..900,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (log, batches) = written(dir.path(), &sizes);
        drop(log);
        let last = segment_files(dir.path()).pop().unwrap();
        let length = last.metadata().unwrap().len();
        files::open_rw(&last).unwrap().set_len(length.saturating_sub(cut)).unwrap();
        let mut log = open(dir.path(), "a");
        prop_assert!(log.lost().iter().next().is_none(), "what nobody was told of is not lost");
        let found = read(&log);
        prop_assert!(found.keys().zip(batches.keys()).all(|(found, written)| found == written), "a prefix is left");
        let end = log.high_watermark();
        prop_assert_eq!(found.iter().map(|(base, batch)| offsets_of(*base, batch).end).max().unwrap_or(end), end);
        append_many(&mut log, 1);
        prop_assert_eq!(offsets(&log, 0).pop(), Some(end));
    }

    #[test]
    fn damage_that_the_end_of_the_process_cannot_have_done_gives_no_offset_twice(
        sizes in proptest::collection::vec(1_usize..4, 1..30),
        at in 0_usize..,
        bit in 0_u8..8,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (log, batches) = written(dir.path(), &sizes);
        let end = log.high_watermark();
        drop(log);
        let harm = Harm::Flip { at, bit };
        harm.inflict(dir.path());
        let log = open(dir.path(), "a");
        prop_assert!(log.high_watermark() >= end, "{} after {}", log.high_watermark(), end);
        let gone = check(&log, &batches);
        prop_assert!(gone.len() <= 1, "{:?} {:?}", gone, log.lost());
    }
}

/// Each bit of the last byte of a batch's base offset, and one bit in each `step`th other byte: of its offset, its length,
/// its header, its records.
fn flips(batch: std::ops::Range<usize>, step: usize) -> impl Iterator<Item = Harm> {
    let low = batch.start + 7;
    let of_low = (0..8).map(move |bit| (low, bit));
    let others = batch.filter(move |at| *at != low).step_by(step).map(|at| (at, (at % 8) as u8));
    of_low.chain(others).map(|(at, bit)| Harm::Flip { at, bit })
}

#[test]
fn any_damage_to_a_batch_loses_that_batch_and_no_other() {
    const SIZES: [usize; 6] = [2, 1, 3, 2, 1, 2];
    let sample = tempfile::tempdir().unwrap();
    let (log, batches) = written(sample.path(), &SIZES);
    drop(log);
    let lengths: Vec<usize> = batches.values().map(Vec::len).collect();
    assert_eq!(segment_files(sample.path()).len(), 1, "places in the file are those in the log");
    for (n, victim, closes, step) in [(2, 3, true, 1), (2, 3, false, 9), (5, 9, true, 9), (5, 9, false, 9)] {
        let start: usize = lengths[..n].iter().sum();
        for harm in flips(start..start + lengths[n], step) {
            let dir = tempfile::tempdir().unwrap();
            let (mut log, _) = written(dir.path(), &SIZES);
            if closes {
                log.close().unwrap();
            }
            drop(log);
            harm.inflict(dir.path());
            let log = open(dir.path(), "a");
            assert_eq!(check(&log, &batches), [victim], "{harm:?} {closes}");
            let end = log.high_watermark();
            // Behind a damaged end that nobody closed, the log goes on at its mark.
            let is_end_known = closes || victim < 9;
            assert!(end == 11 || (!is_end_known && end > 11), "{end}: {harm:?} {closes}");
        }
    }
}

#[test]
fn a_crash_in_the_middle_of_a_repair_is_finished_by_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, batches) = written(dir.path(), &[2; 30]);
    log.close().unwrap();
    drop(log);
    let first = &segment_files(dir.path())[0];
    let mut damaged = std::fs::read(first).unwrap();
    damaged[200] ^= 1;
    std::fs::write(first, &damaged).unwrap();
    let log = open(dir.path(), "a");
    let (gone, lost) = (check(&log, &batches), log.lost().clone());
    assert_eq!(gone.len(), 1);
    drop(log);
    let repaired = std::fs::read(first).unwrap();
    let next = bases(dir.path(), "log").unwrap()[1];
    let crashes: [(&str, PathBuf); 2] = [
        ("written", segment_path(dir.path(), 0, "cleaned")),
        ("in its place", dir.path().join(format!("{:020}-{next:020}.swap", 0))),
    ];
    for (step, path) in crashes {
        std::fs::write(first, &damaged).unwrap();
        std::fs::write(&path, &repaired).unwrap();
        let log = open(dir.path(), "a");
        assert_eq!((check(&log, &batches), log.lost()), (gone.clone(), &lost), "{step}");
        assert!(!path.exists());
        drop(log);
        assert_eq!(std::fs::read(first).unwrap(), repaired, "{step}");
    }
}

#[test]
fn an_aborted_transaction_stays_aborted_when_the_segment_of_its_marker_is_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "a");
    append(&mut log, &transactional(1)).unwrap();
    append_many(&mut log, 20);
    log.append_marker((7, 0), Marker::Abort, &rules()).unwrap();
    append_many(&mut log, 2);
    let aborted = log.aborted_in(0, log.high_watermark());
    log.close().unwrap();
    drop(log);
    let files = segment_files(dir.path());
    assert_eq!((files.len(), aborted.len()), (2, 1), "it began in another segment");
    let mut content = std::fs::read(&files[1]).unwrap();
    content[65] ^= 1;
    std::fs::write(&files[1], content).unwrap();
    let log = open(dir.path(), "a");
    assert_eq!(lost_offsets(&log).len(), 1, "the first record of the segment");
    assert_eq!(log.aborted_in(0, log.high_watermark()), aborted);
}

#[test]
fn the_damaged_file_is_kept_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = written(dir.path(), &[1; 5]);
    log.close().unwrap();
    drop(log);
    Harm::Flip { at: 100, bit: 1 }.inflict(dir.path());
    let damaged = std::fs::read(&segment_files(dir.path())[0]).unwrap();
    let log = open(dir.path(), "a");
    assert_eq!(log.lost().iter().count(), 1);
    let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let kept: Vec<PathBuf> = names.filter(|path| path.extension().is_some_and(|e| e == "damaged")).collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(std::fs::read(&kept[0]).unwrap(), damaged);
}

/// A batch with a right checksum that ends a client library: gzip of nothing.
fn poison(base_offset: i64) -> Vec<u8> {
    let nothing = Codec::Gzip.close(Vec::new()).unwrap();
    let mut batch = batch_of(1, (5, 5), NO_PRODUCER, (1, &nothing));
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    batch
}

#[test]
fn what_an_earlier_version_stored_unchecked_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, batches) = written(dir.path(), &[1; 30]);
    log.close().unwrap();
    let sealed: Vec<_> = log.segments.iter().map(|segment| (segment.base, segment.sealed().encode())).collect();
    drop(log);
    std::fs::remove_file(dir.path().join("checked")).unwrap();
    let file = &segment_files(dir.path())[1];
    let base = bases(dir.path(), "log").unwrap()[1];
    let content = std::fs::read(file).unwrap();
    let second = BatchHeader::parse(&content).unwrap().total_bytes;
    let rest = second + BatchHeader::parse(&content[second..]).unwrap().total_bytes;
    std::fs::write(file, [&content[..second], &poison(base + 1), &content[rest..]].concat()).unwrap();
    for (base, index) in sealed {
        std::fs::write(segment_path(dir.path(), base, "index"), index).unwrap();
    }
    let log = open(dir.path(), "a");
    assert_eq!(check(&log, &batches), [base + 1]);
    assert_eq!(log.lost().iter().next().unwrap().reason, Flaw::Records.to_string());
    assert!(dir.path().join("checked").exists());
    assert!(log.segments.iter().all(|segment| segment.is_checked), "everything was read");
    drop(log);
    let again = open(dir.path(), "a");
    assert_eq!(check(&again, &batches), [base + 1]);
}

#[test]
fn of_a_last_batch_with_a_right_checksum_only_its_own_offsets_are_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut batches) = written(dir.path(), &[2; 3]);
    drop(log);
    let file = &segment_files(dir.path())[0];
    std::fs::write(file, [std::fs::read(file).unwrap(), poison(6)].concat()).unwrap();
    batches.insert(6, poison(6));
    let mut log = open(dir.path(), "a");
    assert_eq!(check(&log, &batches), [6]);
    assert_eq!(append(&mut log, &batch(1, 9, NO_PRODUCER)), Ok(7), "nobody was told of more");
}

#[test]
fn damage_that_neither_size_nor_time_shows_is_found_while_the_log_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, batches) = written(dir.path(), &[1; 60]);
    log.close().unwrap();
    drop(log);
    let path = &segment_files(dir.path())[1];
    let modified: SystemTime = path.metadata().unwrap().modified().unwrap();
    let mut content = std::fs::read(path).unwrap();
    content[150] ^= 4;
    std::fs::write(path, content).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
    let log = Mutex::new(open(dir.path(), "a"));
    assert!(log.lock().lost().iter().next().is_none(), "trusted at open");
    scrub(&log, 7, &AtomicBool::new(false)).unwrap();
    assert_eq!(check(&log.lock(), &batches).len(), 1);
    assert!(log.lock().segments.iter().all(|segment| segment.is_checked));
    let end = log.lock().high_watermark();
    let lost = log.lock().lost().clone();
    drop(log);
    let log = open(dir.path(), "a");
    assert_eq!((log.high_watermark(), log.lost()), (end, &lost));
    check(&log, &batches);
}

#[test]
fn a_segment_that_is_shorter_than_it_was_is_read_again_whatever_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, batches) = written(dir.path(), &[1; 60]);
    log.close().unwrap();
    drop(log);
    let path = &segment_files(dir.path())[1];
    let known = path.metadata().unwrap();
    let file = files::open_rw(path).unwrap();
    file.set_len(known.len() - 100).unwrap();
    file.set_modified(known.modified().unwrap()).unwrap();
    assert!(!check(&open(dir.path(), "a"), &batches).is_empty());
}

#[test]
fn damage_met_while_the_log_is_used_is_repaired_once_it_is_in_doubt() {
    let dir = tempfile::tempdir().unwrap();
    let (log, batches) = written(dir.path(), &[1; 60]);
    let log = Mutex::new(log);
    let path = &segment_files(dir.path())[1];
    let length = path.metadata().unwrap().len();
    files::open_rw(path).unwrap().set_len(length - 100).unwrap();
    let stop = AtomicBool::new(false);
    scrub(&log, 7, &stop).unwrap();
    assert!(log.lock().lost().iter().next().is_none(), "nobody met it");
    log.lock().doubt();
    scrub(&log, 7, &stop).unwrap();
    assert!(!check(&log.lock(), &batches).is_empty());
}

/// Compacts whatever there is.
pub(super) const COMPACT_ALL: CompactionRules = CompactionRules {
    min_dirty_ratio: 0.0,
    min_lag_ms: 0,
    max_lag_ms: i64::MAX,
    delete_retention_ms: 0,
    segment_bytes: 600,
};

#[test]
fn holes_of_compaction_are_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = written(dir.path(), &[1; 60]);
    log.roll().unwrap();
    let log = Mutex::new(log);
    compact(&log, &COMPACT_ALL, 100, &AtomicBool::new(false)).unwrap().unwrap();
    log.lock().take_flush().run().unwrap();
    log.lock().close().unwrap();
    let left = read(&log.lock());
    assert!(left.len() < 5, "one key");
    drop(log);
    for trusted in [true, false] {
        if !trusted {
            for base in bases(dir.path(), "index").unwrap() {
                std::fs::remove_file(segment_path(dir.path(), base, "index")).unwrap();
            }
        }
        let log = Mutex::new(open(dir.path(), "a"));
        scrub(&log, 7, &AtomicBool::new(false)).unwrap();
        assert!(log.lock().lost().iter().next().is_none(), "{:?}", log.lock().lost());
        assert_eq!(read(&log.lock()), left);
    }
}

#[test]
fn a_damaged_length_that_ends_where_another_batch_begins_hides_none_between() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, batches) = written(dir.path(), &[2, 2, 1, 2, 1, 3, 2, 2, 3, 1, 3]);
    log.close().unwrap();
    drop(log);
    // The length of the third batch becomes that of the six from it on.
    Harm::Flip { at: 203, bit: 1 }.inflict(dir.path());
    assert_eq!(check(&open(dir.path(), "a"), &batches), [4]);
}
