//! The server that an outage strikes, its load, and its books.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Duration,
};

use streamward_pipeline::store::RangeKind;
use tokio::time::Instant;

use super::super::SupervisionBench;
use crate::{
    bench::{
        load::{LoadSettings, Progress},
        pipeline::load_in_thread,
        server::BenchServer,
    },
    verify::{self, Subject},
};

/// The pipeline that is struck, and its stream.
const PIPELINE: &str = "sensors";
/// Records per second.
const RATE: f64 = 500.0;
/// Longest load: it ends with the outage.
const LONGEST: Duration = Duration::from_secs(3_600);
/// Records that are stored before the outage begins.
const FLOWING: u64 = 500;
/// How often the server is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a state is waited for; what takes longer counts as not reached.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server under a small load, and what was sent to it.
pub struct Site {
    folder: PathBuf,
    server: BenchServer,
    sets: Vec<(String, String)>,
    seed: u64,
    keys: u32,
    /// Records of the load so far: the number of the next one.
    records: u64,
    /// Records that the broker has acknowledged, those beside the load included.
    pub acknowledged: u64,
}

/// What became of the records.
#[derive(Debug, Clone, Default)]
pub struct Books {
    pub acknowledged: u64,
    pub stored: u64,
    pub dead_letters: u64,
    pub in_gaps: u64,
    /// Rows and dead letters beyond the first of their record.
    repeated: u64,
}

impl Books {
    fn is_exact(&self) -> bool {
        self.repeated == 0 && self.stored + self.dead_letters + self.in_gaps == self.acknowledged
    }
}

impl Site {
    /// Starts a server in a folder of its own; `sets` differ from the built-in configuration.
    pub async fn start(folder: &Path, bench: &SupervisionBench, sets: &[(&str, &str)]) -> Result<Self, String> {
        let mut all = vec![("drills.enabled".to_owned(), "true".to_owned())];
        all.extend(sets.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())));
        let server = BenchServer::start(folder, &all, None).await?;
        let (seed, keys) = (bench.seed, bench.keys);
        Ok(Self { folder: folder.to_owned(), server, sets: all, seed, keys, records: 0, acknowledged: 0 })
    }

    /// Stops the server and starts it again on its folder with one more setting; also when the start began.
    pub async fn again(self, set: Option<(&str, &str)>) -> Result<(Self, Instant), String> {
        let Self { folder, server, mut sets, .. } = self;
        server.stop().await;
        sets.extend(set.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let begun = Instant::now();
        let server = BenchServer::start(&folder, &sets, None).await?;
        Ok((Self { folder, server, sets, ..self }, begun))
    }

    pub fn server(&self) -> &BenchServer {
        &self.server
    }

    /// The database's file.
    pub fn database(&self) -> PathBuf {
        self.server.config.storage.sqlite.file(&self.folder)
    }

    /// The topic that is struck, and its number of partitions.
    pub fn topic(&self) -> Result<(String, i32), String> {
        let stream = self.server.plan.stream(PIPELINE).ok_or("the configuration has no stream sensors")?;
        let partitions = i32::try_from(stream.config.partitions).map_err(|error| error.to_string())?;
        Ok((stream.topic.to_string(), partitions))
    }

    /// Sends records until `act`, which begins once they are stored, has ended.
    pub async fn under_load<T>(
        &mut self,
        act: impl AsyncFnOnce(&BenchServer) -> Result<T, String>,
    ) -> Result<T, String> {
        let load = LoadSettings {
            topic: self.topic()?.0,
            seed: self.seed,
            keys: self.keys,
            rate: Some(RATE),
            duration: LONGEST,
            max_records: u64::MAX,
            first: self.records,
            history: None,
        };
        let progress = Progress::default();
        let sending = load_in_thread(self.server.kafka.clone(), load, progress.clone());
        let acting = async {
            let enough = stored(&self.server) + FLOWING;
            let acted = match reached(Instant::now(), async || stored(&self.server) >= enough).await {
                Some(_) => act(&self.server).await,
                None => Err("the load is not stored".to_owned()),
            };
            progress.stop.store(true, Ordering::Relaxed);
            acted
        };
        let (sent, acted) = tokio::join!(sending, acting);
        let sent = sent?;
        self.records += sent.records;
        self.acknowledged += sent.acknowledged;
        acted
    }

    /// Waits until every acknowledged record has been accounted for; what the books say then, or after long enough.
    pub async fn settled(&self) -> Result<Books, String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let books = self.books().await?;
            if books.is_exact() || Instant::now() >= until {
                return Ok(books);
            }
            tokio::time::sleep(LOOK_EVERY * 10).await;
        }
    }

    async fn books(&self) -> Result<Books, String> {
        let fault = |error: streamward_pipeline::store::StoreError| error.to_string();
        let topic = self.topic()?.0;
        let mut audit = self.server.config.database().audit().await.map_err(fault)?;
        let (stored, distinct) = audit.count_distinct("sensor_readings", "location", 0).await.map_err(fault)?;
        let dead = audit.dead_values(&topic).await.map_err(fault)?;
        let dead_distinct = dead.iter().collect::<BTreeSet<_>>().len();
        let mut in_gaps = 0;
        for position in audit.positions().await.map_err(fault)?.iter().filter(|position| position.topic == topic) {
            let gaps = audit.ranges(position, RangeKind::Gap, 0..i64::MAX).await.map_err(fault)?;
            in_gaps += gaps.iter().map(|gap| (gap.end - gap.start).unsigned_abs()).sum::<u64>();
        }
        Ok(Books {
            acknowledged: self.acknowledged,
            stored: distinct,
            dead_letters: dead_distinct as u64,
            in_gaps,
            repeated: stored - distinct + (dead.len() - dead_distinct) as u64,
        })
    }

    /// Compares the books, recounts the log, and stops the server; why it is not exact, if it is not.
    pub async fn close(self) -> Result<(Books, Option<String>), String> {
        let books = self.settled().await?;
        let places = self.server.plan.sink_places();
        let (database, kafka) = (self.server.config.database(), self.server.kafka.clone());
        let subject =
            Subject { database: &database, data_dir: &self.folder, kafka: &kafka, sinks: &places, damage: &[] };
        let recount = verify::verify(&subject).await.map_err(|error| error.to_string())?;
        let complaint = if !books.is_exact() {
            Some(format!("{books:?}"))
        } else if recount.differs() {
            Some("the database differs from the log".to_owned())
        } else {
            None
        };
        self.server.stop().await;
        Ok((books, complaint))
    }
}

/// Records of the pipeline with this outcome since the server started.
pub fn outcome(server: &BenchServer, outcome: &str) -> u64 {
    metric(server, &format!("streamward_records_total{{outcome=\"{outcome}\",pipeline=\"{PIPELINE}\"}}"))
}

/// Records stored since the server started.
pub fn stored(server: &BenchServer) -> u64 {
    outcome(server, "stored")
}

/// Records since the server started that found no room in a window.
pub fn without_room(server: &BenchServer) -> u64 {
    metric(server, &format!("streamward_windows_full_total{{pipeline=\"{PIPELINE}\"}}"))
}

fn metric(server: &BenchServer, sample: &str) -> u64 {
    let text = server.app.operations().metrics_text();
    let value = text.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse().ok());
    value.unwrap_or(0)
}

/// Milliseconds from `since` until a state is reached; none if that takes too long.
pub async fn reached(since: Instant, mut is_reached: impl AsyncFnMut() -> bool) -> Option<u64> {
    let until = Instant::now() + PATIENCE;
    while !is_reached().await {
        if Instant::now() >= until {
            return None;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    u64::try_from(since.elapsed().as_millis()).ok()
}

/// Milliseconds from `since` until a finding names this cause.
pub async fn named(server: &BenchServer, cause: &str, since: Instant) -> Option<u64> {
    reached(since, async || {
        let findings = server.app.operations().readiness().standing_still;
        findings.iter().any(|finding| finding["cause"] == cause)
    })
    .await
}

/// Milliseconds from `since` until so many records are stored and nothing is found any more.
pub async fn healed(server: &BenchServer, enough: u64, since: Instant) -> Option<u64> {
    reached(since, async || stored(server) >= enough && server.app.operations().readiness().standing_still.is_empty())
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_are_exact_if_every_acknowledged_record_is_in_them_once() {
        let books = Books { acknowledged: 10, stored: 6, dead_letters: 3, in_gaps: 1, repeated: 0 };
        assert!(books.is_exact());
        for wrong in [
            Books { stored: 5, ..books.clone() },
            Books { dead_letters: 4, ..books.clone() },
            Books { in_gaps: 0, ..books.clone() },
            Books { repeated: 1, ..books },
        ] {
            assert!(!wrong.is_exact(), "{wrong:?}");
        }
    }
}
