//! Section `kafka.client`: settings that the product decides, those that break its promises, and what librdkafka refuses.

use std::collections::BTreeMap;

use super::Check;
use crate::{
    adapters::kafka::probe,
    config::{ClientSettings, HIDDEN, is_secret_setting},
};

const POSITIONS: &str = "positions are kept in the database";
const GROUPS: &str = "the source and its group's protocol decide it";
const ALL: &str = "a record counts as written when all replicas in sync have it: only 'all' is possible";
/// librdkafka settings that other keys or the product itself decide.
const OWN: [(&str, &str); 16] = [
    ("bootstrap.servers", "kafka.bootstrap decides it"),
    ("metadata.broker.list", "kafka.bootstrap decides it"),
    ("group.id", "kafka.consumer_group decides it"),
    ("group.instance.id", "node.id decides it"),
    ("group.protocol", GROUPS),
    ("partition.assignment.strategy", GROUPS),
    ("enable.auto.commit", POSITIONS),
    ("auto.commit.enable", POSITIONS),
    ("enable.auto.offset.store", POSITIONS),
    ("offset.store.method", POSITIONS),
    ("auto.offset.reset", "streams.<name>.on_gap decides it"),
    ("isolation.level", "records of transactions that were aborted are never read"),
    ("transactional.id", "only the writer of the schemas has one, and of its own"),
    ("topic.blacklist", "records of a topic that is left out would never be stored"),
    ("plugin.library.paths", "no foreign code is loaded"),
    ("enabled_events", "the client library's binding decides it"),
];
/// Settings with values that break what is promised of delivery: name, values that are fine, why others are not.
const KEPT: [(&str, &[&str], &str); 5] = [
    ("acks", &["all", "-1"], ALL),
    ("request.required.acks", &["all", "-1"], ALL),
    ("enable.idempotence", &["true"], "a retry would write records twice"),
    ("queuing.strategy", &["fifo"], "records would be written in another order"),
    ("delivery.report.only.error", &["false"], "acknowledgements are waited for"),
];
/// Whether the library that is built in has OpenSSL.
const HAS_TLS: bool = cfg!(feature = "tls");
/// Why TLS and SCRAM are refused, and what to do.
const NO_TLS: &str = "TLS and SCRAM need a binary that is built with 'cargo build --release --features tls'";
/// Whether the library that is built in asks a token server.
const HAS_OIDC: bool = cfg!(feature = "oidc");
/// Why bearer tokens are refused, and what there is instead.
const NO_TOKENS: &str = "bearer tokens (OAUTHBEARER) need a binary that is built with 'cargo build --release --features oidc'; \
                         without it log in with SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN, or show a client certificate";
/// The one setting of TLS whose name does not begin with `ssl.`.
const CERTIFICATE_CHECK: &str = "enable.ssl.certificate.verification";
/// The way to a token that is built in.
const METHOD: &str = "sasl.oauthbearer.method";
/// Requests in flight up to which a retry keeps the order (KIP-98).
const MAX_IN_FLIGHT: u32 = 5;

pub fn all(settings: &ClientSettings, check: &mut Check<'_>) {
    let mut others = BTreeMap::new();
    for (name, value) in settings.expose() {
        let reason = reason(name, value).or_else(|| without_token(name, value, settings));
        match reason.or_else(|| without_tls(name, value)) {
            Some(reason) => check.fault(&format!("kafka.client.{name}"), reason),
            None => {
                others.insert(name.to_owned(), value.to_owned());
            }
        }
    }
    let has_refused = others.len() < settings.names().count();
    for refusal in probe::refusals(&others) {
        match refusal.name {
            Some(name) => {
                let is_secret = is_secret_setting(&name);
                let reason =
                    if is_secret { "the client library refuses this value".to_owned() } else { refusal.reason };
                let is_lacking = !HAS_TLS && (name.starts_with("ssl.") || name == CERTIFICATE_CHECK);
                let reason = if is_lacking { format!("{reason}; {NO_TLS}") } else { reason };
                check.fault(&format!("kafka.client.{name}"), reason);
            }
            // Without the refused ones they are not what was meant.
            None if has_refused => {}
            None => check.fault("kafka.client", without_secrets(refusal.reason, &others)),
        }
    }
}

/// Why a setting cannot be set here.
fn reason(name: &str, value: &str) -> Option<String> {
    if let Some((_, why)) = OWN.iter().find(|(own, _)| *own == name) {
        return Some(format!("'{name}' cannot be set here: {why}"));
    }
    if let Some((_, fine, why)) = KEPT.iter().find(|(kept, ..)| *kept == name) {
        let is_fine = fine.iter().any(|fine| fine.eq_ignore_ascii_case(value.trim()));
        return (!is_fine).then(|| format!("'{name}' must be {}: {why}", fine[0]));
    }
    let in_flight = matches!(name, "max.in.flight" | "max.in.flight.requests.per.connection");
    let is_more = value.trim().parse::<u32>().is_ok_and(|count| count > MAX_IN_FLIGHT);
    (in_flight && is_more)
        .then(|| format!("'{name}' must be at most {MAX_IN_FLIGHT}: with more, a retry changes the order of records"))
}

/// Why a setting leads to no bearer token.
fn without_token(name: &str, value: &str, settings: &ClientSettings) -> Option<String> {
    let is = |value: &str, word: &str| value.trim().eq_ignore_ascii_case(word);
    let is_mechanism = matches!(name, "sasl.mechanism" | "sasl.mechanisms") && is(value, "OAUTHBEARER");
    if !is_mechanism && !name.contains("sasl.oauthbearer.") {
        return None;
    }
    let asks = settings.expose().any(|(name, value)| name == METHOD && is(value, "oidc"));
    let is_for_tests = matches!(name, "enable.sasl.oauthbearer.unsecure.jwt" | "sasl.oauthbearer.config");
    match (HAS_OIDC, is_for_tests) {
        (false, _) => Some(format!("'{name}': {NO_TOKENS}")),
        (true, true) => Some(format!("'{name}' cannot be set here: a token that nobody signed proves nothing")),
        (true, false) if is_mechanism && !asks => Some(format!("'{name}': OAUTHBEARER needs {METHOD}: oidc")),
        (true, false) => None,
    }
}

/// Why a setting asks for what only a binary with OpenSSL has; the library names it for each mechanism in other words.
fn without_tls(name: &str, value: &str) -> Option<String> {
    let value = value.trim().to_ascii_uppercase();
    let asks = match name {
        "security.protocol" => matches!(&*value, "SSL" | "SASL_SSL"),
        "sasl.mechanism" | "sasl.mechanisms" => value.starts_with("SCRAM-"),
        _ => false,
    };
    (asks && !HAS_TLS).then(|| format!("'{name}': {NO_TLS}"))
}

fn without_secrets(text: String, settings: &BTreeMap<String, String>) -> String {
    let secrets = settings.iter().filter(|(name, value)| is_secret_setting(name) && !value.is_empty());
    secrets.fold(text, |text, (_, value)| text.replace(value.as_str(), HIDDEN))
}
