//! The group's state machine: every test gives it a time and events, and reads its effects.

use bytes::Bytes;

use super::member::*;
use super::state::{GATHER_LIMIT_MS, GATHER_MS, Group, Phase};
use crate::error::Code;

pub(super) const SESSION_MS: u64 = 10_000;
pub(super) const REBALANCE_MS: u64 = 60_000;

pub(super) fn request(member_id: &str) -> JoinRequest {
    JoinRequest {
        member_id: member_id.to_owned(),
        instance_id: None,
        client_id: "c".to_owned(),
        client_host: "h".to_owned(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), Bytes::from_static(b"topics"))],
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        new_member: NewMember::JoinsAtOnce,
        skip_assignment: SkipAssignment::Unknown,
    }
}

fn fixed(instance_id: &str) -> JoinRequest {
    JoinRequest { instance_id: Some(instance_id.to_owned()), ..request("") }
}

fn joins(group: &mut Group) -> Vec<(Token, JoinReply)> {
    let joined = |effect| match effect {
        Effect::AnswerJoin(token, reply) => Some((token, reply)),
        Effect::AnswerSync(..) => None,
    };
    group.take_effects().into_iter().filter_map(joined).collect()
}

fn syncs(group: &mut Group) -> Vec<(Token, SyncReply)> {
    let synced = |effect| match effect {
        Effect::AnswerSync(token, reply) => Some((token, reply)),
        Effect::AnswerJoin(..) => None,
    };
    group.take_effects().into_iter().filter_map(synced).collect()
}

pub(super) fn identity(member_id: &str, generation: i32) -> Identity {
    Identity { member_id: member_id.to_owned(), instance_id: None, generation }
}

pub(super) fn sync(member_id: &str, generation: i32, assignments: &[(&str, &'static str)]) -> SyncRequest {
    let own = |(id, a): &(&str, &'static str)| ((*id).to_owned(), Bytes::from_static(a.as_bytes()));
    SyncRequest {
        identity: identity(member_id, generation),
        protocol_type: None,
        protocol: None,
        assignments: assignments.iter().map(own).collect(),
    }
}

/// A stable group of dynamic members "a" (the leader) and "b", in generation 1 at time 1000.
fn stable() -> Group {
    let mut group = Group::new();
    group.join(request(""), "a".to_owned(), 1, 0);
    group.join(request(""), "b".to_owned(), 2, 50);
    group.tick(1_000);
    assert_eq!(joins(&mut group).len(), 2);
    group.sync(sync("b", 1, &[]), 3, 1_000);
    group.sync(sync("a", 1, &[("a", "pa"), ("b", "pb")]), 4, 1_000);
    assert_eq!(syncs(&mut group).len(), 2);
    assert_eq!(group.phase(), Phase::Stable);
    group
}

#[test]
fn a_new_group_waits_a_moment_for_more_members_and_no_longer() {
    let mut group = Group::new();
    group.join(request(""), "a".to_owned(), 1, 0);
    group.tick(GATHER_MS - 1);
    assert!(joins(&mut group).is_empty());
    group.tick(GATHER_MS);
    let replies = joins(&mut group);
    assert_eq!(replies[0].1.generation, 1);
    assert_eq!(replies[0].1.members.len(), 1);
}

#[test]
fn members_that_keep_coming_do_not_hold_a_new_group_up_for_ever() {
    let mut group = Group::new();
    for (token, now_ms) in (0..GATHER_LIMIT_MS).step_by(50).enumerate() {
        group.tick(now_ms);
        assert!(joins(&mut group).is_empty(), "at {now_ms}");
        group.join(request(""), format!("m{token}"), token as Token, now_ms);
        let to_return = JoinRequest { new_member: NewMember::MustReturnWithId, ..request("") };
        group.join(to_return, format!("r{token}"), 100 + token as Token, now_ms);
        assert_eq!(joins(&mut group).len(), 1, "it is sent away and does not come back");
    }
    group.tick(GATHER_LIMIT_MS - 1);
    assert!(joins(&mut group).is_empty());
    group.tick(GATHER_LIMIT_MS);
    assert_eq!(joins(&mut group).len(), 8);
}

#[test]
fn the_leader_alone_learns_of_all_members() {
    let mut group = Group::new();
    group.join(request(""), "a".to_owned(), 1, 0);
    group.join(request(""), "b".to_owned(), 2, 10);
    group.tick(500);
    let replies = joins(&mut group);
    let sizes: Vec<(Token, usize)> = replies.iter().map(|(t, r)| (*t, r.members.len())).collect();
    assert_eq!(sizes, [(1, 2), (2, 0)]);
    assert!(replies.iter().all(|(_, r)| r.leader == "a"));
}

#[test]
fn a_member_is_sent_away_to_come_back_with_its_id() {
    let mut group = Group::new();
    let new = JoinRequest { new_member: NewMember::MustReturnWithId, ..request("") };
    group.join(new, "a".to_owned(), 1, 0);
    let (_, reply) = joins(&mut group).remove(0);
    assert_eq!((reply.error, reply.member_id.as_str()), (Some(Code::MemberIdRequired), "a"));
    group.join(request("a"), "unused".to_owned(), 2, 10);
    group.tick(500);
    assert_eq!(joins(&mut group)[0].1.error, None);
    group.join(request("stranger"), "unused".to_owned(), 3, 600);
    assert_eq!(joins(&mut group)[0].1.error, Some(Code::UnknownMemberId));
}

#[test]
fn each_member_gets_its_own_assignment() {
    let mut group = stable();
    group.sync(sync("b", 1, &[]), 9, 1_100);
    assert_eq!(syncs(&mut group)[0].1.assignment, "pb");
}

#[test]
fn a_third_member_makes_the_others_join_again() {
    let mut group = stable();
    group.join(request(""), "c".to_owned(), 5, 2_000);
    assert_eq!(group.heartbeat(&identity("a", 1), 2_001), Err(Code::RebalanceInProgress));
    group.join(request("a"), String::new(), 6, 2_010);
    assert!(joins(&mut group).is_empty(), "b is awaited");
    group.join(request("b"), String::new(), 7, 2_020);
    let replies = joins(&mut group);
    assert_eq!(replies.len(), 3);
    assert!(replies.iter().all(|(_, r)| r.generation == 2 && r.error.is_none()));
    assert_eq!(group.heartbeat(&identity("a", 1), 2_030), Err(Code::IllegalGeneration));
}

#[test]
fn a_silent_member_is_dropped_when_its_session_ends() {
    let mut group = stable();
    group.heartbeat(&identity("a", 1), 9_000).unwrap();
    group.tick(1_000 + SESSION_MS);
    assert_eq!(group.heartbeat(&identity("a", 1), 11_001), Err(Code::RebalanceInProgress));
    group.join(request("a"), String::new(), 8, 11_010);
    let replies = joins(&mut group);
    assert_eq!(replies[0].1.members.len(), 1);
}

#[test]
fn a_member_that_dies_while_others_wait_is_dropped_at_once() {
    let mut group = stable();
    group.join(request(""), "c".to_owned(), 5, 2_000);
    group.join(request("a"), String::new(), 6, 2_010);
    group.cancel(5, 2_020);
    group.join(request("b"), String::new(), 7, 2_030);
    let replies = joins(&mut group);
    let tokens: Vec<Token> = replies.iter().map(|(t, _)| *t).filter(|t| *t != 5).collect();
    assert_eq!(tokens, [6, 7]);
}

#[test]
fn a_leader_that_dies_before_it_assigns_is_dropped_at_once() {
    let mut group = Group::new();
    group.join(request(""), "a".to_owned(), 1, 0);
    group.join(request(""), "b".to_owned(), 2, 0);
    group.tick(500);
    joins(&mut group);
    group.sync(sync("b", 1, &[]), 3, 510);
    group.connection_lost("a", 520);
    assert_eq!(syncs(&mut group)[0].1.error, Some(Code::RebalanceInProgress));
    group.join(request("b"), String::new(), 4, 530);
    let replies = joins(&mut group);
    assert_eq!((replies[0].1.leader.as_str(), replies[0].1.members.len()), ("b", 1));
}

#[test]
fn a_stable_member_may_lose_its_connection_and_come_back() {
    let mut group = stable();
    group.connection_lost("a", 2_000);
    assert_eq!(group.heartbeat(&identity("a", 1), 2_010), Ok(()));
}

#[test]
fn who_does_not_join_in_time_is_left_behind() {
    let mut group = stable();
    let slow = JoinRequest { rebalance_timeout_ms: 2_000, ..request("") };
    for (id, token) in [("a", 5), ("b", 6)] {
        group.join(
            JoinRequest {
                member_id: id.to_owned(),
                protocols: vec![("range".to_owned(), Bytes::from_static(b"other"))],
                ..slow.clone()
            },
            String::new(),
            token,
            1_500,
        );
    }
    joins(&mut group);
    group.sync(sync("a", 2, &[("a", "all")]), 7, 1_600);
    group.join(slow, "c".to_owned(), 8, 1_700);
    group.join(request("a"), String::new(), 9, 1_800);
    // Only heard of by heartbeats, "b" does not join again.
    let _ = group.heartbeat(&identity("b", 2), 3_600);
    group.tick(3_699);
    assert!(joins(&mut group).is_empty());
    group.tick(3_700);
    let replies = joins(&mut group);
    assert_eq!(replies[0].1.members.len(), 2);
}

#[test]
fn a_member_that_waits_longer_than_its_session_stays_in_the_group() {
    let mut group = stable();
    group.join(request(""), "c".to_owned(), 5, 2_000);
    group.join(request("a"), String::new(), 6, 2_000);
    let mut now_ms = 2_000;
    while now_ms <= 2_000 + 2 * SESSION_MS {
        now_ms += 1_000;
        assert_eq!(group.heartbeat(&identity("b", 1), now_ms), Err(Code::RebalanceInProgress));
        group.tick(now_ms);
        assert!(joins(&mut group).is_empty(), "b is awaited");
    }
    group.join(request("b"), String::new(), 7, now_ms);
    let replies: Vec<_> = joins(&mut group).into_iter().map(|(token, reply)| (token, reply.error)).collect();
    assert_eq!(replies, [(6, None), (7, None), (5, None)]);
    group.sync(sync("b", 2, &[]), 8, now_ms);
    while now_ms <= 2_000 + 4 * SESSION_MS {
        now_ms += 1_000;
        for heard in ["a", "c"] {
            assert_eq!(group.heartbeat(&identity(heard, 2), now_ms), Ok(()));
        }
        group.tick(now_ms);
        assert!(syncs(&mut group).is_empty(), "the leader is awaited");
    }
    group.sync(sync("a", 2, &[("a", "pa"), ("b", "pb"), ("c", "pc")]), 9, now_ms);
    let assigned: Vec<_> = syncs(&mut group).into_iter().map(|(token, reply)| (token, reply.assignment)).collect();
    assert_eq!(assigned, [(9, Bytes::from_static(b"pa")), (8, Bytes::from_static(b"pb"))]);
}

#[test]
fn a_session_begins_anew_when_the_wait_ends() {
    let mut group = stable();
    group.join(request(""), "c".to_owned(), 5, 2_000);
    group.join(request("a"), String::new(), 6, 2_000);
    let joined_ms = 2_000 + SESSION_MS - 1;
    group.heartbeat(&identity("b", 1), 2_001).unwrap_err();
    group.join(request("b"), String::new(), 7, joined_ms);
    assert_eq!(joins(&mut group).len(), 3);
    group.tick(joined_ms + SESSION_MS - 1);
    assert_eq!(group.members().count(), 3);
    group.tick(joined_ms + SESSION_MS);
    assert_eq!(group.members().count(), 0, "none of them was heard of since");
}

#[test]
fn a_leader_that_never_assigns_is_replaced() {
    let mut group = Group::new();
    group.join(request(""), "a".to_owned(), 1, 0);
    group.join(request(""), "b".to_owned(), 2, 0);
    group.tick(500);
    joins(&mut group);
    group.sync(sync("b", 1, &[]), 3, 600);
    group.tick(500 + SESSION_MS);
    assert_eq!(syncs(&mut group)[0].1.error, Some(Code::RebalanceInProgress));
    group.join(request("b"), String::new(), 4, 11_000);
    assert_eq!(joins(&mut group)[0].1.leader, "b");
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_fences_the_old_one() {
    let mut group = Group::new();
    group.join(fixed("i1"), "a".to_owned(), 1, 0);
    group.join(fixed("i2"), "b".to_owned(), 2, 0);
    group.tick(500);
    joins(&mut group);
    group.sync(sync("b", 1, &[]), 3, 600);
    group.sync(sync("a", 1, &[("a", "pa"), ("b", "pb")]), 4, 600);
    syncs(&mut group);
    group.join(fixed("i1"), "a2".to_owned(), 5, 700);
    let (_, reply) = joins(&mut group).remove(0);
    assert_eq!((reply.error, reply.generation), (None, 1));
    assert_ne!(reply.leader, "a2", "an old client must not assign again");
    assert_eq!(group.phase(), Phase::Stable);
    group.sync(sync("a2", 1, &[]), 6, 710);
    assert_eq!(syncs(&mut group)[0].1.assignment, "pa");
    let old = Identity { instance_id: Some("i1".to_owned()), ..identity("a", 1) };
    assert_eq!(group.heartbeat(&old, 720), Err(Code::FencedInstanceId));
}

#[test]
fn a_returning_static_leader_is_told_to_skip_the_assignment_if_it_understands() {
    let mut group = Group::new();
    group.join(fixed("i1"), "a".to_owned(), 1, 0);
    group.tick(500);
    joins(&mut group);
    group.sync(sync("a", 1, &[("a", "all")]), 2, 600);
    let modern = JoinRequest { skip_assignment: SkipAssignment::Understood, ..fixed("i1") };
    group.join(modern, "a2".to_owned(), 3, 700);
    let (_, reply) = joins(&mut group).remove(0);
    assert!(reply.skip_assignment);
    assert_eq!(reply.leader, "a2");
}

#[test]
fn the_protocol_that_all_support_is_chosen() {
    let mut group = Group::new();
    let with = |names: &[&str]| JoinRequest {
        protocols: names.iter().map(|n| ((*n).to_owned(), Bytes::new())).collect(),
        ..request("")
    };
    group.join(with(&["x", "range"]), "a".to_owned(), 1, 0);
    group.join(with(&["range", "y"]), "b".to_owned(), 2, 0);
    group.join(with(&["z"]), "c".to_owned(), 3, 0);
    assert_eq!(joins(&mut group)[0].1.error, Some(Code::InconsistentGroupProtocol));
    group.tick(500);
    assert!(joins(&mut group).iter().all(|(_, r)| r.protocol.as_deref() == Some("range")));
}

#[test]
fn commits_are_for_current_members_or_for_groups_without_any() {
    let mut group = stable();
    assert_eq!(group.may_commit(&identity("a", 1), 1_100), Ok(()));
    assert_eq!(group.may_commit(&identity("a", 0), 1_100), Err(Code::IllegalGeneration));
    assert_eq!(group.may_commit(&identity("", -1), 1_100), Err(Code::UnknownMemberId));
    group.leave("a", None, 1_200).unwrap();
    group.leave("b", None, 1_200).unwrap();
    assert_eq!(group.phase(), Phase::Empty);
    assert_eq!(group.may_commit(&identity("", -1), 1_300), Ok(()));
}

#[derive(Debug, Clone)]
pub(super) enum Event {
    Join(usize),
    Sync(usize),
    Leave(usize),
    Cancel(usize),
    Wait(u64),
}

pub(super) fn events() -> impl proptest::strategy::Strategy<Value = Vec<Event>> {
    use proptest::prelude::*;
    let event = prop_oneof![
        (0..4_usize).prop_map(Event::Join),
        (0..4_usize).prop_map(Event::Sync),
        (0..4_usize).prop_map(Event::Leave),
        (0..60_usize).prop_map(Event::Cancel),
        (1..20_000_u64).prop_map(Event::Wait),
    ];
    proptest::collection::vec(event, 1..60)
}

proptest::proptest! {
    /// Whatever happens, each request is answered at most once, and once everybody has been silent
    /// for long enough, exactly once, unless its client went away.
    #[test]
    fn every_request_is_answered_once(events in events()) {
        let mut group = Group::new();
        let mut now_ms = 0;
        let mut open = std::collections::HashSet::new();
        let mut ids: Vec<String> = vec![String::new(); 4];
        let mut generation = 0;
        for (token, event) in events.into_iter().enumerate() {
            let token = token as Token;
            match event {
                Event::Join(who) => {
                    open.insert(token);
                    let known = ids[who].clone();
                    let fresh = format!("m{token}");
                    if known.is_empty() {
                        ids[who].clone_from(&fresh);
                    }
                    group.join(request(&known), fresh, token, now_ms);
                }
                Event::Sync(who) => {
                    open.insert(token);
                    group.sync(sync(&ids[who], generation, &[]), token, now_ms);
                }
                Event::Leave(who) => {
                    let _ = group.leave(&ids[who], None, now_ms);
                }
                Event::Cancel(token) => {
                    if open.remove(&(token as Token)) {
                        group.cancel(token as Token, now_ms);
                    }
                }
                Event::Wait(ms) => {
                    now_ms += ms;
                    group.tick(now_ms);
                }
            }
            for effect in group.take_effects() {
                let answered = match effect {
                    Effect::AnswerJoin(token, reply) => {
                        if reply.error == Some(Code::UnknownMemberId) {
                            ids.iter_mut().filter(|i| **i == reply.member_id).for_each(String::clear);
                        }
                        generation = generation.max(reply.generation);
                        token
                    }
                    Effect::AnswerSync(token, _) => token,
                };
                proptest::prop_assert!(open.remove(&answered), "answered twice: {}", answered);
            }
        }
        for _ in 0..8 {
            now_ms += REBALANCE_MS;
            group.tick(now_ms);
            for effect in group.take_effects() {
                let (Effect::AnswerJoin(token, _) | Effect::AnswerSync(token, _)) = effect;
                proptest::prop_assert!(open.remove(&token));
            }
        }
        proptest::prop_assert!(open.is_empty(), "never answered: {:?}", open);
    }
}

#[test]
fn offsets_of_a_group_stay_for_a_week_after_it_was_last_seen() {
    use super::Groups;
    use crate::meta::{Change, CommittedOffset, Durability, MetaStore};

    const WEEK_MS: i64 = 7 * 24 * 3_600 * 1_000;
    let dir = tempfile::tempdir().unwrap();
    let mut store = MetaStore::open(&dir.path().join("metadata.log")).unwrap();
    let old = CommittedOffset { offset: 4, metadata: String::new(), committed_ms: 5, leader_epoch: 0 };
    let change = Change::Offsets { group: "g".to_owned(), offsets: vec![("t".to_owned(), 0, old)] };
    store.commit(change, Durability::Cached).unwrap();
    let groups = Groups::new(std::sync::Arc::new(parking_lot::Mutex::new(store)));
    let is_known = |at_ms: i64| {
        groups.expire_offsets(at_ms);
        groups.meta.lock().state().groups.contains_key("g")
    };
    let opened_ms = groups.opened_ms;
    assert!(is_known(opened_ms + 1), "its members had no time to come back");
    let (mut live, mut now_ms) = (super::Live::default(), opened_ms + 2 * WEEK_MS);
    live.groups.insert("g".to_owned(), Group::new());
    *groups.live.lock() = live;
    assert!(is_known(now_ms), "it has members");
    groups.live.lock().groups.clear();
    now_ms += WEEK_MS;
    assert!(is_known(now_ms));
    assert!(!is_known(now_ms + 1));
}
