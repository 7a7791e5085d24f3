//! The lifecycle of an actor or supervisor: states and transitions, as a pure function.
//!
//! ```text
//! Uninitialized -> Starting -> Running -> Stopping -> Stopped
//!                     |           |          ^
//!                     v           v          |
//!                StartFailed   Crashed -> Restarting
//!                     |           |          ^
//!                     v           v          |
//!                  Failed      Backoff ------+
//! ```
//! The table of [`State::successors`] also contains transitions that the drawing omits:
//! - a restart succeeds (`Restarting -> Running`) or fails (`Restarting -> StartFailed`);
//! - a failed start is retried like a crash (`StartFailed -> Backoff | Restarting`), and a crash
//!   that is not retried is final (`Crashed -> Failed`);
//! - every state that is not final can be ordered to stop (`-> Stopping`);
//! - an actor that stopped because of a sibling's failure, or a permanent one that stopped itself,
//!   is restarted (`Stopped -> Backoff | Restarting`).

use std::fmt;

use crate::actor::error::IllegalTransition;

/// Lifecycle state of an actor or supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Added to its supervisor, never started.
    Uninitialized,
    /// The first incarnation is starting.
    Starting,
    /// The factory or a start hook of an incarnation failed.
    StartFailed,
    /// The incarnation handles messages.
    Running,
    /// The incarnation failed; its supervisor has not decided yet.
    Crashed,
    /// A restart delay is running.
    Backoff,
    /// An incarnation after the first is starting.
    Restarting,
    /// The incarnation finishes its work before a stop.
    Stopping,
    /// Stopped on request. Restarted only if the request was part of a restart, or a permanent
    /// actor stopped itself.
    Stopped,
    /// Failed and will not be restarted.
    Failed,
}

impl State {
    /// All states.
    pub const ALL: [Self; 10] = [
        Self::Uninitialized,
        Self::Starting,
        Self::StartFailed,
        Self::Running,
        Self::Crashed,
        Self::Backoff,
        Self::Restarting,
        Self::Stopping,
        Self::Stopped,
        Self::Failed,
    ];

    /// States that may follow this one.
    pub const fn successors(self) -> &'static [Self] {
        match self {
            Self::Uninitialized => &[Self::Starting, Self::Stopping],
            Self::Starting => &[Self::Running, Self::StartFailed, Self::Stopping],
            Self::StartFailed => &[
                Self::Failed,
                Self::Backoff,
                Self::Restarting,
                Self::Stopping,
            ],
            Self::Running => &[Self::Crashed, Self::Stopping],
            Self::Crashed => &[
                Self::Backoff,
                Self::Restarting,
                Self::Failed,
                Self::Stopping,
            ],
            Self::Backoff => &[Self::Restarting, Self::Stopping],
            Self::Restarting => &[Self::Running, Self::StartFailed, Self::Stopping],
            Self::Stopping => &[Self::Stopped],
            Self::Stopped => &[Self::Backoff, Self::Restarting],
            Self::Failed => &[],
        }
    }

    /// True if `next` may follow this state.
    pub fn can_become(self, next: Self) -> bool {
        self.successors().contains(&next)
    }

    /// Name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uninitialized => "uninitialized",
            Self::Starting => "starting",
            Self::StartFailed => "start_failed",
            Self::Running => "running",
            Self::Crashed => "crashed",
            Self::Backoff => "backoff",
            Self::Restarting => "restarting",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// State machine of one actor. Starts uninitialized and allows legal transitions only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifecycle(State);

impl Default for Lifecycle {
    fn default() -> Self {
        Self(State::Uninitialized)
    }
}

impl Lifecycle {
    /// The current state.
    pub fn state(&self) -> State {
        self.0
    }

    /// Changes the state to `to`.
    ///
    /// # Errors
    /// [`IllegalTransition`] if `to` may not follow the current state, which is then unchanged.
    pub fn advance(&mut self, to: State) -> Result<(), IllegalTransition> {
        if !self.0.can_become(to) {
            return Err(IllegalTransition { from: self.0, to });
        }
        self.0 = to;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Lifecycle, State, State::*};

    #[test]
    fn the_table_is_the_drawing_and_its_four_additions() {
        let drawn = [
            (Uninitialized, Starting),
            (Starting, Running),
            (Starting, StartFailed),
            (StartFailed, Failed),
            (Running, Stopping),
            (Running, Crashed),
            (Crashed, Restarting),
            (Crashed, Backoff),
            (Backoff, Restarting),
            (Restarting, Stopping),
            (Stopping, Stopped),
        ];
        let added = [
            (Restarting, Running),
            (Restarting, StartFailed),
            (StartFailed, Backoff),
            (StartFailed, Restarting),
            (Crashed, Failed),
            (Uninitialized, Stopping),
            (Starting, Stopping),
            (StartFailed, Stopping),
            (Crashed, Stopping),
            (Backoff, Stopping),
            (Stopped, Backoff),
            (Stopped, Restarting),
        ];
        let wanted: BTreeSet<_> = drawn.into_iter().chain(added).collect();
        for from in State::ALL {
            for to in State::ALL {
                let legal = wanted.contains(&(from, to));
                assert_eq!(from.can_become(to), legal, "{from} -> {to}");
                let mut life = Lifecycle(from);
                assert_eq!(life.advance(to).is_ok(), legal, "{from} -> {to}");
                assert_eq!(life.state(), if legal { to } else { from });
            }
        }
    }

    #[test]
    fn every_state_can_be_reached_and_names_are_distinct() {
        let mut reached = BTreeSet::from([Uninitialized]);
        let mut open = vec![Uninitialized];
        while let Some(state) = open.pop() {
            open.extend(
                state
                    .successors()
                    .iter()
                    .filter(|next| reached.insert(**next)),
            );
        }
        assert_eq!(reached.len(), State::ALL.len());
        assert_eq!(
            State::ALL
                .map(State::as_str)
                .into_iter()
                .collect::<BTreeSet<_>>()
                .len(),
            State::ALL.len()
        );
    }
}
