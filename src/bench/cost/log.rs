//! A log in memory, and a client that reads it.

use std::{sync::Arc, time::Duration};

use streamward_pipeline::source::{LogClient, Polled, RecordView, SourceError};

use crate::simulators::load::LoadGenerator;

/// Time of the first record.
const FIRST_MS: i64 = 1_767_225_600_000;
/// Records per second of event time.
const PER_S: u64 = 10_000;

/// Sensor readings as JSON, one partition.
pub struct MemoryLog(Vec<Vec<u8>>);

impl MemoryLog {
    /// The readings of a seed.
    pub fn new(seed: u64, keys: u32, records: usize) -> Self {
        let mut generator = LoadGenerator::new(seed, keys);
        let value = |index: u64| {
            let mut value = Vec::new();
            generator.fill(&mut value, index, time_of(index));
            value
        };
        Self((0..records as u64).map(value).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn time_of(index: u64) -> i64 {
    FIRST_MS + i64::try_from(index * 1_000 / PER_S).unwrap_or(0)
}

/// Reads the log from its beginning, one record per poll as the real client does.
pub struct MemoryClient {
    pub log: Arc<MemoryLog>,
    pub next: usize,
}

impl LogClient for MemoryClient {
    fn poll(&mut self, timeout: Duration, visit: &mut dyn FnMut(Polled<'_>)) -> Result<(), SourceError> {
        let Some(value) = self.log.0.get(self.next) else {
            std::thread::sleep(timeout);
            visit(Polled::Nothing);
            return Ok(());
        };
        let offset = self.next as i64;
        self.next += 1;
        let log_timestamp_ms = time_of(offset.unsigned_abs());
        let record = RecordView {
            offset,
            log_timestamp_ms,
            is_broker_time: false,
            key: None,
            value: Some(value),
            headers: &|_| (),
        };
        visit(Polled::Record { partition: 0, record });
        Ok(())
    }

    fn pause(&mut self, _: &[i32]) {}

    fn resume(&mut self, _: &[i32]) {}

    fn commit(&mut self, _: &[(i32, i64)]) {}
}
