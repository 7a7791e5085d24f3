//! What survives a restart: the queue and the address always, state only where it says so, and the message that
//! killed the actor only if it says that it may come back.

use std::convert::Infallible;

use alys_actor_system::{
    Addr, AlysActor, ChildSpec, Context, Failure, Kept, MAX_REDELIVERIES, Message, Reason, Reply,
    StartError, Strategy, Supervisor, System,
};

use crate::{LONG, Outcome, end, patient};

/// What a ledger understands.
#[derive(Debug)]
pub enum LedgerMessage {
    /// Book this amount. May come back if the ledger fails over it: booking is counted once, at its end.
    Book { amount: u64, fail_at_attempts: u8 },
    /// Fail, and do not come back.
    Corrupt,
    /// What is booked, what was scribbled beside it, and in which incarnation?
    Read { reply: Reply<(Vec<u64>, u64, u64)> },
}

impl Message for LedgerMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Book { .. } => "book",
            Self::Corrupt => "corrupt",
            Self::Read { .. } => "read",
        }
    }

    fn again(&self) -> Option<Self> {
        match *self {
            Self::Book {
                amount,
                fail_at_attempts,
            } => Some(Self::Book {
                amount,
                fail_at_attempts,
            }),
            Self::Corrupt | Self::Read { .. } => None,
        }
    }
}

/// What goes wrong in a ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// As it was told.
    #[error("the ink ran out")]
    NoInk,
    /// As it was told.
    #[error("a page is torn")]
    Torn,
}

struct Ledger {
    /// A copy of what is kept, whole at every save: a panic cannot leave half of a booking.
    booked: Vec<u64>,
    kept: Kept<Vec<u64>>,
    /// Not kept: begins at zero in each incarnation.
    scribbles: u64,
    last_words: Kept<Option<String>>,
}

impl AlysActor for Ledger {
    type Message = LedgerMessage;
    type Error = LedgerError;
    type Config = ();
    const NAME: &'static str = "Ledger";

    async fn handle(&mut self, msg: LedgerMessage, ctx: &Context<Self>) -> Result<(), LedgerError> {
        self.scribbles += 1;
        match msg {
            LedgerMessage::Book {
                amount,
                fail_at_attempts,
            } => {
                let attempt = ctx.envelope().map_or(0, |envelope| envelope.attempt);
                if attempt < fail_at_attempts {
                    return Err(LedgerError::NoInk);
                }
                self.booked.push(amount);
                self.kept.save(self.booked.clone());
            }
            LedgerMessage::Corrupt => return Err(LedgerError::Torn),
            LedgerMessage::Read { reply } => {
                reply.send((self.booked.clone(), self.scribbles, ctx.incarnation()));
            }
        }
        Ok(())
    }

    /// The last word of an incarnation that failed while it ran. After a panic its state may be half changed, so
    /// what matters is saved as it happens, and this is for the rest.
    async fn pre_restart(&mut self, failure: &Failure, ctx: &Context<Self>) {
        self.last_words.save(Some(format!(
            "{} of incarnation {}",
            failure.chain(),
            ctx.incarnation()
        )));
    }
}

fn ledger(
    supervisor: &Supervisor,
    last_words: Kept<Option<String>>,
) -> Result<Addr<LedgerMessage>, StartError> {
    let kept = Kept::new(Vec::new());
    supervisor.start(ChildSpec::new("ledger"), 64, move || {
        let (kept, last_words) = (kept.clone(), last_words.clone());
        async move {
            Ok::<_, Infallible>(Ledger {
                booked: kept.load(),
                kept,
                scribbles: 0,
                last_words,
            })
        }
    })
}

/// Tells the story.
pub async fn run() -> Outcome {
    let system = System::new("bank");
    let supervisor = system.supervisor(patient("s", Strategy::OneForOne))?;
    let last_words = Kept::new(None);
    let addr = ledger(&supervisor, last_words.clone())?;
    let book = |amount, fail_at_attempts| {
        addr.tell(LedgerMessage::Book {
            amount,
            fail_at_attempts,
        })
    };
    let read = || addr.ask(|reply| LedgerMessage::Read { reply }, LONG);

    book(10, 0)?;
    addr.tell(LedgerMessage::Corrupt)?;
    book(20, 0)?;
    let (booked, scribbles, life) = read().await?;
    assert_eq!((&booked[..], scribbles, life), (&[10, 20][..], 2, 2));
    println!("incarnation {life}: booked {booked:?} is kept, scribbles began anew: {scribbles}");
    let words = last_words.load().unwrap_or_default();
    assert_eq!(
        words,
        "error while handling corrupt: a page is torn of incarnation 1"
    );
    println!("its last words: {words}");
    assert_eq!(system.dead_letters().of(Reason::Killed), 1);
    println!("`corrupt` killed it and did not come back: it is a dead letter");

    // Fails over the first two incarnations that take it, then it is booked: once.
    book(30, 2)?;
    book(40, 0)?;
    let (booked, _, life) = read().await?;
    assert_eq!((&booked[..], life), (&[10, 20, 30, 40][..], 4));
    println!("incarnation {life}: 30 came back twice, ahead of what waited: {booked:?}");

    // One that always fails costs so many incarnations and no more.
    book(50, u8::MAX)?;
    let (booked, _, after) = read().await?;
    assert_eq!(
        (booked.len(), after - life),
        (4, u64::from(MAX_REDELIVERIES) + 1)
    );
    assert_eq!(system.dead_letters().of(Reason::Poison), 1);
    println!(
        "50 failed in {} incarnations: a dead letter, {}",
        after - life,
        Reason::Poison.as_str()
    );
    end(system).await
}
