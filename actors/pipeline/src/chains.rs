//! Facts on their way to a target, those of one order one after the other.
//!
//! A page is sent in rounds: each round has the next fact of every chain, all at once. So a record is not sent while the
//! one before it may still fail. After a failure the rest of its chain is left out; the other chains go on.

use std::collections::{HashMap, VecDeque};

use crate::relay::{EntryId, Fact, Target, TargetError};

/// Sends facts and returns the answers, in rounds; facts that wait for one that failed have none.
///
/// A fact that the target refuses for good does not hold up those behind it.
pub(crate) async fn send(target: &dyn Target, facts: Vec<Fact>) -> Vec<(EntryId, Result<(), TargetError>)> {
    let mut answered = Vec::with_capacity(facts.len());
    let mut chains = chains(facts);
    while !chains.is_empty() {
        let round: Vec<Fact> = chains.iter_mut().filter_map(VecDeque::pop_front).collect();
        let answers = target.send(&round).await;
        let mut goes_on = Vec::with_capacity(round.len());
        for (fact, answer) in round.into_iter().zip(answers) {
            goes_on.push(!matches!(answer, Err(TargetError::Unavailable(_))));
            answered.push((fact.entry, answer));
        }
        let mut goes_on = goes_on.into_iter();
        chains.retain(|chain| goes_on.next().unwrap_or(false) && !chain.is_empty());
    }
    answered
}

/// Facts by their order, each chain in the order of the page; a fact that stands alone is a chain.
fn chains(facts: Vec<Fact>) -> Vec<VecDeque<Fact>> {
    let mut chains: Vec<VecDeque<Fact>> = Vec::with_capacity(facts.len());
    let mut places: HashMap<(String, String), usize> = HashMap::new();
    for fact in facts {
        let place = match &fact.in_order {
            Some(order) => *places.entry((fact.entry.sink.clone(), order.clone())).or_insert(chains.len()),
            None => chains.len(),
        };
        if place == chains.len() {
            chains.push(VecDeque::new());
        }
        chains[place].push_back(fact);
    }
    chains
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::store::BoxFuture;

    /// Takes everything but some facts, and keeps what each call brought.
    struct Picky {
        unavailable: Vec<i64>,
        refused: Vec<i64>,
        calls: Mutex<Vec<Vec<i64>>>,
    }

    impl Target for Picky {
        fn send<'a>(&'a self, facts: &'a [Fact]) -> BoxFuture<'a, Vec<Result<(), TargetError>>> {
            let answer = |fact: &Fact| match fact.entry.fact {
                fact if self.unavailable.contains(&fact) => Err(TargetError::Unavailable("timed out".to_owned())),
                fact if self.refused.contains(&fact) => Err(TargetError::Refused("too large".to_owned())),
                _ => Ok(()),
            };
            self.calls.lock().push(facts.iter().map(|fact| fact.entry.fact).collect());
            let answers = facts.iter().map(answer).collect();
            Box::pin(async move { answers })
        }
    }

    fn fact(fact: i64, order: Option<&str>) -> Fact {
        let entry = EntryId { sink: "sensors".to_owned(), fact };
        Fact { entry, in_order: order.map(str::to_owned), key: None, value: None, headers: Vec::new() }
    }

    /// Facts 1, 3, 5 of the order `a`, 2 and 4 of `b`, 6 and 7 of none.
    fn page() -> Vec<Fact> {
        let orders = [Some("a"), Some("b"), Some("a"), Some("b"), Some("a"), None, None];
        (1..).zip(orders).map(|(number, order)| fact(number, order)).collect()
    }

    /// What was sent in each round, and which facts the target has.
    async fn sent(unavailable: &[i64], refused: &[i64]) -> (Vec<Vec<i64>>, Vec<i64>) {
        let target = Picky { unavailable: unavailable.to_vec(), refused: refused.to_vec(), calls: Mutex::default() };
        let answers = send(&target, page()).await;
        let mut has: Vec<i64> =
            answers.iter().filter(|(_, answer)| answer.is_ok()).map(|(entry, _)| entry.fact).collect();
        has.sort_unstable();
        (target.calls.into_inner(), has)
    }

    #[actix_rt::test]
    async fn facts_of_one_order_are_sent_one_after_the_other_and_all_others_at_once() {
        let (rounds, has) = sent(&[], &[]).await;
        assert_eq!(rounds, [vec![1, 2, 6, 7], vec![3, 4], vec![5]]);
        assert_eq!(has, [1, 2, 3, 4, 5, 6, 7]);
    }

    #[actix_rt::test]
    async fn what_follows_a_fact_that_failed_waits_and_the_others_go_on() {
        let (rounds, has) = sent(&[1, 6], &[]).await;
        assert_eq!(rounds, [vec![1, 2, 6, 7], vec![4]]);
        assert_eq!(has, [2, 4, 7]);
        let (rounds, has) = sent(&[3], &[]).await;
        assert_eq!(rounds, [vec![1, 2, 6, 7], vec![3, 4]]);
        assert_eq!(has, [1, 2, 4, 6, 7]);
    }

    #[actix_rt::test]
    async fn a_fact_that_is_refused_for_good_holds_up_nothing() {
        let (rounds, has) = sent(&[], &[1]).await;
        assert_eq!(rounds, [vec![1, 2, 6, 7], vec![3, 4], vec![5]]);
        assert_eq!(has, [2, 3, 4, 5, 6, 7]);
    }

    #[actix_rt::test]
    async fn a_chain_goes_on_however_long_those_before_it_in_the_page_are() {
        let target = Picky { unavailable: Vec::new(), refused: Vec::new(), calls: Mutex::default() };
        let orders = [Some("a"), Some("a"), Some("b"), Some("b")];
        let answers = send(&target, (1..).zip(orders).map(|(number, order)| fact(number, order)).collect()).await;
        assert_eq!((target.calls.into_inner(), answers.len()), (vec![vec![1, 3], vec![2, 4]], 4));
    }

    #[actix_rt::test]
    async fn pipelines_with_rules_of_one_name_do_not_wait_for_each_other() {
        let target = Picky { unavailable: Vec::new(), refused: Vec::new(), calls: Mutex::default() };
        let mut other = fact(2, Some("a"));
        other.entry.sink = "series".to_owned();
        send(&target, vec![fact(1, Some("a")), other]).await;
        assert_eq!(target.calls.into_inner(), [vec![1, 2]]);
    }
}
