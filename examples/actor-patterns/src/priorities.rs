//! What is urgent overtakes what waits, but nothing starves; and what waits together can be handled together.

use std::convert::Infallible;

use alys_actor_system::{
    AlysActor, Batch, ChildSpec, Context, Message, PATIENCE, Priority, Reply, Strategy, System,
};

use crate::{Gate, LONG, Outcome, end, in_hand, patient};

/// What a nurse understands.
pub enum NurseMessage {
    /// Somebody comes.
    Patient {
        name: &'static str,
        priority: Priority,
    },
    /// Wait until the gate opens.
    Wait(Gate),
    /// Whom did you see, in order? Comes last.
    Report { reply: Reply<Vec<&'static str>> },
}

impl Message for NurseMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Patient { .. } => "patient",
            Self::Wait(_) => "wait",
            Self::Report { .. } => "report",
        }
    }

    fn priority(&self) -> Priority {
        match self {
            Self::Patient { priority, .. } => *priority,
            Self::Wait(_) => Priority::Normal,
            Self::Report { .. } => Priority::Low,
        }
    }
}

#[derive(Default)]
struct Nurse {
    seen: Vec<&'static str>,
}

impl AlysActor for Nurse {
    type Message = NurseMessage;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Nurse";

    async fn handle(&mut self, msg: NurseMessage, _: &Context<Self>) -> Result<(), Infallible> {
        match msg {
            NurseMessage::Patient { name, .. } => self.seen.push(name),
            NurseMessage::Wait(gate) => gate.pass().await,
            NurseMessage::Report { reply } => {
                reply.send(std::mem::take(&mut self.seen));
            }
        }
        Ok(())
    }
}

/// What a store understands.
pub enum StoreMessage {
    /// Keep this.
    Write(u64),
    /// Wait until the gate opens.
    Wait(Gate),
    /// How many writes did each sync cover?
    GetSyncs { reply: Reply<Vec<usize>> },
}

impl Message for StoreMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Write(_) => "write",
            Self::Wait(_) => "wait",
            Self::GetSyncs { .. } => "get_syncs",
        }
    }
}

#[derive(Default)]
struct Store {
    syncs: Vec<usize>,
}

impl AlysActor for Store {
    type Message = StoreMessage;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Store";
    /// As many messages as one sync may cover.
    const BATCH: usize = 8;

    async fn handle(&mut self, msg: StoreMessage, _: &Context<Self>) -> Result<(), Infallible> {
        match msg {
            StoreMessage::Write(_) => self.syncs.push(1),
            StoreMessage::Wait(gate) => gate.pass().await,
            StoreMessage::GetSyncs { reply } => {
                reply.send(self.syncs.clone());
            }
        }
        Ok(())
    }

    async fn handle_batch(
        &mut self,
        batch: &mut Batch<StoreMessage>,
        ctx: &Context<Self>,
    ) -> Result<(), Infallible> {
        let mut writes = 0;
        while let Some(msg) = batch.take() {
            match msg {
                StoreMessage::Write(_) => writes += 1,
                // What comes after the writes of this batch sees them synced.
                other => {
                    self.sync(&mut writes);
                    self.handle(other, ctx).await?;
                }
            }
        }
        self.sync(&mut writes);
        Ok(())
    }
}

impl Store {
    fn sync(&mut self, writes: &mut usize) {
        if *writes > 0 {
            self.syncs.push(std::mem::take(writes));
        }
    }
}

/// Tells the story.
pub async fn run() -> Outcome {
    let system = System::new("hospital");
    let supervisor = system.supervisor(patient("s", Strategy::OneForOne))?;
    let nurse = supervisor.start(ChildSpec::new("nurse"), 64, || async {
        Ok::<_, Infallible>(Nurse::default())
    })?;

    let gate = Gate::closed();
    nurse.tell(NurseMessage::Wait(gate.clone()))?;
    in_hand(&system, "s/nurse").await?;
    for (name, priority) in [
        ("a check-up", Priority::Low),
        ("a cold", Priority::Normal),
        ("a broken leg", Priority::High),
        ("another cold", Priority::Normal),
        ("a heart attack", Priority::Critical),
    ] {
        nurse.tell(NurseMessage::Patient { name, priority })?;
    }
    gate.open();
    let seen = nurse
        .ask(|reply| NurseMessage::Report { reply }, LONG)
        .await?;
    assert_eq!(
        seen,
        [
            "a heart attack",
            "a broken leg",
            "a cold",
            "another cold",
            "a check-up"
        ]
    );
    println!("by urgency, then in the order in which they came: {seen:?}");

    let gate = Gate::closed();
    nurse.tell(NurseMessage::Wait(gate.clone()))?;
    in_hand(&system, "s/nurse").await?;
    nurse.tell(NurseMessage::Patient {
        name: "low",
        priority: Priority::Low,
    })?;
    for _ in 0..40 {
        nurse.tell(NurseMessage::Patient {
            name: "high",
            priority: Priority::High,
        })?;
    }
    gate.open();
    let seen = nurse
        .ask(|reply| NurseMessage::Report { reply }, LONG)
        .await?;
    let before = seen
        .iter()
        .position(|name| *name == "low")
        .unwrap_or(seen.len());
    assert!(before <= PATIENCE as usize + 1, "{before}");
    println!("among forty urgent ones, the one that is not waits for {before}");

    let store = supervisor.start(ChildSpec::new("store"), 64, || async {
        Ok::<_, Infallible>(Store::default())
    })?;
    let gate = Gate::closed();
    store.tell(StoreMessage::Wait(gate.clone()))?;
    in_hand(&system, "s/store").await?;
    for n in 0..20 {
        store.tell(StoreMessage::Write(n))?;
    }
    gate.open();
    let syncs = store
        .ask(|reply| StoreMessage::GetSyncs { reply }, LONG)
        .await?;
    assert_eq!(syncs, [8, 8, 4]);
    println!("twenty writes that waited together, in batches of eight: synced {syncs:?}");
    end(system).await
}
