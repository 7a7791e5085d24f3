//! A pool: identical actors behind one handle, which routes each message to one of them.
//!
//! The workers are ordinary children of a supervisor, named `name-0` and so on, and are restarted
//! under its policy. A worker that is being restarted still receives messages; one that has
//! terminated is skipped.
//!
//! Routing is a pure function of the state of the mailboxes (`least_loaded`, `in_turn`, `by_key`),
//! in time linear in the number of workers.

use std::{
    fmt,
    future::Future,
    hash::{DefaultHasher, Hasher},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use alys_runtime::rand;

use alys_actor_system::{
    Addr, AlysActor, AskError, ChildSpec, Message, Reply, Restart, SendError, StartError,
    Supervisor, TellError,
};

/// Maximum workers of a pool, because routing a message checks all of them.
pub const MAX_POOL: usize = 64;

/// Choice of the worker for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Routing {
    /// The worker with the fewest queued messages; the next in turn among equals.
    #[default]
    LeastLoaded,
    /// The next worker in turn that has room.
    RoundRobin,
    /// The same worker for the same key. All messages without a key go to one worker.
    ByKey,
}

/// Specification of a pool.
#[derive(Debug, Clone)]
pub struct PoolSpec {
    /// Prefix of the workers' names.
    pub name: String,
    /// Number of workers, 1 to [`MAX_POOL`].
    pub size: usize,
    /// Choice of the worker for a message.
    pub routing: Routing,
    /// Mailbox capacity of each worker, in messages.
    pub capacity: usize,
    /// Restart policy of the workers.
    pub restart: Restart,
}

impl PoolSpec {
    /// A pool of permanent workers with mailboxes of `capacity` messages and
    /// [`Routing::LeastLoaded`].
    pub fn new(name: impl Into<String>, size: usize, capacity: usize) -> Self {
        let routing = Routing::default();
        let restart = Restart::default();
        Self {
            name: name.into(),
            size,
            routing,
            capacity,
            restart,
        }
    }

    /// Sets the routing.
    pub fn routing(self, routing: Routing) -> Self {
        Self { routing, ..self }
    }

    /// Sets the restart policy of the workers.
    pub fn restart(self, restart: Restart) -> Self {
        Self { restart, ..self }
    }
}

/// Error of [`SupervisorExt::pool`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The size is not in 1 to [`MAX_POOL`]. No worker was started.
    #[error("pool {name} of {size}: from 1 to {limit} are allowed")]
    Size {
        /// Name of the pool.
        name: String,
        /// Requested number of workers.
        size: usize,
        /// [`MAX_POOL`].
        limit: usize,
    },
    /// A worker could not be added. The workers started before it keep running, but receive no
    /// messages.
    #[error("worker {started} of pool {name}")]
    Start {
        /// Name of the pool.
        name: String,
        /// Number of workers that were started.
        started: usize,
        /// Error of the next worker.
        source: StartError,
    },
}

/// Methods that this crate adds to a [`Supervisor`].
pub trait SupervisorExt {
    /// Starts the workers of a pool, `name-0` and so on, as the last children. Each worker has its
    /// own clone of `factory`, which is called with the worker's index at every start.
    ///
    /// Must be called within the runtime, because it spawns tasks.
    ///
    /// # Errors
    /// [`PoolError::Size`] if the size is out of bounds, [`PoolError::Start`] if
    /// [`Supervisor::start`] fails for a worker.
    fn pool<A, F, Fut, E>(&self, spec: PoolSpec, factory: F) -> Result<Pool<A::Message>, PoolError>
    where
        A: AlysActor<Config: Default>,
        F: FnMut(usize) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<A, E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static;
}

impl SupervisorExt for Supervisor {
    fn pool<A, F, Fut, E>(&self, spec: PoolSpec, factory: F) -> Result<Pool<A::Message>, PoolError>
    where
        A: AlysActor<Config: Default>,
        F: FnMut(usize) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<A, E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let PoolSpec {
            name,
            size,
            routing,
            capacity,
            restart,
        } = spec;
        if !(1..=MAX_POOL).contains(&size) {
            return Err(PoolError::Size {
                name,
                size,
                limit: MAX_POOL,
            });
        }
        let mut workers = Vec::with_capacity(size);
        for index in 0..size {
            let child = ChildSpec::new(format!("{name}-{index}")).restart(restart);
            let mut factory = factory.clone();
            match self.start(child, capacity, move || factory(index)) {
                Ok(addr) => workers.push(addr),
                Err(source) => {
                    return Err(PoolError::Start {
                        name,
                        started: index,
                        source,
                    });
                }
            }
        }
        let turn = AtomicUsize::new(0);
        let seed = rand::u64();
        Ok(Pool {
            shared: Arc::new(Shared {
                name,
                routing,
                workers,
                turn,
                seed,
            }),
        })
    }
}

/// A handle of the workers of a pool. Cheap to clone; does not keep the workers running.
///
/// Messages of one sender are handled in order only if they go to the same worker, as those with
/// the same key do.
pub struct Pool<M: Message> {
    shared: Arc<Shared<M>>,
}

struct Shared<M: Message> {
    name: String,
    routing: Routing,
    workers: Vec<Addr<M>>,
    /// Index of the worker that is next in turn.
    turn: AtomicUsize,
    /// Random seed of the key hash, so that senders cannot choose workers by their keys.
    seed: u64,
}

impl<M: Message> Pool<M> {
    /// Enqueues a message at a worker, without waiting. If the chosen worker has no room, the
    /// others are tried, except with [`Routing::ByKey`].
    ///
    /// # Errors
    /// [`TellError`], which returns the message, if no worker has room, the chosen one refuses it
    /// for another reason, or all have terminated.
    pub fn tell(&self, msg: M) -> Result<(), TellError<M>> {
        self.tell_as(self.shared.no_key(), msg)
    }

    /// Enqueues a message at a worker, and waits for room as its overflow policy says
    /// ([`Addr::send`]). The worker is chosen first, so the message waits for it even if another
    /// has room earlier.
    ///
    /// # Errors
    /// Same as [`Addr::send`]. [`SendError::Closed`] only once all workers have terminated.
    pub async fn send(&self, msg: M) -> Result<(), SendError<M>> {
        self.send_as(self.shared.no_key(), msg).await
    }

    /// Asks a worker and waits up to `deadline` for the answer. `make` builds the message around
    /// the reply.
    ///
    /// # Errors
    /// Same as [`Addr::ask`]. [`AskError::Full`] if the chosen worker has no room; other workers
    /// are not tried, because the question can be built only once.
    pub async fn ask<R: Send + 'static>(
        &self,
        make: impl FnOnce(Reply<R>) -> M,
        deadline: Duration,
    ) -> Result<R, AskError> {
        self.shared
            .worker_to_ask(self.shared.no_key())
            .ask(make, deadline)
            .await
    }

    /// Same as [`Pool::tell`] to the worker of this key, under any routing. Messages with the same
    /// key are handled in order by the same worker until it terminates. Only the keys of a
    /// terminated worker move to others.
    ///
    /// # Errors
    /// [`TellError`], which returns the message, if the worker refuses it or all workers have
    /// terminated.
    pub fn tell_keyed(&self, key: impl AsRef<[u8]>, msg: M) -> Result<(), TellError<M>> {
        self.tell_as(Some(self.shared.hash(key.as_ref())), msg)
    }

    /// Same as [`Pool::send`] to the worker of this key, under any routing.
    ///
    /// # Errors
    /// Same as [`Addr::send`]. [`SendError::Closed`] only once all workers have terminated.
    pub async fn send_keyed(&self, key: impl AsRef<[u8]>, msg: M) -> Result<(), SendError<M>> {
        let key = self.shared.hash(key.as_ref());
        self.send_as(Some(key), msg).await
    }

    /// Same as [`Pool::ask`] of the worker of this key, under any routing.
    ///
    /// # Errors
    /// Same as [`Addr::ask`].
    pub async fn ask_keyed<R: Send + 'static>(
        &self,
        key: impl AsRef<[u8]>,
        make: impl FnOnce(Reply<R>) -> M,
        deadline: Duration,
    ) -> Result<R, AskError> {
        let key = self.shared.hash(key.as_ref());
        self.shared
            .worker_to_ask(Some(key))
            .ask(make, deadline)
            .await
    }

    /// Tells every worker a clone of `msg`, without waiting. Outcomes are in the order of the
    /// workers; an error of one does not affect the others.
    pub fn broadcast(&self, msg: M) -> Vec<Result<(), TellError<M>>>
    where
        M: Clone,
    {
        self.addresses()
            .iter()
            .map(|addr| addr.tell(msg.clone()).map(drop))
            .collect()
    }

    /// Addresses of the workers, by index.
    pub fn addresses(&self) -> &[Addr<M>] {
        &self.shared.workers
    }

    /// Prefix of the workers' names.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    fn tell_as(&self, key: Option<u64>, mut msg: M) -> Result<(), TellError<M>> {
        let mut looks = self.shared.look();
        let mut is_full = false;
        while let Some(index) = self.shared.choose(key, &looks) {
            let worker = &self.shared.workers[index];
            let error = match worker.tell(msg) {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            // A keyed message is not retried elsewhere, because it would lose its order. Nor is one
            // refused by a worker that was known to be full, because then all are full and each
            // attempt would count a refusal.
            let is_final = if error.is_full() {
                key.is_some() || looks.0[index] == Look::Full
            } else {
                !worker.is_closed()
            };
            if is_final {
                return Err(error);
            }
            is_full |= error.is_full();
            msg = error.into_message();
            looks.0[index] = Look::Gone;
        }
        Err(if is_full {
            TellError::Full(msg)
        } else {
            TellError::Closed(msg)
        })
    }

    async fn send_as(&self, key: Option<u64>, mut msg: M) -> Result<(), SendError<M>> {
        while let Some(index) = self.shared.choose(key, &self.shared.look()) {
            let worker = &self.shared.workers[index];
            match worker.send(msg).await {
                Ok(_) => return Ok(()),
                Err(error) if worker.is_closed() => msg = error.into_message(),
                Err(error) => return Err(error),
            }
        }
        Err(SendError::Closed(msg))
    }
}

impl<M: Message> Shared<M> {
    fn look(&self) -> Looks {
        let mut looks = Looks([Look::Gone; MAX_POOL]);
        for (look, worker) in looks.0.iter_mut().zip(&self.workers) {
            let depth = worker.depth();
            *look = if worker.is_closed() {
                Look::Gone
            } else if depth >= worker.capacity() {
                Look::Full
            } else {
                Look::Room { depth }
            };
        }
        looks
    }

    fn choose(&self, key: Option<u64>, looks: &Looks) -> Option<usize> {
        let looks = &looks.0[..self.workers.len()];
        if let Some(key) = key {
            return by_key(looks, key);
        }
        let mut chosen = None;
        let _ = self.turn.fetch_update(Relaxed, Relaxed, |turn| {
            chosen = match self.routing {
                Routing::RoundRobin => in_turn(looks, turn),
                // Unreachable for `ByKey`, which always has a key.
                Routing::LeastLoaded | Routing::ByKey => least_loaded(looks, turn),
            };
            chosen.map(|index| (index + 1) % looks.len())
        });
        chosen
    }

    /// The worker to ask, preferably one that does not wait for the asker, because asking that one
    /// would close a cycle. If all have terminated, the first, whose address reports it.
    fn worker_to_ask(&self, key: Option<u64>) -> &Addr<M> {
        let mut looks = self.look();
        let first = self.choose(key, &looks).unwrap_or(0);
        let mut chosen = first;
        while key.is_none() && self.workers[chosen].would_cycle() {
            looks.0[chosen] = Look::Gone;
            match self.choose(key, &looks) {
                Some(next) => chosen = next,
                None => return &self.workers[first],
            }
        }
        &self.workers[chosen]
    }

    /// Hash for a message without a key: none unless the routing is by key.
    fn no_key(&self) -> Option<u64> {
        (self.routing == Routing::ByKey).then(|| self.hash(&[]))
    }

    fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seed);
        hasher.write(key);
        hasher.finish()
    }
}

impl<M: Message> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<M: Message> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared {
            name,
            routing,
            workers,
            ..
        } = &*self.shared;
        f.debug_struct("Pool")
            .field("name", name)
            .field("routing", routing)
            .field("workers", workers)
            .finish_non_exhaustive()
    }
}

/// State of a worker for routing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// The worker has terminated, or was tried already.
    Gone,
    /// The mailbox is full.
    Full,
    Room {
        /// Number of queued messages.
        depth: usize,
    },
}

/// State of all workers; entries beyond the size of the pool are `Gone`. An array, because one is
/// built on the stack for each message.
struct Looks([Look; MAX_POOL]);

/// The worker with the fewest queued messages; the first from `turn` on among equals.
fn least_loaded(looks: &[Look], turn: usize) -> Option<usize> {
    from(looks, turn, |look| match look {
        Look::Gone => None,
        Look::Full => Some(usize::MAX),
        Look::Room { depth } => Some(depth),
    })
}

/// The first worker from `turn` on that has room, or else the first that has not terminated.
fn in_turn(looks: &[Look], turn: usize) -> Option<usize> {
    from(looks, turn, |look| match look {
        Look::Gone => None,
        Look::Full => Some(1),
        Look::Room { .. } => Some(0),
    })
}

/// The worker of lowest rank; the first from `turn` on among equals. Workers without a rank are
/// excluded.
fn from(looks: &[Look], turn: usize, rank: impl Fn(Look) -> Option<usize>) -> Option<usize> {
    let in_turn = (0..looks.len()).map(|step| (turn % looks.len() + step) % looks.len());
    let ranked = in_turn.filter_map(|index| Some((rank(looks[index])?, index)));
    // `min_by_key` returns the first of several minima.
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, index)| index)
}

/// Rendezvous hashing: each worker hashes the key with its index, and the highest hash among the
/// workers that have not terminated wins. The end of a worker thus moves only its own keys.
fn by_key(looks: &[Look], key: u64) -> Option<usize> {
    let live = (0..looks.len()).filter(|index| looks[*index] != Look::Gone);
    live.max_by_key(|index| mix(key ^ mix(*index as u64 + 1)))
}

/// The finalizer of SplitMix64: each input bit changes about half of the output bits.
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GONE: Look = Look::Gone;
    const FULL: Look = Look::Full;

    const fn room(depth: usize) -> Look {
        Look::Room { depth }
    }

    #[test]
    fn the_least_loaded_is_chosen_and_equals_take_turns() {
        for (looks, turn, chosen) in [
            (&[room(3), room(1), room(2)][..], 0, Some(1)),
            (&[room(1), room(1), room(1)], 0, Some(0)),
            (&[room(1), room(1), room(1)], 2, Some(2)),
            (&[room(1), room(2), room(1)], 1, Some(2)),
            (&[GONE, room(9), GONE], 0, Some(1)),
            (&[FULL, room(9), FULL], 2, Some(1)),
            (&[FULL, GONE, FULL], 1, Some(2)),
            (&[GONE, GONE], 1, None),
            (&[room(0)], 7, Some(0)),
            (&[], 7, None),
        ] {
            assert_eq!(least_loaded(looks, turn), chosen, "{looks:?} from {turn}");
        }
    }

    #[test]
    fn the_turn_passes_over_those_without_room() {
        for (looks, turn, chosen) in [
            (&[room(9), room(1), room(0)][..], 0, Some(0)),
            (&[room(9), room(1), room(0)], 1, Some(1)),
            (&[room(9), FULL, room(0)], 1, Some(2)),
            (&[room(9), FULL, GONE], 1, Some(0)),
            (&[GONE, FULL, FULL], 0, Some(1)),
            (&[FULL, FULL, FULL], 2, Some(2)),
            (&[GONE], 0, None),
            (&[], 0, None),
        ] {
            assert_eq!(in_turn(looks, turn), chosen, "{looks:?} from {turn}");
        }
    }

    fn looks() -> impl Strategy<Value = Vec<Look>> {
        let look = prop_oneof![Just(GONE), Just(FULL), (0..5usize).prop_map(room)];
        prop::collection::vec(look, 0..=MAX_POOL)
    }

    /// The same states with worker `index` terminated.
    fn without(looks: &[Look], index: usize) -> Vec<Look> {
        let mut looks = looks.to_vec();
        looks[index] = GONE;
        looks
    }

    proptest! {
        #[test]
        fn no_worker_is_chosen_only_if_all_are_gone(looks in looks(), turn: usize, key: u64) {
            let is_empty = looks.iter().all(|look| *look == GONE);
            for chosen in [least_loaded(&looks, turn), in_turn(&looks, turn), by_key(&looks, key)] {
                prop_assert_eq!(chosen.is_none(), is_empty);
                prop_assert!(chosen.is_none_or(|index| looks[index] != GONE));
            }
        }

        #[test]
        fn workers_with_more_room_are_chosen_first(looks in looks(), turn: usize) {
            let depths = looks.iter().filter_map(|look| match look {
                Look::Room { depth } => Some(*depth),
                Look::Gone | Look::Full => None,
            });
            if let Some(least) = depths.min() {
                let chosen = least_loaded(&looks, turn).map(|index| looks[index]);
                prop_assert_eq!(chosen, Some(room(least)));
                let chosen = in_turn(&looks, turn).map(|index| looks[index]);
                let has_room = matches!(chosen, Some(Look::Room { .. }));
                prop_assert!(has_room);
            }
        }

        #[test]
        fn turns_visit_everybody_with_room_once_a_round(looks in looks()) {
            let with_room: Vec<_> = (0..looks.len())
                .filter(|index| matches!(looks[*index], Look::Room { .. }))
                .collect();
            let mut turn = 0;
            for index in &with_room {
                prop_assert_eq!(in_turn(&looks, turn), Some(*index));
                turn = index + 1;
            }
        }

        #[test]
        fn only_the_keys_of_a_worker_that_ended_move(
            looks in looks(),
            key: u64,
            ended: prop::sample::Index,
        ) {
            prop_assume!(!looks.is_empty());
            let before = by_key(&looks, key);
            let ended = ended.index(looks.len());
            let after = by_key(&without(&looks, ended), key);
            if before == Some(ended) {
                prop_assert_ne!(after, before);
            } else {
                prop_assert_eq!(after, before);
            }
        }

        #[test]
        fn load_does_not_move_a_key(size in 1..=MAX_POOL, key: u64, depth in 0..9usize) {
            let idle = vec![room(0); size];
            let busy: Vec<_> = (0..size)
                .map(|n| if n % 2 == 0 { FULL } else { room(depth) })
                .collect();
            prop_assert_eq!(by_key(&idle, key), by_key(&busy, key));
        }
    }

    #[test]
    fn keys_spread_over_the_workers() {
        const WORKERS: usize = 8;
        const KEYS: u64 = 8000;
        let mut counts = [0; WORKERS];
        for key in 0..KEYS {
            counts[by_key(&[room(0); WORKERS], mix(key)).unwrap()] += 1;
        }
        for count in counts {
            assert!((800..1200).contains(&count), "{counts:?}");
        }
    }
}
