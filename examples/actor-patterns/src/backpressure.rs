//! A mailbox is bounded. What happens to one message too many is the message's own to say.

use std::convert::Infallible;

use alys_actor_system::{
    Addr, AlysActor, ChildSpec, Context, Limits, Message, Overflow, Reason, Receipt, Reply,
    SendError, Slot, StartError, Strategy, Supervisor, System, TellError,
};

use crate::{Failed, Gate, Outcome, end, in_hand, ms, patient};

/// What the porter understands.
pub enum PorterMessage {
    /// Carry this.
    Parcel {
        n: u64,
        weight: usize,
        overflow: Overflow,
    },
    /// Do nothing until the gate opens.
    Wait(Gate),
    /// Say what you have carried, and forget it.
    Take { reply: Reply<Vec<u64>> },
}

impl Message for PorterMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Parcel { .. } => "parcel",
            Self::Wait(_) => "wait",
            Self::Take { .. } => "take",
        }
    }

    fn overflow(&self) -> Overflow {
        match self {
            Self::Parcel { overflow, .. } => *overflow,
            Self::Wait(_) | Self::Take { .. } => Overflow::Block,
        }
    }

    // Only for messages that coalesce: here two parcels become one with both their numbers.
    fn absorb(&mut self, newer: Self) {
        match (self, newer) {
            (Self::Parcel { n, .. }, Self::Parcel { n: more, .. }) => *n += more,
            (older, newer) => *older = newer,
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Parcel { weight, .. } => *weight,
            Self::Wait(_) | Self::Take { .. } => 0,
        }
    }
}

#[derive(Default)]
struct Porter {
    carried: Vec<u64>,
}

impl AlysActor for Porter {
    type Message = PorterMessage;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Porter";

    async fn handle(&mut self, msg: PorterMessage, _: &Context<Self>) -> Result<(), Infallible> {
        match msg {
            PorterMessage::Parcel { n, .. } => self.carried.push(n),
            PorterMessage::Wait(gate) => gate.pass().await,
            PorterMessage::Take { reply } => {
                reply.send(std::mem::take(&mut self.carried));
            }
        }
        Ok(())
    }
}

fn parcel(n: u64, overflow: Overflow) -> PorterMessage {
    PorterMessage::Parcel {
        n,
        weight: 1,
        overflow,
    }
}

fn porter(
    supervisor: &Supervisor,
    name: &str,
    slot: impl Into<Slot<PorterMessage>>,
) -> Result<Addr<PorterMessage>, StartError> {
    supervisor.start(ChildSpec::new(name), slot, || async {
        Ok::<_, Infallible>(Porter::default())
    })
}

/// Keeps a porter busy until the gate opens. Its mailbox is empty then, and takes what it has room for.
async fn keep_busy(
    system: &System,
    name: &str,
    addr: &Addr<PorterMessage>,
) -> Result<Gate, Failed> {
    let gate = Gate::closed();
    addr.send(PorterMessage::Wait(gate.clone())).await?;
    in_hand(system, &format!("s/{name}")).await?;
    Ok(gate)
}

async fn carried(addr: &Addr<PorterMessage>) -> Result<Vec<u64>, Failed> {
    // A question that finds no room is not queued: for a full mailbox, send and wait for the answer apart.
    let (reply, answer) = Reply::channel();
    addr.send(PorterMessage::Take { reply }).await?;
    Ok(answer.await?)
}

/// Tells the story.
pub async fn run() -> Outcome {
    policies().await?;
    waiting_in_line().await?;
    bytes().await
}

/// A mailbox for two, and three parcels: what becomes of the third, what was carried, and what it was.
async fn policies() -> Outcome {
    let backoff = Overflow::Backoff {
        initial: ms(1),
        max: ms(2),
        attempts: 3,
    };
    let full = || "given back: full".to_owned();
    let taken = |receipt: Receipt| format!("{receipt:?}");
    for (name, overflow, third, at_the_end) in [
        ("block", Overflow::Block, full(), vec![1, 2]),
        ("fail", Overflow::Fail, full(), vec![1, 2]),
        ("backoff", backoff, full(), vec![1, 2]),
        (
            "drop_oldest",
            Overflow::DropOldest,
            taken(Receipt::QueuedForOldest),
            vec![2, 3],
        ),
        (
            "drop_newest",
            Overflow::DropNewest,
            taken(Receipt::Dropped),
            vec![1, 2],
        ),
        (
            "coalesce",
            Overflow::Coalesce(7),
            taken(Receipt::Coalesced),
            vec![6],
        ),
    ] {
        let system = System::new("policies");
        let supervisor = system.supervisor(patient("s", Strategy::OneForOne))?;
        let addr = porter(&supervisor, name, 2)?;
        let gate = keep_busy(&system, name, &addr).await?;
        addr.tell(parcel(1, overflow))?;
        addr.tell(parcel(2, overflow))?;
        // `tell` never waits. `send` waits with the policies Block and Backoff only, see below.
        let told = match addr.tell(parcel(3, overflow)) {
            Ok(receipt) => taken(receipt),
            Err(TellError::Full(_)) => full(),
            Err(other) => other.to_string(),
        };
        assert_eq!(told, third, "{name}");
        if matches!(overflow, Overflow::Fail | Overflow::Backoff { .. }) {
            let sent = addr.send(parcel(4, overflow)).await;
            assert!(matches!(sent, Err(SendError::Full(_))), "{name}: {sent:?}");
        }
        gate.open();
        let carried = carried(&addr).await?;
        assert_eq!(carried, at_the_end, "{name}");
        let dead: Vec<Reason> = system
            .dead_letters()
            .last
            .iter()
            .map(|letter| letter.reason)
            .collect();
        let expected: &[Reason] = match overflow {
            Overflow::DropOldest => &[Reason::DroppedOldest],
            Overflow::DropNewest => &[Reason::DroppedNewest],
            _ => &[],
        };
        assert_eq!(dead, expected, "{name}");
        println!(
            "{name:<11}  third parcel: {told:<17}  carried: {carried:?}  dead letters: {dead:?}"
        );
        end(system).await?;
    }
    Ok(())
}

/// Senders that wait for room are let in in the order in which they came: the fast are slowed to the porter's
/// pace, and nothing is lost.
async fn waiting_in_line() -> Outcome {
    let system = System::new("line");
    let supervisor = system.supervisor(patient("s", Strategy::OneForOne))?;
    let addr = porter(&supervisor, "p", 1)?;
    let gate = keep_busy(&system, "p", &addr).await?;
    addr.tell(parcel(1, Overflow::Block))?;
    let open = async {
        println!("four senders wait for a mailbox of one");
        gate.open();
    };
    let send = |n| addr.send(parcel(n, Overflow::Block));
    let (a, b, c, d, ()) = futures::join!(send(2), send(3), send(4), send(5), open);
    for sent in [a, b, c, d] {
        assert_eq!(sent?, Receipt::Queued);
    }
    let carried = carried(&addr).await?;
    assert_eq!(carried, [1, 2, 3, 4, 5]);
    println!("carried in the order in which they came: {carried:?}");

    // A handler that does not end by itself: a shutdown cuts it off in time and says what it was.
    addr.send(PorterMessage::Wait(Gate::closed())).await?;
    let report = system.shutdown(ms(200)).await;
    let cut: Vec<_> = report.abandoned.iter().map(|left| left.handling).collect();
    assert_eq!(cut, [Some("wait")]);
    println!("cut off at the end: {cut:?}");
    Ok(())
}

/// A limit on bytes, as the messages say: two of 400 fit into 1,000, a third one does not.
async fn bytes() -> Outcome {
    let system = System::new("bytes");
    let supervisor = system.supervisor(patient("s", Strategy::OneForOne))?;
    let addr = porter(
        &supervisor,
        "p",
        Limits {
            messages: 100,
            bytes: Some(1000),
        },
    )?;
    let gate = keep_busy(&system, "p", &addr).await?;
    let heavy = |n, weight| PorterMessage::Parcel {
        n,
        weight,
        overflow: Overflow::Block,
    };
    let told =
        [(1, 400), (2, 400), (3, 400)].map(|(n, weight)| addr.tell(heavy(n, weight)).is_ok());
    assert_eq!(told, [true, true, false]);
    gate.open();
    assert_eq!(carried(&addr).await?, [1, 2]);
    // An empty mailbox takes one message however large it is: otherwise it could never be sent.
    let gate = keep_busy(&system, "p", &addr).await?;
    assert!(addr.tell(heavy(4, 5000)).is_ok());
    gate.open();
    assert_eq!(carried(&addr).await?, [4]);
    println!("bytes: two parcels of 400 in a mailbox of 1000, not three; one of 5000 alone");
    end(system).await
}
