//! Testing under faults: a gatherer of quotes that promises an answer whatever happens to those whom it asks,
//! and the faults that put it to the test.

use std::{convert::Infallible, time::Duration};

use alys_actor_system::{
    Addr, AlysActor, AskError, ChildSpec, Context, Fault, Message, Planned, Reason, Reply,
    Strategy, System,
};
use alys_runtime::time;

use crate::{LONG, Outcome, end, ms, patient};

/// What a vendor understands.
pub enum VendorMessage {
    /// What do you ask for it?
    GetQuote { reply: Reply<u64> },
}

impl Message for VendorMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::GetQuote { .. } => "get_quote",
        }
    }
}

struct Vendor(u64);

impl AlysActor for Vendor {
    type Message = VendorMessage;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Vendor";

    async fn handle(&mut self, msg: VendorMessage, _: &Context<Self>) -> Result<(), Infallible> {
        let VendorMessage::GetQuote { reply } = msg;
        reply.send(self.0);
        Ok(())
    }
}

/// The best quote of those who answer in time: what is under test here.
pub async fn best_quote(
    vendors: &[Addr<VendorMessage>],
    deadline: Duration,
) -> (Option<u64>, Vec<AskError>) {
    let asks = vendors
        .iter()
        .map(|vendor| vendor.ask(|reply| VendorMessage::GetQuote { reply }, deadline));
    let (mut best, mut errors) = (None, Vec::new());
    for answer in futures::future::join_all(asks).await {
        match answer {
            Ok(quote) => best = Some(best.map_or(quote, |best: u64| best.min(quote))),
            Err(error) => errors.push(error),
        }
    }
    (best, errors)
}

/// Three vendors who ask for 10, 20 and 30.
fn market() -> Result<(System, Vec<Addr<VendorMessage>>), crate::Failed> {
    let system = System::new("market");
    let supervisor = system.supervisor(patient("v", Strategy::OneForOne))?;
    let mut vendors = Vec::new();
    for (name, quote) in [("cheap", 10), ("fair", 20), ("dear", 30)] {
        let spec = ChildSpec::new(name).handle_within(Duration::from_secs(3600));
        vendors.push(supervisor.start(spec, 8, move || async move {
            Ok::<_, Infallible>(Vendor(quote))
        })?);
    }
    Ok((system, vendors))
}

/// Tells the story.
pub async fn run() -> Outcome {
    // What happens to the cheap vendor, the best quote then, what the asker sees of it, restarts, dead letters.
    let kind = "get_quote";
    let deadline = ms(100);
    let timeout = AskError::Timeout { kind, deadline };
    let dropped = AskError::Dropped { kind };
    for (fault, best, seen, restarts, dead) in [
        (None, 10, vec![], 0, None),
        (
            Some(Fault::Panic),
            20,
            vec![dropped.clone()],
            1,
            Some(Reason::Killed),
        ),
        (
            Some(Fault::Fail),
            20,
            vec![dropped.clone()],
            1,
            Some(Reason::Killed),
        ),
        (Some(Fault::LoseReply), 20, vec![dropped.clone()], 0, None),
        (
            Some(Fault::Drop),
            20,
            vec![dropped],
            0,
            Some(Reason::Injected),
        ),
        (
            Some(Fault::Slow(Duration::from_secs(60))),
            20,
            vec![timeout.clone()],
            0,
            None,
        ),
        (Some(Fault::Hang), 20, vec![timeout], 0, None),
    ] {
        let (system, vendors) = market()?;
        let faults = system.faults();
        faults.watch("market/v/cheap");
        if let Some(fault) = fault {
            faults.plan("market/v/cheap", Planned::from(fault).at("get_quote"));
        }
        let (quote, errors) = best_quote(&vendors, deadline).await;
        assert_eq!((quote, &errors), (Some(best), &seen), "{fault:?}");
        assert_eq!(
            faults.waiting("market/v/cheap"),
            0,
            "{fault:?} has not happened"
        );
        assert_eq!(faults.seen("market/v/cheap"), ["get_quote"]);
        // One that hangs or is slow is not done when the story ends: the others answer, and that is enough.
        if matches!(fault, Some(Fault::Hang | Fault::Slow(_))) {
            let report = system.shutdown(ms(50)).await;
            assert_eq!(
                report
                    .abandoned
                    .iter()
                    .map(|left| left.handling)
                    .collect::<Vec<_>>(),
                [Some(kind)]
            );
        } else {
            let (next, _) = best_quote(&vendors, LONG).await;
            assert_eq!(next, Some(10), "{fault:?}: it has healed");
            let tree = system.snapshot();
            assert_eq!(
                tree.find("v/cheap").map(|cheap| cheap.restarts),
                Some(restarts),
                "{fault:?}"
            );
            // Who asked may know of a failure before its dead letter is written; whoever asks again comes after it.
            let letters: Vec<_> = system
                .dead_letters()
                .last
                .iter()
                .map(|letter| letter.reason)
                .collect();
            assert_eq!(letters, dead.into_iter().collect::<Vec<_>>(), "{fault:?}");
            end(system).await?;
        }
        println!(
            "{fault:?}: best quote {best}, restarts {restarts}, dead letter {dead:?}, {errors:?}"
        );
    }
    long_silence().await
}

/// A vendor that answers after an hour. In the simulated world nobody waits for it: the clock jumps.
async fn long_silence() -> Outcome {
    let hour = if alys_runtime::is_simulated() {
        Duration::from_secs(3600)
    } else {
        ms(36)
    };
    let (system, vendors) = market()?;
    system
        .faults()
        .plan("market/v/cheap", Fault::Slow(hour / 2));
    let begun = time::now();
    let (quote, errors) = best_quote(&vendors, hour).await;
    assert_eq!((quote, errors.len()), (Some(10), 0));
    assert!(time::now() - begun >= hour / 2);
    println!("a vendor that takes {:?}: waited for, and cheap", hour / 2);
    end(system).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_quote_as_long_as_one_vendor_answers() {
        alys_runtime::block_on_main(async {
            let (system, vendors) = market().unwrap();
            for path in ["market/v/cheap", "market/v/fair"] {
                assert!(system.faults().plan(path, Fault::Panic));
            }
            let (quote, errors) = best_quote(&vendors, LONG).await;
            assert_eq!((quote, errors.len()), (Some(30), 2));
            let (healed, _) = best_quote(&vendors, LONG).await;
            assert_eq!(healed, Some(10));
            assert_eq!(system.dead_letters().of(Reason::Killed), 2);
            end(system).await.unwrap();
        });
    }

    #[test]
    fn there_is_none_when_nobody_answers() {
        alys_runtime::block_on_main(async {
            let (system, vendors) = market().unwrap();
            for path in ["market/v/cheap", "market/v/fair", "market/v/dear"] {
                assert!(system.faults().plan(path, Fault::LoseReply));
            }
            let (quote, errors) = best_quote(&vendors, LONG).await;
            assert_eq!((quote, errors.len()), (None, 3));
            end(system).await.unwrap();
        });
    }
}
