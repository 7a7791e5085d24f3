//! Restarts keep the queue, the address and the configuration, and state where it is saved. The
//! message that failed is lost.

use std::convert::Infallible;

use alys_actor_system::{
    Addr, AlysActor, AskError, ChildSpec, ConfigHandle, Context, Failure, Kept, LookupError,
    Message, Reason, Reply, StartError, Strategy, Supervisor, System,
};

use crate::{Outcome, TIMEOUT, shut_down, tolerant};

/// Replaceable while the ledger runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Larger amounts are not booked.
    pub max_amount: u64,
}

/// Messages of a ledger.
#[derive(Debug)]
pub enum LedgerMessage {
    /// Books an amount, if it does not exceed the configured maximum.
    Book {
        amount: u64,
    },
    /// Fails.
    Corrupt,
    Read {
        reply: Reply<Page>,
    },
}

/// State of a ledger.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    booked: Vec<u64>,
    /// Messages that this incarnation has handled, not saved.
    handled: u64,
    /// Limits that this incarnation was notified of, not saved.
    limits: Vec<u64>,
    incarnation: u64,
}

impl Message for LedgerMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Book { .. } => "book",
            Self::Corrupt => "corrupt",
            Self::Read { .. } => "read",
        }
    }
}

/// The fault that ends an incarnation of a ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("a page is torn")]
    Torn,
}

struct Ledger {
    /// A copy of the saved value. Each save replaces the whole value, so a panic cannot leave half
    /// of a booking.
    booked: Vec<u64>,
    kept: Kept<Vec<u64>>,
    handled: u64,
    limits: Vec<u64>,
    last_failure: Kept<Option<String>>,
}

impl AlysActor for Ledger {
    type Message = LedgerMessage;
    type Error = LedgerError;
    type Config = Settings;
    const NAME: &'static str = "Ledger";

    async fn handle(&mut self, msg: LedgerMessage, ctx: &Context<Self>) -> Result<(), LedgerError> {
        self.handled += 1;
        match msg {
            LedgerMessage::Book { amount } => {
                if amount <= ctx.config().max_amount {
                    self.booked.push(amount);
                    self.kept.save(self.booked.clone());
                }
            }
            LedgerMessage::Corrupt => return Err(LedgerError::Torn),
            LedgerMessage::Read { reply } => {
                reply.send(Page {
                    booked: self.booked.clone(),
                    handled: self.handled,
                    limits: self.limits.clone(),
                    incarnation: ctx.incarnation(),
                });
            }
        }
        Ok(())
    }

    /// Only for work that a change requires: `ctx.config()` is always the newest.
    async fn reconfigured(&mut self, ctx: &Context<Self>) -> Result<(), LedgerError> {
        self.limits.push(ctx.config().max_amount);
        Ok(())
    }

    /// Runs in the incarnation that failed. After a panic its state may be half changed, so state
    /// that matters is saved as it changes, and this hook is for the rest.
    async fn pre_restart(&mut self, failure: &Failure, _: &Context<Self>) {
        self.last_failure.save(Some(failure.chain()));
    }
}

fn start_ledger(
    supervisor: &Supervisor,
    last_failure: Kept<Option<String>>,
) -> Result<(Addr<LedgerMessage>, ConfigHandle<Settings>), StartError> {
    let spec = ChildSpec::new("ledger");
    let settings = Settings { max_amount: 100 };
    let kept = Kept::new(Vec::new());
    supervisor.start_configured(spec, settings, 64, move || {
        let kept = kept.clone();
        let last_failure = last_failure.clone();
        async move {
            Ok::<_, Infallible>(Ledger {
                booked: kept.load(),
                kept,
                handled: 0,
                limits: Vec::new(),
                last_failure,
            })
        }
    })
}

fn book(ledger: &Addr<LedgerMessage>, amount: u64) -> Outcome {
    ledger.tell(LedgerMessage::Book { amount })?;
    Ok(())
}

async fn read(ledger: &Addr<LedgerMessage>) -> Result<Page, AskError> {
    ledger
        .ask(|reply| LedgerMessage::Read { reply }, TIMEOUT)
        .await
}

/// Runs the story.
pub async fn run() -> Outcome {
    let system = System::new("bank");
    let supervisor = system.supervisor(tolerant("s", Strategy::OneForOne))?;
    let last_failure = Kept::new(None);
    let (ledger, settings) = start_ledger(&supervisor, last_failure.clone())?;
    saved_state(&system, &ledger, &last_failure).await?;
    configuration(&system, &ledger, &settings).await?;
    shut_down(system).await
}

/// The next incarnation has the saved bookings and the rest of the queue, and counts from zero.
async fn saved_state(
    system: &System,
    ledger: &Addr<LedgerMessage>,
    last_failure: &Kept<Option<String>>,
) -> Outcome {
    book(ledger, 10)?;
    ledger.tell(LedgerMessage::Corrupt)?;
    book(ledger, 20)?;
    let page = read(ledger).await?;
    let expected = Page {
        booked: vec![10, 20],
        handled: 2,
        limits: vec![],
        incarnation: 2,
    };
    assert_eq!(page, expected);
    println!("after a restart: {page:?}");
    let failure = last_failure.load().unwrap_or_default();
    assert_eq!(failure, "error while handling corrupt: a page is torn");
    assert_eq!(system.dead_letters().of(Reason::Killed), 1);
    println!("saved before the restart: {failure}; the message is a dead letter");
    Ok(())
}

/// A replaced configuration takes effect before the next message, and survives restarts.
async fn configuration(
    system: &System,
    ledger: &Addr<LedgerMessage>,
    settings: &ConfigHandle<Settings>,
) -> Outcome {
    book(ledger, 200)?;
    let page = read(ledger).await?;
    assert_eq!(page.booked, [10, 20]);
    println!("limit {}: 200 is not booked", settings.get().max_amount);

    settings.replace(Settings { max_amount: 1000 });
    book(ledger, 200)?;
    let page = read(ledger).await?;
    assert_eq!(page.booked, [10, 20, 200]);
    assert_eq!(page.limits, [1000]);
    println!("limit {}: 200 is booked", settings.get().max_amount);

    ledger.tell(LedgerMessage::Corrupt)?;
    book(ledger, 300)?;
    let page = read(ledger).await?;
    assert_eq!(page.booked, [10, 20, 200, 300]);
    assert!(page.limits.is_empty(), "{page:?}");
    println!("after a restart with the same limit: 300 is booked");

    // A handle is also found by path and type.
    let found: ConfigHandle<Settings> = system.config("s/ledger")?;
    found.replace(Settings { max_amount: 0 });
    book(ledger, 60)?;
    assert_eq!(read(ledger).await?.booked, page.booked);
    let wrong: Result<ConfigHandle<u8>, LookupError> = system.config("s/ledger");
    let path = "bank/s/ledger".to_owned();
    assert_eq!(wrong.err(), Some(LookupError::OtherConfig { path }));
    println!("replaced by path: limit {}", found.get().max_amount);
    Ok(())
}
