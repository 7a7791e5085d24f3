//! The order in which connections give way when a server has no place left.
//!
//! A connection waits while its client has not sent a complete request, and while an answer is
//! being written. When a new connection finds no place, the one that has waited longest is closed:
//! silent and slow clients hold places only while no other client needs them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alys_runtime::sync::Notify;

#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// Waiting connections, the longest first.
    by_age: BTreeMap<u64, Arc<Notify>>,
    /// A new connection found none to close.
    is_wanted: bool,
}

impl Seats {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the connection that has waited longest, or else the next one that waits.
    pub(super) fn make_room(&self) {
        let mut waiting = self.lock();
        match waiting.by_age.pop_first() {
            Some((_, evicted)) => evicted.notify_one(),
            None => waiting.is_wanted = true,
        }
    }

    /// A place became free.
    pub(super) fn has_room(&self) {
        self.lock().is_wanted = false;
    }

    /// A seat of a new connection, which waits.
    pub(super) fn seat(self: &Arc<Self>) -> Seat {
        let seat = Seat {
            seats: self.clone(),
            evicted: Arc::default(),
            waits_as: Mutex::new(None),
        };
        seat.waits();
        seat
    }
}

/// The place of one connection.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    evicted: Arc<Notify>,
    waits_as: Mutex<Option<u64>>,
}

impl Seat {
    /// The connection waits for its client.
    pub(super) fn waits(&self) {
        self.works();
        let mut waiting = self.seats.lock();
        if waiting.is_wanted {
            waiting.is_wanted = false;
            self.evicted.notify_one();
            return;
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.by_age.insert(number, self.evicted.clone());
        drop(waiting);
        *self.number() = Some(number);
    }

    /// The server works on a request of the connection.
    pub(super) fn works(&self) {
        let number = self.number().take();
        if let Some(number) = number {
            self.seats.lock().by_age.remove(&number);
        }
    }

    /// Waits until the connection must give way.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    fn number(&self) -> MutexGuard<'_, Option<u64>> {
        self.waits_as.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.works();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    fn is_evicted(seat: &Seat) -> bool {
        seat.evicted().now_or_never().is_some()
    }

    #[test]
    fn the_longest_waiting_connection_gives_way_and_a_working_one_never() {
        let seats = Arc::new(Seats::default());
        let [first, second, third] = [seats.seat(), seats.seat(), seats.seat()];
        first.works();
        seats.make_room();
        assert_eq!(
            [&first, &second, &third].map(is_evicted),
            [false, true, false]
        );
        first.waits();
        seats.make_room();
        assert_eq!([&first, &third].map(is_evicted), [false, true]);
        seats.make_room();
        assert!(is_evicted(&first));
        assert!(seats.lock().by_age.is_empty());
    }

    #[test]
    fn the_next_to_wait_gives_way_when_all_work() {
        let seats = Arc::new(Seats::default());
        let seat = seats.seat();
        seat.works();
        seats.make_room();
        assert!(!is_evicted(&seat));
        seat.waits();
        assert!(is_evicted(&seat));
        seats.make_room();
        seats.has_room();
        let other = seats.seat();
        assert!(!is_evicted(&other));
    }
}
