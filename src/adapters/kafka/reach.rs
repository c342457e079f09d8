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
    producer::{BaseProducer, DeliveryResult, Producer as _, ProducerContext},
};

use super::{KafkaSettings, log_line};

/// How long a start may wait for the cluster.
pub const START_WITHIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);

/// How long one question waits for its answer.
const ASK_FOR: Duration = Duration::from_secs(1);

/// How long events of the client are waited for, between two questions.
const SERVE_FOR: Duration = Duration::from_millis(100);

/// Why a cluster was not reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// It, or the library, does not accept the settings: trying again does not help.
    #[error("{0}")]
    Refused(String),
    /// Nobody answered for as long as this.
    #[error("nobody answers for {0:?}: {1}")]
    Away(Duration, String),
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
    let context = Told::default();
    let client: BaseProducer<Told> = settings
        .client("streamward-reach")
        .create_with_context(context.clone())
        .map_err(|error| Unreachable::Refused(error.to_string()))?;
    let until = Instant::now() + within;
    let (mut said, mut told) = (String::new(), None);
    loop {
        let Err(error) = client.client().fetch_metadata(None, ASK_FOR) else { return Ok(()) };
        // What the client was told meanwhile comes by events.
        client.poll(SERVE_FOR);
        if let Some((code, reason)) = context.trouble.lock().take() {
            told = Some((code, without_tail(&reason).to_owned()));
        }
        let (code, reason) = told.clone().unwrap_or_else(|| {
            let silent =
                "connections are closed without a word; does the listener want TLS (kafka.client: security.protocol)?";
            (RDKafkaErrorCode::BrokerTransportFailure, format!("{error}: {silent}"))
        });
        match hint(code, &reason) {
            Some(hint) => return Err(Unreachable::Refused(format!("{reason}; see {hint}"))),
            None if Instant::now() >= until => return Err(Unreachable::Away(within, reason)),
            None if said != reason => {
                waits(&reason);
                said = reason;
            }
            None => {}
        }
    }
}

/// The settings that an error is about; none where the cluster is away. OpenSSL's words tell where the code does not.
fn hint(code: RDKafkaErrorCode, reason: &str) -> Option<&'static str> {
    match code {
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

/// Without how long it took and how often it was, so that the same reason reads the same.
fn without_tail(reason: &str) -> &str {
    reason.rsplit_once(" (after ").map_or(reason, |(reason, _)| reason)
}
