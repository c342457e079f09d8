//! Files that cannot be what they say: what recovery makes of them.

use std::collections::BTreeMap;

use super::super::batch::tests::batch_of;
use super::super::segment::{bases, segment_path};
use super::super::varint::Varint;
use super::damage::{check, segment_files};
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
