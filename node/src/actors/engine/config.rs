//! Timeouts of the conversation with the execution client. They depend on each other, so one
//! constructor makes and checks them all.

use std::time::Duration;

/// Time spent per message on sending lost blocks again; the rest follows at later messages.
const REPLAY_BUDGET: Duration = Duration::from_millis(400);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineTimeouts {
    /// One call of the execution client, connecting included.
    pub call: Duration,
    /// Lost blocks sent again per message, without the last call.
    pub replay: Duration,
    /// One message of the EngineActor. A later answer counts as "not yet", and the chain asks
    /// again.
    pub message: Duration,
    /// One message as the supervisor sees it: the actor has hung.
    pub supervisor: Duration,
}

impl EngineTimeouts {
    /// `call` is the time after which an answer is too late for its slot.
    pub const fn new(call: Duration) -> EngineTimeouts {
        let margin = Duration::from_millis(100);
        let replay = REPLAY_BUDGET;
        let message = call.saturating_add(replay).saturating_add(margin);
        let supervisor = message.saturating_add(Duration::from_millis(500));
        let timeouts = EngineTimeouts {
            call,
            replay,
            message,
            supervisor,
        };
        timeouts.check();
        timeouts
    }

    /// A replay ends with a call that began within its budget, a message outlasts that, and the
    /// supervisor outlasts the message.
    const fn check(&self) {
        let replay_ms = self.replay.as_millis() + self.call.as_millis();
        assert!(replay_ms < self.message.as_millis());
        assert!(self.message.as_millis() < self.supervisor.as_millis());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_timeout_outlasts_what_it_contains() {
        let timeouts = EngineTimeouts::new(Duration::from_secs(2));
        assert!(timeouts.replay + timeouts.call < timeouts.message);
        assert!(timeouts.message < timeouts.supervisor);
        assert_eq!(timeouts.message, Duration::from_millis(2_500));
        assert_eq!(timeouts.supervisor, Duration::from_secs(3));
    }
}
