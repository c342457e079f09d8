//! Whether a cluster can be reached with some settings, and why not.

use std::{
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    metadata::Metadata,
    producer::{BaseProducer, DeliveryResult, Producer as _, ProducerContext},
};

use super::{KafkaSettings, log_line};

/// How long a start may wait for the cluster.
pub const START_WITHIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);

/// How long one question waits for its answer.
const ASK_FOR: Duration = Duration::from_secs(1);

/// How long a command waits for a cluster that does not answer.
const TOPIC_WITHIN: Duration = Duration::from_secs(5);

/// How long events of the client are waited for, between two questions.
const SERVE_FOR: Duration = Duration::from_millis(100);

/// What the reason for a missing token ends with.
const TOKEN_SETTINGS: &str = "; see kafka.client: sasl.oauthbearer.token.endpoint.url, sasl.oauthbearer.client.id, \
                              sasl.oauthbearer.client.secret, sasl.oauthbearer.scope";

/// What the library says of an answer that begins with `HTTP`, taken for a length.
const HTTP_SIZE: &str = "Invalid response size 1213486160";
/// What the reason for that ends with.
const IS_HTTP: &str = ": a web server answers there, and no Kafka broker; give the address of Kafka's protocol (of a Streamward \
                       server that of kafka.embedded.listen, 127.0.0.1:9092 by default)";

/// Why a cluster was not reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// It, or the library, does not accept the settings: trying again does not help.
    #[error("{0}")]
    Refused(String),
    /// Nobody answered in time.
    #[error("nobody answers: {0}")]
    Away(String),
}

/// What the client was told since it was last asked.
#[derive(Clone, Default)]
struct Told {
    trouble: Arc<Mutex<Option<(RDKafkaErrorCode, String)>>>,
}

impl ClientContext for Told {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            // It says only that there is trouble with each broker, which was told before.
            None | Some(RDKafkaErrorCode::AllBrokersDown) => {}
            Some(code) => *self.trouble.lock() = Some((code, reason.to_owned())),
        }
    }
}

impl ProducerContext for Told {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): Self::DeliveryOpaque) {}
}

/// Waits until the cluster answers. `waits` is told why it does not, each reason once.
///
/// # Errors
/// [`Unreachable`]
pub fn reach(settings: &KafkaSettings, within: Duration, waits: impl Fn(&str)) -> Result<(), Unreachable> {
    let asker = Asker::new(settings).map_err(|error| Unreachable::Refused(error.to_string()))?;
    let until = Instant::now() + within;
    let (mut said, mut told) = (String::new(), None);
    loop {
        let Err(error) = asker.ask(None, ASK_FOR) else { return Ok(()) };
        told = asker.told().or(told);
        let (code, reason) = told.clone().unwrap_or_else(|| {
            let silent =
                "connections are closed without a word; does the listener want TLS (kafka.client: security.protocol)?";
            (RDKafkaErrorCode::BrokerTransportFailure, format!("{error}: {silent}"))
        });
        match hint(code, &reason) {
            Some(hint) => return Err(Unreachable::Refused(format!("{reason}; see {hint}"))),
            None if Instant::now() >= until => return Err(Unreachable::Away(reason)),
            None if said != reason => {
                waits(&reason);
                said = reason;
            }
            None => {}
        }
    }
}

/// Asks the cluster once for a topic, so that somebody waiting for a command learns soon that nobody answers.
///
/// # Errors
/// Why the cluster does not answer within 5 s, if it refuses the user, or has no such topic.
pub fn reach_topic(settings: &KafkaSettings, topic: &str) -> Result<(), String> {
    let asker = Asker::new(settings).map_err(|error| error.to_string())?;
    let metadata = asker
        .ask(Some(topic), TOPIC_WITHIN)
        .map_err(|error| asker.told().map_or_else(|| error.to_string(), |(_, reason)| reason))?;
    match metadata.topics().iter().find(|found| found.name() == topic).and_then(|found| found.error()) {
        None => Ok(()),
        Some(error) => Err(format!("topic {topic}: {}", RDKafkaErrorCode::from(error))),
    }
}

/// A client that keeps why it gets no answer.
struct Asker {
    client: BaseProducer<Told>,
    context: Told,
}

impl Asker {
    fn new(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        let context = Told::default();
        let client = settings.client("streamward-reach").create_with_context(context.clone())?;
        Ok(Self { client, context })
    }

    fn ask(&self, topic: Option<&str>, within: Duration) -> Result<Metadata, KafkaError> {
        self.client.client().fetch_metadata(topic, within)
    }

    /// What the client was told since it was last asked: that comes by events.
    fn told(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.client.poll(SERVE_FOR);
        let (code, reason) = self.context.trouble.lock().take()?;
        let reason = without_tail(&reason);
        let see = match reason {
            _ if is_about_token(code, reason) => TOKEN_SETTINGS,
            _ if reason.contains(HTTP_SIZE) => IS_HTTP,
            _ => "",
        };
        Some((code, format!("{reason}{see}")))
    }
}

/// The settings that an error is about; none where the cluster is away. OpenSSL's words tell where the code does not.
fn hint(code: RDKafkaErrorCode, reason: &str) -> Option<&'static str> {
    match code {
        // The token server is away, or refuses: the library goes on asking it.
        _ if is_about_token(code, reason) => None,
        RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => {
            Some("kafka.client: sasl.mechanisms, sasl.username, sasl.password")
        }
        _ if code == RDKafkaErrorCode::SSL
            || ["SSL routines", "SSL handshake"].iter().any(|words| reason.contains(words)) =>
        {
            Some(
                "kafka.client: security.protocol, ssl.ca.location, ssl.certificate.location, ssl.key.location, and the \
             certificates' validity",
            )
        }
        _ => None,
    }
}

/// Whether an error is about getting a bearer token.
fn is_about_token(code: RDKafkaErrorCode, reason: &str) -> bool {
    code == RDKafkaErrorCode::Authentication && reason.contains("OAUTHBEARER token")
}

/// Without how long it took and how often it was, so that the same reason reads the same.
fn without_tail(reason: &str) -> &str {
    reason.rsplit_once(" (after ").map_or(reason, |(reason, _)| reason)
}
