//! Asks: deadline, retry, forwarding, and the error in place of a deadlock.

use std::convert::Infallible;

use alys_actor_system::{
    Addr, AlysActor, AskError, Backoff, ChildSpec, Context, Message, Reply, Retry, StartError,
    Strategy, System, mailbox,
};

use crate::{Outcome, TIMEOUT, ms, shut_down, tolerant};

/// Messages of the desk, the clerk's front.
pub enum DeskMessage {
    /// Asks for a price. The desk forwards the question.
    GetPrice {
        item: &'static str,
        reply: Reply<u64>,
    },
    /// The same, but the desk itself asks the clerk, and handles nothing until the clerk answers.
    GetPriceBlocking { reply: Reply<Result<u64, AskError>> },
}

/// Messages of the clerk, the owner of the prices.
pub enum ClerkMessage {
    GetPrice {
        item: &'static str,
        reply: Reply<u64>,
    },
    /// Is never answered.
    CountStock { reply: Reply<u64> },
    /// Makes the clerk ask the desk.
    AskDesk { reply: Reply<Result<u64, AskError>> },
}

impl Message for DeskMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::GetPrice { .. } => "get_price",
            Self::GetPriceBlocking { .. } => "get_price_blocking",
        }
    }
}

impl Message for ClerkMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::GetPrice { .. } => "get_price",
            Self::CountStock { .. } => "count_stock",
            Self::AskDesk { .. } => "ask_desk",
        }
    }
}

struct Desk {
    clerk: Addr<ClerkMessage>,
}

impl AlysActor for Desk {
    type Message = DeskMessage;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Desk";

    async fn handle(&mut self, msg: DeskMessage, _: &Context<Self>) -> Result<(), Infallible> {
        match msg {
            // The clerk answers the asker directly, and the desk handles the next message. If the
            // clerk refuses the message, the reply is dropped with it, and the asker is notified.
            DeskMessage::GetPrice { item, reply } => {
                let _refused = self.clerk.forward(ClerkMessage::GetPrice { item, reply });
            }
            DeskMessage::GetPriceBlocking { reply } => {
                let question = |reply| ClerkMessage::AskDesk { reply };
                let answer = self.clerk.ask(question, TIMEOUT).await;
                reply.send(answer.and_then(|answer| answer));
            }
        }
        Ok(())
    }
}

struct Clerk {
    desk: Addr<DeskMessage>,
    /// Replies that are kept and never used.
    unanswered: Vec<Reply<u64>>,
    pears_asked: u32,
}

impl AlysActor for Clerk {
    type Message = ClerkMessage;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Clerk";

    async fn handle(&mut self, msg: ClerkMessage, _: &Context<Self>) -> Result<(), Infallible> {
        match msg {
            ClerkMessage::GetPrice {
                item: "apple",
                reply,
            } => {
                reply.send(3);
            }
            // Two questions are not answered: their replies are dropped.
            ClerkMessage::GetPrice { item: _, reply } => {
                self.pears_asked += 1;
                if self.pears_asked > 2 {
                    reply.send(5);
                }
            }
            ClerkMessage::CountStock { reply } => self.unanswered.push(reply),
            ClerkMessage::AskDesk { reply } => {
                reply.send(self.desk.ask(price_of("apple"), TIMEOUT).await);
            }
        }
        Ok(())
    }
}

fn price_of(item: &'static str) -> impl Fn(Reply<u64>) -> DeskMessage {
    move |reply| DeskMessage::GetPrice { item, reply }
}

/// Starts two actors that hold each other's address: the mailboxes come before the actors.
fn start_shop(system: &System) -> Result<(Addr<DeskMessage>, Addr<ClerkMessage>), StartError> {
    let staff = system.supervisor(tolerant("staff", Strategy::OneForOne))?;
    let (desk, desk_slot) = mailbox(16);
    let (clerk, clerk_slot) = mailbox(16);
    let desk_of_clerk = desk.clone();
    let clerk_of_desk = clerk.clone();
    staff.start(ChildSpec::new("desk"), desk_slot, move || {
        let clerk = clerk_of_desk.clone();
        async move { Ok::<_, Infallible>(Desk { clerk }) }
    })?;
    staff.start(ChildSpec::new("clerk"), clerk_slot, move || {
        let desk = desk_of_clerk.clone();
        async move {
            Ok::<_, Infallible>(Clerk {
                desk,
                unanswered: Vec::new(),
                pears_asked: 0,
            })
        }
    })?;
    Ok((desk, clerk))
}

/// Runs the story.
pub async fn run() -> Outcome {
    let system = System::new("shop");
    let (desk, clerk) = start_shop(&system)?;

    let price = desk.ask(price_of("apple"), TIMEOUT).await?;
    assert_eq!(price, 3);
    println!("an apple costs {price}: asked at the desk, answered by the clerk");

    let question = |reply| ClerkMessage::CountStock { reply };
    let late = clerk.ask(question, ms(20)).await;
    let kind = "count_stock";
    let deadline = ms(20);
    assert_eq!(late, Err(AskError::Timeout { kind, deadline }));
    println!("no answer in time: {}", text(&late));

    let dropped = desk.ask(price_of("pear"), TIMEOUT).await;
    assert_eq!(dropped, Err(AskError::Dropped { kind: "get_price" }));
    println!("a pear, asked once: {}", text(&dropped));

    let retry = Retry {
        attempts: 5,
        each: TIMEOUT,
        backoff: Backoff {
            initial: ms(1),
            ..Backoff::NONE
        },
    };
    let price = desk.ask_retrying(price_of("pear"), retry).await?;
    assert_eq!(price, 5);
    println!("a pear, asked until there is an answer: {price}");

    // The desk waits for the clerk, and the clerk asks the desk: an error at once, not a deadlock.
    let question = |reply| DeskMessage::GetPriceBlocking { reply };
    let cyclic = desk.ask(question, TIMEOUT).await?;
    let Err(AskError::Cycle { cycle, .. }) = &cyclic else {
        return Err(format!("{cyclic:?}").into());
    };
    assert_eq!(
        &**cycle,
        "shop/staff/desk -[ask_desk]-> shop/staff/clerk -[get_price]-> shop/staff/desk"
    );
    println!("a cycle: {}", text(&cyclic));
    shut_down(system).await
}

fn text(asked: &Result<u64, AskError>) -> String {
    match asked {
        Ok(answer) => answer.to_string(),
        Err(error) => error.to_string(),
    }
}
