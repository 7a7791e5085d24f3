//! Faults that a test injects into a running system.

use std::time::Duration;

use alys_actor_system::{AskError, ChildSpec, Fault, MAX_PLANNED, MAX_SEEN, Planned, Reason};
use alys_runtime::time;

use crate::{doer::*, kit::*};

#[test]
fn each_fault_strikes_the_message_that_it_is_planned_for() {
    supervised(99, |world, supervisor| async move {
        let spec = ChildSpec::new("a").handle_timeout(Duration::from_millis(60));
        let doing = doer_as(&supervisor, spec, 32);
        let faults = world.system.faults().clone();
        faults.watch("world/s/a");
        let mut handled = Vec::new();
        for (n, (fault, is_handled, error)) in [
            (
                Fault::Panic,
                false,
                Some("panic while handling note: an injected panic"),
            ),
            (
                Fault::Fail,
                false,
                Some("error while handling note: an injected failure"),
            ),
            (
                Fault::Hang,
                false,
                Some("hung while handling note: not done after 60ms"),
            ),
            (Fault::Slow(Duration::from_millis(20)), true, None),
            (Fault::LoseReply, true, None),
            (Fault::Drop, false, None),
        ]
        .into_iter()
        .enumerate()
        {
            // The fault strikes the second note; other messages do not count.
            assert!(faults.plan("world/s/a", Planned::from(fault).at("note").after(1)));
            let restarts = world.child("s/a").restarts;
            let begun = time::now();
            let n = 10 * n as u64;
            doing.addr.tell(note(n)).unwrap();
            doing.addr.tell(Job::new("keep", 1, Act::Keep)).unwrap();
            doing.addr.tell(note(n + 1)).unwrap();
            doing.addr.tell(note(n + 2)).unwrap();
            doing.settled().await;
            handled.extend(
                [n, n + 1, n + 2]
                    .into_iter()
                    .filter(|noted| is_handled || *noted != n + 1),
            );
            assert_eq!(doing.log.notes("a"), handled, "{fault:?}");
            assert_eq!(faults.waiting("world/s/a"), 0);
            let child = world.child("s/a");
            assert_eq!(
                child.restarts - restarts,
                u64::from(error.is_some()),
                "{fault:?}"
            );
            if error.is_some() {
                assert_eq!(child.last_error.as_deref(), error);
            }
            if let Fault::Slow(delay) = fault {
                assert!(time::now() - begun >= delay);
            }
        }
        assert_eq!(
            faults.hits().into_iter().collect::<Vec<_>>(),
            [(("world/s/a".into(), "note"), 6)]
        );
        assert_eq!(
            faults.seen("world/s/a")[..5],
            ["note", "keep", "note", "note", "answer"]
        );
        assert_eq!(faults.seen("world/s/a").len(), 30);
        assert!(faults.seen("world/s/x").is_empty());
        assert_eq!(world.system.dead_letters().of(Reason::Injected), 1);
    });
}

#[test]
fn lose_reply_loses_exactly_one_reply() {
    supervised(0, |world, supervisor| async move {
        let doing = doer(&supervisor, "a", 8);
        let faults = world.system.faults();
        faults.plan("world/s/a", Planned::from(Fault::LoseReply).times(2));
        let ask = || doing.addr.ask(answering(4), LONG);
        assert_eq!(ask().await, Err(AskError::Dropped { kind: "answer" }));
        assert_eq!(ask().await, Err(AskError::Dropped { kind: "answer" }));
        assert_eq!(ask().await, Ok(4));
    });
}

#[test]
fn faults_can_be_planned_before_their_actor_exists_and_cleared() {
    supervised(9, |world, supervisor| async move {
        let faults = world.system.faults().clone();
        faults.plan("world/s/a", Fault::Fail);
        assert!(
            faults.plan("world/s/a", Planned::from(Fault::Fail).times(0)),
            "none at all"
        );
        assert_eq!(faults.waiting("world/s/a"), 1);
        let doing = doer(&supervisor, "a", 8);
        doing.addr.tell(note(1)).unwrap();
        doing.addr.tell(note(2)).unwrap();
        doing.settled().await;
        assert_eq!(doing.log.notes("a"), [2]);

        for _ in 0..MAX_PLANNED {
            assert!(faults.plan("world/s/a", Fault::Panic));
        }
        assert!(!faults.plan("world/s/a", Fault::Panic));
        faults.clear();
        faults.watch("world/s/a");
        for n in 0..MAX_SEEN as u64 {
            doing.addr.send(note(n)).await.unwrap();
        }
        doing.settled().await;
        let seen = faults.seen("world/s/a");
        assert_eq!((seen.len(), seen.last()), (MAX_SEEN, Some(&"answer")));
    });
}
