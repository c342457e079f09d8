//! Drills that are watched at the moment, and how somebody ends one.

use std::time::Duration;

use streamward_kit::{ActorPath, Runtime};
use tokio::{sync::broadcast, time::Instant};

use crate::app::broker::Embedded;

/// Faults that may be taken back while a drill looks away.
const CAPACITY: usize = 64;
/// How long a drill goes on watching once its fault was taken back: the actor may recover from what struck before.
const AFTER_TAKEN_BACK: Duration = Duration::from_secs(1);

/// Tells drills whose fault was taken back.
pub struct UnderWay(broadcast::Sender<ActorPath>);

/// When a drill ends at the latest.
pub struct End {
    deadline: Instant,
    path: ActorPath,
    taken_back: broadcast::Receiver<ActorPath>,
    is_taken_back: bool,
}

impl UnderWay {
    /// No drill yet.
    pub fn new() -> Self {
        Self(broadcast::Sender::new(CAPACITY))
    }

    /// A drill of this actor begins.
    pub fn begin(&self, path: &ActorPath, deadline: Instant) -> End {
        End { deadline, path: path.clone(), taken_back: self.0.subscribe(), is_taken_back: false }
    }

    /// Takes back the faults of an actor that have not struck, and ends an outage of the broker.
    pub fn take_back(&self, path: &ActorPath, (runtime, broker): (&Runtime, Option<&Embedded>)) {
        runtime.disarm(path);
        let is_broker = runtime.node(path).is_some_and(|node| &*node.kind == "broker");
        if let Some(broker) = broker.filter(|broker| is_broker && !broker.takes_connections()) {
            broker.end_outage();
        }
        // Nobody watches where no drill is under way.
        let _watching = self.0.send(path.clone());
    }
}

impl End {
    /// Whether the time is over; less is left once the fault was taken back.
    pub fn is_over(&mut self) -> bool {
        loop {
            match self.taken_back.try_recv() {
                Ok(path) if path == self.path => self.take_back(),
                Ok(_) => {}
                // Too many were taken back to know whether this one was among them.
                Err(broadcast::error::TryRecvError::Lagged(_)) => self.take_back(),
                Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => break,
            }
        }
        Instant::now() >= self.deadline
    }

    /// Whether somebody took the fault back.
    pub fn is_taken_back(&self) -> bool {
        self.is_taken_back
    }

    fn take_back(&mut self) {
        if !self.is_taken_back {
            self.is_taken_back = true;
            self.deadline = self.deadline.min(Instant::now() + AFTER_TAKEN_BACK);
        }
    }
}

#[cfg(test)]
mod tests {
    use streamward_kit::SupervisorSpec;

    use super::*;

    #[actix::test]
    async fn a_fault_that_is_taken_back_ends_the_drill_of_its_actor_alone() {
        let runtime = Runtime::start(SupervisorSpec::new("root")).unwrap();
        let path = |text: &str| ActorPath::parse(text).unwrap();
        let under_way = UnderWay::new();
        let minute = Instant::now() + Duration::from_secs(60);
        let (mut ends, mut goes_on) = (under_way.begin(&path("a"), minute), under_way.begin(&path("b"), minute));
        under_way.take_back(&path("a"), (&runtime, None));
        assert!(!ends.is_over() && ends.is_taken_back() && ends.deadline < minute);
        let deadline = ends.deadline;
        under_way.take_back(&path("a"), (&runtime, None));
        assert!(!ends.is_over() && ends.deadline == deadline, "a second time changes nothing");
        assert!(!goes_on.is_over() && !goes_on.is_taken_back() && goes_on.deadline == minute);
        runtime.shutdown(Vec::new()).await;
    }
}
