//! Registries on a broker that clients reach over the network.

use std::collections::BTreeMap;

use super::*;
use crate::adapters::kafka::{
    admin::{compacted_topics, delete_topics},
    served::Served,
};
use crate::registry::{HighestId, Level, Permanent, Registry, SettingsUpdate, Submission, Visible, Which};

const TOPIC: &str = "_schemas";

impl Served {
    fn open(&self) -> Registry {
        let log = KafkaSchemaLog::open(&self.settings, TOPIC).unwrap();
        Registry::open(Box::new(log), HighestId::in_memory()).unwrap()
    }
}

fn schema(field: &str) -> Submission {
    Submission::avro(&format!(r#"{{"type":"record","name":"R","fields":[{{"name":"{field}","type":"int"}}]}}"#))
}

const NONE: SettingsUpdate = SettingsUpdate { level: Some(Level::None), normalize: None };

#[actix_rt::test]
async fn what_is_registered_is_there_when_the_topic_is_opened_again() {
    let served = Served::new();
    ensure_schemas_topic(&served.settings, TOPIC).await.unwrap();
    let registry = served.open();
    registry.set_settings(None, NONE).unwrap();
    for field in ["a", "b", "c"] {
        registry.register("s", &schema(field)).unwrap();
    }
    registry.delete_version("s", Which::Number(3), Permanent(false)).unwrap();
    registry.delete_version("s", Which::Number(3), Permanent(true)).unwrap();
    ensure_schemas_topic(&served.settings, TOPIC).await.unwrap();
    let again = served.open();
    assert_eq!(again.all_versions("", Visible::All), registry.all_versions("", Visible::All));
    assert_eq!((again.level(None), again.max_id()), (Level::None, 3));
    assert_eq!(again.register("s", &schema("d")).unwrap().id, 4);
    registry.catch_up().unwrap();
    assert_eq!(registry.versions("s", Visible::All).unwrap(), [1, 2, 3]);
}

#[actix_rt::test]
async fn two_registries_that_write_at_once_agree_on_every_id() {
    let served = Served::new();
    ensure_schemas_topic(&served.settings, TOPIC).await.unwrap();
    served.open().set_settings(None, NONE).unwrap();
    let writers = ["x", "y"].map(|name| {
        let registry = served.open();
        let register = move |index: usize| {
            let field = if index.is_multiple_of(2) { format!("{name}{index}") } else { format!("both{index}") };
            registry.register("s", &schema(&field)).unwrap()
        };
        #[expect(clippy::disallowed_methods, reason = "the test joins it")]
        std::thread::Builder::new().spawn(move || (0..8).map(register).collect::<Vec<_>>()).unwrap()
    });
    let answers: Vec<_> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
    let kept = served.open();
    let mut texts = BTreeMap::new();
    for version in answers {
        assert_eq!(kept.version("s", Which::Number(version.version), Visible::Live).unwrap(), version);
        let text = texts.entry(version.id).or_insert_with(|| version.definition.text.clone());
        assert_eq!(*text, version.definition.text, "one id, one schema");
    }
    assert_eq!(texts.len(), 12);
    assert_eq!(kept.versions("s", Visible::Live).unwrap().len(), 12);
}

#[actix_rt::test]
async fn who_was_fenced_writes_nothing_and_goes_on_after_a_claim_of_its_own() {
    let served = Served::new();
    ensure_schemas_topic(&served.settings, TOPIC).await.unwrap();
    let mut logs = [0, 1].map(|_| KafkaSchemaLog::open(&served.settings, TOPIC).unwrap());
    let record = |value: &str| [Record { key: b"k".to_vec(), value: Some(value.into()) }];
    let [first, second] = &mut logs;
    first.claim().unwrap();
    second.claim().unwrap();
    assert!(matches!(first.append(&record("lost")), Err(LogError::Superseded(_))));
    second.append(&record("second")).unwrap();
    first.claim().unwrap();
    first.append(&record("first")).unwrap();
    for log in &mut logs {
        let mut values = Vec::new();
        log.read(&mut |record| values.push(String::from_utf8(record.value.unwrap()).unwrap())).unwrap();
        assert_eq!(values, ["second", "first"]);
        log.read(&mut |record| panic!("{record:?} is handed out twice")).unwrap();
    }
}

#[actix_rt::test]
async fn a_read_waits_for_what_was_written_and_is_not_readable_yet() {
    let served = Served::new();
    ensure_schemas_topic(&served.settings, TOPIC).await.unwrap();
    let mut writer = KafkaSchemaLog::open(&served.settings, TOPIC).unwrap();
    writer.claim().unwrap();
    let records = ["a", "b"].map(|value| Record { key: b"k".to_vec(), value: Some(value.into()) });
    writer.append(&records).unwrap();
    assert_eq!(writer.written, 2, "behind the last record, before the marker");
    let mut reader = KafkaSchemaLog::open(&served.settings, TOPIC).unwrap();
    // As if this were a record of its own whose markers are still to come.
    reader.written = 4;
    let late = move || writer.append(&[Record { key: b"k".to_vec(), value: Some("c".into()) }]).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the test joins it")]
    let thread = std::thread::Builder::new().spawn(late).unwrap();
    let mut values = Vec::new();
    reader.read(&mut |record| values.push(String::from_utf8(record.value.unwrap()).unwrap())).unwrap();
    thread.join().unwrap();
    assert_eq!(values, ["a", "b", "c"]);
}

#[test]
fn a_topic_that_is_deleted_while_it_is_open_is_made_again_with_what_it_held() {
    let (served, system) = (Served::new(), actix_rt::System::new());
    system.block_on(ensure_schemas_topic(&served.settings, TOPIC)).unwrap();
    let registry = served.open();
    registry.set_settings(None, NONE).unwrap();
    for field in ["a", "b", "c"] {
        registry.register("s", &schema(field)).unwrap();
    }
    let before = registry.all_versions("", Visible::All);
    for is_made_anew in [false, true] {
        system.block_on(delete_topics(&served.settings, &[TOPIC])).unwrap();
        if is_made_anew {
            system.block_on(ensure_schemas_topic(&served.settings, TOPIC)).unwrap();
            // As long as before, so that its end tells nothing.
            let mut other = KafkaSchemaLog::open(&served.settings, TOPIC).unwrap();
            other.claim().unwrap();
            let records = vec![Record { key: b"not ours".to_vec(), value: Some(b"{}".to_vec()) }; 20];
            other.append(&records).unwrap();
        }
        let lost = registry.catch_up().unwrap_err().to_string();
        assert!(lost.contains(TOPIC) && lost.contains("it was deleted"), "{lost}");
        registry.catch_up().unwrap();
        assert_eq!(registry.all_versions("", Visible::All), before);
        let policies = system.block_on(compacted_topics(&served.settings, &[TOPIC])).unwrap();
        assert!(policies.contains(TOPIC), "it would lose schemas in time");
    }
    let again = served.open();
    assert_eq!((again.all_versions("", Visible::All), again.level(None)), (before, Level::None));
    assert_eq!(registry.register("t", &schema("d")).unwrap().id, 4);
}

#[test]
fn a_write_into_a_topic_that_has_just_gone_says_that_it_is_lost() {
    let (served, system) = (Served::new(), actix_rt::System::new());
    system.block_on(ensure_schemas_topic(&served.settings, TOPIC)).unwrap();
    let mut log = KafkaSchemaLog::open(&served.settings, TOPIC).unwrap();
    let record = || vec![Record { key: b"k".to_vec(), value: Some(b"{}".to_vec()) }];
    log.claim().unwrap();
    log.append(&record()).unwrap();
    system.block_on(delete_topics(&served.settings, &[TOPIC])).unwrap();
    let error = log.append(&record()).unwrap_err();
    assert!(matches!(error, LogError::Lost(_)), "{error}");
}

#[actix_rt::test]
async fn a_topic_that_would_lose_schemas_or_has_several_partitions_is_refused() {
    let served = Served::new();
    let topic = |name: &str, partitions, policy: &str| TopicSpec {
        name: name.to_owned(),
        partitions,
        configs: vec![("cleanup.policy".to_owned(), policy.to_owned())],
    };
    let topics = [topic("lossy", 1, "delete"), topic("both", 1, "compact,delete"), topic("wide", 2, "compact")];
    ensure_topics(&served.settings, &topics).await.unwrap();
    for lossy in ["lossy", "both"] {
        let refused = ensure_schemas_topic(&served.settings, lossy).await.unwrap_err().to_string();
        assert!(refused.contains(lossy) && refused.contains("set it to compact"), "{refused}");
    }
    ensure_schemas_topic(&served.settings, "wide").await.unwrap();
    let refused = KafkaSchemaLog::open(&served.settings, "wide").map(drop).unwrap_err().to_string();
    assert!(refused.contains("2 partitions"), "{refused}");
}

#[actix_rt::test]
async fn an_error_names_the_topic_and_where_it_is() {
    let served = Served::new();
    ensure_schemas_topic(&served.settings, TOPIC).await.unwrap();
    let log = KafkaSchemaLog::open(&served.settings, TOPIC).unwrap();
    let said = log.placed(LogError::Unavailable("no answer".to_owned())).to_string();
    assert_eq!(said, format!("topic {TOPIC} at {}: no answer", served.settings.bootstrap));
}

#[test]
fn a_write_that_would_be_refused_again_is_no_other_writer() {
    let of = |code| not_appended(&KafkaError::MessageProduction(code));
    for code in [RDKafkaErrorCode::TopicAuthorizationFailed, RDKafkaErrorCode::MessageSizeTooLarge] {
        let error = of(code);
        assert!(matches!(&error, LogError::Unavailable(reason) if reason.contains("write to the topic")), "{error}");
    }
    for code in [RDKafkaErrorCode::ProducerFenced, RDKafkaErrorCode::OperationTimedOut] {
        assert!(matches!(of(code), LogError::Superseded(_)), "{code}");
    }
}
