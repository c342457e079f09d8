//! What a drill has observed, as a sentence: above all what it has not.

use streamward_kit::{ActorState, StruckFault, TreeNode};

use super::FaultKind;
use crate::config::HumanDuration;

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
    /// Whether somebody took back what had not struck.
    pub is_taken_back: bool,
}

impl Seen<'_> {
    pub fn in_words(&self) -> String {
        let words = match self.struck {
            None if self.is_taken_back => return "nothing was injected: the fault was taken back before".to_owned(),
            None => return self.not_struck(),
            Some(struck) => self.of_strike(struck),
        };
        if self.is_taken_back { format!("{words}; what had not struck was taken back") } else { words }
    }

    fn of_strike(&self, struck: &StruckFault) -> String {
        let fault = match (self.has_ended, matches!(self.fault, FaultKind::Stall | FaultKind::Slow)) {
            (true, _) => "an incarnation ended of the fault and another one runs",
            (false, true) => &self.held(),
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

    /// Why a stall or a delay ended no incarnation.
    fn held(&self) -> String {
        let why = match (self.fault, self.now.policy.stuck_after) {
            (FaultKind::Stall, Some(limit)) => {
                format!(
                    ", before its stuck_after of {} was over",
                    HumanDuration::from_millis(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
                )
            }
            (FaultKind::Stall, None) => ", since it has no stuck_after".to_owned(),
            _ => String::new(),
        };
        format!("the actor was held and went on by itself{why}")
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
