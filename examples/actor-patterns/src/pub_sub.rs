//! One message for many: publishing by type, streams of events, groups; and a stream as a source of
//! messages.

use std::convert::Infallible;

use alys_actor_extras::{Bus, ContextExt, Group, Subscription, SystemExt};
use alys_actor_system::{
    Addr, AlysActor, AskError, ChildSpec, Context, Message, Reply, Strategy, Supervisor, System,
    TooManyTasks,
};
use futures::{StreamExt, stream};

use crate::{Outcome, StoryError, TIMEOUT, mailbox, shut_down, tolerant, wait_until};

/// An event: any type that can be cloned. Its publisher does not know its subscribers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainArrived {
    pub number: u64,
}

/// Messages of a board in the station.
pub enum BoardMessage {
    Shown(u64),
    /// No more trains follow.
    Closed,
    /// Asks for all lines.
    Read {
        reply: Reply<Vec<String>>,
    },
}

impl Message for BoardMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Shown(_) => "shown",
            Self::Closed => "closed",
            Self::Read { .. } => "read",
        }
    }
}

struct Board {
    bus: Bus,
    /// Trains that the board reads as a stream.
    timetable: Vec<u64>,
    lines: Vec<String>,
    /// Part of the state, so that it ends with the incarnation: a restarted board would otherwise
    /// be subscribed twice.
    subscription: Option<Subscription>,
}

impl AlysActor for Board {
    type Message = BoardMessage;
    type Error = TooManyTasks;
    type Config = ();
    const NAME: &'static str = "Board";

    async fn pre_start(&mut self, ctx: &Context<Self>) -> Result<(), TooManyTasks> {
        let convert = |event: &TrainArrived| BoardMessage::Shown(event.number);
        self.subscription = self.bus.subscribe(&ctx.address(), convert).ok();
        if !self.timetable.is_empty() {
            // Each item becomes a message. The stream waits for room in the mailbox.
            let trains = stream::iter(std::mem::take(&mut self.timetable));
            let shown = BoardMessage::Shown;
            ctx.attach_until_end("timetable", trains, shown, BoardMessage::Closed)?;
        }
        Ok(())
    }

    async fn handle(&mut self, msg: BoardMessage, _: &Context<Self>) -> Result<(), TooManyTasks> {
        match msg {
            BoardMessage::Shown(number) => self.lines.push(format!("train {number}")),
            BoardMessage::Closed => self.lines.push("no more trains".to_owned()),
            BoardMessage::Read { reply } => {
                reply.send(self.lines.clone());
            }
        }
        Ok(())
    }
}

fn start_board(
    supervisor: &Supervisor,
    name: &str,
    capacity: usize,
    bus: &Bus,
    timetable: &[u64],
) -> Result<Addr<BoardMessage>, StoryError> {
    let bus = bus.clone();
    let timetable = timetable.to_vec();
    let board = supervisor.start(ChildSpec::new(name), capacity, move || {
        let board = Board {
            bus: bus.clone(),
            timetable: timetable.clone(),
            lines: Vec::new(),
            subscription: None,
        };
        async { Ok::<_, Infallible>(board) }
    })?;
    Ok(board)
}

fn read(reply: Reply<Vec<String>>) -> BoardMessage {
    BoardMessage::Read { reply }
}

async fn read_all(boards: &Group<BoardMessage>) -> Result<Vec<Vec<String>>, AskError> {
    let answers = boards.ask_all(read, TIMEOUT).await;
    answers.into_iter().map(|(_, lines)| lines).collect()
}

/// Runs the story.
pub async fn run() -> Outcome {
    let system = System::new("station");
    let supervisor = system.supervisor(tolerant("s", Strategy::OneForOne))?;
    bus_and_group(&system, &supervisor).await?;
    source_of_messages(&system, &supervisor).await?;
    shut_down(system).await
}

async fn bus_and_group(system: &System, supervisor: &Supervisor) -> Outcome {
    // A stream reads the bus from anywhere. Too slow a reader loses the oldest events.
    let mut fast = system.bus().stream::<TrainArrived>(16)?;
    let mut slow = system.bus().stream::<TrainArrived>(2)?;
    let mut boards = Group::new();
    for name in ["north", "south"] {
        boards.join(name, start_board(supervisor, name, 16, &system.bus(), &[])?)?;
    }
    // A board that answers has been started, and has subscribed.
    assert_eq!(read_all(&boards).await?, [[""; 0]; 2]);

    for number in 1..=3 {
        let published = system.bus().publish(TrainArrived { number });
        assert_eq!(published.delivered, 4);
        assert_eq!(published.refused, 0);
    }
    let lines = read_all(&boards).await?;
    assert_eq!(lines, [["train 1", "train 2", "train 3"]; 2]);
    println!("three events, delivered to two streams and two boards: {lines:?}");
    assert_eq!(fast.next().await, Some(TrainArrived { number: 1 }));
    assert_eq!(slow.next().await, Some(TrainArrived { number: 2 }));
    assert_eq!(slow.lagged(), 1);
    println!("a stream with room for two begins with train 2, and reports one lost event");

    let told = boards.broadcast_with(|_| BoardMessage::Closed);
    assert!(told.iter().all(|(_, told)| told.is_ok()));
    for lines in read_all(&boards).await? {
        assert_eq!(lines.last().map(String::as_str), Some("no more trains"));
    }
    let members: Vec<_> = boards.members().map(|(name, _)| name).collect();
    println!("one broadcast reaches every member of the group: {members:?}");
    Ok(())
}

async fn source_of_messages(system: &System, supervisor: &Supervisor) -> Outcome {
    let board = start_board(supervisor, "timetable", 1, &Bus::new(), &[7, 8])?;
    wait_until(system, "end of the timetable", |tree| {
        mailbox(tree, "s/timetable").kinds.get("closed") == Some(&1)
    })
    .await?;
    let lines = board.ask(read, TIMEOUT).await?;
    assert_eq!(lines, ["train 7", "train 8", "no more trains"]);
    println!("a stream as the source of messages, through a mailbox of one: {lines:?}");
    Ok(())
}
