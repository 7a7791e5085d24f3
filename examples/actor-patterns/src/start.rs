//! A counter that survives its own mistakes.

use alys_actor_system::{
    Addr, AlysActor, ChildSpec, Context, Kept, Message, Reply, StartError, Supervisor,
};

/// What the counter understands: one enum an actor.
pub enum CounterMessage {
    /// Something was counted.
    Added(u64),
    /// Somebody asks; the answer goes into `reply`.
    GetTotal { reply: Reply<u64> },
}

impl Message for CounterMessage {
    // The name of the variant, for figures and traces. The only thing that a message has to say of itself.
    fn kind(&self) -> &'static str {
        match self {
            Self::Added(_) => "added",
            Self::GetTotal { .. } => "get_total",
        }
    }
}

/// A fault of ours, which ends this incarnation of the counter.
#[derive(Debug, thiserror::Error)]
pub enum CounterError {
    #[error("the total does not fit")]
    Overflow,
}

/// Its state belongs to it alone: no lock, one message at a time.
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

/// Starts a counter with room for 64 messages. The closure is the factory: it runs at the first start and at
/// every restart, so what is to outlive an incarnation, `kept`, is what the factory holds.
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
            counter.tell(CounterMessage::Added(u64::MAX)).unwrap(); // The counter fails over this one,
            counter.tell(CounterMessage::Added(3)).unwrap(); // and its next incarnation goes on with this one.
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
