//! Memory of requests and answers in progress, over all connections of a server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::interceptor;

/// Bytes of one request or answer that count as nothing, so that ordinary calls are served while
/// others fill the budget. The number of connections bounds their sum.
pub(super) const FREE_BYTES: usize = 16 << 10;

/// The state of a budget, for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// Bytes of the whole budget.
    pub limit: usize,
    /// Bytes that are not in use.
    pub left: usize,
    /// Requests and answers in progress, with those that need no bytes of the budget.
    pub charges: usize,
}

/// The remaining bytes of a server.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<Account>);

#[derive(Debug)]
struct Account {
    limit: usize,
    left: AtomicUsize,
    charges: AtomicUsize,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Account {
            limit: bytes,
            left: AtomicUsize::new(bytes),
            charges: AtomicUsize::new(0),
        }))
    }

    pub(super) fn pending(&self) -> Pending {
        Pending {
            limit: self.0.limit,
            left: self.0.left.load(Ordering::SeqCst),
            charges: self.0.charges.load(Ordering::SeqCst),
        }
    }

    /// A charge of nothing, which can grow.
    pub(super) fn charge(&self) -> Charge {
        self.0.charges.fetch_add(1, Ordering::SeqCst);
        Charge {
            budget: self.clone(),
            asked: 0,
            taken: 0,
        }
    }

    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.pending().left
    }
}

/// Bytes in use, which are returned when it is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    budget: Budget,
    asked: usize,
    taken: usize,
}

impl Charge {
    /// Adds bytes. False when the budget has too little left.
    #[must_use]
    pub(super) fn add(&mut self, bytes: usize) -> bool {
        self.asked = self.asked.saturating_add(bytes);
        let due = self.asked.saturating_sub(FREE_BYTES);
        let more = due.saturating_sub(self.taken);
        let taken = self
            .budget
            .0
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(more)
            });
        if taken.is_ok() || interceptor::notes_refused_charge() {
            self.taken = due;
        }
        taken.is_ok()
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let account = &self.budget.0;
        account.left.fetch_add(self.taken, Ordering::SeqCst);
        account.charges.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Bytes that return their charge when the last reference to them is dropped, which is after they
/// were written.
pub(super) fn charged(bytes: Vec<u8>, charge: Charge) -> Bytes {
    struct Owner {
        bytes: Vec<u8>,
        _charge: Charge,
    }
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    Bytes::from_owner(Owner {
        bytes,
        _charge: charge,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_are_free_at_first_bounded_and_returned() {
        let budget = Budget::new(1_000);
        let mut first = budget.charge();
        assert!(first.add(FREE_BYTES));
        assert_eq!(budget.left(), 1_000);
        assert!(first.add(600));
        assert_eq!(budget.left(), 400);
        let mut second = budget.charge();
        assert!(!second.add(FREE_BYTES + 401));
        assert_eq!(budget.left(), 400);
        let bytes = charged(vec![1, 2, 3], first);
        let part = bytes.slice(1..);
        drop(bytes);
        assert_eq!(budget.left(), 400, "a part is still referenced");
        drop(part);
        assert_eq!(budget.left(), 1_000);
        assert_eq!(budget.pending().charges, 1, "the refused one lives");
        drop(second);
        let rested = Pending {
            limit: 1_000,
            left: 1_000,
            charges: 0,
        };
        assert_eq!(budget.pending(), rested);
    }
}
