//! Pools whose workers ask their own pool.

use std::sync::Arc;

use alys_actor_extras::{Pool, PoolSpec, Routing, SupervisorExt};
use alys_actor_system::{AskError, Kept, Reply, Strategy};
use futures::future::BoxFuture;

use crate::{doer::*, kit::*};

type Answer = Result<u64, AskError>;

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
                    let asked = in_handler(&pool.addresses()[at], async move {
                        own.ask(answering(3), LONG).await
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
                Job::run("deeper", async move {
                    let next = pool.clone();
                    let asked = pool.ask(|reply| deeper(next, reply), LONG).await;
                    reply.send(asked.and_then(|answer| answer));
                    Ok(())
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
