//! Topics: created, grown, configured, deleted.

use rdkafka::admin::{
    AdminOptions, AlterConfig, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::error::RDKafkaErrorCode as Code;

use crate::Case;
use crate::env::{Env, PATIENCE, code, eventually};

pub const CASES: &[Case] = &[
    ("topics/create", create),
    ("topics/create-with-defaults", create_with_defaults),
    ("topics/create-refused", create_refused),
    ("topics/validate-only", validate_only),
    ("topics/delete-and-recreate", delete_and_recreate),
    ("topics/grow", grow),
    ("topics/configs", configs),
    ("topics/replace-configs", replace_configs),
    ("topics/alter-takes-effect", alter_takes_effect),
];

/// Number of partitions; none when there is no such topic.
fn partitions(env: &Env, name: &str) -> Option<usize> {
    let metadata = env.admin().inner().fetch_metadata(None, PATIENCE).unwrap();
    metadata.topics().iter().find(|topic| topic.name() == name).map(|topic| topic.partitions().len())
}

/// Value of a config, and whether it was set for the topic.
fn config(env: &Env, topic: &str, key: &str) -> Result<(Option<String>, bool), Code> {
    let asked = [ResourceSpecifier::Topic(topic)];
    let found = env.runtime.block_on(env.admin().describe_configs(&asked, &AdminOptions::new())).unwrap().remove(0)?;
    let entry = found.get(key).unwrap_or_else(|| panic!("no config {key}"));
    Ok((entry.value.clone(), entry.source == ConfigSource::DynamicTopic))
}

fn create(env: &Env) {
    let name = env.name();
    env.create(&name, 3, &[("retention.ms", "12345"), ("cleanup.policy", "compact")]).unwrap();
    eventually("three partitions", || partitions(env, &name) == Some(3));
    let wanted = |value: &str| Ok((Some(value.to_owned()), true));
    assert_eq!(config(env, &name, "retention.ms"), wanted("12345"));
    assert_eq!(config(env, &name, "cleanup.policy"), wanted("compact"));
}

fn create_with_defaults(env: &Env) {
    let name = env.name();
    let topic = [NewTopic::new(&name, -1, TopicReplication::Fixed(-1))];
    env.runtime.block_on(env.admin().create_topics(&topic, &AdminOptions::new())).unwrap().remove(0).unwrap();
    eventually("one partition", || partitions(env, &name) == Some(1));
}

fn create_refused(env: &Env) {
    let (existing, fresh) = (env.topic(1, &[]), env.name());
    let refused = |name: &str, configs: &[(&str, &str)]| env.create(name, 1, configs).unwrap_err();
    assert_eq!(refused(&existing, &[]), Code::TopicAlreadyExists);
    for name in [".", "a/b", &"x".repeat(250)] {
        assert_eq!(refused(name, &[]), Code::InvalidTopic, "{name}");
    }
    for (key, value) in [("no.such.config", "1"), ("retention.ms", "soon"), ("cleanup.policy", "shred")] {
        assert_eq!(refused(&fresh, &[(key, value)]), Code::InvalidConfig, "{key}={value}");
    }
    let thrice = [NewTopic::new(&fresh, 1, TopicReplication::Fixed(3))];
    let refused = env.runtime.block_on(env.admin().create_topics(&thrice, &AdminOptions::new())).unwrap().remove(0);
    assert_eq!(refused.map_err(|(_, code)| code), Err(Code::InvalidReplicationFactor));
    assert_eq!(partitions(env, &fresh), None);
}

fn validate_only(env: &Env) {
    let (name, other) = (env.name(), env.topic(1, &[]));
    let check = |name: &str| {
        let (topic, options) = ([NewTopic::new(name, 2, TopicReplication::Fixed(1))], AdminOptions::new());
        let done =
            env.runtime.block_on(env.admin().create_topics(&topic, &options.validate_only(true))).unwrap().remove(0);
        done.map(drop).map_err(|(_, code)| code)
    };
    assert_eq!(check(&name), Ok(()));
    assert_eq!(partitions(env, &name), None);
    assert_eq!(check(&other), Err(Code::TopicAlreadyExists));
}

fn delete_and_recreate(env: &Env) {
    let name = env.topic(2, &[("retention.ms", "12345")]);
    env.fill(&name, 1, &["a", "b"]);
    env.runtime.block_on(env.admin().delete_topics(&[&name], &AdminOptions::new())).unwrap().remove(0).unwrap();
    eventually("gone", || partitions(env, &name).is_none());
    eventually("created again", || env.create(&name, 1, &[]).is_ok());
    eventually("one partition", || partitions(env, &name) == Some(1));
    assert!(!config(env, &name, "retention.ms").unwrap().1, "a config of the deleted topic");
    assert_eq!(env.fill(&name, 0, &["c"]), [0]);
    assert_eq!(env.values(&name, 1, &[]), ["c"]);
}

fn grow(env: &Env) {
    let name = env.topic(2, &[]);
    env.fill(&name, 1, &["a"]);
    let grow = |name: &str, total| {
        let wanted = [NewPartitions::new(name, total)];
        let done =
            env.runtime.block_on(env.admin().create_partitions(&wanted, &AdminOptions::new())).unwrap().remove(0);
        done.map(drop).map_err(|(_, code)| code)
    };
    assert_eq!(grow(&name, 4), Ok(()));
    eventually("four partitions", || partitions(env, &name) == Some(4));
    for total in [4, 3, 1] {
        assert_eq!(grow(&name, total), Err(Code::InvalidPartitions), "{total} partitions");
    }
    assert_eq!(grow(&env.name(), 3), Err(Code::UnknownTopicOrPartition));
    assert_eq!(env.fill(&name, 3, &["b"]), [0]);
    assert_eq!(env.values(&name, 4, &[]), ["a", "b"]);
}

fn configs(env: &Env) {
    let name = env.topic(1, &[("max.message.bytes", "5000")]);
    let value = |key| config(env, &name, key).unwrap();
    assert_eq!(value("max.message.bytes"), (Some("5000".to_owned()), true));
    assert_eq!(value("segment.ms"), (Some("604800000".to_owned()), false));
    assert_eq!(value("cleanup.policy").0.as_deref(), Some("delete"));
    assert_eq!(value("message.timestamp.type").0.as_deref(), Some("CreateTime"));
}

/// Replaces all configs of a topic, as the older AlterConfigs does.
fn replace(env: &Env, topic: &str, configs: &[(&str, &str)]) {
    let wanted = AlterConfig::new(ResourceSpecifier::Topic(topic));
    let wanted = [configs.iter().fold(wanted, |wanted, (key, value)| wanted.set(key, value))];
    env.runtime.block_on(env.admin().alter_configs(&wanted, &AdminOptions::new())).unwrap().remove(0).unwrap();
}

fn replace_configs(env: &Env) {
    let name = env.topic(1, &[("retention.ms", "1000"), ("max.message.bytes", "2000")]);
    replace(env, &name, &[("retention.ms", "3000")]);
    eventually("what is named", || config(env, &name, "retention.ms").unwrap().0.as_deref() == Some("3000"));
    assert!(!config(env, &name, "max.message.bytes").unwrap().1, "what is not named");
}

fn alter_takes_effect(env: &Env) {
    let (name, producer, text) = (env.topic(1, &[]), env.producer(&[]), "x".repeat(5000));
    let sent = || code(env.send_texts(&producer, (&name, 0), &[&text]));
    assert_eq!(sent(), None);
    replace(env, &name, &[("max.message.bytes", "1000")]);
    eventually("the limit holds", || sent() == Some(Code::MessageSizeTooLarge));
    replace(env, &name, &[]);
    eventually("the limit is lifted", || sent().is_none());
}
