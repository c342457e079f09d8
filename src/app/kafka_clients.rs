//! How clients reach Kafka: those of this process, and those of commands beside a running server.

use std::net::IpAddr;

use super::AppError;
use crate::{
    adapters::kafka::KafkaSettings,
    config::{Config, brokers_fault},
};

/// The consumer group of a pipeline's source.
pub fn group(config: &Config, pipeline: &str) -> String {
    format!("{}-{pipeline}", config.kafka.consumer_group)
}

/// For a cluster at an address, with the configured settings of `kafka.client`.
pub fn settings(config: &Config, bootstrap: String) -> KafkaSettings {
    let extra = config.kafka.client.expose().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    KafkaSettings { bootstrap, extra }
}

/// For a command: the cluster at `bootstrap`, the configured one, or the embedded broker of a running server.
///
/// Where the embedded broker is guarded and `kafka.client` names no user, commands come as the first configured user, by
/// loopback alone: PLAIN sends the password as it is.
///
/// # Errors
/// If the embedded broker's port is chosen at start and not known here, or it lets no command in.
pub fn command_settings(config: &Config, bootstrap: Option<&str>) -> Result<KafkaSettings, AppError> {
    if let Some(fault) = bootstrap.and_then(brokers_fault) {
        return Err(AppError::Config(format!("--bootstrap: {fault}")));
    }
    if let Some(cluster) = &config.kafka.bootstrap {
        return Ok(settings(config, bootstrap.unwrap_or(cluster).to_owned()));
    }
    let embedded = &config.kafka.embedded;
    let (key, listen) = if embedded.is_guarded() {
        ("kafka.embedded.local_listen", embedded.local_listen.get())
    } else {
        ("kafka.embedded.listen", embedded.listen.get())
    };
    let address = match bootstrap {
        Some(address) => address.to_owned(),
        None if embedded.is_guarded() && embedded.auth.users.is_empty() => {
            return Err(AppError::Config(
                "the embedded broker has kafka.embedded.tls and no users, and commands come to it by a password: add a user \
                 for them to kafka.embedded.auth.users, or give the address of another broker with --bootstrap"
                    .to_owned(),
            ));
        }
        None if listen.port() == 0 => {
            return Err(AppError::Config(format!(
                "the embedded broker's port is chosen at its start: set {key}, or give the address with --bootstrap"
            )));
        }
        None => listen.to_string(),
    };
    let is_private = is_loopback(&address);
    let settings = settings(config, address);
    let names_a_user = config.kafka.client.names().any(|name| name.starts_with("sasl."));
    match embedded.auth.users.first() {
        Some(user) if is_private && !names_a_user => Ok(settings.with_plain(&user.name, user.password.expose())),
        _ => Ok(settings),
    }
}

/// Whether every broker of a list `host:port,host:port` is on this machine.
fn is_loopback(brokers: &str) -> bool {
    brokers.split(',').all(|broker| {
        let broker = broker.trim();
        let host = broker.rsplit_once(':').map_or(broker, |(host, _)| host);
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{KafkaUser, ListenAddr, Secret};

    fn guarded() -> Config {
        let mut config = Config::default();
        let user = KafkaUser { name: "ann".into(), password: Secret::new("pencil") };
        config.kafka.embedded.auth.users = vec![user];
        config.kafka.embedded.local_listen = ListenAddr::loopback(9093);
        config
    }

    fn setting(settings: &KafkaSettings, name: &str) -> Option<String> {
        settings.extra.get(name).cloned()
    }

    #[test]
    fn commands_come_to_a_guarded_broker_by_its_local_address_as_the_first_user() {
        let settings = command_settings(&guarded(), None).unwrap();
        assert_eq!(settings.bootstrap, "127.0.0.1:9093");
        assert_eq!(setting(&settings, "sasl.username").as_deref(), Some("ann"));
        assert_eq!(setting(&settings, "security.protocol").as_deref(), Some("sasl_plaintext"));
    }

    #[test]
    fn a_user_in_the_client_settings_comes_first() {
        let mut config = guarded();
        config.kafka.client = serde_json::from_str(r#"{"sasl.username": "bob"}"#).unwrap();
        let settings = command_settings(&config, Some("127.0.0.1:9")).unwrap();
        assert_eq!(settings.bootstrap, "127.0.0.1:9");
        assert_eq!(setting(&settings, "sasl.username").as_deref(), Some("bob"));
    }

    #[test]
    fn a_password_of_the_configuration_leaves_this_machine_for_no_address() {
        let mut config = guarded();
        config.kafka.client = serde_json::from_str(r#"{"ssl.ca.location": "ca.pem"}"#).unwrap();
        for away in ["k.example:9092", "10.0.0.1:9092", "127.0.0.1:9093,k.example:9092", "localhost.example:9092"] {
            let settings = command_settings(&config, Some(away)).unwrap();
            assert_eq!((setting(&settings, "sasl.password"), settings.extra.len()), (None, 1), "{away}");
        }
        for here in ["127.0.0.1:9093", "[::1]:9093", "localhost:9093", "localhost:1, 127.0.0.2:2"] {
            let settings = command_settings(&config, Some(here)).unwrap();
            assert_eq!(setting(&settings, "sasl.password").as_deref(), Some("pencil"), "{here}");
        }
    }

    #[test]
    fn a_broker_with_tls_and_no_users_lets_no_command_in_and_that_is_said() {
        let mut config = guarded();
        config.kafka.embedded.auth.users = Vec::new();
        config.kafka.embedded.tls.certificate = Some("-----BEGIN CERTIFICATE-----".to_owned());
        let error = command_settings(&config, None).unwrap_err().to_string();
        assert!(error.contains("kafka.embedded.auth.users"), "{error}");
        assert_eq!(command_settings(&config, Some("k:9092")).unwrap().bootstrap, "k:9092");
    }

    #[test]
    fn a_cluster_outside_gets_the_client_settings_alone() {
        let mut config = guarded();
        config.kafka.bootstrap = Some("k:9092".into());
        let settings = command_settings(&config, None).unwrap();
        assert_eq!((settings.bootstrap.as_str(), settings.extra.len()), ("k:9092", 0));
    }

    #[test]
    fn an_unknown_port_is_said_with_the_key_that_would_fix_it() {
        let mut config = guarded();
        config.kafka.embedded.local_listen = ListenAddr::loopback(0);
        let error = command_settings(&config, None).unwrap_err().to_string();
        assert!(error.contains("kafka.embedded.local_listen") && error.contains("--bootstrap"), "{error}");
    }
}
