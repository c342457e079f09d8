//! Ranges of single keys, and keys of one section that must fit each other.

use super::Check;
use crate::config::{Config, HIDDEN, HumanDuration};

const MAX_PARTITIONS: u32 = 4096;
const MAX_ROWS: u32 = 1_000_000;
const MAX_THREADS: u32 = 64;
const MAX_QUEUE: u32 = 65_536;
const MAX_CONNECTIONS: u32 = 1_000_000;
/// librdkafka settings that other keys or the product itself decide.
const OWN_SETTINGS: [(&str, &str); 6] = [
    ("bootstrap.servers", "kafka.bootstrap decides it"),
    ("metadata.broker.list", "kafka.bootstrap decides it"),
    ("group.id", "kafka.consumer_group decides it"),
    ("enable.auto.commit", "positions are kept in the database"),
    ("enable.auto.offset.store", "positions are kept in the database"),
    ("auto.offset.reset", "streams.<name>.on_gap decides it"),
];

pub fn all(config: &Config, check: &mut Check<'_>) {
    positive(config, check);
    kafka(config, check);
    registry(config, check);
    storage(config, check);
    http(config, check);
    simulators(config, check);
}

fn positive(config: &Config, check: &mut Check<'_>) {
    let (kafka, storage) = (&config.kafka.embedded, &config.storage);
    let simulator = &config.simulators.sensors;
    let durations = [
        ("kafka.embedded.fsync_interval", kafka.fsync_interval),
        ("storage.checkpoint_every", storage.checkpoint_every),
        ("storage.retention.check_every", storage.retention.check_every),
        ("http.websocket.ping_every", config.http.websocket.ping_every),
        ("kafka.start_timeout", config.kafka.start_timeout),
        ("registry.timeout", config.registry.timeout),
        ("registry.start_timeout", config.registry.start_timeout),
        ("simulators.sensors.interval", simulator.interval),
    ];
    for (path, duration) in durations {
        more_than_nothing(path, duration, check);
    }
    let limits =
        [("kafka.embedded.retention.age", kafka.retention.age), ("storage.retention.age", storage.retention.age)];
    for (path, limit) in limits {
        if let Some(duration) = limit {
            more_than_nothing(path, duration, check);
        }
    }
    let sizes = [
        ("kafka.embedded.retention.size", kafka.retention.size),
        ("kafka.embedded.client_rates.produce", kafka.client_rates.produce),
        ("kafka.embedded.client_rates.fetch", kafka.client_rates.fetch),
        ("storage.retention.size", storage.retention.size),
        ("storage.sqlite.cache_size", Some(storage.sqlite.cache_size)),
        ("http.max_body", Some(config.http.max_body)),
    ];
    for (path, size) in sizes {
        let holds = size.is_none_or(|size| size.get() > 0);
        check.require(holds, path, "must be more than 0B");
    }
}

pub fn more_than_nothing(path: &str, duration: HumanDuration, check: &mut Check<'_>) {
    check.require(!duration.is_zero(), path, "must be more than 0s");
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

pub fn partitions(path: &str, partitions: u32, check: &mut Check<'_>) {
    check.range(path, partitions, 1..=MAX_PARTITIONS);
}

fn kafka(config: &Config, check: &mut Check<'_>) {
    let kafka = &config.kafka;
    if let Some(bootstrap) = &kafka.bootstrap {
        let fine = bootstrap.split(',').all(|broker| {
            let Some((host, port)) = broker.trim().rsplit_once(':') else {
                return false;
            };
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        check.require(fine, "kafka.bootstrap", "expected host:port, several with commas between them");
    }
    check.require(!kafka.consumer_group.trim().is_empty(), "kafka.consumer_group", "must not be empty");
    for name in kafka.client.names() {
        if let Some((_, why)) = OWN_SETTINGS.iter().find(|(own, _)| *own == name) {
            let path = format!("kafka.client.{name}");
            check.fault(&path, format!("'{name}' cannot be set here: {why}"));
        }
    }
    if let Some(id) = &config.node.id {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let fine = (1..=249).contains(&id.len()) && id.chars().all(legal);
        check.require(fine, "node.id", "an id is 1 to 249 letters, digits, '.', '_' and '-'");
    }
    let embedded = &kafka.embedded;
    partitions("kafka.embedded.default_partitions", embedded.default_partitions, check);
    check.range("kafka.embedded.max_connections", embedded.max_connections, 1..=MAX_CONNECTIONS);
    if let Some(limit) = embedded.max_connections_per_ip {
        check.range("kafka.embedded.max_connections_per_ip", limit, 1..=MAX_CONNECTIONS);
    }
    check.require(
        (4 << 10..=1 << 30).contains(&embedded.segment_size.get()),
        "kafka.embedded.segment_size",
        "must be between 4KiB and 1GiB",
    );
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
}

fn storage(config: &Config, check: &mut Check<'_>) {
    let (sqlite, commit) = (&config.storage.sqlite, &config.storage.commit);
    check.range("storage.sqlite.read_connections", sqlite.read_connections, 1..=MAX_THREADS);
    if let Some(path) = &sqlite.path {
        let text = path.to_string_lossy();
        let is_file = !text.is_empty() && !text.starts_with(':') && !text.starts_with("file:") && !text.ends_with('/');
        check.require(
            is_file && !path.is_dir(),
            "storage.sqlite.path",
            "must be a file: what is stored must outlive the process, and readers open it by its path",
        );
    }
    check.range("storage.commit.max_rows", commit.max_rows, 1..=MAX_ROWS);
    check.range("storage.commit.max_rows_busy", commit.max_rows_busy, 1..=MAX_ROWS);
    check.require(
        commit.max_rows <= commit.max_rows_busy,
        "storage.commit.max_rows_busy",
        "must not be less than storage.commit.max_rows",
    );
}

fn http(config: &Config, check: &mut Check<'_>) {
    let socket = &config.http.websocket;
    check.range("http.workers", config.http.workers, 1..=MAX_THREADS);
    check.range("http.websocket.queue", socket.queue, 1..=MAX_QUEUE);
    check.range("http.websocket.max_sessions", socket.max_sessions, 1..=MAX_CONNECTIONS);
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
    check.range("simulators.sensors.sensors", sensors.sensors, 1..=1_000_000);
    check.range("simulators.sensors.fault_rate", sensors.fault_rate, 0.0..=1.0);
    check.range("simulators.sensors.speed", sensors.speed, 0.001..=1e6);
    check.require(!sensors.types.is_empty(), "simulators.sensors.types", "at least one type is needed");
}
