//! Bounds on what one address takes of a listener, and on what the log says about it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Time between two log lines about connections that were ended.
const QUIET: Duration = Duration::from_secs(1);

/// Connections of one listener by the address that they come from.
#[derive(Debug, Clone)]
pub(crate) struct PerAddress {
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    max: usize,
}

/// A connection that counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    ip: IpAddr,
}

impl PerAddress {
    /// With at most `max` connections of each address.
    pub fn new(max: usize) -> Self {
        Self { open: Arc::default(), max }
    }

    /// Counts a connection; none if its address has as many as it may.
    pub fn admit(&self, ip: IpAddr) -> Option<Admitted> {
        let ip = ip.to_canonical();
        let mut open = self.open.lock();
        let count = open.get(&ip).copied().unwrap_or(0);
        if count >= self.max {
            return None;
        }
        open.insert(ip, count + 1);
        Some(Admitted { open: self.open.clone(), ip })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        if let Some(count) = open.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.ip);
            }
        }
    }
}

/// Keeps a client that tries again and again from filling the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Complaints(Arc<Mutex<Said>>);

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    unsaid: u64,
}

impl Complaints {
    /// How many were left unsaid since the last one, if one may be said.
    pub fn say(&self, now: Instant) -> Option<u64> {
        let mut said = self.0.lock();
        if said.last.is_some_and(|last| now.duration_since(last) < QUIET) {
            said.unsaid += 1;
            return None;
        }
        said.last = Some(now);
        Some(std::mem::take(&mut said.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_as_many_connections_as_it_may_and_gets_them_back() {
        let limit = PerAddress::new(2);
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = limit.admit(a).unwrap();
        let _second = limit.admit("::ffff:10.0.0.1".parse().unwrap()).unwrap();
        assert!(limit.admit(a).is_none());
        let other = limit.admit(b).unwrap();
        drop(first);
        drop(other);
        assert_eq!(limit.open.lock().len(), 1);
        assert!(limit.admit(a).is_some());
    }

    #[test]
    fn one_complaint_a_second_is_said_and_the_others_are_counted() {
        let complaints = Complaints::default();
        let start = Instant::now();
        assert_eq!(complaints.say(start), Some(0));
        assert_eq!(complaints.say(start), None);
        assert_eq!(complaints.say(start + QUIET / 2), None);
        assert_eq!(complaints.say(start + QUIET), Some(2));
        assert_eq!(complaints.say(start + QUIET * 2), Some(0));
    }
}
