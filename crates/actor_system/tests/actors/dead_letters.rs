//! Messages that are not handled: dead letters, failed batches.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use alys_actor_system::{
    AlysActor, AskError, Batch, ChildSpec, Context, Fault, MailboxSnapshot, Planned, Reason,
    Restart, Supervisor,
};

use crate::{doer::*, kit::*};

fn mailbox_of(world: &World, path: &str) -> MailboxSnapshot {
    world.mailbox(path)
}

#[test]
fn every_unhandled_message_is_a_dead_letter_with_its_reason() {
    supervised(9, |world, supervisor| async move {
        let spec = ChildSpec::new("a")
            .handle_timeout(Duration::from_millis(30))
            .restart(Restart::Transient);
        let doing = doer_as(&supervisor, spec, 8);
        let sender = doer(&supervisor, "sender", 8);

        let addr = doing.addr.clone();
        let sends = Job::run("sends", async move {
            addr.tell(panics()).unwrap();
            addr.tell(fails()).unwrap();
            addr.tell(Job::new("hang", 0, Act::Hang)).unwrap();
            Ok(())
        });
        sender.addr.tell(sends).unwrap();
        world
            .wait("three dead letters", |_| {
                world.system.dead_letters().total() == 3
            })
            .await;
        world
            .system
            .faults()
            .plan("world/s/a", Planned::from(Fault::Drop).at("note"));
        doing.addr.tell(note(1)).unwrap();
        doing.addr.tell(note(2)).unwrap();
        doing.settled().await;

        // The gate holds the actor until all messages are queued.
        let gate = doing.hold().await;
        for last in [stop(), note(3), note(4)] {
            doing.addr.tell(last).unwrap();
        }
        gate.open();
        doing.addr.closed().await;
        world
            .wait("the end of it", |_| {
                world.system.dead_letters().of(Reason::Abandoned) > 0
            })
            .await;

        let letters = world.system.dead_letters();
        for (reason, kind, from) in [
            (Reason::Killed, "panic", Some("world/s/sender")),
            (Reason::Killed, "fail", Some("world/s/sender")),
            (Reason::Interrupted, "hang", Some("world/s/sender")),
            (Reason::Injected, "note", None),
            (Reason::Abandoned, "note", None),
        ] {
            let letter = letters
                .last
                .iter()
                .find(|letter| (letter.reason, letter.kind) == (reason, kind))
                .unwrap();
            assert_eq!(
                (&*letter.to, letter.kind, letter.from.as_deref()),
                ("world/s/a", kind, from)
            );
            let count = letters.counts[&(Arc::from("world/s/a"), reason)];
            assert_eq!((count, letters.of(reason)), (count, count), "{reason:?}");
            let wanted = match reason {
                Reason::Killed | Reason::Abandoned => 2,
                _ => 1,
            };
            assert_eq!(count, wanted, "{letters:?}");
        }
        assert_eq!(letters.total(), letters.counts.values().sum::<u64>());
        assert_eq!(doing.log.notes("a"), [2]);
    });
}

#[test]
fn a_late_ask_is_handled_only_if_its_message_does_not_expire() {
    supervised(0, |world, supervisor| async move {
        let doing = doer(&supervisor, "a", 8);
        let gate = doing.hold().await;
        let deadline = Duration::from_millis(5);
        let ask = |n, expires| {
            let make = move |reply: alys_actor_system::Reply<u64>| {
                let log_it = Job::run("ask", async move {
                    reply.send(n);
                    Ok(())
                });
                Job {
                    expires,
                    n,
                    ..log_it
                }
            };
            doing.addr.ask(make, deadline)
        };
        assert_eq!(
            ask(1, true).await,
            Err(AskError::Timeout {
                kind: "ask",
                deadline
            })
        );
        assert_eq!(
            ask(2, false).await,
            Err(AskError::Timeout {
                kind: "ask",
                deadline
            })
        );
        gate.open();
        doing.settled().await;
        let mailbox = mailbox_of(&world, "s/a");
        assert_eq!((mailbox.expired, mailbox.kinds["ask"]), (1, 1));
        let letters = world.system.dead_letters();
        assert_eq!((letters.total(), letters.of(Reason::Expired)), (1, 1));
    });
}

#[test]
fn a_message_that_fails_is_handled_once() {
    supervised(9, |world, supervisor| async move {
        let doing = doer(&supervisor, "a", 16);
        let gate = doing.hold().await;
        doing.addr.tell(panics()).unwrap();
        doing.addr.tell(note(1)).unwrap();
        gate.open();
        doing.settled().await;
        assert_eq!(mailbox_of(&world, "s/a").failed, 1);
        assert_eq!(world.child("s/a").restarts, 1);
        let letters = world.system.dead_letters();
        assert_eq!((letters.total(), letters.of(Reason::Killed)), (1, 1));
        assert_eq!(doing.log.notes("a"), [1]);
    });
}

/// Handles batches of up to four messages and logs them.
struct Batcher(Arc<Log>);

impl AlysActor for Batcher {
    type Message = Job;
    type Error = ToldToFail;
    type Config = ();
    const NAME: &'static str = "Batcher";
    const BATCH: usize = 4;

    async fn handle(&mut self, job: Job, _: &Context<Self>) -> Result<(), ToldToFail> {
        self.0.write("single", job.n.to_string());
        Ok(())
    }

    async fn handle_batch(
        &mut self,
        batch: &mut Batch<Job>,
        ctx: &Context<Self>,
    ) -> Result<(), ToldToFail> {
        let mut group = Vec::new();
        self.0.write("debug", format!("{batch:?} {}", batch.len()));
        while let Some(job) = batch.take() {
            match job.act {
                Act::Fail => return Err(ToldToFail),
                Act::Hang => std::future::pending().await,
                Act::Wait(gate) => gate.pass().await,
                Act::Keep => batch.done(),
                // The rest goes back to the mailbox.
                Act::Stop => break,
                _ => {
                    assert_eq!(ctx.envelope().unwrap().priority, job.priority);
                    group.push(job.n);
                    self.0.write("taken", job.n.to_string());
                }
            }
        }
        #[expect(clippy::len_zero, reason = "that both say the same is what is tested")]
        let has_no_length = batch.len() == 0;
        assert_eq!(batch.is_empty(), has_no_length);
        self.0.write("batch", format!("{group:?}"));
        Ok(())
    }
}

fn batcher(supervisor: &Supervisor, spec: ChildSpec) -> (alys_actor_system::Addr<Job>, Arc<Log>) {
    let log = Arc::<Log>::default();
    let held = log.clone();
    let factory = move || {
        let log = held.clone();
        async move { Ok::<_, Never>(Batcher(log)) }
    };
    (supervisor.start(spec, 64, factory).unwrap(), log)
}

#[test]
fn queued_messages_are_handled_in_batches() {
    supervised(0, |world, supervisor| async move {
        let (addr, log) = batcher(&supervisor, ChildSpec::new("a"));
        let gate = Arc::<Gate>::default();
        addr.tell(wait(&gate)).unwrap();
        gate.reached().await;
        for n in 0..6 {
            addr.tell(note(n)).unwrap();
        }
        addr.tell(stop()).unwrap();
        addr.tell(note(7)).unwrap();
        addr.tell(note(8)).unwrap();
        gate.open();
        log.wait_for("taken", "8").await;
        world.handled("s/a", 10).await;
        assert_eq!(log.of("batch"), ["[]", "[0, 1, 2, 3]", "[4, 5]", "[7, 8]"]);
        assert_eq!(log.notes("taken"), [0, 1, 2, 3, 4, 5, 7, 8]);
        assert!(
            log.of("debug")
                .contains(&"Batch { waiting: 4, taken: 0 } 4".to_owned())
        );
    });
}

#[test]
fn a_failed_batch_gives_back_untaken_messages_in_order() {
    supervised(9, |world, supervisor| async move {
        let (addr, log) = batcher(
            &supervisor,
            ChildSpec::new("a").handle_timeout(Duration::from_millis(50)),
        );
        let gate = Arc::<Gate>::default();
        addr.tell(wait(&gate)).unwrap();
        gate.reached().await;
        // `done` marks 1 as handled; 2 and `fail` are killed; the later messages stay queued.
        for job in [
            note(1),
            Job::new("done", 0, Act::Keep),
            note(2),
            fails(),
            note(3),
        ] {
            addr.tell(job).unwrap();
        }
        for n in 4..7 {
            addr.tell(note(n)).unwrap();
        }
        gate.open();
        log.wait_for("taken", "6").await;
        addr.tell(Job::new("hang", 0, Act::Hang)).unwrap();
        addr.tell(note(8)).unwrap();
        log.wait_for("taken", "8").await;
        assert_eq!(log.notes("taken"), [1, 2, 3, 4, 5, 6, 8]);
        let mailbox = mailbox_of(&world, "s/a");
        assert_eq!((mailbox.failed, mailbox.interrupted), (2, 1));
        let letters = world.system.dead_letters();
        assert_eq!(
            (letters.of(Reason::Killed), letters.of(Reason::Interrupted)),
            (2, 1)
        );
        assert_eq!(mailbox.kinds["done"], 1);
    });
}

/// Sets a timer in its first incarnation. Returns the planned result of each batch; without one it
/// takes all messages.
struct TimedBatcher(Arc<Log>, Arc<Mutex<VecDeque<Result<(), ToldToFail>>>>);

impl AlysActor for TimedBatcher {
    type Message = Job;
    type Error = ToldToFail;
    type Config = ();
    const NAME: &'static str = "TimedBatcher";
    const BATCH: usize = 4;

    async fn started(&mut self, ctx: &Context<Self>) -> Result<(), ToldToFail> {
        if ctx.incarnation() == 1 {
            ctx.send_after(Duration::ZERO, note(1));
        }
        Ok(())
    }

    async fn handle(&mut self, _: Job, _: &Context<Self>) -> Result<(), ToldToFail> {
        Ok(())
    }

    async fn handle_batch(
        &mut self,
        batch: &mut Batch<Job>,
        ctx: &Context<Self>,
    ) -> Result<(), ToldToFail> {
        let told = self.1.lock().unwrap().pop_front();
        if let Some(told) = told {
            self.0
                .write("left", format!("{} in {}", batch.len(), ctx.incarnation()));
            return told;
        }
        while let Some(job) = batch.take() {
            self.0.write("taken", job.n.to_string());
        }
        Ok(())
    }
}

#[test]
fn a_timer_that_a_batch_leaves_stays_with_its_incarnation() {
    for (told, taken, ended) in [
        (vec![Err(ToldToFail)], vec![2], 0),
        (vec![Ok(()), Err(ToldToFail)], vec![2], 0),
        (vec![Ok(()), Ok(())], vec![1, 2], 1),
    ] {
        supervised(9, move |world, supervisor| async move {
            let log = Arc::<Log>::default();
            let left = vec!["1 in 1".to_owned(); told.len()];
            let script = Arc::new(Mutex::new(VecDeque::from(told)));
            let held = (log.clone(), script.clone());
            let factory = move || {
                let (log, script) = held.clone();
                async move { Ok::<_, Never>(TimedBatcher(log, script)) }
            };
            let addr = supervisor.start(ChildSpec::new("a"), 8, factory).unwrap();
            world
                .wait("the script", |_| script.lock().unwrap().is_empty())
                .await;
            addr.tell(note(2)).unwrap();
            log.wait_for("taken", "2").await;
            assert_eq!((log.of("left"), log.notes("taken")), (left, taken));
            world
                .wait("the count", |_| {
                    mailbox_of(&world, "s/a").handled == 1 + ended
                })
                .await;
            assert_eq!(mailbox_of(&world, "s/a").timers, 1);
        });
    }
}

#[test]
fn fault_injection_disables_batches() {
    supervised(9, |world, supervisor| async move {
        let (addr, log) = batcher(&supervisor, ChildSpec::new("a"));
        world.system.faults();
        for n in 0..4 {
            addr.tell(note(n)).unwrap();
        }
        log.wait_for("single", "3").await;
        assert_eq!(log.notes("single"), [0, 1, 2, 3]);
    });
}
