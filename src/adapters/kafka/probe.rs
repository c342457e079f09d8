//! Whether the library that is built in takes settings: asked of the library itself, without a cluster.

use std::collections::BTreeMap;

use rdkafka::{
    ClientConfig,
    config::FromClientConfigAndContext,
    consumer::BaseConsumer,
    error::KafkaError,
    producer::{BaseProducer, DefaultProducerContext},
};

use super::{KafkaSettings, QuietContext, producer, schemas, source};

/// A setting that the library refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its name; none where it takes each alone and not all of them together.
    pub name: Option<String>,
    /// The library's words, which may quote the value.
    pub reason: String,
}

/// What the library refuses of settings for every client: names that it does not know, values out of their range, what it
/// is built without, and what does not fit the rest of a client's settings. No client connects.
pub fn refusals(extra: &BTreeMap<String, String>) -> Vec<Refusal> {
    let alone = extra.iter().filter_map(|(name, value)| {
        let error = ClientConfig::new().set(name, value).create_native_config().err()?;
        Some(Refusal { name: Some(name.clone()), reason: words(error) })
    });
    let alone: Vec<_> = alone.collect();
    if extra.is_empty() || !alone.is_empty() {
        return alone;
    }
    let settings = KafkaSettings { bootstrap: String::new(), extra: extra.clone() };
    let refused = create::<_, BaseConsumer<_>>(source::config(&settings, "probe", "probe"), QuietContext)
        .or_else(|| create::<_, BaseProducer<_>>(producer::config(&settings, "probe"), DefaultProducerContext))
        .or_else(|| create::<_, BaseConsumer<_>>(schemas::reading(&settings), QuietContext))
        .or_else(|| create::<_, BaseProducer<_>>(schemas::writing(&settings, "probe"), DefaultProducerContext));
    refused.map(|reason| Refusal { name: None, reason }).into_iter().collect()
}

/// Why no client can be made of settings.
fn create<C: rdkafka::ClientContext, T: FromClientConfigAndContext<C>>(
    mut config: ClientConfig,
    context: C,
) -> Option<String> {
    config.remove("bootstrap.servers");
    config.create_with_context::<C, T>(context).err().map(words)
}

fn words(error: KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, reason, _, _) | KafkaError::ClientCreation(reason) => reason,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(settings: &[(&str, &str)]) -> Vec<(Option<String>, String)> {
        let extra = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        refusals(&extra).into_iter().map(|refusal| (refusal.name, refusal.reason)).collect()
    }

    #[test]
    fn the_library_names_each_setting_that_it_does_not_take() {
        let found = refused(&[
            ("no.such.setting", "1"),
            ("fetch.min.bytes", "0"),
            ("compression.type", "brotli"),
            ("security.protocol", "sasl"),
            ("client.rack", "r1"),
        ]);
        let names: Vec<_> = found.iter().filter_map(|(name, _)| name.as_deref()).collect();
        assert_eq!(names, ["compression.type", "fetch.min.bytes", "no.such.setting", "security.protocol"], "{found:?}");
    }

    #[test]
    fn what_no_build_has_and_what_does_not_fit_together_is_refused() {
        for settings in [
            &[("security.protocol", "sasl_plaintext"), ("sasl.mechanism", "GSSAPI")][..],
            &[("reconnect.backoff.max.ms", "1")],
            &[("receive.message.max.bytes", "1000")],
        ] {
            assert_eq!(refused(settings).len(), 1, "{settings:?}");
        }
    }

    #[test]
    fn tls_and_scram_are_taken_by_a_build_with_the_feature_tls_and_refused_by_one_without() {
        let user = [("sasl.username", "me"), ("sasl.password", "secret")];
        let scram = [("security.protocol", "sasl_plaintext"), ("sasl.mechanisms", "SCRAM-SHA-512")];
        for settings in [&[("security.protocol", "ssl")][..], &[&scram[..], &user].concat()] {
            let refusals = refused(settings);
            assert_eq!(refusals.is_empty(), cfg!(feature = "tls"), "{settings:?}: {refusals:?}");
        }
    }

    #[test]
    fn settings_that_clients_work_with_are_taken() {
        let plain = [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanisms", "PLAIN"),
            ("sasl.username", "me"),
            ("sasl.password", "secret"),
            ("acks", "all"),
            ("fetch.min.bytes", "1"),
        ];
        assert_eq!(refused(&plain), []);
        assert_eq!(refused(&[]), []);
    }
}
