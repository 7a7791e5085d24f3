//! The interface of a contender, and the list of all of them.

use std::{future::Future, sync::OnceLock};

use crate::{
    contenders::{actix::Actix, alys::Alys, kameo::Kameo, ractor::Ractor, raw::Raw},
    measure::Scenario,
    scenarios,
    worker::Worker,
};

/// The column that is compared with the others.
pub const OURS: &str = "alys";

/// The floor.
pub const RAW: &str = "raw";

/// The frameworks that ours is compared with.
pub const FRAMEWORKS: [&str; 3] = ["actix", "ractor", "kameo"];

/// The columns, in their order in the table.
pub static COLUMNS: [Column; 7] = [
    column::<Alys>(OURS),
    column::<Raw<false>>(RAW),
    column::<Raw<true>>("raw+deadline"),
    column::<Actix<false>>(FRAMEWORKS[0]),
    column::<Actix<true>>("actix+arbiter"),
    column::<Ractor>(FRAMEWORKS[1]),
    column::<Kameo>(FRAMEWORKS[2]),
];

/// A contender without its type.
pub struct Column {
    pub name: &'static str,
    /// See [`Contender::covers`].
    pub covers: fn(Scenario) -> bool,
    /// Runs a scenario once, in this process.
    pub run: fn(Scenario) -> Vec<f64>,
}

const fn column<C: Contender>(name: &'static str) -> Column {
    Column {
        name,
        covers: C::covers,
        run: scenarios::run::<C>,
    }
}

/// Messages that a mailbox holds, where a contender's mailboxes are bounded.
pub const CAPACITY: usize = 1024;

/// Threads of the tokio runtime, unless the command line says otherwise.
pub const DEFAULT_WORKERS: usize = 2;

static WORKERS: OnceLock<usize> = OnceLock::new();

/// Sets the threads of every runtime of this process. Only the first call counts.
pub fn set_workers(workers: usize) {
    let _ = WORKERS.set(workers);
}

/// The operations that the scenarios are made of, in the terms of one framework.
///
/// A value of the type holds the workers' environment and outlives them.
pub trait Contender: Send + Sized + 'static {
    /// The address of a worker.
    type Addr: Clone + Send + Sync + 'static;
    /// The address of a worker that asks another one in its handler.
    type Relay: Send + Sync + 'static;
    /// The address of a worker that is restarted when it fails.
    type Supervised: Send;

    /// True if the scenario differs from the neighbouring column; its cell stays empty otherwise.
    fn covers(scenario: Scenario) -> bool {
        let _ = scenario;
        true
    }

    /// Runs `scenario` on a new runtime, as a task: on a worker thread like the actors that it
    /// talks to, because the main thread would be a third one, and each wake of it would cross
    /// threads.
    fn block_on<F>(scenario: F) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(*WORKERS.get_or_init(|| DEFAULT_WORKERS))
            .enable_all()
            .build()
            .expect("a process that cannot start threads cannot run at all");
        runtime.block_on(async {
            let task = tokio::spawn(scenario);
            task.await.expect("a scenario that panicked has no result")
        })
    }

    /// Starts a sender beside the scenario.
    fn spawn_sender(sender: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(sender);
    }

    /// Called on the runtime.
    fn new() -> Self;

    /// Puts the workers started from now on under a supervisor of their own, where the framework
    /// demands one.
    fn begin_batch(&mut self) {}

    fn start(&mut self, worker: Worker<Self>) -> Self::Addr;

    fn start_relay(&mut self, target: Self::Addr) -> Self::Relay;

    /// Starts a worker that is restarted without delay and without limit.
    fn start_supervised(
        &mut self,
        worker: Worker<Self>,
    ) -> impl Future<Output = Self::Supervised> + Send;

    /// Sends a number to be added up, after waiting for room where the framework can.
    fn tell(addr: &Self::Addr, value: u64) -> impl Future<Output = ()> + Send;

    fn ask(addr: &Self::Addr, value: u64) -> impl Future<Output = u64> + Send;

    fn ask_relay(relay: &Self::Relay, value: u64) -> impl Future<Output = u64> + Send;

    /// Sends a token without waiting: it finds room.
    fn pass(addr: &Self::Addr, hops: u64);

    /// Sets the worker that `addr` passes tokens to. It finds room.
    fn set_next(addr: &Self::Addr, next: Self::Addr);

    /// Makes the worker fail, and sends a token without hops to its next incarnation.
    fn fail(worker: &mut Self::Supervised) -> impl Future<Output = ()> + Send;
}
