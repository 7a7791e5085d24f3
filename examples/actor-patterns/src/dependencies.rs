//! Who needs whom: started after those it depends on, stopped before them; and a shutdown that says what was left.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use alys_actor_system::{
    Addr, AlysActor, ChildSpec, Context, Message, StartError, Strategy, Supervisor, System,
};

use crate::{Gate, LONG, Outcome, end, in_hand, ms, patient};

/// What a part of a shop understands.
pub enum PartMessage {
    /// Do something.
    Work,
    /// Wait until the gate opens.
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

/// What happened, in order.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn note(&self, what: String) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(what);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Part {
    name: &'static str,
    diary: Diary,
}

impl AlysActor for Part {
    type Message = PartMessage;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Part";

    async fn started(&mut self, _: &Context<Self>) -> Result<(), Infallible> {
        self.diary.note(format!("{} runs", self.name));
        Ok(())
    }

    async fn handle(&mut self, msg: PartMessage, _: &Context<Self>) -> Result<(), Infallible> {
        match msg {
            PartMessage::Work => self.diary.note(format!("{} works", self.name)),
            PartMessage::Wait(gate) => gate.pass().await,
        }
        Ok(())
    }

    async fn stopped(&mut self, _: &Context<Self>) {
        self.diary.note(format!("{} stops", self.name));
    }
}

fn part(
    supervisor: &Supervisor,
    spec: ChildSpec,
    name: &'static str,
    diary: &Diary,
) -> Result<Addr<PartMessage>, StartError> {
    let diary = diary.clone();
    supervisor.start(spec, 16, move || {
        let diary = diary.clone();
        async move { Ok::<_, Infallible>(Part { name, diary }) }
    })
}

/// Tells the story.
pub async fn run() -> Outcome {
    let diary = Diary::default();
    let system = System::new("shop");
    let supervisor = system.supervisor(patient("s", Strategy::OneForOne))?;
    part(&supervisor, ChildSpec::new("store"), "store", &diary)?;
    part(
        &supervisor,
        ChildSpec::new("index").depends_on("s/store"),
        "index",
        &diary,
    )?;
    let front = ChildSpec::new("front")
        .depends_on("s/store")
        .depends_on("s/index");
    let front = part(&supervisor, front, "front", &diary)?;
    let unknown = part(
        &supervisor,
        ChildSpec::new("x").depends_on("s/later"),
        "x",
        &diary,
    )
    .err();
    assert!(
        matches!(unknown, Some(StartError::UnknownDependency { .. })),
        "{unknown:?}"
    );
    println!(
        "no circles: what is depended on is started before. {}",
        unknown.map(|e| e.to_string()).unwrap_or_default()
    );

    front.tell(PartMessage::Work)?;
    let report = system.shutdown(LONG).await;
    assert!(report.is_clean());
    assert_eq!(report.levels, [["shop/s/front"], ["shop/s/index"]]);
    assert_eq!(
        report.stopped,
        ["shop/s/front", "shop/s/index", "shop/s/store"]
    );
    let seen = diary.take();
    assert_eq!(
        seen,
        [
            "store runs",
            "index runs",
            "front runs",
            "front works",
            "front stops",
            "index stops",
            "store stops"
        ]
    );
    println!("{}", seen.join(", "));

    // Nothing new is taken once a shutdown has begun; what was taken is handled, as far as there is time.
    let system = System::new("late");
    let supervisor = system.supervisor(patient("s", Strategy::OneForOne))?;
    let addr = part(&supervisor, ChildSpec::new("busy"), "busy", &diary)?;
    addr.tell(PartMessage::Wait(Gate::closed()))?;
    in_hand(&system, "s/busy").await?;
    addr.tell(PartMessage::Work)?;
    addr.tell(PartMessage::Work)?;
    let report = system.shutdown(ms(50)).await;
    let left: Vec<_> = report
        .abandoned
        .iter()
        .map(|left| (left.handling, left.messages))
        .collect();
    assert_eq!(left, [(Some("wait"), 2)]);
    assert!(addr.is_closed() && addr.tell(PartMessage::Work).is_err());
    println!(
        "a deadline that is too short: {left:?} are the message that was cut off and those that never began"
    );
    end(System::new("empty")).await
}
