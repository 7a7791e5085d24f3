//! Messages of strangers that wait for their turn, and their share of the actor's time. Pure.
//!
//! Strangers are peers that are neither configured nor authorities. They can be as many as the
//! network admits, and each may send forgeries at its full rate. Their messages wait here, one is
//! processed at a time, and after each the actor leaves three times as long to other messages.
//!
//! Proofs of an authority's key come first, because their result decides whether the peer is a
//! stranger and keeps its place. The wait for one is at most [`MAX_PROOFS`] checks with their
//! pauses, and the message in hand: 2 s with checks of 2 ms, of the ten seconds within which a peer
//! has to prove its key (`alys_net::Timing::handshake_timeout`).

use std::collections::VecDeque;
use std::time::Duration;

/// Messages of strangers that wait: more than their common budget of one second, because an older
/// message is no longer useful.
pub const MAX_QUEUED: usize = 512;
/// Bytes of those messages: four of the largest blocks.
pub const MAX_QUEUED_BYTES: usize = 32 * 1024 * 1024;
/// Proofs that wait, in addition: those of the two bursts of statuses that the network admits of
/// all strangers, in requests and in answers (`alys_net::Protocol::strangers_rate`). 16 of each a
/// second follow, and four times as many are checked, so an honest one finds room.
pub const MAX_PROOFS: usize = 256;
/// Time for other messages after one of a stranger, as a multiple of the time that it took.
const PAUSE_FACTOR: u32 = 3;

/// The queue. `T` is a message.
#[derive(Debug)]
pub struct Strangers<T> {
    queue: VecDeque<(T, usize)>,
    bytes: usize,
    proofs: VecDeque<T>,
    /// A turn is scheduled.
    is_scheduled: bool,
}

impl<T> Default for Strangers<T> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            proofs: VecDeque::new(),
            is_scheduled: false,
        }
    }
}

impl<T> Strangers<T> {
    /// Adds a message. True if a turn must be scheduled; the message itself when there is no room.
    pub fn push(&mut self, message: T, bytes: usize) -> Result<bool, T> {
        let has_room =
            self.queue.len() < MAX_QUEUED && self.bytes.saturating_add(bytes) <= MAX_QUEUED_BYTES;
        if !has_room {
            return Err(message);
        }
        self.bytes += bytes;
        self.queue.push_back((message, bytes));
        Ok(self.schedule())
    }

    /// As [`Self::push`], for a message with a proof of an authority's key.
    pub fn push_proof(&mut self, message: T) -> Result<bool, T> {
        if self.proofs.len() >= MAX_PROOFS {
            return Err(message);
        }
        self.proofs.push_back(message);
        Ok(self.schedule())
    }

    fn schedule(&mut self) -> bool {
        !std::mem::replace(&mut self.is_scheduled, true)
    }

    pub fn len(&self) -> usize {
        self.queue.len() + self.proofs.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the message whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        if let Some(proof) = self.proofs.pop_front() {
            return Some(proof);
        }
        let (message, bytes) = self.queue.pop_front()?;
        self.bytes -= bytes;
        Some(message)
    }

    /// The delay of the next turn, after one that took `spent`, or that had no message and ends the
    /// turns. One that empties the queue is followed by another, because the pause is also for
    /// messages that come during it.
    pub fn next_turn(&mut self, spent: Option<Duration>) -> Option<Duration> {
        self.is_scheduled = spent.is_some();
        spent.map(|spent| spent.saturating_mul(PAUSE_FACTOR))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_turn_is_scheduled_at_a_time_and_pauses_follow_the_work() {
        let ms = Duration::from_millis;
        let mut strangers = Strangers::default();
        assert_eq!(strangers.push(1, 10), Ok(true));
        assert_eq!(strangers.push(2, 10), Ok(false));
        assert_eq!(strangers.pop(), Some(1));
        assert_eq!(strangers.next_turn(Some(ms(2))), Some(ms(6)));
        assert_eq!(strangers.pop(), Some(2));
        // The pause holds although nothing waits yet.
        assert_eq!(strangers.next_turn(Some(ms(1))), Some(ms(3)));
        assert_eq!(strangers.push(3, 10), Ok(false));
        assert_eq!(strangers.pop(), Some(3));
        assert_eq!(strangers.next_turn(Some(ms(1))), Some(ms(3)));
        assert_eq!(strangers.pop(), None);
        assert_eq!(strangers.next_turn(None), None);
        assert_eq!(strangers.push(4, 10), Ok(true));
    }

    #[test]
    fn proofs_come_first_and_have_a_limit_of_their_own() {
        let mut strangers = Strangers::default();
        for n in 0..MAX_QUEUED {
            assert!(strangers.push(n, 1).is_ok());
        }
        for n in 1000..1000 + MAX_PROOFS {
            assert_eq!(strangers.push_proof(n), Ok(false));
        }
        assert_eq!(strangers.push_proof(7777), Err(7777));
        assert_eq!(strangers.len(), MAX_QUEUED + MAX_PROOFS);
        let order: Vec<usize> = std::iter::from_fn(|| strangers.pop()).collect();
        let expected = (1000..1000 + MAX_PROOFS).chain(0..MAX_QUEUED);
        assert!(order.into_iter().eq(expected));
        assert_eq!((strangers.len(), strangers.bytes()), (0, 0));
    }

    #[test]
    fn the_queue_is_bounded_in_messages_and_bytes() {
        let mut strangers = Strangers::default();
        for n in 0..MAX_QUEUED {
            assert!(strangers.push(n, 1).is_ok());
        }
        assert_eq!(strangers.push(7777, 1), Err(7777));
        let mut strangers = Strangers::default();
        assert!(strangers.push(1, MAX_QUEUED_BYTES).is_ok());
        assert_eq!(strangers.push(2, 1), Err(2));
        assert_eq!(strangers.push(3, 0), Ok(false));
        assert_eq!(strangers.pop(), Some(1));
        assert_eq!(strangers.push(4, 1), Ok(false));
    }
}
