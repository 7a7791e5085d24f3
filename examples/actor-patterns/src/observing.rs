//! Looking at a running system: the tree as data, health, dead letters, metrics as Prometheus text; and spans,
//! which follow a message from actor to actor (`cargo run -p alys-actor-patterns --example observing`).

use std::convert::Infallible;

use alys_actor_system::{
    Addr, AlysActor, ChildSpec, Context, Health, Message, Reply, State, Strategy, System,
    metrics::prometheus_client::metrics::{counter::Counter, family::Family},
    testkit::sample,
};

use crate::{LONG, Outcome, end, patient};

/// What a pump understands.
pub enum PumpMessage {
    /// Move so many litres.
    Pumped(u64),
    /// Pass so many litres on.
    PassedOn(u64),
    /// Something is in the way.
    Blocked,
    /// How much was moved?
    GetLitres { reply: Reply<u64> },
}

impl Message for PumpMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Pumped(_) => "pumped",
            Self::PassedOn(_) => "passed_on",
            Self::Blocked => "blocked",
            Self::GetLitres { .. } => "get_litres",
        }
    }
}

struct Pump {
    litres: u64,
    /// Outlives the incarnation, unlike `litres`.
    total: Counter,
    is_blocked: bool,
    next: Option<Addr<PumpMessage>>,
}

impl AlysActor for Pump {
    type Message = PumpMessage;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Pump";

    async fn handle(&mut self, msg: PumpMessage, _: &Context<Self>) -> Result<(), Infallible> {
        match msg {
            PumpMessage::Pumped(litres) => {
                self.litres += litres;
                self.total.inc_by(litres);
            }
            PumpMessage::PassedOn(litres) => {
                if let Some(next) = &self.next {
                    let _full_is_counted_there = next.tell(PumpMessage::Pumped(litres));
                }
            }
            PumpMessage::Blocked => self.is_blocked = true,
            PumpMessage::GetLitres { reply } => {
                reply.send(self.litres);
            }
        }
        Ok(())
    }

    fn health_check(&self) -> Health {
        if self.is_blocked {
            Health::Degraded("something is in the way")
        } else {
            Health::Healthy
        }
    }
}

/// Tells the story.
pub async fn run() -> Outcome {
    let system = System::new("works");
    // Times are not taken unless somebody wants them: they cost a message three looks at the clock.
    system.measure(true);
    let supervisor = system.supervisor(patient("s", Strategy::OneForOne))?;
    // One family for all pumps, registered once; each pump updates the counter of its own label.
    let litres = Family::<[(&str, &str); 1], Counter>::default();
    system.metrics().register(|registry| {
        registry.register("alys_pump_litres", "Litres moved", litres.clone());
    });
    let pump = |name, next: Option<Addr<PumpMessage>>| {
        let total = litres.get_or_create_owned(&[("pump", name)]);
        supervisor.start(ChildSpec::new(name), 16, move || {
            let (next, total) = (next.clone(), total.clone());
            async move {
                Ok::<_, Infallible>(Pump {
                    litres: 0,
                    total,
                    is_blocked: false,
                    next,
                })
            }
        })
    };
    let far = pump("far", None)?;
    let near = pump("near", Some(far.clone()))?;
    for litres in 1..=3 {
        near.tell(PumpMessage::PassedOn(litres))?;
    }
    far.tell(PumpMessage::Blocked)?;
    // The near pump answers once it has passed everything on, the far one once it has moved that.
    near.ask(|reply| PumpMessage::GetLitres { reply }, LONG)
        .await?;
    assert_eq!(
        far.ask(|reply| PumpMessage::GetLitres { reply }, LONG)
            .await?,
        6
    );
    let tree = system.snapshot();
    for seen in tree.all() {
        println!("{:<12} {:<8} {:?}", seen.path, seen.state, seen.health);
    }
    let seen = tree.find("s/far").ok_or("no far pump")?;
    assert_eq!(
        (seen.state, seen.restarts, &seen.last_error),
        (State::Running, 0, &None)
    );
    assert_eq!(seen.health, Health::Degraded("something is in the way"));
    assert_eq!(
        system.health(),
        seen.health,
        "what does not work is seen from the top"
    );
    let counts = seen.mailbox.as_ref().ok_or("no mailbox")?;
    assert_eq!(counts.kinds.get("pumped"), Some(&3));

    let text = system.metrics().encode()?;
    for (series, value) in [
        (
            r#"alys_actor_handled_messages_total{actor="works/s/near",kind="passed_on"}"#,
            3.0,
        ),
        (
            r#"alys_actor_handled_messages_total{actor="works/s/far",kind="pumped"}"#,
            3.0,
        ),
        (r#"alys_actor_restarts_total{actor="works/s/far"}"#, 0.0),
        (r#"alys_actor_health{actor="works/s/far"}"#, 1.0),
        (r#"alys_pump_litres_total{pump="far"}"#, 6.0),
        (
            r#"alys_actor_wait_seconds_count{actor="works/s/far",kind="pumped"}"#,
            3.0,
        ),
    ] {
        assert_eq!(sample(&text, series), Some(value), "{series} in\n{text}");
        println!("{series} {value}");
    }
    end(system).await
}
