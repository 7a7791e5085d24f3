//! Mailboxes are bounded: overflow policies, waiting senders, limits on bytes, priorities, batches.
//!
//! Policy and priority belong to the message, not to the mailbox: the sender of a variant cannot
//! forget them.

use std::convert::Infallible;

use alys_actor_system::{
    Addr, AlysActor, Batch, ChildSpec, Context, Limits, MAX_OVERTAKES, Message, Overflow, Priority,
    Reason, Receipt, Reply, SendError, Slot, StartError, Strategy, System, TellError,
};

use crate::{Gate, Outcome, StoryError, ms, shut_down, tolerant, wait_until_drained};

/// Messages of a porter.
pub enum PorterMessage {
    Parcel(Parcel),
    /// Blocks the porter until the gate opens.
    Wait(Gate),
    /// Asks for everything carried since the last report. Comes after all parcels.
    Report {
        reply: Reply<Report>,
    },
}

/// A message with everything that a message can say about itself.
#[derive(Clone, Copy)]
pub struct Parcel {
    n: u64,
    /// In bytes.
    weight: usize,
    priority: Priority,
    overflow: Overflow,
}

impl Parcel {
    const fn new(n: u64) -> Self {
        Self {
            n,
            weight: 1,
            priority: Priority::Normal,
            overflow: Overflow::Block,
        }
    }
}

/// The work of a porter, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    parcels: Vec<u64>,
    /// Parcels of each trip.
    trips: Vec<usize>,
}

impl Message for PorterMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Parcel(_) => "parcel",
            Self::Wait(_) => "wait",
            Self::Report { .. } => "report",
        }
    }

    fn overflow(&self) -> Overflow {
        match self {
            Self::Parcel(parcel) => parcel.overflow,
            Self::Wait(_) | Self::Report { .. } => Overflow::Block,
        }
    }

    fn priority(&self) -> Priority {
        match self {
            Self::Parcel(parcel) => parcel.priority,
            Self::Wait(_) => Priority::Normal,
            Self::Report { .. } => Priority::Low,
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Parcel(parcel) => parcel.weight,
            Self::Wait(_) | Self::Report { .. } => 0,
        }
    }
}

#[derive(Default)]
struct Porter {
    report: Report,
}

impl AlysActor for Porter {
    type Message = PorterMessage;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Porter";
    /// Parcels of one trip, as the writes of one disk sync would be.
    const BATCH: usize = 8;

    async fn handle(&mut self, msg: PorterMessage, _: &Context<Self>) -> Result<(), Infallible> {
        match msg {
            PorterMessage::Parcel(parcel) => {
                self.report.parcels.push(parcel.n);
                self.report.trips.push(1);
            }
            PorterMessage::Wait(gate) => gate.pass().await,
            PorterMessage::Report { reply } => {
                reply.send(std::mem::take(&mut self.report));
            }
        }
        Ok(())
    }

    async fn handle_batch(
        &mut self,
        batch: &mut Batch<PorterMessage>,
        ctx: &Context<Self>,
    ) -> Result<(), Infallible> {
        let mut load = 0;
        while let Some(msg) = batch.take() {
            match msg {
                PorterMessage::Parcel(parcel) => {
                    self.report.parcels.push(parcel.n);
                    load += 1;
                }
                // A message behind the parcels of this batch sees their trip completed.
                other @ (PorterMessage::Wait(_) | PorterMessage::Report { .. }) => {
                    self.complete_trip(&mut load);
                    self.handle(other, ctx).await?;
                }
            }
        }
        self.complete_trip(&mut load);
        Ok(())
    }
}

impl Porter {
    fn complete_trip(&mut self, load: &mut usize) {
        if *load > 0 {
            self.report.trips.push(std::mem::take(load));
        }
    }
}

/// A system with one porter behind a mailbox of the given limits.
fn start_porter(
    limits: impl Into<Slot<PorterMessage>>,
) -> Result<(System, Addr<PorterMessage>), StartError> {
    let system = System::new("station");
    let supervisor = system.supervisor(tolerant("s", Strategy::OneForOne))?;
    let porter = supervisor.start(ChildSpec::new("porter"), limits, || async {
        Ok::<_, Infallible>(Porter::default())
    })?;
    Ok((system, porter))
}

/// Keeps the porter busy until the returned gate opens. Its mailbox is empty then.
async fn keep_busy(system: &System, porter: &Addr<PorterMessage>) -> Result<Gate, StoryError> {
    let gate = Gate::closed();
    porter.send(PorterMessage::Wait(gate.clone())).await?;
    wait_until_drained(system, "s/porter").await?;
    Ok(gate)
}

async fn report(porter: &Addr<PorterMessage>) -> Result<Report, StoryError> {
    // An ask that finds no room is not queued, so the message waits for room and the answer after
    // it.
    let (reply, answer) = Reply::channel();
    porter.send(PorterMessage::Report { reply }).await?;
    Ok(answer.await?)
}

/// Runs the story.
pub async fn run() -> Outcome {
    overflow_policies().await?;
    waiting_senders().await?;
    bytes().await?;
    priorities().await?;
    batches().await
}

/// Sends three parcels to a mailbox for two, under each policy.
async fn overflow_policies() -> Outcome {
    let backoff = Overflow::Backoff {
        initial: ms(1),
        max: ms(2),
        attempts: 3,
    };
    let full = || "given back: full".to_owned();
    let taken = |receipt: Receipt| format!("{receipt:?}");
    let oldest = taken(Receipt::QueuedForOldest);
    for (overflow, third, parcels, dead_letter) in [
        (Overflow::Block, full(), vec![1, 2], None),
        (Overflow::Fail, full(), vec![1, 2], None),
        (backoff, full(), vec![1, 2], None),
        (
            Overflow::DropOldest,
            oldest,
            vec![2, 3],
            Some(Reason::DroppedOldest),
        ),
        (
            Overflow::DropNewest,
            taken(Receipt::Dropped),
            vec![1, 2],
            Some(Reason::DroppedNewest),
        ),
    ] {
        let (system, porter) = start_porter(2)?;
        let gate = keep_busy(&system, &porter).await?;
        let parcel = |n| {
            PorterMessage::Parcel(Parcel {
                overflow,
                ..Parcel::new(n)
            })
        };
        porter.tell(parcel(1))?;
        porter.tell(parcel(2))?;
        // `tell` never waits. `send` waits under the policies Block and Backoff only.
        let told = match porter.tell(parcel(3)) {
            Ok(receipt) => taken(receipt),
            Err(TellError::Full(_)) => full(),
            Err(other) => other.to_string(),
        };
        assert_eq!(told, third, "{overflow:?}");
        if matches!(overflow, Overflow::Fail | Overflow::Backoff { .. }) {
            let sent = porter.send(parcel(4)).await;
            assert!(
                matches!(sent, Err(SendError::Full(_))),
                "{overflow:?}: {sent:?}"
            );
        }
        gate.open();
        let carried = report(&porter).await?.parcels;
        assert_eq!(carried, parcels, "{overflow:?}");
        let dead_letters = system.dead_letters().last;
        let reasons: Vec<_> = dead_letters.iter().map(|letter| letter.reason).collect();
        assert_eq!(reasons, Vec::from_iter(dead_letter), "{overflow:?}");
        println!("{overflow:?}: third parcel {told}, carried {carried:?}, dead letter {reasons:?}");
        shut_down(system).await?;
    }
    Ok(())
}

/// Senders that wait for room enter first come, first served: fast senders slow down to the
/// porter's speed, and no message is lost.
async fn waiting_senders() -> Outcome {
    let (system, porter) = start_porter(1)?;
    let gate = keep_busy(&system, &porter).await?;
    let parcel = |n| PorterMessage::Parcel(Parcel::new(n));
    porter.tell(parcel(1))?;
    let open = async { gate.open() };
    let send = |n| porter.send(parcel(n));
    let (second, third, fourth, ()) = futures::join!(send(2), send(3), send(4), open);
    for sent in [second, third, fourth] {
        assert_eq!(sent?, Receipt::Queued);
    }
    let carried = report(&porter).await?.parcels;
    assert_eq!(carried, [1, 2, 3, 4]);
    println!("three senders waited for a mailbox of one: carried {carried:?}");
    shut_down(system).await
}

/// Two parcels of 400 bytes fit into a limit of 1,000, a third one does not.
async fn bytes() -> Outcome {
    let (system, porter) = start_porter(Limits {
        messages: 100,
        bytes: Some(1000),
    })?;
    let parcel = |n, weight| {
        PorterMessage::Parcel(Parcel {
            weight,
            ..Parcel::new(n)
        })
    };
    let gate = keep_busy(&system, &porter).await?;
    let fits = [1, 2, 3].map(|n| porter.tell(parcel(n, 400)).is_ok());
    assert_eq!(fits, [true, true, false]);
    gate.open();
    assert_eq!(report(&porter).await?.parcels, [1, 2]);
    // An empty mailbox takes one message of any size, because it could never be sent otherwise.
    let gate = keep_busy(&system, &porter).await?;
    assert!(porter.tell(parcel(4, 5000)).is_ok());
    gate.open();
    assert_eq!(report(&porter).await?.parcels, [4]);
    println!("bytes: two parcels of 400 fit into 1,000, three do not, one of 5,000 alone does");
    shut_down(system).await
}

/// An urgent message overtakes the others, and no priority starves.
async fn priorities() -> Outcome {
    let (system, porter) = start_porter(64)?;
    let tell = |n, priority| {
        porter.tell(PorterMessage::Parcel(Parcel {
            priority,
            ..Parcel::new(n)
        }))
    };
    let gate = keep_busy(&system, &porter).await?;
    tell(1, Priority::Low)?;
    tell(2, Priority::Normal)?;
    tell(3, Priority::High)?;
    tell(4, Priority::Normal)?;
    tell(5, Priority::Critical)?;
    gate.open();
    let carried = report(&porter).await?.parcels;
    assert_eq!(carried, [5, 3, 2, 4, 1]);
    println!("by priority, then in order of arrival: {carried:?}");

    let gate = keep_busy(&system, &porter).await?;
    tell(0, Priority::Low)?;
    for n in 1..=40 {
        tell(n, Priority::High)?;
    }
    gate.open();
    let carried = report(&porter).await?.parcels;
    let overtaken_by = carried.iter().take_while(|n| **n != 0).count();
    assert!(overtaken_by <= MAX_OVERTAKES as usize + 1, "{overtaken_by}");
    println!("one of low priority among forty of high priority: overtaken by {overtaken_by}");
    shut_down(system).await
}

/// Waiting messages of normal priority are handled together.
async fn batches() -> Outcome {
    let (system, porter) = start_porter(64)?;
    let gate = keep_busy(&system, &porter).await?;
    // Fewer than `MAX_OVERTAKES`, so that the report has no turn before the last of them.
    for n in 0..12 {
        porter.tell(PorterMessage::Parcel(Parcel::new(n)))?;
    }
    gate.open();
    let trips = report(&porter).await?.trips;
    assert_eq!(trips, [8, 4]);
    println!("twelve waiting parcels in batches of eight: trips of {trips:?}");
    shut_down(system).await
}
