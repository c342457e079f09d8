//! What a range cannot say of a key, and keys of one section that must fit each other.

use super::Check;
use crate::{
    adapters::registry::tls,
    config::{Config, HIDDEN, SqliteConfig},
};

/// More than there are kinds of sensors; one of more types is there twice.
const MAX_TYPES: usize = 8;

pub fn all(config: &Config, check: &mut Check<'_>) {
    kafka(config, check);
    registry(config, check);
    storage(config, check);
    http(config, check);
    simulators(config, check);
}

pub fn topic(path: &str, topic: &str, check: &mut Check<'_>) {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fine = !topic.is_empty() && topic.len() <= 249 && topic.chars().all(legal) && !matches!(topic, "." | "..");
    check.require(fine, path, "a topic is 1 to 249 letters, digits, '.', '_' and '-'");
}

/// The same for topics that Kafka does not make beside each other: its metrics write `_` for `.` (`Topic.hasCollision`).
pub fn collision_key(topic: &str) -> String {
    topic.replace('.', "_")
}

/// What is wrong with a list of brokers; it shows nothing of them, since there may be a password.
pub fn brokers_fault(brokers: &str) -> Option<&'static str> {
    let is_broker = |broker: &str| {
        let Some((host, port)) = broker.trim().rsplit_once(':') else {
            return false;
        };
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    if brokers.contains('@') || brokers.contains("://") {
        return Some(
            "brokers are written as host:port, without credentials or protocol: user and password are sasl.username and \
             sasl.password of kafka.client, the protocol is its security.protocol",
        );
    }
    let is_fine = brokers.split(',').all(is_broker);
    (!is_fine).then_some("expected host:port, several with commas between them")
}

fn kafka(config: &Config, check: &mut Check<'_>) {
    let kafka = &config.kafka;
    if let Some(fault) = kafka.bootstrap.as_deref().and_then(brokers_fault) {
        check.fault("kafka.bootstrap", fault);
    }
    check.require(!kafka.consumer_group.trim().is_empty(), "kafka.consumer_group", "must not be empty");
    if let Some(id) = &config.node.id {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let fine = (1..=249).contains(&id.len()) && id.chars().all(legal);
        check.require(fine, "node.id", "an id is 1 to 249 letters, digits, '.', '_' and '-'");
    }
}

fn registry(config: &Config, check: &mut Check<'_>) {
    let registry = &config.registry;
    topic("registry.embedded.topic", &registry.embedded.topic, check);
    let auth = &registry.auth;
    check.require(auth.password.is_none() || auth.user.is_some(), "registry.auth.user", "a password needs a user");
    check.require(
        auth.user.is_none() || auth.token.is_none(),
        "registry.auth.token",
        "give a user or a token, not both",
    );
    for (name, secret) in [("password", &auth.password), ("token", &auth.token)] {
        let is_given = secret.as_ref().is_none_or(|secret| secret.expose() != HIDDEN);
        check.require(
            is_given,
            &format!("registry.auth.{name}"),
            &format!("this stands for a hidden {name} and is none"),
        );
    }
    let Some(text) = &registry.url else { return };
    let url = url::Url::parse(text.expose()).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none());
    let Some(url) = url else {
        return check.fault("registry.url", "expected a URL such as http://registry.example.org:8081");
    };
    let has_user = !url.username().is_empty() || url.password().is_some();
    let is_double = has_user && (auth.user.is_some() || auth.token.is_some());
    check.require(!is_double, "registry.url", "credentials are in the URL and in registry.auth: give them once");
    let is_plain = registry.ca_file.is_some() && url.scheme() == "http";
    check.require(!is_plain, "registry.ca_file", "registry.url is no https URL: nothing is checked by certificates");
    let unusable = registry.ca_file.as_deref().and_then(|file| tls::config(Some(file)).err());
    if let Some(reason) = unusable.filter(|_| !is_plain) {
        check.fault("registry.ca_file", reason);
    }
}

fn storage(config: &Config, check: &mut Check<'_>) {
    let (sqlite, commit) = (&config.storage.sqlite, &config.storage.commit);
    if let Some(path) = &sqlite.path {
        let text = path.to_string_lossy();
        let is_file = !text.is_empty() && !text.starts_with(':') && !text.starts_with("file:") && !text.ends_with('/');
        check.require(
            is_file && !path.is_dir(),
            "storage.sqlite.path",
            "must be a file: what is stored must outlive the process, and readers open it by its path",
        );
    }
    if let Some(postgres) = &config.storage.postgres {
        if let Err(fault) = postgres.settings() {
            check.fault("storage.postgres.url", fault);
        }
        check.require(
            *sqlite == SqliteConfig::default(),
            "storage.postgres",
            "there is one database: leave out storage.sqlite or storage.postgres",
        );
    }
    check.require(
        commit.max_rows <= commit.max_rows_busy,
        "storage.commit.max_rows_busy",
        "must not be less than storage.commit.max_rows",
    );
}

fn http(config: &Config, check: &mut Check<'_>) {
    let socket = &config.http.websocket;
    check.require(
        socket.evict_after > socket.ping_every,
        "http.websocket.evict_after",
        "must be more than http.websocket.ping_every",
    );
    for (index, origin) in config.http.allowed_origins.iter().enumerate() {
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        let fine = host.is_some_and(|host| !host.is_empty() && !host.contains('/'));
        check.require(
            fine,
            &format!("http.allowed_origins.{index}"),
            "expected an origin such as https://ops.example.org, without a path",
        );
    }
    for (index, host) in config.http.allowed_hosts.iter().enumerate() {
        let fine = !host.is_empty() && !host.contains(['/', ' ']);
        check.require(
            fine,
            &format!("http.allowed_hosts.{index}"),
            "expected a host such as ops.example.org or ops.example.org:8000",
        );
    }
}

fn simulators(config: &Config, check: &mut Check<'_>) {
    let sensors = &config.simulators.sensors;
    check.require(!sensors.types.is_empty(), "simulators.sensors.types", "at least one type is needed");
    for (index, kind) in sensors.types.iter().take(MAX_TYPES).enumerate() {
        let repeated = sensors.types[..index].contains(kind);
        check.require(!repeated, &format!("simulators.sensors.types.{index}"), "this type is in the list already");
    }
}
