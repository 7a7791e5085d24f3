//! Questions and answers: ask, deadline, retry, passing a question on, and what happens instead of a deadlock.

use std::convert::Infallible;

use alys_actor_system::{
    Addr, AlysActor, AskError, Backoff, ChildSpec, Context, Message, Reply, Retry, Strategy,
    System, mailbox,
};

use crate::{LONG, Outcome, end, ms, patient};

/// What the desk, where everybody comes first, understands.
pub enum DeskMessage {
    /// What one of these costs.
    GetPrice {
        item: &'static str,
        reply: Reply<u64>,
    },
    /// The same, but the desk itself asks the clerk and waits.
    GetPriceTheWrongWay {
        item: &'static str,
        reply: Reply<Result<u64, AskError>>,
    },
}

/// What the clerk, who knows the prices, understands.
pub enum ClerkMessage {
    /// What one of these costs.
    GetPrice {
        item: &'static str,
        reply: Reply<u64>,
    },
    /// Something that takes for ever.
    CountStock { reply: Reply<u64> },
    /// Asks the desk, which waits for the clerk.
    AskBack { reply: Reply<Result<u64, AskError>> },
}

impl Message for DeskMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::GetPrice { .. } => "get_price",
            Self::GetPriceTheWrongWay { .. } => "get_price_the_wrong_way",
        }
    }
}

impl Message for ClerkMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::GetPrice { .. } => "get_price",
            Self::CountStock { .. } => "count_stock",
            Self::AskBack { .. } => "ask_back",
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
            // The reply goes along: the clerk answers the asker, and the desk is free for the next one. If the
            // clerk does not take it the reply is dropped, and the asker knows.
            DeskMessage::GetPrice { item, reply } => {
                let _not_taken = self.clerk.forward(ClerkMessage::GetPrice { item, reply });
            }
            DeskMessage::GetPriceTheWrongWay { item: _, reply } => {
                let asked = self
                    .clerk
                    .ask(|reply| ClerkMessage::AskBack { reply }, LONG)
                    .await;
                reply.send(asked.and_then(|answer| answer));
            }
        }
        Ok(())
    }
}

struct Clerk {
    desk: Addr<DeskMessage>,
    /// Questions that nobody will answer.
    shelved: Vec<Reply<u64>>,
    asked: u32,
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
            // Not in the mood for pears, twice: a reply that is dropped is an answer too.
            ClerkMessage::GetPrice { item: _, reply } => {
                self.asked += 1;
                if self.asked > 2 {
                    reply.send(5);
                }
            }
            ClerkMessage::CountStock { reply } => self.shelved.push(reply),
            ClerkMessage::AskBack { reply } => {
                let question = |reply| DeskMessage::GetPrice {
                    item: "apple",
                    reply,
                };
                reply.send(self.desk.ask(question, LONG).await);
            }
        }
        Ok(())
    }
}

/// Tells the story.
pub async fn run() -> Outcome {
    let system = System::new("shop");
    let staff = system.supervisor(patient("staff", Strategy::OneForOne))?;
    // Two that know each other: the addresses first, the actors then.
    let (desk, desk_slot) = mailbox(16);
    let (clerk, clerk_slot) = mailbox(16);
    let (to_clerk, to_desk) = (clerk.clone(), desk.clone());
    staff.start(ChildSpec::new("desk"), desk_slot, move || {
        let clerk = to_clerk.clone();
        async move { Ok::<_, Infallible>(Desk { clerk }) }
    })?;
    staff.start(ChildSpec::new("clerk"), clerk_slot, move || {
        let desk = to_desk.clone();
        async move {
            Ok::<_, Infallible>(Clerk {
                desk,
                shelved: Vec::new(),
                asked: 0,
            })
        }
    })?;

    let price = desk
        .ask(
            |reply| DeskMessage::GetPrice {
                item: "apple",
                reply,
            },
            LONG,
        )
        .await?;
    assert_eq!(price, 3);
    println!(
        "an apple costs {price}: asked at the desk, which forwarded it, answered by the clerk"
    );

    let late = clerk
        .ask(|reply| ClerkMessage::CountStock { reply }, ms(20))
        .await;
    assert_eq!(
        late,
        Err(AskError::Timeout {
            kind: "count_stock",
            deadline: ms(20)
        })
    );
    println!("counting the stock: {}", outcome(&late));

    let dropped = desk
        .ask(
            |reply| DeskMessage::GetPrice {
                item: "pear",
                reply,
            },
            LONG,
        )
        .await;
    assert_eq!(dropped, Err(AskError::Dropped { kind: "get_price" }));
    println!("a pear, asked once: {}", outcome(&dropped));

    let retry = Retry {
        attempts: 5,
        each: LONG,
        backoff: Backoff {
            initial: ms(1),
            ..Backoff::NONE
        },
    };
    let price = desk
        .ask_retrying(
            |reply| DeskMessage::GetPrice {
                item: "pear",
                reply,
            },
            retry,
        )
        .await?;
    assert_eq!(price, 5);
    println!("a pear, asked until there is an answer: {price}");

    // Desk waits for clerk, clerk asks desk: neither would ever go on. It is an error at once, and says why.
    let question = |reply| DeskMessage::GetPriceTheWrongWay {
        item: "apple",
        reply,
    };
    let circle = desk.ask(question, LONG).await?;
    let Err(AskError::Cycle { cycle, .. }) = &circle else {
        return Err(format!("{circle:?}").into());
    };
    assert_eq!(
        &**cycle,
        "shop/staff/desk -[ask_back]-> shop/staff/clerk -[get_price]-> shop/staff/desk"
    );
    println!("a circle: {}", outcome(&circle));
    end(system).await
}

fn outcome(asked: &Result<u64, AskError>) -> String {
    match asked {
        Ok(answer) => answer.to_string(),
        Err(error) => error.to_string(),
    }
}
