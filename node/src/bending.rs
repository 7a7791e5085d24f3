//! What a simulation puts between a node and its network, so that an authority can misbehave while everything behind it is the
//! real node. In a production build [`Bending`] is empty, and what passes through it passes unchanged.

use alys_net::{Command, Event, Handle, SendError};

#[cfg(madsim)]
pub use simulated::Bend;

/// The layer between a node and its network.
#[derive(Clone, Default)]
pub struct Bending {
    #[cfg(madsim)]
    by: Option<std::sync::Arc<dyn Bend>>,
}

#[cfg(not(madsim))]
impl Bending {
    /// Hands a command to the network without waiting.
    #[inline]
    pub(crate) fn try_send(&self, network: &Handle, command: Command) -> Result<(), SendError> {
        network.try_send(command)
    }

    /// Hands a command to the network, waiting for room.
    #[inline]
    pub(crate) async fn send(&self, network: &Handle, command: Command) -> Result<(), SendError> {
        network.send(command).await
    }

    /// Hands an event to the node.
    #[inline]
    pub(crate) async fn arrive<F: Future<Output = bool>>(
        &self,
        event: Event,
        node: impl Fn(Event) -> F,
    ) -> bool {
        node(event).await
    }
}

#[cfg(madsim)]
mod simulated {
    use std::sync::Arc;
    use std::time::Duration;

    use alys_runtime::{spawn, time};

    use super::*;

    /// Who changes what a node says and hears.
    pub trait Bend: Send + Sync {
        /// What leaves instead of a command, each part after a while.
        fn leaving(&self, command: Command) -> Vec<(Duration, Command)>;
        /// What arrives instead of an event, each part after a while.
        fn arriving(&self, event: Event) -> Vec<(Duration, Event)>;
    }

    impl Bending {
        /// Everything that the node says and hears goes through `by`.
        pub fn by(by: Arc<dyn Bend>) -> Self {
            Self { by: Some(by) }
        }

        /// What leaves now; the rest leaves by itself.
        fn now(&self, network: &Handle, command: Command) -> Vec<Command> {
            let Some(by) = &self.by else {
                return vec![command];
            };
            let mut now = Vec::new();
            for (wait, command) in by.leaving(command) {
                if wait.is_zero() {
                    now.push(command);
                    continue;
                }
                let network = network.clone();
                spawn("bent", async move {
                    time::sleep(wait).await;
                    // A full queue loses it, as it loses any other command.
                    let _ = network.try_send(command);
                });
            }
            now
        }

        pub(crate) fn try_send(&self, network: &Handle, command: Command) -> Result<(), SendError> {
            self.now(network, command)
                .into_iter()
                .try_for_each(|command| network.try_send(command))
        }

        pub(crate) async fn send(
            &self,
            network: &Handle,
            command: Command,
        ) -> Result<(), SendError> {
            for command in self.now(network, command) {
                network.send(command).await?;
            }
            Ok(())
        }

        pub(crate) async fn arrive<F>(&self, event: Event, node: impl Fn(Event) -> F) -> bool
        where
            F: Future<Output = bool> + Send + 'static,
        {
            let Some(by) = &self.by else {
                return node(event).await;
            };
            for (wait, event) in by.arriving(event) {
                let arrives = node(event);
                if wait.is_zero() {
                    if !arrives.await {
                        return false;
                    }
                    continue;
                }
                spawn("late", async move {
                    time::sleep(wait).await;
                    // Without a node there is nobody to tell.
                    let _ = arrives.await;
                });
            }
            true
        }
    }
}
