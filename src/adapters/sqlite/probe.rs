//! Whether the database takes writes and is sound, asked without writing.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use rusqlite::Connection;
use streamward_pipeline::store::{StoreError, Trouble};

use super::{BUSY_TIMEOUT, SqlStore, begin, damage, files::Lost};

/// Wait before a second look where the first has found damage.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Probes that do not look for damage while nobody else has touched the database: what harms a file that nobody writes to is
/// found by one of those that do.
const MAY_SKIP: u32 = 4;
/// Age at which the time of the last write tells a later write apart: clocks of file systems tick slowly.
const TELLS_APART: Duration = Duration::from_millis(100);

/// What a look at the database was preceded by.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// None where the next probe is to look in any case.
    at: Option<Untouched>,
    skipped: u32,
}

/// Holds as long as nobody but the writer has changed what the database holds, and no checkpoint came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Untouched {
    length: u64,
    written: SystemTime,
    /// SQLite's `data_version` of the writer: its own commits do not change it, those of others do.
    version: i64,
}

impl Untouched {
    fn of(path: &Path, writer: &Connection) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        let version = writer.query_row("PRAGMA data_version", [], |row| row.get(0)).ok()?;
        Some(Self { length: file.len(), written: file.modified().ok()?, version })
    }

    fn is_old(&self) -> bool {
        self.written.elapsed().is_ok_and(|age| age >= TELLS_APART)
    }
}

impl Looked {
    /// Whether there is nothing to be found that the last look did not find.
    fn may_skip(&mut self, now: Option<Untouched>) -> bool {
        let skips = self.skipped < MAY_SKIP && now.is_some() && self.at == now;
        self.skipped = if skips { self.skipped + 1 } else { 0 };
        skips
    }
}

impl From<Lost> for Trouble {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Log(why) => Self::Mendable(why),
            Lost::File(why) => Self::Gone(why),
        }
    }
}

impl SqlStore {
    /// Looks at the files, takes the write lock and gives it back, and looks at the ends of all tables; waits for a lock
    /// at most for `within`, twice. At most one probe is under way. Once a file is found to be gone, nothing is written.
    ///
    /// # Errors
    /// [`Trouble`]
    pub(super) async fn probe_writer(&self, within: Duration) -> Result<(), Trouble> {
        if self.shared.files.is_asked.swap(true, Ordering::AcqRel) {
            return Err(Trouble::Busy("it has not answered for some seconds".to_owned()));
        }
        let probed = self.work(move |shared| {
            let probed = shared.probe(within);
            shared.files.is_asked.store(false, Ordering::Release);
            Ok(probed)
        });
        probed.await.unwrap_or_else(|error| Err(Trouble::Busy(error.to_string())))
    }

    /// Damage that the writer came across.
    #[must_use]
    pub(super) fn damage(&self) -> Option<String> {
        self.shared.damage.found()
    }
}

impl super::Shared {
    fn probe(&self, within: Duration) -> Result<(), Trouble> {
        self.files.check()?;
        let Some(mut writer) = self.writer.try_lock_for(within) else {
            return Err(Trouble::Busy("a write takes longer than it should".to_owned()));
        };
        let locked = lock(&mut writer.connection, within);
        let untouched = Untouched::of(self.files.path(), &writer.connection);
        drop(writer);
        let looked = locked.and_then(|()| self.look_again(untouched, within));
        let Err(error) = looked else { return Ok(()) };
        Err(match damage::damage_of(&error) {
            Some(why) => damage::trouble(why),
            None => Trouble::Busy(error.to_string()),
        })
    }

    fn look_again(&self, untouched: Option<Untouched>, within: Duration) -> Result<(), rusqlite::Error> {
        let mut last = self.looked.lock();
        if last.may_skip(untouched) {
            return Ok(());
        }
        last.at = None;
        // A long checkpoint reads and writes all that there is: it says itself what it comes across.
        let Some(_no_checkpoint) = self.checkpointer.try_lock_for(within) else { return Ok(()) };
        self.look(within)?;
        last.at = untouched.filter(Untouched::is_old);
        Ok(())
    }

    /// Damage is what is still there at a second look: while another program writes its log back, the file is shorter
    /// than it says.
    fn look(&self, within: Duration) -> Result<(), rusqlite::Error> {
        let look = || damage::look(self.files.path(), (&self.wanted, &self.layout), &self.walk, within);
        look().or_else(|error| {
            damage::damage_of(&error).map_or(Err(error), |_| {
                std::thread::sleep(LOOK_AGAIN);
                look()
            })
        })
    }
}

impl SqlStore {
    /// Next offset of each partition in the log of a topic that a sink read last.
    ///
    /// # Errors
    /// If the database is busy or gone.
    pub(super) async fn read_newest_positions(
        &self,
        sink: &Arc<str>,
        topic: &Arc<str>,
    ) -> Result<Vec<(i32, i64)>, StoreError> {
        let (sink, topic) = (sink.clone(), topic.clone());
        self.write(move |_, writer| {
            // Epochs go on from log to log: the newest comes last, and counts.
            let mut select = writer.connection.prepare_cached(
                "SELECT \"partition\", next_offset FROM sw_positions WHERE sink = ? AND topic = ? \
                 ORDER BY \"partition\", epoch",
            )?;
            let rows = select.query_map([&*sink, &*topic], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let newest: BTreeMap<i32, i64> = rows.collect::<Result<_, _>>()?;
            Ok(newest.into_iter().collect())
        })
        .await
    }
}

fn lock(connection: &mut Connection, within: Duration) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(within)?;
    let locked = begin(connection).and_then(rusqlite::Transaction::rollback);
    connection.busy_timeout(BUSY_TIMEOUT)?;
    locked
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNTOUCHED: Untouched = Untouched { length: 1, written: SystemTime::UNIX_EPOCH, version: 1 };

    #[test]
    fn an_untouched_database_is_looked_at_by_one_probe_of_five_and_another_one_at_once() {
        let mut looked = Looked { at: Some(UNTOUCHED), skipped: 0 };
        let skips: Vec<bool> = (0..7).map(|_| looked.may_skip(Some(UNTOUCHED))).collect();
        assert_eq!(skips, [true, true, true, true, false, true, true]);
        let touched = [
            None,
            Some(Untouched { length: 2, ..UNTOUCHED }),
            Some(Untouched { version: 2, ..UNTOUCHED }),
            Some(Untouched { written: SystemTime::now(), ..UNTOUCHED }),
        ];
        assert_eq!(touched.map(|now| looked.may_skip(now)), [false; 4]);
        assert!(!Looked::default().may_skip(None), "nothing is known before the first look");
        assert!(UNTOUCHED.is_old() && !Untouched { written: SystemTime::now(), ..UNTOUCHED }.is_old());
    }
}
