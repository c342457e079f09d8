//! When a group is to be looked at next.

use super::member::*;
use super::state::{GATHER_MS, Group, Phase};
use super::tests::{Event, REBALANCE_MS, SESSION_MS, events, identity, request, sync};

fn shape(group: &Group) -> (Phase, i32, usize, usize) {
    (group.phase, group.generation, group.members.len(), group.pending.len())
}

proptest::proptest! {
    /// So nobody has to look at a group before the time that it names.
    #[test]
    fn nothing_is_overdue_before_the_time_that_a_group_names(events in events()) {
        let (mut group, mut now_ms, mut ids) = (Group::new(), 0, vec![String::new(); 4]);
        for (token, event) in events.into_iter().enumerate() {
            let token = token as Token;
            match event {
                Event::Join(who) => {
                    let (fresh, mut request) = (format!("m{token}"), request(&ids[who]));
                    if ids[who].is_empty() && who % 2 == 0 {
                        request.new_member = NewMember::MustReturnWithId;
                    }
                    group.join(request, fresh, token, now_ms);
                }
                Event::Sync(who) => group.sync(sync(&ids[who], group.generation, &[]), token, now_ms),
                Event::Leave(who) => drop(group.leave(&ids[who], None, now_ms)),
                Event::Cancel(token) => group.cancel(token as Token, now_ms),
                Event::Wait(ms) => now_ms += ms,
            }
            for effect in group.take_effects() {
                if let Effect::AnswerJoin(token, reply) = effect {
                    ids[token as usize % 4] = reply.member_id;
                }
            }
            group.tick(now_ms);
            group.take_effects();
            let (before, due_ms) = (shape(&group), group.due_ms(now_ms));
            let last_ms = due_ms.map_or(now_ms + 10 * REBALANCE_MS, |due| due - 1);
            group.tick(last_ms);
            proptest::prop_assert_eq!((shape(&group), group.take_effects()), (before, Vec::new()));
        }
    }
}

#[test]
fn a_group_names_the_next_of_its_times() {
    let mut group = Group::new();
    assert_eq!(group.due_ms(0), Some(1), "nobody is in it: it is forgotten");
    group.join(request(""), "a".to_owned(), 0, 0);
    assert_eq!(group.due_ms(0), Some(GATHER_MS));
    group.tick(GATHER_MS);
    assert_eq!(group.due_ms(GATHER_MS), Some(GATHER_MS + SESSION_MS));
    group.sync(sync("a", 1, &[("a", "p0")]), 1, 200);
    assert_eq!((group.phase(), group.due_ms(200)), (Phase::Stable, Some(200 + SESSION_MS)));
    group.heartbeat(&identity("a", 1), 5_000).unwrap();
    assert_eq!(group.due_ms(5_000), Some(5_000 + SESSION_MS));
}
