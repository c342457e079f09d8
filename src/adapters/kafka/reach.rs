//! Whether a cluster can be reached with some settings, and why not.

use std::{sync::Arc, time::Duration, time::Instant};

use parking_lot::Mutex;
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, DeliveryResult, Producer as _, ProducerContext},
};

use super::{KafkaSettings, log_line};

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
    let mut said = String::new();
    loop {
        let Err(error) = client.client().fetch_metadata(None, ASK_FOR) else { return Ok(()) };
        // What the client was told meanwhile comes by events.
        client.poll(SERVE_FOR);
        let told = context.trouble.lock().clone();
        let (code, reason) =
            told.map_or_else(|| (error.rdkafka_error_code(), error.to_string()), |(code, reason)| (Some(code), reason));
        match hint(code) {
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

/// The settings that an error is about; none where the cluster is away.
fn hint(code: Option<RDKafkaErrorCode>) -> Option<&'static str> {
    match code? {
        RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => {
            Some("kafka.client: sasl.mechanisms, sasl.username, sasl.password")
        }
        RDKafkaErrorCode::SSL => Some(
            "kafka.client: security.protocol, ssl.ca.location, ssl.certificate.location, ssl.key.location, and the \
             certificates' validity",
        ),
        _ => None,
    }
}
