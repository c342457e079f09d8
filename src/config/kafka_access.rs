//! Sections `auth`, `tls` and `client_rates` of `kafka.embedded`: who may use the embedded broker, and how much of it.

use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use streamward_broker::{BrokerConfig, TlsConfig, Validity};

use super::limits::{bytes_within, within};
use super::secret::Secret;
use super::units::{ByteSize, HumanDuration};

/// How clients of the embedded broker prove who they are.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaAuth {
    /// SASL mechanisms that clients may choose from.
    pub mechanisms: Vec<SaslMechanism>,
    /// Who may use the broker; with none, everyone who reaches it.
    pub users: Vec<KafkaUser>,
    /// Time after which a connection has to prove its user again; null: never.
    #[schemars(transform = within(BrokerConfig::MAX_SESSION))]
    pub reauthenticate_after: Option<HumanDuration>,
}

impl Default for KafkaAuth {
    fn default() -> Self {
        let mechanisms = vec![SaslMechanism::ScramSha512, SaslMechanism::ScramSha256];
        Self { mechanisms, users: Vec::new(), reauthenticate_after: None }
    }
}

/// A SASL mechanism by the name that Kafka's clients have for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum SaslMechanism {
    /// The password itself goes to the broker.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Proof of the password with SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Proof of the password with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// Somebody who may use the embedded broker.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["name", "password"]))]
pub struct KafkaUser {
    /// Name that clients give. Required.
    pub name: String,
    /// The password. Required.
    pub password: Secret,
}

/// TLS of the embedded broker's listener; every text is PEM, best given as `${file:tls/broker.pem}`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaTls {
    /// The certificate, followed by those that lead to its root; null: no TLS.
    pub certificate: Option<String>,
    /// The certificate's private key.
    pub key: Option<Secret>,
    /// Roots of the certificates that clients have to show; null: they show none.
    pub client_ca: Option<String>,
}

/// Bytes per second of each user, or of each client id where clients do not authenticate.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientRates {
    /// Of produce requests; null: no limit.
    #[schemars(transform = bytes_within(BrokerConfig::CLIENT_RATE))]
    pub produce: Option<ByteSize>,
    /// Of fetched records; null: no limit.
    #[schemars(transform = bytes_within(BrokerConfig::CLIENT_RATE))]
    pub fetch: Option<ByteSize>,
}

impl KafkaTls {
    /// What the broker's listener needs; none without TLS.
    pub fn served(&self) -> Option<TlsConfig> {
        let (certificate, key) = (self.certificate.as_ref()?, self.key.as_ref()?);
        Some(TlsConfig {
            certificate: certificate.clone().into_bytes(),
            key: key.expose().as_bytes().to_vec(),
            client_ca: self.client_ca.clone().map(String::into_bytes),
        })
    }

    /// What to say of the certificate's times; a text that holds none is refused by the broker.
    pub fn remark(&self, now: SystemTime) -> Option<String> {
        let why = match self.served()?.validity(now).ok()? {
            Validity::Lasting => return None,
            Validity::EndsSoon => {
                "expires within 14 days: renew it and restart, or clients that check it no longer connect"
            }
            Validity::Expired => "has expired: clients that check it do not connect; renew it and restart",
            Validity::NotYetValid => "is not valid yet: clients that check it do not connect; see this machine's clock",
        };
        Some(format!("kafka.embedded.tls.certificate {why}"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A certificate of X.509 version 1, which has no names of hosts, and its key.
    const VERSION_1: [&str; 2] = [
        "-----BEGIN CERTIFICATE-----\n\
         MIIBJDCBywIUZ1GzgpV4tp8T/NRu/EhwEN1TfV0wCgYIKoZIzj0EAwIwFDESMBAG\n\
         A1UEAwwJbG9jYWxob3N0MCAXDTI2MTEzMDIxMTMzMloYDzIwODEwOTAyMjExMzMy\n\
         WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC\n\
         AATKYZmkr1LZHsHYBkA7a7HA/QzevwExyKASQkBnkvSJqToivuV4oidArDKm1PTO\n\
         3LTw/+03djYikdkDKispqDi6MAoGCCqGSM49BAMCA0gAMEUCIQDRbmJCwnWzDll4\n\
         qbXsBfzaVA9EvBcWEPyImg7jW2DjwgIgamNbwamNK+uZKq+37ZwPlnYiZSiHTcAL\n\
         jRrIoz/xNmA=\n\
         -----END CERTIFICATE-----",
        "-----BEGIN PRIVATE KEY-----\n\
         MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgUKbuam9Jv3n7yu80\n\
         Y6/v8haDzUHxUHwm0zInebjo5qKhRANCAATKYZmkr1LZHsHYBkA7a7HA/QzevwEx\n\
         yKASQkBnkvSJqToivuV4oidArDKm1PTO3LTw/+03djYikdkDKispqDi6\n\
         -----END PRIVATE KEY-----",
    ];

    #[test]
    fn a_certificate_that_the_listener_does_not_take_is_refused_by_the_check() {
        let refused = |certificate: &str, key: &str| {
            let text = |text: &str| serde_json::to_string(text).unwrap();
            let (certificate, key) = (text(certificate), text(key));
            let set = |name: &str, text: String| (format!("kafka.embedded.tls.{name}"), text);
            let sets = vec![set("certificate", certificate), set("key", key)];
            let sources = crate::config::Sources { sets, ..Default::default() };
            crate::config::Config::load(&sources).err().map(|faults| faults.to_string())
        };
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        assert_eq!(refused(&certificate, &key), None);
        let [old, its_key] = VERSION_1;
        for (certificate, key) in [(old, its_key), (&*certificate, &*other.signing_key.serialize_pem())] {
            let said = refused(certificate, key).unwrap_or_default();
            assert!(said.contains("kafka.embedded.tls: ") && !said.contains("BEGIN"), "{said}");
        }
    }

    #[test]
    fn a_certificate_that_is_not_valid_for_long_is_remarked() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let tls = KafkaTls {
            certificate: Some(made.cert.pem()),
            key: Some(Secret::new(made.signing_key.serialize_pem())),
            client_ca: None,
        };
        // rcgen's are valid from 1975 to 4096.
        let year = |year: u64| SystemTime::UNIX_EPOCH + Duration::from_hours((year - 1970) * 8766);
        let said = |now| tls.remark(now).unwrap_or_default();
        assert_eq!(said(year(2026)), "");
        assert!(said(year(4097)).contains("kafka.embedded.tls.certificate has expired"), "{}", said(year(4097)));
        assert!(said(year(1973)).contains("not valid yet"), "{}", said(year(1973)));
        let new_year = year(4096);
        let soon = (0..40).map(|days| said(new_year - Duration::from_hours(24 * days)));
        let soon = soon.filter(|said| said.contains("expires within 14 days")).count();
        assert!((13..=15).contains(&soon), "{soon} days");
        assert_eq!(KafkaTls::default().remark(year(4097)), None);
    }
}
