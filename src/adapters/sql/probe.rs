//! Whether the database takes writes and is sound, asked without writing.

use std::{collections::BTreeMap, sync::Arc, sync::atomic::Ordering, time::Duration};

use streamward_pipeline::store::StoreError;

use super::{BUSY_TIMEOUT, SqlStore, begin, damage, files::Lost};

/// Wait before a second look where the first has found damage.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Why the database does not do what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It takes no writes now.
    Busy(String),
    /// Its write-ahead log was deleted: [`SqlStore::reopen`] mends it.
    LogGone(String),
    /// Its file is no longer that which the server has open.
    Gone(String),
    /// What it holds cannot be read.
    Damaged(String),
}

impl From<Lost> for Trouble {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Log(why) => Self::LogGone(why),
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
    pub async fn probe(&self, within: Duration) -> Result<(), Trouble> {
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

    /// Damage that a reader or the writer came across.
    #[must_use]
    pub fn damage(&self) -> Option<String> {
        self.shared.damage.found()
    }
}

impl super::Shared {
    fn probe(&self, within: Duration) -> Result<(), Trouble> {
        self.files.check()?;
        let locked = match self.writer.try_lock_for(within) {
            Some(mut writer) => lock(&mut writer.connection, within),
            None => return Err(Trouble::Busy("a write takes longer than it should".to_owned())),
        };
        let looked = locked.and_then(|()| match self.checkpointer.try_lock_for(within) {
            Some(_no_checkpoint) => self.look(within),
            // A long checkpoint reads and writes all that there is: it says itself what it comes across.
            None => Ok(()),
        });
        let Err(error) = looked else { return Ok(()) };
        Err(match damage::damage_of(&error) {
            Some(why) => Trouble::Damaged(why),
            None => Trouble::Busy(error.to_string()),
        })
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
    pub async fn newest_positions(&self, sink: &Arc<str>, topic: &Arc<str>) -> Result<Vec<(i32, i64)>, StoreError> {
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

fn lock(connection: &mut rusqlite::Connection, within: Duration) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(within)?;
    let locked = begin(connection).and_then(rusqlite::Transaction::rollback);
    connection.busy_timeout(BUSY_TIMEOUT)?;
    locked
}
