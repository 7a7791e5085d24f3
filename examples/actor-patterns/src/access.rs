//! Who may send what to whom: roles for actors that look each other up, and a gateway for messages that come as
//! bytes from somewhere else.

use std::convert::Infallible;

use alys_actor_system::{
    AlysActor, ChildSpec, Context, LookupError, Message, Reply, Strategy, System, TellError,
    access::{Access, AccessTable, Kinds, RateLimit, Refusal, Why},
    gateway::{Frame, Gateway, GatewayError, Head, MAX_FRAME_BYTES},
};
use alys_runtime::time;

use crate::{LONG, Outcome, end, patient};

/// What a safe understands. It crosses a process, so it can be serialized, and no variant holds a reply.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum SafeMessage {
    /// Put so much in.
    Deposit(u64),
    /// Take so much out.
    Withdraw(u64),
}

impl Message for SafeMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Deposit(_) => "deposit",
            Self::Withdraw(_) => "withdraw",
        }
    }
}

#[derive(Default)]
struct Safe(u64);

impl AlysActor for Safe {
    type Message = SafeMessage;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Safe";

    async fn handle(&mut self, msg: SafeMessage, _: &Context<Self>) -> Result<(), Infallible> {
        match msg {
            SafeMessage::Deposit(amount) => self.0 = self.0.saturating_add(amount),
            SafeMessage::Withdraw(amount) => self.0 = self.0.saturating_sub(amount),
        }
        Ok(())
    }
}

/// What a person understands: try to do this with the safe, and say how it went.
pub struct Try {
    msg: SafeMessage,
    reply: Reply<Result<(), String>>,
}

impl Message for Try {
    fn kind(&self) -> &'static str {
        "try"
    }
}

struct Person;

impl AlysActor for Person {
    type Message = Try;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Person";

    async fn handle(
        &mut self,
        Try { msg, reply }: Try,
        ctx: &Context<Self>,
    ) -> Result<(), Infallible> {
        // What is found is an address that is good for what the person's role may send, and no more.
        reply.send(match ctx.find::<SafeMessage>("s/safe") {
            Err(LookupError::Denied { reason, .. }) => Err(reason),
            Err(other) => Err(other.to_string()),
            Ok(safe) => safe.tell(msg).map(drop).map_err(|error| match error {
                TellError::Refused {
                    refusal: Refusal::RateExceeded { limit, .. },
                    ..
                } => {
                    format!("no more than {limit}")
                }
                other => other.to_string(),
            }),
        });
        Ok(())
    }
}

/// Tells the story.
pub async fn run() -> Outcome {
    let limit = RateLimit {
        burst: 3,
        per_second: 1,
    };
    let table = AccessTable::builder()
        .role("safe")
        .role("clerk")
        .role("visitor")
        .role("branch")
        .allow("clerk", "safe", Kinds::only(["deposit"]), Some(limit))
        .allow("branch", "safe", Kinds::only(["deposit"]), None)
        .build()?;
    let (safe, clerk, visitor) = (
        table.role("safe")?,
        table.role("clerk")?,
        table.role("visitor")?,
    );
    let branch = table.role("branch")?;
    let access = Access::new(table);

    let system = System::new("bank");
    assert!(system.enforce(access.clone()));
    let supervisor = system.supervisor(patient("s", Strategy::OneForOne))?;
    let vault = ChildSpec::new("safe").role(safe.clone());
    let vault = supervisor.start(vault, 16, || async { Ok::<_, Infallible>(Safe::default()) })?;
    let person = |name, role| {
        supervisor.start(ChildSpec::new(name).role(role), 16, || async {
            Ok::<_, Infallible>(Person)
        })
    };
    let (clerk, visitor) = (person("clerk", clerk)?, person("visitor", visitor)?);

    for (who, name, msg, outcome) in [
        (&clerk, "clerk", SafeMessage::Deposit(1), Ok(())),
        (
            &clerk,
            "clerk",
            SafeMessage::Withdraw(1),
            Err("withdraw is not allowed from clerk to safe (bank/s/safe)"),
        ),
        (
            &visitor,
            "visitor",
            SafeMessage::Deposit(1),
            Err("no rule allows visitor to safe (bank/s/safe)"),
        ),
    ] {
        let tried = who
            .ask(
                |reply| Try {
                    msg: msg.clone(),
                    reply,
                },
                LONG,
            )
            .await?;
        assert_eq!(tried, outcome.map_err(str::to_owned), "{name} {msg:?}");
        println!("{name:<8} {msg:<12?} {tried:?}", msg = msg.kind());
    }
    let mut last = Ok(());
    let mut tries = 0;
    while last.is_ok() {
        tries += 1;
        last = clerk
            .ask(
                |reply| Try {
                    msg: SafeMessage::Deposit(1),
                    reply,
                },
                LONG,
            )
            .await?;
    }
    assert_eq!(
        last,
        Err("no more than 1 a second in bursts of 3".to_owned())
    );
    println!("clerk    deposit      {last:?} after {} more", tries - 1);

    // A connection of another branch: its rights come from the connection, not from what the bytes say.
    let grant = access.grant(&branch, &safe, "bank/s/safe")?;
    let gateway = Gateway::new(vault, grant, MAX_FRAME_BYTES);
    let frame = |payload, remaining_ms| {
        let sender = "the boss, really".to_owned();
        let head = Head {
            id: 1,
            correlation: None,
            sender,
            priority: 0,
            remaining_ms,
            trace: None,
        };
        Frame { head, payload }.encode(MAX_FRAME_BYTES)
    };
    let delivered = gateway.deliver(time::now(), &frame(SafeMessage::Deposit(5), None)?)?;
    assert_eq!(delivered.kind, "deposit");
    println!("gateway  deposit      {} bytes delivered", delivered.bytes);
    for (bytes, error, is_senders_fault) in [
        (
            frame(SafeMessage::Withdraw(5), None)?,
            "withdraw is not allowed from branch to safe (bank/s/safe)",
            true,
        ),
        (
            frame(SafeMessage::Deposit(5), Some(0))?,
            "deposit: expired before it came",
            false,
        ),
        (vec![1, 2, 3], "malformed frame", true),
        (vec![9], "frame of version 9, not 1", true),
    ] {
        let refused: Result<_, GatewayError> = gateway.deliver(time::now(), &bytes);
        let Err(refused) = refused else {
            return Err(format!("delivered in place of: {error}").into());
        };
        assert_eq!(
            (refused.to_string().as_str(), refused.is_senders_fault()),
            (error, is_senders_fault)
        );
        println!(
            "gateway  {refused}; {}",
            if is_senders_fault {
                "the sender's fault"
            } else {
                "nobody's fault"
            }
        );
    }

    let audit = system.audit().ok_or("no rules")?;
    let of = |why: Why| {
        audit
            .counts
            .iter()
            .filter(|((_, _, other), _)| *other == why)
            .map(|(_, n)| n)
            .sum::<u64>()
    };
    let counts = [of(Why::NoRule), of(Why::NotAllowed), of(Why::RateExceeded)];
    assert_eq!(counts, [1, 2, 1]);
    println!(
        "the audit trail: {} without a rule, {} not allowed, {} too often",
        counts[0], counts[1], counts[2]
    );
    end(system).await
}
