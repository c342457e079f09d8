//! Transactions: who may write to one, what ends it, and what a loss of power takes that may take the logs and the
//! metadata back to different moments.

mod decided;
mod epochs;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::{Context, Waker};

use super::*;
use crate::group::Identity;
use crate::log::batch::BatchHeader;
use crate::log::batch::tests::{Producer, batch, seal};
use crate::log::produced::Produced;
use crate::log::tests::ANY;
use crate::log::{BootId, ReadRange};
use crate::meta::TxnOffset;
use crate::topic::Waiter;
use crate::{Broker, BrokerConfig};

const ID: &str = "id";
const TOPIC: &str = "t";

fn open(dir: &Path, boot: &str) -> Broker {
    let broker = Broker::open_in_boot(BrokerConfig::new(dir), BootId::named(boot)).unwrap();
    broker.ensure_topic(TOPIC, 1, &[]).unwrap();
    broker
}

/// Writes one record in a transaction that stays open.
fn write(broker: &Broker, producer: ProducerEpoch, sequence: i32) {
    write_to(broker, producer, sequence, (TOPIC, 0));
}

/// Likewise, to a partition.
fn write_to(broker: &Broker, producer: ProducerEpoch, sequence: i32, (topic, partition): (&str, i32)) {
    let inner = broker.inner();
    inner.add_txn_partitions(ID, producer, vec![(topic.to_owned(), partition)]).unwrap();
    let mut bytes = batch(1, 5, Producer { id: producer.0, epoch: producer.1, sequence });
    bytes[22] |= 0x10;
    seal(&mut bytes);
    let rules = inner.topics.get(topic).unwrap().settings().append_rules(5);
    let partition = inner.topics.partition(topic, partition).unwrap();
    partition.log.lock().append(&Produced::check(&bytes, 10_000).unwrap(), &rules).unwrap();
}

/// Offsets of the markers and of the records that a reader of committed data gets.
fn committed(broker: &Broker) -> (Vec<i64>, Vec<i64>) {
    let partition = broker.inner().topics.partition(TOPIC, 0).unwrap();
    let log = partition.log.lock();
    let upto = log.high_watermark();
    assert_eq!(log.last_stable_offset(), upto, "nothing hangs");
    let range = ReadRange { upto, max_bytes: 10_000, ..ANY };
    let bytes = log.read(range).unwrap().batches.into_bytes().unwrap();
    let aborted = log.aborted_in(0, upto);
    let (mut markers, mut records) = (Vec::new(), Vec::new());
    let mut rest = &bytes[..];
    while let Some(header) = BatchHeader::parse(rest) {
        let offset = header.base_offset;
        let is_hidden = aborted.iter().any(|t| (t.first_offset..t.last_offset).contains(&offset));
        match header.is_control() {
            true => markers.push(offset),
            false if header.record_count > 0 && !is_hidden => records.push(offset),
            false => {}
        }
        rest = &rest[header.total_bytes..];
    }
    (markers, records)
}

/// The topic's only segment.
fn segment(dir: &Path) -> PathBuf {
    let topic = std::fs::read_dir(dir.join("topics")).unwrap().next().unwrap().unwrap().path();
    topic.join("0").join(format!("{:020}.log", 0))
}

fn cut(path: &Path, bytes: u64) {
    std::fs::File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

#[test]
fn a_committed_transaction_whose_marker_was_lost_is_committed_again() {
    for kind in [Marker::Commit, Marker::Abort] {
        let dir = tempfile::tempdir().unwrap();
        let broker = open(dir.path(), "a");
        let producer = broker.inner().init_txn_producer(ID, 60_000, (-1, -1)).unwrap();
        write(&broker, producer, 0);
        let before = std::fs::metadata(segment(dir.path())).unwrap().len();
        broker.inner().end_txn(ID, producer, kind).unwrap();
        drop(broker);
        cut(&segment(dir.path()), before);
        let broker = open(dir.path(), "b");
        let (markers, records) = committed(&broker);
        assert_eq!(markers.len(), 1);
        assert_eq!(records, if kind == Marker::Commit { vec![0] } else { vec![] });
    }
}

#[test]
fn a_lost_marker_is_renewed_though_the_next_transaction_has_begun() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let producer = broker.inner().init_txn_producer(ID, 60_000, (-1, -1)).unwrap();
    write(&broker, producer, 0);
    let before = std::fs::metadata(segment(dir.path())).unwrap().len();
    broker.inner().end_txn(ID, producer, Marker::Commit).unwrap();
    write(&broker, producer, 1);
    drop(broker);
    cut(&segment(dir.path()), before);
    let broker = open(dir.path(), "b");
    assert_eq!(committed(&broker).1, [0]);
    broker.inner().end_txn(ID, producer, Marker::Abort).unwrap();
    assert_eq!(committed(&broker).1, [0], "an abort of the next one does not reach back");
}

#[test]
fn records_of_a_transaction_that_the_metadata_lost_are_aborted() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let producer = broker.inner().init_txn_producer(ID, 60_000, (-1, -1)).unwrap();
    write(&broker, producer, 0);
    broker.inner().end_txn(ID, producer, Marker::Commit).unwrap();
    let metadata = dir.path().join("metadata.log");
    let before = std::fs::metadata(&metadata).unwrap().len();
    write(&broker, producer, 1);
    drop(broker);
    cut(&metadata, before);
    let broker = open(dir.path(), "b");
    let (markers, records) = committed(&broker);
    assert_eq!((markers.len(), records), (2, vec![0]));
}

#[test]
fn records_in_a_partition_that_the_metadata_lost_are_aborted_though_the_transaction_is_open_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    broker.ensure_topic("u", 1, &[]).unwrap();
    let producer = broker.inner().init_txn_producer(ID, 60_000, (-1, -1)).unwrap();
    broker.inner().add_txn_partitions(ID, producer, vec![("u".to_owned(), 0)]).unwrap();
    let metadata = dir.path().join("metadata.log");
    let before = std::fs::metadata(&metadata).unwrap().len();
    write(&broker, producer, 0);
    drop(broker);
    cut(&metadata, before);
    let broker = open(dir.path(), "b");
    let (markers, records) = committed(&broker);
    assert_eq!((markers.len(), records), (1, vec![]));
    assert_eq!(broker.inner().txn(ID).unwrap().status, TxnStatus::Ongoing);
}

#[test]
fn an_open_transaction_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let producer = broker.inner().init_txn_producer(ID, 60_000, (-1, -1)).unwrap();
    write(&broker, producer, 0);
    drop(broker);
    let broker = open(dir.path(), "a");
    write(&broker, producer, 1);
    broker.inner().end_txn(ID, producer, Marker::Commit).unwrap();
    assert_eq!(committed(&broker).1, [0, 1]);
}

#[test]
fn a_producer_that_was_replaced_changes_nothing_of_the_open_transaction_of_the_newer_one() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let inner = broker.inner();
    let older = inner.init_txn_producer(ID, 60_000, (-1, -1)).unwrap();
    write(&broker, older, 0);
    let newer = inner.init_txn_producer(ID, 60_000, (-1, -1)).unwrap();
    write(&broker, newer, 0);
    inner.add_txn_group(ID, newer, "g").unwrap();
    let ends = || {
        let partition = inner.topics.partition(TOPIC, 0).unwrap();
        let log = partition.log.lock();
        (log.high_watermark(), log.last_stable_offset())
    };
    let (before, before_ends) = (inner.txn(ID).unwrap(), ends());
    assert_eq!(before_ends.1 + 1, before_ends.0, "a record of it");
    let strangers = [
        (older, Code::ProducerFenced),
        ((newer.0, newer.1 + 1), Code::InvalidProducerEpoch),
        ((newer.0 + 1, newer.1), Code::InvalidProducerIdMapping),
    ];
    for (stranger, code) in strangers {
        for kind in [Marker::Commit, Marker::Abort] {
            assert_eq!(inner.end_txn(ID, stranger, kind), Err(code), "{stranger:?}");
        }
        assert_eq!(inner.add_txn_partitions(ID, stranger, vec![("other".to_owned(), 0)]), Err(code));
        assert_eq!(inner.add_txn_group(ID, stranger, "other"), Err(code));
        let nobody = Identity { member_id: String::new(), instance_id: None, generation: -1 };
        assert_eq!(inner.add_txn_offsets(ID, stranger, ("g", &nobody), Vec::new()), Err(code));
        assert!(inner.check_txn_append(ID, stranger, (TOPIC, 0)).is_err());
    }
    assert_eq!(inner.txn(ID).unwrap(), before);
    assert_eq!(ends(), before_ends, "it is open");
    inner.end_txn(ID, newer, Marker::Commit).unwrap();
    assert_eq!(committed(&broker).1, [before_ends.1]);
}

#[test]
fn a_transaction_that_has_ended_ends_again_only_the_same_way() {
    for (kind, other) in [(Marker::Commit, Marker::Abort), (Marker::Abort, Marker::Commit)] {
        let dir = tempfile::tempdir().unwrap();
        let broker = open(dir.path(), "a");
        let inner = broker.inner();
        let producer = inner.init_txn_producer(ID, 60_000, (-1, -1)).unwrap();
        write(&broker, producer, 0);
        assert_eq!(inner.end_txn(ID, producer, kind), Ok(()));
        assert_eq!(inner.end_txn(ID, producer, kind), Ok(()), "its answer was lost");
        assert_eq!(inner.end_txn(ID, producer, other), Err(Code::InvalidTxnState));
    }
}

/// Offset 5 of a partition for a group.
fn offset_of(group: &str, partition: i32) -> TxnOffset {
    let committed = CommittedOffset { offset: 5, metadata: String::new(), committed_ms: 1, leader_epoch: -1 };
    TxnOffset { group: group.to_owned(), topic: TOPIC.to_owned(), partition, committed }
}

#[test]
fn offsets_are_unstable_for_the_group_alone_that_the_open_transaction_has_them_of() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let inner = broker.inner();
    let producer = inner.init_txn_producer(ID, 60_000, (-1, -1)).unwrap();
    let nobody = Identity { member_id: String::new(), instance_id: None, generation: -1 };
    for (group, partition) in [("g", 0), ("h", 1)] {
        inner.add_txn_group(ID, producer, group).unwrap();
        inner.add_txn_offsets(ID, producer, (group, &nobody), vec![offset_of(group, partition)]).unwrap();
    }
    let unstable = || ["g", "h", "i"].map(|group| inner.unstable_offsets(group));
    assert_eq!(
        unstable(),
        [BTreeSet::from([(TOPIC.to_owned(), 0)]), BTreeSet::from([(TOPIC.to_owned(), 1)]), BTreeSet::new()]
    );
    inner.end_txn(ID, producer, Marker::Commit).unwrap();
    assert!(unstable().iter().all(BTreeSet::is_empty));
}

#[test]
fn a_transaction_is_as_old_as_its_first_partition_or_group() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let inner = broker.inner();
    let producer = inner.init_txn_producer(ID, 60_000, (-1, -1)).unwrap();
    let later = || {
        let begun_ms = inner.txn(ID).unwrap().begun_ms;
        while crate::now_ms() <= begun_ms {
            std::hint::spin_loop();
        }
        begun_ms
    };
    write(&broker, producer, 0);
    let begun_ms = later();
    inner.add_txn_group(ID, producer, "g").unwrap();
    inner.expire_txns(begun_ms + 60_000);
    assert_eq!((later(), inner.txn(ID).unwrap().status), (begun_ms, TxnStatus::Ongoing));
    inner.expire_txns(begun_ms + 60_001);
    assert_eq!(inner.txn(ID).unwrap().status, TxnStatus::Aborted, "its time is over");
}

#[test]
fn a_reader_that_waits_is_woken_when_a_transaction_ends() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let producer = broker.inner().init_txn_producer(ID, 60_000, (-1, -1)).unwrap();
    write(&broker, producer, 0);
    let mut reader = Waiter::default();
    reader.register(&broker.inner().topics.partition(TOPIC, 0).unwrap());
    let is_woken = || pin!(reader.woken()).poll(&mut Context::from_waker(Waker::noop())).is_ready();
    assert!(!is_woken());
    broker.inner().end_txn(ID, producer, Marker::Commit).unwrap();
    assert!(is_woken());
}

#[test]
fn a_producer_that_says_who_it_is_gets_its_answer_again_until_it_has_used_it() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let init = |claimed| broker.inner().init_txn_producer(ID, 60_000, claimed);
    let first = init((-1, -1)).unwrap();
    let next = init(first).unwrap();
    assert_eq!(next, (first.0, first.1 + 1));
    assert_eq!(init(first), Ok(next), "the answer was lost");
    write(&broker, next, 0);
    assert_eq!(init(first), Err(Code::ProducerFenced), "somebody has it");
    assert_eq!(broker.inner().txn(ID).unwrap().status, TxnStatus::Ongoing);
}

#[test]
fn offsets_of_an_aborted_transaction_are_not_committed_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let inner = broker.inner();
    let producer = inner.init_txn_producer(ID, 60_000, (-1, -1)).unwrap();
    let nobody = Identity { member_id: String::new(), instance_id: None, generation: -1 };
    for (partition, kind) in [(0, Marker::Abort), (1, Marker::Commit)] {
        inner.add_txn_group(ID, producer, "g").unwrap();
        inner.add_txn_offsets(ID, producer, ("g", &nobody), vec![offset_of("g", partition)]).unwrap();
        inner.end_txn(ID, producer, kind).unwrap();
    }
    let meta = inner.meta.lock();
    assert_eq!(meta.state().groups["g"][TOPIC].keys().copied().collect::<Vec<_>>(), [1]);
}

#[test]
fn offsets_of_a_group_are_taken_only_by_the_transaction_that_has_the_group() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let inner = broker.inner();
    let producer = inner.init_txn_producer(ID, 60_000, (-1, -1)).unwrap();
    let nobody = Identity { member_id: String::new(), instance_id: None, generation: -1 };
    let takes = || inner.add_txn_offsets(ID, producer, ("g", &nobody), Vec::new());
    inner.add_txn_group(ID, producer, "g").unwrap();
    assert_eq!(takes(), Ok(()));
    inner.end_txn(ID, producer, Marker::Commit).unwrap();
    assert_eq!(takes(), Err(Code::InvalidTxnState), "none is open");
    write(&broker, producer, 0);
    assert_eq!(takes(), Err(Code::InvalidTxnState), "the group was of the one before");
}

#[test]
fn a_partition_to_which_a_transaction_wrote_nothing_gets_no_marker() {
    for kind in [Marker::Commit, Marker::Abort] {
        let dir = tempfile::tempdir().unwrap();
        let broker = open(dir.path(), "a");
        let inner = broker.inner();
        let producer = inner.init_txn_producer(ID, 60_000, (-1, -1)).unwrap();
        inner.add_txn_partitions(ID, producer, vec![(TOPIC.to_owned(), 0)]).unwrap();
        inner.end_txn(ID, producer, kind).unwrap();
        assert_eq!(committed(&broker), (vec![], vec![]));
    }
}

#[test]
fn of_the_markers_in_a_partition_the_newest_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let producer = broker.inner().init_txn_producer(ID, 60_000, (-1, -1)).unwrap();
    for sequence in 0..3 {
        write(&broker, producer, sequence);
        broker.inner().end_txn(ID, producer, Marker::Commit).unwrap();
    }
    let known: Vec<i64> = broker.inner().txn(ID).unwrap().markers.iter().map(|marker| marker.offset).collect();
    assert_eq!(known, [5]);
}

#[test]
fn only_a_partition_that_is_in_the_open_transaction_takes_records_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let inner = broker.inner();
    let producer = inner.init_txn_producer(ID, 60_000, (-1, -1)).unwrap();
    write(&broker, producer, 0);
    let takes = |at| inner.check_txn_append(ID, producer, at);
    assert_eq!(takes((TOPIC, 0)), Ok(()));
    assert_eq!([takes((TOPIC, 1)), takes(("other", 0))], [Err(Code::InvalidTxnState); 2]);
    inner.end_txn(ID, producer, Marker::Commit).unwrap();
    assert_eq!(takes((TOPIC, 0)), Err(Code::InvalidTxnState));
}

#[test]
fn topics_that_lost_metadata_does_not_name_are_put_aside_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let name = segment(dir.path()).parent().unwrap().parent().unwrap().file_name().unwrap().to_owned();
    drop(broker);
    std::fs::remove_file(dir.path().join("metadata.log")).unwrap();
    drop(Broker::open_in_boot(BrokerConfig::new(dir.path()), BootId::named("a")).unwrap());
    assert!(dir.path().join("strays").join(&name).join("0").is_dir());
    drop(Broker::open_in_boot(BrokerConfig::new(dir.path()), BootId::named("a")).unwrap());
    assert!(dir.path().join("strays").join(&name).is_dir());
}

#[test]
fn a_producer_whose_epochs_are_used_up_but_one_gets_another_id() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let inner = broker.inner();
    let init = || inner.init_txn_producer(ID, 60_000, (-1, -1)).unwrap();
    let (id, _) = init();
    inner.store_txn(ID, &TxnMeta { epoch: i16::MAX - 3, ..inner.txn(ID).unwrap() }).unwrap();
    assert_eq!(init(), (id, i16::MAX - 2));
    let (next, epoch) = init();
    assert!(next != id && epoch == 0, "the last epoch is left for fencing: {next} {epoch}");
}
