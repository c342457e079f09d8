//! Which log each topic is, asked of an outside cluster: a thread asks, everyone else waits for its next answer.
//!
//! Whoever needs to know makes the thread ask at once; one answer serves all who waited for it, so the cluster gets at
//! most one request in [`MIN_PAUSE`]. Without questions it asks every [`EVERY`], so that a topic made anew is noticed.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use streamward_kit::{Failure, Scope};
use streamward_pipeline::{
    logs::{LogIdentity, Logs, Told},
    store::BoxFuture,
};
use tokio::sync::watch;

use super::{KafkaSettings, admin::LogInspector};

/// How often the cluster is asked when nobody waits for an answer.
const EVERY: Duration = Duration::from_secs(1);
/// Time between two requests.
const MIN_PAUSE: Duration = Duration::from_millis(5);
/// How soon the thread sees that it is to stop.
const STOP_CHECK: Duration = Duration::from_millis(200);
/// How long the cluster may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long one waits for an answer: the request under way may have to run out of time before the one that counts begins.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the cluster said last.
struct Answer {
    asked_at: Instant,
    logs: Result<HashMap<Arc<str>, LogIdentity>, String>,
}

/// The logs of a fixed set of topics.
pub struct ClusterLogs {
    topics: Vec<Arc<str>>,
    wanted: Mutex<bool>,
    want: Condvar,
    answers: watch::Sender<Option<Answer>>,
}

impl ClusterLogs {
    /// Of these topics; nothing is known before [`Self::run`] has asked.
    #[must_use]
    pub fn new(topics: Vec<Arc<str>>) -> Self {
        Self { topics, wanted: Mutex::new(false), want: Condvar::new(), answers: watch::Sender::new(None) }
    }

    /// Asks the cluster until the scope asks to stop.
    ///
    /// # Errors
    /// If the client cannot be made.
    pub fn run(&self, scope: &Scope, kafka: &KafkaSettings) -> Result<(), Failure> {
        let inspector = LogInspector::connect(kafka)?;
        let names: Vec<&str> = self.topics.iter().map(|topic| &**topic).collect();
        while !scope.is_stopping() {
            scope.pause_point_blocking();
            scope.fault_point_blocking("ask")?;
            *self.wanted.lock() = false;
            let asked_at = Instant::now();
            let waiting = scope.waiting_on("kafka");
            let told = inspector.logs(&names, TIMEOUT);
            drop(waiting);
            let logs = match told {
                Ok(logs) => {
                    scope.clear_state_note();
                    let known = self.topics.iter().cloned().zip(logs);
                    Ok(known.filter_map(|(topic, log)| Some((topic, log?))).collect())
                }
                Err(error) => {
                    scope.set_state_note(&format!("the cluster does not tell the ids of topics: {error}"));
                    Err(error.to_string())
                }
            };
            self.answers.send_replace(Some(Answer { asked_at, logs }));
            scope.progress(1);
            self.rest(scope, asked_at);
        }
        Ok(())
    }

    /// Until somebody wants to know, or it is time.
    fn rest(&self, scope: &Scope, asked_at: Instant) {
        std::thread::sleep(MIN_PAUSE);
        let mut wanted = self.wanted.lock();
        while !*wanted && !scope.is_stopping() && asked_at.elapsed() < EVERY {
            self.want.wait_for(&mut wanted, STOP_CHECK);
        }
    }
}

impl Logs for ClusterLogs {
    fn ask<'a>(&'a self, topic: &'a Arc<str>) -> BoxFuture<'a, Result<Told, String>> {
        Box::pin(async move {
            let since = Instant::now();
            let mut answers = self.answers.subscribe();
            *self.wanted.lock() = true;
            self.want.notify_one();
            let is_new = |answer: &Option<Answer>| answer.as_ref().is_some_and(|answer| answer.asked_at >= since);
            let silent = || format!("no answer within {} s", PATIENCE.as_secs());
            let heard = tokio::time::timeout(PATIENCE, answers.wait_for(is_new)).await;
            let answer = heard.map_err(|_| silent())?.map_err(|_| silent())?;
            let Some(Answer { asked_at, logs }) = &*answer else { return Err(silent()) };
            let logs = logs.as_ref().map_err(Clone::clone)?;
            Ok(Told { log: logs.get(topic).cloned(), asked_at: *asked_at })
        })
    }

    fn last_told(&self, topic: &Arc<str>) -> Option<LogIdentity> {
        let answer = self.answers.borrow();
        answer.as_ref()?.logs.as_ref().ok()?.get(topic).cloned()
    }
}
