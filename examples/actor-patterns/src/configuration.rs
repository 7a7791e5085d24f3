//! A configuration that is replaced while the actor runs, and survives its restarts.

use std::convert::Infallible;

use alys_actor_system::{
    AlysActor, ChildSpec, ConfigHandle, Context, LookupError, Message, Reply, Strategy, System,
};

use crate::{LONG, Outcome, end, patient};

/// What can be changed of a thermostat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Degrees.
    pub target: i32,
}

/// What a thermostat understands.
pub enum ThermostatMessage {
    /// It is so many degrees: heat?
    GetHeating { now: i32, reply: Reply<bool> },
    /// Which targets has this incarnation been told of?
    GetChanges { reply: Reply<Vec<i32>> },
    /// Break.
    Panic,
}

impl Message for ThermostatMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::GetHeating { .. } => "get_heating",
            Self::GetChanges { .. } => "get_changes",
            Self::Panic => "panic",
        }
    }
}

#[derive(Default)]
struct Thermostat {
    changes: Vec<i32>,
}

impl AlysActor for Thermostat {
    type Message = ThermostatMessage;
    type Error = Infallible;
    type Config = Settings;
    const NAME: &'static str = "Thermostat";

    async fn handle(
        &mut self,
        msg: ThermostatMessage,
        ctx: &Context<Self>,
    ) -> Result<(), Infallible> {
        match msg {
            ThermostatMessage::GetHeating { now, reply } => {
                reply.send(now < ctx.config().target);
            }
            ThermostatMessage::GetChanges { reply } => {
                reply.send(self.changes.clone());
            }
            ThermostatMessage::Panic => panic!("a fuse"),
        }
        Ok(())
    }

    /// Only for what has to be done about a change: the configuration itself is always in the context.
    async fn reconfigured(&mut self, ctx: &Context<Self>) -> Result<(), Infallible> {
        self.changes.push(ctx.config().target);
        Ok(())
    }
}

/// Tells the story.
pub async fn run() -> Outcome {
    let system = System::new("house");
    let supervisor = system.supervisor(patient("s", Strategy::OneForOne))?;
    let (addr, settings) = supervisor.start_configured(
        ChildSpec::new("thermostat"),
        Settings { target: 18 },
        16,
        || async { Ok::<_, Infallible>(Thermostat::default()) },
    )?;
    let is_heating = || {
        addr.ask(
            |reply| ThermostatMessage::GetHeating { now: 20, reply },
            LONG,
        )
    };

    assert!(!is_heating().await?);
    println!("20 degrees, the target is {}: off", settings.get().target);
    settings.replace(Settings { target: 22 });
    assert!(is_heating().await?);
    let changes = addr
        .ask(|reply| ThermostatMessage::GetChanges { reply }, LONG)
        .await?;
    assert_eq!(changes, [22]);
    println!(
        "the target becomes {}: on, and the actor was told of {changes:?} before the next message",
        settings.get().target
    );

    addr.tell(ThermostatMessage::Panic)?;
    assert!(is_heating().await?);
    println!("after a restart: still on");

    // Whoever has the system finds it by its path.
    let found: ConfigHandle<Settings> = system.config("s/thermostat")?;
    found.replace(Settings { target: 10 });
    assert!(!is_heating().await?);
    let wrong: Result<ConfigHandle<u8>, LookupError> = system.config("s/thermostat");
    assert_eq!(
        wrong.err(),
        Some(LookupError::OtherConfig {
            path: "house/s/thermostat".to_owned()
        })
    );
    println!("replaced by path, with {}: off", found.get().target);
    end(system).await
}
