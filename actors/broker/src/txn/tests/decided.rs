//! A transaction between its decision and its end.

use super::*;

/// Stores a decision that nobody carried out: one record in a partition, and offset 5 of group `g`.
fn decide_only(broker: &Broker, status: TxnStatus) -> ProducerEpoch {
    let inner = broker.inner();
    let producer = inner.init_txn_producer(ID, 60_000, (-1, -1)).unwrap();
    write(broker, producer, 0);
    let mut txn = inner.txn(ID).unwrap();
    txn.status = status;
    txn.groups = ["g".to_owned()].into();
    txn.offsets = vec![offset_of("g", 0)];
    inner.store_txn(ID, &txn).unwrap();
    producer
}

/// Checks that the decision was carried out, once.
fn check_done(broker: &Broker, kind: Marker) {
    let (status, records, offsets) = match kind {
        Marker::Commit => (TxnStatus::Committed, vec![0], 1),
        Marker::Abort => (TxnStatus::Aborted, vec![], 0),
    };
    assert_eq!(committed(broker), (vec![1], records));
    let txn = broker.inner().txn(ID).unwrap();
    assert_eq!((txn.status, txn.partitions.len(), txn.offsets.len(), txn.groups.len()), (status, 0, 0, 0));
    let meta = broker.inner().meta.lock();
    assert_eq!(meta.state().groups.get("g").map_or(0, |topics| topics.len()), offsets);
}

const DECISIONS: [(TxnStatus, Marker, Marker); 2] = [
    (TxnStatus::PrepareCommit, Marker::Commit, Marker::Abort),
    (TxnStatus::PrepareAbort, Marker::Abort, Marker::Commit),
];

#[test]
fn a_decision_that_was_not_carried_out_is_carried_out_at_the_next_start() {
    for (status, kind, _) in DECISIONS {
        let dir = tempfile::tempdir().unwrap();
        let broker = open(dir.path(), "a");
        decide_only(&broker, status);
        drop(broker);
        check_done(&open(dir.path(), "a"), kind);
    }
}

#[test]
fn a_decision_that_was_not_carried_out_is_carried_out_while_the_broker_runs() {
    for (status, kind, _) in DECISIONS {
        let dir = tempfile::tempdir().unwrap();
        let broker = open(dir.path(), "a");
        decide_only(&broker, status);
        broker.inner().expire_txns(0);
        check_done(&broker, kind);
    }
}

#[test]
fn a_decision_is_carried_out_for_the_producer_that_repeats_it_and_is_never_turned() {
    for (status, kind, other) in DECISIONS {
        let dir = tempfile::tempdir().unwrap();
        let broker = open(dir.path(), "a");
        let producer = decide_only(&broker, status);
        assert_eq!(broker.inner().end_txn(ID, producer, other), Err(Code::InvalidTxnState));
        assert_eq!(broker.inner().txn(ID).unwrap().status, status);
        assert_eq!(broker.inner().end_txn(ID, producer, kind), Ok(()));
        check_done(&broker, kind);
    }
}

#[test]
fn a_decided_transaction_takes_nothing_more_and_no_new_producer_until_its_end() {
    for (status, ..) in DECISIONS {
        let dir = tempfile::tempdir().unwrap();
        let broker = open(dir.path(), "a");
        let producer = decide_only(&broker, status);
        let inner = broker.inner();
        let decided = inner.txn(ID).unwrap();
        let wait = Code::ConcurrentTransactions;
        assert_eq!(inner.add_txn_partitions(ID, producer, vec![(TOPIC.to_owned(), 0)]), Err(wait));
        assert_eq!(inner.add_txn_group(ID, producer, "h"), Err(wait));
        for claimed in [(-1, -1), producer] {
            assert_eq!(inner.init_txn_producer(ID, 60_000, claimed), Err(wait));
        }
        let nobody = Identity { member_id: String::new(), instance_id: None, generation: -1 };
        let offsets = vec![offset_of("g", 1)];
        assert_eq!(inner.add_txn_offsets(ID, producer, ("g", &nobody), offsets), Err(Code::InvalidTxnState));
        assert_eq!(inner.check_txn_append(ID, producer, (TOPIC, 0)), Err(Code::InvalidTxnState));
        assert_eq!(inner.txn(ID).unwrap(), decided);
        assert_eq!(
            inner.unstable_offsets("g"),
            BTreeSet::from([(TOPIC.to_owned(), 0)]),
            "its offsets are on their way"
        );
    }
}

#[test]
fn a_commit_is_not_decided_before_its_records_are_on_the_disk() {
    let usual = BrokerConfig::new("").fsync;
    assert_ne!(usual, Fsync::Never);
    let cases = [
        (usual, Marker::Commit, TxnStatus::Ongoing),
        (usual, Marker::Abort, TxnStatus::PrepareAbort),
        (Fsync::Never, Marker::Commit, TxnStatus::PrepareCommit),
    ];
    for (fsync, kind, status) in cases {
        let dir = tempfile::tempdir().unwrap();
        let config = BrokerConfig { fsync, ..BrokerConfig::new(dir.path()) };
        let broker = Broker::open_in_boot(config, BootId::named("a")).unwrap();
        broker.ensure_topic(TOPIC, 1, &[]).unwrap();
        let inner = broker.inner();
        let producer = inner.init_txn_producer(ID, 60_000, (-1, -1)).unwrap();
        write(&broker, producer, 0);
        // As after a sync that failed.
        inner.topics.partition(TOPIC, 0).unwrap().log.lock().make_read_only();
        assert_eq!(inner.end_txn(ID, producer, kind), Err(Code::KafkaStorageError));
        assert_eq!(inner.txn(ID).unwrap().status, status, "{kind:?}");
    }
}

#[test]
fn a_transaction_ends_though_one_of_its_topics_was_deleted() {
    for kind in [Marker::Commit, Marker::Abort] {
        let dir = tempfile::tempdir().unwrap();
        let broker = open(dir.path(), "a");
        let inner = broker.inner();
        let producer = inner.init_txn_producer(ID, 60_000, (-1, -1)).unwrap();
        inner.add_txn_partitions(ID, producer, vec![("gone".to_owned(), 0)]).unwrap();
        write(&broker, producer, 0);
        assert_eq!(inner.end_txn(ID, producer, kind), Ok(()));
        assert_eq!(committed(&broker).0, [1]);
    }
}

#[test]
fn each_partition_of_a_transaction_has_its_marker_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let inner = broker.inner();
    broker.ensure_topic("u", 2, &[]).unwrap();
    let producer = inner.init_txn_producer(ID, 60_000, (-1, -1)).unwrap();
    let places = [(TOPIC, 0), ("u", 0), ("u", 1)];
    for (topic, partition) in places {
        write_to(&broker, producer, 0, (topic, partition));
    }
    inner.end_txn(ID, producer, Marker::Commit).unwrap();
    let markers = || -> Vec<(String, i32, i64, bool)> {
        let known = inner.txn(ID).unwrap().markers.into_iter();
        known.map(|marker| (marker.topic, marker.partition, marker.offset, marker.is_commit)).collect()
    };
    let marker = |(topic, partition): (&str, i32)| (topic.to_owned(), partition, 1, true);
    assert_eq!(markers(), places.map(marker));
    write_to(&broker, producer, 1, ("u", 0));
    inner.end_txn(ID, producer, Marker::Abort).unwrap();
    assert_eq!(markers(), [marker(places[0]), marker(places[2]), ("u".to_owned(), 0, 3, false)]);
}

#[test]
fn a_start_writes_no_marker_that_its_log_has() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), "a");
    let producer = broker.inner().init_txn_producer(ID, 60_000, (-1, -1)).unwrap();
    write(&broker, producer, 0);
    broker.inner().end_txn(ID, producer, Marker::Commit).unwrap();
    drop(broker);
    // Records that came behind it, of a transaction that goes on.
    let broker = open(dir.path(), "a");
    assert_eq!(committed(&broker), (vec![1], vec![0]));
    write(&broker, producer, 1);
    drop(broker);
    let broker = open(dir.path(), "a");
    broker.inner().end_txn(ID, producer, Marker::Abort).unwrap();
    assert_eq!(committed(&broker), (vec![1, 3], vec![0]));
}
