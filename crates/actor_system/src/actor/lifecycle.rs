//! The states of an actor or supervisor and the steps between them, as a pure function.
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
//! The drawing leaves out what follows from its words, and the table below adds it:
//! - a restart arrives (`Restarting -> Running`) or fails (`Restarting -> StartFailed`);
//! - a failed start is retried like a crash (`StartFailed -> Backoff | Restarting`), and a crash
//!   that is not retried ends (`Crashed -> Failed`);
//! - every state that is not an end can be told to stop (`-> Stopping`);
//! - what was stopped because of a sibling, or ended itself and must run, comes back (`Stopped ->
//!   Backoff | Restarting`).

use std::fmt;

use crate::actor::error::IllegalTransition;

/// State in the life of an actor or supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Known to its supervisor, never started.
    Uninitialized,
    /// The first incarnation is being made.
    Starting,
    /// An incarnation could not be made.
    StartFailed,
    /// Handles messages.
    Running,
    /// The incarnation ended with a failure; its supervisor has not decided yet.
    Crashed,
    /// Waits before a restart.
    Backoff,
    /// A later incarnation is being made.
    Restarting,
    /// Finishes its work on request.
    Stopping,
    /// Ended on request. Comes back only if the request was part of a restart.
    Stopped,
    /// Ended with a failure and will not come back.
    Failed,
}

impl State {
    /// All states, in the order of the drawing.
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

    /// The states that may follow this one.
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

    /// The name as it is written in logs and metrics.
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

/// The state of one actor. Begins uninitialized and takes legal steps only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifecycle(State);

impl Default for Lifecycle {
    fn default() -> Self {
        Self(State::Uninitialized)
    }
}

impl Lifecycle {
    /// The state now.
    pub fn state(&self) -> State {
        self.0
    }

    /// Takes a step.
    ///
    /// # Errors
    /// The state is unchanged if the step is not a legal one.
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
