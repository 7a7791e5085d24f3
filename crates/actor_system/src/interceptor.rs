//! Planted bugs of this crate, under the names by which the simulator activates them.
//!
//! Outside of the simulator each of these is a constant `false`.

use alys_runtime::mutant::active;

/// A cycle of actors that ask each other is not detected.
pub(crate) fn ignores_cycles() -> bool {
    active("cycle-unseen")
}

/// An asker is not woken when its reply is dropped.
pub(crate) fn ignores_dropped_replies() -> bool {
    active("dropped-reply-unnoticed")
}

/// An `ask` has no deadline.
pub(crate) fn ignores_ask_deadlines() -> bool {
    active("ask-never-ends")
}

/// A full mailbox accepts a message and drops it.
pub(crate) fn drops_accepted_when_full() -> bool {
    active("full-drops-accepted")
}

/// A message overtakes the one queued before it.
pub(crate) fn overtakes() -> bool {
    active("mailbox-overtakes")
}

/// A restarted actor loses the next message of its queue.
pub(crate) fn restart_loses_a_message() -> bool {
    active("restart-loses-waiting")
}

/// A hung handler is not cancelled at its time limit.
pub(crate) fn ignores_hangs() -> bool {
    active("hang-unnoticed")
}

/// The mailbox keeps refusing messages after the circuit breaker has closed.
pub(crate) fn breaker_stays_open() -> bool {
    active("breaker-stays-open")
}

/// An opening circuit breaker does not wake the senders that wait for room.
pub(crate) fn breaker_forgets_senders() -> bool {
    active("breaker-forgets-senders")
}

/// The tasks of an incarnation outlive it.
pub(crate) fn tasks_outlive_their_incarnation() -> bool {
    active("dead-incarnation-lives")
}

/// The pending timers of an incarnation continue in the next one.
pub(crate) fn timers_outlive_their_incarnation() -> bool {
    active("timers-outlive-incarnation")
}

/// A supervisor gives up at the first failure.
pub(crate) fn gives_up_at_once() -> bool {
    active("gives-up-at-once")
}

/// A supervisor never gives up.
pub(crate) fn never_gives_up() -> bool {
    active("never-gives-up")
}

/// A supervisor that is restarted remembers the restarts of its last incarnation.
pub(crate) fn keeps_restart_log() -> bool {
    active("restart-log-kept")
}

/// A message of one priority ends the count of those that overtook the others.
pub(crate) fn forgets_overtaken() -> bool {
    active("overtaken-forgotten")
}
