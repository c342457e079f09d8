//! The disks of the database and of the embedded broker as the watch sees them, and opening the database anew after its write-ahead log was deleted.

use std::time::Instant;

use streamward_broker::StorageTrouble;
use streamward_kit::{ActorPath, Command};
use tokio::{task::JoinHandle, time::timeout};

use super::{
    sight::{Mended, StorageSight},
    watch::{PROBE_WITHIN, WatchShared},
};
use streamward_pipeline::store::{self, Trouble};

/// Where it is told that the database was opened anew.
const WATCH: &str = "ops/standstill";

/// Since when the database has not done what it is for, and why.
#[derive(Default)]
pub struct StorageWatch {
    trouble: Option<(Instant, Trouble)>,
    /// Whether a note says that the database was opened anew.
    is_noted: bool,
}

impl StorageWatch {
    /// Asks the database.
    pub async fn look(&mut self, shared: &WatchShared) {
        self.note(shared, None);
        let mut trouble = ask(shared).await;
        if let Some(Trouble::Mendable(why)) = &trouble {
            tracing::error!("{why}: nothing is stored until the database was opened anew");
            match mend(shared).await {
                Ok(how) => {
                    let told = format!("{why}: the database was opened anew{}", outcome(how));
                    tracing::info!("{told}");
                    self.note(shared, Some(&told));
                    trouble = ask(shared).await;
                }
                Err(error) => trouble = Some(Trouble::Mendable(format!("{why}, and {error}"))),
            }
        }
        let since = self.trouble.take().map_or_else(Instant::now, |(since, _)| since);
        self.trouble = trouble.map(|trouble| (since, trouble));
    }

    /// What is wrong with it.
    pub fn silence(&self) -> Option<StorageSight> {
        let (since, trouble) = self.trouble.as_ref()?;
        let (why, mended) = match trouble {
            Trouble::Busy(why) => (why, Mended::Itself),
            Trouble::Gone(why) | Trouble::Mendable(why) => (why, Mended::Restart),
            Trouble::Damaged { why, way_out } => (why, Mended::Replacement(way_out)),
        };
        Some(StorageSight { lasting: since.elapsed(), why: why.clone(), mended })
    }

    fn note(&mut self, shared: &WatchShared, note: Option<&str>) {
        if (note.is_some() || self.is_noted)
            && let Ok(path) = ActorPath::parse(WATCH)
        {
            shared.runtime.note(&path, note);
            self.is_noted = note.is_some();
        }
    }
}

/// The embedded broker's disk as the watch sees it.
#[derive(Default)]
pub struct BrokerWatch {
    trouble: Option<StorageTrouble>,
    /// A look that has not ended: a disk that does not answer is asked once.
    asked: Option<JoinHandle<Result<(), StorageTrouble>>>,
}

impl BrokerWatch {
    /// Asks the broker.
    pub async fn look(&mut self, shared: &WatchShared) {
        let Some(embedded) = shared.broker.clone() else { return };
        #[expect(clippy::disallowed_methods, reason = "it is waited for, at this look or the next")]
        let ask = move || tokio::task::spawn_blocking(move || embedded.broker().examine_storage());
        let mut asked = self.asked.take().unwrap_or_else(ask);
        self.trouble = match timeout(PROBE_WITHIN * 2, &mut asked).await {
            Ok(Ok(answer)) => answer.err(),
            Ok(Err(ended)) => Some(StorageTrouble { why: ended.to_string(), needs_restart: false }),
            Err(_) => {
                self.asked = Some(asked);
                Some(StorageTrouble { why: "its disk does not answer".to_owned(), needs_restart: false })
            }
        };
    }

    /// What is wrong with it.
    pub fn trouble(&self) -> Option<StorageTrouble> {
        self.trouble.clone()
    }
}

async fn ask(shared: &WatchShared) -> Option<Trouble> {
    match timeout(PROBE_WITHIN * 2, shared.store.probe(PROBE_WITHIN)).await {
        Ok(answer) => answer.err(),
        Err(_) => Some(Trouble::Busy(format!("no answer within {} s", PROBE_WITHIN.as_secs() * 2))),
    }
}

/// Mends the database; where records must be read again, the sources begin anew, too.
async fn mend(shared: &WatchShared) -> Result<store::Mended, String> {
    let mended = shared.store.mend().await.map_err(|error| error.to_string())?;
    if mended == store::Mended::Older {
        for pipeline in &shared.pipelines {
            let source = ActorPath::parse(&format!("pipelines/{}/source", pipeline.name));
            let source = source.map_err(|error| error.to_string())?;
            shared.runtime.command(&source, Command::Restart).await.map_err(|error| error.to_string())?;
        }
    }
    Ok(mended)
}

fn outcome(mended: store::Mended) -> &'static str {
    match mended {
        store::Mended::Whole => ", and nothing is lost",
        store::Mended::Older => {
            "; another program has written to it, and what is missing in it is read from the log again"
        }
    }
}
