//! An inbox against a reference model that is simple enough to be right by looking at it: 10,000 random sequences.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{tests::scope, *};
use crate::core::Charge;

const CAPACITY: usize = 8;

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    Waiting,
    Held { owner: usize, lease: u64, claimed: bool },
    Committed,
}

/// What must be true of each message, by its number.
#[derive(Default)]
struct Model {
    messages: BTreeMap<u64, At>,
    leases: u64,
}

impl Model {
    fn open(&self) -> usize {
        self.messages.values().filter(|at| **at != At::Committed).count()
    }

    /// Everything up to here is committed.
    fn watermark(&self) -> u64 {
        let done = self.messages.iter().take_while(|(_, at)| **at == At::Committed);
        done.map(|(number, _)| *number).last().unwrap_or(0)
    }

    fn first_waiting(&self) -> Option<u64> {
        self.messages.iter().find(|(_, at)| **at == At::Waiting).map(|(number, _)| *number)
    }

    fn take(&mut self, number: u64, owner: usize) -> u64 {
        self.leases += 1;
        self.messages.insert(number, At::Held { owner, lease: self.leases, claimed: false });
        self.leases
    }

    fn holds(&self, number: u64, lease: u64) -> bool {
        matches!(self.messages[&number], At::Held { lease: held, .. } if held == lease)
    }

    /// A message goes back, and with it those after it that nobody has claimed.
    fn nack(&mut self, number: u64) {
        self.messages.insert(number, At::Waiting);
        self.take_back(number + 1, |_, claimed| !claimed);
    }

    fn take_back(&mut self, from: u64, which: impl Fn(usize, bool) -> bool) {
        for at in self.messages.range_mut(from..).map(|(_, at)| at) {
            if matches!(at, At::Held { owner, claimed, .. } if which(*owner, *claimed)) {
                *at = At::Waiting;
            }
        }
    }
}

/// An inbox, its two readers, what they hold, and the model of all that.
struct World {
    inbox: Inbox<u64>,
    scopes: [Scope; 2],
    hands: Vec<(Delivery<u64>, u64)>,
    model: Model,
    sent: u64,
    committed: Vec<u64>,
}

impl World {
    fn new() -> Self {
        Self {
            inbox: Inbox::new("model", CAPACITY),
            scopes: [scope(1), scope(1)],
            hands: Vec::new(),
            model: Model::default(),
            sent: 0,
            committed: Vec::new(),
        }
    }

    fn step(&mut self, action: u8, pick: usize) {
        let owner = pick % 2;
        match action {
            0..=2 => self.send(),
            3..=5 => self.receive(owner),
            6 | 7 if !self.hands.is_empty() => self.commit(pick),
            8 if !self.hands.is_empty() => self.claim(pick),
            9 if !self.hands.is_empty() => {
                let (delivery, lease) = self.hands.remove(pick % self.hands.len());
                if self.model.holds(*delivery, lease) {
                    self.model.nack(*delivery);
                }
                drop(delivery);
            }
            10 => {
                self.scopes[owner].incarnation.fence(Charge::Nobody);
                self.model.take_back(0, |held_by, _| held_by == owner);
                self.scopes[owner] = scope(1);
            }
            11 => {
                self.inbox.rewind();
                self.model.take_back(0, |_, claimed| !claimed);
            }
            _ => {}
        }
        self.check();
    }

    fn send(&mut self) {
        let was_taken = self.inbox.outlet().try_send(self.sent + 1).is_ok();
        assert_eq!(was_taken, self.model.open() < CAPACITY, "the bound");
        if was_taken {
            self.sent += 1;
            self.model.messages.insert(self.sent, At::Waiting);
        }
    }

    fn receive(&mut self, owner: usize) {
        let delivery = self.inbox.try_recv(&self.scopes[owner]);
        assert_eq!(delivery.as_ref().map(|delivery| **delivery), self.model.first_waiting(), "the order");
        if let Some(delivery) = delivery {
            let lease = self.model.take(*delivery, owner);
            self.hands.push((delivery, lease));
        }
    }

    fn commit(&mut self, pick: usize) {
        let (delivery, lease) = self.hands.remove(pick % self.hands.len());
        let may = self.model.holds(*delivery, lease);
        assert_eq!(delivery.commit(), may, "a commit counts if the message is still in this hand");
        if may {
            self.model.messages.insert(*delivery, At::Committed);
            self.committed.push(*delivery);
        }
    }

    fn claim(&mut self, pick: usize) {
        let (delivery, lease) = &self.hands[pick % self.hands.len()];
        let may = self.model.holds(**delivery, *lease);
        assert_eq!(delivery.claim(), may, "a claim counts if the message is still in this hand");
        if may && let Some(At::Held { claimed, .. }) = self.model.messages.get_mut(&**delivery) {
            *claimed = true;
        }
    }

    fn check(&self) {
        let figures = self.inbox.figures();
        let count = |wanted: fn(&At) -> bool| self.model.messages.values().filter(|at| wanted(at)).count();
        assert_eq!(figures.depth, count(|at| *at == At::Waiting));
        assert_eq!(figures.in_hand, count(|at| matches!(at, At::Held { .. })));
        assert!(figures.depth + figures.in_hand <= CAPACITY);
        assert!(self.hands.iter().all(|(delivery, lease)| delivery.is_held() == self.model.holds(**delivery, *lease)));
        let watermark = self.model.watermark();
        assert!((1..=watermark).all(|number| self.committed.contains(&number)), "a hole below the watermark");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_inbox_does_what_its_model_does_and_the_watermark_passes_no_open_message(
        steps in proptest::collection::vec((0u8..12, any::<u8>()), 1..80),
    ) {
        let mut world = World::new();
        for (action, pick) in steps {
            world.step(action, usize::from(pick));
        }
        world.hands.clear();
        while let Some(delivery) = world.inbox.try_recv(&world.scopes[0]) {
            prop_assert!(delivery.commit());
            world.committed.push(*delivery);
        }
        world.committed.sort_unstable();
        prop_assert_eq!(world.committed, (1..=world.sent).collect::<Vec<_>>(), "each once");
    }
}
