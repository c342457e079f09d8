//! The server under measurement: the real application in this process, on its own folder and ports.

use std::{path::Path, sync::Arc, time::Duration};

use streamward_pipeline::sink::CommitObserver;

use crate::{
    adapters::kafka::KafkaSettings,
    app::{App, Options},
    config::{Config, Sources},
    plan::{self, Plan},
};

/// How long processing may take to catch up with what was sent.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(600);

/// A started server and what it was started with.
pub struct BenchServer {
    pub app: App,
    pub config: Config,
    pub plan: Plan,
    pub kafka: KafkaSettings,
}

impl BenchServer {
    /// Starts the built-in configuration without simulators in `folder`.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start(
        folder: &Path,
        sets: &[(String, String)],
        observer: Option<Arc<dyn CommitObserver>>,
    ) -> Result<Self, String> {
        let own = [
            ("node.data_dir", folder.display().to_string()),
            ("http.listen", "127.0.0.1:0".to_owned()),
            ("kafka.embedded.listen", "127.0.0.1:0".to_owned()),
            ("registry.embedded.listen", "127.0.0.1:0".to_owned()),
            ("simulators.sensors.enabled", "false".to_owned()),
        ];
        let mut all: Vec<(String, String)> = own.map(|(key, value)| (key.to_owned(), value)).to_vec();
        all.extend_from_slice(sets);
        let sources = Sources { sets: all, ..Sources::default() };
        let (loaded, plan) = plan::load(&sources).map_err(|faults| faults.to_string())?;
        let options = Options { ready_file: None, observer };
        let app = Box::pin(App::start(&loaded, plan.clone(), options)).await.map_err(|error| error.to_string())?;
        app.ready().await.map_err(|error| error.to_string())?;
        let kafka = app.kafka().clone();
        Ok(Self { app, config: loaded.config, plan, kafka })
    }

    /// Waits until a pipeline has stored or set aside `records` records.
    ///
    /// # Errors
    /// If that takes too long.
    pub async fn caught_up(&self, pipeline: &str, records: u64) -> Result<(), String> {
        let until = tokio::time::Instant::now() + CATCH_UP_WITHIN;
        loop {
            let processed = self.app.committed(pipeline);
            if processed >= records {
                return Ok(());
            }
            if tokio::time::Instant::now() >= until {
                return Err(format!("only {processed} of {records} records were stored after {CATCH_UP_WITHIN:?}"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Shuts the server down in order.
    pub async fn stop(self) {
        self.app.run(std::future::ready(())).await;
    }
}
