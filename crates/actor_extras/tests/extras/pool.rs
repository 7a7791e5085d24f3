//! Pools of identical actors.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use alys_actor_extras::{MAX_POOL, Pool, PoolError, PoolSpec, Routing, SupervisorExt};
use alys_actor_system::{
    Addr, AlysActor, AskError, Context, Message, Reply, Restart, StartError, Strategy, Supervisor,
    TellError,
};
use alys_runtime::time;
use futures::{future::join_all, poll};

use crate::kit::*;

#[derive(Clone)]
enum Work {
    Note(u64),
    Wait(Arc<Gate>),
    Panic,
    End,
}

/// The message of a pool's worker: work, which is `Clone`, or a question, which is not.
enum Job {
    Do(Work),
    Who(Reply<usize>),
}

/// `Work` is a message on its own, because a broadcast needs `Clone`.
impl Message for Work {
    fn kind(&self) -> &'static str {
        match self {
            Self::Note(_) => "note",
            Self::Wait(_) => "wait",
            Self::Panic => "panic",
            Self::End => "end",
        }
    }
}

impl Message for Job {
    fn kind(&self) -> &'static str {
        match self {
            Self::Do(work) => work.kind(),
            Self::Who(_) => "who",
        }
    }
}

struct Member {
    index: usize,
    diary: Arc<Diary>,
}

impl Member {
    fn write(&self, event: Event) {
        self.diary.write(&self.index.to_string(), event);
    }

    async fn work(&self, work: Work, stop: impl FnOnce()) {
        match work {
            Work::Note(n) => self.write(Event::Noted(n)),
            Work::Wait(gate) => gate.pass().await,
            Work::Panic => panic!("told to panic"),
            Work::End => stop(),
        }
    }
}

impl AlysActor for Member {
    type Message = Job;
    type Error = Never;
    type Config = ();
    const NAME: &'static str = "Member";

    async fn started(&mut self, ctx: &Context<Self>) -> Result<(), Never> {
        self.write(Event::Started(ctx.incarnation()));
        Ok(())
    }

    async fn handle(&mut self, job: Job, ctx: &Context<Self>) -> Result<(), Never> {
        match job {
            Job::Do(work) => self.work(work, || ctx.stop()).await,
            Job::Who(reply) => {
                reply.send(self.index);
            }
        }
        Ok(())
    }
}

/// A worker that accepts `Work` only.
struct Hand(Member);

impl AlysActor for Hand {
    type Message = Work;
    type Error = Never;
    type Config = ();
    const NAME: &'static str = "Hand";

    async fn handle(&mut self, work: Work, ctx: &Context<Self>) -> Result<(), Never> {
        self.0.work(work, || ctx.stop()).await;
        Ok(())
    }
}

fn note(n: u64) -> Job {
    Job::Do(Work::Note(n))
}

fn start(world: &World, supervisor: &Supervisor, spec: PoolSpec) -> Pool<Job> {
    let diary = world.diary.clone();
    let factory = move |index| {
        let diary = diary.clone();
        async move { Ok::<_, Never>(Member { index, diary }) }
    };
    supervisor.pool(spec, factory).unwrap()
}

/// A pool named `p` under a supervisor with an intensity of 100 restarts.
fn pool(world: &World, size: usize, capacity: usize, routing: Routing) -> Pool<Job> {
    let supervisor = world.supervisor("s", Strategy::OneForOne, 100, None);
    start(
        world,
        &supervisor,
        PoolSpec::new("p", size, capacity)
            .routing(routing)
            .restart(Restart::Transient),
    )
}

/// Blocks every worker of a pool until its gate opens.
async fn hold(pool: &Pool<Job>) -> Vec<Arc<Gate>> {
    let mut gates = Vec::new();
    for addr in pool.addresses() {
        gates.push(hold_one(addr).await);
    }
    gates
}

async fn hold_one(addr: &Addr<Job>) -> Arc<Gate> {
    let gate = Arc::<Gate>::default();
    addr.send(Job::Do(Work::Wait(gate.clone()))).await.unwrap();
    gate.reached().await;
    gate
}

/// Ends a worker and waits until its mailbox is closed.
async fn end(addr: &Addr<Job>) {
    addr.send(Job::Do(Work::End)).await.unwrap();
    time::timeout(LONG, addr.closed())
        .await
        .expect("it did not end");
}

/// Waits until the workers have handled their queues.
async fn all_settled(pool: &Pool<Job>) {
    for (index, addr) in pool
        .addresses()
        .iter()
        .enumerate()
        .filter(|(_, addr)| !addr.is_closed())
    {
        let (reply, who) = Reply::channel();
        addr.send(Job::Who(reply)).await.unwrap();
        assert_eq!(
            time::timeout(LONG, who).await.expect("no answer"),
            Ok(index)
        );
    }
}

fn depths(pool: &Pool<Job>) -> Vec<usize> {
    pool.addresses().iter().map(Addr::depth).collect()
}

/// The numbers noted by each worker.
fn notes(world: &World, size: usize) -> Vec<Vec<u64>> {
    (0..size)
        .map(|index| world.diary.notes(&index.to_string()))
        .collect()
}

#[test]
fn work_goes_to_the_least_loaded() {
    in_world(|world| async move {
        let pool = pool(&world, 3, 8, Routing::LeastLoaded);
        let gates = hold(&pool).await;
        for n in 0..3 {
            pool.addresses()[1].tell(note(n)).unwrap();
        }
        for n in 3..7 {
            pool.tell(note(n)).unwrap();
        }
        assert_eq!(depths(&pool), [2, 3, 2], "the busy one is spared");
        for n in 7..12 {
            pool.send(note(n)).await.unwrap();
        }
        assert_eq!(depths(&pool), [4, 4, 4]);
        gates.iter().for_each(|gate| gate.open());
        all_settled(&pool).await;
        let mut all = notes(&world, 3).concat();
        all.sort_unstable();
        assert_eq!(all, (0..12).collect::<Vec<_>>());
    });
}

#[test]
fn workers_take_turns() {
    in_world(|world| async move {
        let pool = pool(&world, 3, 8, Routing::RoundRobin);
        for n in 0..5 {
            pool.tell(note(n)).unwrap();
        }
        assert_eq!(pool.ask(Job::Who, LONG).await, Ok(2));
        assert_eq!(
            pool.clone().ask(Job::Who, LONG).await,
            Ok(0),
            "clones share the turn"
        );
        all_settled(&pool).await;
        assert_eq!(notes(&world, 3), [vec![0, 3], vec![1, 4], vec![2]]);
    });
}

#[test]
fn a_full_worker_is_skipped_until_all_are_full() {
    run(async {
        for routing in [Routing::LeastLoaded, Routing::RoundRobin] {
            let world = World::new();
            let pool = pool(&world, 3, 2, routing);
            let gates = hold(&pool).await;
            pool.addresses()[0].tell(note(0)).unwrap();
            pool.addresses()[0].tell(note(1)).unwrap();
            for n in 2..6 {
                pool.tell(note(n)).unwrap();
            }
            assert_eq!(depths(&pool), [2, 2, 2], "{routing:?}");
            let refused = pool.tell(note(6));
            assert!(
                matches!(refused, Err(TellError::Full(Job::Do(Work::Note(6))))),
                "{routing:?}"
            );
            assert_eq!(
                pool.ask(Job::Who, LONG).await,
                Err(AskError::Full { kind: "who" })
            );
            let tree = world.system.snapshot();
            let refusals = |n| {
                tree.find(&format!("s/p-{n}"))
                    .unwrap()
                    .mailbox
                    .clone()
                    .unwrap()
                    .refused
            };
            assert_eq!(
                (0..3).map(refusals).sum::<u64>(),
                2,
                "each message is refused once, not by each worker"
            );

            let waiting = pool.clone();
            let sender = alys_runtime::spawn("sender", async move { waiting.send(note(7)).await });
            gates.iter().for_each(|gate| gate.open());
            sender.await.unwrap().unwrap();
            all_settled(&pool).await;
            let mut all = notes(&world, 3).concat();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3, 4, 5, 7], "{routing:?}");
            world.end().await;
        }
    });
}

#[test]
fn a_pool_survives_the_failure_of_a_worker() {
    in_world(|world| async move {
        let pool = pool(&world, 3, 64, Routing::RoundRobin);
        for round in 0..3 {
            pool.addresses()[1].tell(Job::Do(Work::Panic)).unwrap();
            for n in 0..6 {
                pool.tell(note(round * 6 + n)).unwrap();
            }
        }
        all_settled(&pool).await;
        assert_eq!(
            notes(&world, 3),
            [
                vec![0, 3, 6, 9, 12, 15],
                vec![1, 4, 7, 10, 13, 16],
                vec![2, 5, 8, 11, 14, 17]
            ],
            "what waits for a worker is handled after its restart"
        );
        let tree = world.system.snapshot();
        let restarts = |n| tree.find(&format!("s/p-{n}")).unwrap().restarts;
        assert_eq!([restarts(0), restarts(1), restarts(2)], [0, 3, 0]);
    });
}

#[test]
fn an_ended_worker_is_skipped_until_none_is_left() {
    in_world(|world| async move {
        let pool = pool(&world, 3, 8, Routing::RoundRobin);
        end(&pool.addresses()[1]).await;
        for n in 0..4 {
            pool.tell(note(n)).unwrap();
        }
        all_settled(&pool).await;
        assert_eq!(notes(&world, 3), [vec![0, 2], vec![], vec![1, 3]]);
        end(&pool.addresses()[0]).await;
        assert_eq!(pool.ask(Job::Who, LONG).await, Ok(2));
        assert_eq!(pool.ask_keyed("any", Job::Who, LONG).await, Ok(2));
        end(&pool.addresses()[2]).await;
        assert!(matches!(
            pool.tell(note(9)),
            Err(TellError::Closed(Job::Do(Work::Note(9))))
        ));
        assert!(matches!(
            pool.tell_keyed("any", note(9)),
            Err(TellError::Closed(Job::Do(Work::Note(9))))
        ));
        assert!(matches!(
            pool.send(note(9)).await.unwrap_err().into_message(),
            Job::Do(Work::Note(9))
        ));
        assert!(matches!(
            pool.send_keyed("any", note(9))
                .await
                .unwrap_err()
                .into_message(),
            Job::Do(Work::Note(9))
        ));
        assert_eq!(
            pool.ask(Job::Who, LONG).await,
            Err(AskError::Closed { kind: "who" })
        );
        assert_eq!(
            pool.ask_keyed("any", Job::Who, LONG).await,
            Err(AskError::Closed { kind: "who" })
        );
    });
}

#[test]
fn a_waiting_send_moves_to_another_worker_when_its_worker_ends() {
    in_world(|world| async move {
        let pool = pool(&world, 2, 1, Routing::ByKey);
        let owner = pool.ask_keyed("k", Job::Who, LONG).await.unwrap();
        let gate = hold_one(&pool.addresses()[owner]).await;
        pool.addresses()[owner].tell(Job::Do(Work::End)).unwrap();
        let mut sends = pin!(join_all((1..=3).map(|n| pool.send_keyed("k", note(n)))));
        assert!(poll!(&mut sends).is_pending(), "there was no room");
        gate.open();
        let sent = time::timeout(LONG, sends)
            .await
            .expect("a send waits for ever");
        assert!(sent.iter().all(Result::is_ok), "{sent:?}");
        time::timeout(LONG, pool.addresses()[owner].closed())
            .await
            .expect("it did not end");
        all_settled(&pool).await;
        // The first send may still get room in the ending worker's mailbox and be abandoned with
        // it. The order is not checked, because a send that is routed before the end may arrive
        // after one routed later.
        let mut noted = world.diary.notes(&(1 - owner).to_string());
        noted.sort_unstable();
        assert!(noted.ends_with(&[2, 3]), "{noted:?}");
        let ended = world.system.snapshot();
        let ended = ended
            .find(&format!("s/p-{owner}"))
            .and_then(|worker| worker.mailbox.clone())
            .unwrap();
        assert_eq!(
            noted.len() as u64 + ended.abandoned,
            3,
            "{noted:?} {ended:?}"
        );
        assert_eq!(world.diary.notes(&owner.to_string()), Vec::<u64>::new());
    });
}

#[test]
fn messages_of_a_key_stay_in_order_at_one_worker_though_workers_fail() {
    run(async {
        const KEYS: u64 = 20;
        const EACH: u64 = 30;
        let world = World::new();
        let pool = pool(&world, 4, 16, Routing::ByKey);
        for n in 0..EACH {
            for key in 0..KEYS {
                pool.send_keyed(key.to_be_bytes(), note(key * 1000 + n))
                    .await
                    .unwrap();
            }
            if n % 10 == 5 {
                pool.addresses()[(n / 10) as usize]
                    .send(Job::Do(Work::Panic))
                    .await
                    .unwrap();
            }
        }
        all_settled(&pool).await;
        let mut by_key = BTreeMap::<u64, Vec<u64>>::new();
        let mut workers = BTreeMap::<u64, BTreeSet<usize>>::new();
        for (worker, notes) in notes(&world, 4).into_iter().enumerate() {
            for n in notes {
                by_key.entry(n / 1000).or_default().push(n % 1000);
                workers.entry(n / 1000).or_default().insert(worker);
            }
        }
        assert_eq!(by_key.len() as u64, KEYS);
        for (key, notes) in by_key {
            assert_eq!(notes, (0..EACH).collect::<Vec<_>>(), "key {key}");
        }
        assert!(
            workers.values().all(|workers| workers.len() == 1),
            "{workers:?}"
        );
        let used: BTreeSet<_> = workers.into_values().flatten().collect();
        assert!(used.len() > 1, "twenty keys have one worker");
        world.end().await;
    });
}

#[test]
fn only_the_keys_of_a_worker_that_ended_move() {
    in_world(|world| async move {
        let pool = pool(&world, 4, 8, Routing::ByKey);
        let owners = async || {
            let mut owners = Vec::new();
            for key in 0..50u64 {
                owners.push(
                    pool.ask_keyed(key.to_be_bytes(), Job::Who, LONG)
                        .await
                        .unwrap(),
                );
            }
            owners
        };
        let before = owners().await;
        assert_eq!(owners().await, before);
        end(&pool.addresses()[2]).await;
        for (before, after) in before.into_iter().zip(owners().await) {
            match before {
                2 => assert_ne!(after, 2),
                other => assert_eq!(after, other),
            }
        }
    });
}

#[test]
fn a_key_whose_worker_is_full_does_not_go_elsewhere() {
    in_world(|world| async move {
        let pool = pool(&world, 3, 2, Routing::ByKey);
        let owner = pool.ask_keyed("k", Job::Who, LONG).await.unwrap();
        let without_a_key = pool.ask(Job::Who, LONG).await.unwrap();
        let gates = hold(&pool).await;
        pool.tell_keyed("k", note(0)).unwrap();
        pool.tell_keyed("k", note(1)).unwrap();
        assert!(matches!(
            pool.tell_keyed("k", note(2)),
            Err(TellError::Full(Job::Do(Work::Note(2))))
        ));
        assert_eq!(
            pool.ask_keyed("k", Job::Who, LONG).await,
            Err(AskError::Full { kind: "who" })
        );
        let mut expected = vec![0; 3];
        expected[owner] = 2;
        assert_eq!(depths(&pool), expected);

        while pool.addresses()[without_a_key].tell(note(3)).is_ok() {}
        let refused = pool.tell(note(4));
        assert!(
            refused.is_err_and(|error| error.is_full()),
            "messages without a key share one"
        );
        gates.iter().for_each(|gate| gate.open());
        all_settled(&pool).await;
    });
}

#[test]
fn a_broadcast_reaches_every_worker_that_has_room() {
    supervised(0, |world, supervisor| async move {
        let diary = world.diary.clone();
        let factory = move |index| {
            let diary = diary.clone();
            async move { Ok::<_, Never>(Hand(Member { index, diary })) }
        };
        let pool = supervisor.pool(PoolSpec::new("p", 3, 1), factory).unwrap();
        let gate = Arc::<Gate>::default();
        pool.addresses()[0].tell(Work::Wait(gate.clone())).unwrap();
        gate.reached().await;
        pool.addresses()[0].tell(Work::Note(0)).unwrap();
        let told = pool.broadcast(Work::Note(1));
        assert!(
            matches!(
                told[..],
                [Err(TellError::Full(Work::Note(1))), Ok(()), Ok(())]
            ),
            "{told:?}"
        );
        gate.open();
        for (worker, noted) in [("0", 0), ("1", 1), ("2", 1)] {
            world.diary.wait_for(worker, Event::Noted(noted)).await;
        }
        assert_eq!(notes(&world, 3), [[0], [1], [1]]);
    });
}

#[test]
fn a_pool_without_workers_with_too_many_or_with_taken_names_is_refused() {
    supervised(0, |world, supervisor| async move {
        let made = Arc::<AtomicU32>::default();
        let diary = world.diary.clone();
        let count = made.clone();
        let factory = move |index| {
            count.fetch_add(1, SeqCst);
            let diary = diary.clone();
            async move { Ok::<_, Never>(Member { index, diary }) }
        };
        for size in [0, MAX_POOL + 1] {
            let refused = supervisor
                .pool(PoolSpec::new("p", size, 1), factory.clone())
                .unwrap_err();
            assert_eq!(
                refused,
                PoolError::Size {
                    name: "p".to_owned(),
                    size,
                    limit: MAX_POOL
                }
            );
        }
        let pool = supervisor
            .pool(PoolSpec::new("p", MAX_POOL, 1), factory.clone())
            .unwrap();
        assert_eq!((pool.name(), pool.addresses().len()), ("p", MAX_POOL));
        let taken = supervisor
            .pool(PoolSpec::new("p", 1, 1), factory)
            .unwrap_err();
        let source = StartError::NameTaken {
            supervisor: "world/s".to_owned(),
            name: "p-0".to_owned(),
        };
        assert_eq!(
            taken,
            PoolError::Start {
                name: "p".to_owned(),
                started: 0,
                source
            }
        );
        all_settled(&pool).await;
        assert_eq!(made.load(SeqCst) as usize, MAX_POOL);
    });
}

#[test]
fn each_worker_has_a_factory_and_a_state_of_its_own() {
    supervised(9, |world, supervisor| async move {
        let (diary, mut starts) = (world.diary.clone(), 0);
        let factory = move |index| {
            starts += 1;
            diary.write(&format!("factory {index}"), Event::Noted(starts));
            let diary = diary.clone();
            async move { Ok::<_, Never>(Member { index, diary }) }
        };
        let pool = supervisor.pool(PoolSpec::new("p", 2, 4), factory).unwrap();
        pool.addresses()[1].tell(Job::Do(Work::Panic)).unwrap();
        world.diary.wait_for("1", Event::Started(2)).await;
        all_settled(&pool).await;
        assert_eq!(world.diary.notes("factory 0"), [1]);
        assert_eq!(world.diary.notes("factory 1"), [1, 2]);
    });
}

#[test]
fn an_ask_to_a_pool_ends_within_its_deadline() {
    in_world(|world| async move {
        let pool = pool(&world, 1, 4, Routing::LeastLoaded);
        let gates = hold(&pool).await;
        let deadline = Duration::from_millis(20);
        assert_eq!(
            pool.ask(Job::Who, deadline).await,
            Err(AskError::Timeout {
                kind: "who",
                deadline
            })
        );
        gates[0].open();
        assert_eq!(pool.ask(Job::Who, LONG).await, Ok(0));
    });
}
