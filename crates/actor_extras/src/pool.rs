//! A pool: identical actors behind one handle, which chooses one for each message.
//!
//! The workers are ordinary children, `name-0` and so on, of the supervisor that started them, and
//! are restarted under its policy. One that is down for the moment keeps its address and its place;
//! one that has ended for good is passed over.
//!
//! Choosing is a pure function of what the mailboxes look like (`least_loaded`, `in_turn`,
//! `by_key`), in no more steps than there are workers.

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

/// Workers of one pool: each message looks at all of them.
pub const MAX_POOL: usize = 64;

/// Choice of the worker for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Routing {
    /// The worker with the fewest messages waiting; among equals, the next in turn.
    #[default]
    LeastLoaded,
    /// The next in turn.
    RoundRobin,
    /// Always the same worker for the same key. Messages without a key share one.
    ByKey,
}

/// Specification of a pool.
#[derive(Debug, Clone)]
pub struct PoolSpec {
    /// Prefix of the names of the workers.
    pub name: String,
    /// Workers, from 1 to [`MAX_POOL`].
    pub size: usize,
    /// Choice of the worker for a message.
    pub routing: Routing,
    /// Messages that may wait for one worker.
    pub capacity: usize,
    /// Restart policy of the workers.
    pub restart: Restart,
}

impl PoolSpec {
    /// A pool of workers that always run, with `capacity` messages each, where the least loaded
    /// gets the next.
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

    /// The same with another routing.
    pub fn routing(self, routing: Routing) -> Self {
        Self { routing, ..self }
    }

    /// The same with another restart policy.
    pub fn restart(self, restart: Restart) -> Self {
        Self { restart, ..self }
    }
}

/// Reason for which there is no pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// No workers, or too many. Nothing was started.
    #[error("pool {name} of {size}: from 1 to {limit} are allowed")]
    Size {
        /// The pool's name.
        name: String,
        /// Workers asked for.
        size: usize,
        /// [`MAX_POOL`].
        limit: usize,
    },
    /// A worker could not be added. Those before it are children already and stay, without work.
    #[error("worker {started} of pool {name}")]
    Start {
        /// The pool's name.
        name: String,
        /// Workers that were started.
        started: usize,
        /// Reason for which the next one was not started.
        source: StartError,
    },
}

/// Methods that this crate adds to a [`Supervisor`].
pub trait SupervisorExt {
    /// Starts the workers of a pool, `name-0` and so on, as the last children. Each worker has a
    /// clone of `factory` for itself, which is called with the worker's number at every start.
    ///
    /// Must be called inside the runtime.
    ///
    /// # Errors
    /// A size out of bounds, or whatever [`Supervisor::start`] says to one of the workers.
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

/// A handle of the workers of a pool. Cheap to clone; does not keep them running.
///
/// The messages of one sender are handled in its order only as far as they go to the same worker:
/// those of one key do.
pub struct Pool<M: Message> {
    shared: Arc<Shared<M>>,
}

struct Shared<M: Message> {
    name: String,
    routing: Routing,
    workers: Vec<Addr<M>>,
    /// The worker whose turn is next.
    turn: AtomicUsize,
    /// Seed of the hash, so that senders that choose keys cannot choose workers.
    seed: u64,
}

impl<M: Message> Pool<M> {
    /// Puts a message into the mailbox of a worker, without waiting. If the one chosen has no room
    /// the others are tried, unless the routing is [`Routing::ByKey`].
    ///
    /// # Errors
    /// The message is given back if no worker has room, or all have ended for good.
    pub fn tell(&self, msg: M) -> Result<(), TellError<M>> {
        self.tell_as(self.shared.no_key(), msg)
    }

    /// Puts a message into the mailbox of a worker, and waits for room as long as it takes: at the
    /// one that is chosen now, even if another has room earlier.
    ///
    /// # Errors
    /// The message is given back once all workers have ended for good.
    pub async fn send(&self, msg: M) -> Result<(), SendError<M>> {
        self.send_as(self.shared.no_key(), msg).await
    }

    /// Asks a worker and waits up to `deadline` for the answer. `make` puts the reply into the
    /// message.
    ///
    /// # Errors
    /// As [`Addr::ask`]. Full if no worker had room, or if others took the room of the one that was
    /// chosen: a question is made once, so it cannot be put to the next.
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

    /// [`Pool::tell`] to the worker of this key, in every routing: messages of one key are handled
    /// in the order in which they were taken, by the same worker for as long as it has not ended
    /// for good. Only the keys of a worker that has ended move to others.
    ///
    /// # Errors
    /// The message is given back if that worker has no room, or all have ended for good.
    pub fn tell_keyed(&self, key: impl AsRef<[u8]>, msg: M) -> Result<(), TellError<M>> {
        self.tell_as(Some(self.shared.hash(key.as_ref())), msg)
    }

    /// [`Pool::send`] to the worker of this key, in every routing.
    ///
    /// # Errors
    /// The message is given back once all workers have ended for good.
    pub async fn send_keyed(&self, key: impl AsRef<[u8]>, msg: M) -> Result<(), SendError<M>> {
        let key = self.shared.hash(key.as_ref());
        self.send_as(Some(key), msg).await
    }

    /// [`Pool::ask`] of the worker of this key, in every routing.
    ///
    /// # Errors
    /// As [`Addr::ask`].
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

    /// Tells every worker the same, without waiting. The outcomes are in the order of the workers;
    /// one that refuses keeps it from no other.
    pub fn broadcast(&self, msg: M) -> Vec<Result<(), TellError<M>>>
    where
        M: Clone,
    {
        self.addresses()
            .iter()
            .map(|addr| addr.tell(msg.clone()).map(drop))
            .collect()
    }

    /// The workers' own addresses, in their order.
    pub fn addresses(&self) -> &[Addr<M>] {
        &self.shared.workers
    }

    /// Prefix of the names of the workers.
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
            // At another worker a key would lose its order. One that looked full was chosen because
            // all did, and each that is tried counts a refusal.
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
            *look = match () {
                () if worker.is_closed() => Look::Gone,
                () if depth >= worker.capacity() => Look::Full,
                () => Look::Room { depth },
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
                // By key there is a key, always.
                Routing::LeastLoaded | Routing::ByKey => least_loaded(looks, turn),
            };
            chosen.map(|index| (index + 1) % looks.len())
        });
        chosen
    }

    /// The worker to ask, preferably one that does not wait for the asker, because a question to
    /// that would close a circle. If all have ended, any of them reports it.
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

    /// Key for a message without one.
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

/// State of a worker, as the choice sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// It has ended for good, or was tried already.
    Gone,
    /// Its mailbox has no room.
    Full,
    Room {
        /// Messages that wait in it.
        depth: usize,
    },
}

/// All workers at one moment, those that the pool does not have being gone. On the stack: it is
/// made for each message.
struct Looks([Look; MAX_POOL]);

/// The worker with the fewest messages waiting; among equals the first from `turn` on.
fn least_loaded(looks: &[Look], turn: usize) -> Option<usize> {
    from(looks, turn, |look| match look {
        Look::Gone => None,
        Look::Full => Some(usize::MAX),
        Look::Room { depth } => Some(depth),
    })
}

/// The first worker from `turn` on that has room, or the first that is there if none has.
fn in_turn(looks: &[Look], turn: usize) -> Option<usize> {
    from(looks, turn, |look| match look {
        Look::Gone => None,
        Look::Full => Some(1),
        Look::Room { .. } => Some(0),
    })
}

/// The lowest rank; among equals the first from `turn` on. A worker without a rank is not chosen.
fn from(looks: &[Look], turn: usize, rank: impl Fn(Look) -> Option<usize>) -> Option<usize> {
    let in_turn = (0..looks.len()).map(|step| (turn % looks.len() + step) % looks.len());
    let ranked = in_turn.filter_map(|index| Some((rank(looks[index])?, index)));
    // The first of several minima.
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, index)| index)
}

/// Rendezvous hashing: each worker draws a number for the key, and the highest that has not ended
/// has it, so that the end of a worker moves its own keys only.
fn by_key(looks: &[Look], key: u64) -> Option<usize> {
    let live = (0..looks.len()).filter(|index| looks[*index] != Look::Gone);
    live.max_by_key(|index| mix(key ^ mix(*index as u64 + 1)))
}

/// The finaliser of SplitMix64: every bit of the input changes about half of the output.
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

    /// The same with worker `index` gone.
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
            let with_room: Vec<_> =
                (0..looks.len()).filter(|index| matches!(looks[*index], Look::Room { .. })).collect();
            let mut turn = 0;
            for index in &with_room {
                prop_assert_eq!(in_turn(&looks, turn), Some(*index));
                turn = index + 1;
            }
        }

        #[test]
        fn only_the_keys_of_a_worker_that_ended_move(looks in looks(), key: u64, ended: prop::sample::Index) {
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
            let busy: Vec<_> = (0..size).map(|n| if n % 2 == 0 { FULL } else { room(depth) }).collect();
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
