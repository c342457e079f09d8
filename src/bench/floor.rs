//! The floor: how fast a bare loop inserts the same rows into the same table on this machine.

use std::time::{Duration, Instant};

use streamward_core::{batch::RawBatch, decode::Decoder};

use crate::{
    adapters::sqlite::{SqlStore, SqliteSettings},
    clock::now_ms,
    plan::Plan,
    simulators::load::LoadGenerator,
};

/// Rows per transaction.
pub const ROWS: usize = 1_000;

/// Rows per second of prepared multi-row inserts of decoded rows, [`ROWS`] a transaction, for `duration`.
///
/// # Errors
/// If the database cannot be written.
pub async fn measure(plan: &Plan, keys: u32, duration: Duration) -> Result<f64, String> {
    let stream = plan.stream("sensors").ok_or("the configuration has no stream sensors")?;
    let folder = tempfile::tempdir().map_err(|error| format!("make a temporary folder: {error}"))?;
    let store = SqlStore::open(&folder.path().join("floor.db"), &SqliteSettings::default(), plan.layout())
        .await
        .map_err(|error| error.to_string())?;
    let mut generator = LoadGenerator::new(7, keys);
    let mut decoder = Decoder::new(stream.schema.clone(), stream.limits);
    let (mut rows, mut inserting) = (0_u64, Duration::ZERO);
    let started = Instant::now();
    while started.elapsed() < duration {
        let mut batch = RawBatch::with_capacity(stream.topic.clone(), 0, ROWS * 256);
        let mut value = Vec::new();
        for index in rows..rows + ROWS as u64 {
            generator.fill(&mut value, index, now_ms());
            batch.push(i64::try_from(index).unwrap_or(i64::MAX), 0, None, Some(&value));
        }
        let decoded = decoder.decode(&batch, 0..ROWS);
        let offsets: Vec<i64> = batch.iter().map(|record| record.offset()).collect();
        let began = Instant::now();
        store.insert_bare(stream.name.clone(), decoded.batch, offsets).await.map_err(|error| error.to_string())?;
        inserting += began.elapsed();
        rows += ROWS as u64;
    }
    Ok(rows as f64 / inserting.as_secs_f64())
}
