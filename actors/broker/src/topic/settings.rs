//! Topic configuration: the keys that are known, their defaults, checks and effect.

use std::collections::BTreeMap;

use crate::config::BrokerConfig;
use crate::error::TopicError;
use crate::log::{AppendRules, CompactionRules, Retention, Timestamps};

const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
/// Largest segment: positions in an index have 32 bits.
const MAX_SEGMENT_BYTES: i64 = 1 << 30;

/// The type of a value, as administrators are told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Boolean,
    Text,
    Int,
    Long,
    Double,
    List,
}

impl Kind {
    /// Number of the type in `DescribeConfigs` (KIP-569).
    pub fn wire(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::Text => 2,
            Self::Int => 3,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
        }
    }
}

/// A key of Kafka's topic configuration.
#[derive(Debug)]
pub(crate) struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// Smallest number, where the value is one.
    min: i64,
    /// Possible words, where the value is one of a few.
    words: &'static [&'static str],
    pub default: &'static str,
}

const fn number(name: &'static str, kind: Kind, min: i64, default: &'static str) -> Key {
    Key { name, kind, min, words: &[], default }
}

const fn words(name: &'static str, words: &'static [&'static str], default: &'static str) -> Key {
    Key { name, kind: Kind::Text, min: 0, words, default }
}

const fn boolean(name: &'static str, default: &'static str) -> Key {
    Key { name, kind: Kind::Boolean, min: 0, words: &["true", "false"], default }
}

/// All keys that a topic may have; most are kept and shown without an effect on one node.
pub(crate) const KEYS: &[Key] = &[
    Key { name: "cleanup.policy", kind: Kind::List, min: 0, words: &["delete", "compact"], default: "delete" },
    words("compression.type", &["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"], "producer"),
    number("delete.retention.ms", Kind::Long, 0, "86400000"),
    number("file.delete.delay.ms", Kind::Long, 0, "60000"),
    number("flush.messages", Kind::Long, 1, "9223372036854775807"),
    number("flush.ms", Kind::Long, 0, "9223372036854775807"),
    number("index.interval.bytes", Kind::Int, 0, "4096"),
    number("max.compaction.lag.ms", Kind::Long, 1, "9223372036854775807"),
    number(MAX_MESSAGE_BYTES, Kind::Int, 0, "1048588"),
    boolean("message.downconversion.enable", "true"),
    number("message.timestamp.after.max.ms", Kind::Long, 0, "3600000"),
    number("message.timestamp.before.max.ms", Kind::Long, 0, "9223372036854775807"),
    number("message.timestamp.difference.max.ms", Kind::Long, 0, "9223372036854775807"),
    words("message.timestamp.type", &["CreateTime", "LogAppendTime"], "CreateTime"),
    Key { name: "min.cleanable.dirty.ratio", kind: Kind::Double, min: 0, words: &[], default: "0.5" },
    number("min.compaction.lag.ms", Kind::Long, 0, "0"),
    number("min.insync.replicas", Kind::Int, 1, "1"),
    boolean("preallocate", "false"),
    number("retention.bytes", Kind::Long, -1, "-1"),
    number("retention.ms", Kind::Long, -1, "604800000"),
    number("segment.bytes", Kind::Int, 1_024, "134217728"),
    number("segment.index.bytes", Kind::Int, 4, "10485760"),
    number("segment.jitter.ms", Kind::Long, 0, "0"),
    number("segment.ms", Kind::Long, 1, "604800000"),
    boolean("unclean.leader.election.enable", "false"),
];

/// The key of that name.
pub(crate) fn key(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|k| k.name == name)
}

/// What a topic that does not name the key gets.
pub(crate) fn default_of(name: &str, config: &BrokerConfig) -> String {
    key(name).map_or_else(String::new, |k| k.effective_default(config))
}

impl Key {
    fn check(&self, value: &str) -> Result<(), String> {
        match self.kind {
            Kind::Int | Kind::Long => {
                let max = if self.kind == Kind::Int { i64::from(i32::MAX) } else { i64::MAX };
                let number = value.parse::<i64>().map_err(|e| e.to_string())?;
                if (self.min..=max).contains(&number) {
                    Ok(())
                } else {
                    Err(format!("{number} is not in {}..={max}", self.min))
                }
            }
            Kind::Double => match value.parse::<f64>() {
                Ok(v) if (0.0..=1.0).contains(&v) => Ok(()),
                _ => Err(format!("{value:?} is not in 0..=1")),
            },
            Kind::List => value.split(',').try_for_each(|word| self.check_word(word.trim())),
            Kind::Text | Kind::Boolean => self.check_word(value),
        }
    }

    fn check_word(&self, word: &str) -> Result<(), String> {
        if self.words.contains(&word) { Ok(()) } else { Err(format!("{word:?} is not one of {:?}", self.words)) }
    }

    /// What a topic that does not name the key gets.
    pub fn effective_default(&self, config: &BrokerConfig) -> String {
        let or_never = |v: Option<i64>| v.unwrap_or(-1).to_string();
        match self.name {
            "retention.ms" => or_never(config.default_retention_ms),
            "retention.bytes" => or_never(config.default_retention_bytes),
            "segment.bytes" => config.segment_bytes.to_string(),
            MAX_MESSAGE_BYTES => {
                let default = self.default.parse().unwrap_or(i64::MAX);
                max_message_limit(config).min(default).to_string()
            }
            _ => self.default.to_owned(),
        }
    }
}

/// Bytes of a request to produce that are kept for what is around the records.
const FRAME_BYTES: usize = 64 << 10;

/// Largest `max.message.bytes`: what a request to produce can carry.
fn max_message_limit(config: &BrokerConfig) -> i64 {
    let request = config.max_request_bytes;
    i64::try_from(request - FRAME_BYTES.min(request / 2)).unwrap_or(i64::MAX)
}

/// Checks the entries that a topic names.
///
/// # Errors
/// The first unknown key or impossible value.
pub(crate) fn check(configs: &BTreeMap<String, String>, config: &BrokerConfig) -> Result<(), TopicError> {
    let limit = max_message_limit(config);
    let wanted = configs.get(MAX_MESSAGE_BYTES).and_then(|value| value.parse::<i64>().ok());
    if let Some(wanted) = wanted.filter(|wanted| *wanted > limit && *wanted <= i64::from(i32::MAX)) {
        let request = config.max_request_bytes;
        let reason = format!("{wanted} is above {limit}, what a request of at most {request} bytes can carry");
        return Err(TopicError::InvalidConfig { key: MAX_MESSAGE_BYTES.to_owned(), reason });
    }
    for (name, value) in configs {
        let invalid = |reason: String| TopicError::InvalidConfig { key: name.clone(), reason };
        let key = key(name).ok_or_else(|| invalid("is not known".to_owned()))?;
        key.check(value).map_err(invalid)?;
    }
    Ok(())
}

/// How far the times that producers give may be from the broker's (KIP-937); `None`: any distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimestampLimits {
    pub before_ms: Option<i64>,
    pub after_ms: Option<i64>,
}

/// The effect of a topic's configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TopicSettings {
    pub max_message_bytes: usize,
    pub segment_bytes: u64,
    pub timestamps: Timestamps,
    pub timestamp_limits: TimestampLimits,
    pub retention: Retention,
    /// For topics with `cleanup.policy=compact`.
    pub compaction: Option<CompactionRules>,
}

impl TopicSettings {
    /// What holds for an append at this time.
    pub fn append_rules(&self, now_ms: i64) -> AppendRules {
        AppendRules { segment_bytes: self.segment_bytes, now_ms, timestamps: self.timestamps }
    }

    /// From entries that [`check`] accepted and the broker's defaults.
    pub fn new(configs: &BTreeMap<String, String>, config: &BrokerConfig) -> Self {
        let text = |name: &str| match configs.get(name) {
            Some(value) => value.clone(),
            None => default_of(name, config),
        };
        let number = |name: &str| text(name).parse::<i64>().unwrap_or(-1);
        let limit = |name: &str| Some(number(name)).filter(|v| *v >= 0);
        let has_policy = |word: &str| text("cleanup.policy").split(',').any(|w| w.trim() == word);
        let (is_deleted, is_compacted) = (has_policy("delete"), has_policy("compact"));
        let segment_bytes = number("segment.bytes").clamp(1, MAX_SEGMENT_BYTES).cast_unsigned();
        let max_lag_ms = number("max.compaction.lag.ms");
        let timestamps =
            if text("message.timestamp.type") == "LogAppendTime" { Timestamps::Append } else { Timestamps::Producer };
        Self {
            // An earlier version took larger values, which no request could use.
            max_message_bytes: usize::try_from(number(MAX_MESSAGE_BYTES).min(max_message_limit(config))).unwrap_or(0),
            segment_bytes,
            timestamps,
            timestamp_limits: TimestampLimits {
                before_ms: Some(number("message.timestamp.before.max.ms")).filter(|ms| *ms < i64::MAX),
                after_ms: Some(number("message.timestamp.after.max.ms")).filter(|ms| *ms < i64::MAX),
            },
            retention: Retention {
                max_age_ms: limit("retention.ms").filter(|_| is_deleted),
                max_bytes: limit("retention.bytes").filter(|_| is_deleted).map(i64::cast_unsigned),
                segment_ms: number("segment.ms").max(1).min(if is_compacted { max_lag_ms } else { i64::MAX }),
            },
            compaction: is_compacted.then(|| CompactionRules {
                min_dirty_ratio: text("min.cleanable.dirty.ratio").parse().unwrap_or(0.5),
                min_lag_ms: number("min.compaction.lag.ms"),
                max_lag_ms,
                delete_retention_ms: number("delete.retention.ms"),
                segment_bytes,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        entries.iter().map(own).collect()
    }

    #[test]
    fn every_default_is_a_valid_value() {
        let config = BrokerConfig::new("unused");
        for key in KEYS {
            assert_eq!(key.check(key.default), Ok(()), "{}", key.name);
            let effective = key.effective_default(&config);
            assert_eq!(key.check(&effective), Ok(()), "{}", key.name);
        }
    }

    #[test]
    fn unknown_keys_and_impossible_values_are_named() {
        for (name, value) in [
            ("retention.years", "1"),
            ("retention.ms", "-2"),
            ("max.message.bytes", "3000000000"),
            ("cleanup.policy", "delete,shred"),
            ("min.cleanable.dirty.ratio", "NaN"),
        ] {
            let error = check(&configs(&[(name, value)]), &BrokerConfig::new("unused")).unwrap_err();
            assert!(matches!(error, TopicError::InvalidConfig { key, .. } if key == name));
        }
    }

    #[test]
    fn a_message_larger_than_a_request_is_refused_as_setting_and_cut_as_default() {
        let small = BrokerConfig { max_request_bytes: 200 << 10, ..BrokerConfig::new("unused") };
        let set = |bytes: usize| configs(&[("max.message.bytes", &bytes.to_string())]);
        assert_eq!(check(&set(136 << 10), &small), Ok(()));
        let error = check(&set((136 << 10) + 1), &small).unwrap_err().to_string();
        assert!(error.contains("139264") && error.contains("204800"), "{error}");
        assert_eq!(default_of("max.message.bytes", &small), "139264");
        assert_eq!(TopicSettings::new(&set(100 << 20), &small).max_message_bytes, 136 << 10, "of an earlier version");
    }

    #[test]
    fn a_compacted_topic_has_no_retention() {
        let config = BrokerConfig::new("unused");
        let compact = TopicSettings::new(&configs(&[("cleanup.policy", "compact")]), &config);
        assert_eq!(compact.retention.max_age_ms, None);
        assert!(compact.compaction.is_some());
        let both = TopicSettings::new(&configs(&[("cleanup.policy", "compact,delete")]), &config);
        assert_eq!(both.retention.max_age_ms, config.default_retention_ms);
    }
}
