//! The actor that looks, judges and tells.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use streamward_kit::{ActorPath, Failure, Runtime, Scope};
use streamward_pipeline::store::Store;

use super::{
    Finding, Findings, Place, file,
    judge::Judge,
    sight::Sight,
    storage::{BrokerWatch, StorageWatch},
};
use crate::{
    app::{
        broker::Embedded,
        groups::GroupsSeen,
        lag::{LogEnds, TopicLogs},
        operations::PipelineView,
    },
    clock::now_ms,
    node::write_atomically,
};

/// How often everything is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// How long the database may take to say that it takes writes.
pub(super) const PROBE_WITHIN: Duration = Duration::from_secs(1);

/// What the watch looks at, and where it tells.
pub struct WatchShared {
    pub runtime: Runtime,
    pub pipelines: Vec<PipelineView>,
    pub ends: LogEnds,
    pub groups: GroupsSeen,
    pub store: Arc<dyn Store>,
    pub broker: Option<Arc<Embedded>>,
    pub findings: Findings,
    /// False once shutdown has begun: what stands still then does so on purpose.
    pub serving: Arc<AtomicBool>,
    pub data_dir: PathBuf,
}

/// Runs one incarnation.
///
/// # Errors
/// On an injected error.
pub async fn run(scope: Scope, shared: Arc<WatchShared>) -> Result<(), Failure> {
    let mut judge = Judge::default();
    let mut storage = StorageWatch::default();
    let mut broker = BrokerWatch::default();
    let mut told = Told::default();
    loop {
        scope.pause_point().await;
        scope.fault_point("look").await?;
        let waiting = scope.waiting_on("sql");
        storage.look(&shared).await;
        drop(waiting);
        broker.look(&shared).await;
        if !shared.serving.load(Ordering::Acquire) {
            scope.stopping().await;
            return Ok(());
        }
        let stores = (storage.silence(), broker.trouble());
        let sight = Sight::of(&shared.runtime, &shared.pipelines, (&shared.ends, &shared.groups), stores);
        let findings = judge.look(&sight, Instant::now(), now_ms());
        told.tell(&shared, &sight, &findings);
        let positions = unread_positions(&shared, &sight).await;
        shared.findings.set(findings, positions);
        scope.progress(1);
        let _waiting = scope.waiting_on("clock");
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = scope.stopping() => return Ok(()),
        }
    }
}

/// Stored positions of partitions that no source of this server reads; none while the database does not answer.
async fn unread_positions(shared: &WatchShared, sight: &Sight) -> HashMap<(Arc<str>, i32), i64> {
    let mut positions = HashMap::new();
    for pipeline in &sight.pipelines {
        let Some(TopicLogs::Partitions(known)) = &pipeline.logs else { continue };
        if known.keys().all(|partition| pipeline.partitions.contains_key(partition)) {
            continue;
        }
        let stored = tokio::time::timeout(PROBE_WITHIN, shared.store.newest_positions(&pipeline.name, &pipeline.topic));
        if let Ok(Ok(stored)) = stored.await {
            positions.extend(stored.into_iter().map(|(partition, at)| ((pipeline.name.clone(), partition), at)));
        }
    }
    positions
}

/// What was told last.
#[derive(Default)]
struct Told {
    findings: Vec<Finding>,
    /// The place that each note is about: what is said of it may change every second.
    notes: BTreeMap<ActorPath, Place>,
    /// What actors have said themselves in the log.
    said_elsewhere: BTreeSet<Place>,
    /// Whether the file says what was told.
    is_written: bool,
}

impl Told {
    fn tell(&mut self, shared: &WatchShared, sight: &Sight, findings: &[Finding]) {
        let is_new = |finding: &&Finding| !self.findings.iter().any(|told| told.place == finding.place);
        let found: Vec<&Finding> = findings.iter().filter(is_new).collect();
        // A source that stands by has said so, and says when it goes on.
        self.said_elsewhere
            .extend(found.iter().filter(|found| sight.stands_by(found)).map(|found| found.place.clone()));
        let is_over = |told: &&Finding| {
            let is_there = findings.iter().any(|now| now.place == told.place);
            !is_there && !findings.iter().any(|now| now.place.pipeline == told.place.pipeline && told.is_as(now))
        };
        let over: Vec<&Finding> = self.findings.iter().filter(is_over).collect();
        for (finding, text) in together(found.into_iter().filter(|found| !self.said_elsewhere.contains(&found.place))) {
            tracing::error!(cause = finding.place.cause.as_str(), "stands still: {text}");
        }
        for (finding, text) in together(over.into_iter().filter(|over| !self.said_elsewhere.contains(&over.place))) {
            tracing::info!(cause = finding.place.cause.as_str(), "no longer stands still: {text}");
        }
        self.said_elsewhere.retain(|place| findings.iter().any(|finding| finding.place == *place));
        self.note(shared, findings);
        if !self.is_written || self.findings != findings {
            self.is_written = write(shared, findings);
            self.findings = findings.to_vec();
        }
    }

    /// Notes on the pipelines' nodes what of them stands still.
    fn note(&mut self, shared: &WatchShared, findings: &[Finding]) {
        let mut notes: BTreeMap<ActorPath, Place> = BTreeMap::new();
        for finding in findings {
            let Some(pipeline) = &finding.place.pipeline else { continue };
            let Ok(path) = ActorPath::parse(&format!("pipelines/{pipeline}")) else { continue };
            let place = notes.entry(path.clone()).or_insert_with(|| finding.place.clone());
            if *place == finding.place && self.notes.get(&path) != Some(place) {
                shared.runtime.note(&path, Some(&finding.reason));
            }
        }
        for path in self.notes.keys().filter(|path| !notes.contains_key(*path)) {
            shared.runtime.note(path, None);
        }
        self.notes = notes;
    }
}

/// The text of each finding; one text for partitions of a pipeline of which the same is found.
fn together<'a>(findings: impl Iterator<Item = &'a Finding>) -> Vec<(&'a Finding, String)> {
    let mut texts: Vec<(&Finding, Vec<i32>)> = Vec::new();
    for finding in findings {
        let is_same = |(other, _): &&mut (&Finding, Vec<i32>)| {
            let [one, other] = [finding, other].map(|each| (each.place.cause, &each.place.pipeline, &each.reason));
            one == other && finding.place.partition.is_some()
        };
        match texts.iter_mut().find(is_same) {
            Some((_, partitions)) => partitions.extend(finding.place.partition),
            None => texts.push((finding, finding.place.partition.into_iter().collect())),
        }
    }
    let text = |(finding, partitions): (&'a Finding, Vec<i32>)| (finding, finding.with_partitions(&partitions));
    texts.into_iter().map(text).collect()
}

/// For `verify`; a full disk has no room for it, and `verify` then sees by itself that nothing moves.
fn write(shared: &WatchShared, findings: &[Finding]) -> bool {
    let written = serde_json::to_vec_pretty(findings).map_err(std::io::Error::from);
    let written = written.and_then(|bytes| write_atomically(&file(&shared.data_dir), &bytes));
    if let Err(error) = &written {
        tracing::debug!(%error, "write what stands still");
    }
    written.is_ok()
}
