//! The threads that host roles.

use std::{collections::HashMap, io, sync::Arc};

use actix_rt::{Arbiter, ArbiterHandle};

use crate::{
    core::{ChildKey, Place},
    spec::Placement,
};

/// Where to run.
pub(super) enum Target {
    Here,
    There(u64, ArbiterHandle),
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Owner {
    Pool(Arc<str>),
    Child(ChildKey),
}

/// All arbiters in use; one that is blocked is retired and replaced when next needed.
#[derive(Default)]
pub(super) struct Arbiters {
    hosts: HashMap<Owner, (u64, Arbiter)>,
    next_id: u64,
}

impl Arbiters {
    pub(super) fn target(&mut self, child: ChildKey, placement: &Placement, place: Place) -> io::Result<Target> {
        let owner = match (placement, place) {
            (Placement::Main, Place::Usual) => return Ok(Target::Here),
            (Placement::Pool(name), Place::Usual | Place::Fresh) => Owner::Pool(Arc::clone(name)),
            (Placement::Main, Place::Fresh) | (Placement::Dedicated, Place::Usual | Place::Fresh) => {
                Owner::Child(child)
            }
        };
        if let Some((id, arbiter)) = self.hosts.get(&owner)
            && arbiter.alive()
        {
            return Ok(Target::There(*id, arbiter.handle()));
        }
        let arbiter = Arbiter::try_new()?;
        self.next_id += 1;
        let target = Target::There(self.next_id, arbiter.handle());
        self.hosts.insert(owner, (self.next_id, arbiter));
        Ok(target)
    }

    /// Gives up on a blocked arbiter; it ends when it wakes.
    pub(super) fn retire(&mut self, id: u64) {
        self.hosts.retain(|_, (host, arbiter)| {
            let blocked = *host == id;
            if blocked {
                arbiter.stop();
            }
            !blocked
        });
    }

    /// Ends the arbiter of a child that left the tree.
    pub(super) fn release(&mut self, child: ChildKey) {
        if let Some((_, arbiter)) = self.hosts.remove(&Owner::Child(child)) {
            arbiter.stop();
        }
    }

    pub(super) fn stop_all(&mut self) {
        for (_, (_, arbiter)) in self.hosts.drain() {
            arbiter.stop();
        }
    }
}
