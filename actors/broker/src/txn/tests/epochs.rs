//! Who a transactional producer is: its epochs, its time, and when it is forgotten.

use super::*;

fn init(broker: &Broker) -> ProducerEpoch {
    broker.inner().init_txn_producer(ID, 60_000, (-1, -1)).unwrap()
}

#[test]
fn a_transaction_that_took_too_long_is_aborted_and_its_producer_fenced() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let inner = broker.inner();
    let producer = init(&broker);
    let before_ms = crate::now_ms();
    write(&broker, producer, 0);
    let begun_ms = inner.txn(ID).unwrap().begun_ms;
    assert!(begun_ms >= before_ms);
    inner.expire_txns(begun_ms + 60_001);
    let txn = inner.txn(ID).unwrap();
    assert_eq!((txn.status, txn.epoch), (TxnStatus::Aborted, producer.1 + 1));
    assert_eq!(inner.end_txn(ID, producer, Marker::Commit), Err(Code::ProducerFenced));
    assert_eq!(committed(&broker), (vec![1], vec![]));
    let known = inner.topics.partition(TOPIC, 0).unwrap().log.lock().producers().epoch(producer.0);
    assert_eq!(known, Some(producer.1 + 1), "the partition refuses its records too");
}

#[test]
fn a_producer_that_replaces_another_gets_the_epoch_above_and_ends_its_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let first = init(&broker);
    assert_eq!(first.1, 0);
    write(&broker, first, 0);
    let second = init(&broker);
    assert_eq!(second, (first.0, 1));
    assert_eq!(committed(&broker), (vec![1], vec![]));
    write(&broker, second, 0);
    // The present one asks for another epoch itself.
    let third = broker.inner().init_txn_producer(ID, 60_000, second).unwrap();
    assert_eq!(third, (first.0, 2));
    assert_eq!(committed(&broker), (vec![1, 3], vec![]));
    assert_eq!(broker.inner().init_txn_producer(ID, 60_000, second), Ok(third), "the answer was lost");
    let stranger = (first.0, 7);
    assert_eq!(broker.inner().init_txn_producer(ID, 60_000, stranger), Err(Code::ProducerFenced));
}

#[test]
fn a_producer_that_begins_anew_has_no_transaction_that_ended() {
    for kind in [Marker::Commit, Marker::Abort] {
        let dir = tempfile::tempdir().unwrap();
        let broker = open(dir.path(), "a");
        let first = init(&broker);
        write(&broker, first, 0);
        broker.inner().end_txn(ID, first, kind).unwrap();
        let second = init(&broker);
        assert_eq!(broker.inner().end_txn(ID, second, kind), Err(Code::InvalidTxnState));
    }
}

#[test]
fn one_that_replaces_another_is_not_told_what_the_other_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let first = init(&broker);
    init(&broker);
    assert_eq!(broker.inner().init_txn_producer(ID, 60_000, first), Err(Code::ProducerFenced));
}

#[test]
fn a_batch_of_a_fenced_producer_and_one_of_nobody_are_refused_in_the_words_that_clients_know() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let older = init(&broker);
    let newer = init(&broker);
    write(&broker, newer, 0);
    broker.inner().add_txn_partitions(ID, newer, vec![("u".to_owned(), 3)]).unwrap();
    let takes = |id, producer| broker.inner().check_txn_append(id, producer, (TOPIC, 0));
    assert_eq!(takes(ID, older), Err(Code::InvalidProducerEpoch));
    assert_eq!(takes(ID, (newer.0, newer.1 + 1)), Err(Code::InvalidProducerEpoch));
    assert_eq!(takes(ID, (newer.0 + 1, newer.1)), Err(Code::InvalidProducerIdMapping));
    assert_eq!(takes(ID, (newer.0 + 1, older.1)), Err(Code::InvalidProducerIdMapping));
    assert_eq!(takes("nobody", newer), Err(Code::InvalidProducerIdMapping));
    assert_eq!(takes(ID, newer), Ok(()));
}

#[test]
fn a_time_out_is_within_its_bounds_and_the_newest_one_holds() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let inner = broker.inner();
    for timeout_ms in [-1, 0, MAX_TIMEOUT_MS + 1] {
        assert_eq!(inner.init_txn_producer(ID, timeout_ms, (-1, -1)), Err(Code::InvalidTransactionTimeout));
    }
    assert_eq!(inner.txn(ID), Err(Code::InvalidProducerIdMapping), "nobody is remembered");
    for timeout_ms in [1, MAX_TIMEOUT_MS, 5_000] {
        inner.init_txn_producer(ID, timeout_ms, (-1, -1)).unwrap();
        assert_eq!(inner.txn(ID).unwrap().timeout_ms, timeout_ms);
    }
}

#[test]
fn an_id_is_forgotten_once_nobody_used_it_for_a_week() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let inner = broker.inner();
    let stale = |status| {
        init(&broker);
        inner.store_txn(ID, &TxnMeta { status, updated_ms: 1_000, ..inner.txn(ID).unwrap() }).unwrap();
    };
    for status in [TxnStatus::Empty, TxnStatus::Committed, TxnStatus::Aborted] {
        stale(status);
        inner.expire_txns(1_000 + ID_EXPIRY_MS);
        assert_eq!(inner.txn(ID).unwrap().status, status);
        inner.expire_txns(1_001 + ID_EXPIRY_MS);
        assert_eq!(inner.txn(ID), Err(Code::InvalidProducerIdMapping));
    }
    type Use = fn(&Broker, ProducerEpoch);
    let uses: [Use; 3] = [
        |broker, _| assert_eq!(init(broker).1, 1),
        |broker, producer| broker.inner().add_txn_group(ID, producer, "g").unwrap(),
        |broker, producer| broker.inner().end_txn(ID, producer, Marker::Abort).unwrap(),
    ];
    for used in uses {
        let producer = init(&broker);
        inner.add_txn_group(ID, producer, "g").unwrap();
        inner.store_txn(ID, &TxnMeta { updated_ms: 1_000, ..inner.txn(ID).unwrap() }).unwrap();
        used(&broker, producer);
        assert!(inner.txn(ID).unwrap().updated_ms > 1_000, "it was used");
    }
}

#[test]
fn an_administrator_ends_a_transaction_that_hangs_but_not_that_of_a_newer_producer() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let inner = broker.inner();
    init(&broker);
    let producer = init(&broker);
    write(&broker, producer, 0);
    let ends = |producer, partition| inner.end_hanging(producer, (TOPIC, partition), Marker::Abort);
    let is_open = || inner.topics.partition(TOPIC, 0).unwrap().log.lock().producers().is_open(producer.0);
    assert_eq!(ends((producer.0, producer.1 - 1), 0), Err(Code::InvalidProducerEpoch));
    assert_eq!(ends(producer, 1), Err(Code::UnknownTopicOrPartition));
    assert_eq!(ends((producer.0 + 9, 0), 0), Ok(()), "nothing of it hangs");
    assert!(is_open());
    assert_eq!(ends(producer, 0), Ok(()));
    assert!(!is_open());
    assert_eq!(committed(&broker), (vec![1], vec![]));
}

#[test]
fn an_offset_that_is_sent_again_in_a_transaction_takes_the_place_of_the_earlier_one_alone() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let inner = broker.inner();
    let producer = init(&broker);
    let nobody = Identity { member_id: String::new(), instance_id: None, generation: -1 };
    let of = |topic: &str, partition, offset| {
        let mut sent = offset_of("g", partition);
        (sent.topic, sent.committed.offset) = (topic.to_owned(), offset);
        sent
    };
    let adds = |group: &str, offsets: Vec<TxnOffset>| {
        inner.add_txn_group(ID, producer, group).unwrap();
        inner.add_txn_offsets(ID, producer, (group, &nobody), offsets).unwrap();
    };
    adds("h", vec![TxnOffset { group: "h".to_owned(), ..of("t", 0, 4) }]);
    adds("g", vec![of("t", 0, 1), of("t", 1, 2), of("u", 0, 3)]);
    adds("g", vec![of("t", 0, 9)]);
    let known: Vec<_> = inner.txn(ID).unwrap().offsets;
    let known: Vec<_> = known.iter().map(|o| (&*o.group, &*o.topic, o.partition, o.committed.offset)).collect();
    assert_eq!(known, [("h", "t", 0, 4), ("g", "t", 1, 2), ("g", "u", 0, 3), ("g", "t", 0, 9)]);
    inner.end_txn(ID, producer, Marker::Commit).unwrap();
    let meta = inner.meta.lock();
    let stored = |group: &str, topic: &str, partition: i32| meta.state().groups[group][topic][&partition].offset;
    assert_eq!([stored("h", "t", 0), stored("g", "t", 0), stored("g", "t", 1), stored("g", "u", 0)], [4, 9, 2, 3]);
}

#[test]
fn offsets_of_a_member_that_its_group_does_not_know_are_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let inner = broker.inner();
    let producer = init(&broker);
    inner.add_txn_group(ID, producer, "g").unwrap();
    let stranger = Identity { member_id: "m".to_owned(), instance_id: None, generation: 3 };
    let refused = inner.add_txn_offsets(ID, producer, ("g", &stranger), vec![offset_of("g", 0)]);
    assert_eq!(refused, Err(Code::UnknownMemberId));
    assert_eq!(inner.txn(ID).unwrap().offsets, []);
}

#[test]
fn one_transactional_id_more_than_may_be_is_refused_and_those_that_are_known_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let inner = broker.inner();
    let first = init(&broker);
    for n in 2..MAX_IDS {
        inner.store_txn(&n.to_string(), &TxnMeta::new(0, 60_000)).unwrap();
    }
    let new = |id| inner.init_txn_producer(id, 60_000, (-1, -1));
    assert!(new("the last").is_ok());
    assert_eq!(new("one more"), Err(Code::PolicyViolation));
    assert_eq!(init(&broker), (first.0, first.1 + 1));
}
