//! Against the embedded broker, over the network.

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use streamward_core::ports::topics::LogRecord;

use super::*;
use crate::adapters::kafka::served::Served;

/// The topics of a broker that is reached over the network.
struct Reached {
    topics: KafkaTopics,
    broker: Served,
}

const NUL: &str = "configs: a name or a value among them has a NUL character, which no setting has";

impl Reached {
    fn new() -> Self {
        let served = Served::new();
        let producer = KafkaProducer::create(&served.settings, "test").unwrap();
        let used = [("orders".to_owned(), TopicUse::Stream("shop".to_owned()))];
        let broker = served.broker.clone();
        let bytes: Sizes = Arc::new(move |topic| broker.topic_bytes(topic));
        let knowledge = Knowledge { uses: HashMap::from(used), bytes: Some(bytes), room: None, specs: Vec::new() };
        let topics = KafkaTopics::new(served.settings.clone(), producer, knowledge);
        Self { topics, broker: served }
    }

    async fn make(&self, name: &str, partitions: u32, configs: &[(&str, &str)]) {
        let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.topics.create(NewTopic { name: name.to_owned(), partitions: Some(partitions), configs }).await.unwrap();
    }

    async fn write(&self, topic: &str, partition: i32, key: &str, value: &str) {
        let record = RecordToWrite {
            partition: Some(partition),
            key: Some(key.as_bytes().to_vec()),
            value: Some(value.as_bytes().to_vec()),
            headers: vec![("source".to_owned(), Some(b"test".to_vec()))],
        };
        self.topics.produce(topic.to_owned(), record).await.unwrap();
    }

    /// Ten records with the keys k0 to k9, spread over the partitions.
    async fn ten(&self, topic: &str, partitions: i32) {
        for index in 0..10 {
            self.write(topic, index % partitions, &format!("k{index}"), &format!("value {index}")).await;
        }
    }

    async fn read(&self, change: impl FnOnce(&mut RecordQuery)) -> RecordPage {
        let mut query = RecordQuery {
            topic: "orders".to_owned(),
            partition: None,
            from: ReadFrom::Newest,
            limit: 4,
            key: None,
            contains: None,
        };
        change(&mut query);
        self.topics.records(query).await.unwrap()
    }

    async fn follow(&self, cursor: Option<String>) -> RecordPage {
        self.read(|query| query.from = ReadFrom::Cursor(cursor.unwrap())).await
    }

    /// A client that commits offsets as a group that nobody is in.
    fn commit(&self, group: &str, topic: &str, partition: i32, offset: i64) {
        let mut config = self.broker.settings.client("test");
        let consumer: BaseConsumer = config.set("group.id", group).create().unwrap();
        let mut list = rdkafka::TopicPartitionList::new();
        list.add_partition_offset(topic, partition, rdkafka::Offset::Offset(offset)).unwrap();
        consumer.commit(&list, CommitMode::Sync).unwrap();
    }
}

fn keys(records: &[LogRecord]) -> Vec<String> {
    let key = |record: &LogRecord| String::from_utf8(record.key.as_ref().unwrap().held.clone()).unwrap();
    records.iter().map(key).collect()
}

#[actix_rt::test]
async fn a_list_has_bounds_bytes_policy_and_who_uses_a_topic() {
    let served = Reached::new();
    served.make("orders", 2, &[("cleanup.policy", "compact")]).await;
    served.make("other", 1, &[]).await;
    served.ten("orders", 2).await;
    let page = served.topics.list(None, 1).await.unwrap();
    assert_eq!((page.items.len(), page.total, page.next.as_deref()), (1, 2, Some("orders")));
    let orders = &page.items[0];
    assert_eq!(orders.logs.iter().map(LogBounds::records).collect::<Vec<_>>(), [5, 5]);
    assert_eq!(orders.cleanup_policy.as_deref(), Some("compact"));
    assert_eq!(orders.used_by, Some(TopicUse::Stream("shop".to_owned())));
    assert!(orders.bytes.unwrap() > 100, "{:?}", orders.bytes);
    let rest = served.topics.list(page.next, 5).await.unwrap();
    assert_eq!((rest.items[0].name.as_str(), rest.next), ("other", None));
}

#[actix_rt::test]
async fn the_newest_records_come_first_and_the_cursor_leads_to_the_oldest() {
    let served = Reached::new();
    served.make("orders", 3, &[]).await;
    served.ten("orders", 3).await;
    let first = served.read(|_| {}).await;
    assert_eq!(keys(&first.records), ["k9", "k8", "k7", "k6"]);
    assert_eq!((first.total, first.scan.is_complete), (10, false));
    let second = served.follow(first.next).await;
    assert_eq!(keys(&second.records), ["k5", "k4", "k3", "k2"]);
    let third = served.follow(second.next).await;
    assert_eq!(keys(&third.records), ["k1", "k0"]);
    assert_eq!((third.next, third.scan.is_complete), (None, true));
}

#[actix_rt::test]
async fn from_a_page_one_follows_what_is_written_later() {
    let served = Reached::new();
    served.make("orders", 2, &[]).await;
    served.ten("orders", 2).await;
    let newest = served.read(|_| {}).await;
    let nothing = served.follow(Some(newest.previous)).await;
    assert_eq!((nothing.records.len(), nothing.scan.is_complete), (0, true));
    served.write("orders", 1, "later", "x").await;
    let later = served.follow(nothing.next).await;
    assert_eq!(keys(&later.records), ["later"]);
    assert_eq!(keys(&served.follow(later.next).await.records), [""; 0]);
}

#[actix_rt::test]
async fn reading_forward_begins_at_an_offset_or_a_time_and_leads_back() {
    let served = Reached::new();
    served.make("orders", 1, &[]).await;
    served.ten("orders", 1).await;
    let page = served.read(|query| query.from = ReadFrom::Offset(3)).await;
    assert_eq!(keys(&page.records), ["k3", "k4", "k5", "k6"]);
    assert_eq!(page.scan.ranges, [(0, 3, 7)]);
    assert_eq!(keys(&served.follow(page.next).await.records), ["k7", "k8", "k9"]);
    assert_eq!(keys(&served.follow(Some(page.previous)).await.records), ["k2", "k1", "k0"]);
    let at = page.records[2].timestamp_ms.unwrap();
    let since = served.read(|query| query.from = ReadFrom::TimeMs(at)).await;
    assert!(since.records.iter().all(|record| record.timestamp_ms >= Some(at)), "{since:?}");
    assert!(keys(&since.records).contains(&"k5".to_owned()));
    let beyond = served.read(|query| query.from = ReadFrom::TimeMs(at + 3_600_000)).await;
    assert_eq!((beyond.records.len(), beyond.scan.is_complete), (0, true));
    let oldest = served.read(|query| query.from = ReadFrom::Oldest).await;
    assert_eq!(keys(&oldest.records), ["k0", "k1", "k2", "k3"]);
}

#[actix_rt::test]
async fn a_filter_looks_through_the_topic_and_says_how_far() {
    let served = Reached::new();
    served.make("orders", 2, &[]).await;
    served.ten("orders", 2).await;
    let by_key = served.read(|query| query.key = Some(b"k2".to_vec())).await;
    assert_eq!((keys(&by_key.records), by_key.scan.records, by_key.next), (vec!["k2".to_owned()], 10, None));
    let by_text = served.read(|query| query.contains = Some(b"value 7".to_vec())).await;
    assert_eq!(keys(&by_text.records), ["k7"]);
    let by_header = served.read(|query| query.contains = Some(b"tes".to_vec())).await;
    assert_eq!(by_header.records.len(), 4);
    let forward = |query: &mut RecordQuery| {
        query.key = Some(b"k8".to_vec());
        query.from = ReadFrom::Oldest;
    };
    assert_eq!(keys(&served.read(forward).await.records), ["k8"]);
}

#[actix_rt::test]
async fn long_values_are_cut_and_shown_whole_alone() {
    let served = Reached::new();
    served.make("orders", 1, &[]).await;
    served.write("orders", 0, "long", &"x".repeat(200_000)).await;
    let value = |page: &RecordPage| page.records[0].value.clone().unwrap();
    let cut = value(&served.read(|_| {}).await);
    assert_eq!((cut.held.len(), cut.length, cut.is_cut()), (128 << 10, 200_000, true));
    assert!(!value(&served.read(|query| query.limit = 1).await).is_cut());
}

#[actix_rt::test]
async fn what_does_not_exist_is_said() {
    let served = Reached::new();
    served.make("orders", 1, &[]).await;
    let unknown = served.topics.describe("nothing".to_owned()).await;
    assert_eq!(unknown, Err(TopicError::UnknownTopic("nothing".to_owned())));
    let mut query = RecordQuery {
        topic: "orders".to_owned(),
        partition: Some(4),
        from: ReadFrom::Newest,
        limit: 1,
        key: None,
        contains: None,
    };
    let error = served.topics.records(query.clone()).await.unwrap_err().to_string();
    assert_eq!(error, "topic orders has no partition 4: it has 1");
    query.partition = None;
    query.from = ReadFrom::Cursor("newer_7.3".to_owned());
    assert_eq!(served.topics.records(query).await, Err(TopicError::BadCursor));
    assert_eq!(served.topics.group("nobody".to_owned()).await, Err(TopicError::UnknownGroup("nobody".to_owned())));
}

#[actix_rt::test]
async fn a_topic_is_altered_and_takes_defaults_back() {
    let served = Reached::new();
    served.make("orders", 1, &[("retention.ms", "1000"), ("max.message.bytes", "2000")]).await;
    let change = |partitions, configs: &[(&str, Option<&str>)]| TopicChange {
        partitions,
        configs: configs.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect(),
    };
    let alter = |change| served.topics.alter("orders".to_owned(), change);
    alter(change(Some(3), &[("retention.ms", None), ("retention.bytes", Some("5000"))])).await.unwrap();
    let topic = served.topics.describe("orders".to_owned()).await.unwrap();
    assert_eq!(topic.partitions.len(), 3);
    let own: Vec<_> = topic.configs.iter().filter(|config| config.own).map(|config| config.name.as_str()).collect();
    assert_eq!(own, ["max.message.bytes", "retention.bytes"]);
    let fewer = alter(change(Some(2), &[])).await.unwrap_err().to_string();
    assert_eq!(fewer, "partitions: topic orders has 3 and partitions are never taken away");
    let unknown = alter(change(None, &[("retention.sm", Some("1"))])).await.unwrap_err().to_string();
    assert_eq!(unknown, "configs: the broker knows no retention.sm");
    let wrong = alter(change(None, &[("retention.ms", Some("soon"))])).await.unwrap_err().to_string();
    assert_eq!(wrong, "configs: retention.ms: 'soon' is not a whole number; it is 604800000");
    let cut = alter(change(None, &[("retention.ms", Some("1\0"))])).await.unwrap_err().to_string();
    assert_eq!(cut, NUL);
    let low = alter(change(None, &[("retention.ms", Some("-2"))])).await.unwrap_err().to_string();
    assert_eq!(low, "configs: the broker refuses retention.ms=-2");
}

#[actix_rt::test]
async fn a_setting_with_a_nul_is_the_askers_fault_and_not_the_brokers() {
    let served = Reached::new();
    for config in [("retention.ms\0", "1"), ("retention.ms", "\0")] {
        let configs = vec![(config.0.to_owned(), config.1.to_owned())];
        let made = served.topics.create(NewTopic { name: "orders".to_owned(), partitions: Some(1), configs }).await;
        assert_eq!(made.unwrap_err().to_string(), NUL);
    }
}

#[actix_rt::test]
async fn a_change_of_a_topic_that_is_refused_in_part_changes_nothing() {
    let served = Reached::new();
    served.make("orders", 2, &[]).await;
    let alter = async |partitions, value: &str| {
        let configs = vec![("retention.ms".to_owned(), Some(value.to_owned()))];
        let change = TopicChange { partitions: Some(partitions), configs };
        let done = served.topics.alter("orders".to_owned(), change).await;
        let topic = served.topics.describe("orders".to_owned()).await.unwrap();
        let own = topic.configs.iter().find(|config| config.own).and_then(|config| config.value.clone());
        (done.is_ok(), topic.partitions.len(), own)
    };
    assert_eq!(alter(3, "soon").await, (false, 2, None));
    assert_eq!(alter(1, "1000").await, (false, 2, None));
    assert_eq!(alter(3, "1000").await, (true, 3, Some("1000".to_owned())));
}

#[actix_rt::test]
async fn a_call_that_nobody_waits_for_any_more_keeps_its_turn_to_its_end() {
    let served = Reached::new();
    let turns = &served.topics.shared.turns;
    let (go_on, held) = std::sync::mpsc::channel::<()>();
    let (begun, started) = tokio::sync::oneshot::channel();
    let call = served.topics.blocking(move |_| {
        let _heard = begun.send(());
        let _gone = held.recv();
        Ok(())
    });
    tokio::select! {
        _ = call => panic!("it is held"),
        _ = started => {}
    }
    assert_eq!(turns.available_permits(), CONCURRENT - 1);
    drop(go_on);
    let all = u32::try_from(CONCURRENT).unwrap();
    let free = tokio::time::timeout(TURN_WITHIN, turns.acquire_many(all)).await;
    assert!(free.is_ok(), "its turn is free again");
}

#[actix_rt::test]
async fn a_used_topic_is_deleted_by_force_alone() {
    let served = Reached::new();
    served.make("orders", 1, &[]).await;
    served.make("other", 1, &[]).await;
    let refused = served.topics.delete("orders".to_owned(), Deletion::Guarded).await.unwrap_err().to_string();
    assert!(refused.contains("the stream shop reads it"), "{refused}");
    served.topics.delete("other".to_owned(), Deletion::Guarded).await.unwrap();
    served.topics.delete("orders".to_owned(), Deletion::Forced).await.unwrap();
    assert_eq!(served.topics.list(None, 9).await.unwrap().items, []);
    let gone = served.topics.delete("orders".to_owned(), Deletion::Forced).await;
    assert_eq!(gone, Err(TopicError::UnknownTopic("orders".to_owned())));
}

#[actix_rt::test]
async fn a_group_has_lag_and_is_moved_while_nobody_is_in_it() {
    let served = Reached::new();
    served.make("orders", 2, &[]).await;
    served.ten("orders", 2).await;
    served.commit("billing", "orders", 0, 2);
    let topic = served.topics.describe("orders".to_owned()).await.unwrap();
    let group = &topic.groups[0];
    assert_eq!((group.group.group.as_str(), group.group.state.as_str()), ("billing", "Empty"));
    assert_eq!((group.offsets.len(), group.offsets[0].offset, group.offsets[0].lag), (1, 2, 3));
    let moved = |to| served.topics.reset("billing".to_owned(), "orders".to_owned(), to);
    let offsets = |all: Vec<GroupOffset>| all.iter().map(|offset| offset.offset).collect::<Vec<_>>();
    assert_eq!(offsets(moved(ResetTo::Latest).await.unwrap()), [5, 5]);
    assert_eq!(offsets(moved(ResetTo::Offsets(vec![(1, 1)])).await.unwrap()), [5, 1]);
    assert_eq!(offsets(moved(ResetTo::Earliest).await.unwrap()), [0, 0]);
    let outside = moved(ResetTo::Offsets(vec![(1, 6)])).await.unwrap_err().to_string();
    assert_eq!(outside, "offsets: partition 1 has offsets 0 to 5, not 6");
    assert_eq!(served.topics.group("billing".to_owned()).await.unwrap().offsets.len(), 2);
}

#[actix_rt::test]
async fn a_group_with_members_is_not_moved_and_is_asked_first_about_their_topic() {
    let served = Reached::new();
    served.make("orders", 1, &[]).await;
    served.commit("able", "orders", 0, 0);
    let mut config = served.broker.settings.client("member");
    let consumer: BaseConsumer = config.set("group.id", "busy").create().unwrap();
    consumer.subscribe(&["orders"]).unwrap();
    while consumer.assignment().unwrap().count() == 0 {
        let _nothing = consumer.poll(Duration::from_millis(50));
    }
    let refused = served.topics.reset("busy".to_owned(), "orders".to_owned(), ResetTo::Latest).await;
    assert_eq!(refused, Err(TopicError::Refused("group busy has 1 members: stop them first".to_owned())));
    let order = async |topic: &'static str| {
        let asked = served.topics.blocking(move |shared| groups::to_ask(&*shared.catalog()?, topic)).await.unwrap();
        asked.into_iter().map(|group| group.group).collect::<Vec<_>>()
    };
    assert_eq!(order("orders").await, ["busy", "able"]);
    assert_eq!(order("order").await, ["able", "busy"]);
}

#[actix_rt::test]
async fn reading_leaves_no_group_and_no_offset_behind() {
    let served = Reached::new();
    served.make("orders", 1, &[]).await;
    served.ten("orders", 1).await;
    served.read(|_| {}).await;
    served.topics.describe("orders".to_owned()).await.unwrap();
    assert_eq!(served.topics.groups().await.unwrap(), []);
}
