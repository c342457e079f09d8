//! A consumer for one pipeline: explicit offsets from storage, cooperative rebalancing, no offset of the group's is
//! ever trusted.
//!
//! rust-rdkafka's `StreamConsumer` and `split_partition_queue` lose wake-ups (rust-rdkafka issues 665, 638, PR 840), so
//! this is a `BaseConsumer` on a thread of its own.

#[cfg(test)]
mod tests;
mod told;

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, Statistics, Timestamp, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext},
    error::KafkaError,
    message::BorrowedMessage,
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};
use streamward_kit::Scope;
use streamward_pipeline::{
    assignment::{Assigner, LogBounds},
    slot::Reader,
    source::{Gather, HeaderVisitor, LogClient, Polled, RecordView, SourceError, SourceShared},
};

use self::told::Told;
use super::{
    KafkaSettings,
    ffi::for_each_header,
    log_line,
    members::{ASSIGNOR, Member, STANDS_BY},
};

const SEEK_TIMEOUT: Duration = Duration::from_secs(5);
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a source that waits for others to leave the group looks at it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a pipeline's consumer needs to know.
pub struct SourceSettings {
    pub kafka: KafkaSettings,
    pub member: Arc<Member>,
    pub assigner: Arc<Assigner>,
}

/// A subscribed consumer.
pub struct KafkaSource {
    consumer: BaseConsumer<Context>,
    topic: Arc<str>,
    member: Arc<Member>,
    /// Whether the id of its member is known.
    has_id: bool,
    told: Told,
}

/// Keeps a consumer, and what it gave, over a panic of whoever polls it: the group does not notice, and reading goes on at
/// once.
#[derive(Default)]
pub struct KeptSource(Mutex<Option<(KafkaSource, Gather)>>);

impl KeptSource {
    /// Works with the consumer that a panicking incarnation left, or with a new one, once its group has no other member;
    /// none if the scope asks to stop before.
    ///
    /// # Errors
    /// If the client refuses.
    pub fn lend<T>(
        &self,
        (settings, shared): (&SourceSettings, &Arc<SourceShared>),
        scope: &Scope,
        work: impl FnOnce(&mut KafkaSource, &mut Gather) -> T,
    ) -> Result<Option<T>, SourceError> {
        let left = self.0.lock().take();
        let (mut client, mut gather) = match left {
            Some(left) => resumed(left)?,
            None => {
                let client = KafkaSource::create(settings)?;
                if !client.waits_until_alone(scope) {
                    return Ok(None);
                }
                client.subscribe()?;
                let gather = Gather::new(shared.clone(), client.consumer.context().reader);
                (client, gather)
            }
        };
        match catch_unwind(AssertUnwindSafe(|| work(&mut client, &mut gather))) {
            Ok(done) => {
                // The client asks the cluster, and waits for what it asked before.
                let _in_hand = scope.in_hand("close of the client");
                drop(client);
                Ok(Some(done))
            }
            Err(panic) => {
                // One that was fenced has a successor with a consumer of its own.
                if !scope.is_fenced() {
                    *self.0.lock() = Some((client, gather));
                }
                resume_unwind(panic)
            }
        }
    }
}

fn resumed((mut client, mut gather): (KafkaSource, Gather)) -> Result<(KafkaSource, Gather), SourceError> {
    if let Some(spoilt) = gather.resume() {
        client.rewind(spoilt)?;
    }
    Ok((client, gather))
}

struct Context {
    assigner: Arc<Assigner>,
    member: Arc<Member>,
    reader: Reader,
    /// The first failure of a rebalance: it ends the incarnation.
    failure: Mutex<Option<SourceError>>,
    deal: Mutex<Deal>,
}

/// What is known of the partitions that the group has dealt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deal {
    /// None yet by this client.
    Awaited,
    /// May be older than the topic: the group gives a static member that comes back what it had (KIP-345), also where the
    /// topic has other partitions by now.
    Doubtful,
    /// Asked for by this client, or of all partitions.
    Current,
}

/// The settings of a source in a group, as this member.
pub(super) fn config(kafka: &KafkaSettings, group: &str, instance: &str) -> ClientConfig {
    let mut config = kafka.client(instance);
    config
        .set("group.id", group)
        .set("group.instance.id", instance)
        .set("partition.assignment.strategy", ASSIGNOR)
        .set("session.timeout.ms", "10000")
        .set("heartbeat.interval.ms", "1000")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "500")
        .set("fetch.queue.backoff.ms", "10")
        .set("queued.min.messages", "10000")
        .set("queued.max.messages.kbytes", "8192")
        .set("fetch.message.max.bytes", "1048576")
        .set("statistics.interval.ms", "2000");
    config
}

impl KafkaSource {
    /// Creates the consumer, which is in no group yet.
    fn create(settings: &SourceSettings) -> Result<Self, SourceError> {
        let (topic, member) = (settings.assigner.topic.clone(), settings.member.clone());
        let config = config(&settings.kafka, &member.group, &member.instance());
        let context = Context {
            assigner: settings.assigner.clone(),
            member: member.clone(),
            reader: settings.assigner.slots.begin_reading(),
            failure: Mutex::new(None),
            deal: Mutex::new(Deal::Awaited),
        };
        let consumer: BaseConsumer<Context> = config.create_with_context(context).map_err(client_error)?;
        Ok(Self { consumer, topic, member, has_id: false, told: Told::default() })
    }

    /// Waits until nobody else is in the group (docs/adr/0028); false if the scope asks to stop before. A cluster that does
    /// not say who is in it keeps nobody away: either nobody can join, or `app/groups` names whoever is there.
    fn waits_until_alone(&self, scope: &Scope) -> bool {
        let mut said = String::new();
        while !scope.is_stopping() {
            scope.pause_point_blocking();
            match self.member.strangers(self.consumer.client()) {
                Ok(None) => {
                    if !said.is_empty() {
                        tracing::info!(pipeline = %self.member.pipeline, "nobody else is in the group any more: joining it");
                    }
                    scope.clear_state_note();
                    return true;
                }
                Ok(Some(strangers)) => {
                    let words = format!("{STANDS_BY}{strangers}");
                    if words != said {
                        tracing::warn!(pipeline = %self.member.pipeline, "{words}; {}", strangers.way_out());
                        scope.set_state_note(&words);
                        said = words;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, pipeline = %self.member.pipeline, "look at the group");
                    return true;
                }
            }
            if scope.stopping_within(LOOK_EVERY) {
                return false;
            }
        }
        false
    }

    /// Subscribes to the pipeline's topic, which joins the group.
    fn subscribe(&self) -> Result<(), SourceError> {
        self.consumer.subscribe(&[&self.topic]).map_err(client_error)
    }

    /// Has the group deal the partitions anew where it may have dealt those of an older topic.
    fn renew_deal(&self) -> Result<(), SourceError> {
        let deal = &self.consumer.context().deal;
        if *deal.lock() == Deal::Doubtful {
            *deal.lock() = Deal::Current;
            tracing::debug!(topic = %self.topic, "the group's partitions may be those of an older topic: joining again");
            self.consumer.unsubscribe();
            self.consumer.subscribe(&[&self.topic]).map_err(client_error)?;
        }
        Ok(())
    }

    /// Goes back to where a partition's slot says that reading is to go on, and lets it flow.
    fn rewind(&mut self, partition: i32) -> Result<(), SourceError> {
        let Some(slot) = self.consumer.context().assigner.slots.get(partition) else { return Ok(()) };
        let next = Offset::Offset(slot.next_fetch());
        self.consumer.seek(&self.topic, partition, next, SEEK_TIMEOUT).map_err(client_error)?;
        self.consumer.resume(&self.partitions(&[partition])).map_err(client_error)
    }

    fn partitions(&self, partitions: &[i32]) -> TopicPartitionList {
        list_of(&self.topic, partitions)
    }
}

fn list_of<'a>(topic: &str, partitions: impl IntoIterator<Item = &'a i32>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(topic, *partition);
    }
    list
}

impl LogClient for KafkaSource {
    fn poll(&mut self, timeout: Duration, visit: &mut dyn FnMut(Polled<'_>)) -> Result<(), SourceError> {
        let polled = self.consumer.poll(whole_millis(timeout));
        if let Some(failure) = self.consumer.context().failure.lock().take() {
            return Err(failure);
        }
        self.renew_deal()?;
        match polled {
            None => visit(Polled::Nothing),
            Some(Ok(message)) => visit_message(&message, visit),
            Some(Err(KafkaError::PartitionEOF(partition))) => visit(Polled::EndOfPartition(partition)),
            Some(Err(error)) if is_passing(&error) => {
                tracing::debug!(%error, "kafka consumer");
                visit(Polled::Nothing);
            }
            // The next offset is outside the log: of a topic made anew the source hears, once the cluster was asked.
            Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset)))
                if self.consumer.context().reads_another_log()? =>
            {
                visit(Polled::Nothing);
            }
            Some(Err(error)) => return Err(self.consumer.context().poll_error(error)),
        }
        Ok(())
    }

    fn pause(&mut self, partitions: &[i32]) {
        if let Err(error) = self.consumer.pause(&self.partitions(partitions)) {
            tracing::warn!(%error, ?partitions, "pause");
        }
    }

    fn resume(&mut self, partitions: &[i32]) {
        if let Err(error) = self.consumer.resume(&self.partitions(partitions)) {
            tracing::warn!(%error, ?partitions, "resume");
        }
    }

    fn commit(&mut self, positions: &[(i32, i64)]) {
        self.has_id = self.has_id || self.member.learn(self.consumer.client());
        if !self.told.are_news(positions, Instant::now()) {
            return;
        }
        let mut list = TopicPartitionList::new();
        for (partition, offset) in positions {
            if list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset)).is_err() {
                return;
            }
        }
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            tracing::debug!(%error, "tell the group its positions");
        }
    }
}

/// The same or up to a millisecond more: what is below one is nothing to librdkafka, and rust-rdkafka waits for it busily.
fn whole_millis(timeout: Duration) -> Duration {
    Duration::from_millis(u64::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

fn partition_count(consumer: &BaseConsumer<Context>, topic: &str) -> Result<usize, SourceError> {
    let metadata = consumer.fetch_metadata(Some(topic), METADATA_TIMEOUT).map_err(client_error)?;
    Ok(metadata.topics().first().map_or(0, |topic| topic.partitions().len()))
}

fn visit_message(message: &BorrowedMessage<'_>, visit: &mut dyn FnMut(Polled<'_>)) {
    let headers = |each: &mut HeaderVisitor<'_>| {
        if let Some(headers) = message.headers() {
            for_each_header(headers, each);
        }
    };
    let timestamp = message.timestamp();
    let record = RecordView {
        offset: message.offset(),
        log_timestamp_ms: timestamp.to_millis().unwrap_or(-1),
        is_broker_time: matches!(timestamp, Timestamp::LogAppendTime(_)),
        key: message.key(),
        value: message.payload(),
        headers: &headers,
    };
    visit(Polled::Record { partition: message.partition(), record });
}

/// Errors that librdkafka recovers from by itself.
fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let KafkaError::MessageConsumption(code) = error else { return false };
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::NotLeaderForPartition
            | Code::LeaderNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
    )
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn client_error(error: KafkaError) -> SourceError {
    SourceError::Client(error.to_string())
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka consumer");
    }

    /// Takes from the client's own figures how far it has read: behind the last record there may be offsets without one
    /// (control records, aborted transactions).
    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&*self.assigner.topic) else { return };
        for (partition, figures) in &topic.partitions {
            if let Some(slot) = self.assigner.slots.of_reader(self.reader, *partition) {
                slot.end().told(figures.eof_offset, figures.ls_offset, figures.hi_offset);
            }
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<i32> = list.elements().iter().map(|element| element.partition()).collect();
        let done = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                self.member.learn(consumer.client());
                self.assign(consumer, &partitions)
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                for partition in &partitions {
                    self.assigner.revoked(self.reader, *partition);
                }
                self.unassign(consumer, &partitions).map_err(client_error)
            }
            other => Err(SourceError::Client(format!("rebalance: {other:?}"))),
        };
        if let Err(failure) = done {
            self.failure.lock().get_or_insert(failure);
            // The client closes only once each deal has been answered.
            if let Err(error) = consumer.unassign() {
                tracing::warn!(%error, "give all partitions back");
            }
        }
    }
}

impl Context {
    /// Why the client cannot go on; of its group with the setting.
    fn poll_error(&self, error: KafkaError) -> SourceError {
        let Member { group, node_id, .. } = &*self.member;
        let why = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::FencedInstanceId) => {
                format!(
                    "another server with node.id {node_id} has joined group {group}: each needs a node.id and a kafka.consumer_group of its own"
                )
            }
            Some(RDKafkaErrorCode::InconsistentGroupProtocol) => {
                format!("group {group} is held with another assignor than {ASSIGNOR}: set another kafka.consumer_group")
            }
            _ => return client_error(error),
        };
        SourceError::Client(format!("{why} ({error})"))
    }

    /// Asks the cluster whether the topic is still the log that is read.
    fn reads_another_log(&self) -> Result<bool, SourceError> {
        Ok(self.assigner.slots.reads_another_log(&self.assigner.log()?))
    }

    /// The first deal of a client counts if it is of all partitions: then no other member has any.
    fn judge(&self, dealt: usize, partition_count: usize) {
        let mut deal = self.deal.lock();
        if *deal == Deal::Awaited {
            *deal = if dealt == partition_count { Deal::Current } else { Deal::Doubtful };
        }
    }

    /// Gives partitions back; those that the topic no longer has were never taken, and the client refuses them.
    fn unassign(&self, consumer: &BaseConsumer<Self>, partitions: &[i32]) -> Result<(), KafkaError> {
        let (topic, taken) = (&self.assigner.topic, consumer.assignment()?);
        let is_taken = |partition: &&i32| taken.find_partition(topic, **partition).is_some();
        consumer.incremental_unassign(&list_of(topic, partitions.iter().filter(is_taken)))
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, partitions: &[i32]) -> Result<(), SourceError> {
        let topic = &self.assigner.topic;
        let mut list = TopicPartitionList::new();
        let log = self.assigner.log()?;
        let partition_count = partition_count(consumer, topic)?;
        self.judge(partitions.len(), partition_count);
        let exist = |partition: &&i32| usize::try_from(**partition).is_ok_and(|index| index < partition_count);
        for partition in partitions.iter().filter(exist) {
            let (low, high) = consumer.fetch_watermarks(topic, *partition, METADATA_TIMEOUT).map_err(client_error)?;
            let place = (&log, LogBounds { low, high });
            let Some(from) = self.assigner.assigned(self.reader, *partition, place)? else { continue };
            tracing::info!(%topic, partition, from, low, high, "partition assigned");
            list.add_partition_offset(topic, *partition, Offset::Offset(from)).map_err(client_error)?;
        }
        consumer.incremental_assign(&list).map_err(client_error)?;
        self.assigner.slots.note_assignment();
        Ok(())
    }
}
