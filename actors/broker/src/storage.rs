//! Whether the disk takes what clients produce, asked from outside and without a client.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use crate::Broker;
use crate::log::Ill;

/// A file that is written and removed, to see whether there is room.
const PROBE: &str = "room";
/// As much as a usual batch.
const PROBE_BYTES: usize = 64 << 10;

/// Why the broker takes no records, or not all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageTrouble {
    /// What is wrong, and where.
    pub why: String,
    /// Whether it lasts until the folder is opened anew.
    pub needs_restart: bool,
}

impl Broker {
    /// Looks at each log that is written to, and writes a small file. A log whose file was deleted takes no more records
    /// from then on: producers get `KAFKA_STORAGE_ERROR`, and readers what is left. Blocks; costs two `stat` a partition.
    ///
    /// # Errors
    /// The worst of what is wrong.
    pub fn examine_storage(&self) -> Result<(), StorageTrouble> {
        let (mut refused, mut read_only) = (None, None);
        for topic in self.inner().topics.all() {
            for (index, partition) in topic.partitions().iter().enumerate() {
                let ill = partition.log.lock().examine();
                let place = || format!("topic {} partition {index}", topic.name);
                match ill {
                    None => {}
                    Some(Ill::Refused(why)) => drop(refused.get_or_insert_with(|| format!("{}: {why}", place()))),
                    Some(Ill::ReadOnly(why)) => {
                        read_only.get_or_insert_with(|| format!("{} takes no more records: {why}", place()));
                    }
                }
            }
        }
        let dir = &self.inner().config.data_dir;
        let probed = || probe(&dir.join(PROBE)).err().map(|error| format!("write to {}: {error}", dir.display()));
        match (read_only, refused.or_else(probed)) {
            (Some(why), _) => Err(StorageTrouble { why, needs_restart: true }),
            (None, Some(why)) => Err(StorageTrouble { why, needs_restart: false }),
            (None, None) => Ok(()),
        }
    }
}

fn probe(path: &Path) -> io::Result<()> {
    let written = File::create(path).and_then(|mut file| file.write_all(&[0; PROBE_BYTES]));
    let removed = fs::remove_file(path);
    written.and(removed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::BrokerConfig;
    use crate::error::Code;
    use crate::log::batch::tests::{NO_PRODUCER, batch};
    use crate::log::produced::Produced;
    use crate::log::{AppendRules, Timestamps};

    fn open(dir: &Path) -> Broker {
        let broker = Broker::open(BrokerConfig::new(dir)).unwrap();
        broker.ensure_topic("t", 2, &[]).unwrap();
        broker
    }

    fn append(broker: &Broker) -> Result<(), Code> {
        let bytes = batch(1, 9, NO_PRODUCER);
        let produced = Produced::check(&bytes, 10_000).unwrap();
        let rules = AppendRules { segment_bytes: 1 << 20, now_ms: 1, timestamps: Timestamps::Producer };
        broker.inner().topics.partition("t", 1).unwrap().log.lock().append(&produced, &rules).map(drop)
    }

    /// A file of a length that cannot grow.
    fn full(size: u64) -> File {
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
        let file = File::from(memfd_create("full", MemfdFlags::ALLOW_SEALING).unwrap());
        file.set_len(size).unwrap();
        fcntl_add_seals(&file, SealFlags::GROW).unwrap();
        std::io::Seek::seek(&mut &file, io::SeekFrom::End(0)).unwrap();
        file
    }

    #[test]
    fn a_refused_append_is_told_until_one_succeeds() {
        let dir = tempfile::tempdir().unwrap();
        let broker = open(dir.path());
        append(&broker).unwrap();
        assert_eq!(broker.examine_storage(), Ok(()));
        let partition = broker.inner().topics.partition("t", 1).unwrap();
        let size = partition.log.lock().size_bytes();
        let real = partition.log.lock().swap_file(Arc::new(full(size)));
        assert_eq!(append(&broker), Err(Code::KafkaStorageError));
        drop(partition.log.lock().swap_file(real));
        let told = broker.examine_storage().unwrap_err();
        assert!(!told.needs_restart && told.why.contains("topic t partition 1: Operation not permitted"), "{told:?}");
        append(&broker).unwrap();
        assert_eq!(broker.examine_storage(), Ok(()));
    }

    #[test]
    fn a_log_whose_file_was_deleted_acknowledges_nothing_more() {
        let dir = tempfile::tempdir().unwrap();
        let broker = open(dir.path());
        append(&broker).unwrap();
        fs::remove_dir_all(dir.path()).unwrap();
        let told = broker.examine_storage().unwrap_err();
        assert!(told.needs_restart && told.why.contains("deleted"), "{told:?}");
        assert_eq!(append(&broker), Err(Code::KafkaStorageError));
        assert!(broker.examine_storage().unwrap_err().needs_restart);
    }

    #[test]
    fn a_folder_that_takes_no_files_is_told_without_a_client() {
        let dir = tempfile::tempdir().unwrap();
        let broker = open(dir.path());
        fs::create_dir(dir.path().join(PROBE)).unwrap();
        let told = broker.examine_storage().unwrap_err();
        assert!(!told.needs_restart && told.why.contains("write to"), "{told:?}");
    }
}
