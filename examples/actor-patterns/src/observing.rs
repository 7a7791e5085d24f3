//! Observing a running system: the tree as data, health, dead letters, metrics as Prometheus text;
//! and spans, which follow a message from actor to actor (`cargo run -p alys-actor-patterns
//! --example observing`).

use std::convert::Infallible;

use alys_actor_system::{
    Addr, AlysActor, ChildSpec, Context, Health, Message, Reply, StartError, State, Strategy,
    Supervisor, System,
    metrics::prometheus_client::metrics::{counter::Counter, family::Family},
    testkit::sample,
};

use crate::{Outcome, TIMEOUT, shut_down, tolerant};

/// Messages of a pump.
pub enum PumpMessage {
    /// This many litres were moved.
    Pumped(u64),
    /// This many litres go to the next pump.
    PassedOn(u64),
    /// The pump cannot work properly from now on.
    Blocked,
    /// Asks for the litres moved.
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
                    // A full mailbox counts its own refusals.
                    let _refused = next.tell(PumpMessage::Pumped(litres));
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
            Health::Degraded("blocked")
        } else {
            Health::Healthy
        }
    }
}

fn start_pump(
    supervisor: &Supervisor,
    name: &'static str,
    litres: &Litres,
    next: Option<Addr<PumpMessage>>,
) -> Result<Addr<PumpMessage>, StartError> {
    let total = litres.get_or_create_owned(&[("pump", name)]);
    supervisor.start(ChildSpec::new(name), 16, move || {
        let pump = Pump {
            litres: 0,
            total: total.clone(),
            is_blocked: false,
            next: next.clone(),
        };
        async { Ok::<_, Infallible>(pump) }
    })
}

/// Litres moved, by pump. Each pump updates the counter of its own label.
type Litres = Family<[(&'static str, &'static str); 1], Counter>;

/// Runs the story.
pub async fn run() -> Outcome {
    let system = System::new("works");
    // Off unless asked for, because it costs three reads of the clock a message.
    system.measure(true);
    let litres = Litres::default();
    system.metrics().register(|registry| {
        registry.register("alys_pump_litres", "Litres moved", litres.clone());
    });
    let supervisor = system.supervisor(tolerant("s", Strategy::OneForOne))?;
    let far = start_pump(&supervisor, "far", &litres, None)?;
    let near = start_pump(&supervisor, "near", &litres, Some(far.clone()))?;
    for litres in 1..=3 {
        near.tell(PumpMessage::PassedOn(litres))?;
    }
    far.tell(PumpMessage::Blocked)?;
    // The near pump answers once it has passed everything on, the far one once it has moved that.
    let question = |reply| PumpMessage::GetLitres { reply };
    near.ask(question, TIMEOUT).await?;
    assert_eq!(far.ask(question, TIMEOUT).await?, 6);
    inspect_tree(&system)?;
    scrape_metrics(&system)?;
    shut_down(system).await
}

fn inspect_tree(system: &System) -> Outcome {
    let tree = system.snapshot();
    for actor in tree.all() {
        println!("{:<12} {:<8} {:?}", actor.path, actor.state, actor.health);
    }
    let far = tree.find("s/far").ok_or("no far pump")?;
    assert_eq!(far.state, State::Running);
    assert_eq!(far.restarts, 0);
    assert_eq!(far.last_error, None);
    assert_eq!(far.health, Health::Degraded("blocked"));
    assert_eq!(
        system.health(),
        far.health,
        "the worst health of all actors"
    );
    let mailbox = far.mailbox.as_ref().ok_or("no mailbox")?;
    assert_eq!(mailbox.kinds.get("pumped"), Some(&3));
    assert_eq!(system.dead_letters().last, []);
    Ok(())
}

fn scrape_metrics(system: &System) -> Outcome {
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
    Ok(())
}
