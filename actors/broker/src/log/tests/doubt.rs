//! Files that cannot be what they say: what recovery makes of them.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use super::super::batch::tests::batch_of;
use super::super::codec::Codec;
use super::super::compact::compact;
use super::super::records::tests::keyed;
use super::super::segment::{bases, segment_path};
use super::super::varint::Varint;
use super::damage::{COMPACT_ALL, check, read, segment_files, written};
use super::*;

/// A batch of one record whose value is these bytes.
fn wrapping(value: &[u8]) -> Vec<u8> {
    let long = |number: usize| Varint::of(i64::try_from(number).unwrap());
    // Attributes, time, offset, no key; behind the value, no headers.
    let body = [&[0, 0, 0, 1], long(value.len()).bytes(), value, &[0]].concat();
    batch_of(1, (5, 5), NO_PRODUCER, (0, &[long(body.len()).bytes(), &body].concat()))
}

fn at(base_offset: i64) -> Vec<u8> {
    let mut bytes = batch(1, 9, NO_PRODUCER);
    bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
    bytes
}

#[test]
fn batches_inside_a_value_are_not_taken_for_those_of_the_log_though_its_offset_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "a");
    let plain = batch(1, 5, NO_PRODUCER);
    let outer = wrapping(&[at(1), at(2)].concat());
    let batches = [plain.clone(), outer.clone(), plain.clone(), plain.clone()];
    let written: BTreeMap<i64, Vec<u8>> =
        batches.into_iter().map(|bytes| (append(&mut log, &bytes).unwrap(), bytes)).collect();
    log.close().unwrap();
    drop(log);
    let file = &segment_files(dir.path())[0];
    let mut content = std::fs::read(file).unwrap();
    // The offset of the second batch, which no checksum covers, and a record of the third.
    content[plain.len() + 6] ^= 1;
    content[plain.len() + outer.len() + 65] ^= 1;
    std::fs::write(file, content).unwrap();
    for base in bases(dir.path(), "index").unwrap() {
        std::fs::remove_file(segment_path(dir.path(), base, "index")).unwrap();
    }
    assert_eq!(check(&open(dir.path(), "a"), &written), [1, 2]);
}

#[test]
fn a_batch_inside_the_last_value_is_not_taken_for_the_end_of_a_log_that_ended_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "a");
    let (plain, inner) = (batch(1, 5, NO_PRODUCER), at(1));
    let (last, value) = inner.split_last().unwrap();
    assert_eq!(*last, 0, "the end of the record around it is that of its own");
    let outer = wrapping(value);
    let batches = [plain.clone(), outer.clone(), plain.clone()];
    let written: BTreeMap<i64, Vec<u8>> =
        batches.into_iter().map(|bytes| (append(&mut log, &bytes).unwrap(), bytes)).collect();
    log.close().unwrap();
    drop(log);
    let file = &segment_files(dir.path())[0];
    let mut content = std::fs::read(file).unwrap();
    content.truncate(plain.len() + outer.len());
    content[plain.len() + 18] ^= 1;
    std::fs::write(file, content).unwrap();
    for base in bases(dir.path(), "index").unwrap() {
        std::fs::remove_file(segment_path(dir.path(), base, "index")).unwrap();
    }
    assert_eq!(check(&open(dir.path(), "a"), &written), [1, 2]);
}

#[test]
fn a_damaged_end_of_which_no_mark_tells_is_declared_and_its_offsets_are_not_given_again() {
    let dir = tempfile::tempdir().unwrap();
    append_many(&mut open(dir.path(), "a"), 5);
    std::fs::write(dir.path().join("reserved"), b"?").unwrap();
    let file = &segment_files(dir.path())[0];
    let mut content = std::fs::read(file).unwrap();
    *content.last_mut().unwrap() ^= 1;
    std::fs::write(file, content).unwrap();
    let mut log = open(dir.path(), "a");
    let lost: Vec<_> = log.lost().iter().map(|range| (range.first_offset, range.last_offset)).collect();
    assert_eq!(lost, [(4, 3 + RESERVE_AHEAD)], "more may have been given");
    assert!(append(&mut log, &batch(1, 9, NO_PRODUCER)).unwrap() >= 4 + RESERVE_AHEAD);
}

#[test]
fn a_damaged_snapshot_of_producers_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), "a");
    append(&mut log, &batch(1, 5, Producer { id: 9, epoch: 0, sequence: 0 })).unwrap();
    append_many(&mut log, 40);
    log.take_flush().run().unwrap();
    drop(log);
    let snapshots = bases(dir.path(), "producers").unwrap();
    let newest = segment_path(dir.path(), *snapshots.last().unwrap(), "producers");
    let (crc, body) = std::fs::read(&newest).map(|content| (content[..4].to_vec(), content[4..].to_vec())).unwrap();
    let body = String::from_utf8(body).unwrap();
    let changed = body.replace("\"epoch\":0", "\"epoch\":7");
    assert_ne!(changed, body);
    std::fs::write(newest, [crc, changed.into_bytes()].concat()).unwrap();
    assert_eq!(open(dir.path(), "a").producers().epoch(9), Some(0));
}

#[test]
fn files_of_segments_that_are_gone_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    append_many(&mut open(dir.path(), "a"), 40);
    let strays = ["index", "producers"].map(|extension| segment_path(dir.path(), 3, extension));
    for stray in &strays {
        std::fs::write(stray, b"").unwrap();
    }
    let before = bases(dir.path(), "producers").unwrap();
    open(dir.path(), "a");
    assert!(strays.iter().all(|stray| !stray.exists()));
    assert_eq!(
        bases(dir.path(), "producers").unwrap(),
        before.into_iter().filter(|base| *base != 3).collect::<Vec<_>>()
    );
}

#[test]
fn a_segment_that_is_gone_with_its_index_is_declared_though_the_files_beside_it_are_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, batches) = written(dir.path(), &[2; 30]);
    log.close().unwrap();
    let gone = log.segments[1].base..log.segments[2].base;
    drop(log);
    for extension in ["log", "index", "producers"] {
        std::fs::remove_file(segment_path(dir.path(), gone.start, extension)).unwrap();
    }
    assert_eq!(check(&open(dir.path(), "a"), &batches), gone.step_by(2).collect::<Vec<_>>());
}

#[test]
fn an_index_file_from_before_a_compaction_is_no_word_of_a_loss_where_the_process_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = written(dir.path(), &[1; 60]);
    log.roll().unwrap();
    let before: Vec<_> = log.segments.iter().map(|segment| (segment.base, segment.sealed().encode())).collect();
    let log = Mutex::new(log);
    compact(&log, &COMPACT_ALL, 100, &AtomicBool::new(false)).unwrap().unwrap();
    log.lock().take_flush().run().unwrap();
    let left = read(&log.lock());
    drop(log);
    for (base, index) in before.into_iter().filter(|(base, _)| segment_path(dir.path(), *base, "log").exists()) {
        std::fs::write(segment_path(dir.path(), base, "index"), index).unwrap();
    }
    let log = open(dir.path(), "a");
    assert!(log.lost().iter().next().is_none(), "{:?}", log.lost());
    assert_eq!(read(&log), left);
    assert!(log.segments.windows(2).all(|two| two[0].next_offset == two[1].base));
}

#[test]
fn records_of_a_repaired_segment_are_as_old_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, batches) = written(dir.path(), &[2; 30]);
    log.close().unwrap();
    drop(log);
    let file = &segment_files(dir.path())[0];
    let mut content = std::fs::read(file).unwrap();
    content[30] ^= 1;
    std::fs::write(file, content).unwrap();
    let last_write = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    std::fs::File::options().write(true).open(file).unwrap().set_modified(last_write).unwrap();
    assert_eq!(check(&open(dir.path(), "a"), &batches), [0]);
    assert_eq!(file.metadata().unwrap().modified().unwrap(), last_write);
}

/// A log that was closed with batches of one record behind the 60 offsets that were compacted.
fn compacted(dir: &Path, behind: i64) -> PartitionLog {
    let (mut log, _) = written(dir, &[1; 60]);
    log.roll().unwrap();
    let log = Mutex::new(log);
    compact(&log, &COMPACT_ALL, 100, &AtomicBool::new(false)).unwrap().unwrap();
    let mut log = log.into_inner();
    append_many(&mut log, behind);
    log.take_flush().run().unwrap();
    log.close().unwrap();
    log
}

#[test]
fn a_segment_that_is_gone_from_a_compacted_log_is_declared_where_the_log_was_closed() {
    for is_first in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let log = compacted(dir.path(), 40);
        let at = if is_first { 0 } else { log.segments.len() - 3 };
        let gone = log.segments[at].base..log.segments[at + 1].base;
        drop(log);
        for extension in ["log", "index"] {
            std::fs::remove_file(segment_path(dir.path(), gone.start, extension)).unwrap();
        }
        let log = open(dir.path(), "a");
        let lost: Vec<_> = log.lost().iter().map(|range| range.first_offset..range.last_offset + 1).collect();
        assert_eq!(lost, [gone]);
        assert!(log.segments.windows(2).all(|two| two[0].next_offset == two[1].base));
    }
}

#[test]
fn a_batch_that_is_gone_from_the_newest_segment_is_lost_also_in_a_log_that_is_compacted() {
    let dir = tempfile::tempdir().unwrap();
    drop(compacted(dir.path(), 3));
    let file = segment_files(dir.path()).pop().unwrap();
    let content = std::fs::read(&file).unwrap();
    let batch = content.len() / 3;
    std::fs::write(&file, [&content[..batch], &content[2 * batch..]].concat()).unwrap();
    let log = open(dir.path(), "a");
    // The checksum does not cover the offset of a batch, so the one behind the hole may be lost as well.
    assert_eq!(log.lost().iter().next().map(|range| range.first_offset), Some(61));
}

#[test]
fn a_record_with_the_key_of_a_marker_is_none_when_its_log_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = |sequence| {
        let producer = Producer { id: 4, epoch: 0, sequence };
        keyed(&[(Some("\0\0\0\u{1}"), Some("\0\0\0\0\0\0"))], Codec::None, producer)
    };
    append(&mut open(dir.path(), "a"), &bytes(0)).unwrap();
    let mut log = open(dir.path(), "a");
    assert_eq!(append(&mut log, &bytes(1)), Ok(1), "the sequence goes on");
}
