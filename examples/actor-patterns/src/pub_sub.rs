//! Publish and subscribe by type, streams of events, a stream as a source of messages, and one message to a group.

use std::{convert::Infallible, sync::Arc};

use alys_actor_system::{
    AlysActor, Bus, ChildSpec, Context, Group, Message, Reply, Strategy, Subscription, System,
};
use futures::{StreamExt, stream};

use crate::{LONG, Outcome, end, patient};

/// What is published: any type that can be cloned. Who publishes does not know who listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainArrived {
    /// Its number.
    pub number: u64,
}

/// What a board in the station understands.
pub enum BoardMessage {
    /// A train is there.
    Shown(u64),
    /// No more trains today.
    Closed,
    /// What was shown?
    Read { reply: Reply<Vec<String>> },
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
    lines: Vec<String>,
    /// A timetable that this board reads, at its own pace.
    timetable: Vec<u64>,
    /// Kept in the state, so that it ends with the incarnation: otherwise a restarted board would be subscribed
    /// twice.
    subscription: Option<Subscription>,
}

impl AlysActor for Board {
    type Message = BoardMessage;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Board";

    async fn pre_start(&mut self, ctx: &Context<Self>) -> Result<(), Infallible> {
        let convert = |event: &TrainArrived| BoardMessage::Shown(event.number);
        self.subscription = self.bus.subscribe(&ctx.address(), convert).ok();
        if !self.timetable.is_empty() {
            // Each item becomes a message; the stream waits for room in the mailbox.
            let trains = stream::iter(std::mem::take(&mut self.timetable));
            let attached = ctx.attach_until_end(
                "timetable",
                trains,
                BoardMessage::Shown,
                BoardMessage::Closed,
            );
            assert!(
                attached.is_ok(),
                "an incarnation that has just begun has no tasks"
            );
        }
        Ok(())
    }

    async fn handle(&mut self, msg: BoardMessage, _: &Context<Self>) -> Result<(), Infallible> {
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

/// Tells the story.
pub async fn run() -> Outcome {
    let system = System::new("station");
    let supervisor = system.supervisor(patient("s", Strategy::OneForOne))?;
    // Anybody may read the bus as a stream. One who reads too slowly loses the oldest, and is told how many.
    let mut quick = system.bus().stream::<TrainArrived>(16)?;
    let mut slow = system.bus().stream::<TrainArrived>(2)?;
    let mut boards = Group::new();
    for name in ["north", "south"] {
        let bus = system.bus().clone();
        let addr = supervisor.start(ChildSpec::new(name), 16, move || {
            let bus = bus.clone();
            async move {
                Ok::<_, Infallible>(Board {
                    bus,
                    lines: vec![],
                    timetable: vec![],
                    subscription: None,
                })
            }
        })?;
        boards.join(name, addr)?;
    }
    // An answer means that the board has been started, and so that it listens.
    let empty = boards
        .ask_all(|reply| BoardMessage::Read { reply }, LONG)
        .await;
    assert!(
        empty
            .iter()
            .all(|(_, lines)| lines.as_ref().is_ok_and(Vec::is_empty))
    );

    for number in 1..=3 {
        let published = system.bus().publish(TrainArrived { number });
        assert_eq!((published.delivered, published.refused), (4, 0));
    }
    println!("three trains, each published once, each delivered to two boards and two streams");
    for (name, lines) in boards
        .ask_all(|reply| BoardMessage::Read { reply }, LONG)
        .await
    {
        let lines = lines?;
        assert_eq!(lines, ["train 1", "train 2", "train 3"]);
        println!("board {name}: {lines:?}");
    }
    assert_eq!(quick.next().await, Some(TrainArrived { number: 1 }));
    assert_eq!(
        (slow.next().await, slow.lagged()),
        (Some(TrainArrived { number: 2 }), 1)
    );
    println!(
        "a stream with room for two, read late: begins with train 2 and knows that it missed {}",
        slow.lagged()
    );

    let told = boards.broadcast_with(|_| BoardMessage::Closed);
    assert!(told.iter().all(|(_, told)| told.is_ok()));
    let all = boards
        .ask_all(|reply| BoardMessage::Read { reply }, LONG)
        .await;
    assert!(
        all.iter()
            .all(|(_, lines)| lines.as_ref().is_ok_and(|lines| lines.len() == 4))
    );
    println!(
        "one broadcast reaches every member of a group: {:?}",
        boards.members().map(|m| m.0).collect::<Vec<_>>()
    );

    let table = Arc::new(vec![7, 8]);
    let bus = Bus::new();
    let addr = supervisor.start(ChildSpec::new("timetable"), 1, move || {
        let (bus, timetable) = (bus.clone(), table.to_vec());
        async move {
            Ok::<_, Infallible>(Board {
                bus,
                lines: vec![],
                timetable,
                subscription: None,
            })
        }
    })?;
    crate::until(&system, "the end of the timetable", |tree| {
        crate::mailbox(tree, "s/timetable").kinds.get("closed") == Some(&1)
    })
    .await?;
    let lines = addr.ask(|reply| BoardMessage::Read { reply }, LONG).await?;
    assert_eq!(lines, ["train 7", "train 8", "no more trains"]);
    println!("a stream as the source of messages, through a mailbox of one: {lines:?}");
    end(system).await
}
