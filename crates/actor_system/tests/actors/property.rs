//! Random messages, failures and strategies: an accepted message is handled once, in order, unless
//! its handling failed.

use alys_actor_system::{State, Strategy as Supervision};
use proptest::prelude::*;

use crate::kit::*;

#[derive(Debug, Clone, Copy)]
enum Kind {
    Note,
    Panic,
    Fail,
    SpawnPanic,
    SpawnForever,
    End,
}

#[derive(Debug, Clone)]
struct Step {
    actor: usize,
    kind: Kind,
    /// True if the sender then waits until the actor has handled its queue.
    settles: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![
        12 => Just(Kind::Note),
        1 => Just(Kind::Panic),
        1 => Just(Kind::Fail),
        1 => Just(Kind::SpawnPanic),
        1 => Just(Kind::SpawnForever),
        1 => Just(Kind::End),
    ];
    let step = (0..3usize, kind, prop::bool::weighted(0.1));
    prop::collection::vec(
        step.prop_map(|(actor, kind, settles)| Step {
            actor,
            kind,
            settles,
        }),
        1..120,
    )
}

fn strategies() -> impl Strategy<Value = Supervision> {
    prop_oneof![
        Just(Supervision::OneForOne),
        Just(Supervision::OneForAll),
        Just(Supervision::RestForOne)
    ]
}

async fn check(steps: Vec<Step>, strategy: Supervision, intensity: usize, capacity: usize) {
    const NAMES: [&str; 3] = ["a", "b", "c"];
    // The intensity of the root covers all failures, because the supervisor escalates those beyond
    // its own intensity.
    let world = World::with_root(steps.len());
    let supervisor = world.supervisor("s", strategy, intensity, None);
    let addrs = NAMES.map(|name| {
        world.worker_as(
            &supervisor,
            alys_actor_system::ChildSpec::new(name),
            capacity,
        )
    });
    let mut noted: [Vec<u64>; 3] = Default::default();
    let mut killers = [0; 3];
    for (n, step) in steps.iter().enumerate() {
        let n = n as u64;
        let msg = match step.kind {
            Kind::Note => {
                noted[step.actor].push(n);
                Told::Note(n)
            }
            Kind::Panic => Told::Panic,
            Kind::Fail => Told::Fail,
            Kind::SpawnPanic => Told::SpawnPanic,
            Kind::SpawnForever => Told::SpawnForever,
            Kind::End => Told::End,
        };
        killers[step.actor] += u64::from(matches!(step.kind, Kind::Panic | Kind::Fail));
        addrs[step.actor].send(msg).await.unwrap();
        if step.settles {
            settled(&addrs[step.actor]).await;
        }
    }
    for addr in &addrs {
        settled(addr).await;
    }
    let report = world.system.shutdown(LONG).await;
    let left: usize = report.abandoned.iter().map(|left| left.messages).sum();
    assert_eq!(left, 0, "{report:?}");
    let tree = world.system.snapshot();
    for (index, name) in NAMES.into_iter().enumerate() {
        assert_eq!(world.diary.notes(name), noted[index], "{name}");
        let child = tree.find(&format!("s/{name}")).unwrap();
        let mailbox = child.mailbox.as_ref().unwrap();
        assert_eq!(mailbox.failed, killers[index], "{name}");
        assert_eq!(
            (
                mailbox.depth,
                mailbox.abandoned,
                mailbox.interrupted,
                mailbox.dropped
            ),
            (0, 0, 0, 0)
        );
        assert_eq!(child.state, State::Stopped);
        let error = child.last_error.clone().unwrap_or_default();
        assert!(!error.contains("two incarnations"), "{error}");
        let spawned = steps
            .iter()
            .filter(|s| s.actor == index && matches!(s.kind, Kind::SpawnForever))
            .count();
        let gone = world
            .diary
            .of(name)
            .iter()
            .filter(|event| **event == Event::TaskGone)
            .count();
        assert_eq!(gone, spawned, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn accepted_messages_are_handled_once_in_order_or_fail(
        steps in steps(),
        strategy in strategies(),
        intensity in 0..5usize,
        capacity in 1..20usize,
    ) {
        run(check(steps, strategy, intensity, capacity));
    }
}
