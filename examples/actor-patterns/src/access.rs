//! Access control: roles for actors that look each other up, and a gateway for messages that arrive
//! as bytes.

use std::convert::Infallible;

use alys_actor_extras::gateway::{
    DecodeError, Frame, Gateway, GatewayError, Head, MAX_FRAME_BYTES, VERSION,
};
use alys_actor_system::{
    Addr, AlysActor, ChildSpec, Context, LookupError, Message, Reply, Strategy, Supervisor, System,
    access::{Access, AccessTable, Kinds, RateLimit, Refusal, Why},
};
use alys_runtime::time;

use crate::{Outcome, StoryError, TIMEOUT, shut_down, tolerant};

/// Messages of a safe. They cross processes, so they can be serialized, and no variant has a reply.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum SafeMessage {
    Deposit(u64),
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
struct Safe {
    balance: u64,
}

impl AlysActor for Safe {
    type Message = SafeMessage;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Safe";

    async fn handle(&mut self, msg: SafeMessage, _: &Context<Self>) -> Result<(), Infallible> {
        match msg {
            SafeMessage::Deposit(amount) => self.balance = self.balance.saturating_add(amount),
            SafeMessage::Withdraw(amount) => self.balance = self.balance.saturating_sub(amount),
        }
        Ok(())
    }
}

/// Makes a person send this to the safe, and report the result.
pub struct Attempt {
    msg: SafeMessage,
    reply: Reply<Result<(), String>>,
}

impl Message for Attempt {
    fn kind(&self) -> &'static str {
        "attempt"
    }
}

struct Person;

impl AlysActor for Person {
    type Message = Attempt;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Person";

    async fn handle(&mut self, msg: Attempt, ctx: &Context<Self>) -> Result<(), Infallible> {
        let Attempt { msg, reply } = msg;
        // The address that is found accepts only the messages that the person's role may send.
        let result = match ctx.find::<SafeMessage>("s/safe") {
            Ok(safe) => safe.tell(msg).map(drop).map_err(|error| error.to_string()),
            Err(LookupError::Denied { reason, .. }) => Err(reason),
            Err(other) => Err(other.to_string()),
        };
        reply.send(result);
        Ok(())
    }
}

fn start_person(
    supervisor: &Supervisor,
    access: &Access,
    role: &str,
) -> Result<Addr<Attempt>, StoryError> {
    let spec = ChildSpec::new(role).role(access.table().role(role)?);
    Ok(supervisor.start(spec, 16, || async { Ok::<_, Infallible>(Person) })?)
}

async fn attempt(
    person: &Addr<Attempt>,
    msg: SafeMessage,
) -> Result<Result<(), String>, StoryError> {
    let kind = msg.kind();
    let result = person.ask(|reply| Attempt { msg, reply }, TIMEOUT).await?;
    println!("{kind}: {result:?}");
    Ok(result)
}

/// Runs the story.
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
    let access = Access::new(table);
    let system = System::new("bank");
    assert!(system.enforce(access.clone()));
    let supervisor = system.supervisor(tolerant("s", Strategy::OneForOne))?;
    let spec = ChildSpec::new("safe").role(access.table().role("safe")?);
    let safe = supervisor.start(spec, 16, || async { Ok::<_, Infallible>(Safe::default()) })?;

    roles(&supervisor, &access).await?;
    gateway(safe, &access)?;
    audit_trail(&system)?;
    shut_down(system).await
}

async fn roles(supervisor: &Supervisor, access: &Access) -> Outcome {
    let clerk = start_person(supervisor, access, "clerk")?;
    let visitor = start_person(supervisor, access, "visitor")?;
    let refused = |text: &str| Err(text.to_owned());
    assert_eq!(
        attempt(&visitor, SafeMessage::Deposit(1)).await?,
        refused("no rule allows visitor to safe (bank/s/safe)")
    );
    assert_eq!(
        attempt(&clerk, SafeMessage::Withdraw(1)).await?,
        refused("withdraw is not allowed from clerk to safe (bank/s/safe)")
    );
    for _ in 0..3 {
        assert_eq!(attempt(&clerk, SafeMessage::Deposit(1)).await?, Ok(()));
    }
    assert_eq!(
        attempt(&clerk, SafeMessage::Deposit(1)).await?,
        refused("deposit from clerk to safe (bank/s/safe) exceeds 1 a second in bursts of 3")
    );
    Ok(())
}

/// A gateway has the rights of its connection. The sender named in a frame has none.
fn gateway(safe: Addr<SafeMessage>, access: &Access) -> Outcome {
    let table = access.table();
    let grant = access.grant(&table.role("branch")?, &table.role("safe")?, "bank/s/safe")?;
    let gateway = Gateway::new(safe, grant, MAX_FRAME_BYTES);
    let frame = |payload, remaining_ms| {
        let head = Head {
            id: 1,
            correlation: None,
            sender: "a self-declared director".to_owned(),
            remaining_ms,
            trace: None,
        };
        Frame { head, payload }.encode(MAX_FRAME_BYTES)
    };
    let delivered = gateway.deliver(time::now(), &frame(SafeMessage::Deposit(5), None)?)?;
    assert_eq!(delivered.kind, "deposit");
    println!("gateway: {} bytes delivered", delivered.bytes);

    let refused = [
        gateway.deliver(time::now(), &frame(SafeMessage::Withdraw(5), None)?),
        gateway.deliver(time::now(), &frame(SafeMessage::Deposit(5), Some(0))?),
        gateway.deliver(time::now(), &[VERSION, 2, 3]),
        gateway.deliver(time::now(), &[9]),
    ];
    assert!(
        matches!(
            &refused,
            [
                Err(GatewayError::Refused(Refusal::NotAllowed { .. })),
                Err(GatewayError::Expired { kind: "deposit" }),
                Err(GatewayError::Decode(DecodeError::Malformed { .. })),
                Err(GatewayError::Decode(DecodeError::UnknownVersion {
                    version: 9
                })),
            ]
        ),
        "{refused:?}"
    );
    let errors: Vec<_> = refused.into_iter().filter_map(Result::err).collect();
    let is_senders_fault: Vec<_> = errors.iter().map(GatewayError::is_senders_fault).collect();
    assert_eq!(is_senders_fault, [true, false, true, true]);
    for error in errors {
        println!("gateway: {error}");
    }
    Ok(())
}

fn audit_trail(system: &System) -> Outcome {
    let audit = system.audit().ok_or("no rules are enforced")?;
    let count = |why: Why| -> u64 {
        let counts = audit.counts.iter();
        counts
            .filter_map(|((_, _, reason), count)| (*reason == why).then_some(*count))
            .sum()
    };
    let by_reason = [Why::NoRule, Why::NotAllowed, Why::RateExceeded].map(count);
    assert_eq!(by_reason, [1, 2, 1]);
    println!("audit: {by_reason:?} refusals without a rule, not allowed, too frequent");
    Ok(())
}
