//! Reads ranges of offsets; joins no group and commits nothing.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::BorrowedMessage,
};

use super::super::{KafkaSettings, QuietContext, is_passing};

/// Longest wait for one poll.
const POLL: Duration = Duration::from_millis(200);

/// Offsets of one partition, from the first to before the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub partition: i32,
    pub from: i64,
    pub to: i64,
}

/// How a read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadEnd {
    /// Every window was read to its end.
    Complete,
    /// The visitor had enough.
    Enough,
    /// The time was up.
    TimedOut,
}

/// A client that reads.
pub struct Reader {
    consumer: BaseConsumer<QuietContext>,
}

impl Reader {
    /// A client; it connects when it first reads.
    ///
    /// # Errors
    /// If a setting is refused.
    pub fn connect(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        let mut config = settings.client("streamward-topics");
        config
            .set("group.id", "streamward-topics")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            // Retention may take the first offsets of a window away.
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "50")
            .set("queued.min.messages", "1000")
            .set("queued.max.messages.kbytes", "4096");
        Ok(Self { consumer: config.create_with_context(QuietContext)? })
    }

    /// Shows the records of `windows` in the order in which they come, ascending within a partition.
    ///
    /// # Errors
    /// What the client says, but for connections that it makes again by itself.
    pub fn read(
        &self,
        topic: &str,
        windows: &[Window],
        deadline: Instant,
        visit: &mut dyn FnMut(&BorrowedMessage<'_>) -> ControlFlow<()>,
    ) -> Result<ReadEnd, KafkaError> {
        let mut ends: BTreeMap<i32, i64> =
            windows.iter().filter(|window| window.from < window.to).map(|w| (w.partition, w.to)).collect();
        if ends.is_empty() {
            return Ok(ReadEnd::Complete);
        }
        let mut list = TopicPartitionList::new();
        for window in windows.iter().filter(|window| window.from < window.to) {
            list.add_partition_offset(topic, window.partition, Offset::Offset(window.from))?;
        }
        self.consumer.assign(&list)?;
        let end = self.poll_all(topic, &mut ends, deadline, visit);
        // A partition that rests would do so in the next read, too.
        self.consumer.resume(&list)?;
        self.consumer.unassign()?;
        end
    }

    fn poll_all(
        &self,
        topic: &str,
        ends: &mut BTreeMap<i32, i64>,
        deadline: Instant,
        visit: &mut dyn FnMut(&BorrowedMessage<'_>) -> ControlFlow<()>,
    ) -> Result<ReadEnd, KafkaError> {
        use rdkafka::Message;
        while !ends.is_empty() {
            if Instant::now() >= deadline {
                return Ok(ReadEnd::TimedOut);
            }
            match self.consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) => {
                    let partition = message.partition();
                    let Some(to) = ends.get(&partition).copied() else { continue };
                    if message.offset() < to && visit(&message).is_break() {
                        return Ok(ReadEnd::Enough);
                    }
                    if message.offset() + 1 >= to {
                        ends.remove(&partition);
                        self.rest(topic, partition)?;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ends.remove(&partition);
                }
                Some(Err(error)) if is_passing(&error) => tracing::debug!(%error, "read a topic"),
                Some(Err(error)) => return Err(error),
            }
        }
        Ok(ReadEnd::Complete)
    }

    /// Stops fetching a partition that has been read.
    fn rest(&self, topic: &str, partition: i32) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        self.consumer.pause(&list)
    }
}
