//! Who reaches what: addresses, and what guards those that other machines reach.

use streamward_broker::MAX_USERS;

use super::Check;
use crate::config::load::Exposure;
use crate::config::{Config, EmbeddedKafka, HIDDEN, KafkaUser, ListenAddr, SaslMechanism};

const KAFKA: &str = "kafka.embedded.listen";
/// Bytes of a user's name, as of a SASL name (RFC 4616).
const MAX_USER_BYTES: usize = 255;

/// An address with what guards it.
struct Listener {
    path: &'static str,
    address: ListenAddr,
    is_authenticated: bool,
    /// What to do where it is not.
    way_out: &'static str,
}

pub fn all(config: &Config, exposure: Exposure, check: &mut Check<'_>) {
    let listeners = listeners(config);
    for (index, one) in listeners.iter().enumerate() {
        let earlier = listeners[..index].iter().find(|taken| same(taken.address, one.address));
        if let Some(taken) = earlier {
            check.fault(one.path, format!("{} is the address of {} already", one.address, taken.path));
        }
        if !one.address.is_loopback() && !one.is_authenticated && exposure == Exposure::Guarded {
            let (address, way_out) = (one.address, one.way_out);
            check.fault(
                one.path,
                format!(
                    "{address} is open to other machines without authentication: {way_out}, or start with --insecure"
                ),
            );
        }
    }
    if config.kafka.bootstrap.is_none() {
        embedded(&config.kafka.embedded, exposure, check);
    }
}

fn listeners(config: &Config) -> Vec<Listener> {
    let mut all = vec![Listener {
        path: "http.listen",
        address: config.http.listen,
        is_authenticated: !config.auth.tokens.is_empty(),
        way_out: "set auth.tokens, listen on 127.0.0.1",
    }];
    if config.kafka.bootstrap.is_none() {
        let embedded = &config.kafka.embedded;
        all.push(Listener {
            path: KAFKA,
            address: embedded.listen,
            is_authenticated: embedded.is_authenticated(),
            way_out: "set kafka.embedded.auth.users, listen on 127.0.0.1",
        });
        all.push(Listener {
            path: "kafka.embedded.local_listen",
            address: embedded.local_listen,
            is_authenticated: true,
            way_out: "",
        });
    }
    if config.registry.url.is_none() {
        all.push(Listener {
            path: "registry.embedded.listen",
            address: config.registry.embedded.listen,
            is_authenticated: false,
            way_out: "listen on 127.0.0.1",
        });
    }
    all
}

fn same(a: ListenAddr, b: ListenAddr) -> bool {
    let (a, b) = (a.get(), b.get());
    let overlap = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && overlap
}

fn embedded(kafka: &EmbeddedKafka, exposure: Exposure, check: &mut Check<'_>) {
    let path = "kafka.embedded.local_listen";
    check.require(kafka.local_listen.is_loopback(), path, "must be a loopback address: its clients send passwords");
    if let Some(host) = &kafka.advertised_host {
        let fine = (1..=255).contains(&host.len()) && !host.contains(['/', ' ', '@']);
        check.require(
            fine,
            "kafka.embedded.advertised_host",
            "expected a host such as kafka.example.org, without a port",
        );
    }
    tls(kafka, check);
    users(&kafka.auth.users, check);
    let auth = &kafka.auth;
    check.require(!auth.mechanisms.is_empty(), "kafka.embedded.auth.mechanisms", "at least one mechanism is needed");
    let sends_passwords = !auth.users.is_empty() && auth.mechanisms.contains(&SaslMechanism::Plain);
    let is_readable = kafka.tls.certificate.is_none() && !kafka.listen.is_loopback();
    if sends_passwords && is_readable && exposure == Exposure::Guarded {
        let why = "PLAIN sends passwords that anyone on the way can read: set kafka.embedded.tls, leave SCRAM alone here, \
                   or start with --insecure";
        check.fault("kafka.embedded.auth.mechanisms", why);
    }
}

fn tls(kafka: &EmbeddedKafka, check: &mut Check<'_>) {
    let tls = &kafka.tls;
    let is_on = tls.certificate.is_some();
    check.require(
        is_on == tls.key.is_some(),
        "kafka.embedded.tls",
        "certificate and key belong together: one is given without the other",
    );
    check.require(is_on || tls.client_ca.is_none(), "kafka.embedded.tls.client_ca", "needs certificate and key");
    let texts = [
        ("certificate", tls.certificate.as_deref()),
        ("key", tls.key.as_ref().map(|key| key.expose())),
        ("client_ca", tls.client_ca.as_deref()),
    ];
    let mut is_whole = is_on == tls.key.is_some();
    for (name, text) in texts {
        let is_pem = text.is_none_or(|text| text.contains("-----BEGIN "));
        is_whole &= is_pem;
        check.require(
            is_pem,
            &format!("kafka.embedded.tls.{name}"),
            "expected PEM text, for example from a file: ${file:tls/broker.pem}",
        );
    }
    if let Some(Err(error)) = tls.served().filter(|_| is_whole).map(|served| served.check()) {
        check.fault("kafka.embedded.tls", error.to_string());
    }
}

fn users(users: &[KafkaUser], check: &mut Check<'_>) {
    if users.len() > MAX_USERS {
        return check.fault("kafka.embedded.auth.users", format!("at most {MAX_USERS} users"));
    }
    for (index, user) in users.iter().enumerate() {
        let at = |key: &str| format!("kafka.embedded.auth.users.{index}.{key}");
        let fine = (1..=MAX_USER_BYTES).contains(&user.name.len()) && !user.name.chars().any(char::is_control);
        check.require(fine, &at("name"), "a name is 1 to 255 bytes without control characters");
        let password = user.password.expose();
        let fine = !password.is_empty() && !password.contains('\0');
        check.require(fine, &at("password"), "a password is missing, or has a NUL");
        check.require(password != HIDDEN, &at("password"), "this stands for a hidden password and is none");
        let repeated = users[..index].iter().any(|earlier| earlier.name == user.name);
        check.require(!repeated, &at("name"), "another user has this name");
    }
}
