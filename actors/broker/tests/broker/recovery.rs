//! Starts after crashes: nothing acknowledged is lost, nothing is taken for what it is not.

use std::io::Write;
use std::path::{Path, PathBuf};

use streamward_broker::{Broker, BrokerConfig, Damage, Fsync, OpenError};

use crate::support::Server;

/// Files with an extension below a folder, in order.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn records_outlive_a_crash_in_every_sync_mode() {
    for fsync in [Fsync::Never, Fsync::EveryBatch, Fsync::Interval(std::time::Duration::from_secs(1))] {
        let server = Server::start_with(|c| c.fsync = fsync);
        let id = server.broker.cluster_id().to_owned();
        let producer = server.producer(&[]);
        server.send(&producer, ("t", 0), &["a", "b"]);
        drop(producer);
        let server = server.restart_with(|_| {}, |c| c.fsync = fsync);
        assert_eq!(server.broker.cluster_id(), id);
        assert_eq!(server.read("t", 0), ["a", "b"]);
        let producer = server.producer(&[]);
        assert_eq!(server.send(&producer, ("t", 0), &["c"]), [2], "offsets stay dense");
    }
}

#[test]
fn a_torn_tail_is_cut_off_and_the_log_goes_on() {
    let server = Server::start();
    let producer = server.producer(&[("linger.ms", "0")]);
    server.send(&producer, ("t", 0), &["a"]);
    server.send(&producer, ("t", 0), &["b"]);
    drop(producer);
    let tear = |dir: &Path| {
        let log = files(dir, "log").into_iter().find(|p| p.starts_with(dir.join("topics")));
        let file = std::fs::File::options().write(true).open(log.unwrap()).unwrap();
        file.set_len(file.metadata().unwrap().len() - 3).unwrap();
    };
    let server = server.restart_with(tear, |_| {});
    assert_eq!(server.read("t", 0), ["a"]);
    let producer = server.producer(&[]);
    server.send(&producer, ("t", 0), &["c"]);
    assert_eq!(server.read("t", 0), ["a", "c"]);
}

#[test]
fn garbage_behind_the_last_batch_may_have_been_batches_and_takes_their_offsets() {
    let server = Server::start();
    let producer = server.producer(&[]);
    server.send(&producer, ("t", 0), &["a"]);
    drop(producer);
    let append = |dir: &Path| {
        let log = files(&dir.join("topics"), "log").remove(0);
        let mut file = std::fs::File::options().append(true).open(log).unwrap();
        file.write_all(&[0xab; 200]).unwrap();
    };
    let server = server.restart_with(append, |_| {});
    let damage = server.broker.damage().remove(0);
    assert_eq!((&*damage.topic, damage.partition, damage.first_offset), ("t", 0, 1));
    let producer = server.producer(&[]);
    assert_eq!(server.send(&producer, ("t", 0), &["b"]), [damage.last_offset + 1], "nobody was told of it");
    assert_eq!(server.read("t", 0), ["a", "b"]);
}

#[test]
fn clients_pass_over_many_segments_that_are_gone() {
    let server = Server::start_with(|c| c.segment_bytes = 1_024);
    let producer = server.producer(&[("linger.ms", "0"), ("batch.num.messages", "1")]);
    let payloads: Vec<String> = (0..300).map(|i| format!("{i:0100}")).collect();
    server.send(&producer, ("t", 0), &payloads.iter().map(String::as_str).collect::<Vec<_>>());
    drop(producer);
    server.broker.close().unwrap();
    let remove = |dir: &Path| {
        let logs = files(&dir.join("topics"), "log");
        assert!(logs.len() > 30);
        logs[1..29].iter().for_each(|path| std::fs::write(path, b"").unwrap());
    };
    let server = server.restart_with(remove, |c| c.segment_bytes = 1_024);
    let lost = server.broker.damage().iter().map(|d| d.last_offset - d.first_offset + 1).sum::<i64>();
    assert!(lost > 100);
    assert_eq!(server.read("t", 0).len(), 300 - usize::try_from(lost).unwrap());
}

#[test]
fn a_flipped_byte_inside_a_closed_log_is_a_declared_gap_that_clients_pass_over() {
    let server = Server::start();
    let producer = server.producer(&[("linger.ms", "0")]);
    for payload in ["a", "bbbbbbbb", "c"] {
        server.send(&producer, ("t", 0), &[payload]);
    }
    drop(producer);
    server.broker.close().unwrap();
    let flip = |dir: &Path| {
        let log = files(&dir.join("topics"), "log").remove(0);
        let mut content = std::fs::read(&log).unwrap();
        // One byte of it may be anywhere in a checksum or a time.
        let at = content.windows(8).position(|bytes| bytes == b"bbbbbbbb").unwrap();
        content[at] ^= 1;
        std::fs::write(log, content).unwrap();
    };
    let server = server.restart_with(flip, |_| {});
    let expected = [(0, "a".to_owned()), (2, "c".to_owned())];
    assert_eq!(server.read_from("t", 0, rdkafka::Offset::Beginning), expected);
    let damage = server.broker.damage();
    assert_eq!(damage.iter().map(|d| (d.first_offset, d.last_offset)).collect::<Vec<_>>(), [(1, 1)]);
    assert_eq!(Damage::in_folder(server.path()).unwrap(), damage);
    let producer = server.producer(&[]);
    assert_eq!(server.send(&producer, ("t", 0), &["d"]), [3]);
    let server = server.restart();
    assert_eq!(server.broker.damage(), damage, "declared once");
    assert_eq!(server.read("t", 0), ["a", "c", "d"]);
}

#[test]
fn a_missing_index_is_rebuilt() {
    let server = Server::start_with(|c| c.segment_bytes = 4_096);
    let producer = server.producer(&[("batch.num.messages", "5")]);
    let payloads: Vec<String> = (0..300).map(|i| format!("{i:0100}")).collect();
    let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
    server.send(&producer, ("t", 0), &payloads);
    drop(producer);
    server.broker.close().unwrap();
    let remove = |dir: &Path| {
        let indexes = files(dir, "index");
        assert!(indexes.len() > 5);
        for path in indexes.iter().skip(1).step_by(2) {
            std::fs::remove_file(path).unwrap();
        }
    };
    let server = server.restart_with(remove, |c| c.segment_bytes = 4_096);
    assert_eq!(server.read("t", 0), payloads);
    server.broker.close().unwrap();
    assert!(files(server.path(), "index").len() > 5);
}

#[test]
fn a_folder_is_open_only_once() {
    let server = Server::start();
    let second = Broker::open(BrokerConfig::new(server.path()));
    match second {
        Err(OpenError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    let dir = server.crash();
    Broker::open(BrokerConfig::new(dir.path())).unwrap();
}
