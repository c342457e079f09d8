//! The broker as its embedder sees it: open a folder, serve a listener, close.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::future::Future;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::auth::Authenticator;
use crate::config::BrokerConfig;
use crate::damage::Damage;
use crate::error::{Code, KResult, OpenError, TopicError};
use crate::group::Groups;
use crate::log::{BootId, Compacted, compact, scrub};
use crate::meta::{Change, Durability, MetaStore};
use crate::quota::{Metered, Quotas};
use crate::serve::{self, Access, Internal};
use crate::tls::TlsConfig;
use crate::topic::{Partition, Topics};
use crate::txn::Txns;
use crate::{Fsync, MAX_PARTITIONS_PER_TOPIC};

/// Producer ids that are taken from the metadata at a time.
const PRODUCER_ID_BLOCK: i64 = 1_000;

/// An open broker; clones share it.
#[derive(Debug, Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

/// Sums and sizes at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BrokerStats {
    /// Bytes of requests received.
    pub bytes_in: u64,
    /// Bytes of responses sent.
    pub bytes_out: u64,
    /// Connections that are open.
    pub connections: usize,
    /// Connections that were closed at once, above a limit.
    pub refused_connections: u64,
    /// Authentications that failed.
    pub failed_authentications: u64,
    /// Partitions of all topics.
    pub partitions: usize,
    /// Bytes of all logs.
    pub log_bytes: u64,
    /// Memory that the logs' indexes take.
    pub index_bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub config: Arc<BrokerConfig>,
    pub meta: Arc<Mutex<MetaStore>>,
    pub topics: Topics,
    pub groups: Groups,
    pub txns: Txns,
    pub counters: Counters,
    pub quotas: Quotas,
    /// What the public listener asks of its clients.
    pub access: Access,
    cluster_id: String,
    producer_ids: Mutex<std::ops::Range<i64>>,
    /// Held while settings of topics are read, changed and stored.
    pub configuring: Mutex<()>,
    /// Held by the one pass of compaction, as two would write the same files.
    compacting: Mutex<()>,
    /// Held by regular work on files, other than compaction.
    keeping: Mutex<()>,
    /// Holds the folder's lock for as long as the broker lives.
    _lock: File,
}

impl Broker {
    /// Opens a folder, creating it where needed, and recovers what is in it.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when another broker has the folder open, and what the file system says.
    pub fn open(config: BrokerConfig) -> Result<Self, OpenError> {
        Self::open_in_boot(config, BootId::current())
    }

    pub(crate) fn open_in_boot(config: BrokerConfig, boot: BootId) -> Result<Self, OpenError> {
        check(&config)?;
        let dir = &config.data_dir;
        std::fs::create_dir_all(dir).map_err(OpenError::io(dir))?;
        let lock = lock(&dir.join("lock"))?;
        let store = MetaStore::open(&dir.join("metadata.log"))?;
        let cluster_id = store.state().cluster_id.clone();
        let next_id = store.state().next_producer_id;
        let config = Arc::new(config);
        let meta = Arc::new(Mutex::new(store));
        let auth = config.auth.as_ref().map(|auth| Authenticator::new(auth, meta.clone())).transpose()?;
        let tls = config.tls.as_ref().map(TlsConfig::server).transpose()?;
        let access = Access {
            auth: auth.map(Arc::new),
            tls,
            host: config.advertised_host.clone(),
            metered: Metered::Yes,
            max: config.max_connections,
            max_per_ip: config.max_connections_per_ip,
            ..Access::default()
        };
        let inner = Inner {
            topics: Topics::open(config.clone(), boot, meta.clone())?,
            groups: Groups::new(meta.clone()),
            txns: Txns::default(),
            counters: Counters::default(),
            quotas: Quotas::new(config.client_rates, meta.clone()),
            access,
            producer_ids: Mutex::new(next_id..next_id),
            configuring: Mutex::default(),
            compacting: Mutex::default(),
            keeping: Mutex::default(),
            config,
            meta,
            cluster_id,
            _lock: lock,
        };
        inner.recover_txns();
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Serves clients until `stop` completes or the returned future is dropped; all connections end
    /// with it. May be called again, also with several listeners at a time.
    ///
    /// # Errors
    /// Only if the broker's regular work ends, which is a fault in the broker.
    pub async fn serve(&self, listener: TcpListener, stop: impl Future<Output = ()>) -> io::Result<()> {
        serve::serve(self, listener, None, stop).await
    }

    /// As [`Self::serve`], with a second listener for clients on the same machine.
    ///
    /// # Errors
    /// As [`Self::serve`], and a user without name or password.
    pub async fn serve_with(
        &self,
        listener: TcpListener,
        internal: Internal,
        stop: impl Future<Output = ()>,
    ) -> io::Result<()> {
        serve::serve(self, listener, Some(internal), stop).await
    }

    /// Identity of the folder, made when it was first opened.
    pub fn cluster_id(&self) -> &str {
        &self.inner.cluster_id
    }

    /// Identity of a topic's log: a topic that was deleted and created again has another one.
    #[must_use]
    pub fn topic_id(&self, name: &str) -> Option<String> {
        self.inner.topics.get(name).map(|topic| topic.id.to_string())
    }

    /// Offset below which a partition gives everything to a reader of committed records.
    #[must_use]
    pub fn stable_end(&self, name: &str, partition: i32) -> Option<i64> {
        let partition = self.inner.topics.get(name)?.partition(partition)?;
        let end = partition.log.lock().last_stable_offset();
        Some(end)
    }

    /// Bytes of a topic's records on the disk.
    #[must_use]
    pub fn topic_bytes(&self, name: &str) -> Option<u64> {
        let topic = self.inner.topics.get(name)?;
        Some(topic.partitions().iter().map(|partition| partition.log.lock().size_bytes()).sum())
    }

    /// Offsets that logs lost to damage, in the order of topics, partitions and offsets.
    #[must_use]
    pub fn damage(&self) -> Vec<Damage> {
        let mut found = Vec::new();
        for topic in self.inner.topics.all() {
            for (partition, log) in (0..).zip(topic.partitions()) {
                let lost = log.log.lock().lost().clone();
                found.extend(lost.iter().map(|range| Damage::of(&topic.name, partition, range)));
            }
        }
        found
    }

    /// Creates a topic if it does not exist; one that exists is left as it is.
    ///
    /// # Errors
    /// An invalid name, count or configuration, or what the file system says.
    pub fn ensure_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<(), TopicError> {
        let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        let configs: BTreeMap<_, _> = configs.iter().map(own).collect();
        match self.inner.topics.create(name, partitions, configs) {
            Ok(_) | Err(TopicError::Exists(_)) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Whether so many partitions could be added.
    ///
    /// # Errors
    /// [`TopicError::TooManyPartitions`], [`TopicError::TooManyFiles`].
    pub fn room_for(&self, partitions: i32) -> Result<(), TopicError> {
        self.inner.topics.check_room(partitions)
    }

    /// Forces everything to the disk and gives back the offsets reserved ahead; the broker stays
    /// usable.
    ///
    /// # Errors
    /// The first thing that the file system says; the rest is done all the same.
    pub fn close(&self) -> io::Result<()> {
        let outcome = self.inner.sync_meta();
        let partitions: Vec<_> = self.inner.topics.all().iter().flat_map(|topic| topic.partitions()).collect();
        outcome.and(close_all(&partitions))
    }

    /// Sums and sizes at this moment; takes each partition's lock for an instant.
    pub fn stats(&self) -> BrokerStats {
        let counters = &self.inner.counters;
        let mut stats = BrokerStats {
            bytes_in: counters.bytes_in.load(Ordering::Relaxed),
            bytes_out: counters.bytes_out.load(Ordering::Relaxed),
            connections: counters.connections.load(Ordering::Relaxed),
            refused_connections: counters.refused_connections.load(Ordering::Relaxed),
            failed_authentications: counters.failed_authentications.load(Ordering::Relaxed),
            ..BrokerStats::default()
        };
        for topic in self.inner.topics.all() {
            for partition in topic.partitions() {
                let log = partition.log.lock();
                stats.partitions += 1;
                stats.log_bytes += log.size_bytes();
                stats.index_bytes += log.index_bytes();
            }
        }
        stats
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }
}

impl Inner {
    /// Forces what is dirty to the disk, as `fsync` says; blocks.
    pub fn sync(&self) {
        let _one_at_a_time = self.keeping.lock();
        for topic in self.topics.all() {
            for partition in topic.partitions() {
                partition.reserve_ahead();
                // A failure is told where it happens, and the partition is read-only from then on.
                let _ = partition.flush();
            }
        }
        if self.config.fsync != Fsync::Never
            && let Err(error) = self.sync_meta()
        {
            tracing::error!(%error, "metadata cannot be synced");
        }
    }

    /// Forces all changes of the metadata to the disk; blocks, but nobody who reads or changes them.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sync_meta(&self) -> io::Result<()> {
        let Some(file) = self.meta.lock().take_dirty() else { return Ok(()) };
        file.sync_data().inspect_err(|_| self.meta.lock().doubt())
    }

    /// Retention, expiry and the size of the metadata; blocks.
    pub fn upkeep(&self, now_ms: i64) {
        let _one_at_a_time = self.keeping.lock();
        for topic in self.topics.all() {
            let retention = topic.settings().retention;
            for partition in topic.partitions() {
                let outcome = partition.log.lock().retain(&retention, now_ms);
                if let Err(error) = outcome {
                    tracing::warn!(topic = topic.name, %error, "retention failed");
                }
            }
        }
        self.groups.expire_offsets(now_ms);
        self.expire_txns(now_ms);
        if let Err(error) = self.meta.lock().compact_if_due() {
            tracing::warn!(%error, "metadata cannot be rewritten");
        }
    }

    /// Reads complete segments that were not read yet, and compacts the logs of topics that ask for it, until `stop` says
    /// so; blocks. While another pass runs nothing is done.
    pub fn compact(&self, now_ms: i64, stop: &AtomicBool) {
        let Some(_one_at_a_time) = self.compacting.try_lock() else { return };
        for topic in self.topics.all() {
            for (index, partition) in topic.partitions().iter().enumerate() {
                if let Err(error) = scrub(&partition.log, now_ms, stop) {
                    tracing::error!(topic = topic.name, index, %error, "a segment cannot be read or repaired");
                }
            }
            let Some(rules) = topic.settings().compaction else { continue };
            for (index, partition) in topic.partitions().iter().enumerate() {
                match compact(&partition.log, &rules, now_ms, stop) {
                    Ok(None) => {}
                    Ok(Some(Compacted { bytes_before, bytes_after })) => {
                        tracing::debug!(topic = topic.name, index, bytes_before, bytes_after, "compacted");
                    }
                    Err(error) => {
                        let (topic, is_final) = (&topic.name, error.is_final());
                        tracing::error!(topic, index, %error, is_final, "cannot be compacted");
                        if is_final {
                            partition.log.lock().doubt();
                        }
                    }
                }
            }
        }
    }

    /// A producer id that was never given before.
    ///
    /// # Errors
    /// `KafkaStorageError` when it cannot be made durable.
    pub fn new_producer_id(&self) -> KResult<i64> {
        let mut ids = self.producer_ids.lock();
        if let Some(id) = ids.next() {
            return Ok(id);
        }
        let next = ids.end + PRODUCER_ID_BLOCK;
        let change = Change::ProducerIds { next };
        let mut meta = self.meta.lock();
        meta.commit(change, Durability::Synced).map_err(|_| Code::KafkaStorageError)?;
        let first = ids.end;
        *ids = first + 1..next;
        Ok(first)
    }
}

fn check(config: &BrokerConfig) -> Result<(), OpenError> {
    let is_rate = |rate: Option<u64>| rate.is_none_or(|rate| BrokerConfig::CLIENT_RATE.contains(&rate));
    let is_valid = [
        ((1..=MAX_PARTITIONS_PER_TOPIC).contains(&config.default_partitions), "default_partitions out of its range"),
        (BrokerConfig::CONNECTIONS.contains(&config.max_connections), "max_connections out of its range"),
        (config.max_connections_per_ip >= 1, "max_connections_per_ip < 1"),
        (is_rate(config.client_rates.produce), "client_rates.produce out of its range"),
        (is_rate(config.client_rates.fetch), "client_rates.fetch out of its range"),
        (config.max_request_bytes >= 1_024, "max_request_bytes < 1024"),
        (BrokerConfig::SEGMENT_BYTES.contains(&config.segment_bytes), "segment_bytes out of its range"),
    ];
    match is_valid.into_iter().find(|(ok, _)| !ok) {
        Some((_, reason)) => Err(OpenError::Config(reason)),
        None => Ok(()),
    }
}

/// Locks a folder by a file that names the holder.
fn lock(path: &Path) -> Result<File, OpenError> {
    let mut file = crate::log::files::open_rw(path).map_err(OpenError::io(path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let pid = file.read_to_string(&mut holder).ok().and_then(|_| holder.trim().parse().ok());
            return Err(OpenError::Locked { path: path.to_owned(), pid });
        }
        Err(TryLockError::Error(source)) => return Err(OpenError::io(path)(source)),
    }
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(OpenError::io(path))?;
    Ok(file)
}

/// Sums since the broker was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    connections: Arc<AtomicUsize>,
    failed_authentications: AtomicU64,
    refused_connections: AtomicU64,
}

/// Partitions that are closed at once: each waits for the disk, which writes for many as fast as for one.
const CLOSED_AT_ONCE: usize = 16;

/// Closes partitions; the first thing that the file system says, and the rest is done all the same.
fn close_all(partitions: &[Arc<Partition>]) -> io::Result<()> {
    let share = partitions.len().div_ceil(CLOSED_AT_ONCE).max(1);
    let close =
        |share: &[Arc<Partition>]| share.iter().map(|partition| partition.close()).fold(Ok(()), io::Result::and);
    std::thread::scope(|scope| {
        let closers: Vec<_> = partitions.chunks(share).map(|share| scope.spawn(move || close(share))).collect();
        let closed = closers
            .into_iter()
            .map(|closer| closer.join().unwrap_or_else(|_| Err(io::Error::other("a close panicked"))));
        closed.fold(Ok(()), io::Result::and)
    })
}

/// Counts a connection until it is dropped.
#[derive(Debug)]
pub(crate) struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counters {
    pub fn received(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn sent(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn failed_authentication(&self) {
        self.failed_authentications.fetch_add(1, Ordering::Relaxed);
    }

    pub fn refused_connection(&self) {
        self.refused_connections.fetch_add(1, Ordering::Relaxed);
    }

    pub fn connection(&self) -> Held {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Held(self.connections.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::batch::tests::NO_PRODUCER;
    use crate::log::produced::Produced;
    use crate::log::records::tests::keyed;
    use crate::log::{AppendRules, Timestamps};

    const COMPACT: [(&str, &str); 2] = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0")];

    #[test]
    fn a_second_pass_of_compaction_does_not_begin_beside_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::open(BrokerConfig::new(dir.path())).unwrap();
        broker.ensure_topic("t", 1, &COMPACT).unwrap();
        let partition = broker.inner.topics.partition("t", 0).unwrap();
        let batch = keyed(&[(Some("key"), Some("value"))], crate::log::codec::Codec::None, NO_PRODUCER);
        let produced = Produced::check(&batch, 10_000).unwrap();
        let rules = AppendRules { segment_bytes: 1, now_ms: 1, timestamps: Timestamps::Producer };
        for _ in 0..5 {
            partition.log.lock().append(&produced, &rules).unwrap();
        }
        let bytes_after_a_pass = || {
            broker.inner.compact(crate::now_ms(), &AtomicBool::new(false));
            broker.topic_bytes("t").unwrap()
        };
        let first = broker.inner.compacting.lock();
        let before = bytes_after_a_pass();
        drop(first);
        assert!(bytes_after_a_pass() < before);
    }

    #[test]
    fn closing_gives_back_the_offsets_that_each_of_many_partitions_had_reserved() {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::open(BrokerConfig::new(dir.path())).unwrap();
        broker.ensure_topic("t", 3 * 16 + 1, &[]).unwrap();
        let partitions = broker.inner.topics.get("t").unwrap().partitions();
        partitions.iter().for_each(|partition| partition.reserve_ahead());
        let without = || partitions.iter().filter(|partition| partition.log.lock().reservation_due().is_some()).count();
        assert_eq!(without(), 0);
        broker.close().unwrap();
        assert_eq!(without(), partitions.len());
    }
}
