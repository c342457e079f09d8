//! What a drill has observed, as a sentence: above all what it has not.

use streamward_kit::{ActorState, StruckFault, TreeNode};

use super::FaultKind;

/// What was seen of a fault inside an actor.
pub(super) struct Seen<'a> {
    pub now: &'a TreeNode,
    pub fault: FaultKind,
    pub struck: Option<&'a StruckFault>,
    pub has_recovered: bool,
    /// Whether an incarnation ended of it.
    pub has_ended: bool,
    /// Whether the actor has finished something since.
    pub has_worked: bool,
}

impl Seen<'_> {
    pub fn in_words(&self) -> String {
        let Some(struck) = self.struck else { return self.not_struck() };
        let fault = match (self.has_ended, matches!(self.fault, FaultKind::Stall | FaultKind::Slow)) {
            (true, _) => "an incarnation ended of the fault and another one runs",
            (false, true) => "the actor was held and went on by itself",
            (false, false) => "the fault struck",
        };
        let point = &struck.point;
        match (self.has_recovered, self.has_worked, self.is_up()) {
            (true, true, _) => format!("at {point}: {fault}, and it works"),
            (true, false, _) => format!("at {point}: {fault}; it had nothing to do since, so its state alone says so"),
            (false, _, true) => {
                format!(
                    "at {point}: the fault struck, and the actor runs; it has finished nothing since, so whether it works was not seen"
                )
            }
            (false, _, false) => format!("at {point}: the fault struck, and the actor is {}", self.state()),
        }
    }

    fn not_struck(&self) -> String {
        let why = match (self.now.state, &self.now.waiting_on) {
            (ActorState::Paused, _) => "it is paused: resume it first".to_owned(),
            (ActorState::Running | ActorState::Degraded, Some(wait)) => {
                format!("it waits for {}: give it something to do, such as a record, and drill it again", wait.on)
            }
            (ActorState::Running | ActorState::Degraded, None) => {
                "it had nothing to do: give it something, such as a record, and drill it again".to_owned()
            }
            (
                ActorState::Starting
                | ActorState::BackingOff
                | ActorState::Stopping
                | ActorState::Stopped
                | ActorState::Failed,
                _,
            ) => format!("it is {}", self.state()),
        };
        format!("nothing was injected, since the actor came to no place where a fault can strike: {why}")
    }

    fn is_up(&self) -> bool {
        matches!(self.now.state, ActorState::Running | ActorState::Degraded)
    }

    fn state(&self) -> String {
        self.now.state.as_str().replace('_', " ")
    }
}
