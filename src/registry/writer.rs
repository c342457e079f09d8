//! The registry's end of the log: reads, writes, and what becomes of a log that is lost.
//!
//! A log is lost when somebody deletes the topic, or deletes it and makes it anew. What it held is in memory, so it is
//! written into the one that is there, under the same ids: producers and records keep those. The answers go on from
//! memory meanwhile. What others have registered in the new log already is kept; an id that two schemas then have is
//! named in the log of the process.

use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::{
    Registry, RegistryError,
    decide::{self, Decision, Restored},
    highest::HighestId,
    log::{LogError, Record, SchemaLog},
    record::Change,
    state::State,
};

/// How long a caller waits for other callers and for the topic.
const WITHIN: Duration = Duration::from_secs(30);
/// Wait after another registry came first: from one of these to twice as long, by chance.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Most bytes that are written back at once, or one record.
const MAX_AT_ONCE: usize = 4 << 20;

/// Held from the decision to the answer, so that writes are one after the other.
pub(super) struct Writer {
    log: Box<dyn SchemaLog>,
    highest: HighestId,
    is_claimed: bool,
    /// What was last read is lost; until what is known is in the log that is there, nothing else is read or written.
    is_lost: bool,
}

impl Writer {
    pub fn new(log: Box<dyn SchemaLog>, highest: HighestId) -> Self {
        Self { log, highest, is_claimed: false, is_lost: false }
    }

    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    fn claim(&mut self) -> Result<(), LogError> {
        if !self.is_claimed {
            self.log.claim()?;
            self.is_claimed = true;
        }
        Ok(())
    }

    /// Writes changes, once nobody can give their ids again.
    fn append(&mut self, changes: &[Change]) -> Result<(), LogError> {
        let highest = changes.iter().filter_map(Change::highest_id).max();
        self.highest.keep(highest.unwrap_or_default()).map_err(LogError::Unavailable)?;
        let records: Vec<Record> = changes.iter().map(Change::to_record).collect();
        self.log.append(&records)
    }
}

/// How long is waited for other writers.
struct Patience {
    until: Instant,
    pause: Duration,
}

impl Patience {
    fn new() -> Self {
        Self { until: Instant::now() + WITHIN, pause: FIRST_PAUSE }
    }

    /// Waits before a decision is made again.
    fn wait(&mut self, reason: &str) -> Result<(), RegistryError> {
        if Instant::now() + self.pause > self.until {
            return Err(RegistryError::TimedOut(format!("the schemas topic took no record: {reason}")));
        }
        tracing::debug!(reason, "decide again");
        std::thread::sleep(self.pause.mul_f64(rand::random_range(1.0..2.0)));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

impl Registry {
    /// Decides with all that is known and writes what comes out, again and again while others come first.
    pub(super) fn write<T>(
        &self,
        decide: impl Fn(&State) -> Result<Decision<T>, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut writer = self.lock()?;
        let mut patience = Patience::new();
        loop {
            match self.attempt(&mut writer, &decide) {
                Err(RegistryError::Store(LogError::Superseded(reason))) => {
                    writer.is_claimed = false;
                    patience.wait(&reason)?;
                }
                Err(RegistryError::Store(LogError::Lost(_))) => self.restore(&mut writer)?,
                done => return done,
            }
        }
    }

    fn attempt<T>(
        &self,
        writer: &mut Writer,
        decide: impl Fn(&State) -> Result<Decision<T>, RegistryError>,
    ) -> Result<T, RegistryError> {
        // Read first: a claim takes long where the topic is lost.
        self.read(writer)?;
        if !writer.is_claimed {
            writer.claim()?;
            self.read(writer)?;
        }
        let (decision, unsaid) = {
            let state = self.shared.state.read();
            (decide(&state)?, state.unsaid_max_id())
        };
        let Decision { mut changes, answer } = decision;
        if !changes.is_empty() {
            // Other registries on the topic go on behind it, too.
            changes.splice(0..0, unsaid.map(Change::MaxId));
            writer.append(&changes)?;
            self.read(writer)?;
        }
        Ok(answer)
    }

    pub(super) fn read(&self, writer: &mut Writer) -> Result<(), LogError> {
        if writer.is_lost {
            return Err(LogError::Lost("what is known is not written back yet".to_owned()));
        }
        let began = Instant::now();
        let read = writer.log.read(&mut |record| self.shared.state.write().apply(&record));
        if let Err(LogError::Lost(why)) = &read {
            writer.is_lost = true;
            tracing::error!("the schemas are lost from their topic: {why}; they are written back from memory");
        }
        read?;
        let max_id = self.shared.state.read().max_id();
        if let Err(why) = writer.highest.keep(max_id) {
            tracing::warn!("{why}: ids may be given again if the schemas topic is deleted");
        }
        *self.shared.read_at.lock() = Some(began);
        Ok(())
    }

    /// Writes all that is known into the log that is there, made again if it is missing.
    pub(super) fn restore(&self, writer: &mut Writer) -> Result<(), RegistryError> {
        writer.is_lost = true;
        writer.is_claimed = false;
        writer.log.renew()?;
        let mut found = {
            let held = self.shared.state.read();
            let mut found = State::bounded(held.max_bytes());
            found.raise_floor(held.max_id().max(writer.highest.kept()));
            found
        };
        let (mut patience, mut written, began) = (Patience::new(), 0, Instant::now());
        let mut missing_before = usize::MAX;
        let conflicts = loop {
            match self.restore_some(writer, &mut found) {
                Ok(Progress::Wrote { missing, .. }) if missing >= missing_before => {
                    let why = format!("{missing} records were written back and are not there");
                    return Err(LogError::Unavailable(why).into());
                }
                Ok(Progress::Wrote { records, missing }) => (written, missing_before) = (written + records, missing),
                Ok(Progress::Whole(conflicts)) => break conflicts,
                Err(LogError::Superseded(reason)) => {
                    writer.is_claimed = false;
                    patience.wait(&reason)?;
                }
                Err(other) => return Err(other.into()),
            }
        };
        *self.shared.state.write() = found;
        writer.is_lost = false;
        *self.shared.read_at.lock() = Some(began);
        let said = format!("the schemas topic was lost and is whole again: {written} records were written back");
        tracing::warn!("{said}, under the same ids");
        for conflict in &conflicts {
            tracing::error!(
                "the schemas topic was lost, and others have registered schemas in the new one: {conflict}"
            );
        }
        let conflicts = conflicts.iter().map(|conflict| format!("; {conflict}"));
        *self.shared.restored.lock() = Some((Instant::now(), said + &conflicts.collect::<String>()));
        Ok(())
    }

    /// Reads on and writes a part of what is missing.
    fn restore_some(&self, writer: &mut Writer, found: &mut State) -> Result<Progress, LogError> {
        writer.claim()?;
        writer.log.read(&mut |record| found.apply(&record))?;
        let Restored { mut changes, conflicts } = decide::restore(&self.shared.state.read(), found);
        let mut bytes = 0;
        let fits = |change: &&Change| {
            let is_first = bytes == 0;
            bytes += change.to_record().value.map_or(0, |value| value.len());
            is_first || bytes <= MAX_AT_ONCE
        };
        let missing = changes.len();
        let some = changes.iter().take_while(fits).count();
        if some == 0 {
            return Ok(Progress::Whole(conflicts));
        }
        changes.truncate(some);
        writer.append(&changes)?;
        Ok(Progress::Wrote { records: some, missing })
    }

    pub(super) fn lock(&self) -> Result<MutexGuard<'_, Writer>, RegistryError> {
        let busy = || RegistryError::TimedOut("other requests of this registry are not done".to_owned());
        self.shared.log.try_lock_for(WITHIN).ok_or_else(busy)
    }
}

/// What a part of the restoring came to.
enum Progress {
    /// So many records, of those that were missing.
    Wrote { records: usize, missing: usize },
    /// Nothing is missing but these.
    Whole(Vec<String>),
}
