//! Pools whose workers ask their own pool.

use std::sync::Arc;

use alys_actor_extras::{Pool, PoolSpec, Routing, SupervisorExt};
use alys_actor_system::{Addr, AskError, Kept, Reply, Strategy};
use alys_runtime::time;
use futures::{FutureExt, future::BoxFuture};

use crate::{doer::*, kit::*};

type Answer = Result<u64, AskError>;

/// Runs `work` in a handler of the actor and returns its output.
async fn within<T: Send + 'static>(
    addr: &Addr<Job>,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    let (reply, answer) = Reply::channel();
    let does = run_in("does", move |_| {
        async move {
            reply.send(work.await);
            Ok(())
        }
        .boxed()
    });
    addr.send(does).await.unwrap();
    time::timeout(LONG, answer)
        .await
        .expect("no answer")
        .expect("dropped")
}

fn cycle<T: std::fmt::Debug>(answer: Result<T, AskError>) -> String {
    match answer {
        Err(AskError::Cycle { cycle, .. }) => cycle.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_worker_that_asks_its_own_pool_reaches_another_and_a_pool_of_one_is_a_cycle() {
    run(async {
        for routing in [Routing::LeastLoaded, Routing::RoundRobin] {
            let world = World::new();
            let supervisor = world.supervisor("s", Strategy::OneForOne, 0, None);
            for size in [1, 2, 5] {
                let spec = PoolSpec::new(format!("p{size}"), size, 8).routing(routing);
                let pool = supervisor.pool(spec, pooled()).unwrap();
                for at in 0..size {
                    let own = pool.clone();
                    let asked = within(&pool.addresses()[at], async move {
                        own.ask(|reply| Job::new("answer", 3, Act::Answer(reply)), LONG)
                            .await
                    })
                    .await;
                    match size {
                        1 => assert_eq!(cycle(asked), "world/s/p1-0 -[answer]-> world/s/p1-0"),
                        _ => assert_eq!(asked, Ok(3)),
                    }
                }
            }
            // Each worker asks the pool in turn, until all of them wait.
            let pool = supervisor
                .pool(PoolSpec::new("q", 3, 8).routing(routing), pooled())
                .unwrap();
            fn deeper(pool: Pool<Job>, reply: Reply<Answer>) -> Job {
                run_in("deeper", move |_| {
                    async move {
                        let next = pool.clone();
                        let asked = pool.ask(|reply| deeper(next, reply), LONG).await;
                        reply.send(asked.and_then(|answer| answer));
                        Ok(())
                    }
                    .boxed()
                })
            }
            let own = pool.clone();
            let text = cycle(pool.ask(|reply| deeper(own, reply), LONG).await.unwrap());
            assert!(
                text.matches("deeper").count() <= 3 && text.contains("world/s/q-"),
                "{text}"
            );
            world.end().await;
        }
    });
}

/// The factory of the pool's workers.
fn pooled() -> impl FnMut(usize) -> BoxFuture<'static, Result<Doer, Never>> + Clone + Send + 'static
{
    let log = Arc::<Log>::default();
    move |index| {
        let log = log.clone();
        Box::pin(async move {
            Ok(Doer {
                name: index.to_string(),
                log,
                plan: Arc::default(),
                kept: Kept::new(0),
            })
        })
    }
}
