//! The end of a partition's log as its reading client sees it.
//!
//! The last offsets of a log need not hold a record: control records end transactions, and aborted records are given to
//! no reader of committed ones (KIP-98). So the position of a partition that is read to its end may be below the end.

use std::sync::atomic::{AtomicI64, Ordering};

/// Written by the client's thread, read by everyone.
#[derive(Debug)]
pub struct EndOfLog {
    read_to: AtomicI64,
    in_transactions: AtomicI64,
}

impl Default for EndOfLog {
    fn default() -> Self {
        Self { read_to: AtomicI64::new(-1), in_transactions: AtomicI64::new(0) }
    }
}

impl EndOfLog {
    /// Notes what the client says; −1 stands for what it does not know.
    ///
    /// `read_to` is the offset at which it last found nothing more, `stable` the last stable offset, and `high` the
    /// offset that the next record will get.
    pub fn told(&self, read_to: i64, stable: i64, high: i64) {
        self.read_to.store(read_to, Ordering::Release);
        let hidden = if stable < 0 { 0 } else { (high - stable).max(0) };
        self.in_transactions.store(hidden, Ordering::Relaxed);
    }

    /// The client had given every record below when it last was at the end; −1 before that.
    pub fn read_to(&self) -> i64 {
        self.read_to.load(Ordering::Acquire)
    }

    /// Offsets of open transactions and of whatever follows them: no reader of committed records can get them yet.
    pub fn in_transactions(&self) -> i64 {
        self.in_transactions.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_from_the_last_stable_one_to_the_end_are_in_transactions_where_the_client_knows_it() {
        let end = EndOfLog::default();
        assert_eq!((end.read_to(), end.in_transactions()), (-1, 0), "nothing is known yet");
        for (stable, high, hidden) in [(5, 8, 3), (8, 8, 0), (9, 8, 0), (0, 8, 8), (-1, 8, 0)] {
            end.told(4, stable, high);
            assert_eq!((end.read_to(), end.in_transactions()), (4, hidden), "{stable} of {high}");
        }
    }
}
