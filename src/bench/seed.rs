//! `streamward bench seed`: fills a data folder with rows, through Kafka and the pipeline like any others.

use std::{path::Path, time::Duration};

use indicatif::ProgressBar;

use super::{
    load::{LoadSettings, Progress, Sent},
    pipeline::load_in_thread,
    server::BenchServer,
};

/// Event times of the rows cover this much of the past.
const HISTORY: Duration = Duration::from_secs(24 * 3600);

/// Stores `rows` rows in `folder`.
///
/// # Errors
/// If a part of it fails.
pub async fn run(folder: &Path, rows: u64, keys: u32) -> Result<Sent, String> {
    let server = BenchServer::start(folder, &[], None).await?;
    let stream = server.plan.stream("sensors").ok_or("the configuration has no stream sensors")?;
    let settings = LoadSettings {
        topic: stream.topic.to_string(),
        seed: 1,
        keys,
        rate: None,
        duration: Duration::from_secs(24 * 3600),
        max_records: rows,
        first: 0,
        history: Some(HISTORY),
    };
    let bar = ProgressBar::new(rows);
    let already = server.app.committed("sensors");
    let load = load_in_thread(server.kafka.clone(), settings, Progress::default());
    tokio::pin!(load);
    let sent = loop {
        tokio::select! {
            sent = &mut load => break sent?,
            () = tokio::time::sleep(Duration::from_millis(200)) => {
                bar.set_position(server.app.committed("sensors") - already);
            }
        }
    };
    server.caught_up("sensors", already + sent.acknowledged).await?;
    bar.finish_and_clear();
    server.stop().await;
    Ok(sent)
}
