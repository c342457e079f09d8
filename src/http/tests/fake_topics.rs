//! The broker's topics that answer from constants.

use streamward_core::ports::{
    Answer, EncodeError, Page, Placed, ValueEncoder,
    topics::{
        Bytes, Deletion, GroupDetail, GroupMember, GroupOffset, GroupSummary, LogBounds, LogRecord, NewTopic,
        PartitionDetail, RecordPage, RecordQuery, RecordToWrite, ResetTo, Scan, TopicChange, TopicConfig, TopicDetail,
        TopicError, TopicSummary, TopicUse, Topics,
    },
};

use super::fake::{Fake, ready};

fn known<T>(topic: &str, answer: T) -> Result<T, TopicError> {
    match topic {
        "orders" | "sensors" => Ok(answer),
        "used" => Err(TopicError::Refused("topic used is in use: the stream shop reads it".to_owned())),
        "slow" => Err(TopicError::Busy("the broker did not deliver within 6 s".to_owned())),
        "down" => Err(TopicError::Unavailable("10.0.0.1 refuses the connection".to_owned())),
        other => Err(TopicError::UnknownTopic(other.to_owned())),
    }
}

fn bytes(held: &[u8]) -> Option<Bytes> {
    Some(Bytes { held: held.to_vec(), length: held.len() as u64 })
}

fn record(offset: i64, value: Option<Bytes>) -> LogRecord {
    let headers =
        vec![(b"a".to_vec(), Some(b"text".to_vec())), (b"b".to_vec(), Some(vec![255])), (b"c\xff\0".to_vec(), None)];
    LogRecord { partition: 1, offset, timestamp_ms: Some(1_735_689_600_000), key: bytes(b"k1"), value, headers }
}

fn group() -> GroupDetail {
    let members = vec![GroupMember { id: "m-1".to_owned(), client_id: "m".to_owned(), host: "/127.0.0.1".to_owned() }];
    let group = GroupSummary {
        group: "billing".to_owned(),
        state: "Stable".to_owned(),
        protocol_type: "consumer".to_owned(),
        protocol: "range".to_owned(),
        members,
    };
    let offset = |partition, lag| GroupOffset { topic: "orders".to_owned(), partition, offset: 5, log_end: 9, lag };
    GroupDetail { group, offsets: vec![offset(0, 4), offset(1, 2)] }
}

impl Topics for Fake {
    fn list(&self, after: Option<String>, limit: u32) -> Answer<'_, Page<TopicSummary>, TopicError> {
        self.note(format!("topics {after:?} {limit}"));
        let summary = |name: &str, used_by| TopicSummary {
            name: name.to_owned(),
            logs: vec![LogBounds { partition: 0, start: 2, end: 9 }],
            bytes: Some(700),
            cleanup_policy: Some("delete".to_owned()),
            used_by,
        };
        let items = vec![
            summary("_schemas", Some(TopicUse::Own("schemas"))),
            summary("orders", Some(TopicUse::Stream("shop".to_owned()))),
            summary("other", None),
        ];
        ready(Ok(Page { items, total: 3, total_is_estimate: false, next: None }))
    }

    fn describe(&self, topic: String) -> Answer<'_, TopicDetail, TopicError> {
        let log = LogBounds { partition: 0, start: 2, end: 9 };
        let config = |name: &str, own| TopicConfig {
            name: name.to_owned(),
            value: Some("delete".to_owned()),
            source: "topic",
            own,
            read_only: false,
        };
        let detail = TopicDetail {
            name: topic.clone(),
            partitions: vec![PartitionDetail { log, leader: Some(1), replicas: vec![1], in_sync: vec![1] }],
            bytes: None,
            configs: vec![config("cleanup.policy", true)],
            groups: vec![group()],
            groups_not_asked: 0,
            used_by: None,
        };
        ready(known(&topic, detail))
    }

    fn create(&self, topic: NewTopic) -> Answer<'_, u32, TopicError> {
        self.note(format!("create {topic:?}"));
        ready(if topic.name == "orders" {
            Err(TopicError::Exists(topic.name))
        } else {
            Ok(topic.partitions.unwrap_or(4))
        })
    }

    fn alter(&self, topic: String, change: TopicChange) -> Answer<'_, (), TopicError> {
        self.note(format!("alter {topic} {change:?}"));
        ready(known(&topic, ()))
    }

    fn delete(&self, topic: String, deletion: Deletion) -> Answer<'_, (), TopicError> {
        self.note(format!("delete {topic} {deletion:?}"));
        ready(known(&topic, ()))
    }

    fn records(&self, query: RecordQuery) -> Answer<'_, RecordPage, TopicError> {
        self.note(format!("{query:?}"));
        let cut = Some(Bytes { held: "text é".as_bytes()[..6].to_vec(), length: 900 });
        let records = vec![
            record(4, bytes(b"{\"a\":1.5}")),
            record(5, bytes(b"plain text")),
            record(6, bytes(&[0, 0, 0, 0, 9, 1])),
            record(7, cut),
            record(8, None),
        ];
        let scan = Scan { records: 40, ranges: vec![(1, 4, 9)], is_complete: false };
        let page = RecordPage {
            records,
            total: 90,
            next: Some("older_1.4".to_owned()),
            previous: "newer_1.9".to_owned(),
            scan,
        };
        ready(known(&query.topic, page))
    }

    fn produce(&self, topic: String, record: RecordToWrite) -> Answer<'_, Placed, TopicError> {
        self.note(format!("{record:?}"));
        ready(known(&topic, Placed { partition: 1, offset: 7 }))
    }

    fn groups(&self) -> Answer<'_, Vec<GroupSummary>, TopicError> {
        ready(Ok(vec![group().group]))
    }

    fn group(&self, name: String) -> Answer<'_, GroupDetail, TopicError> {
        ready(if name == "nobody" { Err(TopicError::UnknownGroup(name)) } else { Ok(group()) })
    }

    fn reset(&self, group: String, topic: String, to: ResetTo) -> Answer<'_, Vec<GroupOffset>, TopicError> {
        self.note(format!("reset {group} {topic} {to:?}"));
        ready(known(&topic, self::group().offsets))
    }
}

impl ValueEncoder for Fake {
    fn encode<'a>(&'a self, subject: &'a str, json: &'a [u8]) -> Answer<'a, Vec<u8>, EncodeError> {
        ready(match subject {
            "orders-value" => Ok([b"framed:", json].concat()),
            "down" => Err(EncodeError::Unavailable("10.0.0.1".to_owned())),
            other => Err(EncodeError::UnknownSubject(other.to_owned())),
        })
    }
}
