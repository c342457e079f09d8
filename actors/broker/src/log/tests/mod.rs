//! A partition's log against its promises: dense offsets, recovery, reservations, retention.

mod damage;
mod doubt;

use std::path::Path;

use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq};

use super::batch::tests::{NO_PRODUCER, Producer, batch, seal};
use super::reservation::Mark;
use super::*;
use crate::Fsync;

/// A reader of everything that opens whatever there is.
pub(crate) const ANY: ReadRange = ReadRange {
    from: 0,
    upto: i64::MAX,
    max_bytes: usize::MAX,
    max_opened_bytes: u64::MAX,
    oversized_first: Oversized::Return,
};

fn options(boot: &str) -> LogOptions {
    LogOptions { boot: BootId::named(boot), fsync: Fsync::Never, start_offset: 0, max_opened_bytes: 0 }
}

fn open(dir: &Path, boot: &str) -> PartitionLog {
    PartitionLog::open(dir, options(boot)).unwrap()
}

fn rules() -> AppendRules {
    AppendRules { segment_bytes: 1_000, now_ms: 50, timestamps: Timestamps::Producer }
}

fn append(log: &mut PartitionLog, bytes: &[u8]) -> KResult<i64> {
    let appended = log.append(&Produced::check(bytes, 10_000).unwrap(), &rules())?;
    Ok(appended.base_offset)
}

fn append_many(log: &mut PartitionLog, count: i64) {
    for i in 0..count {
        append(log, &batch(1, i, NO_PRODUCER)).unwrap();
    }
}

/// A batch of one record of the transactional producer 7.
fn transactional(time_ms: i64) -> Vec<u8> {
    let mut bytes = batch(1, time_ms, Producer { id: 7, epoch: 0, sequence: 0 });
    bytes[22] |= 0x10;
    seal(&mut bytes);
    bytes
}

/// Base offsets of all batches with records that a reader gets from an offset on; it must get to the end.
fn offsets(log: &PartitionLog, mut from: i64) -> Vec<i64> {
    let mut found = Vec::new();
    loop {
        let range = ReadRange { from, upto: log.high_watermark(), max_bytes: 300, ..ANY };
        let bytes = log.read(range).unwrap().batches.into_bytes().unwrap();
        let mut rest = &bytes[..];
        if rest.is_empty() {
            assert_eq!(from, log.high_watermark());
            return found;
        }
        while let Some(header) = BatchHeader::parse(rest) {
            if header.record_count > 0 {
                found.push(header.base_offset);
            }
            from = header.last_offset() + 1;
            rest = &rest[header.total_bytes..];
        }
    }
}

#[test]
fn offsets_are_dense_within_one_boot() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "a");
    append_many(&mut log, 30);
    assert_eq!(log.segments.len(), 3, "71 bytes each in segments of 1000");
    drop(log);
    let mut log = open(dir.path(), "a");
    assert_eq!(append(&mut log, &batch(3, 9, NO_PRODUCER)), Ok(30));
    assert_eq!(log.high_watermark(), 33);
    assert_eq!(offsets(&log, 0), (0..=30).collect::<Vec<_>>());
}

#[test]
fn another_boot_leaves_a_gap_and_never_gives_an_offset_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "a");
    append_many(&mut log, 5);
    drop(log);
    // Loss of power: the last records never reached the disk.
    let file = files::open_rw(&dir.path().join(format!("{:020}.log", 0))).unwrap();
    file.set_len(71 * 2).unwrap();
    let mut log = open(dir.path(), "b");
    let mark = RESERVE_AHEAD;
    assert_eq!(log.high_watermark(), mark);
    assert_eq!(append(&mut log, &batch(1, 9, NO_PRODUCER)), Ok(mark));
    assert_eq!(offsets(&log, 0), [0, 1, mark]);
    assert_eq!(offsets(&log, 3), [mark], "a reader inside the gap goes on behind it");
    assert_eq!(log.batch_of_max_time().unwrap().unwrap().record().offset, mark);
    drop(log);
    let log = open(dir.path(), "b");
    assert_eq!(log.high_watermark(), mark + 1);
}

#[test]
fn after_a_gap_a_reader_gets_to_the_end_though_nothing_was_written_since() {
    let dir = tempfile::tempdir().unwrap();
    append_many(&mut open(dir.path(), "a"), 5);
    let log = open(dir.path(), "b");
    assert!(log.high_watermark() > 5);
    assert_eq!(offsets(&log, 0), [0, 1, 2, 3, 4]);
}

#[test]
fn committed_readers_are_not_sent_below_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "a");
    append(&mut log, &transactional(1)).unwrap();
    append_many(&mut log, 3);
    assert_eq!(log.last_stable_offset(), 0);
    log.delete_before(3).unwrap();
    assert_eq!(log.last_stable_offset(), 3);
}

#[test]
fn the_newest_time_is_that_of_a_record_not_of_a_marker() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "a");
    append(&mut log, &transactional(20)).unwrap();
    log.append_marker((7, 0), Marker::Commit, &AppendRules { now_ms: 900, ..rules() }).unwrap();
    let found = log.batch_of_max_time().unwrap().unwrap().record();
    assert_eq!((found.offset, found.timestamp_ms), (0, 20));
}

/// Places of the log's files that are synced when it is opened again, of all.
fn synced_when_opened(dir: &Path, fsync: Fsync) -> Vec<usize> {
    use std::os::unix::fs::MetadataExt;

    let inode = |file: &std::fs::File| file.metadata().unwrap().ino();
    let path = |base| segment::segment_path(dir, base, "log");
    let bases = segment::bases(dir, "log").unwrap().into_iter();
    let all: Vec<u64> = bases.map(|base| inode(&std::fs::File::open(path(base)).unwrap())).collect();
    assert_eq!(all.len(), 3);
    let flush = PartitionLog::open(dir, LogOptions { fsync, ..options("a") }).unwrap().take_flush();
    let place = |file: &Arc<std::fs::File>| all.iter().position(|known| *known == inode(file)).unwrap();
    flush.files().iter().map(place).collect()
}

#[test]
fn what_an_earlier_process_wrote_is_synced_in_each_segment_that_no_index_vouches_for() {
    let interval = Fsync::Interval(std::time::Duration::from_secs(1));
    let dir = tempfile::tempdir().unwrap();
    append_many(&mut open(dir.path(), "a"), 30);
    assert_eq!(synced_when_opened(dir.path(), Fsync::Never), [0; 0]);
    assert_eq!(synced_when_opened(dir.path(), interval), [0, 1, 2]);
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "a");
    append_many(&mut log, 30);
    log.take_flush().run().unwrap();
    drop(log);
    assert_eq!(synced_when_opened(dir.path(), interval), [2]);
}

#[test]
fn a_boot_without_appends_keeps_the_gap_it_left() {
    let dir = tempfile::tempdir().unwrap();
    append_many(&mut open(dir.path(), "a"), 5);
    let told = open(dir.path(), "b").high_watermark();
    assert_eq!(open(dir.path(), "b").high_watermark(), told);
    assert!(open(dir.path(), "c").high_watermark() >= told);
}

#[test]
fn a_log_that_was_closed_goes_on_without_a_gap_in_another_boot() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "a");
    append_many(&mut log, 5);
    log.close().unwrap();
    drop(log);
    let mut log = open(dir.path(), "b");
    assert_eq!(append(&mut log, &batch(1, 9, NO_PRODUCER)), Ok(5));
    drop(log);
    assert!(open(dir.path(), "c").high_watermark() > 6, "reserved again");
}

#[test]
fn a_mark_is_due_once_half_of_the_reserved_offsets_are_given() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "a");
    assert_eq!(log.reserved, RESERVE_AHEAD);
    let due = |log: &PartitionLog| log.reservation_due().map(|(_, mark)| mark);
    log.next_offset = RESERVE_AHEAD / 2;
    assert_eq!(due(&log), None);
    log.next_offset += 1;
    let mark = Mark::Ahead(log.next_offset + RESERVE_AHEAD);
    assert_eq!(due(&log), Some(mark));
    log.note_reserved(mark);
    assert_eq!((due(&log), log.reserved), (None, mark.offset()));
    log.note_reserved(Mark::Ahead(1));
    assert_eq!(log.reserved, mark.offset(), "a mark never goes back");
    log.next_offset = mark.offset();
    log.make_read_only();
    assert_eq!(due(&log), None, "no offset is given any more");
}

#[test]
fn offsets_below_a_request_are_deleted_and_never_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "a");
    append_many(&mut log, 30);
    let second = log.segments[1].base;
    assert_eq!(log.delete_before(second - 1).unwrap(), second - 1);
    assert_eq!(log.segments.len(), 3, "a segment goes as a whole");
    assert_eq!(log.delete_before(3).unwrap(), second - 1);
    assert_eq!(log.delete_before(second).unwrap(), second);
    assert_eq!((log.segments.len(), log.segments[0].base), (2, second));
    assert_eq!(log.delete_before(3).unwrap(), second);
    assert_eq!(log.delete_before(1_000).unwrap(), 30, "not beyond the end");
    assert_eq!((log.start_offset(), log.high_watermark(), log.segments.len()), (30, 30, 1));
    assert_eq!(append(&mut log, &batch(1, 9, NO_PRODUCER)), Ok(30));
}

#[test]
fn a_log_whose_marks_are_lost_skips_ahead() {
    let dir = tempfile::tempdir().unwrap();
    append_many(&mut open(dir.path(), "a"), 5);
    std::fs::write(dir.path().join("reserved"), [0; 600]).unwrap();
    assert_eq!(open(dir.path(), "a").high_watermark(), 5 + RESERVE_AHEAD);
}

#[test]
fn producers_are_known_again_with_and_without_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "a");
    let producer = |sequence| Producer { id: 4, epoch: 0, sequence };
    for sequence in 0..40 {
        append(&mut log, &batch(1, 1, producer(sequence))).unwrap();
    }
    log.take_flush().run().unwrap();
    let expected = log.producers.clone();
    drop(log);
    let mut log = open(dir.path(), "a");
    assert_eq!(append(&mut log, &batch(1, 1, producer(38))), Ok(38));
    assert_eq!(append(&mut log, &batch(1, 1, producer(41))), Err(Code::OutOfOrderSequenceNumber));
    drop(log);
    for base in segment::bases(dir.path(), "producers").unwrap() {
        std::fs::remove_file(segment::segment_path(dir.path(), base, "producers")).unwrap();
    }
    let mut log = open(dir.path(), "a");
    assert_eq!(append(&mut log, &batch(1, 1, producer(36))), Ok(36));
    assert_eq!(log.producers.first_open_offset(), expected.first_open_offset());
}

#[test]
fn an_open_transaction_holds_the_stable_offset_back_until_its_marker() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "a");
    append_many(&mut log, 2);
    let mut bytes = batch(1, 1, Producer { id: 4, epoch: 0, sequence: 0 });
    bytes[22] |= 0x10;
    super::batch::tests::seal(&mut bytes);
    assert_eq!(append(&mut log, &bytes), Ok(2));
    append_many(&mut log, 1);
    assert_eq!((log.last_stable_offset(), log.high_watermark()), (2, 4));
    drop(log);
    let mut log = open(dir.path(), "a");
    assert_eq!(log.last_stable_offset(), 2, "known after a restart");
    log.append_marker((4, 0), Marker::Abort, &rules()).unwrap();
    assert_eq!(log.last_stable_offset(), 5);
    let aborted = log.aborted_in(0, 5);
    assert_eq!((aborted[0].first_offset, aborted[0].last_offset), (2, 4));
    drop(log);
    assert_eq!(open(dir.path(), "a").aborted_in(0, 5), aborted);
    assert!(open(dir.path(), "a").aborted_in(5, 9).is_empty());
}

#[test]
fn retention_by_age_and_size_removes_whole_old_segments() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "a");
    append_many(&mut log, 60);
    let keep = Retention { max_age_ms: None, max_bytes: Some(2_500), segment_ms: i64::MAX / 4 };
    assert!(log.retain(&keep, 100).unwrap() > 0);
    assert!(log.size_bytes() >= 2_500 && log.size_bytes() < 3_600);
    assert_eq!(offsets(&log, log.start_offset())[0], log.start_offset());
    let by_age = Retention { max_age_ms: Some(1_000), max_bytes: None, ..keep };
    assert_eq!(log.retain(&by_age, 1_050).unwrap(), 0, "appended 1000 ms ago");
    assert!(log.retain(&by_age, 1_100).unwrap() > 0);
    assert_eq!((log.start_offset(), log.high_watermark()), (60, 60));
    drop(log);
    assert_eq!(open(dir.path(), "a").high_watermark(), 60);
}

#[test]
fn records_are_as_old_after_a_restart_as_their_files_say() {
    let dir = tempfile::tempdir().unwrap();
    append_many(&mut open(dir.path(), "a"), 30);
    let written_ms = 1_000_000_000_000;
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(written_ms as u64);
    for base in segment::bases(dir.path(), "log").unwrap() {
        let path = segment::segment_path(dir.path(), base, "log");
        std::fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
    }
    let mut log = open(dir.path(), "a");
    let by_age = Retention { max_age_ms: Some(1_000), max_bytes: None, segment_ms: i64::MAX / 4 };
    assert_eq!(log.retain(&by_age, written_ms + 1_000).unwrap(), 0, "though their own times are of 1970");
    assert_eq!(log.retain(&by_age, written_ms + 1_001).unwrap(), 3);
}

#[test]
fn nothing_is_left_of_a_segment_that_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "a");
    append_many(&mut log, 5);
    let all = Retention { max_age_ms: Some(0), max_bytes: None, segment_ms: i64::MAX / 4 };
    assert_eq!(log.retain(&all, 100).unwrap(), 1, "closed and removed at once");
    log.take_flush().run().unwrap();
    let left = |extension| segment::bases(dir.path(), extension).unwrap();
    assert_eq!((left("log"), left("index"), left("producers")), (vec![5], vec![], vec![5]));
    drop(log);
    for stray in [segment::segment_path(dir.path(), 3, "index"), segment::segment_path(dir.path(), 9, "producers")] {
        std::fs::write(stray, "").unwrap();
    }
    assert_eq!(open(dir.path(), "a").high_watermark(), 5);
    assert_eq!((left("index"), left("producers")), (vec![], vec![5]), "nor of one that was in part");
}

#[test]
fn a_full_disk_refuses_appends_and_leaves_the_log_readable() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "a");
    append_many(&mut log, 2);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let real = std::mem::replace(&mut log.active().file, Arc::new(full));
    let refused = append(&mut log, &batch(1, 9, NO_PRODUCER));
    assert_eq!(refused, Err(Code::KafkaStorageError));
    log.active().file = real;
    assert_eq!(offsets(&log, 0), [0, 1]);
}

#[test]
fn a_partition_that_could_not_be_synced_is_read_only_and_no_later_flush_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { fsync: Fsync::Interval(std::time::Duration::from_secs(1)), ..options("a") };
    let mut log = PartitionLog::open(dir.path(), options).unwrap();
    append_many(&mut log, 1);
    // A device that cannot be synced.
    let broken = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let real = std::mem::replace(&mut log.active().file, Arc::new(broken));
    let partition = crate::topic::Partition::new(log);
    assert!(partition.flush().is_err());
    partition.log.lock().active().file = real;
    assert!(partition.flush().is_err(), "the system may have dropped what it did not write");
    assert_eq!(append(&mut partition.log.lock(), &batch(1, 9, NO_PRODUCER)), Err(Code::KafkaStorageError));
}

#[test]
fn records_are_found_by_time_across_segments() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "a");
    for i in 0..60 {
        append(&mut log, &batch(1, i * 10, NO_PRODUCER)).unwrap();
    }
    let at = |t| log.batch_at_time(t).unwrap().map(|batch| batch.record().offset);
    assert_eq!(at(0), Some(0));
    assert_eq!(at(295), Some(30));
    assert_eq!(at(590), Some(59));
    assert_eq!(at(591), None);
    let newest = log.batch_of_max_time().unwrap().unwrap().record();
    assert_eq!((newest.offset, newest.timestamp_ms), (59, 590));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]

    /// A loss of power takes any part of what was not forced to the disk; no offset that anyone was told is given
    /// again, and what is left is a prefix.
    #[test]
    fn a_loss_of_power_never_gives_an_offset_twice(
        boots in proptest::collection::vec((1_i64..40, 0_u64..3_000, 0_usize..3), 1..6),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut told = std::collections::BTreeSet::new();
        for (boot, (count, cut, indexes)) in boots.into_iter().enumerate() {
            let mut log = open(dir.path(), &format!("boot {boot}"));
            for _ in 0..count {
                let offset = append(&mut log, &batch(1, 1, NO_PRODUCER)).unwrap();
                proptest::prop_assert!(told.insert(offset), "{} is given twice", offset);
            }
            let _ = log.take_flush().run();
            drop(log);
            let mut cut = cut;
            for base in segment::bases(dir.path(), "log").unwrap().into_iter().rev() {
                let path = segment::segment_path(dir.path(), base, "log");
                let size = std::fs::metadata(&path).unwrap().len();
                files::open_rw(&path).unwrap().set_len(size - cut.min(size)).unwrap();
                cut = cut.saturating_sub(size);
            }
            for base in segment::bases(dir.path(), "index").unwrap().into_iter().rev().take(indexes) {
                std::fs::remove_file(segment::segment_path(dir.path(), base, "index")).unwrap();
            }
        }
        let log = open(dir.path(), "last");
        let left = offsets(&log, log.start_offset());
        proptest::prop_assert!(left.is_sorted() && left.iter().all(|offset| told.contains(offset)));
    }
}

proptest::proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_part_of_the_file_is_the_beginning_of_what_would_be_read(
        counts in proptest::collection::vec(1..900_u16, 1..60),
        (from, upto) in (0.0..1.0_f64, 0.0..1.2_f64),
        max_bytes in 1..200_000_usize,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), "a");
        let rules = AppendRules { segment_bytes: 1 << 20, ..rules() };
        for count in counts {
            let bytes = batch(i32::from(count), 5, NO_PRODUCER);
            log.append(&Produced::check(&bytes, 1 << 20).unwrap(), &rules).unwrap();
        }
        let end = log.high_watermark() as f64;
        let (from, upto) = ((from * end) as i64, (upto * end) as i64);
        let range = ReadRange { from, upto, max_bytes, ..ANY };
        let segment = &log.segments[0];
        if from < upto && let Some(ReadBatches { batches: slice, end_offset, .. }) = segment.slice(range).unwrap() {
            let part = Records::File(slice).into_bytes().unwrap();
            let ReadBatches { batches: whole, end_offset: whole_end_offset, .. } = segment.read(range).unwrap().unwrap();
            prop_assert!(part.len() <= max_bytes && whole.starts_with(&part));
            prop_assert!(end_offset <= whole_end_offset);
            let mut rest = &part[..];
            let mut behind = from;
            while let Some(header) = BatchHeader::parse(rest) {
                behind = header.last_offset() + 1;
                rest = &rest[header.total_bytes..];
            }
            prop_assert!(rest.is_empty(), "{} bytes behind the last whole batch", rest.len());
            prop_assert_eq!(end_offset, behind);
        }
        let read = log.read(range).unwrap().batches;
        prop_assert_eq!(read.len() == 0, from >= upto);
    }
}
