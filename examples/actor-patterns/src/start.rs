//! A counter that keeps its total over failures.

use alys_actor_system::{
    Addr, AlysActor, ChildSpec, Context, Kept, Message, Reply, StartError, Supervisor,
};

/// The messages of the counter, one enum an actor.
pub enum CounterMessage {
    Added(u64),
    /// Asks for the total. The answer goes into `reply`.
    GetTotal {
        reply: Reply<u64>,
    },
}

impl Message for CounterMessage {
    // The variant's name in metrics and traces; the other methods of the trait have defaults.
    fn kind(&self) -> &'static str {
        match self {
            Self::Added(_) => "added",
            Self::GetTotal { .. } => "get_total",
        }
    }
}

/// A fault of ours, which ends the incarnation of the counter.
#[derive(Debug, thiserror::Error)]
pub enum CounterError {
    #[error("the total does not fit")]
    Overflow,
}

/// Handles one message at a time, so its state needs no lock.
pub struct Counter {
    total: u64,
    kept: Kept<u64>,
}

impl AlysActor for Counter {
    type Message = CounterMessage;
    type Error = CounterError;
    type Config = ();
    const NAME: &'static str = "Counter";

    async fn handle(&mut self, msg: CounterMessage, _: &Context<Self>) -> Result<(), CounterError> {
        match msg {
            CounterMessage::Added(n) => {
                self.total = self.total.checked_add(n).ok_or(CounterError::Overflow)?;
                self.kept.save(self.total);
            }
            CounterMessage::GetTotal { reply } => {
                reply.send(self.total);
            }
        }
        Ok(())
    }
}

/// Starts a counter with room for 64 messages. The closure is the factory: it runs at the first
/// start and at every restart, so state that outlives an incarnation, `kept`, belongs to it.
pub fn start_counter(supervisor: &Supervisor) -> Result<Addr<CounterMessage>, StartError> {
    let kept = Kept::new(0);
    supervisor.start(ChildSpec::new("counter"), 64, move || {
        let kept = kept.clone();
        async move {
            Ok::<_, CounterError>(Counter {
                total: kept.load(),
                kept,
            })
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use alys_actor_system::{Reason, Strategy, SupervisorSpec, System};

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[test]
    fn the_total_survives_a_failure() {
        alys_runtime::block_on_main(async {
            let system = System::new("test");
            let spec = SupervisorSpec::new("counters", Strategy::OneForOne);
            let counter = start_counter(&system.supervisor(spec).unwrap()).unwrap();

            counter.tell(CounterMessage::Added(2)).unwrap();
            // The counter fails over the first message, and its next incarnation handles the
            // second.
            counter.tell(CounterMessage::Added(u64::MAX)).unwrap();
            counter.tell(CounterMessage::Added(3)).unwrap();
            let total = counter
                .ask(|reply| CounterMessage::GetTotal { reply }, SOON)
                .await;
            assert_eq!(total, Ok(5));

            let tree = system.snapshot();
            let seen = tree.find("counters/counter").unwrap();
            assert_eq!(seen.restarts, 1);
            assert_eq!(
                seen.last_error.as_deref(),
                Some("error while handling added: the total does not fit")
            );
            assert_eq!(system.dead_letters().of(Reason::Killed), 1);
            assert!(system.shutdown(SOON).await.is_clean());
        });
    }
}
