//! Testing under faults: a function that collects quotes from several actors, and the faults that
//! it must tolerate.

use std::{convert::Infallible, time::Duration};

use alys_actor_system::{
    Addr, AlysActor, AskError, ChildSpec, Context, Fault, Message, Planned, Reason, Reply,
    StartError, Strategy, System,
};
use alys_runtime::time;

use crate::{Outcome, TIMEOUT, ms, shut_down, tolerant};

/// Messages of a vendor.
pub enum VendorMessage {
    GetQuote { reply: Reply<u64> },
}

impl Message for VendorMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::GetQuote { .. } => "get_quote",
        }
    }
}

struct Vendor {
    quote: u64,
}

impl AlysActor for Vendor {
    type Message = VendorMessage;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Vendor";

    async fn handle(&mut self, msg: VendorMessage, _: &Context<Self>) -> Result<(), Infallible> {
        match msg {
            VendorMessage::GetQuote { reply } => {
                reply.send(self.quote);
            }
        }
        Ok(())
    }
}

/// The code under test: the lowest quote of the vendors that answer before the deadline.
pub async fn best_quote(
    vendors: &[Addr<VendorMessage>],
    deadline: Duration,
) -> (Option<u64>, Vec<AskError>) {
    let question = |reply| VendorMessage::GetQuote { reply };
    let asks = vendors.iter().map(|vendor| vendor.ask(question, deadline));
    let mut quotes = Vec::new();
    let mut errors = Vec::new();
    for answer in futures::future::join_all(asks).await {
        match answer {
            Ok(quote) => quotes.push(quote),
            Err(error) => errors.push(error),
        }
    }
    (quotes.into_iter().min(), errors)
}

const CHEAP: &str = "market/v/cheap";
const FAIR: &str = "market/v/fair";
const DEAR: &str = "market/v/dear";

/// Starts three vendors, with quotes of 10, 20 and 30.
fn start_market() -> Result<(System, Vec<Addr<VendorMessage>>), StartError> {
    let system = System::new("market");
    let supervisor = system.supervisor(tolerant("v", Strategy::OneForOne))?;
    let mut vendors = Vec::new();
    for (name, quote) in [("cheap", 10), ("fair", 20), ("dear", 30)] {
        let spec = ChildSpec::new(name).handle_timeout(Duration::from_secs(3600));
        let factory = move || async move { Ok::<_, Infallible>(Vendor { quote }) };
        vendors.push(supervisor.start(spec, 8, factory)?);
    }
    Ok((system, vendors))
}

/// Short, because two cases wait for it to the end, and long enough for the other vendors to answer
/// on a loaded machine.
const SHORT: Duration = ms(300);

/// A fault of the cheap vendor and its consequences.
struct Case {
    fault: Fault,
    error: AskError,
    restarts: u64,
    dead_letter: Option<Reason>,
}

/// Runs the story.
pub async fn run() -> Outcome {
    let kind = "get_quote";
    let deadline = SHORT;
    let dropped = AskError::Dropped { kind };
    let timeout = AskError::Timeout { kind, deadline };
    let killed = Some(Reason::Killed);
    let case = |fault, error: &AskError, restarts, dead_letter| Case {
        fault,
        error: error.clone(),
        restarts,
        dead_letter,
    };
    for case in [
        case(Fault::Panic, &dropped, 1, killed),
        case(Fault::Fail, &dropped, 1, killed),
        case(Fault::LoseReply, &dropped, 0, None),
        case(Fault::Drop, &dropped, 0, Some(Reason::Injected)),
        case(Fault::Slow(Duration::from_secs(60)), &timeout, 0, None),
        case(Fault::Hang, &timeout, 0, None),
    ] {
        one_fault(case).await?;
    }
    several_faults().await?;
    late_answer().await
}

/// The second-best quote is found in time, whatever the fault.
async fn one_fault(case: Case) -> Outcome {
    let fault = case.fault;
    let never_ends = matches!(fault, Fault::Hang | Fault::Slow(_));
    let deadline = if never_ends { SHORT } else { TIMEOUT };
    let (system, vendors) = start_market()?;
    let faults = system.faults();
    faults.watch(CHEAP);
    faults.plan(CHEAP, Planned::from(fault).at("get_quote"));
    let (quote, errors) = best_quote(&vendors, deadline).await;
    assert_eq!(quote, Some(20), "{fault:?}");
    assert_eq!(errors, [case.error], "{fault:?}");
    assert_eq!(faults.waiting(CHEAP), 0, "{fault:?} has happened");
    assert_eq!(faults.seen(CHEAP), ["get_quote"]);
    println!("{fault:?}: best quote 20, {errors:?}");
    if never_ends {
        let report = system.shutdown(SHORT).await;
        let cut_off: Vec<_> = report.abandoned.iter().map(|left| left.handling).collect();
        assert_eq!(cut_off, [Some("get_quote")], "{fault:?}");
        return Ok(());
    }
    // An asker may learn of a failure before its dead letter is written, so the next ask comes
    // before the counts.
    let (quote, _) = best_quote(&vendors, TIMEOUT).await;
    assert_eq!(quote, Some(10), "{fault:?}: the vendor has recovered");
    let tree = system.snapshot();
    let restarts = tree.find("v/cheap").map(|cheap| cheap.restarts);
    assert_eq!(restarts, Some(case.restarts), "{fault:?}");
    let dead_letters = system.dead_letters().last;
    let reasons: Vec<_> = dead_letters.iter().map(|letter| letter.reason).collect();
    assert_eq!(reasons, Vec::from_iter(case.dead_letter), "{fault:?}");
    shut_down(system).await
}

/// One vendor that answers is enough, and without any there is no quote.
async fn several_faults() -> Outcome {
    for (fault, faulty, expected) in [
        (Fault::Panic, &[CHEAP, FAIR][..], Some(30)),
        (Fault::LoseReply, &[CHEAP, FAIR, DEAR], None),
    ] {
        let (system, vendors) = start_market()?;
        for path in faulty {
            assert!(system.faults().plan(path, fault));
        }
        let (quote, errors) = best_quote(&vendors, TIMEOUT).await;
        assert_eq!(quote, expected);
        assert_eq!(errors.len(), faulty.len());
        println!(
            "{fault:?} in {} of three: best quote {quote:?}",
            faulty.len()
        );
        let (quote, _) = best_quote(&vendors, TIMEOUT).await;
        assert_eq!(quote, Some(10), "all have recovered");
        shut_down(system).await?;
    }
    Ok(())
}

/// A slow vendor is waited for. In the simulated world half an hour costs nothing, because the
/// clock jumps ahead.
async fn late_answer() -> Outcome {
    let delay = if alys_runtime::is_simulated() {
        Duration::from_secs(1800)
    } else {
        ms(18)
    };
    let (system, vendors) = start_market()?;
    system.faults().plan(CHEAP, Fault::Slow(delay));
    let started = time::now();
    let (quote, errors) = best_quote(&vendors, delay + TIMEOUT).await;
    assert_eq!(quote, Some(10));
    assert_eq!(errors, []);
    assert!(time::now() - started >= delay);
    println!("an answer after {delay:?} is waited for");
    shut_down(system).await
}
