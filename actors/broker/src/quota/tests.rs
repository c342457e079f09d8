//! Which quota holds, and what it costs.

use super::*;
use crate::meta::{Change, Durability};

struct Fixture {
    quotas: Quotas,
    _dir: tempfile::TempDir,
}

fn fixture(defaults: ClientRates) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let meta = MetaStore::open(&dir.path().join("metadata.log")).unwrap();
    Fixture { quotas: Quotas::new(defaults, Arc::new(Mutex::new(meta))), _dir: dir }
}

fn named(name: &str) -> Option<QuotaName> {
    Some(match name {
        "*" => QuotaName::Default,
        name => QuotaName::Named(name.to_owned()),
    })
}

impl Fixture {
    fn set(&self, user: Option<QuotaName>, client_id: Option<QuotaName>, produce: f64) {
        let limits = QuotaLimits { produce: Some(produce), fetch: None };
        let change = Change::Quota { entity: QuotaEntity { user, client_id }, limits };
        self.quotas.meta.lock().commit(change, Durability::Cached).unwrap();
        self.quotas.changed();
    }

    fn rate(&self, user: &str, client_id: &str) -> Option<f64> {
        self.quotas.limit(Direction::Produce, Some(user), client_id).map(|limit| limit.per_second)
    }
}

#[test]
fn the_most_particular_quota_holds() {
    let f = fixture(ClientRates { produce: Some(1), fetch: None });
    assert_eq!(f.rate("u", "c"), Some(1.0));
    let order = [
        (None, named("*")),
        (None, named("c")),
        (named("*"), None),
        (named("*"), named("*")),
        (named("*"), named("c")),
        (named("u"), None),
        (named("u"), named("*")),
        (named("u"), named("c")),
    ];
    for (rate, (user, client_id)) in (2_u32..).zip(order) {
        f.set(user, client_id, f64::from(rate));
        assert_eq!(f.rate("u", "c"), Some(f64::from(rate)));
    }
    assert_eq!(f.rate("other", "other"), Some(5.0));
    assert!(f.quotas.limit(Direction::Fetch, Some("u"), "c").is_none());
}

#[test]
fn clients_of_one_user_share_its_rate_and_others_do_not() {
    let f = fixture(ClientRates { produce: Some(1_000), fetch: None });
    let throttle = Throttle::new(Metered::Yes);
    let charge =
        |user, client_id| throttle.charge(&f.quotas, Sender { user: Some(user), client_id }, Direction::Produce, 1_000);
    assert_eq!(charge("ann", "a"), 0, "a second's worth is free");
    assert!(charge("ann", "b") > 900);
    assert_eq!(charge("bob", "a"), 0);
    assert!(throttle.take_pause().unwrap() > Duration::from_millis(900));
    assert_eq!(throttle.take_pause(), None);
}

#[test]
fn own_clients_and_brokers_without_quotas_are_not_throttled() {
    let (own, free) = (fixture(ClientRates { produce: Some(1), fetch: None }), fixture(ClientRates::default()));
    for (f, metered) in [(own, Metered::No), (free, Metered::Yes)] {
        let sender = Sender { user: None, client_id: "c" };
        assert_eq!(Throttle::new(metered).charge(&f.quotas, sender, Direction::Produce, 1 << 30), 0);
    }
}

#[test]
fn a_bucket_lets_exactly_its_rate_through_in_the_long_run() {
    let bucket = Bucket::default();
    let start = Instant::now();
    let (mut now, mut sent) = (start, 0);
    while now < start + Duration::from_secs(100) {
        sent += 700;
        now += bucket.charge(700, 1_000.0, now);
    }
    let allowed = 1_000 * 101;
    assert!((allowed..=allowed + 700).contains(&sent), "{sent}");
}

#[test]
fn names_that_clients_make_up_take_bounded_memory() {
    let f = fixture(ClientRates { produce: Some(1), fetch: None });
    for client in 0..MAX_BUCKETS + 10 {
        f.quotas.limit(Direction::Produce, None, &client.to_string()).unwrap().bucket.charge(9, 1.0, Instant::now());
    }
    assert!(f.quotas.buckets.lock().len() <= MAX_BUCKETS);
}
