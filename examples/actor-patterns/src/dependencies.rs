//! Dependencies: an actor starts after those that it depends on, and stops before them. The report
//! of a shutdown lists the work that was abandoned.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use alys_actor_system::{
    Addr, AlysActor, ChildSpec, Context, Message, StartError, Strategy, Supervisor, System,
};

use crate::{Gate, Outcome, TIMEOUT, ms, tolerant, wait_until_drained};

/// Messages of a part of the shop.
pub enum PartMessage {
    Work,
    /// Blocks the part until the gate opens.
    Wait(Gate),
}

impl Message for PartMessage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Work => "work",
            Self::Wait(_) => "wait",
        }
    }
}

/// The events of all parts, in order.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    fn record(&self, event: String) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(event);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Part {
    name: &'static str,
    journal: Journal,
}

impl AlysActor for Part {
    type Message = PartMessage;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Part";

    async fn started(&mut self, _: &Context<Self>) -> Result<(), Infallible> {
        self.journal.record(format!("{} runs", self.name));
        Ok(())
    }

    async fn handle(&mut self, msg: PartMessage, _: &Context<Self>) -> Result<(), Infallible> {
        match msg {
            PartMessage::Work => self.journal.record(format!("{} works", self.name)),
            PartMessage::Wait(gate) => gate.pass().await,
        }
        Ok(())
    }

    async fn stopped(&mut self, _: &Context<Self>) {
        self.journal.record(format!("{} stops", self.name));
    }
}

fn start_part(
    supervisor: &Supervisor,
    name: &'static str,
    dependencies: &[&str],
    journal: &Journal,
) -> Result<Addr<PartMessage>, StartError> {
    let mut spec = ChildSpec::new(name);
    for dependency in dependencies {
        spec = spec.depends_on(*dependency);
    }
    let journal = journal.clone();
    supervisor.start(spec, 16, move || {
        let journal = journal.clone();
        async move { Ok::<_, Infallible>(Part { name, journal }) }
    })
}

/// Runs the story.
pub async fn run() -> Outcome {
    start_and_stop_in_order().await?;
    deadline_too_short().await
}

async fn start_and_stop_in_order() -> Outcome {
    let journal = Journal::default();
    let system = System::new("shop");
    let supervisor = system.supervisor(tolerant("s", Strategy::OneForOne))?;
    start_part(&supervisor, "store", &[], &journal)?;
    start_part(&supervisor, "index", &["s/store"], &journal)?;
    let front = start_part(&supervisor, "front", &["s/store", "s/index"], &journal)?;
    // A dependency is added before its dependents, so cycles are impossible.
    let refused = start_part(&supervisor, "early", &["s/later"], &journal).map(drop);
    assert!(
        matches!(refused, Err(StartError::UnknownDependency { .. })),
        "{refused:?}"
    );
    println!("a dependency that was not added before: {refused:?}");

    front.tell(PartMessage::Work)?;
    let report = system.shutdown(TIMEOUT).await;
    assert!(report.is_clean());
    assert_eq!(report.levels, [["shop/s/front"], ["shop/s/index"]]);
    let stopped = ["shop/s/front", "shop/s/index", "shop/s/store"];
    assert_eq!(report.stopped, stopped);
    let events = journal.take().join(", ");
    assert_eq!(
        events,
        "store runs, index runs, front runs, front works, front stops, index stops, store stops"
    );
    println!("{events}");
    Ok(())
}

/// A shutdown closes all mailboxes. Messages accepted before are handled until the deadline.
async fn deadline_too_short() -> Outcome {
    let system = System::new("late");
    let supervisor = system.supervisor(tolerant("s", Strategy::OneForOne))?;
    let busy = start_part(&supervisor, "busy", &[], &Journal::default())?;
    busy.tell(PartMessage::Wait(Gate::closed()))?;
    wait_until_drained(&system, "s/busy").await?;
    busy.tell(PartMessage::Work)?;
    busy.tell(PartMessage::Work)?;
    let report = system.shutdown(ms(50)).await;
    assert_eq!(report.abandoned.len(), 1);
    let abandoned = &report.abandoned[0];
    assert_eq!(
        abandoned.handling,
        Some("wait"),
        "the message that was cut off"
    );
    assert_eq!(abandoned.messages, 2, "the messages that were never begun");
    assert!(busy.is_closed() && busy.tell(PartMessage::Work).is_err());
    println!("a deadline that is too short: {abandoned:?}");
    Ok(())
}
