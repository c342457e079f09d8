//! Whom a quota is for, and what it allows.

use serde::{Deserialize, Serialize};

/// The user of clients that do not authenticate, as in Kafka.
pub(super) const ANONYMOUS: &str = "ANONYMOUS";

/// Which way records go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    Produce,
    Fetch,
}

/// One name, or all those without a quota of their own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum QuotaName {
    Default,
    Named(String),
}

/// Whom a quota is for; at least one of both is given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct QuotaEntity {
    pub user: Option<QuotaName>,
    pub client_id: Option<QuotaName>,
}

/// Bytes per second, each more than 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct QuotaLimits {
    pub produce: Option<f64>,
    pub fetch: Option<f64>,
}

// Rates come from requests that were checked: none of them is NaN.
impl Eq for QuotaLimits {}

impl QuotaLimits {
    pub fn rate(&self, direction: Direction) -> Option<f64> {
        match direction {
            Direction::Produce => self.produce,
            Direction::Fetch => self.fetch,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.produce.is_none() && self.fetch.is_none()
    }
}

/// The entities that a client belongs to, the most particular first (KIP-55).
pub(super) fn candidates(user: &str, client_id: &str) -> impl Iterator<Item = QuotaEntity> {
    let named = |name: &str| Some(QuotaName::Named(name.to_owned()));
    let (user, client) = (named(user), named(client_id));
    let any = Some(QuotaName::Default);
    let order = [
        (user.clone(), client.clone()),
        (user.clone(), any.clone()),
        (user, None),
        (any.clone(), client.clone()),
        (any.clone(), any.clone()),
        (any.clone(), None),
        (None, client),
        (None, any),
    ];
    order.into_iter().map(|(user, client_id)| QuotaEntity { user, client_id })
}
